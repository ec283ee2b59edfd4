//! `MEDIA`: media flows in progress. Filled by calls.

/// Name of the map: a hash, [`Flow`] → 1 (u64).
pub const NAME: &str = "MEDIA";
/// At most so many.
pub const MAX: u32 = 65_536;

/// Who sends to which local port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Most significant 64 bits of the remote address.
    pub hi: u64,
    /// Least significant 64 bits.
    pub lo: u64,
    /// Local UDP port.
    pub port: u64,
}
