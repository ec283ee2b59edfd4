//! The table of all settings: nothing about one stands anywhere else, but for its type.

use serde::Serialize;

use super::{Kind, Settings, ValueError, values::Value};

/// What there is to know about a setting.
#[derive(Debug, Clone, Serialize)]
pub struct Definition {
    /// Its name, such as `guard.level1.packets`.
    pub key: &'static str,
    /// What a number counts; empty for what is no number.
    pub unit: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value in a new installation.
    pub default: &'static str,
    /// One line on what it does.
    pub help: &'static str,
    #[serde(skip)]
    read: fn(&Settings) -> String,
    #[serde(skip)]
    write: fn(&mut Settings, &str) -> Result<(), ValueError>,
}

impl Definition {
    /// The value, as text.
    pub fn read(&self, settings: &Settings) -> String {
        (self.read)(settings)
    }

    /// Sets the value; on an error nothing is changed.
    pub fn write(&self, settings: &mut Settings, text: &str) -> Result<(), ValueError> {
        (self.write)(settings, text.trim())
    }

    /// Range and unit in words: `a whole number from 1 to 1000000 packets per second`.
    pub fn wanted(&self) -> String {
        let separator = if self.unit.is_empty() { "" } else { " " };
        format!("{}{separator}{}", self.kind, self.unit)
    }
}

/// Every setting, in the order in which a person reads them.
pub fn definitions() -> &'static [Definition] {
    DEFINITIONS
}

/// The definition of one setting.
pub fn definition(key: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.key == key)
}

macro_rules! setting {
    ($($field:ident).+, $unit:literal, $default:literal, $help:literal) => {
        setting!(concat!($(".", stringify!($field)),+); $($field).+, $unit, $default, $help)
    };
    ($dotted:expr; $($field:ident).+, $unit:literal, $default:literal, $help:literal) => {
        Definition {
            key: without_dot($dotted),
            unit: $unit,
            kind: kind_of(|settings| &settings.$($field).+),
            default: $default,
            help: $help,
            read: |settings| settings.$($field).+.to_string(),
            write: |settings, text| {
                settings.$($field).+ = text.parse()?;
                Ok(())
            },
        }
    };
}

/// The kind of the field that `_field` leads to; its type is all that matters.
const fn kind_of<V: Value>(_field: fn(&Settings) -> &V) -> Kind {
    V::KIND
}

const fn without_dot(dotted: &'static str) -> &'static str {
    dotted.split_at(1).1
}

static DEFINITIONS: &[Definition] = &[
    setting!(
        filter.mode,
        "",
        "monitor",
        "The most that any rule does: enforce drops, monitor only counts what it would drop, off passes everything"
    ),
    setting!(
        filter.protected_ports,
        "",
        "5060,5061,5063,5065,8885,8887-8889,10443",
        "Ports on which packets are counted for the rate levels, and which automatic blocks close"
    ),
    setting!(filter.media_ports, "", "45000-64999", "UDP ports that calls take theirs from"),
    setting!(
        filter.sample_rate,
        "dropped packets",
        "1024",
        "One in so many dropped packets is shown as a sample; 0 shows none"
    ),
    setting!(filter.web_ports, "", "8885,8887-8889,10443", "TCP ports that a block of the web sign-in closes"),
    setting!(
        filter.default_deny,
        "",
        "off",
        "Whether protected ports are closed to all but trunks, known sources, allow rules and local networks"
    ),
    setting!(guard.manual.enforcement, "", "enforce", "What rules made by people do"),
    setting!(guard.level1.enforcement, "", "enforce", "What rate level 1 does"),
    setting!(
        guard.level1.packets,
        "packets per second",
        "500",
        "Packets to protected ports that one source may send in a second; the next one starts a short block"
    ),
    setting!(guard.level1.block_time, "", "30s", "How long a source over level 1 is blocked"),
    setting!(guard.level2.enforcement, "", "enforce", "What rate level 2 does"),
    setting!(
        guard.level2.packets,
        "packets per second",
        "2000",
        "Packets to protected ports in a second, above level 1, after which a source is blacklisted"
    ),
    setting!(guard.level2.block_time, "", "1h", "How long a source over level 2 is blocked"),
    setting!(
        guard.media.enforcement,
        "",
        "enforce",
        "What happens to packets to a media port that no call holds; enforced only while the machine reserves these ports"
    ),
    setting!(
        guard.scope,
        "",
        "appliance",
        "What an automatic block closes: appliance is the protected and media ports, all is everything"
    ),
    setting!(
        guard.known.budget,
        "times level 1",
        "10",
        "What a known source may send; the excess is dropped, it is never blocked"
    ),
    setting!(
        guard.tcp.packets,
        "packets per second",
        "10000",
        "TCP packets of open connections to protected ports from one source; the excess is dropped"
    ),
    setting!(
        guard.fragments.packets,
        "packets per second",
        "2000",
        "Later fragments from one source; the excess is dropped"
    ),
    setting!(
        guard.new_sources,
        "new sources per second",
        "20000",
        "More than this many look like forged addresses, and nobody new is blocked until it is over"
    ),
    setting!(guard.period, "", "10s", "The time in which most detectors count"),
    setting!(guard.authentication.enforcement, "", "enforce", "What happens to a source of wrong passwords"),
    setting!(
        guard.authentication.failures,
        "wrong passwords",
        "50",
        "Wrong passwords of one source in the period, after which it is blocked"
    ),
    setting!(guard.authentication.block_time, "", "1h", "How long the first such block lasts"),
    setting!(
        guard.accounts.enforcement,
        "",
        "enforce",
        "What happens to a source that guesses one account's password slowly"
    ),
    setting!(
        guard.accounts.failures,
        "wrong passwords",
        "20",
        "Wrong passwords of one source for one account in an hour, after which it is blocked"
    ),
    setting!(guard.accounts.block_time, "", "1h", "How long the first such block lasts"),
    setting!(
        guard.accounts.alarm,
        "wrong passwords",
        "100",
        "Wrong passwords for one account from anywhere in a day, after which you are told"
    ),
    setting!(guard.challenges.enforcement, "", "enforce", "What happens to a source that never answers challenges"),
    setting!(
        guard.challenges.requests,
        "requests",
        "100",
        "Challenged requests of one source in the period that it never answered, after which it is blocked"
    ),
    setting!(guard.challenges.block_time, "", "1h", "How long the first such block lasts"),
    setting!(
        guard.enumeration.enforcement,
        "",
        "enforce",
        "What happens to a source that tries numbers; one in a local network only raises an alarm"
    ),
    setting!(
        guard.enumeration.targets,
        "numbers",
        "10",
        "Different numbers that one source tries in vain before it is blocked"
    ),
    setting!(guard.enumeration.period, "", "1m", "The time in which it tries them"),
    setting!(guard.enumeration.block_time, "", "1h", "How long the first such block lasts"),
    setting!(
        guard.malformed.enforcement,
        "",
        "enforce",
        "What happens to a source of messages that are none, or broken"
    ),
    setting!(
        guard.malformed.messages,
        "messages",
        "50",
        "Broken messages of one source in the period, after which it is blocked"
    ),
    setting!(guard.malformed.block_time, "", "1h", "How long the first such block lasts"),
    setting!(
        guard.agents.enforcement,
        "",
        "enforce",
        "What happens to messages of forbidden User-Agents, and to who sends them"
    ),
    setting!(
        guard.agents.list,
        "",
        "friendly-scanner;sipvicious;sipcli;sipsak;sundayddr;VaxSIPUserAgent;pplsip;iWar;sip-scan;Nmap NSE;sipptk;SIPBruteForce;Gulp;smap;sivus",
        "Forbidden User-Agents: their messages are dropped without an answer"
    ),
    setting!(
        guard.agents.messages,
        "messages",
        "1",
        "Such messages of one source in the period, after which it is blocked"
    ),
    setting!(guard.agents.block_time, "", "1h", "How long the first such block lasts"),
    setting!(guard.scanner.enforcement, "", "enforce", "What happens to a source that behaves as no telephone does"),
    setting!(guard.scanner.points, "points", "20", "Points of one source in the period, after which it is blocked"),
    setting!(guard.scanner.block_time, "", "1h", "How long the first such block lasts"),
    setting!(
        guard.scanner.foreign_domain,
        "points",
        "4",
        "For a request whose From equals its To, with a domain that is not served here"
    ),
    setting!(
        guard.scanner.bare_address,
        "points",
        "2",
        "For a request to an address instead of a domain, from beyond the local networks"
    ),
    setting!(guard.scanner.missing_headers, "points", "4", "For a request without a header that every request has"),
    setting!(guard.scanner.reused_nonce, "points", "2", "For credentials that were used before"),
    setting!(
        guard.provisioning.enforcement,
        "",
        "enforce",
        "What happens to a source that guesses where telephones find their configuration; nothing serves these yet"
    ),
    setting!(
        guard.provisioning.failures,
        "paths",
        "10",
        "Such paths that do not exist in the period, after which it is blocked"
    ),
    setting!(guard.provisioning.block_time, "", "1h", "How long the first such block lasts"),
    setting!(
        guard.web.enforcement,
        "",
        "enforce",
        "What happens to a source of failed sign-ins to the web; there is no web to sign in to yet"
    ),
    setting!(guard.web.failures, "sign-ins", "5", "Failed sign-ins of one source, after which the web is closed to it"),
    setting!(guard.web.period, "", "15m", "The time in which they failed"),
    setting!(guard.web.block_time, "", "1h", "How long the web is closed to it"),
    setting!(
        guard.repeat.times,
        "",
        "6h,1d,7d",
        "How long the second block of a source lasts, the third, and so on; never shorter than its rule says"
    ),
    setting!(guard.repeat.forget, "", "30d", "So long after its last block a source begins anew"),
    setting!(
        guard.repeat.spoofable,
        "",
        "1m",
        "How long a first block lasts that rests on UDP messages without a proof, which anybody may have sent; it doubles"
    ),
    setting!(guard.repeat.strict, "", "off", "Whether such a block lasts as long as its rule says at once"),
    setting!(
        guard.spread.enforcement,
        "",
        "monitor",
        "Many blocked sources of one network: monitor suggests a block of the network, enforce makes it"
    ),
    setting!(
        guard.spread.sources,
        "sources",
        "8",
        "Blocked addresses of one /24, or /64s of one /48, that make it an attack of the network"
    ),
    setting!(guard.spread.block_time, "", "1h", "How long a block of the network lasts"),
    setting!(
        network.local_networks,
        "",
        "",
        "Networks without a router in between: own addresses are told to peers there, and IPv6 is counted by single address"
    ),
    setting!(
        network.external_address,
        "",
        "",
        "How peers beyond the router reach the appliance; local_networks then are the private ones unless they are set"
    ),
    setting!(
        sip.expires.minimum,
        "",
        "1m30s",
        "The shortest registration; who asks for less is told so and asks again"
    ),
    setting!(sip.expires.maximum, "", "1h", "The longest registration; who asks for more gets this"),
    setting!(sip.expires.default, "", "5m", "How long a registration lasts if the phone does not say"),
    setting!(sip.contacts, "contacts", "10", "Phones that may be registered for one extension at once"),
    setting!(
        sip.keepalive,
        "",
        "25s",
        "Time between two datagrams to a UDP phone behind a router, which would forget it otherwise"
    ),
    setting!(sip.nonce_life, "", "5m", "How long a phone may use a nonce before it is given a new one"),
    setting!(
        sip.challenges.source,
        "challenges per second",
        "50",
        "Challenges to one unknown source; what is over it is not answered"
    ),
    setting!(
        sip.challenges.total,
        "challenges per second",
        "5000",
        "Challenges to all unknown sources together; what is over it is not answered"
    ),
    setting!(sip.connections.total, "connections", "20000", "TCP and TLS connections that may be open at once"),
    setting!(
        sip.connections.source,
        "connections",
        "100",
        "TCP and TLS connections of one address; a known one may have ten times as many"
    ),
    setting!(sip.connections.idle, "", "1m", "How long a connection on which nobody has registered may be silent"),
    setting!(sip.memory, "MiB", "512", "Memory of the daemon; at 80 % of it, new requests are turned away"),
    setting!(
        sip.emergency_numbers,
        "",
        "112,911,110,999,000",
        "Emergency numbers of the country; no extension's number equals one or begins with it"
    ),
    setting!(calls.ring_time, "", "1m", "How long a call rings that nobody answers and nothing forwards"),
    setting!(
        calls.session_time,
        "",
        "30m",
        "How long a call goes on without a sign of life from a phone that can give one"
    ),
    setting!(
        calls.media_silence,
        "",
        "2s",
        "How long a phone's media must be silent before it may come from another port of the same address"
    ),
    setting!(calls.drain_timeout, "", "30s", "How long a daemon that is stopped waits for calls to end"),
    setting!(calls.per_extension, "calls", "100", "Calls that one extension may be in at once"),
    setting!(notify.interval, "", "5m", "How long after a digest the next one is sent at the earliest"),
    setting!(
        notify.about,
        "",
        "disk,certificate,flood,feed,block,unblock",
        "What mail and webhook tell; `pbx notify show` says whether they are on"
    ),
    setting!(retention.cdrs, "", "365d", "How long records of calls are kept"),
    setting!(retention.events, "", "30d", "How long events are kept"),
    setting!(
        retention.evidence,
        "",
        "90d",
        "How long it is kept, after a block, why there was one, and what the source sent"
    ),
    setting!(retention.audit, "", "730d", "How long it is kept who changed what"),
];

/// The key that `typed` may be a misspelling of.
pub(super) fn nearest(typed: &str) -> Option<&'static str> {
    let typed: String = typed.chars().take(60).collect::<String>().to_ascii_lowercase().replace(['-', '/'], "_");
    let keys = || DEFINITIONS.iter().map(|definition| definition.key);
    // The end of a key, if it is the end of one only, says as much as the whole.
    let mut ends = keys().filter(|key| key.strip_suffix(&typed).is_some_and(|rest| rest.ends_with('.')));
    if let (Some(key), None) = (ends.next(), ends.next()) {
        return Some(key);
    }
    keys()
        .map(|key| (distance(&typed, key), key))
        .min()
        .filter(|(distance, key)| *distance <= key.len() / 3)
        .map(|(_, key)| key)
}

/// Insertions, deletions and replacements between two short texts (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, char) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..other.len() {
            let replaced = diagonal + usize::from(other[column] != char);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
