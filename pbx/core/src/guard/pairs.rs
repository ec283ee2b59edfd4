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
const LINES: usize = 2048;
/// Pairs of a line.
const PLACES: usize = 8;
/// Bits of a word that say until when (milliseconds: eight years).
const UNTIL: u32 = 38;
/// How often a writer looks again when others change the line: then it lets it be.
const TURNS: usize = 16;

/// A pair in a word, so that nobody ever sees the one of a pair with the time of another: a tag of it above [`UNTIL`], and
/// until when it is not judged. What is over is an empty place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u64);

impl Place {
    fn new(tag: u64, until: u64) -> Self {
        Self(tag << UNTIL | until.min((1 << UNTIL) - 1))
    }

    const fn tag(self) -> u64 {
        self.0 >> UNTIL
    }

    const fn until(self) -> u64 {
        self.0 & ((1 << UNTIL) - 1)
    }
}

/// A line of the processor's cache.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Line([AtomicU64; PLACES]);

/// The table: 16,384 pairs, 128 KiB. A pair that finds its line full takes the place of the one whose time ends first, if
/// that is before its own: what the guard holds does not give way to a pause.
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
        let (line, tag) = self.find(source, account);
        let now = now.as_micros() / 1000;
        !line.0.iter().map(|word| Place(word.load(Relaxed))).any(|place| place.tag() == tag && now < place.until())
    }

    /// A try was in vain: the next is judged after the pause. Any thread.
    pub fn failed(&self, source: IpAddr, account: u64, now: Moment) {
        self.hold(source, account, now + PAUSE);
    }

    /// No try is judged until then. Any thread.
    pub fn hold(&self, source: IpAddr, account: u64, until: Moment) {
        let (line, tag) = self.find(source, account);
        let wanted = Place::new(tag, until.as_micros().div_ceil(1000));
        for _ in 0..TURNS {
            let places = line.0.each_ref().map(|word| Place(word.load(Relaxed)));
            let own = places.iter().position(|place| place.tag() == tag);
            let first = || (0..PLACES).min_by_key(|at| places[*at].until());
            let Some(at) = own.or_else(first) else { return };
            if places[at].until() >= wanted.until() {
                return;
            }
            // Whoever was faster may have written this very pair, elsewhere in the line too.
            if line.0[at].compare_exchange(places[at].0, wanted.0, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// The pair may try at once.
    pub fn release(&self, source: IpAddr, account: u64) {
        let (line, tag) = self.find(source, account);
        for word in &line.0 {
            // Only while it is this pair's.
            let _ = word.fetch_update(Relaxed, Relaxed, |there| (Place(there).tag() == tag).then_some(0));
        }
    }

    /// The line of a pair, and its tag: never 0, which is that of an empty place.
    fn find(&self, source: IpAddr, account: u64) -> (&Line, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], self.seed[1]);
        let bits = match source.to_canonical() {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        hasher.write_u128(bits);
        hasher.write_u64(account);
        let hash = hasher.finish();
        (&self.lines[hash as usize % LINES], (hash >> UNTIL).max(1))
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

    #[test]
    fn a_pair_that_the_guard_holds_does_not_give_way_to_a_pause() {
        let pairs = Pairs::new([1, 2]);
        let office = addr("203.0.113.7");
        // As many as the guard holds at most.
        (0..4096).for_each(|account| pairs.hold(office, account, at(3_600_000)));
        let before: Vec<u64> = (0..4096).filter(|account| !pairs.may_try(office, *account, at(2000))).collect();
        assert!(before.len() > 4090, "{}", before.len());
        (10_000..100_000).for_each(|account| pairs.failed(office, account, at(0)));
        assert!(before.iter().all(|account| !pairs.may_try(office, *account, at(2000))));
    }

    #[test]
    fn pairs_that_many_threads_write_at_once_never_get_the_time_of_another() {
        let pairs = Pairs::new([1, 2]);
        let office = addr("203.0.113.7");
        // All in one line, more than it has room for: each writer takes the places of the others.
        let mut of_line = (0..).filter(|account| std::ptr::eq(pairs.find(office, *account).0, &pairs.lines[0]));
        let held: Vec<u64> = of_line.by_ref().take(PLACES / 2).collect();
        let paused: Vec<u64> = of_line.take(2 * PLACES).collect();
        std::thread::scope(|scope| {
            for half in paused.chunks(PLACES) {
                let pairs = &pairs;
                scope.spawn(move || {
                    for turn in 0..20_000 {
                        half.iter().for_each(|account| pairs.failed(office, *account, at(turn % 100)));
                    }
                });
            }
            for _ in 0..2000 {
                for account in &held {
                    pairs.hold(office, *account, at(3_600_000));
                    assert!(!pairs.may_try(office, *account, at(3_599_999)), "a hold is lost");
                }
                assert!(paused.iter().all(|account| pairs.may_try(office, *account, at(2000))), "a pause is an hour");
                held.iter().for_each(|account| pairs.release(office, *account));
                assert!(held.iter().all(|account| pairs.may_try(office, *account, at(2000))), "it was released");
            }
        });
    }
}
