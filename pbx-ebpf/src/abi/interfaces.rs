//! `INTERFACES`: what is enforced where. Element `ifindex % SLOTS`, valid if it names that index; otherwise
//! element 0 speaks (an interface that the daemon has not described yet).

/// Name of the map: an array of [`SLOTS`] [`Interface`]s.
pub const NAME: &str = "INTERFACES";
/// Number of elements; a power of two.
pub const SLOTS: u32 = 4096;

/// What the daemon says of an interface: one word each, written by the daemon alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// ifindex in the low 32 bits, element of `STATS` in the high 32.
    pub identity: u64,
    /// Two bits a [`Rule`], as [`Enforcement`]; [`SAMPLE_SHIFT`]; zone in the top 16 bits (0: any).
    pub enforcement: u64,
}
super::words!(Interface);

/// First of 6 bits of `Interface::enforcement`: 1 in 2^n dropped packets is sampled. They lie here because a dropped
/// packet has read this word already.
pub const SAMPLE_SHIFT: u32 = 40;
/// The exponent that never samples.
pub const NO_SAMPLES: u32 = 63;
/// The bits of the exponent.
pub const SAMPLE: u64 = 63 << SAMPLE_SHIFT;

/// The rules that have a switch of their own.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Manual blocks.
    Manual = 0,
    /// Rate level 1.
    Level1 = 1,
    /// Rate level 2.
    Level2 = 2,
    /// Media ports.
    Media = 3,
    /// What needs no threshold of a source: malformed frames, the TCP, fragment and known-source budgets.
    Police = 4,
    /// Automatic blocks that the daemon's detectors made.
    Detect = 5,
    /// Protected ports, for sources that nothing vouches for.
    DefaultDeny = 6,
}

/// How far a rule goes.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// The rule does not exist.
    #[default]
    Off = 0,
    /// What it would do is counted.
    Monitor = 1,
    /// It acts.
    Enforce = 2,
}

impl Interface {
    /// The switch of a rule.
    #[inline(always)]
    pub fn rule(enforcement: u64, rule: Rule) -> Enforcement {
        match (enforcement >> (2 * rule as u32)) & 3 {
            2 => Enforcement::Enforce,
            1 => Enforcement::Monitor,
            _ => Enforcement::Off,
        }
    }
    /// The word with 1 in `one_in` dropped packets sampled, a power of two; 0: none.
    pub const fn with_sampling(enforcement: u64, one_in: u64) -> u64 {
        let exponent = if one_in == 0 { NO_SAMPLES } else { one_in.trailing_zeros() };
        enforcement & !SAMPLE | (exponent as u64) << SAMPLE_SHIFT
    }
    /// The mask that the number of a dropped packet must not touch for the packet to be sampled.
    #[inline(always)]
    pub const fn sample_mask(enforcement: u64) -> u64 {
        (1 << (enforcement >> SAMPLE_SHIFT & 63)) - 1
    }
    /// Adds a switch to an enforcement word that has none for the rule yet.
    pub fn with(enforcement: u64, rule: Rule, to: Enforcement) -> u64 {
        enforcement | (to as u64) << (2 * rule as u32)
    }
}
