//! What is measured of an act: what the daemon and the kernel counted before it and after it, and what the phones noticed.

use std::{collections::BTreeSet, fs, net::IpAddr, time::UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use pbx::{
    filter::{InterfaceCounters, Outcome},
    ops::BlockEntry,
};
use pbx_tests::{flood::First, lab::NEIGHBOUR_INTERFACE};
use serde::Serialize;
use serde_json::Value;

use crate::{
    acts::{Act, is_attackers},
    audio::Sound,
    office::Asked,
    scene::Scene,
};

/// What the row of the quiet is called.
const QUIET: &str = "nobody attacks";

/// How an act went, or the quiet before the first one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What it was.
    pub(crate) act: &'static str,
    /// Where the attacker was.
    pub(crate) attacker: Option<IpAddr>,
    /// The attacker has to be blocked.
    pub(crate) to_be_blocked: bool,
    /// Packets that came from the attackers' side.
    pub(crate) attack_packets: u64,
    /// Of these, how many the kernel dropped.
    pub(crate) dropped_in_kernel: u64,
    /// Of these, how many the daemon had to read: messages, connections, media packets.
    pub(crate) read_by_daemon: u64,
    /// Messages that the daemon sent besides its answers to the phones.
    pub(crate) answered: u64,
    /// The block of the attacker.
    pub(crate) blocked: Option<Blocked>,
    /// How the call sounded.
    pub(crate) call: Sound,
    /// What was lost of it, percent.
    pub(crate) loss_percent: f64,
    /// Packets that a phone heard and the other has not sent.
    pub(crate) foreign_media: u64,
    /// Media packets that the daemon read and did not forward.
    pub(crate) refused_media: u64,
    /// Registrations that the phones behind the router asked for.
    pub(crate) registrations: u64,
    /// Of these, how many succeeded.
    pub(crate) registered: u64,
    /// Messages that the phones sent again, because no answer came in time.
    pub(crate) sent_again: u64,
    /// Who is blocked and no attacker.
    pub(crate) wrongly_blocked: Vec<String>,
    /// Processor time of the daemon, percent of one.
    pub(crate) cpu_percent: f64,
}

/// That an attacker was blocked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Blocked {
    /// By which detector.
    pub(crate) by: String,
    /// How long after its first packet (milliseconds).
    pub(crate) after_ms: u64,
}

/// What is counted at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    at: std::time::Instant,
    read: u64,
    sent: u64,
    refused_media: u64,
    foreign: u64,
    phones_sent: u64,
    attack_packets: u64,
    dropped: u64,
    cpu_seconds: f64,
}

impl Counted {
    /// What is counted now.
    pub(crate) fn now(scene: &Scene) -> Result<Self> {
        let (pbx, pid) = (&scene.site.pbx, scene.daemon_pid);
        let transports = pbx.pbx("transport status")?;
        let calls = pbx.pbx("call list")?;
        let legs = items(&calls).iter().flat_map(|call| items_of(&call["legs"]));
        let bad = &scene.site.lab.bad;
        Ok(Self {
            at: std::time::Instant::now(),
            read: items(&transports).iter().map(read).sum(),
            sent: items(&transports).iter().filter_map(|transport| transport["sent"].as_u64()).sum(),
            refused_media: legs.filter_map(|leg| leg["refused"].as_u64()).sum(),
            foreign: scene.audio.foreign(),
            phones_sent: scene.office.sent(),
            attack_packets: bad.network.enter(|| sent_by(NEIGHBOUR_INTERFACE))?,
            dropped: dropped(&pbx.pbx("firewall stats")?, bad.interface)?,
            cpu_seconds: cpu_seconds(pid)?,
        })
    }
}

/// The figures of an act from what was counted before and after it.
pub(crate) fn row(
    scene: &Scene,
    act: Option<Act>,
    (before, after): (Counted, Counted),
    call: Sound,
    asked: Asked,
    blocked: Option<Blocked>,
) -> Result<Row> {
    let refused_media = after.refused_media - before.refused_media.min(after.refused_media);
    // The phones' own messages are no attack.
    let phones_sent = after.phones_sent - before.phones_sent;
    let messages = (after.read - before.read).saturating_sub(phones_sent);
    let seconds = (after.at - before.at).as_secs_f64();
    Ok(Row {
        act: act.map_or(QUIET, Act::name),
        attacker: act.and_then(Act::attacker).map(IpAddr::from),
        to_be_blocked: act.is_some_and(Act::is_to_be_blocked),
        attack_packets: after.attack_packets - before.attack_packets,
        dropped_in_kernel: after.dropped - before.dropped,
        read_by_daemon: messages + refused_media,
        answered: (after.sent - before.sent).saturating_sub(phones_sent),
        blocked,
        call,
        loss_percent: call.loss(),
        foreign_media: after.foreign - before.foreign,
        refused_media,
        registrations: asked.registrations,
        registered: asked.succeeded,
        sent_again: asked.sent_again,
        wrongly_blocked: wrongly_blocked(scene)?,
        cpu_percent: (after.cpu_seconds - before.cpu_seconds) * 100.0 / seconds.max(0.001),
    })
}

/// The block of an act's attacker, with the time since its first packet.
pub(crate) fn blocked(scene: &Scene, act: Act, first: Option<&First>) -> Result<Option<Blocked>> {
    let (Some(attacker), Some(first)) = (act.attacker(), first.and_then(First::at)) else { return Ok(None) };
    let entry = blocks(scene)?.into_iter().find(|entry| entry.cidr.contains(attacker.into()) && entry.enforced);
    let Some(entry) = entry else { return Ok(None) };
    let first = first.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let after = entry.since.as_millis().saturating_sub(first);
    Ok(Some(Blocked { by: entry.reason, after_ms: after.max(0) as u64 }))
}

/// Who is blocked and no attacker; accounts that are not heard too.
fn wrongly_blocked(scene: &Scene) -> Result<Vec<String>> {
    let entries = blocks(scene)?.into_iter().filter(|entry| !is_attackers(entry.cidr.addr()));
    let named = entries.map(|entry| match entry.account {
        Some(account) => format!("{account} at {}", entry.cidr),
        None => entry.cidr.to_string(),
    });
    Ok(named.collect::<BTreeSet<_>>().into_iter().collect())
}

fn blocks(scene: &Scene) -> Result<Vec<BlockEntry>> {
    let list = scene.site.pbx.pbx("block list --limit 1000")?;
    ensure!(list["count"].as_u64().is_some_and(|count| count <= 1000), "more blocks than can be looked at");
    serde_json::from_value(list["items"].clone()).context("the JSON of `pbx block list`")
}

/// What a transport read: messages, and connections that ended before one came.
fn read(transport: &Value) -> u64 {
    const CONNECTIONS: [&str; 6] = [
        "too_many_connections",
        "too_many_connections_of_source",
        "too_many_handshakes",
        "handshake_failed",
        "handshake_too_slow",
        "filtered",
    ];
    let reasons = items_of(&transport["dropped"]);
    let ended = reasons.iter().filter(|reason| CONNECTIONS.iter().any(|name| reason[0] == **name));
    transport["received"].as_u64().unwrap_or(0) + ended.filter_map(|reason| reason[1].as_u64()).sum::<u64>()
}

/// Packets that the filter dropped on an interface.
fn dropped(stats: &Value, interface: &str) -> Result<u64> {
    let interfaces: Vec<InterfaceCounters> = serde_json::from_value(stats.get("items").unwrap_or(stats).clone())
        .context("the JSON of `pbx firewall stats`")?;
    let reasons = interfaces.iter().filter(|one| one.interface == interface).flat_map(|one| &one.reasons);
    Ok(reasons.filter(|reason| reason.outcome == Outcome::Dropped).map(|reason| reason.packets).sum())
}

/// Packets that an interface of the calling thread's namespace has sent.
fn sent_by(interface: &str) -> Result<u64> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    // Eight figures of what was received, then bytes and packets that were sent (proc(5)).
    let packets = line.and_then(|line| line.split_whitespace().nth(9)?.parse().ok());
    packets.with_context(|| format!("no {interface} in /proc/net/dev"))
}

/// Processor time of a process.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the daemon has ended")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // The kernel tells it in hundredths whatever its own clock is.
    Ok(ticks as f64 / 100.0)
}

fn items(list: &Value) -> &[Value] {
    items_of(&list["items"])
}

fn items_of(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}
