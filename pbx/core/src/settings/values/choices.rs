//! Settings that are one of a few words.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Kind, Value, ValueError};

/// What a rule does to the packets that it means; the later, the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// Nothing.
    Off,
    /// It counts what it would drop.
    Monitor,
    /// It drops.
    Enforce,
}

impl Enforcement {
    /// What is left of it under a ceiling.
    pub fn under(self, ceiling: Self) -> Self {
        self.min(ceiling)
    }
}

impl Value for Enforcement {
    const KIND: Kind = Kind::Choice { words: &["enforce", "monitor", "off"] };
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
            Self::Off => "off",
        })
    }
}

impl FromStr for Enforcement {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "monitor" => Ok(Self::Monitor),
            "off" => Ok(Self::Off),
            "" => Err(ValueError::Empty),
            _ => Err(ValueError::Wrong),
        }
    }
}

/// What an automatic block closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The protected and the media ports.
    Appliance,
    /// Everything.
    All,
}

impl Value for Scope {
    const KIND: Kind = Kind::Choice { words: &["appliance", "all"] };
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Appliance => "appliance",
            Self::All => "all",
        })
    }
}

impl FromStr for Scope {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "appliance" => Ok(Self::Appliance),
            "all" => Ok(Self::All),
            "" => Err(ValueError::Empty),
            _ => Err(ValueError::Wrong),
        }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// It is so.
    On,
    /// It is not.
    Off,
}

impl Value for Switch {
    const KIND: Kind = Kind::Choice { words: &["on", "off"] };
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

impl FromStr for Switch {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            "" => Err(ValueError::Empty),
            _ => Err(ValueError::Wrong),
        }
    }
}
