//! Manual rules of prefixes of both families, and of single IPv6 addresses (prefixes of 128 bits).
//!
//! Which lengths are worth asking stands in `LENGTHS4` (by /16) and `LENGTHS6` (hashed by /32), longest
//! first; `TAGS` says whether a set can hold the key; `PREFIX` holds it. The daemon alone writes all four.

/// Name of the prefix map: an array of 2^[`SET_BITS`] sets of [`SLOTS`] [`Entry`]s.
pub const NAME: &str = "PREFIX";
/// Sets: 262,144.
pub const SET_BITS: u32 = 18;
/// Entries of a set.
pub const SLOTS: usize = 4;

/// A prefix with what it does: an entry carries the deadlines of an allow and of a block side by side, so
/// that "on a tie allow" needs no second entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Network, most significant bits.
    pub hi: u64,
    /// Network, least significant bits.
    pub lo: u64,
    /// Tick at which the allow (low 32 bits) and the block (high 32 bits) end; 0: there is none,
    /// [`FOREVER`]: never.
    pub until: u64,
    /// Code (length plus one) in bits 0-7, [`OWN`], generation in bits 10-11, and a sequence number in the
    /// high 32 bits that changes whenever the key does. 0: free.
    pub identity: u64,
}
super::words!(Entry);
const _: () = assert!(size_of::<Entry>() * SLOTS == 128);

/// `Entry::identity` bit: an address of the appliance itself.
pub const OWN: u64 = 1 << 8;
/// A deadline that never comes.
pub const FOREVER: u64 = u32::MAX as u64;
/// Generation of an entry.
#[inline(always)]
pub const fn generation(identity: u64) -> u64 {
    (identity >> 10) & 3
}

/// Name of the tag map: a word a set: the tags of its slots in bytes 0-3 (0: free), and in the high 32 bits
/// how many keys spilled from this set to their other set.
pub const TAGS_NAME: &str = "TAGS";

/// Words of a slot: its entry, and the hit word (as in [`super::address4`]), which the kernel alone writes. They lie
/// together, because a hit in the table's 40 MiB is far.
pub const SLOT_WORDS: usize = Entry::WORDS + 1;
/// Words of a set.
pub const SET_WORDS: usize = SLOTS * SLOT_WORDS;

/// Name of the length lists of IPv4: an array of 65,536 words, by the first 16 bits.
pub const LENGTHS4_NAME: &str = "LENGTHS4";
/// Name of the length lists of IPv6: an array of 2^[`LENGTHS6_BITS`] × 2 words.
pub const LENGTHS6_NAME: &str = "LENGTHS6";
/// Buckets: 16,384.
pub const LENGTHS6_BITS: u32 = 14;
/// First byte of a list that is too short for its lengths: all are tried.
pub const ALL: u64 = 0xff;
/// Lengths from here up stand in `LENGTHS6`, shorter ones in `Settings::short_lengths`.
pub const SHORT: u8 = 32;
/// Code of an IPv4 length: it is the length in the mapped address.
#[inline(always)]
pub const fn code4(len: u8) -> u8 {
    96 + len + 1
}
