//! Blocks that detectors of the daemon made: when they end, what they close, who passes them.

use pbx_ebpf::abi::{
    automatic::{DETECTOR_SHIFT, MONITOR, WEB_ONLY},
    stats::Reason::*,
};
use pbx_tests::frames::{Frame, tcp};

use super::{Given, Given::*, allow, row, run};

const SECOND: u64 = 1_000_000_000;
/// Flags of a block of the detector with number 3.
const DETECTED: u32 = 3 << DETECTOR_SHIFT;

fn sip(addr: &str) -> Frame {
    let to = if addr.starts_with('[') { "[2001:db8::2]:5060" } else { "192.0.2.2:5060" };
    Frame::udp(format!("{addr}:9").as_str(), to)
}

fn tcp_to(addr: &str, port: u16, flags: u8) -> Frame {
    let to = if addr.starts_with('[') { "[2001:db8::2]" } else { "192.0.2.2" };
    Frame::tcp(format!("{addr}:9").as_str(), format!("{to}:{port}").as_str(), flags)
}

fn detected(addr: &'static str) -> Given {
    Blocked(addr, 0, DETECTED)
}

fn web(addr: &'static str) -> Given {
    Blocked(addr, 0, DETECTED | WEB_ONLY)
}

#[test]
fn a_detectors_block_ends_by_the_nanosecond_and_lets_pass_who_is_vouched_for() {
    let all = || Set("guard.scope", "all");
    run(vec![
        row("UDP", &sip("192.0.2.100"), Automatic).given([detected("192.0.2.100")]),
        row("a nanosecond before its end", &sip("192.0.2.101"), Automatic)
            .given([detected("192.0.2.101"), Later(60 * SECOND - 1)]),
        row("at its end", &sip("192.0.2.102"), Counted).given([detected("192.0.2.102"), Later(60 * SECOND)]),
        row("a known source", &sip("192.0.2.103"), Known)
            .given([detected("192.0.2.103"), Registered("192.0.2.103", 0, 9)]),
        row("allowed by hand", &sip("192.0.2.104"), Allowed).given([detected("192.0.2.104"), allow("192.0.2.104")]),
        row("an own address", &sip("192.0.2.105"), Own).given([detected("192.0.2.105"), Appliance("192.0.2.105")]),
        row("a media flow in progress", &Frame::udp("192.0.2.106:9", "192.0.2.2:45000"), MediaFlow)
            .given([detected("192.0.2.106"), Flow("192.0.2.106", 45000)]),
        row("another media port of it", &Frame::udp("192.0.2.107:9", "192.0.2.2:45002"), Automatic)
            .given([detected("192.0.2.107"), Flow("192.0.2.107", 45000)]),
        row("ssh", &tcp_to("192.0.2.108", 22, tcp::SYN), Passed).given([detected("192.0.2.108")]),
        row("ssh, scope all", &tcp_to("192.0.2.109", 22, tcp::SYN), Automatic).given([detected("192.0.2.109"), all()]),
        row("the web", &tcp_to("192.0.2.110", 8887, tcp::SYN), Automatic).given([detected("192.0.2.110")]),
        row("the levels do not judge it", &sip("192.0.2.111"), Automatic).given([
            detected("192.0.2.111"),
            Set("guard.level1.packets", "1"),
            Sent(5, sip("192.0.2.111")),
        ]),
        row("when the levels are off", &sip("192.0.2.112"), Automatic).given([
            detected("192.0.2.112"),
            Set("guard.level1.enforcement", "off"),
            Set("guard.level2.enforcement", "off"),
        ]),
        row("an IPv6 network of 64 bits", &sip("[2001:db8:61:1:9::9]"), Automatic)
            .given([Blocked64(0x2001_0db8_0061_0001, 0)]),
        row("the one beside it", &sip("[2001:db8:61:2:9::9]"), Counted).given([Blocked64(0x2001_0db8_0061_0001, 0)]),
        row("an IPv6 address on the link", &sip("[2001:db8:62::9]"), Automatic)
            .given([Set("network.local_networks", "2001:db8:62::/64"), detected("2001:db8:62::9")]),
        row("its neighbour on the link", &sip("[2001:db8:62::8]"), Counted)
            .given([Set("network.local_networks", "2001:db8:62::/64"), detected("2001:db8:62::9")]),
    ]);
}

#[test]
fn a_detectors_block_watches_when_its_detector_or_the_whole_filter_does() {
    run(vec![
        row("its detector watches", &sip("192.0.2.120"), WouldAutomatic).given([Blocked(
            "192.0.2.120",
            0,
            DETECTED | MONITOR,
        )]),
        row("and ends", &sip("192.0.2.121"), Counted)
            .given([Blocked("192.0.2.121", 0, DETECTED | MONITOR), Later(60 * SECOND)]),
        row("the filter watches", &sip("192.0.2.122"), WouldAutomatic)
            .given([detected("192.0.2.122"), Set("filter.mode", "monitor")]),
        row("the filter is off", &sip("192.0.2.123"), Counted)
            .given([detected("192.0.2.123"), Set("filter.mode", "off")]),
        row("a level acts where a detector watches", &sip("192.0.2.124"), Level1).given([
            Blocked("192.0.2.124", 0, DETECTED | MONITOR),
            Set("guard.level1.packets", "2"),
            Sent(2, sip("192.0.2.124")),
        ]),
        row("the web, its detector watches", &tcp_to("192.0.2.125", 8887, tcp::SYN), WouldAutomatic).given([Blocked(
            "192.0.2.125",
            0,
            DETECTED | MONITOR | WEB_ONLY,
        )]),
        row("the web, the filter watches", &tcp_to("192.0.2.126", 8887, tcp::SYN), WouldAutomatic)
            .given([web("192.0.2.126"), Set("filter.mode", "monitor")]),
        row("the web, the filter is off", &tcp_to("192.0.2.127", 8887, tcp::SYN), Counted)
            .given([web("192.0.2.127"), Set("filter.mode", "off")]),
    ]);
}

#[test]
fn a_block_of_the_web_closes_the_ports_of_the_web_and_no_others() {
    let mut rows = vec![
        row("SIP", &sip("192.0.2.130"), Counted).given([web("192.0.2.130")]),
        row("SIP over TLS", &tcp_to("192.0.2.131", 5061, tcp::SYN), Counted).given([web("192.0.2.131")]),
        row("UDP to a port of the web", &Frame::udp("192.0.2.132:9", "192.0.2.2:8887"), Counted)
            .given([web("192.0.2.132")]),
        row("ssh", &tcp_to("192.0.2.133", 22, tcp::SYN), Passed).given([web("192.0.2.133")]),
        row("ssh, scope all", &tcp_to("192.0.2.134", 22, tcp::SYN), Passed)
            .given([web("192.0.2.134"), Set("guard.scope", "all")]),
        row("media", &Frame::udp("192.0.2.135:9", "192.0.2.2:45000"), Passed).given([web("192.0.2.135"), Held(45000)]),
        row("a nanosecond before its end", &tcp_to("192.0.2.136", 8887, tcp::SYN), Automatic)
            .given([web("192.0.2.136"), Later(60 * SECOND - 1)]),
        row("at its end", &tcp_to("192.0.2.137", 8887, tcp::SYN), Counted)
            .given([web("192.0.2.137"), Later(60 * SECOND)]),
        row("a known source", &tcp_to("192.0.2.138", 8887, tcp::SYN), Known)
            .given([web("192.0.2.138"), Registered("192.0.2.138", 0, 9)]),
        row("allowed by hand", &tcp_to("192.0.2.139", 8887, tcp::SYN), Allowed)
            .given([web("192.0.2.139"), allow("192.0.2.139")]),
        row("another port that is the web's", &tcp_to("192.0.2.140", 9443, tcp::SYN), Automatic)
            .given([Set("filter.web_ports", "9443"), web("192.0.2.140")]),
        row("a port that is the web's no more", &tcp_to("192.0.2.141", 8887, tcp::SYN), Counted)
            .given([Set("filter.web_ports", "9443"), web("192.0.2.141")]),
        row("SIP while both kinds stand", &sip("192.0.2.142"), Automatic)
            .given([web("192.0.2.142"), detected("192.0.2.142")]),
        row("the web when the other kind is over", &tcp_to("192.0.2.143", 8887, tcp::SYN), Automatic).given([
            detected("192.0.2.143"),
            Later(30 * SECOND),
            web("192.0.2.143"),
            Later(30 * SECOND),
        ]),
        row("the web of a /64", &tcp_to("[2001:db8:63:1::9]", 8888, tcp::SYN), Automatic)
            .given([Blocked64As(0x2001_0db8_0063_0001, DETECTED | WEB_ONLY)]),
        row("SIP of that /64", &sip("[2001:db8:63:1::8]"), Counted)
            .given([Blocked64As(0x2001_0db8_0063_0001, DETECTED | WEB_ONLY)]),
        row("a level's block does not end it", &tcp_to("192.0.2.144", 8887, tcp::SYN), Automatic).given([
            web("192.0.2.144"),
            Set("guard.level1.packets", "2"),
            Set("guard.level1.block_time", "2s"),
            Sent(9, sip("192.0.2.144")),
            Later(5 * SECOND),
        ]),
        row("which has ended for SIP", &sip("192.0.2.145"), Counted).given([
            web("192.0.2.145"),
            Set("guard.level1.packets", "2"),
            Set("guard.level1.block_time", "2s"),
            Sent(9, sip("192.0.2.145")),
            Later(5 * SECOND),
        ]),
    ];
    for port in [8885, 8887, 8888, 8889, 10443] {
        for flags in [tcp::SYN, tcp::ACK] {
            rows.push(
                row("a port of the web", &tcp_to("192.0.2.150", port, flags), Automatic).given([web("192.0.2.150")]),
            );
        }
    }
    run(rows);
}
