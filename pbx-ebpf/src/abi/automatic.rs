//! `AUTOMATIC`: blocks that end by themselves, made by the kernel (rates) or by the daemon's detectors. A
//! map of their own, which manual rules cannot fill. For automatic blocks this map is the truth. `WEB`: blocks of the
//! web ports alone, beside them, so that neither kind hides or ends the other.

use super::Source;

/// Name of the map: a hash, [`Source`] → [`Block`].
pub const NAME: &str = "AUTOMATIC";
/// At most so many blocks.
pub const MAX: u32 = 65_536;
/// Name of the map of blocks that cover the web ports only: a hash, [`Source`] → [`Block`], the daemon's.
pub const WEB_NAME: &str = "WEB";
/// At most so many of these.
pub const WEB_MAX: u32 = 16_384;

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
    /// [`MONITOR`], [`WOULD_RAISE`], [`WEB_ONLY`]; from bit [`DETECTOR_SHIFT`] on, of level 0, the detector's number.
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
/// `Block::flags`: the block lies in `WEB`.
pub const WEB_ONLY: u32 = 4;
/// `Block::flags`: first of the 8 bits in which the number of the detector is.
pub const DETECTOR_SHIFT: u32 = 8;

impl Block {
    /// The detector's number that the daemon gave the block; 0: none.
    pub const fn detector(&self) -> u8 {
        (self.flags >> DETECTOR_SHIFT) as u8
    }
    /// Whether it never drops.
    pub const fn is_monitored(&self) -> bool {
        self.flags & MONITOR != 0
    }
    /// Whether it covers the web ports only.
    pub const fn is_web_only(&self) -> bool {
        self.flags & WEB_ONLY != 0
    }
}
