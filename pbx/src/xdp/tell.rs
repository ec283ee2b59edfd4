//! What the kernel says: automatic blocks, counters, rates, an address, and the two rings.

use std::{
    net::IpAddr,
    sync::{TryLockError, atomic::Ordering},
};

use pbx_core::{
    address::Prefix,
    filter::{Difference, Memory, RuleTables, Until},
    rule::Action,
    settings::Settings,
    time::Timestamp,
};
use pbx_ebpf::{
    abi::{
        Source, automatic,
        events::{Event, Kind, Sample},
        rate, stats,
        stats::Reason,
    },
    rules::Said,
};

use super::{
    Clocks, XdpFilter, address_of,
    blocks::{self, described},
    halves, prefix_of, reading,
};
use crate::{
    filter::{
        AutomaticBlock, Finding, Hits, InterfaceCounters, KernelView, KnownSource, ManualVerdict, Outcome, Rate,
        ReasonCount, Severity, Talker,
    },
    host::clock,
    store::{EventKind, NewEvent},
    trace::dropped::Dropped,
};

/// Something that the filter did or met, for the log and the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where.
    pub interface: Option<String>,
    /// One sentence.
    pub message: String,
    /// An administrator should act.
    pub warning: bool,
}

impl Told {
    pub(super) fn note(interface: Option<&str>, message: String) -> Self {
        Told { interface: interface.map(str::to_owned), message, warning: false }
    }
    pub(super) fn warning(interface: Option<&str>, message: String) -> Self {
        Told { interface: interface.map(str::to_owned), message, warning: true }
    }
    /// As an event, logged as well.
    pub fn event(self, at: Timestamp) -> NewEvent {
        let whole =
            self.interface.as_ref().map_or_else(|| self.message.clone(), |name| format!("{name}: {}", self.message));
        if self.warning {
            tracing::warn!("{whole}");
        } else {
            tracing::info!("{whole}");
        }
        NewEvent { at, kind: EventKind::Interface, prefix: None, interface: self.interface, message: self.message }
    }
}

pub(super) fn automatic(filter: &XdpFilter) -> anyhow::Result<Vec<AutomaticBlock>> {
    let (clocks, now) = (Clocks::now(), clock::monotonic_coarse_ns());
    let live = blocks::all_live(filter.maps.blocks()?, now);
    Ok(live.iter().map(|(source, block)| described(*source, block, &clocks)).collect())
}

/// Blocks made in monitor end when their rule enforces, and with them the counts that led to them.
pub(super) fn discard_monitored(filter: &XdpFilter, settings: &Settings) -> anyhow::Result<()> {
    for (source, block) in filter.maps.blocks()? {
        if blocks::is_outdated(&block, settings) {
            filter.maps.remove_block(source, block.is_web_only())?;
            filter.maps.rates_of(filter.seed, source).iter().for_each(|slot| filter.maps.reset_rate(slot));
        }
    }
    Ok(())
}

pub(super) fn explain(filter: &XdpFilter, addr: IpAddr) -> anyhow::Result<KernelView> {
    let clocks = Clocks::now();
    let reading = reading(filter);
    let (hi, lo) = halves(addr);
    let mut view = KernelView::default();
    let action = match reading.say(addr.is_ipv6(), hi, lo) {
        Said::Own => {
            view.own = true;
            None
        }
        Said::Allow => Some(Action::Allow),
        Said::Block => Some(Action::Block),
        Said::Nothing => None,
    };
    {
        let state = filter.state();
        view.manual = action.map(|action| manual(&state.rules, addr, action, reading.now, &clocks));
        view.connected = state.connected.iter().any(|network| network.contains(addr));
    }
    view.known = filter.maps.known_budget(hi, lo).map(|budget| KnownSource { budget });
    for source in XdpFilter::sources_of(addr) {
        if let Some(block) = block_of(filter, source, reading.now) {
            view.automatic.get_or_insert(described(source, &block, &clocks));
        }
        for slot in filter.maps.rates_of(filter.seed, source) {
            let running = filter.maps.running(&slot, reading.now);
            if slot.kind == rate::LEVELS && running > 0 {
                view.rate.get_or_insert(Rate { packets: running as u32, since: clocks.wall(slot.start) });
            }
        }
    }
    Ok(view)
}

/// The block that speaks for a source.
fn block_of(filter: &XdpFilter, source: Source, now: u64) -> Option<automatic::Block> {
    let blocks = [false, true].into_iter().filter_map(|web_only| filter.maps.block(source, web_only));
    blocks::live(blocks.map(|block| (source, block)).collect(), now).remove(&source)
}

/// The answer of the rule that decided: the longest live one of that action.
pub(super) fn manual<M: Memory>(
    rules: &RuleTables<M>,
    addr: IpAddr,
    action: Action,
    now: u64,
    clocks: &Clocks,
) -> ManualVerdict {
    let longest = if addr.is_ipv4() { 32 } else { 128 };
    let tick = pbx_ebpf::abi::tick(now);
    for len in (0..=longest).rev() {
        let Ok(prefix) = Prefix::new(addr, len) else { continue };
        match *rules.deadlines(&prefix).of(action) {
            Some(Until::Forever) => return ManualVerdict { action, prefix: Some(prefix), expires_at: None },
            Some(Until::Tick(end)) if tick < u64::from(end) => {
                let expires_at = Some(clocks.wall(u64::from(end) << pbx_ebpf::abi::TICK_SHIFT));
                return ManualVerdict { action, prefix: Some(prefix), expires_at };
            }
            _ => {}
        }
    }
    ManualVerdict { action, prefix: None, expires_at: None }
}

/// What the hit words of a rule say.
pub(super) fn exact_hits<M: Memory>(rules: &RuleTables<M>, prefix: &Prefix) -> Hits {
    let hit = rules.hits(prefix).unwrap_or(0);
    let packets = hit & pbx_ebpf::abi::address4::HIT_PACKETS;
    let last = (hit >> 36) << pbx_ebpf::abi::TICK_SHIFT;
    Hits { packets, last_seen: (packets > 0).then(|| Clocks::now().wall(last)), estimated: false }
}

/// Whether the tables are what the rules say: `fine`, or what differs.
pub(super) fn rule_findings<M: Memory>(rules: &RuleTables<M>, fine: &str) -> Vec<Finding> {
    let subject = || "rule tables".to_owned();
    let differences = rules.check(20);
    if differences.is_empty() {
        return vec![Finding { severity: Severity::Ok, subject: subject(), message: fine.to_owned(), advice: None }];
    }
    let finding = |difference: Difference| Finding {
        severity: Severity::Error,
        subject: subject(),
        message: format!("{:?}: {}", difference.table, difference.what),
        advice: Some("systemctl restart pbx".to_owned()),
    };
    differences.into_iter().map(finding).collect()
}

pub(super) fn counters(filter: &XdpFilter) -> anyhow::Result<Vec<InterfaceCounters>> {
    let mut counted = filter.state().interfaces.counted();
    counted.push(("others".to_owned(), 0));
    let mut all = Vec::new();
    for (interface, element) in counted {
        let sums = sums(filter, element)?;
        let reasons: Vec<ReasonCount> = Reason::ALL
            .iter()
            .map(|reason| (reason, sums[*reason as usize]))
            .filter(|(_, sum)| sum[0] > 0)
            .map(|(reason, [packets, bytes])| ReasonCount {
                reason: reason.name().to_owned(),
                outcome: outcome(*reason),
                packets,
                bytes,
            })
            .collect();
        if element != 0 || !reasons.is_empty() {
            all.push(InterfaceCounters { interface, reasons });
        }
    }
    Ok(all)
}

/// The counters of an element of `STATS` over all CPUs.
pub(super) fn sums(filter: &XdpFilter, element: u32) -> anyhow::Result<[[u64; 2]; stats::REASONS]> {
    let mut sums = [[0u64; 2]; stats::REASONS];
    for cpu in filter.maps.stats.get(&element, 0)?.iter() {
        for (sum, counter) in sums.iter_mut().zip(cpu.0) {
            sum[0] += counter[0];
            sum[1] += counter[1];
        }
    }
    Ok(sums)
}

/// Packets that were dropped so far, or would have been, on all interfaces.
pub(super) fn dropped(filter: &XdpFilter, interfaces: &super::interfaces::Table) -> anyhow::Result<u64> {
    let elements = interfaces.described().into_iter().map(|(_, element)| element).chain([0]);
    let mut dropped = 0;
    for element in elements {
        let sums = sums(filter, element)?;
        let counted = Reason::ALL.iter().filter(|reason| reason.drops() || reason.would_drop());
        dropped += counted.map(|reason| sums[*reason as usize][0]).sum::<u64>();
    }
    Ok(dropped)
}

/// What became of a packet with this reason.
pub(super) fn outcome(reason: Reason) -> Outcome {
    if reason.drops() {
        Outcome::Dropped
    } else if reason.would_drop() {
        Outcome::WouldDrop
    } else {
        Outcome::Passed
    }
}

/// Windows that began this long ago still count as present.
const RECENT: u64 = 2_000_000_000;

pub(super) fn top(filter: &XdpFilter, limit: usize) -> Vec<Talker> {
    let clocks = Clocks::now();
    let now = clock::monotonic_coarse_ns();
    let mut slots = filter.maps.rates();
    slots.retain(|slot| slot.kind == rate::LEVELS && now.saturating_sub(slot.start) < RECENT);
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.count));
    slots.truncate(limit);
    let mut talkers: Vec<Talker> = slots
        .iter()
        .map(|slot| {
            let block = block_of(filter, slot.source, now);
            Talker {
                source: prefix_of(slot.source),
                packets_per_second: slot.count as u32,
                blocked: block.map(|block| blocks::reason(&block)),
                last_seen: Some(clocks.wall(slot.start)),
            }
        })
        .collect();
    // What level 2 drops is not counted in the slots any more, but it is what an administrator looks for.
    if let Ok(all) = filter.maps.blocks() {
        let named: std::collections::HashSet<Prefix> = talkers.iter().map(|talker| talker.source).collect();
        for (source, block) in
            blocks::live(all, now).iter().filter(|(_, block)| now.saturating_sub(block.last) < RECENT)
        {
            let prefix = prefix_of(*source);
            if !named.contains(&prefix) {
                talkers.push(Talker {
                    source: prefix,
                    packets_per_second: average(block),
                    blocked: Some(blocks::reason(block)),
                    last_seen: Some(clocks.wall(block.last)),
                });
            }
        }
    }
    talkers.sort_by_key(|talker| std::cmp::Reverse(talker.packets_per_second));
    talkers.truncate(limit);
    talkers
}

/// Packets a second since a block was made.
fn average(block: &automatic::Block) -> u32 {
    const SECOND: u64 = 1_000_000_000;
    let span = block.last.saturating_sub(block.since).max(SECOND);
    (u128::from(block.packets) * u128::from(SECOND) / u128::from(span)).try_into().unwrap_or(u32::MAX)
}

impl XdpFilter {
    /// Reads a record of the `EVENTS` ring, which may have to wait for the tables: an event to tell, or none when the blocks' table says it better.
    pub fn read_event(&self, record: &[u8]) -> Option<NewEvent> {
        let event = parse_event(record)?;
        let clocks = Clocks::now();
        let at = clocks.wall(event.time);
        let interface = self.state().interfaces.name(event.ifindex);
        let message = match event.kind {
            kind if kind == Kind::GuardOn as u32 => format!(
                "{} new sources in a second: rates are policed, no new automatic blocks are made until it is calm",
                event.count
            ),
            kind if kind == Kind::GuardOff as u32 => return Some(guard_is_over(at)),
            kind if kind == Kind::Full as u32 => {
                format!(
                    "the table of automatic blocks ({}) is full: rates are policed, no new blocks are made",
                    automatic::MAX
                )
            }
            _ => return None,
        };
        Some(NewEvent { at, kind: EventKind::Guard, prefix: None, interface, message })
    }

    /// Reads a record of the `SAMPLES` ring. Never waits: while the tables are busy, a sample is only counted.
    pub fn read_sample(&self, record: &[u8]) {
        let Some(sample) = parse_sample(record) else { return };
        let clocks = Clocks::now();
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.samples_missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let missed = self.samples_missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            tracing::debug!(missed, "samples came while the tables were busy: estimated hits are a little low");
        }
        self.drops.lost(missed);
        let state = &mut *state;
        state.estimates.add(&state.rules, &sample, &clocks);
        if self.drops.is_followed() {
            let interface = state.interfaces.name(sample.ifindex);
            self.drops.show(dropped_packet(&sample, interface, &clocks));
        }
    }

    /// The rings, to be drained by the caller; a second call gives none.
    pub fn rings(&self) -> Option<[aya::maps::RingBuf<aya::maps::MapData>; 2]> {
        let take = |ring: &std::sync::Mutex<Option<_>>| ring.lock().ok().and_then(|mut ring| ring.take());
        Some([take(&self.maps.events)?, take(&self.maps.samples)?])
    }
}

/// A sample as it is shown.
fn dropped_packet(sample: &Sample, interface: Option<String>, clocks: &Clocks) -> Dropped {
    let reason = Reason::of(u64::from(sample.reason));
    let captured = (sample.captured as usize).min(sample.frame.len());
    Dropped {
        at: clocks.wall(sample.time),
        interface,
        reason: reason.name(),
        outcome: outcome(reason),
        source: address_of(sample.hi, sample.lo),
        length: sample.length,
        weight: sample.weight,
        bytes: sample.frame[..captured].into(),
    }
}

/// The event of an alarm's end.
pub fn guard_is_over(at: Timestamp) -> NewEvent {
    let message = "the flood of new sources is over: automatic blocks are made again".to_owned();
    NewEvent { at, kind: EventKind::Guard, prefix: None, interface: None, message }
}

fn word(record: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?))
}

fn half(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?))
}

fn parse_event(r: &[u8]) -> Option<Event> {
    Some(Event {
        time: word(r, 0)?,
        hi: word(r, 8)?,
        lo: word(r, 16)?,
        expires: word(r, 24)?,
        kind: half(r, 32)?,
        level: half(r, 36)?,
        count: half(r, 40)?,
        ifindex: half(r, 44)?,
    })
}

fn parse_sample(r: &[u8]) -> Option<Sample> {
    Some(Sample {
        time: word(r, 0)?,
        hi: word(r, 8)?,
        lo: word(r, 16)?,
        ifindex: half(r, 24)?,
        reason: half(r, 28)?,
        length: half(r, 32)?,
        captured: half(r, 36)?,
        weight: word(r, 40)?,
        frame: r.get(48..48 + pbx_ebpf::abi::events::CAPTURED)?.try_into().ok()?,
    })
}
