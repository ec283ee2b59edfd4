//! `SETTINGS`: the thresholds, written word by word by the daemon; a change is in force with the next packet.

/// Name of the map: an array of one [`Settings`].
pub const NAME: &str = "SETTINGS";

/// Prefixes inside which IPv6 is judged by address instead of by /64.
pub const ONLINK: usize = 32;
/// `Settings::flags`: automatic blocks cover every port.
pub const SCOPE_ALL: u64 = 1;
/// `Settings::flags`: `MEDIA` holds at least one flow.
pub const FLOWS: u64 = 2;
/// `Settings::sample_mask` that never samples.
pub const NO_SAMPLES: u64 = u64::MAX;

/// An on-link prefix: `source & mask == address`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnLink {
    /// Network, most significant bits.
    pub hi: u64,
    /// Network, least significant bits.
    pub lo: u64,
    /// Mask, most significant bits.
    pub mask_hi: u64,
    /// Mask, least significant bits.
    pub mask_lo: u64,
}

/// All thresholds. Packets are per second and source, times in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Packets in a second that pass; one more is level 1.
    pub level1: u64,
    /// How long a level 1 block lasts (ns).
    pub level1_block: u64,
    /// Packets in a second; one more is level 2.
    pub level2: u64,
    /// How long a level 2 block lasts (ns).
    pub level2_block: u64,
    /// TCP segments other than SYN to protected ports that pass.
    pub tcp: u64,
    /// Later fragments that pass.
    pub fragments: u64,
    /// New sources in a second, over all, above which no new block is made.
    pub new_sources: u64,
    /// A dropped packet is sampled when its reason's count & mask is 0; [`NO_SAMPLES`]: never.
    pub sample_mask: u64,
    /// [`SCOPE_ALL`], [`FLOWS`].
    pub flags: u64,
    /// IPv6 lengths below 32 in use, as in [`super::prefix`].
    pub short_lengths: [u64; 2],
    /// How many of `onlink` are in use.
    pub onlink_used: u64,
    /// Prefixes judged by address.
    pub onlink: [OnLink; ONLINK],
}
super::words!(Settings);
/// First word of `short_lengths`.
pub const SHORT_LENGTHS_WORD: usize = core::mem::offset_of!(Settings, short_lengths) / 8;
/// Word of `sample_mask`.
pub const SAMPLE_MASK_WORD: usize = core::mem::offset_of!(Settings, sample_mask) / 8;
/// Word of `flags`.
pub const FLAGS_WORD: usize = core::mem::offset_of!(Settings, flags) / 8;

impl Settings {
    /// The words before `short_lengths`, in their order.
    pub const fn scalars(&self) -> [u64; SHORT_LENGTHS_WORD] {
        // No `..`: a new word has to be thought of here.
        let Settings {
            level1,
            level1_block,
            level2,
            level2_block,
            tcp,
            fragments,
            new_sources,
            sample_mask,
            flags,
            short_lengths: _,
            onlink_used: _,
            onlink: _,
        } = *self;
        [level1, level1_block, level2, level2_block, tcp, fragments, new_sources, sample_mask, flags]
    }
}
