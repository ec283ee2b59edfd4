//! Every setting once: its type, unit, range, default and help text.
//! What is stored and typed as text becomes a [`Settings`] here; who acts on it is elsewhere.

mod calls;
mod definitions;
mod guard;
mod network;
mod notify;
mod profiles;
mod retention;
mod sip;
mod values;

pub use crate::notify::Topics;
pub use calls::CallSettings;
pub use definitions::{Definition, definition, definitions};
pub use guard::{
    AccountSettings, AgentSettings, AuthenticationSettings, ChallengeCountSettings, EnumerationSettings, GuardSettings,
    KnownSettings, Level1Settings, Level2Settings, MalformedSettings, ManualSettings, MediaSettings, PolicingSettings,
    ProvisioningSettings, RepeatSettings, ScannerSettings, SpreadSettings, WebSettings,
};
pub use network::NetworkSettings;
pub use notify::NotifySettings;
pub use profiles::{Profile, profile, profiles};
pub use retention::RetentionSettings;
pub use sip::{ChallengeSettings, ConnectionSettings, ExpiresSettings, SipSettings};
pub use values::{
    BlockTime, CallCount, Challenges, Connections, Contacts, Count, EmergencyNumbers, Enforcement, ExternalAddress,
    Kind, KnownBudget, Ladder, Level2Packets, Lookup, Megabytes, NewSources, PacketsPerSecond, Patterns, Points,
    PortRange, Ports, Prefixes, SampleRate, Scope, Span, Switch, Times, ValueError,
};

/// All settings. [`Settings::default`] is what `definitions` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The packet filter as a whole.
    pub filter: FilterSettings,
    /// Who is blocked by what it sends.
    pub guard: GuardSettings,
    /// Where the appliance stands.
    pub network: NetworkSettings,
    /// Phones, and what they may ask for.
    pub sip: SipSettings,
    /// What becomes of calls.
    pub calls: CallSettings,
    /// What administrators are told.
    pub notify: NotifySettings,
    /// How long things are kept.
    pub retention: RetentionSettings,
}

/// `filter.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterSettings {
    /// `filter.mode`: the most that any rule does; see [`Enforcement::under`].
    pub mode: Enforcement,
    /// `filter.protected_ports`: where packets are counted for the rate levels.
    pub protected_ports: Ports,
    /// `filter.media_ports`: UDP ports that calls take theirs from.
    pub media_ports: Ports,
    /// `filter.sample_rate`
    pub sample_rate: SampleRate,
    /// `filter.web_ports`: what a block of the web sign-in closes.
    pub web_ports: Ports,
    /// `filter.default_deny`: whether strangers reach protected ports at all.
    pub default_deny: Enforcement,
}

impl Default for Settings {
    fn default() -> Self {
        let mut settings = Self::lowest();
        for definition in definitions() {
            let written = definition.write(&mut settings, definition.default);
            debug_assert_eq!(written, Ok(()), "{}", definition.key);
        }
        settings
    }
}

impl Settings {
    /// The value of a setting, as text that [`set`](Self::set) reads; nothing if there is no such setting.
    pub fn value(&self, key: &str) -> Option<String> {
        Some(definition(key)?.read(self))
    }

    /// Changes one setting; on an error nothing is changed. Whether it fits the others says [`check`](Self::check).
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), SettingError> {
        let Some(definition) = definition(key) else {
            return Err(SettingError::UnknownKey {
                key: key.chars().take(60).collect(),
                near: definitions::nearest(key),
            });
        };
        definition.write(self, text).map_err(|error| SettingError::Value {
            key: definition.key,
            given: text.trim().chars().take(60).collect(),
            error,
            wanted: definition.wanted(),
        })
    }

    /// Whether the settings fit together.
    pub fn check(&self) -> Result<(), SettingError> {
        let FilterSettings { protected_ports, media_ports, .. } = &self.filter;
        let GuardSettings { level1, level2, .. } = &self.guard;
        if u64::from(level2.packets) <= u64::from(level1.packets) {
            return Err(SettingError::Conflict {
                key: "guard.level2.packets",
                message: format!(
                    "{} packets per second is not above guard.level1.packets ({}): raise level 2 or lower level 1",
                    level2.packets, level1.packets
                ),
            });
        }
        if level2.block_time < level1.block_time {
            return Err(SettingError::Conflict {
                key: "guard.level2.block_time",
                message: format!(
                    "{} is shorter than guard.level1.block_time ({}): the higher level must not block for less",
                    level2.block_time, level1.block_time
                ),
            });
        }
        if let Some(both) = protected_ports.overlap(media_ports) {
            return Err(SettingError::Conflict {
                key: "filter.media_ports",
                message: format!(
                    "{both} is in filter.protected_ports too: a port is either counted by the rate levels or used for media"
                ),
            });
        }
        self.guard.check()?;
        self.network.check()?;
        self.sip.check()
    }

    /// The settings in which `other` differs: key, value here, value there.
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        definitions()
            .iter()
            .map(|definition| (definition.key, definition.read(self), definition.read(other)))
            .filter(|(_, before, after)| before != after)
            .collect()
    }

    /// Something to write the defaults into.
    fn lowest() -> Self {
        let enforcement = Enforcement::Off;
        Self {
            filter: FilterSettings {
                mode: enforcement,
                protected_ports: Ports::default(),
                media_ports: Ports::default(),
                sample_rate: SampleRate::OFF,
                web_ports: Ports::default(),
                default_deny: enforcement,
            },
            guard: GuardSettings::lowest(),
            network: NetworkSettings::lowest(),
            sip: SipSettings::lowest(),
            calls: CallSettings::lowest(),
            notify: NotifySettings::lowest(),
            retention: RetentionSettings::lowest(),
        }
    }
}

/// Why a setting is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no such setting.
    #[error("there is no setting {key:?}{}", did_you_mean(*near))]
    UnknownKey {
        /// What was given.
        key: String,
        /// The key that may have been meant.
        near: Option<&'static str>,
    },
    /// The text is not a value of this setting.
    #[error("{key}: {given:?} {error}; it takes {wanted}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was given.
        given: String,
        /// What is wrong with it.
        error: ValueError,
        /// Range and unit.
        wanted: String,
    },
    /// The value does not fit another setting.
    #[error("{key}: {message}")]
    Conflict {
        /// The setting.
        key: &'static str,
        /// What it does not fit, and what to do.
        message: String,
    },
}

impl SettingError {
    /// The setting that it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::UnknownKey { key, .. } => key,
            Self::Value { key, .. } | Self::Conflict { key, .. } => key,
        }
    }
}

fn did_you_mean(near: Option<&'static str>) -> String {
    match near {
        Some(key) => format!(": did you mean {key}?"),
        None => ": `pbx guard list` shows all".to_owned(),
    }
}

#[cfg(test)]
mod tests;
