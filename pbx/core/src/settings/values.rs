//! The types of settings: each knows its range, reads itself from text and prints itself.

mod choices;
mod external;
mod ladder;
mod numbers;
mod patterns;
mod sets;
mod topics;

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

pub use choices::{Enforcement, Scope, Switch};
pub use external::{ExternalAddress, Lookup};
pub use ladder::Ladder;
pub use numbers::EmergencyNumbers;
pub use patterns::Patterns;
pub use sets::{PortRange, Ports, Prefixes};

use crate::time::{format_duration, parse_duration};

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// A whole number.
    Integer {
        /// The smallest.
        min: u32,
        /// The largest.
        max: u32,
    },
    /// 0 or a power of two.
    PowerOfTwo {
        /// The largest.
        max: u32,
    },
    /// A span of time.
    Duration {
        /// The shortest.
        #[serde(rename = "min_seconds", serialize_with = "seconds")]
        min: Duration,
        /// The longest.
        #[serde(rename = "max_seconds", serialize_with = "seconds")]
        max: Duration,
    },
    /// One of some words.
    Choice {
        /// The words.
        words: &'static [&'static str],
    },
    /// Ports and ranges of ports.
    Ports {
        /// The most of them.
        max_items: usize,
    },
    /// Addresses and ranges of addresses.
    Prefixes {
        /// The most of them.
        max_items: usize,
    },
    /// An address of each family, or whom to ask for it.
    ExternalAddress,
    /// Some of some words.
    Words {
        /// The words.
        words: &'static [&'static str],
    },
    /// What is dialled.
    Numbers {
        /// The most of them.
        max_items: usize,
    },
    /// Spans of time, one after the other.
    Durations {
        /// The most of them.
        max_items: usize,
    },
    /// Patterns of texts, separated by semicolons.
    Patterns {
        /// The most of them.
        max_items: usize,
        /// The longest of each, in bytes.
        max_bytes: usize,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::PowerOfTwo { max } => write!(f, "0 or a power of two up to {max}"),
            Self::Duration { min, max } => {
                write!(f, "a time from {} to {}, such as 90s or 2h", format_duration(*min), format_duration(*max))
            }
            Self::Choice { words } => match words {
                [some @ .., last] if !some.is_empty() => write!(f, "{} or {last}", some.join(", ")),
                words => f.write_str(&words.join(", ")),
            },
            Self::Ports { max_items } => {
                write!(f, "up to {max_items} ports or ranges from 1 to 65535, such as 5060,5061,45000-64999")
            }
            Self::Prefixes { max_items } => {
                write!(f, "up to {max_items} addresses or ranges, such as 192.0.2.0/24,2001:db8::/64, or nothing")
            }
            Self::ExternalAddress => f.write_str(
                "an IPv4 address, an IPv6 address or both, and a name or a STUN server for a family without one, such \
                 as 203.0.113.7,2001:db8::7 or pbx.example.com or stun:stun.example.com, or nothing",
            ),
            Self::Words { words } => write!(f, "some of {}, with commas between, or nothing", words.join(", ")),
            Self::Numbers { max_items } => {
                write!(f, "up to {max_items} numbers of 2 to 15 digits, such as 112,911")
            }
            Self::Durations { max_items } => {
                write!(
                    f,
                    "up to {max_items} times from 1s to 30d, each at least the one before, such as 6h,1d, or nothing"
                )
            }
            Self::Patterns { max_items, max_bytes } => write!(
                f,
                "up to {max_items} patterns of {max_bytes} bytes, separated by semicolons: a part of the name, =the \
                 whole name, or /regular expression/, or nothing"
            ),
        }
    }
}

fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(span.as_secs())
}

/// A type that a setting can have.
pub(super) trait Value: fmt::Display + FromStr<Err = ValueError> {
    const KIND: Kind;
}

/// What is wrong with a text that is no value; follows the quoted text in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not even the kind of thing that is asked for.
    #[error("is not a value of this setting")]
    Wrong,
    /// Nothing where something is needed.
    #[error("is nothing")]
    Empty,
    /// Under the smallest.
    #[error("is too small")]
    TooSmall,
    /// Over the largest.
    #[error("is too large")]
    TooLarge,
    /// One of several is wrong.
    #[error("is refused: {0}")]
    Item(String),
    /// More of them than there may be.
    #[error("has {0} items, which is too many")]
    TooMany(usize),
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

/// Packets per second of one source.
pub type PacketsPerSecond = Count<1, 1_000_000>;
/// Packets per second of one source, with room for a lower level.
pub type Level2Packets = Count<2, 1_000_000>;
/// Sources per second that were not seen before.
pub type NewSources = Count<64, 10_000_000>;
/// The allowance of a known source, in multiples of level 1.
pub type KnownBudget = Count<1, 1_000>;
/// Contacts of one extension.
pub type Contacts = Count<1, 100>;
/// Calls of one extension.
pub type CallCount = Count<1, 1000>;
/// Challenges per second.
pub type Challenges = Count<1, 1_000_000>;
/// Open connections.
pub type Connections = Count<1, 200_000>;
/// How often something happened.
pub type Times = Count<1, 100_000>;
/// Points for a sign.
pub type Points = Count<0, 1_000>;
/// Memory, in MiB.
pub type Megabytes = Count<64, 1_048_576>;

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The smallest.
    pub const LOWEST: Self = Self(MIN);

    /// The number, if it is in range.
    pub const fn new(number: u32) -> Option<Self> {
        if number >= MIN && number <= MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Value for Count<MIN, MAX> {
    const KIND: Kind = Kind::Integer { min: MIN, max: MAX };
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for u32 {
    fn from(count: Count<MIN, MAX>) -> Self {
        count.0
    }
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for u64 {
    fn from(count: Count<MIN, MAX>) -> Self {
        count.0.into()
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Count<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match number(text)? {
            number if number < MIN => Err(ValueError::TooSmall),
            number => Self::new(number).ok_or(ValueError::TooLarge),
        }
    }
}

/// One in so many dropped packets is sampled: 0 (none) or a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleRate(u32);

impl SampleRate {
    /// None is sampled.
    pub const OFF: Self = Self(0);
    /// The rarest.
    pub const MAX: u32 = 65_536;

    /// The rate, if it is 0 or a power of two up to [`MAX`](Self::MAX).
    pub const fn new(one_in: u32) -> Option<Self> {
        if one_in == 0 || (one_in.is_power_of_two() && one_in <= Self::MAX) { Some(Self(one_in)) } else { None }
    }

    /// The N of "1 in N"; 0 is none.
    pub const fn one_in(self) -> u32 {
        self.0
    }
}

impl Value for SampleRate {
    const KIND: Kind = Kind::PowerOfTwo { max: Self::MAX };
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for SampleRate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match number(text)? {
            number if number > Self::MAX => Err(ValueError::TooLarge),
            number => Self::new(number).ok_or(ValueError::Wrong),
        }
    }
}

/// How long an automatic block lasts: 1 s to 30 d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockTime(Duration);

impl BlockTime {
    /// The shortest.
    pub const LOWEST: Self = Self(Duration::from_secs(1));
    /// The longest.
    pub const LONGEST: Self = Self(Duration::from_secs(30 * 86_400));

    /// The time, if it is in range.
    pub fn new(time: Duration) -> Option<Self> {
        (Self::LOWEST.0..=Self::LONGEST.0).contains(&time).then_some(Self(time))
    }

    /// The time.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Value for BlockTime {
    const KIND: Kind = Kind::Duration { min: Self::LOWEST.0, max: Self::LONGEST.0 };
}

impl fmt::Display for BlockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format_duration(self.0))
    }
}

impl FromStr for BlockTime {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let time = time(text)?;
        let too = if time < Self::LOWEST.0 { ValueError::TooSmall } else { ValueError::TooLarge };
        Self::new(time).ok_or(too)
    }
}

/// A time of `MIN` to `MAX` seconds, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Span<MIN, MAX> {
    /// The shortest.
    pub const LOWEST: Self = Self(MIN);

    /// The time.
    pub const fn get(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }

    /// The time, in seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Value for Span<MIN, MAX> {
    const KIND: Kind = Kind::Duration { min: Duration::from_secs(MIN as u64), max: Duration::from_secs(MAX as u64) };
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Span<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format_duration(self.get()))
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Span<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let time = time(text)?;
        match u32::try_from(time.as_secs()) {
            Ok(seconds) if seconds < MIN => Err(ValueError::TooSmall),
            Ok(seconds) if seconds > MAX => Err(ValueError::TooLarge),
            Ok(_) if time.subsec_nanos() != 0 => Err(ValueError::Item("only whole seconds count".to_owned())),
            Ok(seconds) => Ok(Self(seconds)),
            Err(_) => Err(ValueError::TooLarge),
        }
    }
}

fn time(text: &str) -> Result<Duration, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    parse_duration(text).map_err(|error| ValueError::Item(error.to_string()))
}

fn number(text: &str) -> Result<u32, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if let Some(digits) = text.strip_prefix('-') {
        let negative = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        return Err(if negative { ValueError::TooSmall } else { ValueError::Wrong });
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::Wrong);
    }
    text.parse().map_err(|_| ValueError::TooLarge)
}
