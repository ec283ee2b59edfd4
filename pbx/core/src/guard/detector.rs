//! Who makes automatic blocks: the rate levels of the kernel, and the detectors of the daemon.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DAY, source::ACCOUNT_PERIOD};
use crate::settings::{BlockTime, Enforcement, GuardSettings};

/// Why a source was blocked without anybody asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Detector {
    /// More than `guard.level1.packets` in a second; the kernel counts.
    Level1 = 1,
    /// More than `guard.level2.packets` in a second; the kernel counts.
    Level2 = 2,
    /// Wrong passwords.
    Authentication = 3,
    /// Wrong passwords for one account, slowly.
    Accounts = 4,
    /// Challenges that were never answered.
    Challenges = 5,
    /// Numbers tried in vain.
    Enumeration = 6,
    /// Messages that are none, or with a fault; TLS handshakes that were broken off.
    Malformed = 7,
    /// A forbidden User-Agent.
    Agents = 8,
    /// Behaviour of no telephone.
    Scanner = 9,
    /// Paths of telephones' configurations guessed.
    Provisioning = 10,
    /// Failed sign-ins.
    Web = 11,
    /// Many blocked sources of one network.
    Spread = 12,
}

impl Detector {
    /// All of them, by number.
    pub const ALL: [Self; 12] = [
        Self::Level1,
        Self::Level2,
        Self::Authentication,
        Self::Accounts,
        Self::Challenges,
        Self::Enumeration,
        Self::Malformed,
        Self::Agents,
        Self::Scanner,
        Self::Provisioning,
        Self::Web,
        Self::Spread,
    ];

    /// The name in settings (`guard.NAME.…`), in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Level1 => "level1",
            Self::Level2 => "level2",
            Self::Authentication => "authentication",
            Self::Accounts => "accounts",
            Self::Challenges => "challenges",
            Self::Enumeration => "enumeration",
            Self::Malformed => "malformed",
            Self::Agents => "agents",
            Self::Scanner => "scanner",
            Self::Provisioning => "provisioning",
            Self::Web => "web",
            Self::Spread => "spread",
        }
    }

    /// The name as people read it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Level1 => "level 1",
            Self::Level2 => "level 2",
            other => other.as_str(),
        }
    }

    /// What it saw, in words that follow a colon.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Level1 => "more packets a second than level 1 lets pass",
            Self::Level2 => "more packets a second than level 2 lets pass",
            Self::Authentication => "wrong passwords",
            Self::Accounts => "wrong passwords for one account",
            Self::Challenges => "challenges that it never answered",
            Self::Enumeration => "numbers that it tried in vain",
            Self::Malformed => "broken messages or handshakes",
            Self::Agents => "a forbidden User-Agent",
            Self::Scanner => "behaving as no telephone does",
            Self::Provisioning => "guessing paths of configurations",
            Self::Web => "failed sign-ins",
            Self::Spread => "being one of a network with many blocked addresses",
        }
    }

    /// The detector of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|detector| detector.as_str() == name)
    }

    /// The number by which the kernel's tables know it; numbers are only ever added.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The detector of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|detector| detector.number() == number)
    }

    /// Its own switch; `filter.mode` is the ceiling over it.
    pub const fn enforcement(self, guard: &GuardSettings) -> Enforcement {
        match self {
            Self::Level1 => guard.level1.enforcement,
            Self::Level2 => guard.level2.enforcement,
            Self::Authentication => guard.authentication.enforcement,
            Self::Accounts => guard.accounts.enforcement,
            Self::Challenges => guard.challenges.enforcement,
            Self::Enumeration => guard.enumeration.enforcement,
            Self::Malformed => guard.malformed.enforcement,
            Self::Agents => guard.agents.enforcement,
            Self::Scanner => guard.scanner.enforcement,
            Self::Provisioning => guard.provisioning.enforcement,
            Self::Web => guard.web.enforcement,
            Self::Spread => guard.spread.enforcement,
        }
    }

    /// How often something may happen before it blocks, and the setting that says so.
    pub fn limit(self, guard: &GuardSettings) -> (&'static str, u32) {
        match self {
            Self::Level1 => ("guard.level1.packets", guard.level1.packets.get()),
            Self::Level2 => ("guard.level2.packets", guard.level2.packets.get()),
            Self::Authentication => ("guard.authentication.failures", guard.authentication.failures.get()),
            Self::Accounts => ("guard.accounts.failures", guard.accounts.failures.get()),
            Self::Challenges => ("guard.challenges.requests", guard.challenges.requests.get()),
            Self::Enumeration => ("guard.enumeration.targets", guard.enumeration.targets.get()),
            Self::Malformed => ("guard.malformed.messages", guard.malformed.messages.get()),
            Self::Agents => ("guard.agents.messages", guard.agents.messages.get()),
            Self::Scanner => ("guard.scanner.points", guard.scanner.points.get()),
            Self::Provisioning => ("guard.provisioning.failures", guard.provisioning.failures.get()),
            Self::Web => ("guard.web.failures", guard.web.failures.get()),
            Self::Spread => ("guard.spread.sources", guard.spread.sources.get()),
        }
    }

    /// The time in which it counts.
    pub fn period(self, guard: &GuardSettings) -> Duration {
        match self {
            Self::Level1 | Self::Level2 => Duration::from_secs(1),
            Self::Authentication
            | Self::Challenges
            | Self::Malformed
            | Self::Agents
            | Self::Scanner
            | Self::Provisioning => guard.period.get(),
            Self::Accounts => ACCOUNT_PERIOD,
            Self::Enumeration => guard.enumeration.period.get(),
            Self::Web => guard.web.period.get(),
            Self::Spread => DAY,
        }
    }

    /// How long the first block of a source lasts.
    pub const fn block_time(self, guard: &GuardSettings) -> BlockTime {
        match self {
            Self::Level1 => guard.level1.block_time,
            Self::Level2 => guard.level2.block_time,
            Self::Authentication => guard.authentication.block_time,
            Self::Accounts => guard.accounts.block_time,
            Self::Challenges => guard.challenges.block_time,
            Self::Enumeration => guard.enumeration.block_time,
            Self::Malformed => guard.malformed.block_time,
            Self::Agents => guard.agents.block_time,
            Self::Scanner => guard.scanner.block_time,
            Self::Provisioning => guard.provisioning.block_time,
            Self::Web => guard.web.block_time,
            Self::Spread => guard.spread.block_time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detector_is_found_by_the_name_and_the_number_that_it_is_written_with() {
        for detector in Detector::ALL {
            assert_eq!(Detector::from_name(detector.as_str()), Some(detector));
            assert_eq!(Detector::from_number(detector.number()), Some(detector));
        }
        assert_eq!(Detector::from_number(0), None);
    }

    #[test]
    fn the_settings_that_a_detector_names_exist() {
        let settings = crate::settings::Settings::default();
        for detector in Detector::ALL {
            let (key, value) = detector.limit(&settings.guard);
            assert_eq!(settings.value(key), Some(value.to_string()));
            let name = detector.as_str();
            let enforcement = detector.enforcement(&settings.guard).to_string();
            assert_eq!(settings.value(&format!("guard.{name}.enforcement")), Some(enforcement));
            let time = detector.block_time(&settings.guard).to_string();
            assert_eq!(settings.value(&format!("guard.{name}.block_time")), Some(time));
        }
    }
}
