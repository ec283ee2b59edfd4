//! Where a key lies in a table. Seeded per boot (`abi::header`), so that nobody outside can aim at a line.

use crate::abi::{address4, prefix, presence, rate};

/// The per-boot secret of all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64, pub u64);

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xc2b2_ae3d_27d4_eb4f;

#[inline(always)]
fn one(word: u64, seed: u64) -> u64 {
    let h = (word ^ seed).wrapping_mul(K0);
    (h ^ (h >> 32)).wrapping_mul(K1)
}

/// Mixes a 128-bit key and a small discriminator.
#[inline(always)]
fn two(hi: u64, lo: u64, extra: u64, seed: Seed) -> u64 {
    let h = one(hi.wrapping_add(extra), seed.0);
    one(h ^ (h >> 29) ^ lo, seed.1)
}

/// Two different places of a key, and a tag that is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Where the key is looked for first.
    pub home: u32,
    /// Where it may have spilled to.
    pub other: u32,
    /// What the tag word says of the slot (1..=255).
    pub tag: u8,
}

#[inline(always)]
fn places(h: u64, bits: u32) -> Places {
    let mask = (1u64 << bits) - 1;
    let home = (h >> (64 - bits)) as u32;
    let second = ((h >> 24) & mask) as u32;
    let other = if second == home { second ^ 1 } else { second };
    let tag = h as u8;
    Places { home, other, tag: if tag == 0 { 1 } else { tag } }
}

/// Lines of an IPv4 address in `ADDRESS4`.
#[inline(always)]
pub fn address4(address: u32, seed: Seed) -> Places {
    places(one(u64::from(address), seed.0), address4::LINE_BITS)
}

/// Sets of a prefix in `PREFIX`; `code` is its length plus one.
#[inline(always)]
pub fn prefix(hi: u64, lo: u64, code: u8, seed: Seed) -> Places {
    places(two(hi, lo, u64::from(code) << 56, seed), prefix::SET_BITS)
}

/// Bucket of `LENGTHS6` of an IPv6 address, by its first 32 bits.
#[inline(always)]
pub fn lengths6(hi: u64, seed: Seed) -> u32 {
    (one(hi >> 32, seed.1) >> (64 - prefix::LENGTHS6_BITS)) as u32
}

/// Set of a source in `RATE`.
#[inline(always)]
pub fn rate(hi: u64, lo: u64, kind: u64, seed: Seed) -> u32 {
    let h = two(hi, lo, kind, seed);
    if rate::is_wide(hi, lo) {
        (1 << rate::SET_BITS) + (h >> (64 - rate::WIDE_BITS)) as u32
    } else {
        (h >> (64 - rate::SET_BITS)) as u32
    }
}

/// Bit of a source in `PRESENCE`: the element, and the bit in its words.
#[inline(always)]
pub fn presence(hi: u64, lo: u64, seed: Seed) -> (u32, u64) {
    let h = two(hi, lo, 0, seed);
    ((h >> (64 - presence::BITS)) as u32, 1u64 << ((h >> 16) & 63))
}
