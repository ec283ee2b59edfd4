//! Sets of values that go together, under a name.
//! A profile changes how strict the guard is; never whether it enforces, which ports there are, or which networks are local.

use std::sync::LazyLock;

use super::definition;

/// A named set of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// One line on whom it is for.
    pub help: &'static str,
    /// Keys and values; the same keys in every profile, so that nothing is left of the one before.
    pub values: Vec<(&'static str, &'static str)>,
}

/// All profiles.
pub fn profiles() -> &'static [Profile] {
    &*PROFILES
}

/// Keys and values of one profile.
pub fn profile(name: &str) -> Option<&'static [(&'static str, &'static str)]> {
    let profile = PROFILES.iter().find(|profile| profile.name == name)?;
    Some(&profile.values)
}

/// What a profile decides.
const KEYS: &[&str] = &[
    "guard.level1.packets",
    "guard.level1.block_time",
    "guard.level2.packets",
    "guard.level2.block_time",
    "guard.scope",
    "guard.known.budget",
    "guard.tcp.packets",
    "guard.fragments.packets",
    "guard.new_sources",
    "guard.period",
    "guard.authentication.failures",
    "guard.authentication.block_time",
    "guard.accounts.failures",
    "guard.accounts.block_time",
    "guard.challenges.requests",
    "guard.challenges.block_time",
    "guard.enumeration.targets",
    "guard.enumeration.period",
    "guard.enumeration.block_time",
    "guard.malformed.messages",
    "guard.malformed.block_time",
    "guard.agents.messages",
    "guard.agents.block_time",
    "guard.scanner.points",
    "guard.scanner.block_time",
    "guard.provisioning.failures",
    "guard.provisioning.block_time",
    "guard.web.failures",
    "guard.web.period",
    "guard.web.block_time",
    "guard.repeat.times",
    "guard.repeat.spoofable",
    "guard.repeat.strict",
];

static PROFILES: LazyLock<[Profile; 3]> = LazyLock::new(|| {
    [
        with("default", "The values of a new installation", &[]),
        with(
            "portsip",
            "The values that PortSIP PBX ships: 2000 packets per second for 30 s, 5000 for an hour, 1000 unanswered challenges",
            &[
                ("guard.level1.packets", "2000"),
                ("guard.level1.block_time", "30s"),
                ("guard.level2.packets", "5000"),
                ("guard.level2.block_time", "1h"),
                ("guard.challenges.requests", "1000"),
            ],
        ),
        with(
            "strict",
            "For an appliance with few phones, or under attack: lower limits, longer blocks",
            &[
                ("guard.level1.packets", "200"),
                ("guard.level1.block_time", "5m"),
                ("guard.level2.packets", "1000"),
                ("guard.level2.block_time", "1d"),
                ("guard.tcp.packets", "2000"),
                ("guard.fragments.packets", "500"),
                ("guard.authentication.failures", "10"),
                ("guard.accounts.failures", "10"),
                ("guard.challenges.requests", "30"),
                ("guard.enumeration.targets", "5"),
                ("guard.malformed.messages", "10"),
                ("guard.scanner.points", "10"),
                ("guard.provisioning.failures", "5"),
                ("guard.repeat.strict", "on"),
            ],
        ),
    ]
});

/// The defaults of [`KEYS`], but for `own`.
fn with(name: &'static str, help: &'static str, own: &[(&'static str, &'static str)]) -> Profile {
    let values = KEYS.iter().filter_map(|key| {
        let definition = definition(key)?;
        let chosen = own.iter().find(|(own, _)| own == key);
        Some((definition.key, chosen.map_or(definition.default, |(_, value)| value)))
    });
    Profile { name, help, values: values.collect() }
}
