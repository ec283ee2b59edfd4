//! Level 1 and level 2 with exact edges.

use std::net::IpAddr;

use pbx_ebpf::abi::stats::Reason::*;

use super::{BLOCKED, RAISED, sip, told, window_end};
use crate::pair::{SECOND, with_pair};

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn exactly_500_packets_pass_in_the_second_that_begins_with_the_first() {
    with_pair(|pair| {
        let frame = sip("198.51.100.1");
        // The window begins with the packet, not with a second of the clock.
        pair.now += 123_456_789;
        let (last, _) = window_end(pair.now);
        pair.repeat(&frame, 1, Counted);
        pair.now += SECOND / 2;
        pair.repeat(&frame, 498, Counted);
        pair.now = last;
        pair.repeat(&frame, 1, Counted);
        assert_eq!(pair.block_of(addr("198.51.100.1")), None);
        assert!(pair.events().is_empty());
        pair.repeat(&frame, 1, Level1);
        let block = pair.block_of(addr("198.51.100.1")).expect("blocked");
        assert_eq!((block.since, block.expires, block.level, block.count), (last, last + 30 * SECOND, 1, 501));
        assert_eq!(told(&pair.events()), [(BLOCKED, 1, last + 30 * SECOND)]);
    });
}

#[test]
fn a_new_window_begins_with_the_first_packet_behind_the_old_one() {
    with_pair(|pair| {
        let frame = sip("198.51.100.1");
        for _ in 0..3 {
            let (last, next) = window_end(pair.now);
            assert!((SECOND - 500_000..=SECOND).contains(&(next - pair.now)), "a window lasts {} ns", next - pair.now);
            pair.repeat(&frame, 499, Counted);
            pair.now = last;
            pair.repeat(&frame, 1, Counted);
            pair.now = next;
        }
        pair.repeat(&frame, 500, Counted);
        pair.repeat(&frame, 1, Level1);
    });
}

#[test]
fn a_source_that_sends_evenly_at_its_limit_is_never_blocked() {
    with_pair(|pair| {
        let frame = sip("198.51.100.1");
        pair.now += 77_777;
        for _ in 0..2500 {
            pair.repeat(&frame, 1, Counted);
            pair.now += SECOND / 500;
        }
    });
}

#[test]
fn a_level_1_block_lasts_its_time_to_the_nanosecond_and_another_source_is_not_touched() {
    with_pair(|pair| {
        let (frame, other) = (sip("198.51.100.1"), sip("198.51.100.2"));
        pair.repeat(&frame, 500, Counted);
        pair.repeat(&frame, 1, Level1);
        let made = pair.now;
        pair.repeat(&frame, 1, Automatic);
        pair.repeat(&other, 1, Counted);
        pair.now = made + 30 * SECOND - 1;
        pair.repeat(&frame, 1, Automatic);
        pair.now = made + 30 * SECOND;
        pair.repeat(&frame, 1, Counted);
        let passed = pair.says(&frame);
        assert_eq!(passed, Counted);
    });
}

#[test]
fn level_2_is_reached_in_the_same_second_and_told_once() {
    with_pair(|pair| {
        let frame = sip("198.51.100.1");
        let start = pair.now;
        pair.repeat(&frame, 500, Counted);
        pair.repeat(&frame, 1, Level1);
        pair.repeat(&frame, 1499, Automatic);
        pair.repeat(&frame, 1, Level2);
        pair.repeat(&frame, 3000, Automatic);
        let ends = start + 3600 * SECOND;
        assert_eq!(told(&pair.events()), [(BLOCKED, 1, start + 30 * SECOND), (RAISED, 2, ends)]);
        pair.now = ends - 1;
        pair.repeat(&frame, 1, Automatic);
        pair.now = ends;
        pair.repeat(&frame, 1, Counted);
        assert!(pair.events().is_empty());
    });
}

#[test]
fn level_2_is_reached_in_any_later_second_of_a_level_1_block() {
    with_pair(|pair| {
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 500, Counted);
        pair.repeat(&frame, 1, Level1);
        for second in 1..=3 {
            pair.now += 2 * SECOND + second;
            pair.repeat(&frame, 2000, Automatic);
        }
        assert_eq!(pair.events().len(), 1);
        pair.repeat(&frame, 1, Level2);
        assert_eq!(told(&pair.events()), [(RAISED, 2, pair.now + 3600 * SECOND)]);
        assert_eq!(pair.block_of(addr("198.51.100.1")).map(|b| (b.level, b.count)), Some((2, 2001)));
    });
}

#[test]
fn level_2_never_shortens_a_block() {
    with_pair(|pair| {
        pair.set("guard.level1.block_time", "2h");
        pair.set("guard.level2.block_time", "10s");
        let frame = sip("198.51.100.1");
        let ends = pair.now + 7200 * SECOND;
        pair.repeat(&frame, 500, Counted);
        pair.repeat(&frame, 1, Level1);
        pair.repeat(&frame, 1499, Automatic);
        pair.repeat(&frame, 1, Level2);
        assert_eq!(told(&pair.events()), [(BLOCKED, 1, ends), (RAISED, 2, ends)]);
        pair.now = ends - 1;
        pair.repeat(&frame, 1, Automatic);
        pair.now = ends;
        pair.repeat(&frame, 1, Counted);
    });
}

#[test]
fn each_level_works_without_the_other() {
    with_pair(|pair| {
        pair.set("guard.level1.enforcement", "off");
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 2000, Counted);
        pair.repeat(&frame, 1, Level2);
        assert_eq!(told(&pair.events()), [(BLOCKED, 2, pair.now + 3600 * SECOND)]);
        pair.begin();
        pair.set("guard.level2.enforcement", "off");
        pair.repeat(&frame, 500, Counted);
        pair.repeat(&frame, 1, Level1);
        pair.repeat(&frame, 3000, Automatic);
        assert_eq!(told(&pair.events()), [(BLOCKED, 1, pair.now + 30 * SECOND)]);
        pair.begin();
        pair.set("filter.mode", "off");
        pair.repeat(&frame, 3000, Counted);
        assert!(pair.events().is_empty());
    });
}

#[test]
fn ipv6_counts_and_blocks_by_64_and_in_local_networks_by_address() {
    with_pair(|pair| {
        pair.set("guard.level1.packets", "4");
        pair.repeat(&sip("2001:db8:1::1"), 2, Counted);
        pair.repeat(&sip("2001:db8:1::2"), 2, Counted);
        pair.repeat(&sip("2001:db8:1::3"), 1, Level1);
        pair.repeat(&sip("2001:db8:1::4"), 1, Automatic);
        pair.repeat(&sip("2001:db8:1:1::4"), 1, Counted);
        pair.set("network.local_networks", "2001:db8:7::/48");
        for host in 1..=5 {
            pair.repeat(&sip(&format!("2001:db8:7::{host}")), 4, Counted);
        }
        pair.repeat(&sip("2001:db8:7::1"), 1, Level1);
        pair.repeat(&sip("2001:db8:7::1"), 1, Automatic);
        pair.repeat(&sip("2001:db8:7::6"), 4, Counted);
        assert_eq!(pair.block_of(addr("2001:db8:7::1")).map(|b| b.level), Some(1));
    });
}

#[test]
fn link_local_and_unspecified_sources_are_policed_and_never_blocked() {
    with_pair(|pair| {
        pair.set("guard.level1.packets", "4");
        pair.set("guard.level2.packets", "6");
        for source in ["fe80::1", "febf::1", "::", "0.0.0.0"] {
            let frame = sip(source);
            pair.repeat(&frame, 4, Counted);
            pair.repeat(&frame, 200, Policed);
            assert_eq!(pair.block_of(addr(source)), None);
            pair.now += 2 * SECOND;
            pair.repeat(&frame, 4, Counted);
        }
        assert!(pair.events().is_empty());
        // Its neighbour on the link is counted apart.
        pair.repeat(&sip("fe80::2"), 4, Counted);
    });
}

#[test]
fn first_fragments_count_for_the_levels_by_their_port() {
    with_pair(|pair| {
        pair.set("guard.level1.packets", "2");
        for (source, elsewhere) in [("198.51.100.9", "192.0.2.2:9"), ("2001:db8:9::9", "[2001:db8::2]:9")] {
            let first = sip(source).fragment(0, true);
            pair.repeat(&first, 2, Counted);
            pair.repeat(&first, 1, Level1);
            let from = if source.contains(':') { format!("[{source}]:9") } else { format!("{source}:9") };
            pair.repeat(&pbx_tests::frames::Frame::udp(from.as_str(), elsewhere).fragment(0, true), 1, Passed);
        }
    });
}
