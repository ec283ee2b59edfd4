//! The boundary between the operations and the packet filter: what a filter can do and what it tells.
//! The kernel implementation is in [`crate::xdp`]; everything above speaks only this trait.
//! Calls may block for milliseconds (bulk changes for longer): operations make them off the async threads.

use std::net::IpAddr;

use pbx_core::{
    address::Prefix,
    guard::Detector,
    media::Pair,
    rule::{Action, Rule},
    settings::{Enforcement, Ports, Settings},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    host::reserved::{self, Uncovered},
    trace::dropped::{Follower, Wanted},
};

/// Somebody named an interface that does not exist, or that is not filtered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoSuchInterface(pub String);

/// A packet filter: holds the manual rules, makes automatic blocks, counts.
///
/// All methods are called from several threads; an implementation serializes its own writers.
pub trait Filter: Send + Sync {
    /// Whether changes reach the kernel; answered at once.
    fn control(&self) -> Control {
        Control::Held
    }
    /// Says whether the tables have room for `change`; asked before anything is written, and by dry runs.
    fn check(&self, change: &Change) -> anyhow::Result<()>;
    /// Makes the tables equal the state after `change`, which the store already holds.
    /// On an error nothing may be left half applied; the caller undoes the store.
    fn apply(&self, change: &Change) -> anyhow::Result<()>;
    /// Takes over the whole settings; `revision` is the store's and comes back in [`FilterStatus`]. `transports` are
    /// ports that are protected beside those of the settings.
    fn settings(&self, settings: &Settings, transports: &[u16], revision: i64) -> anyhow::Result<()>;
    /// The automatic blocks that are live now, in no order.
    fn automatic_blocks(&self) -> anyhow::Result<Vec<AutomaticBlock>>;
    /// Blocks a source until a time, at once. A block that is there and ends later stays as it is. Own addresses, allow
    /// rules, media flows and known sources pass before it.
    fn block(&self, block: &NewBlock) -> anyhow::Result<()>;
    /// Ends exactly this automatic block, and resets the counters that led to it. `false`: there was none.
    fn remove_automatic(&self, block: &BlockKey) -> anyhow::Result<bool>;
    /// Forgets the rate counters and hits of every source inside `prefix`.
    fn reset_counters(&self, prefix: &Prefix) -> anyhow::Result<()>;
    /// Takes over who is known: these have a budget of `guard.known.budget` times level 1 and are never blocked for
    /// their rate.
    fn known(&self, change: &KnownChange) -> anyhow::Result<()>;
    /// Takes over which media ports calls hold, and who may send to them. Quick, whatever else is going on.
    fn media(&self, change: &MediaChange) -> anyhow::Result<()>;
    /// Whether the other ports of the range could be closed without harm to the machine; if not, nothing is dropped
    /// there, whatever `guard.media.enforcement` says.
    fn may_close(&self, media: &Ports) -> Result<(), Uncovered> {
        reserved::covers(media)
    }
    /// Shows those of the packets that it drops from now on; while somebody looks it samples as many as it can afford.
    fn follow_drops(&self, wanted: Wanted) -> anyhow::Result<Follower> {
        drop(wanted);
        anyhow::bail!("this filter shows no packets")
    }
    /// What the tables say about this address now, tier by tier.
    fn explain(&self, addr: IpAddr) -> anyhow::Result<KernelView>;
    /// What the rule (prefix, action) has matched so far.
    fn hits(&self, prefix: &Prefix, action: Action) -> Hits;
    /// Packets and bytes by interface and reason, since the tables were made.
    fn counters(&self) -> anyhow::Result<Vec<InterfaceCounters>>;
    /// The sources with the highest rates now, highest first, at most `limit`.
    fn top(&self, limit: usize) -> Vec<Talker>;
    /// What is loaded, where it is attached, and what is not enforced.
    fn status(&self) -> FilterStatus;
    /// Attaches to an interface by name, and keeps it attached when it vanishes and returns.
    fn attach(&self, interface: &str) -> anyhow::Result<()>;
    /// Detaches from an interface and leaves it alone from now on.
    fn detach(&self, interface: &str) -> anyhow::Result<()>;
    /// Recomputes every table from the rules and settings and compares; also looks at the surroundings.
    fn doctor(&self) -> Vec<Finding>;
    /// Runs frames (arrival in ns since the first, bytes from the Ethernet header on) through a scratch copy
    /// of the program with copies of the tables; nothing that is live changes.
    fn test_frames(&self, frames: &[(u64, Vec<u8>)]) -> anyhow::Result<Vec<TestVerdict>>;
}

/// Whether changes reach the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The program is loaded and its tables are ours.
    Held,
    /// There is no kernel program, for this reason: the daemon judges what reaches its own sockets.
    User(String),
    /// The filter could not be taken over; changes are refused.
    Lost {
        /// Why.
        why: String,
        /// What goes on filtering all the same; none: nothing is filtered.
        earlier: Option<String>,
    },
}

impl Control {
    /// Whether the rules are enforced by this daemon, in the kernel or at its own sockets.
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Held | Self::User(_))
    }
}

/// A change of the manual rules, as the store committed it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A rule that was not there.
    Add(Rule),
    /// A rule that is gone.
    Remove(Rule),
    /// The same prefix and action with another expiry or description.
    Replace {
        /// As it was.
        old: Rule,
        /// As it is.
        new: Rule,
    },
    /// Any number at once: an import, a flush, a sweep. A rule in both lists was replaced.
    Many {
        /// Gone.
        removed: Vec<Rule>,
        /// New.
        added: Vec<Rule>,
    },
}

impl Change {
    /// The change that takes this one back.
    pub fn inverse(&self) -> Self {
        match self.clone() {
            Self::Add(rule) => Self::Remove(rule),
            Self::Remove(rule) => Self::Add(rule),
            Self::Replace { old, new } => Self::Replace { old: new, new: old },
            Self::Many { removed, added } => Self::Many { removed: added, added: removed },
        }
    }
}

/// An address that is known, or one port of it that a phone registered from: each has a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KnownAt {
    /// The address.
    pub addr: IpAddr,
    /// The source port; none: what comes from no port that has a budget of its own.
    pub port: Option<u16>,
}

/// A change of who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownChange {
    /// These and nobody else.
    Are(Vec<KnownAt>),
    /// Some more, and some no longer; who is in neither list stays as it is.
    Change {
        /// Known from now on.
        known: Vec<KnownAt>,
        /// Not any more.
        gone: Vec<KnownAt>,
    },
}

/// The ports of one leg of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaHeld {
    /// Both are open to everybody, as far as no block closes them.
    pub pair: Pair,
    /// The address that sends RTP, and the one that sends RTCP, as far as they are known: what these send passes before
    /// any automatic block.
    pub from: [Option<IpAddr>; 2],
}

/// A change of the media ports that calls hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaChange {
    /// These and no others.
    Are(Vec<MediaHeld>),
    /// Some more, or with others who send, and some no longer; what is in neither list stays as it is.
    Change {
        /// Held from now on.
        held: Vec<MediaHeld>,
        /// Not any more.
        gone: Vec<Pair>,
    },
}

/// Which automatic block: a source has at most one of all ports and one of the web alone, and each ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    /// A host, or the /64 of an IPv6 source.
    pub prefix: Prefix,
    /// It closes the ports of the web alone.
    pub web_only: bool,
}

impl BlockKey {
    /// The block of all ports.
    pub const fn whole(prefix: Prefix) -> Self {
        Self { prefix, web_only: false }
    }
}

/// A block that a detector makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewBlock {
    /// A host, or the /64 of an IPv6 source.
    pub prefix: Prefix,
    /// Who makes it.
    pub reason: Detector,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// `false`: it only counts what it would drop.
    pub enforced: bool,
    /// It closes the ports of the web (`filter.web_ports`) and no others.
    pub web_only: bool,
}

/// A block that the filter made by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutomaticBlock {
    /// A host, or the /64 of an IPv6 source.
    pub prefix: Prefix,
    /// What the source did.
    pub reason: Detector,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Packets it has dropped, or under monitor would have dropped.
    pub packets: u64,
    /// The last of them.
    pub last_seen: Option<Timestamp>,
    /// `false`: made under monitor, drops nothing.
    pub enforced: bool,
    /// It closes the ports of the web and no others.
    #[serde(default)]
    pub web_only: bool,
}

impl AutomaticBlock {
    /// Which it is.
    pub const fn key(&self) -> BlockKey {
        BlockKey { prefix: self.prefix, web_only: self.web_only }
    }
}

/// What a rule has matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Packets.
    pub packets: u64,
    /// The last of them.
    pub last_seen: Option<Timestamp>,
    /// The count is a sampled estimate (prefixes): show it with ≈.
    pub estimated: bool,
}

/// What the kernel tables say about one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelView {
    /// It is one of the appliance's own addresses: as a source it passes before all rules.
    pub own: bool,
    /// The manual tier's answer.
    pub manual: Option<ManualVerdict>,
    /// It is a known source: policed by a budget, never blocked by rates.
    pub known: Option<KnownSource>,
    /// The automatic block that covers it.
    pub automatic: Option<AutomaticBlock>,
    /// It lies in a network of the machine's own interfaces, as the filter knows them.
    #[serde(default)]
    pub connected: bool,
    /// Its rate slot, when it has one in the current second.
    pub rate: Option<Rate>,
}

/// The manual tier's answer for one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualVerdict {
    /// Allow or block.
    pub action: Action,
    /// The range of the rule that decided, where the tables know it.
    pub prefix: Option<Prefix>,
    /// When that rule ends.
    pub expires_at: Option<Timestamp>,
}

/// A known source's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSource {
    /// Packets per second that it may send to protected ports.
    pub budget: u32,
}

/// A source's count in the current window of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Packets to protected ports in the window so far.
    pub packets: u32,
    /// When the window began.
    pub since: Timestamp,
}

/// The counters of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceCounters {
    /// Its name, or `#ifindex` when it is gone.
    pub interface: String,
    /// By reason; reasons that never counted are left out.
    pub reasons: Vec<ReasonCount>,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Went on to the host.
    Passed,
    /// Was dropped.
    Dropped,
    /// Went on, and would have been dropped under enforce.
    WouldDrop,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The kernel contract's name of the reason (`manual_block`, `malformed`, …).
    pub reason: String,
    /// What became of the packets.
    pub outcome: Outcome,
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// A source that is being counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talker {
    /// A host, or the /64 of an IPv6 source.
    pub source: Prefix,
    /// Packets to protected ports in its last window of one second; once level 2 blocks it, the average since then.
    pub packets_per_second: u32,
    /// It is blocked now, and why.
    pub blocked: Option<Detector>,
    /// When it was last seen.
    pub last_seen: Option<Timestamp>,
}

/// What is loaded and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterStatus {
    /// The kernel program is loaded and its tables are ours.
    pub loaded: bool,
    /// Why not, and the command that helps.
    pub problem: Option<String>,
    /// The ceiling over all rules, as the kernel has it.
    pub mode: Enforcement,
    /// The revision of the settings in the kernel tables.
    pub settings_revision: i64,
    /// Where it is attached, wanted, or refused.
    pub interfaces: Vec<InterfaceStatus>,
    /// More new sources a second than `guard.new_sources`: policing only, no new automatic blocks.
    pub guard_active: bool,
    /// The automatic blocks' table is full: policing only.
    pub automatic_full: bool,
    /// Table by table: how full.
    pub usage: Vec<Usage>,
    /// Memory that the kernel tables hold, in bytes.
    pub memory: u64,
    /// What is not enforced in the present state, one sentence each; empty when all is.
    pub not_enforced: Vec<String>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index, while it exists.
    pub index: Option<u32>,
    /// How it is attached.
    pub attach: AttachState,
    /// The cause of a refusal or a fallback, and the command that helps.
    pub note: Option<String>,
}

/// How the program sits on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachState {
    /// In the driver.
    Native,
    /// In the generic path, slower.
    Generic,
    /// The interface does not exist now; it is attached when it returns.
    Waiting,
    /// The kernel or the driver refuses.
    Refused,
    /// Not wanted.
    Detached,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// What is counted, e.g. `IPv4 addresses`.
    pub table: String,
    /// Entries.
    pub used: u64,
    /// Entries that fit.
    pub limit: u64,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, with a limit that somebody should know.
    Warning,
    /// Does not work.
    Error,
}

/// One thing that the doctor looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// The command or step that helps.
    pub advice: Option<String>,
}

/// The verdict on one frame of a test run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestVerdict {
    /// Index of the frame.
    pub frame: usize,
    /// What would become of it.
    pub outcome: Outcome,
    /// The kernel contract's name of the reason.
    pub reason: String,
    /// Who sent it, where the frame says so.
    pub source: Option<IpAddr>,
}
