//! Default deny: who reaches a protected port when nobody else does.

use pbx_ebpf::abi::{automatic::MONITOR, stats::Reason::*};
use pbx_tests::frames::{Frame, tcp};

use super::{Given, Given::*, allow, block, row, run};

fn sip(addr: &str) -> Frame {
    let to = if addr.starts_with('[') { "[2001:db8::2]:5060" } else { "192.0.2.2:5060" };
    Frame::udp(format!("{addr}:9").as_str(), to)
}

fn to(addr: &str, port: u16, flags: u8) -> Frame {
    Frame::tcp(format!("{addr}:9").as_str(), format!("192.0.2.2:{port}").as_str(), flags)
}

fn deny(how: &'static str) -> Given {
    Set("filter.default_deny", how)
}

fn local(networks: &'static str) -> Given {
    Set("network.local_networks", networks)
}

#[test]
fn a_stranger_reaches_no_protected_port_and_every_other_one() {
    run(vec![
        row("off, as it is installed", &sip("198.51.100.1"), Counted),
        row("UDP", &sip("198.51.100.2"), DefaultDeny).given([deny("enforce")]),
        row("UDP over IPv6", &sip("[2001:db8:1::1]"), DefaultDeny).given([deny("enforce")]),
        row("SYN", &to("198.51.100.3", 5061, tcp::SYN), DefaultDeny).given([deny("enforce")]),
        row("a connection that stands", &to("198.51.100.4", 5061, tcp::ACK), DefaultDeny).given([deny("enforce")]),
        row("the web", &to("198.51.100.5", 8887, tcp::SYN), DefaultDeny).given([deny("enforce")]),
        row("ssh", &to("198.51.100.6", 22, tcp::SYN), Passed).given([deny("enforce")]),
        row("another port", &Frame::udp("198.51.100.7:9", "192.0.2.2:53"), Passed).given([deny("enforce")]),
        row("ssh, blocks being of every port", &to("198.51.100.8", 22, tcp::SYN), Passed)
            .given([deny("enforce"), Set("guard.scope", "all")]),
        row("ping", &Frame::ip("198.51.100.9", "192.0.2.2", 1, &[8; 16]), Passed).given([deny("enforce")]),
        row("a first fragment", &sip("198.51.100.10").fragment(0, true), DefaultDeny).given([deny("enforce")]),
        row("a later fragment has no port", &sip("198.51.100.11").fragment(5, false), Counted).given([deny("enforce")]),
        row("a media port that a call holds", &Frame::udp("198.51.100.12:9", "192.0.2.2:45000"), Passed)
            .given([deny("enforce"), Held(45000)]),
        row("a media port that none holds", &Frame::udp("198.51.100.13:9", "192.0.2.2:45002"), MediaPort)
            .given([deny("enforce")]),
        row("monitor", &sip("198.51.100.14"), WouldDefaultDeny).given([deny("monitor")]),
        row("under the ceiling of the mode", &sip("198.51.100.15"), WouldDefaultDeny)
            .given([deny("enforce"), Set("filter.mode", "monitor")]),
        row("the mode is off", &sip("198.51.100.16"), Counted).given([deny("enforce"), Set("filter.mode", "off")]),
    ]);
}

#[test]
fn whoever_is_vouched_for_passes_default_deny() {
    let enforced = || deny("enforce");
    run(vec![
        row("a known source", &sip("198.51.100.20"), Known).given([enforced(), Registered("198.51.100.20", 0, 9)]),
        row("its established TCP", &to("198.51.100.21", 5061, tcp::ACK), Counted)
            .given([enforced(), Registered("198.51.100.21", 0, 9)]),
        row("the port that registered", &sip("198.51.100.22"), Known)
            .given([enforced(), Registered("198.51.100.22", 9, 9)]),
        row("another port of that address", &sip("198.51.100.23"), DefaultDeny)
            .given([enforced(), Registered("198.51.100.23", 5060, 9)]),
        row("an allowed address", &sip("198.51.100.24"), Allowed).given([enforced(), allow("198.51.100.24")]),
        row("an allowed range", &sip("[2001:db8:2::1]"), Allowed).given([enforced(), allow("2001:db8:2::/48")]),
        row("an own address", &sip("198.51.100.25"), Own).given([enforced(), Appliance("198.51.100.25")]),
        row("a media flow", &Frame::udp("198.51.100.26:9", "192.0.2.2:45000"), MediaFlow)
            .given([enforced(), Flow("198.51.100.26", 45000)]),
        row("a local network", &sip("10.1.2.3"), Counted).given([enforced(), local("10.1.0.0/16")]),
        row("its first address", &sip("10.1.0.0"), Counted).given([enforced(), local("10.1.0.0/16")]),
        row("its last address", &sip("10.1.255.255"), Counted).given([enforced(), local("10.1.0.0/16")]),
        row("before it", &sip("10.0.255.255"), DefaultDeny).given([enforced(), local("10.1.0.0/16")]),
        row("behind it", &sip("10.2.0.0"), DefaultDeny).given([enforced(), local("10.1.0.0/16")]),
        row("the second of two", &sip("10.9.0.1"), Counted).given([enforced(), local("10.1.0.0/16,10.9.0.1/32")]),
        row("a local IPv6 network", &sip("[2001:db8:3::9]"), Counted).given([enforced(), local("2001:db8:3::/64")]),
        row("beside it", &sip("[2001:db8:3:1::9]"), DefaultDeny).given([enforced(), local("2001:db8:3::/64")]),
        row("IPv4 that looks like the local IPv6 network", &sip("32.1.13.184"), DefaultDeny)
            .given([enforced(), local("2001:db8:3::/64")]),
        row("the link itself", &sip("[fe80::9]"), Counted).given([enforced()]),
    ]);
}

#[test]
fn default_deny_stands_between_automatic_blocks_and_the_rate_levels() {
    let [enforced, watched] = [|| deny("enforce"), || deny("monitor")];
    let level = || Set("guard.level1.packets", "2");
    run(vec![
        row("a manual block goes first", &sip("198.51.100.30"), Manual).given([enforced(), block("198.51.100.30")]),
        row("an automatic block too", &sip("198.51.100.31"), Automatic)
            .given([enforced(), Blocked("198.51.100.31", 1, 0)]),
        row("a block that only watches does not", &sip("198.51.100.32"), DefaultDeny)
            .given([enforced(), Blocked("198.51.100.32", 0, MONITOR)]),
        row("nobody is counted for the levels", &sip("198.51.100.33"), DefaultDeny).given([
            enforced(),
            level(),
            Sent(9, sip("198.51.100.33")),
        ]),
        row("under monitor a level acts", &sip("198.51.100.34"), Level1).given([
            watched(),
            level(),
            Sent(2, sip("198.51.100.34")),
        ]),
        row("and goes before it", &sip("198.51.100.35"), WouldDefaultDeny).given([
            watched(),
            level(),
            Sent(1, sip("198.51.100.35")),
        ]),
        row("two that watch: the first is counted", &sip("198.51.100.36"), WouldAutomatic)
            .given([watched(), Blocked("198.51.100.36", 0, MONITOR)]),
        row("a local source over its level", &sip("10.1.2.4"), Level1).given([
            enforced(),
            local("10.1.0.0/16"),
            level(),
            Sent(2, sip("10.1.2.4")),
        ]),
    ]);
}
