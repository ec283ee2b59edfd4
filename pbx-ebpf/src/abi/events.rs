//! `EVENTS`: changes of state, in one ring buffer; `SAMPLES`: 1 in N dropped packets, in another. Both are
//! hints: a full ring loses records and nothing else.

/// Name of the ring of [`Event`]s.
pub const NAME: &str = "EVENTS";
/// Its size in bytes.
pub const BYTES: u32 = 1 << 18;
/// Name of the ring of [`Sample`]s.
pub const SAMPLES_NAME: &str = "SAMPLES";
/// Its size in bytes, a little more than a second's worth of a CPU that is tapped.
pub const SAMPLES_BYTES: u32 = 1 << 19;

/// Name of the per-CPU array of [`Tapped`].
pub const TAPPED_NAME: &str = "TAPPED";

/// What a CPU did for whoever looks at dropped packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tapped {
    /// The span that runs, and the samples taken in it in the low 32 bits.
    pub window: u64,
    /// Samples that were due and not taken, since the map was made: over the budget, or the ring was full.
    pub lost: u64,
}
super::words!(Tapped);

/// What happened.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A source was blocked.
    Blocked = 1,
    /// A block went from level 1 to level 2.
    Raised = 2,
    /// A source would have been blocked (monitor).
    WouldBlock = 3,
    /// Too many new sources: no new blocks.
    GuardOn = 4,
    /// Blocks are made again.
    GuardOff = 5,
    /// No room for another block: policing only.
    Full = 6,
}

/// A change of state.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Monotonic time (ns).
    pub time: u64,
    /// Source, as in `AUTOMATIC`.
    pub hi: u64,
    /// Source, least significant bits.
    pub lo: u64,
    /// Monotonic time at which the block ends (ns).
    pub expires: u64,
    /// [`Kind`].
    pub kind: u32,
    /// Rate level.
    pub level: u32,
    /// Packets (or new sources) in the second.
    pub count: u32,
    /// Interface.
    pub ifindex: u32,
}
super::words!(Event);

/// Bytes of a frame that a sample keeps.
pub const CAPTURED: usize = 192;

/// A dropped packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Monotonic time (ns).
    pub time: u64,
    /// Source, most significant bits.
    pub hi: u64,
    /// Source, least significant bits.
    pub lo: u64,
    /// Interface.
    pub ifindex: u32,
    /// [`super::stats::Reason`].
    pub reason: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes kept in `frame`.
    pub captured: u32,
    /// For how many dropped packets it stands.
    pub weight: u64,
    /// First bytes of the frame.
    pub frame: [u8; CAPTURED],
}
super::words!(Sample);
