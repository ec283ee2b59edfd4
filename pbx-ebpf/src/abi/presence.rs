//! `PRESENCE`: may this source have an automatic block, may it be a known source? One bit each, hashed; a
//! set bit sends the packet to the exact map, a clear one spares the look-up.

/// Name of the map: an array of 2^[`BITS`] elements of two words: automatic (set by the kernel, cleared by
/// the daemon with an atomic and), known (the daemon's).
pub const NAME: &str = "PRESENCE";
/// Elements: 16,384, 64 bits a word.
pub const BITS: u32 = 14;
/// Word of the automatic blocks.
pub const AUTOMATIC: usize = 0;
/// Word of the known sources.
pub const KNOWN: usize = 1;
