//! `SETTINGS`: the thresholds, written word by word by the daemon; a change is in force with the next packet.

/// Name of the map: an array of one [`Settings`].
pub const NAME: &str = "SETTINGS";

/// Prefixes inside which IPv6 is judged by address instead of by /64.
pub const ONLINK: usize = 32;
/// Networks that default deny lets in.
pub const LOCAL: usize = 32;
/// `Settings::flags`: automatic blocks cover every port.
pub const SCOPE_ALL: u64 = 1;
/// `Settings::flags`: `MEDIA` holds at least one flow.
pub const FLOWS: u64 = 2;
/// `Settings::sample_mask` that never samples.
pub const NO_SAMPLES: u64 = u64::MAX;
/// Samples a CPU takes within [`TAP_SPAN`] at most, whatever is dropped: 1 in 1 is affordable while somebody looks on.
pub const TAP_SAMPLES: u64 = 2_048;
/// Shift from nanoseconds to the span for which [`TAP_SAMPLES`] holds, about a second.
pub const TAP_SPAN: u32 = 30;

/// A network of either family: `source & mask == address`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Network, most significant bits.
    pub hi: u64,
    /// Network, least significant bits.
    pub lo: u64,
    /// Mask, most significant bits.
    pub mask_hi: u64,
    /// Mask, least significant bits.
    pub mask_lo: u64,
}

impl Network {
    /// Words in the order of the layout.
    pub const fn words(&self) -> [u64; 4] {
        [self.hi, self.lo, self.mask_hi, self.mask_lo]
    }
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
    /// A dropped packet is sampled when its reason's count & mask is 0; [`NO_SAMPLES`]: never. Until `tap_until` the
    /// mask of the interface alone says so.
    pub sample_mask: u64,
    /// [`SCOPE_ALL`], [`FLOWS`].
    pub flags: u64,
    /// IPv6 lengths below 32 in use, as in [`super::prefix`].
    pub short_lengths: [u64; 2],
    /// How many of `onlink` are in use.
    pub onlink_used: u64,
    /// Prefixes judged by address.
    pub onlink: [Network; ONLINK],
    /// How many of `local` are in use.
    pub local_used: u64,
    /// Networks that default deny lets in.
    pub local: [Network; LOCAL],
    /// Monotonic time until which somebody looks at dropped packets (ns): a daemon that dies is no longer looking.
    pub tap_until: u64,
}
super::words!(Settings);
/// First word of `short_lengths`.
pub const SHORT_LENGTHS_WORD: usize = core::mem::offset_of!(Settings, short_lengths) / 8;
/// Word of `onlink_used`, behind which the networks lie.
pub const ONLINK_WORD: usize = core::mem::offset_of!(Settings, onlink_used) / 8;
/// Word of `local_used`, likewise.
pub const LOCAL_WORD: usize = core::mem::offset_of!(Settings, local_used) / 8;
/// Word of `tap_until`.
pub const TAP_UNTIL_WORD: usize = core::mem::offset_of!(Settings, tap_until) / 8;
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
            local_used: _,
            local: _,
            tap_until: _,
        } = *self;
        [level1, level1_block, level2, level2_block, tcp, fragments, new_sources, sample_mask, flags]
    }
    /// The lists of networks: the word of their number, behind which they lie; the number; the networks.
    pub const fn networks(&self) -> [(usize, u64, &[Network]); 2] {
        [(ONLINK_WORD, self.onlink_used, &self.onlink), (LOCAL_WORD, self.local_used, &self.local)]
    }
}
