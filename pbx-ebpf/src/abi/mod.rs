//! The contract with user space: one file a map with its name, key, value and size. Numbers are in the
//! machine's byte order; an address is two 64-bit numbers `hi`, `lo` (most significant bits first), an
//! IPv4 address the IPv4-mapped one (`hi` 0, `lo` 0xffff_0000_0000 | address).
//!
//! A change of any layout raises [`LAYOUT`]: the daemon then fills a new version directory beside the old.

pub mod address4;
pub mod automatic;
pub mod events;
pub mod guard;
pub mod header;
pub mod interfaces;
pub mod known;
pub mod media;
pub mod ports;
pub mod prefix;
pub mod presence;
pub mod rate;
pub mod settings;
pub mod stats;

/// Version of every layout in this module.
pub const LAYOUT: u32 = 5;

/// `BPF_F_MMAPABLE` (linux/bpf.h): the daemon maps the array and writes single words.
pub const MMAPABLE: u32 = 1 << 10;

/// Upper half of `lo` of an IPv4-mapped address.
pub const MAPPED: u64 = 0xffff_0000_0000;

/// Shift from nanoseconds to the ticks of expiries: 2^28 ns, about 0.27 s.
pub const TICK_SHIFT: u32 = 28;

/// The tick in which the time lies.
#[inline(always)]
pub const fn tick(ns: u64) -> u64 {
    ns >> TICK_SHIFT
}

/// A source as the tables of automatic blocks know it: an IPv4 address, an IPv6 /64 (`lo` 0) or an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Most significant 64 bits.
    pub hi: u64,
    /// Least significant 64 bits.
    pub lo: u64,
}
const _: () = assert!(size_of::<Source>() == 16);

/// A word-wise view of a struct that consists of 64-bit words only.
macro_rules! words {
    ($t:ty) => {
        impl $t {
            /// How many 64-bit words the value has.
            pub const WORDS: usize = size_of::<Self>() / 8;
        }
        const _: () = assert!(size_of::<$t>() % 8 == 0 && align_of::<$t>() == 8);
    };
}
pub(crate) use words;
