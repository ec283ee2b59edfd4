//! Protected ports, their limits, and media ports.

use pbx_ebpf::abi::stats::Reason::*;
use pbx_tests::frames::{Frame, tcp};

use super::{Given::*, Row, row, run};

fn udp(addr: &str, port: u16) -> Frame {
    let to = if addr.starts_with('[') { "[2001:db8::2]" } else { "192.0.2.2" };
    Frame::udp(format!("{addr}:9").as_str(), format!("{to}:{port}").as_str())
}

fn segment(addr: &str, port: u16, flags: u8) -> Frame {
    Frame::tcp(format!("{addr}:9").as_str(), format!("192.0.2.2:{port}").as_str(), flags)
}

#[test]
fn what_counts_and_where() {
    let mut rows: Vec<Row> = vec![
        row("an unprotected port", &udp("192.0.2.80", 53), Passed),
        row("port 0", &udp("192.0.2.80", 0), Passed),
        row("port 65535", &udp("192.0.2.80", 65535), Passed),
        row("port 65535, protected", &udp("192.0.2.80", 65535), Counted)
            .given([Set("filter.protected_ports", "65535")]),
        row("a port that is protected no more", &udp("192.0.2.80", 5060), Passed)
            .given([Set("filter.protected_ports", "65535")]),
        row("the first of a protected range", &udp("192.0.2.80", 100), Counted)
            .given([Set("filter.protected_ports", "100-299")]),
        row("the last of a protected range", &udp("192.0.2.80", 299), Counted)
            .given([Set("filter.protected_ports", "100-299")]),
        row("behind a protected range", &udp("192.0.2.80", 300), Passed)
            .given([Set("filter.protected_ports", "100-299")]),
        row("a reply from a protected port", &Frame::udp("192.0.2.80:5060", "192.0.2.2:9"), Passed),
        row(
            "another protocol",
            &Frame::ip("192.0.2.80", "192.0.2.2", 132, &[0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 0]),
            Passed,
        ),
    ];
    for port in [5060, 5061, 5063, 5065, 8885, 8887, 8888, 8889, 10443] {
        rows.push(row("UDP", &udp("192.0.2.81", port), Counted));
        rows.push(row("UDP over IPv6", &udp("[2001:db8::81]", port), Counted));
        rows.push(row("SYN", &segment("192.0.2.81", port, tcp::SYN), Counted));
        rows.push(row("ACK", &segment("192.0.2.81", port, tcp::ACK), Counted));
    }
    run(rows);
}

#[test]
fn syn_without_ack_counts_for_the_levels_and_other_tcp_has_its_own_limit() {
    let [one, other] = [|| Set("guard.tcp.packets", "2"), || Set("guard.level1.packets", "2")];
    let frame = |flags| segment("192.0.2.82", 5061, flags);
    let mut rows = vec![
        row("SYN over level 1", &frame(tcp::SYN), Level1).given([other(), Sent(2, frame(tcp::SYN))]),
        row("SYN with PSH over level 1", &frame(tcp::SYN | tcp::PSH), Level1)
            .given([other(), Sent(2, frame(tcp::SYN))]),
        row("SYN and UDP count together", &udp("192.0.2.83", 5060), Level1)
            .given([other(), Sent(2, segment("192.0.2.83", 5061, tcp::SYN))]),
        row("ACK does not count for level 1", &udp("192.0.2.84", 5060), Counted)
            .given([other(), Sent(9, segment("192.0.2.84", 5061, tcp::ACK))]),
        row("to ssh there is no limit", &segment("192.0.2.82", 22, tcp::ACK), Passed)
            .given([one(), Sent(9, segment("192.0.2.82", 22, tcp::ACK))]),
        row("the TCP limit under monitor", &frame(tcp::ACK), WouldPolice).given([
            one(),
            Set("filter.mode", "monitor"),
            Sent(2, frame(tcp::ACK)),
        ]),
        row("the TCP limit switched off", &frame(tcp::ACK), Counted).given([
            one(),
            Set("filter.mode", "off"),
            Sent(2, frame(tcp::ACK)),
        ]),
        row("the TCP limit, a second later", &frame(tcp::ACK), Counted).given([
            one(),
            Sent(9, frame(tcp::ACK)),
            Later(1_001_000_000),
        ]),
        row("10,000 segments are the default", &frame(tcp::ACK), TcpLimit).given([Sent(10_000, frame(tcp::ACK))]),
        row("the 10,000th passes", &frame(tcp::ACK), Counted).given([Sent(9_999, frame(tcp::ACK))]),
    ];
    for flags in [tcp::ACK, tcp::SYN | tcp::ACK, tcp::RST, tcp::FIN | tcp::ACK, 0] {
        rows.push(row("other TCP at its limit", &frame(flags), Counted).given([one(), Sent(1, frame(flags))]));
        rows.push(row("other TCP over its limit", &frame(flags), TcpLimit).given([one(), Sent(2, frame(flags))]));
    }
    run(rows);
}

#[test]
fn later_fragments_have_a_limit_and_never_make_a_block() {
    let frame = || udp("192.0.2.85", 5060).fragment(9, false);
    let frame6 = || udp("[2001:db8:85::1]", 5060).fragment(9, false);
    let limit = || Set("guard.fragments.packets", "3");
    run(vec![
        row("at the limit", &frame(), Counted).given([limit(), Sent(2, frame())]),
        row("over the limit", &frame(), FragmentLimit).given([limit(), Sent(3, frame())]),
        row("over the limit, IPv6", &frame6(), FragmentLimit).given([limit(), Sent(3, frame6())]),
        row("a /64 shares the limit", &udp("[2001:db8:85::2]", 9).fragment(9, true), FragmentLimit)
            .given([limit(), Sent(3, frame6())]),
        row("a datagram beside them", &udp("192.0.2.85", 5060), Counted).given([limit(), Sent(9, frame())]),
        row("the next second", &frame(), Counted).given([limit(), Sent(9, frame()), Later(1_001_000_000)]),
        row("2,000 are the default", &frame(), FragmentLimit).given([Sent(2000, frame())]),
        row("the 2,000th passes", &frame(), Counted).given([Sent(1999, frame())]),
    ]);
}

#[test]
fn a_media_port_is_open_only_to_calls_unless_its_rule_is_off() {
    let on = |text| Set("guard.media.enforcement", text);
    run(vec![
        row("by default", &udp("192.0.2.90", 46000), MediaPort),
        row("off", &udp("192.0.2.90", 46000), Passed).given([on("off")]),
        row("monitor", &udp("192.0.2.90", 46000), WouldMediaPort).given([on("monitor")]),
        row("enforce", &udp("192.0.2.90", 46000), MediaPort).given([on("enforce")]),
        row("enforce, IPv6", &udp("[2001:db8::90]", 46000), MediaPort).given([on("enforce")]),
        row("enforce, held", &udp("192.0.2.90", 46002), Passed).given([on("enforce"), Held(46002)]),
        row("monitor, held", &udp("192.0.2.90", 46004), Passed).given([on("monitor"), Held(46004)]),
        row("beside a held port", &udp("192.0.2.90", 46005), MediaPort).given([on("enforce"), Held(46004)]),
        row("the ceiling of the mode", &udp("192.0.2.90", 46000), WouldMediaPort)
            .given([on("enforce"), Set("filter.mode", "monitor")]),
        row("the first media port", &udp("192.0.2.90", 45000), MediaPort).given([on("enforce")]),
        row("before it", &udp("192.0.2.90", 44999), Passed).given([on("enforce")]),
        row("the last media port", &udp("192.0.2.90", 64999), MediaPort).given([on("enforce")]),
        row("behind it", &udp("192.0.2.90", 65000), Passed).given([on("enforce")]),
        row("TCP", &segment("192.0.2.90", 46000, tcp::SYN), Passed).given([on("enforce")]),
        row("an allowed source", &udp("192.0.2.91", 46000), Allowed).given([on("enforce"), super::allow("192.0.2.91")]),
        row("a known source", &udp("192.0.2.92", 46000), MediaPort)
            .given([on("enforce"), Registered("192.0.2.92", 0, 9)]),
    ]);
}
