//! Pairs of a known source and an account that fail: a try a second is judged, or, once the guard says so, none for a
//! while. Asked by the receive workers before a digest is computed; written by them and by the guard. Memory is fixed,
//! nothing is locked.
//!
//! The address itself goes on: its other phones register and call. A phone that is registered there is asked by nobody
//! whether it may, because the gate knows its address and port.

use std::{
    hash::Hasher as _,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use siphasher::sip::SipHasher13;

use crate::moment::Moment;

/// Between two tries that are judged.
pub const PAUSE: Duration = Duration::from_secs(1);
/// Lines of the table.
const LINES: usize = 4096;
/// Pairs of a line.
const PLACES: usize = 4;

/// A line of the processor's cache: pairs, and until when they are not judged (microseconds).
#[repr(align(64))]
#[derive(Debug, Default)]
struct Line([(AtomicU64, AtomicU64); PLACES]);

/// The table: 16,384 pairs, 256 KiB. A pair that finds its line full takes the place of the one whose time ends first.
#[derive(Debug)]
pub struct Pairs {
    seed: [u64; 2],
    lines: Box<[Line]>,
}

impl Pairs {
    /// No pair. `seed` is random and secret.
    pub fn new(seed: [u64; 2]) -> Self {
        Self { seed, lines: std::iter::repeat_with(Line::default).take(LINES).collect() }
    }

    /// Whether a try of this source for this account is judged now. Any thread.
    pub fn may_try(&self, source: IpAddr, account: u64, now: Moment) -> bool {
        let (line, key) = self.find(source, account);
        let of = line.0.iter().find(|(there, _)| there.load(Relaxed) == key);
        of.is_none_or(|(_, until)| now.as_micros() >= until.load(Relaxed))
    }

    /// A try was in vain: the next is judged after the pause. Any thread.
    pub fn failed(&self, source: IpAddr, account: u64, now: Moment) {
        self.hold(source, account, now + PAUSE);
    }

    /// No try is judged until then. Any thread.
    pub fn hold(&self, source: IpAddr, account: u64, until: Moment) {
        let (line, key) = self.find(source, account);
        let until = until.as_micros();
        if let Some((_, there)) = line.0.iter().find(|(there, _)| there.load(Relaxed) == key) {
            there.fetch_max(until, Relaxed);
            return;
        }
        // Two threads may choose the same place, and one of them writes in vain: its next failure writes again.
        if let Some((there, end)) = line.0.iter().min_by_key(|(_, end)| end.load(Relaxed)) {
            end.store(until, Relaxed);
            there.store(key, Relaxed);
        }
    }

    /// The pair may try at once.
    pub fn release(&self, source: IpAddr, account: u64) {
        let (line, key) = self.find(source, account);
        for (there, until) in line.0.iter().filter(|(there, _)| there.load(Relaxed) == key) {
            until.store(0, Relaxed);
            there.store(0, Relaxed);
        }
    }

    /// The line of a pair, and its key: never 0, which is an empty place.
    fn find(&self, source: IpAddr, account: u64) -> (&Line, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], self.seed[1]);
        let bits = match source.to_canonical() {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        hasher.write_u128(bits);
        hasher.write_u64(account);
        let key = hasher.finish().max(1);
        (&self.lines[key as usize % LINES], key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(1_000_000 + millis)
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pair_that_failed_is_judged_once_a_second_and_others_always() {
        let pairs = Pairs::new([1, 2]);
        let office = addr("203.0.113.7");
        assert!(pairs.may_try(office, 1, at(0)));
        pairs.failed(office, 1, at(0));
        assert!(!pairs.may_try(office, 1, at(999)) && !pairs.may_try(addr("::ffff:203.0.113.7"), 1, at(999)));
        assert!(pairs.may_try(office, 1, at(1000)));
        assert!(pairs.may_try(office, 2, at(0)) && pairs.may_try(addr("203.0.113.8"), 1, at(0)));
    }

    #[test]
    fn a_pair_that_is_held_stays_so_whatever_fails_until_it_is_released() {
        let pairs = Pairs::new([1, 2]);
        let office = addr("2001:db8::7");
        pairs.hold(office, 1, at(60_000));
        pairs.failed(office, 1, at(0));
        assert!(!pairs.may_try(office, 1, at(59_999)));
        pairs.release(office, 1);
        assert!(pairs.may_try(office, 1, at(0)));
    }

    #[test]
    fn pairs_that_end_soon_make_room_for_others_and_those_that_are_held_stay() {
        let pairs = Pairs::new([1, 2]);
        let office = addr("203.0.113.7");
        (0..1000).for_each(|account| pairs.hold(office, account, at(3_600_000)));
        (1000..100_000).for_each(|account| pairs.failed(office, account, at(0)));
        let held = (0..1000).filter(|account| !pairs.may_try(office, *account, at(2000))).count();
        assert!(held >= 995, "{held}");
    }
}
