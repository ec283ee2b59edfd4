//! Levels under monitor: told once, counted, never dropping, and forgotten when the rule is enforced.

use pbx_ebpf::abi::stats::Reason::*;

use super::{BLOCKED, WOULD_BLOCK, sip, told};
use crate::pair::{Pair, SECOND, with_pair};

fn small(pair: &mut Pair) {
    pair.set("guard.level1.packets", "4");
    pair.set("guard.level2.packets", "8");
}

#[test]
fn under_monitor_nothing_drops_and_each_level_is_told_once() {
    with_pair(|pair| {
        small(pair);
        pair.set("filter.mode", "monitor");
        let start = pair.now;
        for second in 0..20 {
            for n in 0..300 {
                let seen = pair.judge(&sip("198.51.100.1").build());
                assert!(!seen.reason.drops(), "packet {n} of second {second}: {seen:?}");
            }
            pair.now += SECOND + SECOND / 10;
        }
        let expected = [(WOULD_BLOCK, 1, start + 30 * SECOND), (WOULD_BLOCK, 2, start + 3600 * SECOND)];
        assert_eq!(told(&pair.events()), expected);
    });
}

#[test]
fn a_would_block_is_counted_and_told_again_when_its_time_is_over() {
    with_pair(|pair| {
        small(pair);
        pair.set("guard.level1.enforcement", "monitor");
        pair.set("guard.level2.enforcement", "off");
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, WouldLevel);
        pair.repeat(&frame, 1, WouldAutomatic);
        assert_eq!(told(&pair.events()), [(WOULD_BLOCK, 1, pair.now + 30 * SECOND)]);
        pair.now += 30 * SECOND;
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, WouldLevel);
        pair.repeat(&frame, 1, WouldAutomatic);
        assert_eq!(told(&pair.events()), [(WOULD_BLOCK, 1, pair.now + 30 * SECOND)]);
    });
}

#[test]
fn a_would_block_is_discarded_when_its_rule_goes_to_enforce() {
    with_pair(|pair| {
        small(pair);
        pair.set("filter.mode", "monitor");
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, WouldLevel);
        pair.events();
        pair.now += 5 * SECOND;
        pair.set("filter.mode", "enforce");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, Level1);
        pair.repeat(&frame, 1, Automatic);
        assert_eq!(told(&pair.events()), [(BLOCKED, 1, pair.now + 30 * SECOND)]);
    });
}

#[test]
fn a_block_survives_a_spell_of_monitor() {
    with_pair(|pair| {
        small(pair);
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, Level1);
        pair.set("filter.mode", "monitor");
        pair.now += 2 * SECOND;
        for _ in 0..300 {
            assert!(!pair.says(&frame).drops());
        }
        pair.set("filter.mode", "enforce");
        pair.now += 2 * SECOND;
        pair.repeat(&frame, 1, Automatic);
        assert_eq!(pair.events().len(), 1);
    });
}

#[test]
fn one_level_monitors_while_the_other_acts() {
    with_pair(|pair| {
        small(pair);
        pair.set("guard.level1.enforcement", "monitor");
        let frame = sip("198.51.100.1");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, WouldLevel);
        pair.repeat(&frame, 3, WouldAutomatic);
        pair.repeat(&frame, 1, Level2);
        pair.repeat(&frame, 9, Automatic);
        let ends = [(WOULD_BLOCK, 1, pair.now + 30 * SECOND), (BLOCKED, 2, pair.now + 3600 * SECOND)];
        assert_eq!(told(&pair.events()), ends);
        pair.begin();
        small(pair);
        pair.set("guard.level2.enforcement", "monitor");
        pair.repeat(&frame, 4, Counted);
        pair.repeat(&frame, 1, Level1);
        pair.repeat(&frame, 20, Automatic);
        // Level 2 is told once as well, and raises nothing.
        let ends = [(BLOCKED, 1, pair.now + 30 * SECOND), (WOULD_BLOCK, 2, pair.now + 3600 * SECOND)];
        assert_eq!(told(&pair.events()), ends);
    });
}
