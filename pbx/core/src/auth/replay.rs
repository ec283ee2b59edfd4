//! Whether a nonce and its count were there before (RFC 7616 §3.4, `nc`). In the core, after retransmissions were
//! absorbed, and only for what was proven right: no outsider can fill it. Memory is fixed when it is made.
//!
//! A set of four nonces shares a place; a fifth one pushes the one issued first out, and the place remembers when that
//! was. An unknown nonce of that time or before counts as used: what was forgotten costs a phone one more challenge,
//! and never lets a copy in.

use crate::moment::Moment;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Not there before: go on.
    Fresh,
    /// There before, or no longer known: a new challenge with `stale=true`, which counts as no failure.
    Replayed,
}

/// The nonces that were used.
pub struct Replay {
    sets: Box<[Set]>,
}

const WAYS: usize = 4;

#[derive(Clone, Copy, Default)]
struct Set {
    used: [Used; WAYS],
    /// Unknown nonces issued before this (microseconds) may have been pushed out.
    forgotten: u64,
}

/// A nonce and the counts that came with it.
#[derive(Clone, Copy, Default)]
struct Used {
    id: u64,
    /// Microseconds.
    issued: u64,
    /// Bit n: `highest` − n was there. 0: no nonce stands here.
    seen: u64,
    highest: u32,
}

impl Replay {
    /// For 65,536 nonces: 2.6 MiB.
    pub const DEFAULT_NONCES: usize = 65_536;

    /// Remembers so many nonces, rounded up to 4 times a power of two.
    pub fn new(nonces: usize) -> Self {
        let sets = nonces.div_ceil(WAYS).max(1).next_power_of_two();
        Self { sets: vec![Set::default(); sets].into() }
    }

    /// Takes note of a count of a nonce. Counts may come out of order, up to 63 behind the highest; a count of 0 is a
    /// nonce that serves once.
    pub fn check(&mut self, id: u64, issued: Moment, nc: u32) -> Reuse {
        let mask = self.sets.len() - 1;
        let place = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        self.sets[place].check(id, issued.as_micros(), nc)
    }
}

impl Set {
    fn check(&mut self, id: u64, issued: u64, nc: u32) -> Reuse {
        let is_it = |used: &&mut Used| used.seen != 0 && used.id == id && used.issued == issued;
        if let Some(used) = self.used.iter_mut().find(is_it) {
            return used.count(nc);
        }
        if issued < self.forgotten {
            return Reuse::Replayed;
        }
        let new = Used { id, issued, seen: 1, highest: nc };
        // The free one first, then the one issued first: it is the first to become stale.
        let [first, rest @ ..] = &mut self.used;
        let oldest = rest.iter_mut().fold(first, |oldest, used| if used.age() < oldest.age() { used } else { oldest });
        if oldest.seen == 0 {
            *oldest = new;
        } else {
            let forgotten = if oldest.issued < issued { std::mem::replace(oldest, new) } else { new };
            self.forgotten = self.forgotten.max(forgotten.issued.saturating_add(1));
        }
        Reuse::Fresh
    }
}

impl Used {
    /// Free ones come before all others.
    fn age(&self) -> (bool, u64) {
        (self.seen != 0, self.issued)
    }

    fn count(&mut self, nc: u32) -> Reuse {
        if nc > self.highest {
            self.seen = self.seen.checked_shl(nc - self.highest).unwrap_or(0) | 1;
            self.highest = nc;
            return Reuse::Fresh;
        }
        match 1_u64.checked_shl(self.highest - nc) {
            Some(bit) if self.seen & bit == 0 => {
                self.seen |= bit;
                Reuse::Fresh
            }
            _ => Reuse::Replayed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const AT: Moment = Moment::from_micros(1_000);

    #[test]
    fn a_count_is_accepted_once() {
        let mut replay = Replay::new(16);
        assert_eq!(replay.check(1, AT, 1), Reuse::Fresh);
        assert_eq!(replay.check(1, AT, 1), Reuse::Replayed);
        assert_eq!(replay.check(1, AT, 2), Reuse::Fresh);
        assert_eq!(replay.check(2, AT, 1), Reuse::Fresh);
    }

    #[test]
    fn counts_may_come_out_of_order_within_64() {
        let mut replay = Replay::new(16);
        assert_eq!(replay.check(1, AT, 100), Reuse::Fresh);
        assert_eq!(replay.check(1, AT, 37), Reuse::Fresh);
        assert_eq!(replay.check(1, AT, 37), Reuse::Replayed);
        assert_eq!(replay.check(1, AT, 36), Reuse::Replayed);
        assert_eq!(replay.check(1, AT, 99), Reuse::Fresh);
        assert_eq!(replay.check(1, AT, u32::MAX), Reuse::Fresh);
        assert_eq!(replay.check(1, AT, 100), Reuse::Replayed);
    }

    #[test]
    fn a_nonce_without_counts_serves_once() {
        let mut replay = Replay::new(16);
        assert_eq!(replay.check(1, AT, 0), Reuse::Fresh);
        assert_eq!(replay.check(1, AT, 0), Reuse::Replayed);
    }

    #[test]
    fn a_forgotten_nonce_counts_as_used_and_a_newer_one_does_not() {
        let mut replay = Replay::new(4);
        let at = Moment::from_micros;
        for id in 0..5 {
            assert_eq!(replay.check(id, at(10 + id), 1), Reuse::Fresh);
        }
        assert_eq!(replay.check(0, at(10), 1), Reuse::Replayed);
        assert_eq!(replay.check(0, at(10), 2), Reuse::Replayed);
        assert_eq!(replay.check(4, at(14), 2), Reuse::Fresh);
        assert_eq!(replay.check(9, at(15), 1), Reuse::Fresh);
    }

    #[test]
    fn a_nonce_older_than_all_others_is_used_and_at_once_forgotten() {
        let mut replay = Replay::new(4);
        for id in 0..4 {
            assert_eq!(replay.check(id, Moment::from_micros(20 + id), 1), Reuse::Fresh);
        }
        assert_eq!(replay.check(9, Moment::from_micros(5), 1), Reuse::Fresh);
        assert_eq!(replay.check(9, Moment::from_micros(5), 1), Reuse::Replayed);
        assert_eq!(replay.check(0, Moment::from_micros(20), 2), Reuse::Fresh);
    }

    #[test]
    fn ten_thousand_phones_are_hardly_ever_asked_twice() {
        let mut replay = Replay::new(Replay::DEFAULT_NONCES);
        let again = (0..10_000_u64).map(|id| (id.wrapping_mul(0xd129_0bd3_3a7f_6d27), Moment::from_micros(id)));
        let nonces: Vec<_> = again.collect();
        for nc in 1..=3 {
            let refused = nonces.iter().filter(|(id, at)| replay.check(*id, *at, nc) == Reuse::Replayed);
            assert!(refused.count() < 20);
        }
    }

    #[test]
    fn the_memory_is_what_was_asked_for() {
        assert_eq!(Replay::new(65_536).sets.len() * size_of::<Set>(), 65_536 / 4 * 136);
        assert_eq!(Replay::new(0).sets.len(), 1);
    }

    proptest! {
        /// The model remembers everything.
        #[test]
        fn nothing_is_accepted_twice(
            uses in proptest::collection::vec((0..40_u64, prop_oneof![0..5_u32, 60..70_u32, Just(u32::MAX)]), 0..400),
            nonces in 1..64_usize,
        ) {
            let mut replay = Replay::new(nonces);
            let mut seen = BTreeSet::new();
            for (id, nc) in uses {
                let fresh = replay.check(id, Moment::from_micros(id / 3 * 1000), nc) == Reuse::Fresh;
                prop_assert!(!(fresh && seen.contains(&(id, nc))));
                if fresh {
                    seen.insert((id, nc));
                }
            }
        }

        #[test]
        fn within_its_memory_counts_in_order_are_all_accepted(rounds in 1..50_u32, ids in 1..5_u64) {
            let mut replay = Replay::new(4);
            for nc in 1..=rounds {
                for id in 0..ids.min(4) {
                    prop_assert_eq!(replay.check(id, Moment::from_micros(id), nc), Reuse::Fresh);
                }
            }
        }
    }
}
