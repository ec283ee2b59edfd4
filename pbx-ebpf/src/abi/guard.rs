//! `GUARD`: the kernel's own alarm: too many new sources to tell who attacks, or no room for blocks.

/// Name of the map: an array of one [`Guard`], written by the kernel alone.
pub const NAME: &str = "GUARD";
/// Name of the per-CPU array (one word) of new sources not yet added to `Guard::window`.
pub const PENDING_NAME: &str = "PENDING";
/// So many new sources are added at once: a shared word is not touched for each.
pub const BATCH: u64 = 32;
/// How long the new sources must stay below half of the limit (ns).
pub const CALM: u64 = 10_000_000_000;

/// State of the alarm.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Window of new sources (`rate::Wide`).
    pub window: u64,
    /// 1: no new blocks are made.
    pub on: u64,
    /// Monotonic time at which the new sources last were half of the limit or more (ns).
    pub last_high: u64,
    /// 1: `AUTOMATIC` was full.
    pub full: u64,
}
super::words!(Guard);
