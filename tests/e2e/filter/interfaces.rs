//! Interfaces: they vanish and return, carry somebody else's program, are of a kind that cannot be filtered.

use std::time::{Duration, Instant};

use aya::programs::XdpMode;
use pbx_tests::daemon::DEADLINE;
use pbx_tests::flood::Plan;
use pbx_tests::sandbox::ip;
use pbx_xdp::{Loaded, Options};

use super::{attach, before_start, interface, on_site, program};

#[test]
fn an_interface_that_vanishes_and_returns_is_filtered_again() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        bad.disconnect()?;
        site.pbx.wait("status", |status| attach(status, bad.interface).is_some_and(|attach| attach == "waiting"))?;
        bad.connect()?;
        let back = Instant::now();
        site.pbx.wait("status", |status| attach(status, bad.interface).is_some_and(|attach| attach == "native"))?;
        let took = back.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        let other = site.send(bad, bad.v6(), 2, Plan::steady(400, DEADLINE))?;
        site.wait_heard(&other, bad.v6())?;
        daemon.stop()
    });
}

#[test]
fn another_xdp_program_is_named_with_the_command_and_the_rest_is_filtered() {
    before_start(|site| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let mut other = Loaded::load(&Options::default())?;
        other.attach(bad.interface, XdpMode::Driver)?;
        let id = other.id()?;
        let mut daemon = site.pbx.start()?;
        daemon.expect("another XDP program");
        let status = site.pbx.pbx("status")?;
        assert_eq!(attach(&status, bad.interface), Some("refused"), "{status:#}");
        assert_eq!(attach(&status, good.interface), Some("native"));
        let note = interface(&status, bad.interface).and_then(|entry| entry["note"].as_str()).unwrap_or_default();
        assert!(note.contains(&format!("(id {id})")) && note.contains("bpftool"), "{note}");
        assert_eq!(program(bad.interface)?, Some(id.into()), "it is left alone");
        site.pbx.try_pbx(&format!("firewall attach {}", bad.interface))?.refused(1, &[&format!("(id {id})")])?;

        drop(other);
        site.pbx.pbx(&format!("firewall attach {}", bad.interface))?;
        assert_eq!(attach(&site.pbx.pbx("status")?, bad.interface), Some("native"));
        daemon.stop()
    });
}

#[test]
fn an_interface_without_ethernet_is_refused_with_the_reason() {
    before_start(|site| {
        ip("tuntap add name tunnel mode tun")?;
        ip("link set tunnel up")?;
        site.pbx.set("interfaces", "[\"tunnel\", \"lan-good\"]")?;
        let mut daemon = site.pbx.start()?;
        daemon.expect("tunnel: not filtered");
        let status = site.pbx.pbx("status")?;
        let entry = interface(&status, "tunnel").expect("it is listed");
        assert_eq!(entry["attach"], "refused", "{entry}");
        assert!(entry["note"].as_str().is_some_and(|note| note.contains("no Ethernet header")), "{entry}");
        daemon.stop()
    });
}

#[test]
fn a_large_mtu_is_no_obstacle() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("firewall detach {}", bad.interface))?;
        ip(&format!("link set {} mtu 9000", bad.interface))?;
        bad.network.ip("link set eth0 mtu 9000")?;
        site.pbx.pbx(&format!("firewall attach {}", bad.interface))?;
        assert_eq!(attach(&site.pbx.pbx("status")?, bad.interface), Some("native"));
        daemon.stop()
    });
}

#[test]
fn the_generic_path_filters_as_well() {
    before_start(|site| {
        let bad = &site.lab.bad;
        site.pbx.set("attach", "\"generic\"")?;
        let daemon = site.pbx.start()?;
        site.pbx.pbx("firewall mode enforce")?;
        assert_eq!(attach(&site.pbx.pbx("status")?, bad.interface), Some("generic"));
        site.burst(bad, bad.v4(), 1, 1500)?;
        site.pbx.wait_blocked(bad.v4())?;
        site.receiver.wait(DEADLINE, |seen| seen.of(bad.v4(), 1).count() == 500)?;
        daemon.kill()?;
        // The next one goes on in the same path, without a gap.
        let daemon = site.pbx.start()?;
        assert_eq!(attach(&site.pbx.pbx("status")?, bad.interface), Some("generic"));
        site.burst(bad, bad.v4(), 2, 100)?;
        assert_eq!(site.receiver.seen().of(bad.v4(), 2).count(), 0);
        daemon.stop()
    });
}

#[test]
fn an_interface_taken_off_by_hand_stays_off_until_it_is_wanted_again() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE * 2))?;
        site.pbx.pbx(&format!("firewall detach {}", bad.interface))?;
        site.wait_heard(&stream, bad.v4())?;
        // A change of the machine is no reason to attach it again.
        ip("addr add 192.0.2.77/32 dev lan-bad")?;
        site.pbx.wait("explain 192.0.2.77", |view| view.to_string().contains("own"))?;
        assert_eq!(attach(&site.pbx.pbx("status")?, bad.interface), Some("detached"));
        site.pbx.pbx(&format!("firewall attach {}", bad.interface))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

#[test]
fn an_interface_that_the_configuration_names_no_longer_is_let_go_at_the_next_start() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE * 2))?;
        daemon.stop()?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        site.pbx.set("interfaces", "[\"lan-good\"]")?;
        let daemon = site.pbx.start()?;
        site.wait_heard(&stream, bad.v4())?;
        assert_eq!(program(bad.interface)?, None);
        daemon.stop()
    });
}

#[test]
fn attach_off_takes_the_filter_out_of_the_kernel_and_says_so_but_keeps_the_rules() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        daemon.stop()?;
        site.pbx.set("attach", "\"off\"")?;
        let mut daemon = site.pbx.start()?;
        daemon.expect("only the daemon's own sockets");
        let status = site.pbx.pbx("status")?;
        assert_eq!(status.pointer("/filter/loaded"), Some(&false.into()), "{status:#}");
        assert!(status["filter"]["problem"].as_str().is_some_and(|why| why.contains("attach = \"off\"")), "{status:#}");
        site.pbx.wait_blocked(bad.v4())?;
        // To a socket that is not the daemon's.
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.wait_heard(&stream, bad.v4())?;
        daemon.stop()?;

        site.pbx.set("attach", "\"auto\"")?;
        let daemon = site.pbx.start()?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        daemon.stop()
    });
}

#[test]
fn auto_takes_what_carries_the_default_route_and_keeps_what_it_had() {
    before_start(|site| {
        let good = &site.lab.good;
        ip(&format!("route add default via {}", good.v4()))?;
        site.pbx.set("interfaces", "\"auto\"")?;
        let daemon = site.pbx.start()?;
        assert_eq!(attach(&site.pbx.pbx("status")?, good.interface), Some("native"));
        daemon.stop()?;
        // An interface may be without an address for a moment: no reason to stop filtering it.
        let before = program(good.interface)?;
        ip(&format!("addr flush dev {}", good.interface))?;
        let daemon = site.pbx.start()?;
        assert_eq!(attach(&site.pbx.pbx("status")?, good.interface), Some("native"));
        assert_ne!(program(good.interface)?, before, "it is filtered by the new program");
        daemon.stop()
    });
}
