//! PBX and phone each behind a router that translates addresses and forgets who was silent.
//!
//! ```text
//!  phone ── router ══ the internet ══ router ── appliance
//!  192.168.50.2   198.51.100.2   198.51.100.1   10.77.1.1
//! ```

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pbx_tests::{
    daemon::DEADLINE,
    phone::Line,
    router::{self, nft},
    sandbox::{Namespace, ip},
};
use serde_json::Value;

use super::on_site;

/// The keep-alive's lowest value. Routers that forget after 30 s, as many do, are to the default of 25 s what those
/// here are to this.
const KEEP_ALIVE: u32 = 10;
const FORGETS: u32 = 12;
/// Keep-alives that are waited for: they take more than three times as long as a router remembers.
const TURNS: u64 = 4;
/// Where the test itself listens on the appliance.
const CONTROL: u16 = 5099;

#[test]
fn a_phone_behind_a_router_is_reached_long_after_the_routers_would_have_forgotten_it() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let near = &site.lab.good;
        let (far, phone) = (Namespace::new()?, Namespace::new()?);
        ip(&format!("route add default via {}", near.v4()))?;
        near.network.ip("route del default")?;
        near.network.ip(&format!("link add wan type veth peer name wan netns {}", far.path().display()))?;
        far.ip(&format!("link add lan type veth peer name eth0 netns {}", phone.path().display()))?;
        for (network, interface, address) in [
            (&near.network, "wan", "198.51.100.1/24"),
            (&far, "wan", "198.51.100.2/24"),
            (&far, "lan", "192.168.50.1/24"),
            (&phone, "eth0", "192.168.50.2/24"),
        ] {
            network.ip(&format!("addr add {address} dev {interface}"))?;
            network.ip(&format!("link set {interface} up"))?;
        }
        phone.ip("route add default via 192.168.50.1")?;
        let forwarded = format!(
            "chain in {{ type nat hook prerouting priority -100; iifname wan udp dport {{ 5060, {CONTROL} }} dnat to {}; }}",
            near.appliance_v4()
        );
        router::translate(&near.network, &forwarded, FORGETS)?;
        router::translate(&far, "", FORGETS)?;
        // Empty lines that arrive at the phone, and all that it sends.
        nft(
            &phone,
            "table ip seen {
                counter alive {}
                counter sent {}
                chain in { type filter hook input priority 0; ip saddr 198.51.100.1 udp sport 5060 udp length 12 counter name alive; }
                chain out { type filter hook output priority 0; udp dport 5060 counter name sent; }
            }",
        )?;

        site.pbx.pbx(&format!("guard set sip.keepalive={KEEP_ALIVE}s network.external_address=198.51.100.1"))?;
        let password = site.add("200")?;
        let baresip = site.baresip_in(&phone, "200", &password, "198.51.100.1")?;
        baresip.wait_registered()?;
        let registered = site.wait_registered("200", |list| !list.is_empty())?;
        assert_eq!(registered[0]["behind_nat"], true, "{registered:#?}");
        assert!(registered[0]["remote"].to_string().contains("198.51.100.2:"), "{registered:#?}");

        // A conversation on another port, which nobody keeps alive.
        let control = UdpSocket::bind(("0.0.0.0", CONTROL))?;
        control.set_read_timeout(Some(Duration::from_secs(10)))?;
        let forgotten = phone.enter(|| {
            let socket = UdpSocket::bind("192.168.50.2:0")?;
            socket.connect(("198.51.100.1", CONTROL))?;
            Ok(socket)
        })?;
        forgotten.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut buffer = [0; 16];
        forgotten.send(b"hello")?;
        let (_, from): (usize, SocketAddr) = control.recv_from(&mut buffer)?;
        control.send_to(b"while it lives", from)?;
        assert_eq!(forgotten.recv(&mut buffer)?, 14);

        let (sent, begin) = (counter(&phone, "sent")?, Instant::now());
        wait_counter(&phone, "alive", TURNS)?;
        assert_eq!(counter(&phone, "sent")?, sent, "the phone itself sends something");
        ensure!(
            begin.elapsed() > Duration::from_secs(u64::from(3 * FORGETS)),
            "too soon to tell: {:?}",
            begin.elapsed()
        );

        // The routers have forgotten the other conversation, and not the phone's.
        control.send_to(b"afterwards", from)?;
        wait_counter(&phone, "alive", TURNS + 1)?;
        forgotten.set_nonblocking(true)?;
        ensure!(forgotten.recv(&mut buffer).is_err(), "the routers forget nobody: this test shows nothing");
        site.assert_answers("200")?;
        let now = site.registered("200")?;
        assert_eq!((&now[0]["remote"], &now[0]["since"]), (&registered[0]["remote"], &registered[0]["since"]));
        assert_eq!(now[0]["reachable"], true);

        // Each is told the address by which it reaches the appliance.
        let (beyond, beside) = (site.add("201")?, site.add("202")?);
        let mut lines = [
            (Line::udp(&phone, [192, 168, 50, 2].into(), "198.51.100.1:5060".parse()?)?, "201", beyond, "198.51.100.1"),
            (site.udp(&site.lab.bad)?, "202", beside, "10.77.2.1"),
        ];
        for (line, number, password, address) in &mut lines {
            assert_eq!(line.register(number, password)?, 200);
            let asked = thread::scope(|scope| {
                let answered = scope.spawn(|| site.assert_answers(number));
                let asked = line.hear(DEADLINE)?.context("no OPTIONS")?;
                line.accept(&asked)?;
                answered.join().map_err(|_| anyhow::anyhow!("the command panicked"))??;
                Ok::<_, anyhow::Error>(asked)
            })?;
            for name in ["Via", "Contact"] {
                let value = asked.header(name).unwrap_or_default();
                ensure!(
                    value.contains(&format!("{address}:5060")) || value.contains(&format!("@{address}>")),
                    "{asked:?}"
                );
            }
        }
        daemon.stop()
    });
}

/// Packets that a counter of the phone's has seen.
fn counter(network: &Namespace, name: &str) -> Result<u64> {
    let mut command = Command::new("nft");
    command.args(["-j", "list", "counter", "ip", "seen", name]);
    network.put(&mut command)?;
    let listed: Value = serde_json::from_slice(&command.output()?.stdout)?;
    let counted =
        listed["nftables"].as_array().into_iter().flatten().find_map(|one| one["counter"]["packets"].as_u64());
    counted.with_context(|| format!("no counter {name} in {listed}"))
}

fn wait_counter(network: &Namespace, name: &str, count: u64) -> Result<()> {
    let begin = Instant::now();
    while counter(network, name)? < count {
        let longest = Duration::from_secs(u64::from(KEEP_ALIVE) * (TURNS + 2));
        ensure!(begin.elapsed() < longest, "{} of {count} keep-alives came in {longest:?}", counter(network, name)?);
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
