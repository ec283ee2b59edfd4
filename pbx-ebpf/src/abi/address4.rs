//! Manual rules of single IPv4 addresses, and the class of each /24.
//!
//! `SUMMARY4` is asked first: a bit a /20. Where it is set `CLASS4` is asked: four bits a /24. Its low two bits are the base, painted by the longest prefix
//! of at most 24 bits that never expires; [`EXACT`] sends the packet to its line of `ADDRESS4`, [`CONSULT`]
//! to the prefixes. The daemon alone writes these maps.

/// Name of the summary: an array of 2^14 words, a bit for each word of the class map, set while that is not zero.
/// It is small enough to stay in the cache, where the class map is not.
pub const SUMMARY_NAME: &str = "SUMMARY4";
/// Elements of the summary.
pub const SUMMARY_ELEMENTS: u32 = CLASS_ELEMENTS / 64;

/// Name of the class map: an array of [`CLASS_ELEMENTS`] words, 16 classes a word.
pub const CLASS_NAME: &str = "CLASS4";
/// Elements: 2^24 classes of four bits.
pub const CLASS_ELEMENTS: u32 = 1 << 20;
/// Base bits: nothing, block or allow ([`BLOCK`], [`ALLOW`]).
pub const BASE: u64 = 3;
/// Base or slot code: block.
pub const BLOCK: u64 = 1;
/// Base or slot code: allow.
pub const ALLOW: u64 = 2;
/// Slot code: an address of the appliance itself.
pub const OWN: u64 = 3;
/// Class bit: single addresses of this /24 have slots.
pub const EXACT: u64 = 4;
/// Class bit: prefixes longer than 24 bits, or prefixes that expire, cover part of this /24.
pub const CONSULT: u64 = 8;

/// Name of the address map: an array of 2^[`LINE_BITS`] lines of [`LINE_WORDS`].
pub const NAME: &str = "ADDRESS4";
/// Lines: 65,536.
pub const LINE_BITS: u32 = 16;
/// Slots of a line: word 0..7. Word 7 counts what spilled from this line to its keys' other lines.
pub const SLOTS: usize = 7;
/// The word that counts the spilled.
pub const SPILLED: usize = 7;

/// Words of a line: the eight above, and the hit word of each slot, which the kernel alone writes.
pub const LINE_WORDS: usize = 16;
/// First of the hit words.
pub const HITS: usize = 8;

/// A slot: address (low 32 bits), code (2 bits), generation (2), expiry tick (28; 0: never).
#[inline(always)]
pub const fn slot(address: u32, code: u64, generation: u64, expiry: u64) -> u64 {
    address as u64 | (code & 3) << 32 | (generation & 3) << 34 | (expiry & EXPIRY_MAX) << 36
}
/// Largest expiry tick of a slot (2.28 years after boot).
pub const EXPIRY_MAX: u64 = (1 << 28) - 1;
/// Address of a slot.
#[inline(always)]
pub const fn slot_address(slot: u64) -> u32 {
    slot as u32
}
/// Code of a slot; 0: the slot is free.
#[inline(always)]
pub const fn slot_code(slot: u64) -> u64 {
    (slot >> 32) & 3
}
/// Generation of a slot.
#[inline(always)]
pub const fn slot_generation(slot: u64) -> u64 {
    (slot >> 34) & 3
}
/// Expiry tick of a slot; 0: never.
#[inline(always)]
pub const fn slot_expiry(slot: u64) -> u64 {
    slot >> 36
}

/// A hit word: packets (34 bits), generation of the slot that they belong to (2), tick of the last (28).
#[inline(always)]
pub const fn hit(before: u64, generation: u64, tick: u64) -> u64 {
    let packets = if hit_generation(before) == generation { before & HIT_PACKETS } else { 0 };
    let packets = if packets == HIT_PACKETS { packets } else { packets + 1 };
    packets | generation << 34 | tick << 36
}
/// Bits of the packets, also their largest value.
pub const HIT_PACKETS: u64 = (1 << 34) - 1;
/// Generation of a hit word.
#[inline(always)]
pub const fn hit_generation(hit: u64) -> u64 {
    (hit >> 34) & 3
}
