//! `RATE`: packets of the running second, by source and kind; a set-associative table that the kernel alone
//! writes. A set is a cache line, and those that a flood of spoofed sources reaches are small enough together to
//! stay in the cache: most of what such a packet costs is this one far access.

use super::MAPPED;

/// Name of the map: an array of [`ELEMENTS`] sets of [`SET_WORDS`]. First 2^[`SET_BITS`] of [`SLOTS`] slots
/// {state, key} for IPv4 addresses and /64s, then 2^[`WIDE_BITS`] of [`WIDE_SLOTS`] slots {state, hi, lo} for
/// single IPv6 addresses, which only neighbours on the link have.
pub const NAME: &str = "RATE";
/// All sets.
pub const ELEMENTS: u32 = (1 << SET_BITS) + (1 << WIDE_BITS);
/// Words of a set.
pub const SET_WORDS: usize = 8;
/// Sets with keys of one word: 32,768.
pub const SET_BITS: u32 = 15;
/// Slots of such a set.
pub const SLOTS: usize = 4;
/// Words of such a slot.
pub const SLOT_WORDS: usize = 2;
/// Sets with keys of two words: 8,192.
pub const WIDE_BITS: u32 = 13;
/// Slots of such a set.
pub const WIDE_SLOTS: usize = 2;
/// Words of such a slot.
pub const WIDE_SLOT_WORDS: usize = 3;

/// Whether a source has a key of two words.
#[inline(always)]
pub const fn is_wide(hi: u64, lo: u64) -> bool {
    lo != 0 && (hi != 0 || lo >> 32 != MAPPED >> 32)
}

/// The key of one word of a source, and its kind with that bit which tells a /64 from an IPv4 address.
#[inline(always)]
pub const fn narrow(hi: u64, lo: u64, kind: u64) -> (u64, u64) {
    if lo == 0 { (hi, kind | NETWORK) } else { (lo, kind) }
}

/// Counted for the two levels.
pub const LEVELS: u64 = 0;
/// TCP other than SYN.
pub const TCP: u64 = 1;
/// Later fragments and headers that cannot be followed.
pub const FRAGMENTS: u64 = 2;
/// The bits of a kind that are one of the above.
pub const KINDS: u64 = 3;
/// Bit of a kind: the key of one word is a /64.
pub const NETWORK: u64 = 4;

/// Shift from nanoseconds to the unit of a window's start: 2^18 ns, about 0.26 ms.
pub const UNIT_SHIFT: u32 = 18;
/// A second in these units, rounded down: a source that sends evenly at its limit never has one packet more in
/// a window.
pub const SECOND: u64 = 1_000_000_000 >> UNIT_SHIFT;

/// State word: count (20 bits), start of the window (37), generation (4), kind (3).
pub const COUNT: u64 = (1 << 20) - 1;
/// Count of a slot that is changing hands.
pub const BUSY: u64 = COUNT;
/// Largest count.
pub const FULL: u64 = COUNT - 1;
/// Shift of the start.
pub const START_SHIFT: u32 = 20;
/// Bits of the start.
pub const START: u64 = (1 << 37) - 1;
/// Shift of the generation.
pub const GENERATION_SHIFT: u32 = 57;
/// Shift of the kind.
pub const KIND_SHIFT: u32 = 61;
/// Kind and generation: whose slot it is.
pub const OWNER: u64 = 0x7f << GENERATION_SHIFT;
