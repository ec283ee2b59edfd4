//! What people who run other telephone systems complain of most, each as it happens to them: here it does not.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use pbx_tests::{
    daemon::{Installation, find},
    lab::{Lab, Neighbour},
    phone::Line,
    router::nft,
    sandbox::{Sandbox, ip},
    site::{Site, TCP, UDP, on_site, server},
};

use super::{
    events, from_elsewhere,
    scenery::{Office, Ssh, established, flood, forge, nft_says, speak_from},
};

/// More than any detector needs.
const TRIES: usize = 60;
/// How long an answer is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(500);

/// Runs `test` beside an installation that was never started.
fn before_start(test: impl FnOnce(&Site) -> Result<()> + Send) {
    Sandbox::run(|sandbox| {
        let run = || {
            let lab = Lab::build(sandbox)?;
            test(&Site { pbx: Installation::new(sandbox, &lab.interfaces())?, sandbox, lab })
        };
        run().unwrap_or_else(|error| panic!("{error:?}"));
    });
}

/// Tries wrong passwords, each from what `line` makes, until `blocked` is in the list; which detector did it.
fn crack_from(site: &Site, blocked: &str, mut line: impl FnMut(usize) -> Result<Line>) -> Result<String> {
    for tried in 0..TRIES {
        // The block is in force some milliseconds after the last of them, long before this command has an answer.
        if let Some(block) = find(&site.pbx.pbx("block list")?, blocked) {
            return Ok(block["reason"].as_str().unwrap_or_default().to_owned());
        }
        ensure!(line(tried)?.register("150", "guess")? == 401, "try {tried} is not refused");
    }
    bail!("{TRIES} wrong passwords, and {blocked} is not blocked")
}

/// The same by TCP, all from a neighbour's own address.
fn crack(site: &Site, neighbour: &Neighbour) -> Result<String> {
    let line = |_| Line::tcp(&neighbour.network, server(neighbour, TCP));
    crack_from(site, &neighbour.v4().to_string(), line)
}

/// Gives so many wrong passwords for one account, each of which has to be judged.
fn guess(site: &Site, line: &mut Line, tries: usize) -> Result<()> {
    for tried in 0..tries {
        let status = line.register("150", "guess").with_context(|| format!("try {tried}: {:?}", blocks(site)))?;
        ensure!(status == 401, "try {tried} gets {status}");
    }
    Ok(())
}

/// What is blocked.
fn blocks(site: &Site) -> Result<Vec<serde_json::Value>> {
    Ok(site.pbx.pbx("block list")?["items"].as_array().cloned().unwrap_or_default())
}

fn assert_nobody_is_blocked(site: &Site) -> Result<()> {
    let blocked = blocks(site)?;
    ensure!(blocked.is_empty(), "{blocked:#?}");
    Ok(())
}

/// Whether a request gets an answer.
fn is_answered(line: &mut Line) -> Result<bool> {
    let request = line.request("100");
    let bytes = line.bytes(&request);
    // Again, as a phone does: a machine with much else to do answers late.
    for _ in 0..4 {
        line.send(&bytes)?;
        if line.hear(SILENCE)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn nobody_is_locked_out_by_the_wizard_because_the_filter_went_on_before_the_administrators_own_host_was_allowed() {
    before_start(|site| {
        let admin = &site.lab.good;
        let from = Ipv4Addr::new(198, 51, 100, 9);
        let daemon = site.pbx.start()?;
        ensure!(site.pbx.pbx("status")?["mode"] == "monitor", "a new installation drops");
        // A list of others, taken over while nothing is enforced, happens to hold the administrator's network.
        site.pbx.pbx("block add 198.51.100.0/24 --reason list")?;
        speak_from(admin, from)?;
        let ssh = Ssh::open(admin, 22)?;
        let began = site.pbx.pbx("firewall mode enforce")?;
        ensure!(began["notes"].to_string().contains(&from.to_string()), "{began:#}");
        ssh.assert_open(admin)?;
        let allowed = site.pbx.pbx("allow list")?;
        ensure!(find(&allowed, &from.to_string()).is_some(), "{allowed:#}");
        let neighbour = site.pbx.pbx("explain 198.51.100.10")?;
        ensure!(neighbour["fate"] == "drop", "{neighbour:#}");
        // The strictest mode of all does not shut them out either, whatever password they mistype.
        site.pbx.pbx("guard set network.local_networks=192.168.0.0/16 filter.default_deny=enforce")?;
        let mut portal = Line::udp(&admin.network, from.into(), server(admin, UDP))?;
        guess(site, &mut portal, TRIES)?;
        ssh.assert_open(admin)?;

        // Later on there is no such gift; but what would cut the connection is refused, and says whom.
        site.pbx.pbx("firewall mode monitor")?;
        site.pbx.try_pbx(&format!("allow remove {from}"))?.refused(7, &["198.51.100.9", "ssh", "--force"])?;
        site.pbx.pbx(&format!("allow remove {from} --force"))?;
        let refused = site.pbx.try_pbx("firewall mode enforce")?;
        refused.refused(7, &["198.51.100.9", "ssh", "--force"])?;
        ensure!(site.pbx.pbx("status")?["mode"] == "monitor", "refused, and done");
        ssh.assert_open(admin)?;
        daemon.stop()
    });
}

#[test]
fn no_ban_comes_back_after_it_was_removed() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let bad = &site.lab.bad;
        let remove = format!("block remove {}", bad.v4());
        let is_let_go = || -> Result<()> {
            assert_nobody_is_blocked(site)?;
            ensure!(is_answered(&mut site.udp(bad)?)?, "it is not blocked and gets no answer");
            Ok(())
        };
        crack(site, bad)?;
        site.pbx.pbx(&remove)?;
        is_let_go()?;
        daemon.stop()?;
        let daemon = site.pbx.start()?;
        is_let_go()?;

        // It begins at nothing: what blocks after twenty does not after fifteen, with a restart in between.
        guess(site, &mut site.udp(bad)?, 15)?;
        assert_nobody_is_blocked(site)?;
        crack(site, bad)?;
        site.pbx.pbx(&remove)?;
        daemon.kill()?;
        let daemon = site.pbx.start()?;
        is_let_go()?;
        let explained = site.pbx.pbx(&format!("explain {}", bad.v4()))?;
        ensure!(explained["offence"].is_null(), "its next block would be longer: {explained:#}");

        // While nobody serves, a removal is refused, and not forgotten later.
        crack(site, bad)?;
        daemon.kill()?;
        ensure!(site.pbx.try_pbx(&remove)?.code != Some(0), "removed by nobody");
        let daemon = site.pbx.start()?;
        ensure!(!is_answered(&mut site.udp(bad)?)?, "it was not removed");
        site.pbx.pbx(&remove)?;
        // A reboot at the worst moment: the kernel's tables are gone, and what is stored is put back.
        daemon.kill()?;
        std::fs::remove_dir_all(site.sandbox.bpffs().join("pbx"))?;
        let daemon = site.pbx.start()?;
        is_let_go()?;

        // Nor does a list of others that still has it bring it back.
        let list = site.sandbox.directory().join("list.txt");
        std::fs::write(&list, format!("{}\n", bad.v4()))?;
        site.pbx.pbx(&format!("feed add others {}", list.display()))?;
        site.pbx.wait_blocked(bad.v4())?;
        site.pbx.pbx(&remove)?;
        site.pbx.pbx("feed refresh others")?;
        is_let_go()?;
        daemon.stop()
    });
}

#[test]
fn no_ban_beats_the_whitelist() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let bad = &site.lab.bad;
        crack(site, bad)?;
        let mut line = site.udp(bad)?;
        ensure!(!is_answered(&mut line)?, "it is blocked");
        site.pbx.pbx(&format!("allow add {}", bad.v4()))?;
        ensure!(is_answered(&mut line)?, "the block goes before the allow rule");
        if let Some(block) = find(&site.pbx.pbx("block list")?, &bad.v4().to_string()) {
            ensure!(block["enforced"] == false, "it is said to be dropped: {block:#}");
        }
        site.pbx.try_pbx(&format!("block remove {}", bad.v4()))?.ok()?;

        // Whoever is allowed may fail and flood as they like.
        guess(site, &mut line, TRIES)?;
        flood(bad, 4000)?;
        ensure!(is_answered(&mut line)?, "the flood of an allowed host is blocked");
        assert_nobody_is_blocked(site)?;
        // A list of others leaves it out.
        let list = site.sandbox.directory().join("list.txt");
        std::fs::write(&list, format!("{}\n203.0.113.0/24\n", bad.v4()))?;
        site.pbx.pbx(&format!("feed add others {}", list.display()))?;
        ensure!(is_answered(&mut line)?, "the feed goes before the allow rule");
        // One allowed host of a network that is blocked as a whole.
        let host = Ipv4Addr::new(198, 51, 100, 9);
        speak_from(bad, host)?;
        site.pbx.pbx("block add 198.51.100.0/24")?;
        let mut line = Line::udp(&bad.network, host.into(), server(bad, UDP))?;
        ensure!(!is_answered(&mut line)?, "its network is blocked");
        site.pbx.pbx(&format!("allow add {host}"))?;
        ensure!(is_answered(&mut line)?, "the wide block goes before the allow rule");
        daemon.stop()
    });
}

#[test]
fn no_ban_is_without_a_reason() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let bad = &site.lab.bad;
        let list = site.sandbox.directory().join("list.txt");
        std::fs::write(&list, format!("{}\n", bad.v4()))?;
        let shown = |reason: &[&str]| -> Result<()> {
            let address = bad.v4();
            let block = site.pbx.wait_blocked(address)?;
            let undo = block["undo"].as_str().context("no undo")?.to_owned();
            ensure!(block["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{block:#}");
            ensure!(block["since"].is_string() && block["by"].is_string(), "{block:#}");
            let explain = format!("explain {address}");
            let explained = site.pbx.pbx(&explain)?;
            ensure!(explained["fate"] == "drop" && explained["undo"] == undo.as_str(), "{explained:#}");
            let (rows, screen) = (site.pbx.shown("block list")?, site.pbx.shown(&explain)?);
            for word in reason {
                ensure!(rows.contains(word) && screen.contains(word), "{word:?} is not in both\n{rows}\n{screen}");
            }
            ensure!(screen.contains(&format!("undo: {undo}")), "{screen}");
            // What it says that ends the block does.
            site.pbx.pbx(undo.strip_prefix("pbx ").context("a command of ours")?)?;
            ensure!(is_answered(&mut site.udp(bad)?)?, "`{undo}` does not end it");
            Ok(())
        };
        site.pbx.run(&["block", "add", &bad.v4().to_string(), "--reason", "calls us at night"])?.ok()?;
        shown(&["calls us at night", "root"])?;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        shown(&["by hand", "root"])?;
        site.pbx.pbx(&format!("feed add others {}", list.display()))?;
        shown(&["feed others"])?;
        flood(bad, 1000)?;
        shown(&["level 1"])?;
        let detector = crack(site, bad)?;
        ensure!(["accounts", "authentication"].contains(&detector.as_str()), "{detector}");
        site.pbx.wait(&format!("explain {}", bad.v4()), |explained| explained["evidence"].is_object())?;
        shown(&["password"])?;
        daemon.stop()
    });
}

#[test]
fn no_ban_for_a_wrong_password_closes_ssh() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let bad = &site.lab.bad;
        // Where ssh usually is, and where those move it who have read a guide.
        let ssh = [Ssh::open(bad, 22)?, Ssh::open(bad, 10_210)?];
        crack(site, bad)?;
        ensure!(!is_answered(&mut site.udp(bad)?)?, "it is not blocked");
        ssh.iter().try_for_each(|ssh| ssh.assert_open(bad))?;
        // Nor do the rate levels.
        site.pbx.pbx(&format!("block remove {}", bad.v4()))?;
        flood(bad, 4000)?;
        site.pbx.wait_blocked(bad.v4())?;
        ssh.iter().try_for_each(|ssh| ssh.assert_open(bad))?;
        daemon.stop()
    });
}

#[test]
fn the_appliances_own_address_is_never_banned() {
    before_start(|site| {
        let bad = &site.lab.bad;
        let own = bad.appliance_v4();
        ip(&format!("route add default via {}", bad.v4()))?;
        let daemon = site.pbx.start()?;
        site.pbx.pbx("firewall mode enforce")?;
        from_elsewhere(site)?;
        // A portal, a monitor, or a gateway on the same machine that has a wrong password.
        let mut line = Line::udp(site.sandbox.network(), own.into(), server(bad, UDP))?;
        guess(site, &mut line, TRIES)?;
        site.pbx.wait("events", |list| list.to_string().contains("an address of this machine"))?;
        assert_nobody_is_blocked(site)?;
        let told = events(site, "guard")?;
        ensure!(told.iter().any(|message| message.contains(&format!("{own} "))), "{told:?}");
        // By hand, by a list, and by somebody who writes it into forged packets.
        site.pbx.try_pbx(&format!("block add {own} --force"))?.refused(7, &["can't be blocked"])?;
        let list = site.sandbox.directory().join("list.txt");
        std::fs::write(&list, format!("{own}\n"))?;
        ensure!(site.pbx.try_pbx(&format!("feed add others {}", list.display()))?.code != Some(0), "a feed may");
        forge(bad, own, 4000)?;
        guess(site, &mut line, 5)?;
        assert_nobody_is_blocked(site)?;
        // The gateway, behind which everybody may be.
        let mut line = site.udp(bad)?;
        site.pbx.try_pbx(&format!("block add {} --force", bad.v4()))?.refused(7, &["can't be blocked"])?;
        guess(site, &mut line, TRIES)?;
        assert_nobody_is_blocked(site)?;
        daemon.stop()
    });
}

#[test]
fn after_a_power_cut_forty_phones_behind_one_address_reregister_and_none_is_banned() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let office = Office::behind(&site.lab.bad)?;
        let accounts: Vec<(String, String)> = (0..40)
            .map(|phone| {
                let number = (200 + phone).to_string();
                Ok((number.clone(), site.add(&number)?))
            })
            .collect::<Result<_>>()?;
        // An office that we know, and one that moved here in the dark.
        for (address, was_here) in [(site.lab.bad.v4(), true), (Ipv4Addr::new(10, 77, 2, 200), false)] {
            office.translate_to(address)?;
            if was_here {
                office.register_at_once(&accounts)?;
                for (number, _) in &accounts {
                    site.pbx.pbx(&format!("reg drop {number}"))?;
                }
            } else {
                let seen = site.pbx.pbx(&format!("explain {address}"))?;
                ensure!(seen["seen"] == false, "{seen:#}");
            }
            office.register_at_once(&accounts)?;
            assert_nobody_is_blocked(site)?;
            // Filter and list are told a moment after the phones.
            site.pbx.wait(&format!("explain {address}"), |explained| {
                let registered = explained["registered"].as_array().map(Vec::len);
                explained["fate"] == "police" && registered == Some(accounts.len())
            })?;
        }
        daemon.stop()
    });
}

#[test]
fn no_ban_is_of_one_ipv6_address_while_the_attacker_has_a_network_of_them() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let bad = &site.lab.bad;
        ip(&format!("-6 route add 2001:db8::/32 via {}", bad.v6()))?;
        let host = |network: u16, host: u16| Ipv6Addr::new(0x2001, 0xdb8, 7, network, 0, 0, 0, host);
        let line = |address: Ipv6Addr| -> Result<Line> {
            bad.add_address(address.into())?;
            Line::udp(&bad.network, address.into(), SocketAddr::new(bad.appliance_v6().into(), UDP))
        };
        // A wrong password from each address, which is as far as a count of addresses ever comes.
        crack_from(site, "2001:db8:7:1::/64", |tried| line(host(1, tried as u16)))?;
        ensure!(!is_answered(&mut line(host(1, 0xfff))?)?, "an address that it has not used yet is heard");
        ensure!(is_answered(&mut line(host(2, 1))?)?, "so is blocked who only lives near");

        // On the own link it is the other way round: there neighbours share the network.
        let [near, other] = [1, 2].map(|more| Ipv6Addr::from_bits(bad.v6().to_bits() + more));
        bad.add_address(near.into())?;
        let registrar = SocketAddr::new(bad.appliance_v6().into(), UDP);
        crack_from(site, &near.to_string(), |_| Line::udp(&bad.network, near.into(), registrar))?;
        ensure!(is_answered(&mut line(other)?)?, "a neighbour is blocked with it");
        daemon.stop()
    });
}

#[test]
fn no_udp_flow_bypasses_a_ban_because_conntrack_knows_it() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let bad = &site.lab.bad;
        let host = site.sandbox.network();
        // As every guide has it: what is established is accepted first.
        nft(
            host,
            "table inet host {
                counter established {}
                chain in {
                    type filter hook input priority 0;
                    meta l4proto udp ct state established counter name established accept
                }
            }",
        )?;
        let mut flow = site.udp(bad)?;
        for _ in 0..3 {
            ensure!(is_answered(&mut flow)?, "it is heard");
        }
        ensure!(established(host)? >= 2, "conntrack does not follow the flow: this test shows nothing");
        let address = bad.v4().to_string();
        for by_hand in [true, false] {
            if by_hand {
                site.pbx.pbx(&format!("block add {address}"))?;
            } else {
                crack(site, bad)?;
            }
            let dropped = || -> Result<u64> {
                let list = site.pbx.pbx("block list")?;
                find(&list, &address).and_then(|block| block["packets"].as_u64()).context("it is not blocked")
            };
            let (before, earlier) = (established(host)?, dropped()?);
            for _ in 0..20 {
                let request = flow.request("100");
                let bytes = flow.bytes(&request);
                flow.send(&bytes)?;
            }
            site.pbx.wait("block list", |list| {
                find(list, &address).is_some_and(|block| block["packets"].as_u64() >= Some(earlier + 20))
            })?;
            ensure!(flow.hear(SILENCE)?.is_none(), "an established flow is answered");
            ensure!(established(host)? == before, "the host still sees an established flow");
            site.pbx.pbx(&format!("block remove {address}"))?;
            ensure!(is_answered(&mut flow)?, "it was let go");
        }
        daemon.stop()
    });
}

#[test]
fn nothing_disables_the_hosts_firewall_or_opens_ports_unasked() {
    before_start(|site| {
        let (bad, host) = (&site.lab.bad, site.sandbox.network());
        nft(
            host,
            "table inet filter {
                chain input {
                    type filter hook input priority 0; policy drop;
                    iifname lo accept
                    tcp dport 22 accept
                }
                chain forward { type filter hook forward priority 0; policy drop; }
            }",
        )?;
        let rules = || nft_says(host, &["--stateless", "list", "ruleset"]);
        let before = rules()?;
        let assert_untouched = |when: &str| -> Result<()> {
            let now = rules()?;
            ensure!(now == before, "{when} the host's firewall is another:\n{before}\n{now}");
            Ok(())
        };
        let daemon = site.pbx.start()?;
        site.pbx.pbx("firewall mode enforce")?;
        site.pbx.pbx("block add 203.0.113.0/24")?;
        site.pbx.pbx("transport add udp 5070")?;
        site.add("200")?;
        flood(bad, 1000)?;
        site.pbx.wait_blocked(bad.v4())?;
        site.pbx.pbx(&format!("block remove {}", bad.v4()))?;
        assert_untouched("while it serves")?;
        ensure!(!is_answered(&mut site.udp(bad)?)?, "a port that the host keeps closed is open");
        // It says what is missing, and the command that an administrator may run.
        let found = site.pbx.try_pbx("doctor")?.said();
        for word in ["5060", "5070", "nft insert rule inet filter input", "45000-64999"] {
            ensure!(found.contains(word), "{word} is not in\n{found}");
        }
        assert_untouched("after the doctor")?;
        daemon.stop()?;
        assert_untouched("at the end")?;
        units_leave_it_alone()
    });
}

/// No unit that is installed starts, stops or conflicts with a firewall.
fn units_leave_it_alone() -> Result<()> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for file in std::fs::read_dir(&units).with_context(|| units.display().to_string())? {
        let path = file?.path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        // To come after one is no harm.
        let is_said = |line: &&str| !["#", "After=", "Before="].iter().any(|start| line.starts_with(start));
        for line in text.lines().filter(is_said) {
            let names = ["nft", "iptables", "ufw", "firewalld"];
            ensure!(!names.iter().any(|name| line.contains(name)), "{}: {line}", path.display());
        }
    }
    Ok(())
}
