//! Too many new sources, or no room for another block: police only, and say so once.

use std::net::{IpAddr, Ipv4Addr};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use pbx_ebpf::abi::{Source, automatic, guard::CALM, stats::Reason::*};

use super::{BLOCKED, FULL, GUARD_OFF, GUARD_ON, sip, told};
use crate::pair::{Pair, SECOND, source, with_pair};

/// New sources are gathered per CPU before they are added up: the test stays on one.
fn stay_on_one_cpu() {
    let mut one = CpuSet::new();
    one.set(0).expect("CPU 0");
    sched_setaffinity(Pid::from_raw(0), &one).expect("CPU 0 may be used");
}

fn strangers(pair: &mut Pair, from: u32, n: u32) {
    for i in from..from + n {
        let addr = Ipv4Addr::from(0x0a00_0000 + i).to_string();
        assert_eq!(pair.says(&sip(&addr)), Counted);
    }
}

fn guarded(test: impl FnOnce(&mut Pair) + Send) {
    with_pair(|pair| {
        stay_on_one_cpu();
        pair.set("guard.new_sources", "1000");
        pair.set("guard.level1.packets", "4");
        pair.set("guard.level2.packets", "8");
        test(pair);
    });
}

#[test]
fn too_many_new_sources_in_a_second_end_the_making_of_blocks_until_ten_seconds_of_calm() {
    guarded(|pair| {
        strangers(pair, 0, 992);
        assert!(pair.events().is_empty());
        strangers(pair, 992, 3000);
        assert_eq!(told(&pair.events()), [(GUARD_ON, 0, 0)]);
        let high = pair.now;
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 300, Policed);
        pair.now = high + CALM - 1;
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, Policed);
        assert!(pair.events().is_empty());
        assert!(pair.kernel.maps.blocks().expect("AUTOMATIC can be read").is_empty());
        pair.now = high + CALM;
        pair.now += 2 * SECOND;
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, Level1);
        assert_eq!(told(&pair.events()), [(GUARD_OFF, 0, 0), (BLOCKED, 1, pair.now + 30 * SECOND)]);
    });
}

#[test]
fn the_guard_stays_on_above_half_of_its_limit_and_goes_off_below() {
    guarded(|pair| {
        strangers(pair, 0, 1100);
        assert_eq!(pair.events().len(), 1);
        let frame = sip("198.51.100.1");
        for second in 1..=15 {
            pair.now += 2 * SECOND;
            strangers(pair, second * 10_000, 600);
            pair.repeat(&frame, 4, Counted);
            pair.repeat(&frame, 1, Policed);
        }
        assert!(pair.events().is_empty());
        for second in 16..=20 {
            pair.now += 2 * SECOND;
            strangers(pair, second * 10_000, 400);
        }
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, Level1);
        assert_eq!(told(&pair.events())[0], (GUARD_OFF, 0, 0));
    });
}

#[test]
fn blocks_that_were_made_before_go_on_under_the_guard_and_are_not_raised() {
    guarded(|pair| {
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, Level1);
        strangers(pair, 0, 1100);
        pair.repeat(&frame, 100, Automatic);
        assert_eq!(told(&pair.events()), [(BLOCKED, 1, pair.now + 30 * SECOND), (GUARD_ON, 0, 0)]);
    });
}

#[test]
fn at_the_cap_of_blocks_the_excess_is_policed_and_one_event_says_so() {
    guarded(|pair| {
        let blocks = || (0..automatic::MAX).map(|i| source(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + i))));
        blocks().for_each(|of| pair.blocked(of, 1, 0, 3600 * SECOND));
        let free = |pair: &mut Pair, of: Source| {
            assert!(pair.kernel.maps.remove_block(of, false).expect("AUTOMATIC can be written"));
            assert!(pair.host.remove_block(of, |_| true));
        };
        for host in 1..=3 {
            let frame = sip(&format!("198.51.100.{host}"));
            pair.repeat(&frame, 4, Counted);
            pair.repeat(&frame, 200, Policed);
        }
        assert_eq!(told(&pair.events()), [(FULL, 0, 0)]);
        pair.repeat(&sip("11.0.0.7"), 1, Automatic);
        // Room again: the next packet that tries makes its block; then it is full again, which is told again.
        let first = blocks().next().expect("some");
        free(pair, first);
        pair.now += 2 * SECOND;
        for host in 1..=3 {
            let frame = sip(&format!("198.51.100.{host}"));
            pair.repeat(&frame, 4, Counted);
            pair.repeat(&frame, 1, if host == 1 { Level1 } else { Policed });
        }
        assert_eq!(told(&pair.events()), [(BLOCKED, 1, pair.now + 30 * SECOND), (FULL, 0, 0)]);
    });
}
