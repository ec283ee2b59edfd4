//! The known addresses, and the ports of registered phones, as the receive workers see them: one table, written by the core thread alone, read without
//! a lock by everyone else. Says which queue a message takes, so a wrong answer costs a place in it, and no more.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

/// Places of a bucket: a line of the processor's cache.
const PLACES: usize = 8;
/// Buckets. With as many addresses and ports as the kernel's table holds, a bucket has one on average.
const BUCKETS: usize = 65_536;

/// A line of the cache.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Bucket([AtomicU64; PLACES]);

/// A set of addresses: a bounded table of 64-bit fingerprints, 4 MiB.
///
/// An address whose bucket is full is left out, which [`left_out`](Self::left_out) counts. One that is not in it is
/// found by chance once in 2^61.
#[derive(Debug)]
pub struct KnownSet {
    seed: [u64; 2],
    buckets: Box<[Bucket]>,
    left_out: AtomicU64,
}

impl KnownSet {
    /// The empty set. `seed` is random and secret: without it nobody finds addresses that fill a bucket.
    pub fn new(seed: [u64; 2]) -> Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self { seed, buckets, left_out: AtomicU64::new(0) }
    }

    /// Whether the address is known. Any thread.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let fingerprint = self.fingerprint_of(addr, None);
        // A fingerprint is all there is to see, so nothing has to be ordered with it.
        self.bucket(fingerprint).0.iter().any(|place| place.load(Ordering::Relaxed) == fingerprint)
    }

    /// Whether a phone is registered from this address and port. Any thread.
    pub fn contains_flow(&self, from: SocketAddr) -> bool {
        let fingerprint = self.fingerprint_of(from.ip(), Some(from.port()));
        self.bucket(fingerprint).0.iter().any(|place| place.load(Ordering::Relaxed) == fingerprint)
    }

    /// Adds an address, or one port of it; the core thread only. `false`: its bucket is full.
    pub(super) fn insert(&self, addr: IpAddr, port: Option<u16>) -> bool {
        let fingerprint = self.fingerprint_of(addr, port);
        let bucket = self.bucket(fingerprint);
        if bucket.0.iter().any(|place| place.load(Ordering::Relaxed) == fingerprint) {
            return true;
        }
        match bucket.0.iter().find(|place| place.load(Ordering::Relaxed) == 0) {
            Some(place) => place.store(fingerprint, Ordering::Relaxed),
            None => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                return false;
            }
        }
        true
    }

    /// Takes an address out, or one port of it; the core thread only.
    pub(super) fn remove(&self, addr: IpAddr, port: Option<u16>) {
        let fingerprint = self.fingerprint_of(addr, port);
        let places = self.bucket(fingerprint).0.iter();
        for place in places.filter(|place| place.load(Ordering::Relaxed) == fingerprint) {
            place.store(0, Ordering::Relaxed);
        }
    }

    /// Addresses that found no place, since the start.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn bucket(&self, fingerprint: u64) -> &Bucket {
        &self.buckets[(fingerprint % BUCKETS as u64) as usize]
    }

    /// Never 0, which is an empty place.
    fn fingerprint_of(&self, addr: IpAddr, port: Option<u16>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        let bits = match addr.to_canonical() {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        bits.hash(&mut hasher);
        port.hash(&mut hasher);
        hasher.finish().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn what_was_added_is_found_until_it_is_taken_out() {
        let set = KnownSet::new([1, 2]);
        assert!(set.insert("192.0.2.1".parse().unwrap(), None) && set.insert("2001:db8::1".parse().unwrap(), None));
        assert!(set.contains("::ffff:192.0.2.1".parse().unwrap()));
        assert!(!set.contains("192.0.2.2".parse().unwrap()));
        // Twice in is once out.
        assert!(set.insert("192.0.2.1".parse().unwrap(), None));
        set.remove("192.0.2.1".parse().unwrap(), None);
        assert!(!set.contains("192.0.2.1".parse().unwrap()));
        assert!(set.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn as_many_as_the_kernel_holds_find_a_place_but_for_a_few_that_are_counted() {
        let set = KnownSet::new([3, 4]);
        let found = (0..65_536).filter(|number| set.insert(addr(*number), None)).count() as u64;
        assert_eq!(found + set.left_out(), 65_536);
        assert!(set.left_out() < 100, "{}", set.left_out());
        assert_eq!((0..65_536).filter(|number| set.contains(addr(*number))).count() as u64, found);
        assert_eq!((65_536..300_000).filter(|number| set.contains(addr(*number))).count(), 0);
        (0..65_536).for_each(|number| set.remove(addr(number), None));
        assert!(set.buckets.iter().flat_map(|bucket| &bucket.0).all(|place| place.load(Ordering::Relaxed) == 0));
    }
}
