//! Media flows in progress, known sources and automatic blocks, and their order.

use pbx_ebpf::abi::{automatic::MONITOR, stats::Reason::*};
use pbx_tests::frames::{Frame, tcp};

use super::{Given::*, allow, block, row, run};

fn rtp(addr: &str, port: u16) -> Frame {
    let to = if addr.starts_with('[') { "[2001:db8::2]" } else { "192.0.2.2" };
    Frame::udp(format!("{addr}:9000").as_str(), format!("{to}:{port}").as_str())
}

fn sip(addr: &str, from: u16) -> Frame {
    let to = if addr.starts_with('[') { "[2001:db8::2]:5060" } else { "192.0.2.2:5060" };
    Frame::udp(format!("{addr}:{from}").as_str(), to)
}

#[test]
fn a_media_flow_in_progress_passes_before_automatic_blocks_and_after_manual_rules() {
    run(vec![
        row("a flow", &rtp("192.0.2.20", 45000), MediaFlow).given([Flow("192.0.2.20", 45000)]),
        row("another port", &rtp("192.0.2.20", 45002), MediaPort).given([Flow("192.0.2.20", 45000)]),
        row("another address", &rtp("192.0.2.21", 45000), MediaPort).given([Flow("192.0.2.20", 45000)]),
        row("a flow of a blocked source", &rtp("192.0.2.22", 45000), MediaFlow)
            .given([Flow("192.0.2.22", 45000), Blocked("192.0.2.22", 2, 0)]),
        row("the blocked source beside its flow", &rtp("192.0.2.23", 45002), Automatic)
            .given([Flow("192.0.2.23", 45000), Blocked("192.0.2.23", 2, 0)]),
        row("a flow of a manually blocked source", &rtp("192.0.2.24", 45000), Manual)
            .given([Flow("192.0.2.24", 45000), block("192.0.2.24")]),
        row("another port while media ports are open", &rtp("192.0.2.25", 45002), Passed)
            .given([Flow("192.0.2.25", 45000), Set("guard.media.enforcement", "off")]),
        row("a flow of an IPv6 source", &rtp("[2001:db8:20::1]", 64999), MediaFlow)
            .given([Flow("2001:db8:20::1", 64999)]),
        row("its neighbour in the blocked /64", &rtp("[2001:db8:20::2]", 64999), Automatic)
            .given([Flow("2001:db8:20::1", 64999), Blocked64(0x2001_0db8_0020_0000, 1)]),
        row("TCP to a flow's port", &Frame::tcp("192.0.2.26:1", "192.0.2.2:45000", tcp::ACK), Passed)
            .given([Flow("192.0.2.26", 45000)]),
    ]);
}

#[test]
fn a_known_source_has_a_budget_and_is_never_blocked_by_rates() {
    run(vec![
        row("within its budget", &sip("192.0.2.30", 5060), Known)
            .given([Registered("192.0.2.30", 0, 3), Sent(2, sip("192.0.2.30", 5060))]),
        row("over its budget", &sip("192.0.2.31", 5060), KnownBudget)
            .given([Registered("192.0.2.31", 0, 3), Sent(3, sip("192.0.2.31", 5060))]),
        row("a second later", &sip("192.0.2.32", 5060), Known).given([
            Registered("192.0.2.32", 0, 3),
            Sent(9, sip("192.0.2.32", 5060)),
            Later(1_001_000_000),
        ]),
        row("an address and port", &sip("192.0.2.33", 6060), Known).given([Registered("192.0.2.33", 6060, 3)]),
        row("the same address, another port", &sip("192.0.2.34", 6061), Counted).given([Registered(
            "192.0.2.34",
            6060,
            3,
        )]),
        row("the port's budget before the address's", &sip("192.0.2.35", 6060), KnownBudget).given([
            Registered("192.0.2.35", 6060, 1),
            Registered("192.0.2.35", 0, 100),
            Sent(1, sip("192.0.2.35", 6060)),
        ]),
        row("the address's budget beside the port's", &sip("192.0.2.36", 6061), Known).given([
            Registered("192.0.2.36", 6060, 1),
            Registered("192.0.2.36", 0, 100),
            Sent(1, sip("192.0.2.36", 6060)),
        ]),
        row("over level 1 and within its budget", &sip("192.0.2.37", 5060), Known)
            .given([Registered("192.0.2.37", 0, 5000), Sent(600, sip("192.0.2.37", 5060))]),
        row("before an automatic block", &sip("192.0.2.38", 5060), Known)
            .given([Registered("192.0.2.38", 0, 9), Blocked("192.0.2.38", 2, 0)]),
        row("after a manual block", &sip("192.0.2.39", 5060), Manual)
            .given([Registered("192.0.2.39", 0, 9), block("192.0.2.39")]),
        row("allowed by hand", &sip("192.0.2.40", 5060), Allowed)
            .given([Registered("192.0.2.40", 0, 1), allow("192.0.2.40")]),
        row("under monitor", &sip("192.0.2.41", 5060), WouldPolice).given([
            Set("filter.mode", "monitor"),
            Registered("192.0.2.41", 0, 1),
            Sent(1, sip("192.0.2.41", 5060)),
        ]),
        row("an IPv6 address", &sip("[2001:db8:31::1]", 5060), KnownBudget)
            .given([Registered("2001:db8:31::1", 0, 1), Sent(1, sip("[2001:db8:31::1]", 5060))]),
        row("its neighbour in the /64 is unknown", &sip("[2001:db8:31::2]", 5060), Counted).given([Registered(
            "2001:db8:31::1",
            0,
            1,
        )]),
        row("elsewhere it passes", &Frame::udp("192.0.2.42:1", "192.0.2.2:9"), Passed)
            .given([Registered("192.0.2.42", 0, 1), Sent(5, sip("192.0.2.42", 5060))]),
        row("its TCP has the TCP limit", &Frame::tcp("192.0.2.43:1", "192.0.2.2:5061", tcp::ACK), TcpLimit).given([
            Registered("192.0.2.43", 0, 100),
            Set("guard.tcp.packets", "1"),
            Sent(1, Frame::tcp("192.0.2.43:1", "192.0.2.2:5061", tcp::ACK)),
        ]),
    ]);
}

#[test]
fn an_automatic_block_covers_the_appliance_or_everything_and_ends_by_itself() {
    let ssh = |addr: &str| Frame::tcp(format!("{addr}:40000").as_str(), "192.0.2.2:22", tcp::SYN);
    let all = || Set("guard.scope", "all");
    let second = 1_000_000_000;
    run(vec![
        row("a protected port", &sip("192.0.2.60", 9), Automatic).given([Blocked("192.0.2.60", 1, 0)]),
        row("a protected TCP port, established", &Frame::tcp("192.0.2.61:9", "192.0.2.2:5061", tcp::ACK), Automatic)
            .given([Blocked("192.0.2.61", 2, 0)]),
        row("a media port", &rtp("192.0.2.62", 50000), Automatic).given([Blocked("192.0.2.62", 2, 0)]),
        row("ssh", &ssh("192.0.2.63"), Passed).given([Blocked("192.0.2.63", 2, 0)]),
        row("ssh, scope all", &ssh("192.0.2.64"), Automatic).given([Blocked("192.0.2.64", 2, 0), all()]),
        row("ping, scope all", &Frame::ip("192.0.2.65", "192.0.2.2", 1, &[8; 16]), Automatic)
            .given([Blocked("192.0.2.65", 2, 0), all()]),
        row("a later fragment has no port", &sip("192.0.2.66", 9).fragment(5, false), Counted).given([Blocked(
            "192.0.2.66",
            2,
            0,
        )]),
        row("a later fragment, scope all", &sip("192.0.2.67", 9).fragment(5, false), Automatic)
            .given([Blocked("192.0.2.67", 2, 0), all()]),
        row("allowed by hand", &sip("192.0.2.68", 9), Allowed)
            .given([Blocked("192.0.2.68", 2, 0), allow("192.0.2.68")]),
        row("blocked by hand as well", &sip("192.0.2.69", 9), Manual)
            .given([Blocked("192.0.2.69", 2, 0), block("192.0.2.69")]),
        row("a nanosecond before its end", &sip("192.0.2.70", 9), Automatic)
            .given([Blocked("192.0.2.70", 2, 0), Later(60 * second - 1)]),
        row("at its end", &sip("192.0.2.71", 9), Counted).given([Blocked("192.0.2.71", 2, 0), Later(60 * second)]),
        row("a detector's", &sip("192.0.2.72", 9), Automatic).given([Blocked("192.0.2.72", 0, 0)]),
        row("made under monitor", &sip("192.0.2.73", 9), Counted).given([Blocked("192.0.2.73", 1, MONITOR)]),
        row("made under monitor, still monitored", &sip("192.0.2.74", 9), WouldAutomatic)
            .given([Blocked("192.0.2.74", 1, MONITOR), Set("guard.level1.enforcement", "monitor")]),
        row("its rule went to monitor", &sip("192.0.2.75", 9), WouldAutomatic)
            .given([Blocked("192.0.2.75", 2, 0), Set("guard.level2.enforcement", "monitor")]),
        row("its rule was switched off", &sip("192.0.2.76", 9), Counted)
            .given([Blocked("192.0.2.76", 2, 0), Set("guard.level2.enforcement", "off")]),
        row("a /64", &sip("[2001:db8:60:1:9::9]", 9), Automatic).given([Blocked64(0x2001_0db8_0060_0001, 1)]),
        row("the next /64", &sip("[2001:db8:60:2::9]", 9), Counted).given([Blocked64(0x2001_0db8_0060_0001, 1)]),
        row(":: in a blocked ::/64", &sip("[::]", 9), Counted).given([Blocked64(0, 1)]),
        row("an address in a local network, blocked itself", &sip("[2001:db8:61::1]", 9), Automatic)
            .given([Set("network.local_networks", "2001:db8:61::/64"), Blocked("2001:db8:61::1", 1, 0)]),
        row("its neighbour in the local network", &sip("[2001:db8:61::2]", 9), Counted)
            .given([Set("network.local_networks", "2001:db8:61::/64"), Blocked("2001:db8:61::1", 1, 0)]),
    ]);
}
