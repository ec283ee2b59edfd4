//! Samples of dropped packets: one in so many, all of them while somebody looks, within a budget.

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use pbx_core::rule::Action;
use pbx_ebpf::abi::{
    settings::{TAP_SAMPLES, TAP_SPAN},
    stats::Reason::*,
};
use pbx_tests::frames::Frame;

use crate::pair::{Pair, SECOND, with_pair};

/// Every packet of a blocked source; one in 64 is sampled.
fn blocked(test: impl FnOnce(&mut Pair, &Frame) + Send) {
    with_pair(|pair| {
        // What is sampled is counted by CPU.
        let mut one = CpuSet::new();
        one.set(0).expect("a first CPU");
        sched_setaffinity(Pid::from_raw(0), &one).expect("a thread may choose its CPU");
        let prefix = "198.51.100.1".parse().expect("an address");
        pair.rule(&prefix, Action::Block, Some(pbx_core::filter::Until::Forever));
        pair.set("filter.sample_rate", "64");
        pair.samples();
        test(pair, &Frame::udp("198.51.100.1:9", "192.0.2.2:5060"));
    });
}

#[test]
fn one_in_so_many_dropped_packets_is_a_sample_and_says_for_how_many_it_stands() {
    blocked(|pair, frame| {
        pair.repeat(frame, 640, Manual);
        assert_eq!(pair.samples(), [64; 10]);
        pair.set("filter.sample_rate", "0");
        pair.repeat(frame, 640, Manual);
        assert!(pair.samples().is_empty());
        // What passes is none.
        pair.set("filter.sample_rate", "1");
        pair.repeat(&Frame::udp("198.51.100.2:9", "192.0.2.2:5060"), 10, Counted);
        assert!(pair.samples().is_empty());
    });
}

#[test]
fn every_dropped_packet_is_a_sample_while_somebody_looks_and_not_when_a_dead_daemon_did() {
    blocked(|pair, frame| {
        pair.sample(1);
        pair.kernel.maps.tap_until(pair.now + SECOND);
        pair.repeat(frame, 64, Manual);
        assert_eq!(pair.samples(), [1; 64]);
        pair.now += SECOND - 1;
        pair.repeat(frame, 64, Manual);
        assert_eq!(pair.samples(), [1; 64]);
        // Nobody moved the time on: the daemon is gone.
        pair.now += 1;
        pair.repeat(frame, 640, Manual);
        assert_eq!(pair.samples(), [64; 10]);
        pair.set("filter.sample_rate", "0");
        pair.sample(1);
        pair.repeat(frame, 640, Manual);
        assert!(pair.samples().is_empty());
    });
}

#[test]
fn a_flood_is_sampled_within_a_budget_and_what_is_over_it_is_counted() {
    blocked(|pair, frame| {
        // A whole span of the budget lies ahead.
        pair.now = ((pair.now >> TAP_SPAN) + 1) << TAP_SPAN;
        pair.sample(1);
        pair.kernel.maps.tap_until(pair.now + 10 * SECOND);
        let lost = |pair: &Pair| pair.kernel.maps.samples_lost().expect("TAPPED can be read");
        let before = lost(pair);
        let mut sampled = 0;
        for _ in 0..TAP_SAMPLES {
            pair.repeat(frame, 1, Manual);
            sampled += pair.samples().len() as u64;
        }
        assert_eq!((sampled, lost(pair) - before), (TAP_SAMPLES, 0));
        pair.repeat(frame, 7, Manual);
        assert!(pair.samples().is_empty());
        assert_eq!(lost(pair) - before, 7);
        pair.now += 1 << TAP_SPAN;
        pair.repeat(frame, 5, Manual);
        assert_eq!(pair.samples(), [1; 5], "another second");
    });
}
