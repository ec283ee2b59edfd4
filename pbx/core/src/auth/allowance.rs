//! How many challenges a source may ask for. Asked by every receive worker before a challenge is written; beyond the
//! limits an unknown source gets silence, which the caller counts. Memory is fixed, nothing is locked.
//!
//! Each source has a bucket of one second's worth, refilled steadily (the generic cell rate algorithm: the bucket is
//! the one number of when it will be full again). There are 65,536 buckets, found by a seeded hash; sources that meet
//! in one share it, and nobody outside can tell which those are. The limit of a source is asked first, that of all
//! only when it allows, so that one source alone cannot use up what is there for all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::moment::Moment;

/// Challenges a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a source; 0: none at all.
    pub per_source: u32,
    /// For all sources together; 0: none at all.
    pub in_all: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_source: 50, in_all: 5000 }
    }
}

/// What the limits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Within them; one challenge fewer is left.
    Granted,
    /// This source has had its share.
    SourceSpent,
    /// All sources together have had theirs.
    AllSpent,
}

/// What is left for each source and for all.
pub struct Allowance {
    sources: Box<[Bucket]>,
    all: Bucket,
    seed: [u64; 2],
}

impl Allowance {
    const SOURCES: usize = 65_536;

    /// Nothing spent yet: 512 KiB. The seed is 128 random bits.
    pub fn new(seed: [u64; 2]) -> Self {
        let sources = std::iter::repeat_with(Bucket::default).take(Self::SOURCES).collect();
        Self { sources, all: Bucket::default(), seed }
    }

    /// Whether `source` may have a challenge now. A source is an IPv4 address or an IPv6 /64, as the caller numbers
    /// them.
    pub fn ask(&self, source: u128, limits: Limits, now: Moment) -> Answer {
        if !self.sources[self.place(source)].take(limits.per_source, now) {
            Answer::SourceSpent
        } else if !self.all.take(limits.in_all, now) {
            Answer::AllSpent
        } else {
            Answer::Granted
        }
    }

    fn place(&self, source: u128) -> usize {
        let mix = |one: u64, two: u64| {
            let product = u128::from(one) * u128::from(two);
            (product as u64) ^ (product >> 64) as u64
        };
        let [one, two] = self.seed;
        let hash = mix(source as u64 ^ one, (source >> 64) as u64 ^ two);
        mix(hash ^ two, one | 1) as usize % Self::SOURCES
    }
}

/// When, in nanoseconds, a bucket is full again.
#[derive(Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one of `rate` a second. Never grants more than `rate` at once and `rate` more each second after that,
    /// however many ask; a clock that is a little behind another worker's only makes it stricter.
    fn take(&self, rate: u32, now: Moment) -> bool {
        const SECOND: u64 = 1_000_000_000;
        if rate == 0 {
            return false;
        }
        let now = now.as_micros().saturating_mul(1000);
        let (step, latest) = (SECOND / u64::from(rate), now.saturating_add(SECOND));
        let after = |full: u64| {
            let next = full.max(now).saturating_add(step);
            (next <= latest).then_some(next)
        };
        self.0.fetch_update(Relaxed, Relaxed, after).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    const AT: Moment = Moment::from_micros(10_000_000);

    fn granted(allowance: &Allowance, source: u128, asked: u32, now: Moment) -> u32 {
        let ask = |_: &u32| allowance.ask(source, Limits::default(), now) == Answer::Granted;
        (0..asked).filter(ask).count() as u32
    }

    #[test]
    fn a_source_gets_fifty_at_once_and_fifty_a_second_after_that() {
        let allowance = Allowance::new([1, 2]);
        assert_eq!(granted(&allowance, 1, 1000, AT), 50);
        assert_eq!(allowance.ask(1, Limits::default(), AT), Answer::SourceSpent);
        assert_eq!(granted(&allowance, 1, 1000, AT + Duration::from_millis(500)), 25);
        assert_eq!(granted(&allowance, 1, 1000, AT + Duration::from_millis(1500)), 50);
        assert_eq!(granted(&allowance, 1, 1000, AT + Duration::from_secs(1_000_000)), 50);
    }

    #[test]
    fn one_sources_flood_leaves_another_its_share() {
        let allowance = Allowance::new([1, 2]);
        granted(&allowance, 1, 1_000_000, AT);
        assert_eq!(granted(&allowance, 2, 50, AT), 50);
    }

    #[test]
    fn all_together_get_five_thousand() {
        let allowance = Allowance::new([1, 2]);
        let total: u32 = (0..50_000).map(|source| granted(&allowance, source, 1, AT)).sum();
        assert_eq!(total, 5000);
        assert_eq!(allowance.ask(60_000, Limits::default(), AT), Answer::AllSpent);
    }

    #[test]
    fn a_limit_of_none_grants_none() {
        let allowance = Allowance::new([1, 2]);
        let none = Limits { per_source: 0, in_all: 5000 };
        assert_eq!(allowance.ask(1, none, AT), Answer::SourceSpent);
        assert_eq!(allowance.ask(1, Limits { per_source: 50, in_all: 0 }, AT), Answer::AllSpent);
    }

    #[test]
    fn addresses_side_by_side_are_spread_and_the_seed_says_how() {
        let places = |seed| {
            let allowance = Allowance::new(seed);
            (0..1000_u128).map(|source| allowance.place(0xffff_0a00_0000 + source)).collect::<Vec<_>>()
        };
        let one = places([0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321]);
        assert!(one.iter().collect::<BTreeSet<_>>().len() > 950);
        assert_ne!(one, places([0x1234_5678_9abc_def3, 0x0fed_cba9_8765_4321]));
    }

    #[test]
    fn several_workers_together_grant_no_more() {
        let allowance = Allowance::new([1, 2]);
        let total = std::thread::scope(|scope| {
            let worker = || granted(&allowance, 1, 1000, AT);
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>()
        });
        assert_eq!(total, 50);
    }
}
