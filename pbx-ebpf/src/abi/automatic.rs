//! `AUTOMATIC`: blocks that end by themselves, made by the kernel (rates) or by the daemon's detectors. A
//! map of their own, which manual rules cannot fill. For the kernel's blocks this map is the truth.

use super::Source;

/// Name of the map: a hash, [`Source`] → [`Block`].
pub const NAME: &str = "AUTOMATIC";
/// At most so many blocks.
pub const MAX: u32 = 65_536;

/// A block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Monotonic time at which it ends (ns).
    pub expires: u64,
    /// Monotonic time at which it was made (ns).
    pub since: u64,
    /// Packets that it dropped (in monitor: would have dropped).
    pub packets: u64,
    /// Monotonic time of the last packet (ns).
    pub last: u64,
    /// Rate level 1 or 2; 0: a detector of the daemon.
    pub level: u32,
    /// [`MONITOR`], [`WOULD_RAISE`].
    pub flags: u32,
    /// Packets in the second that made it.
    pub count: u32,
    /// Interface on which it was made.
    pub ifindex: u32,
}
super::words!(Block);
const _: () = assert!(size_of::<Block>() == 48 && size_of::<Source>() == 16);

/// `Block::flags`: made while its rule only monitored; it never drops.
pub const MONITOR: u32 = 1;
/// `Block::flags`: a level 1 block that level 2, in monitor, would have raised; told once.
pub const WOULD_RAISE: u32 = 2;
