//! Counting within a sliding period: ten buckets, each a tenth of it. What is older than the period counts no more; what
//! is older than nine tenths of it may not.

use std::time::Duration;

use crate::moment::Moment;

/// Buckets of a period.
const BUCKETS: usize = 10;

/// How often something happened within the period, and how much of that came from an address that is sure.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// The number of the bucket that was written last, since the origin of time.
    newest: u64,
    all: [u16; BUCKETS],
    sure: [u16; BUCKETS],
}

/// What a [`Window`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// All of it.
    pub(super) all: u32,
    /// What came from an address that is sure.
    pub(super) sure: u32,
}

impl Window {
    pub(super) fn add(&mut self, now: Moment, period: Duration, by: u16, sure: bool) -> Counted {
        let bucket = self.advance(now, period);
        self.all[bucket] = self.all[bucket].saturating_add(by);
        if sure {
            self.sure[bucket] = self.sure[bucket].saturating_add(by);
        }
        self.sum()
    }

    pub(super) fn count(&mut self, now: Moment, period: Duration) -> Counted {
        self.advance(now, period);
        self.sum()
    }

    /// Takes back the latest `times` of what was counted.
    pub(super) fn take_back(&mut self, now: Moment, period: Duration, times: u16) {
        let newest = self.advance(now, period);
        let mut left = times;
        for back in 0..BUCKETS {
            let bucket = (newest + BUCKETS - back) % BUCKETS;
            let taken = left.min(self.all[bucket]);
            self.all[bucket] -= taken;
            self.sure[bucket] = self.sure[bucket].min(self.all[bucket]);
            left -= taken;
        }
    }

    pub(super) fn clear(&mut self) {
        (self.all, self.sure) = ([0; BUCKETS], [0; BUCKETS]);
    }

    /// Forgets what is too old; the bucket of now. A clock that seems to go back, as when the period was changed, begins anew.
    fn advance(&mut self, now: Moment, period: Duration) -> usize {
        let length = u64::try_from(period.as_micros() / BUCKETS as u128).unwrap_or(u64::MAX).max(1);
        let number = now.as_micros() / length;
        match number.checked_sub(self.newest) {
            Some(0) => {}
            Some(steps) if steps < BUCKETS as u64 => {
                for step in 1..=steps {
                    let bucket = ((self.newest + step) % BUCKETS as u64) as usize;
                    (self.all[bucket], self.sure[bucket]) = (0, 0);
                }
            }
            _ => self.clear(),
        }
        self.newest = number;
        (number % BUCKETS as u64) as usize
    }

    fn sum(&self) -> Counted {
        let sum = |counts: &[u16; BUCKETS]| counts.iter().copied().map(u32::from).sum();
        Counted { all: sum(&self.all), sure: sum(&self.sure) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    fn at(seconds: f64) -> Moment {
        Moment::ZERO + Duration::from_secs_f64(1000.0 + seconds)
    }

    #[test]
    fn what_happened_counts_for_the_period_and_not_longer() {
        let mut window = Window::default();
        assert_eq!(window.add(at(0.5), PERIOD, 1, true), Counted { all: 1, sure: 1 });
        assert_eq!(window.add(at(5.0), PERIOD, 2, false), Counted { all: 3, sure: 1 });
        assert_eq!(window.count(at(9.99), PERIOD).all, 3);
        assert_eq!(window.count(at(10.5), PERIOD).all, 2);
        assert_eq!(window.count(at(15.0), PERIOD).all, 0);
        window.add(at(16.0), PERIOD, 1, true);
        assert_eq!(window.count(at(1000.0), PERIOD).all, 0);
    }

    #[test]
    fn a_number_of_times_is_taken_back_the_latest_first() {
        let mut window = Window::default();
        window.add(at(0.0), PERIOD, 3, true);
        window.add(at(5.0), PERIOD, 2, true);
        window.take_back(at(5.0), PERIOD, 3);
        assert_eq!(window.count(at(5.0), PERIOD), Counted { all: 2, sure: 2 });
        window.take_back(at(6.0), PERIOD, 9);
        assert_eq!(window.count(at(6.0), PERIOD), Counted::default());
    }

    #[test]
    fn a_period_that_changes_begins_anew_or_goes_on_and_never_panics() {
        let mut window = Window::default();
        window.add(at(0.0), PERIOD, 1, true);
        assert!(window.count(at(0.0), PERIOD * 360).all <= 1);
        assert!(window.count(Moment::NEVER, Duration::ZERO).all <= 1);
        assert_eq!(window.count(Moment::ZERO, PERIOD).all, 0);
        assert_eq!(window.add(at(0.0), PERIOD, u16::MAX, false).all, u32::from(u16::MAX));
    }
}
