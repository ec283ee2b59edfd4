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
    /// Two bits a [`Rule`], as [`Enforcement`]; zone in the top 16 bits (0: any).
    pub enforcement: u64,
}
super::words!(Interface);

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
    /// Adds a switch to an enforcement word that has none for the rule yet.
    pub fn with(enforcement: u64, rule: Rule, to: Enforcement) -> u64 {
        enforcement | (to as u64) << (2 * rule as u32)
    }
}
