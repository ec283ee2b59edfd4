//! Manual rules: longest prefix wins, on a tie allow; what is over leaves the word to the next that is not.

use pbx_core::rule::Action::{Allow, Block};
use pbx_ebpf::abi::stats::Reason::*;
use pbx_tests::frames::{Frame, tcp};

use super::{Given::*, Row, allow, block, row, run};

const WEB: &str = "198.51.100.2:80";

fn v4(addr: &str) -> Frame {
    Frame::tcp(format!("{addr}:40000").as_str(), WEB, tcp::ACK)
}

fn v6(addr: &str) -> Frame {
    Frame::tcp(format!("[{addr}]:40000").as_str(), "[2001:db8:ffff::2]:80", tcp::ACK)
}

#[test]
fn the_longest_prefix_wins_and_on_a_tie_allow() {
    run(vec![
        row("no rule", &v4("203.0.113.7"), Passed),
        row("an address", &v4("203.0.113.7"), Manual).given([block("203.0.113.7")]),
        row("its neighbour", &v4("203.0.113.6"), Passed).given([block("203.0.113.7")]),
        row("an allowed address", &v4("203.0.113.7"), Allowed).given([allow("203.0.113.7")]),
        row("the first of a range", &v4("41.202.0.0"), Manual).given([block("41.202.0.0/16")]),
        row("the last of a range", &v4("41.202.255.255"), Manual).given([block("41.202.0.0/16")]),
        row("the one before a range", &v4("41.201.255.255"), Passed).given([block("41.202.0.0/16")]),
        row("the one behind a range", &v4("41.203.0.0"), Passed).given([block("41.202.0.0/16")]),
        row("an allowed address in a blocked range", &v4("41.202.160.2"), Allowed)
            .given([block("41.202.0.0/16"), allow("41.202.160.2")]),
        row("beside it", &v4("41.202.160.3"), Manual).given([block("41.202.0.0/16"), allow("41.202.160.2")]),
        row("a blocked address in an allowed range", &v4("203.0.113.7"), Manual)
            .given([allow("203.0.113.0/24"), block("203.0.113.7")]),
        row("beside it", &v4("203.0.113.8"), Allowed).given([allow("203.0.113.0/24"), block("203.0.113.7")]),
        row("a tie of addresses", &v4("203.0.113.7"), Allowed).given([block("203.0.113.7"), allow("203.0.113.7")]),
        row("a tie of /25s", &v4("203.0.113.7"), Allowed).given([allow("203.0.113.0/25"), block("203.0.113.0/25")]),
        row("a tie of /24s", &v4("203.0.113.7"), Allowed).given([block("203.0.113.0/24"), allow("203.0.113.0/24")]),
        row("a tie of /8s", &v4("203.0.113.7"), Allowed).given([block("203.0.0.0/8"), allow("203.0.0.0/8")]),
        row("0.0.0.0/0", &v4("203.0.113.7"), Manual).given([block("0.0.0.0/0")]),
        row("0.0.0.0/0 and an allowed /25", &v4("203.0.113.7"), Allowed)
            .given([block("0.0.0.0/0"), allow("203.0.113.0/25")]),
        row("0.0.0.0/0 beside an allowed /25", &v4("203.0.113.200"), Manual)
            .given([block("0.0.0.0/0"), allow("203.0.113.0/25")]),
        row("0.0.0.0/0 does not speak of IPv6", &v6("2001:db8::7"), Passed).given([block("0.0.0.0/0")]),
        row("255.255.255.255 as a source", &v4("255.255.255.255"), Manual).given([block("255.255.255.255")]),
        row("an IPv6 address", &v6("2001:db8::7"), Manual).given([block("2001:db8::7")]),
        row("its neighbour", &v6("2001:db8::6"), Passed).given([block("2001:db8::7")]),
        row("a /64", &v6("2001:db8:0:1:ffff::7"), Manual).given([block("2001:db8:0:1::/64")]),
        row("the next /64", &v6("2001:db8:0:2::"), Passed).given([block("2001:db8:0:1::/64")]),
        row("the last of a /64", &v6("2001:db8:0:1:ffff:ffff:ffff:ffff"), Manual).given([block("2001:db8:0:1::/64")]),
        row("an allowed address in a blocked /64", &v6("2001:db8::7"), Allowed)
            .given([block("2001:db8::/64"), allow("2001:db8::7")]),
        row("a blocked address in an allowed /64", &v6("2001:db8::7"), Manual)
            .given([allow("2001:db8::/64"), block("2001:db8::7")]),
        row("a tie of /64s", &v6("2001:db8::7"), Allowed).given([allow("2001:db8::/64"), block("2001:db8::/64")]),
        row("a tie of /128s", &v6("2001:db8::7"), Allowed).given([allow("2001:db8::7"), block("2001:db8::7")]),
        row("a /127", &v6("2001:db8::6"), Manual).given([block("2001:db8::6/127")]),
        row("a /32, the longest listed by itself", &v6("2001:db8::6"), Manual).given([block("2001:db8::/32")]),
        row("a /31, the first of the short ones", &v6("2001:db9::6"), Manual).given([block("2001:db8::/31")]),
        row("::/0", &v6("2001:db8::7"), Manual).given([block("::/0")]),
        row("::/0 speaks of link-local too", &v6("fe80::7"), Manual).given([block("::/0")]),
        row("::/0 does not speak of IPv4", &v4("203.0.113.7"), Passed).given([block("::/0")]),
        row("an allowed /20 under a blocked ::/0", &v6("2001:db8::7"), Allowed)
            .given([block("::/0"), allow("2001::/20")]),
        row("all traffic, UDP", &Frame::udp("203.0.113.7:9", "198.51.100.2:9"), Manual).given([block("203.0.113.7")]),
        row("all traffic, ping", &Frame::ip("203.0.113.7", "198.51.100.2", 1, &[8; 16]), Manual)
            .given([block("203.0.113.7")]),
        row("under monitor", &v4("203.0.113.7"), WouldManual)
            .given([block("203.0.113.7"), Set("filter.mode", "monitor")]),
        row("switched off", &v4("203.0.113.7"), Passed)
            .given([block("203.0.113.7"), Set("guard.manual.enforcement", "off")]),
    ]);
}

#[test]
fn every_length_of_both_families_is_found() {
    let mut rows = Vec::new();
    for (inside, behind, lengths) in
        [("203.0.113.7", "12.0.113.7", 1..=32u8), ("2001:db8:7::7", "f001:db8:7::7", 1..=128)]
    {
        for len in lengths {
            let prefix: &'static str = Box::leak(format!("{inside}/{len}").into_boxed_str());
            let frame = |addr: &str| if addr.contains(':') { v6(addr) } else { v4(addr) };
            rows.push(row(prefix, &frame(inside), Manual).given([block(prefix)]));
            rows.push(row(prefix, &frame(behind), Passed).given([block(prefix)]));
            rows.push(row(prefix, &frame(inside), Manual).given([RuleFor(Block, prefix, 4), AtTick(4, -1)]));
            rows.push(row(prefix, &frame(inside), Passed).given([RuleFor(Block, prefix, 4), AtTick(4, 0)]));
        }
    }
    run(rows);
}

#[test]
fn many_lengths_over_one_address_are_asked_longest_first() {
    let given = |family: &str, from: u8| -> Vec<super::Given> {
        let rule = |len: u8| {
            let prefix: &'static str = Box::leak(format!("{family}/{len}").into_boxed_str());
            if len.is_multiple_of(2) { block(prefix) } else { allow(prefix) }
        };
        (1..=from).map(rule).collect()
    };
    let mut rows = Vec::new();
    for longest in [7, 8, 9, 15, 16, 17, 24, 25, 30, 31, 32] {
        let says = if longest % 2 == 0 { Manual } else { Allowed };
        rows.push(row("IPv4", &v4("203.0.113.7"), says).given(given("203.0.113.7", longest)));
    }
    for longest in [7, 8, 9, 16, 17, 31, 32, 33, 40, 41, 48, 49, 64, 65, 127, 128] {
        let says = if longest % 2 == 0 { Manual } else { Allowed };
        rows.push(row("IPv6", &v6("2001:db8:7::7"), says).given(given("2001:db8:7::7", longest)));
    }
    run(rows);
}

#[test]
fn a_rule_whose_time_is_over_leaves_the_word_to_the_next_wider_one() {
    let mut rows: Vec<Row> = Vec::new();
    for (wide, narrow, frame) in [
        ("203.0.113.0/24", "203.0.113.7", v4("203.0.113.7")),
        ("203.0.0.0/16", "203.0.113.0/24", v4("203.0.113.7")),
        ("203.0.113.0/24", "203.0.113.0/28", v4("203.0.113.7")),
        ("203.0.113.0/25", "203.0.113.7", v4("203.0.113.7")),
        ("0.0.0.0/0", "203.0.113.7", v4("203.0.113.7")),
        ("2001:db8::/64", "2001:db8::7", v6("2001:db8::7")),
        ("2001:db8::/32", "2001:db8::/64", v6("2001:db8::7")),
        ("2000::/8", "2001:db8::/32", v6("2001:db8::7")),
        ("::/0", "2001:db8::7", v6("2001:db8::7")),
    ] {
        let at = |name, ns, says| row(name, &frame, says).given([AtTick(5, ns)]);
        let first = |r: Row, given: [super::Given; 2]| Row { given: given.into_iter().chain(r.given).collect(), ..r };
        let blocked = || [allow(wide), RuleFor(Block, narrow, 5)];
        rows.push(first(at("a block, a nanosecond before its end", -1, Manual), blocked()));
        rows.push(first(at("a block at its end", 0, Allowed), blocked()));
        rows.push(first(at("a block after its end", 1, Allowed), blocked()));
        let allowed = || [block(wide), RuleFor(Allow, narrow, 5)];
        rows.push(first(at("an allow, a nanosecond before its end", -1, Allowed), allowed()));
        rows.push(first(at("an allow at its end", 0, Manual), allowed()));
        let tie = || [block(narrow), RuleFor(Allow, narrow, 5)];
        rows.push(first(at("an allow beside a block, before its end", -1, Allowed), tie()));
        rows.push(first(at("an allow beside a block, at its end", 0, Manual), tie()));
        let tie = || [RuleFor(Block, narrow, 5), RuleFor(Allow, narrow, 3)];
        rows.push(first(at("both end, the block last", -1, Manual), tie()));
        rows.push(first(at("both have ended", 0, Passed), tie()));
        let both = || [RuleFor(Block, wide, 5), RuleFor(Allow, narrow, 3)];
        rows.push(first(at("the wider one also ends", -1, Manual), both()));
        rows.push(first(at("the wider one has ended", 0, Passed), both()));
    }
    let far = 1 << 29;
    rows.push(
        row("an end beyond a slot's ticks", &v4("203.0.113.7"), Manual)
            .given([RuleFor(Block, "203.0.113.7", far), AtTick(far, -1)]),
    );
    rows.push(
        row("an end beyond a slot's ticks has come", &v4("203.0.113.7"), Passed)
            .given([RuleFor(Block, "203.0.113.7", far), AtTick(far, 0)]),
    );
    run(rows);
}
