//! Settings of what phones may do.

use super::{Challenges, Connections, Contacts, Count, EmergencyNumbers, Megabytes, SettingError, Span};

/// `sip.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SipSettings {
    /// `sip.expires.*`
    pub expires: ExpiresSettings,
    /// `sip.contacts`: of one extension.
    pub contacts: Contacts,
    /// `sip.keepalive`: between two datagrams to a phone behind a router.
    pub keepalive: Span<10, 300>,
    /// `sip.nonce_life`
    pub nonce_life: Span<30, 3600>,
    /// `sip.challenges.*`
    pub challenges: ChallengeSettings,
    /// `sip.connections.*`
    pub connections: ConnectionSettings,
    /// `sip.memory`: at 80 % of it, requests are shed.
    pub memory: Megabytes,
    /// `sip.emergency_numbers`: no extension's number equals one or begins with it.
    pub emergency_numbers: EmergencyNumbers,
}

/// `sip.expires.*`: how long a registration lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiresSettings {
    /// `sip.expires.minimum`: for less, a phone is told to ask again (RFC 3261 §10.3 allows this up to an hour).
    pub minimum: Span<10, 3600>,
    /// `sip.expires.maximum`: who asks for more gets this.
    pub maximum: Span<10, 604_800>,
    /// `sip.expires.default`: for a phone that asks for no time.
    pub default: Span<10, 604_800>,
}

/// `sip.challenges.*`: more challenges are not sent, and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeSettings {
    /// `sip.challenges.source`: to one unknown source.
    pub source: Challenges,
    /// `sip.challenges.total`: to all of them.
    pub total: Challenges,
}

/// `sip.connections.*`: TCP and TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// `sip.connections.total`
    pub total: Connections,
    /// `sip.connections.source`: of one address.
    pub source: Connections,
    /// `sip.connections.idle`: until one on which nobody registered is closed.
    pub idle: Span<5, 3600>,
}

impl SipSettings {
    /// Whether they fit together.
    pub(super) fn check(&self) -> Result<(), SettingError> {
        let ExpiresSettings { minimum, maximum, default } = self.expires;
        let conflict = |key, message| Err(SettingError::Conflict { key, message });
        if maximum.get() < minimum.get() {
            return conflict(
                "sip.expires.maximum",
                format!("{maximum} is shorter than sip.expires.minimum ({minimum}): raise the one or lower the other"),
            );
        }
        if !(minimum.get()..=maximum.get()).contains(&default.get()) {
            return conflict(
                "sip.expires.default",
                format!("{default} is not between sip.expires.minimum ({minimum}) and sip.expires.maximum ({maximum})"),
            );
        }
        for (key, one, of_all, all) in [
            (
                "sip.challenges.source",
                self.challenges.source.get(),
                "sip.challenges.total",
                self.challenges.total.get(),
            ),
            (
                "sip.connections.source",
                self.connections.source.get(),
                "sip.connections.total",
                self.connections.total.get(),
            ),
        ] {
            if one > all {
                return conflict(key, format!("{one} is above {of_all} ({all}): one source would take all of them"));
            }
        }
        Ok(())
    }

    /// Something to write the defaults into.
    pub(super) fn lowest() -> Self {
        Self {
            expires: ExpiresSettings { minimum: Span::LOWEST, maximum: Span::LOWEST, default: Span::LOWEST },
            contacts: Count::LOWEST,
            keepalive: Span::LOWEST,
            nonce_life: Span::LOWEST,
            challenges: ChallengeSettings { source: Count::LOWEST, total: Count::LOWEST },
            connections: ConnectionSettings { total: Count::LOWEST, source: Count::LOWEST, idle: Span::LOWEST },
            memory: Count::LOWEST,
            emergency_numbers: EmergencyNumbers::default(),
        }
    }
}
