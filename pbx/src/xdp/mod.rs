//! The packet filter in the kernel, as the operations see it ([`Filter`]): takes over what is pinned, keeps the
//! tables equal to the rules, follows the interfaces, tells what the kernel says. BPF maps only here.

mod blocks;
mod disabled;
mod estimates;
mod interfaces;
mod known;
mod log;
mod media;
mod pins;
mod refusal;
mod scratch;
mod status;
mod takeover;
mod tell;
mod user;

use std::{
    collections::HashMap,
    fs::File,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::bail;
use nix::fcntl::Flock;
use pbx_core::{
    address::Prefix,
    filter::{
        RuleTables, Until,
        settings::{self, Projected},
    },
    rule::{Action, Rule},
    settings::{Enforcement, Settings},
    time::Timestamp,
};
use pbx_ebpf::{
    abi::{
        Source,
        automatic::{self, Block},
        interfaces::Interface,
    },
    hash::Seed,
};
use pbx_xdp::{KernelTables, Loaded, Maps, reading::Reading};

pub use disabled::Disabled;
pub use interfaces::place;
pub use pins::{Claimed, take_off};
pub use takeover::{Start, random_seed, take_over};
pub use tell::{Told, guard_is_over};
pub use user::UserFilter;

use crate::{
    config::Attach,
    filter::{
        AutomaticBlock, BlockKey, Change, Filter, FilterStatus, Finding, Hits, InterfaceCounters, KernelView,
        KnownChange, MediaChange, NewBlock, Talker, TestVerdict,
    },
    host::{
        self, Snapshot, clock,
        reserved::{self, Uncovered},
    },
    trace::dropped::{Drops, Follower, Wanted},
};

/// The filter of a loaded program.
#[derive(Debug)]
pub struct XdpFilter {
    maps: Arc<Maps>,
    seed: Seed,
    links: PathBuf,
    mode: Attach,
    state: Mutex<State>,
    /// Beside `state`, which may be held for long.
    media: Mutex<media::Book>,
    /// Samples that came while `state` was busy, since one was read.
    samples_missed: AtomicU64,
    /// Samples that the kernel could not take, at the last sweep.
    samples_lost: AtomicU64,
    drops: Drops,
    /// No second daemon on the same pins.
    _claim: Flock<File>,
}

/// What changes.
#[derive(Debug)]
struct State {
    loaded: Loaded,
    program: u32,
    rules: RuleTables<KernelTables>,
    /// Rules that end, by wall time: projected again when the clock is set.
    ending: HashMap<(Prefix, Action), Timestamp>,
    settings: Settings,
    /// Ports of the transports.
    transports: Vec<u16>,
    revision: i64,
    /// Why media ports are not closed, if they are not for the machine's sake.
    open_media: Option<Uncovered>,
    connected: Vec<Prefix>,
    wanted: host::Wanted,
    /// Interfaces that somebody attached or detached by name since the start.
    by_hand: HashMap<String, bool>,
    interfaces: interfaces::Table,
    known: known::Book,
    estimates: estimates::Estimates,
    /// Packets dropped so far, at the last sweep.
    dropped: u64,
    /// One in so many of them is sampled, a power of two; none: as many as the setting says.
    one_in: Option<u64>,
}

/// Samples of dropped packets in a second that are enough.
const SAMPLES: u64 = 1_000;
/// How long the kernel samples as much as somebody who looks on wants, if nobody says so again (ns).
const TAP: u64 = 3_000_000_000;

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    monotonic: u64,
    wall: Timestamp,
}

impl Clocks {
    pub(crate) fn now() -> Self {
        Clocks { monotonic: clock::monotonic_coarse_ns(), wall: Timestamp::from_millis(clock::wall_ms()) }
    }
    /// The tick at which a rule ends.
    fn until(&self, expires_at: Option<Timestamp>) -> Until {
        let Some(at) = expires_at else { return Until::Forever };
        let left = at.saturating_since(self.wall);
        if left.is_zero() {
            return Until::over(self.monotonic);
        }
        Until::at(self.monotonic.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
    }
    /// The wall time of a monotonic one.
    pub(crate) fn wall(&self, monotonic: u64) -> Timestamp {
        if monotonic >= self.monotonic {
            self.wall.saturating_add(std::time::Duration::from_nanos(monotonic - self.monotonic))
        } else {
            self.wall.saturating_sub(std::time::Duration::from_nanos(self.monotonic - monotonic))
        }
    }
}

/// A source of the kernel's as a range.
pub(crate) fn prefix_of(source: Source) -> Prefix {
    if source.hi == 0 && source.lo >> 32 == 0xffff {
        return Prefix::host(IpAddr::V4(std::net::Ipv4Addr::from_bits(source.lo as u32)));
    }
    let addr = IpAddr::V6(std::net::Ipv6Addr::from_bits(u128::from(source.hi) << 64 | u128::from(source.lo)));
    let len = if source.lo == 0 { 64 } else { 128 };
    Prefix::new(addr, len).unwrap_or_else(|_| Prefix::host(addr))
}

/// The address in two halves, of a packet that has one.
pub(crate) fn address_of(hi: u64, lo: u64) -> Option<IpAddr> {
    let addr = std::net::Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo));
    (hi | lo != 0).then(|| addr.to_canonical())
}

/// An address in two halves, IPv4 mapped.
pub(crate) fn halves(addr: IpAddr) -> (u64, u64) {
    let bits = match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    ((bits >> 64) as u64, bits as u64)
}

/// The source that a block of this range has in the kernel: a host, or a /64.
pub(crate) fn source_of(prefix: &Prefix) -> Option<Source> {
    let (hi, lo) = halves(prefix.addr());
    match prefix.len() {
        _ if prefix.is_host() => Some(Source { hi, lo }),
        64 if !prefix.is_ipv4() => Some(Source { hi, lo: 0 }),
        _ => None,
    }
}

/// The settings as words, the media rule off while the machine's own connections would suffer from it.
fn projected(
    settings: &Settings,
    transports: &[u16],
    connected: &[Prefix],
    open_media: Option<&Uncovered>,
) -> Projected {
    let mut settings = settings.clone();
    if open_media.is_some() {
        settings.guard.media.enforcement = Enforcement::Off;
    }
    settings::project(&settings, transports, connected)
}

/// Why the media rule drops nothing; none: it does as it is set.
fn open_media(settings: &Settings) -> Option<Uncovered> {
    let enforced = settings.guard.media.enforcement == Enforcement::Enforce;
    enforced.then(|| reserved::covers(&settings.filter.media_ports).err()).flatten()
}

impl State {
    fn projected(&self) -> Projected {
        let mut projected = projected(&self.settings, &self.transports, &self.connected, self.open_media.as_ref());
        if let Some(one_in) = self.one_in {
            projected.enforcement = Interface::with_sampling(projected.enforcement, one_in);
        }
        projected
    }
}

impl XdpFilter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sources as which an address may be counted and blocked: itself, and its /64.
    fn sources_of(addr: IpAddr) -> Vec<Source> {
        let (hi, lo) = halves(addr);
        match addr {
            IpAddr::V4(_) => vec![Source { hi, lo }],
            IpAddr::V6(_) => vec![Source { hi, lo }, Source { hi, lo: 0 }],
        }
    }

    /// Looks at the machine again: own addresses, connected networks, interfaces that came or went. What it
    /// did, one sentence each.
    pub fn follow(&self, snapshot: &Snapshot) -> Vec<Told> {
        let mut state = self.state();
        let state = &mut *state;
        let own = snapshot.addresses.iter().map(|address| address.addr);
        let mut told = Vec::new();
        if let Err(error) = state.rules.own(own) {
            told.push(Told::warning(None, format!("an own address has no place in the tables: {error}")));
        }
        let connected = interfaces::connected(snapshot);
        if connected != state.connected {
            state.connected = connected;
            self.project(state);
        }
        told.extend(interfaces::reconcile(self, state, snapshot));
        told
    }

    /// Projects every rule that ends again: somebody set the clock.
    pub fn clock_was_set(&self) {
        let mut state = self.state();
        let clocks = Clocks::now();
        let ending: Vec<((Prefix, Action), Timestamp)> = state.ending.iter().map(|(k, at)| (*k, *at)).collect();
        for ((prefix, action), at) in ending {
            // The entry is there already: its word changes, nothing new is needed.
            if let Err(error) = state.rules.set(&prefix, action, Some(clocks.until(Some(at)))) {
                tracing::warn!(%prefix, %error, "a rule was not projected again after the clock was set");
            }
        }
    }

    /// Looks whether media ports may be closed now; what changed in it, in a sentence.
    pub fn look_at_media(&self) -> Option<Told> {
        let settings = self.state().settings.clone();
        let open = open_media(&settings);
        let mut state = self.state();
        if open == state.open_media {
            return None;
        }
        let told = media::in_words(open.as_ref());
        state.open_media = open;
        self.project(&mut state);
        Some(Told::note(None, told))
    }

    /// Takes away automatic blocks that are over, and ends an alarm that no packet came to end; whether it did.
    pub fn sweep(&self) -> std::io::Result<bool> {
        let now = clock::monotonic_coarse_ns();
        self.maps.sweep_blocks(self.seed, now)?;
        self.sample_less_or_more();
        Ok(self.maps.end_guard(now))
    }

    /// Takes the filter off all interfaces, and the pins away.
    pub fn leave(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        interfaces::detach_all(self, &mut state)
    }

    /// Keeps samples at [`SAMPLES`] a second, however many packets are dropped: 1 in so many as the setting says (in 1
    /// while somebody looks on), or in a power of two more.
    fn sample_less_or_more(&self) {
        let mut state = self.state();
        let is_tapped = self.drops.is_followed();
        let least = if is_tapped { 1 } else { u64::from(state.settings.filter.sample_rate.one_in()) };
        self.maps.tap_until(if is_tapped { clock::monotonic_coarse_ns() + TAP } else { 0 });
        let Ok(dropped) = tell::dropped(self, &state.interfaces) else { return };
        let in_this_second = dropped.saturating_sub(state.dropped);
        state.dropped = dropped;
        let one_in = if least == 0 { 0 } else { (in_this_second / SAMPLES).next_power_of_two().max(least) };
        self.sample(&mut state, one_in);
        drop(state);
        if let Ok(lost) = self.maps.samples_lost() {
            self.drops.lost(lost.saturating_sub(self.samples_lost.swap(lost, Relaxed)));
        }
    }

    /// Samples one in so many packets, a power of two; 0: none.
    fn sample(&self, state: &mut State, one_in: u64) {
        if state.one_in != Some(one_in) {
            state.one_in = Some(one_in);
            interfaces::write(&self.maps, &state.interfaces, state.projected().enforcement);
        }
    }

    fn project(&self, state: &mut State) {
        let projected = state.projected();
        self.maps.write_settings(&projected);
        interfaces::write(&self.maps, &state.interfaces, projected.enforcement);
    }

    fn set_rule(state: &mut State, rule: &Rule, clocks: &Clocks) -> anyhow::Result<()> {
        state.rules.set(&rule.prefix, rule.action, Some(clocks.until(rule.expires_at)))?;
        if let Some(at) = rule.expires_at {
            state.ending.insert((rule.prefix, rule.action), at);
        } else {
            state.ending.remove(&(rule.prefix, rule.action));
        }
        Ok(())
    }

    fn unset_rule(state: &mut State, rule: &Rule) -> anyhow::Result<()> {
        state.ending.remove(&(rule.prefix, rule.action));
        state.estimates.forget(&rule.prefix, rule.action);
        state.rules.set(&rule.prefix, rule.action, None)?;
        Ok(())
    }
}

impl Filter for XdpFilter {
    fn check(&self, _: &Change) -> anyhow::Result<()> {
        // The guaranteed numbers, which the operations check, leave the tables half empty.
        Ok(())
    }

    fn apply(&self, change: &Change) -> anyhow::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let clocks = Clocks::now();
        match change {
            Change::Add(rule) | Change::Replace { new: rule, .. } => Self::set_rule(state, rule, &clocks),
            Change::Remove(rule) => Self::unset_rule(state, rule),
            Change::Many { removed, added } => {
                let mut done = 0;
                let kept: std::collections::HashSet<(Prefix, Action)> =
                    added.iter().map(|rule| (rule.prefix, rule.action)).collect();
                let outcome = added.iter().try_for_each(|rule| {
                    Self::set_rule(state, rule, &clocks)?;
                    done += 1;
                    anyhow::Ok(())
                });
                if let Err(error) = outcome {
                    // Back to what was: the added go, and the removed never went.
                    for rule in &added[..done] {
                        Self::unset_rule(state, rule)?;
                    }
                    for rule in removed {
                        Self::set_rule(state, rule, &clocks)?;
                    }
                    return Err(error);
                }
                removed
                    .iter()
                    .filter(|rule| !kept.contains(&(rule.prefix, rule.action)))
                    .try_for_each(|rule| Self::unset_rule(state, rule))
            }
        }
    }

    fn settings(&self, settings: &Settings, transports: &[u16], revision: i64) -> anyhow::Result<()> {
        let mut state = self.state();
        state.settings = settings.clone();
        state.open_media = open_media(settings);
        state.transports = transports.to_vec();
        state.revision = revision;
        self.project(&mut state);
        let budget = state.projected().known_budget;
        state.known.give(&self.maps, budget)?;
        drop(state);
        tell::discard_monitored(self, settings)
    }

    fn automatic_blocks(&self) -> anyhow::Result<Vec<AutomaticBlock>> {
        tell::automatic(self)
    }

    fn block(&self, new: &NewBlock) -> anyhow::Result<()> {
        let clocks = Clocks::now();
        let Some((source, block)) = blocks::detected(new, &clocks)? else { return Ok(()) };
        let decide = |there: Option<&Block>| blocks::instead(block, there, clocks.monotonic);
        if !self.maps.replace_block(self.seed, source, block.is_web_only(), decide)? {
            let most = if block.is_web_only() { automatic::WEB_MAX } else { automatic::MAX };
            bail!("the table of automatic blocks ({most}) is full: {} is not blocked", new.prefix);
        }
        Ok(())
    }

    fn remove_automatic(&self, block: &BlockKey) -> anyhow::Result<bool> {
        let Some(source) = source_of(&block.prefix) else { return Ok(false) };
        let was_there = self.maps.remove_block(source, block.web_only)?;
        // No rate leads to a block of the web alone.
        if !block.web_only {
            self.maps.rates_of(self.seed, source).iter().for_each(|slot| self.maps.reset_rate(slot));
        }
        Ok(was_there)
    }

    fn reset_counters(&self, prefix: &Prefix) -> anyhow::Result<()> {
        let slots = match source_of(prefix) {
            Some(source) if prefix.is_ipv4() => self.maps.rates_of(self.seed, source),
            _ => self.maps.rates(),
        };
        for slot in slots {
            let of = prefix_of(slot.source);
            if prefix.covers(&of) || of.covers(prefix) {
                self.maps.reset_rate(&slot);
            }
        }
        Ok(())
    }

    fn known(&self, change: &KnownChange) -> anyhow::Result<()> {
        let mut state = self.state();
        let budget = state.projected().known_budget;
        state.known.change(&self.maps, self.seed, change, budget)
    }

    fn media(&self, change: &MediaChange) -> anyhow::Result<()> {
        let mut book = self.media.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(book.change(&*self.maps, change)?)
    }

    fn follow_drops(&self, wanted: Wanted) -> anyhow::Result<Follower> {
        let follower = self.drops.follow(wanted)?;
        let mut state = self.state();
        self.maps.tap_until(clock::monotonic_coarse_ns() + TAP);
        self.sample(&mut state, 1);
        Ok(follower)
    }

    fn explain(&self, addr: IpAddr) -> anyhow::Result<KernelView> {
        tell::explain(self, addr)
    }

    fn hits(&self, prefix: &Prefix, action: Action) -> Hits {
        let state = self.state();
        // IPv4 prefixes of up to 24 bits are painted into the class map, which counts nobody.
        if prefix.is_ipv4() && prefix.len() <= 24 {
            return state.estimates.of(prefix, action);
        }
        tell::exact_hits(&state.rules, prefix)
    }

    fn counters(&self) -> anyhow::Result<Vec<InterfaceCounters>> {
        tell::counters(self)
    }

    fn top(&self, limit: usize) -> Vec<Talker> {
        tell::top(self, limit)
    }

    fn status(&self) -> FilterStatus {
        status::status(self)
    }

    fn attach(&self, interface: &str) -> anyhow::Result<()> {
        interfaces::by_hand(self, interface, true)
    }

    fn detach(&self, interface: &str) -> anyhow::Result<()> {
        interfaces::by_hand(self, interface, false)
    }

    fn doctor(&self) -> Vec<Finding> {
        status::doctor(self)
    }

    fn test_frames(&self, frames: &[(u64, Vec<u8>)]) -> anyhow::Result<Vec<TestVerdict>> {
        scratch::run(self, frames)
    }
}

/// What the kernel's tables say of an address, by the kernel's own code.
fn reading(filter: &XdpFilter) -> Reading<'_> {
    Reading { maps: &filter.maps, seed: filter.seed, now: clock::monotonic_coarse_ns() }
}
