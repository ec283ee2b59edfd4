//! `RATE`: packets of the running second, by source and kind; a set-associative table that the kernel alone
//! writes.

/// Name of the map: an array of 2^[`SET_BITS`] sets of 16 words: [`SLOTS`] slots of {state, hi, lo}.
pub const NAME: &str = "RATE";
/// Sets: 65,536.
pub const SET_BITS: u32 = 16;
/// Slots of a set.
pub const SLOTS: usize = 5;
/// Words of a slot.
pub const SLOT_WORDS: usize = 3;
/// Words of a set; the last is spare.
pub const SET_WORDS: usize = 16;

/// Counted for the two levels.
pub const LEVELS: u64 = 0;
/// TCP other than SYN.
pub const TCP: u64 = 1;
/// Later fragments and headers that cannot be followed.
pub const FRAGMENTS: u64 = 2;

/// Shift from nanoseconds to the unit of a window's start: 2^18 ns, about 0.26 ms.
pub const UNIT_SHIFT: u32 = 18;
/// A second in these units, rounded down: a source that sends evenly at its limit never has one packet more in
/// a window.
pub const SECOND: u64 = 1_000_000_000 >> UNIT_SHIFT;

/// State word: count (20 bits), start of the window (38), generation (4), kind (2).
pub const COUNT: u64 = (1 << 20) - 1;
/// Count of a slot that is changing hands.
pub const BUSY: u64 = COUNT;
/// Largest count.
pub const FULL: u64 = COUNT - 1;
/// Shift of the start.
pub const START_SHIFT: u32 = 20;
/// Bits of the start.
pub const START: u64 = (1 << 38) - 1;
/// Shift of the generation.
pub const GENERATION_SHIFT: u32 = 58;
/// Shift of the kind.
pub const KIND_SHIFT: u32 = 62;
/// Kind and generation: whose slot it is.
pub const OWNER: u64 = 0x3f << GENERATION_SHIFT;
