//! Settings of the guard: who is blocked by what it does.

use std::time::Duration;

use super::{
    BlockTime, Count, Enforcement, KnownBudget, Ladder, Level2Packets, NewSources, PacketsPerSecond, Patterns, Points,
    Scope, SettingError, Span, Switch, Times,
};

/// `guard.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardSettings {
    /// `guard.manual.*`
    pub manual: ManualSettings,
    /// `guard.level1.*`
    pub level1: Level1Settings,
    /// `guard.level2.*`
    pub level2: Level2Settings,
    /// `guard.media.*`
    pub media: MediaSettings,
    /// `guard.scope`: what an automatic block closes.
    pub scope: Scope,
    /// `guard.known.*`
    pub known: KnownSettings,
    /// `guard.tcp.*`
    pub tcp: PolicingSettings,
    /// `guard.fragments.*`
    pub fragments: PolicingSettings,
    /// `guard.new_sources`: more in a second, and nobody new is blocked.
    pub new_sources: NewSources,
    /// `guard.period`: in which most detectors count.
    pub period: Span<1, 3600>,
    /// `guard.authentication.*`
    pub authentication: AuthenticationSettings,
    /// `guard.accounts.*`
    pub accounts: AccountSettings,
    /// `guard.challenges.*`
    pub challenges: ChallengeCountSettings,
    /// `guard.enumeration.*`
    pub enumeration: EnumerationSettings,
    /// `guard.malformed.*`
    pub malformed: MalformedSettings,
    /// `guard.agents.*`
    pub agents: AgentSettings,
    /// `guard.scanner.*`
    pub scanner: ScannerSettings,
    /// `guard.provisioning.*`
    pub provisioning: ProvisioningSettings,
    /// `guard.web.*`
    pub web: WebSettings,
    /// `guard.repeat.*`
    pub repeat: RepeatSettings,
    /// `guard.spread.*`
    pub spread: SpreadSettings,
}

/// `guard.manual.*`: rules that people make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualSettings {
    /// `guard.manual.enforcement`
    pub enforcement: Enforcement,
}

/// `guard.level1.*`: the cool-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level1Settings {
    /// `guard.level1.enforcement`
    pub enforcement: Enforcement,
    /// `guard.level1.packets`: so many pass in a second, the next one makes the block.
    pub packets: PacketsPerSecond,
    /// `guard.level1.block_time`
    pub block_time: BlockTime,
}

/// `guard.level2.*`: the blacklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level2Settings {
    /// `guard.level2.enforcement`
    pub enforcement: Enforcement,
    /// `guard.level2.packets`: as of level 1, and above it.
    pub packets: Level2Packets,
    /// `guard.level2.block_time`
    pub block_time: BlockTime,
}

/// `guard.media.*`: packets to media ports that no call holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSettings {
    /// `guard.media.enforcement`
    pub enforcement: Enforcement,
}

/// `guard.known.*`: sources that have proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSettings {
    /// `guard.known.budget`: times level 1; what is over it is dropped packet by packet.
    pub budget: KnownBudget,
}

/// A limit whose excess is dropped and never blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicingSettings {
    /// `….packets` of one source.
    pub packets: PacketsPerSecond,
}

/// `guard.authentication.*`: wrong passwords of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticationSettings {
    /// `guard.authentication.enforcement`
    pub enforcement: Enforcement,
    /// `guard.authentication.failures` within `guard.period`.
    pub failures: Times,
    /// `guard.authentication.block_time`
    pub block_time: BlockTime,
}

/// `guard.accounts.*`: wrong passwords for one account, slowly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSettings {
    /// `guard.accounts.enforcement`
    pub enforcement: Enforcement,
    /// `guard.accounts.failures` of one source and one account in an hour.
    pub failures: Times,
    /// `guard.accounts.block_time`
    pub block_time: BlockTime,
    /// `guard.accounts.alarm`: wrong passwords for one account from anywhere in a day; nobody is blocked.
    pub alarm: Times,
}

/// `guard.challenges.*`: requests that were challenged and never answered with a nonce of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeCountSettings {
    /// `guard.challenges.enforcement`
    pub enforcement: Enforcement,
    /// `guard.challenges.requests` within `guard.period`.
    pub requests: Times,
    /// `guard.challenges.block_time`
    pub block_time: BlockTime,
}

/// `guard.enumeration.*`: one source tries numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumerationSettings {
    /// `guard.enumeration.enforcement`
    pub enforcement: Enforcement,
    /// `guard.enumeration.targets`: different ones within the period, without a success.
    pub targets: Count<2, 32>,
    /// `guard.enumeration.period`
    pub period: Span<1, 86_400>,
    /// `guard.enumeration.block_time`
    pub block_time: BlockTime,
}

/// `guard.malformed.*`: messages that are none, or with a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedSettings {
    /// `guard.malformed.enforcement`
    pub enforcement: Enforcement,
    /// `guard.malformed.messages` within `guard.period`.
    pub messages: Times,
    /// `guard.malformed.block_time`
    pub block_time: BlockTime,
}

/// `guard.agents.*`: programs that nobody wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// `guard.agents.enforcement`
    pub enforcement: Enforcement,
    /// `guard.agents.list`: their messages are dropped without an answer.
    pub list: Patterns,
    /// `guard.agents.messages` of a source within `guard.period`, until it is blocked.
    pub messages: Times,
    /// `guard.agents.block_time`
    pub block_time: BlockTime,
}

/// `guard.scanner.*`: points for what no telephone does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannerSettings {
    /// `guard.scanner.enforcement`
    pub enforcement: Enforcement,
    /// `guard.scanner.points` within `guard.period`.
    pub points: Times,
    /// `guard.scanner.block_time`
    pub block_time: BlockTime,
    /// `guard.scanner.foreign_domain`: From equals To, with a domain that is nobody's here.
    pub foreign_domain: Points,
    /// `guard.scanner.bare_address`: the request URI is an address, and comes from beyond the local networks.
    pub bare_address: Points,
    /// `guard.scanner.missing_headers`: a header that RFC 3261 §8.1.1 demands is not there.
    pub missing_headers: Points,
    /// `guard.scanner.reused_nonce`: a nonce of ours with a count that was there before.
    pub reused_nonce: Points,
}

/// `guard.provisioning.*`: paths of telephones' configurations that do not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisioningSettings {
    /// `guard.provisioning.enforcement`
    pub enforcement: Enforcement,
    /// `guard.provisioning.failures` within `guard.period`.
    pub failures: Times,
    /// `guard.provisioning.block_time`
    pub block_time: BlockTime,
}

/// `guard.web.*`: sign-ins that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// `guard.web.enforcement`
    pub enforcement: Enforcement,
    /// `guard.web.failures` within the period.
    pub failures: Times,
    /// `guard.web.period`
    pub period: Span<10, 86_400>,
    /// `guard.web.block_time`: of the web ports only.
    pub block_time: BlockTime,
}

/// `guard.repeat.*`: whoever comes back is blocked for longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatSettings {
    /// `guard.repeat.times`: of the second block, the third, and so on; the last one for all that follow.
    pub times: Ladder,
    /// `guard.repeat.forget`: so long after its last block a source begins anew.
    pub forget: Span<60, 31_536_000>,
    /// `guard.repeat.spoofable`: the first block that rests on unauthenticated UDP alone; it doubles up to the rule's.
    pub spoofable: BlockTime,
    /// `guard.repeat.strict`: such a block too lasts the rule's time at once.
    pub strict: Switch,
}

/// `guard.spread.*`: many sources of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadSettings {
    /// `guard.spread.enforcement`: monitor suggests a block of the network, enforce makes it.
    pub enforcement: Enforcement,
    /// `guard.spread.sources`: blocked addresses of one /24, or /64s of one /48.
    pub sources: Count<2, 256>,
    /// `guard.spread.block_time`
    pub block_time: BlockTime,
}

impl GuardSettings {
    /// Whether they fit together.
    pub(super) fn check(&self) -> Result<(), SettingError> {
        let times = self.repeat.times.times();
        let shrinks = times.windows(2).any(|pair| pair[1] < pair[0]);
        if shrinks {
            return Err(SettingError::Conflict {
                key: "guard.repeat.times",
                message: format!("{} goes down: each time must be at least the one before", self.repeat.times),
            });
        }
        Ok(())
    }

    /// Something to write the defaults into.
    pub(super) fn lowest() -> Self {
        let (enforcement, block_time) = (Enforcement::Off, BlockTime::LOWEST);
        Self {
            manual: ManualSettings { enforcement },
            level1: Level1Settings { enforcement, packets: Count::LOWEST, block_time },
            level2: Level2Settings { enforcement, packets: Count::LOWEST, block_time },
            media: MediaSettings { enforcement },
            scope: Scope::Appliance,
            known: KnownSettings { budget: Count::LOWEST },
            tcp: PolicingSettings { packets: Count::LOWEST },
            fragments: PolicingSettings { packets: Count::LOWEST },
            new_sources: Count::LOWEST,
            period: Span::LOWEST,
            authentication: AuthenticationSettings { enforcement, failures: Count::LOWEST, block_time },
            accounts: AccountSettings { enforcement, failures: Count::LOWEST, block_time, alarm: Count::LOWEST },
            challenges: ChallengeCountSettings { enforcement, requests: Count::LOWEST, block_time },
            enumeration: EnumerationSettings { enforcement, targets: Count::LOWEST, period: Span::LOWEST, block_time },
            malformed: MalformedSettings { enforcement, messages: Count::LOWEST, block_time },
            agents: AgentSettings { enforcement, list: Patterns::default(), messages: Count::LOWEST, block_time },
            scanner: ScannerSettings {
                enforcement,
                points: Count::LOWEST,
                block_time,
                foreign_domain: Count::LOWEST,
                bare_address: Count::LOWEST,
                missing_headers: Count::LOWEST,
                reused_nonce: Count::LOWEST,
            },
            provisioning: ProvisioningSettings { enforcement, failures: Count::LOWEST, block_time },
            web: WebSettings { enforcement, failures: Count::LOWEST, period: Span::LOWEST, block_time },
            repeat: RepeatSettings {
                times: Ladder::default(),
                forget: Span::LOWEST,
                spoofable: block_time,
                strict: Switch::Off,
            },
            spread: SpreadSettings { enforcement, sources: Count::LOWEST, block_time },
        }
    }

    /// How long the `nth` block of a source lasts (0: the first) whose rule asks for `first`.
    pub fn block_time(&self, first: BlockTime, nth: u32) -> Duration {
        let later = self.repeat.times.times();
        let Some(last) = later.last() else { return first.get() };
        match (nth as usize).checked_sub(1) {
            None => first.get(),
            Some(index) => first.get().max(*later.get(index).unwrap_or(last)),
        }
    }
}
