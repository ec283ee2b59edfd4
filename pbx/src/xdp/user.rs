//! The packet filter without the kernel: the same tables and the same code in ordinary memory, asked by the daemon's
//! own sockets. What never reaches them (ssh, ICMP, other programs' ports, fragments) is not judged.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::bail;
use pbx_core::{
    address::Prefix,
    filter::{Entry, HostTables, RuleTables, settings::Projected},
    rule::{Action, MAX_ADDRESSES, MAX_PREFIXES, Rule},
    settings::{Enforcement, Settings},
    time::Timestamp,
    transport::Protocol,
};
use pbx_ebpf::{
    abi::{
        Source, automatic, known,
        settings::{TAP_SAMPLES, TAP_SPAN},
        stats::{REASONS, Reason},
    },
    hash::Seed,
    packet,
    rules::Said,
};

use super::{Clocks, XdpFilter, blocks, halves, prefix_of, source_of, tell};
use crate::{
    filter::{
        AutomaticBlock, BlockKey, Change, Control, Filter, FilterStatus, Finding, Hits, InterfaceCounters, KernelView,
        KnownChange, KnownSource, MediaChange, NewBlock, Rate, ReasonCount, Severity, Talker, TestVerdict, Usage,
    },
    host::{Snapshot, clock, reserved::Uncovered},
    store::StoredBlock,
    trace::dropped::{Dropped, Drops, Follower, Wanted},
};

/// The index under which the daemon's own sockets appear as an interface.
const SOCKETS: u32 = 1;
/// Their name.
const NAME: &str = "sockets";
/// The flag of TCP that opens a connection.
const SYN: u8 = 0x02;
/// That of a segment of an open one.
const ACK: u8 = 0x10;
/// Bytes of the headers that are judged in place of a datagram: Ethernet, IPv6, TCP.
const LONGEST_HEADERS: usize = 14 + 40 + 20;

/// The filter of a daemon that has no kernel program.
#[derive(Debug)]
pub struct UserFilter {
    tables: Arc<HostTables>,
    /// Why it is not in the kernel.
    why: String,
    counters: [[AtomicU64; 2]; REASONS],
    next_slot: AtomicU32,
    drops: Drops,
    /// The span that runs, and the samples taken in it in the low 32 bits.
    window: AtomicU64,
    /// Samples that were not taken, since the last sweep.
    lost: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rules: RuleTables<Arc<HostTables>>,
    ending: HashMap<(Prefix, Action), Timestamp>,
    settings: Settings,
    revision: i64,
    /// Ports on which transports listen.
    transports: Vec<u16>,
    open_media: Option<Uncovered>,
    connected: Vec<Prefix>,
    known: HashMap<known::Key, u32>,
    media: super::media::Book,
}

impl State {
    fn projected(&self) -> Projected {
        super::projected(&self.settings, &self.transports, &self.connected, self.open_media.as_ref())
    }
}

impl UserFilter {
    /// A filter with these rules, settings and blocks of an earlier daemon.
    pub fn new(
        why: String,
        seed: [u64; 2],
        (rules, settings, transports, revision): (&[Rule], &Settings, &[u16], i64),
        blocks: &[StoredBlock],
        snapshot: &Snapshot,
    ) -> anyhow::Result<Self> {
        let seed = Seed(seed[0], seed[1]);
        let tables = Arc::new(HostTables::new(seed));
        let clocks = Clocks::now();
        let live = || rules.iter().filter(|rule| rule.is_live(clocks.wall));
        let entries =
            live().map(|rule| Entry { prefix: rule.prefix, action: rule.action, until: clocks.until(rule.expires_at) });
        let own = snapshot.addresses.iter().map(|address| address.addr);
        let compiled = RuleTables::adopt(Arc::clone(&tables), seed, entries, own)?;
        for block in blocks {
            if let (Some(source), Some(block)) = (source_of(&block.prefix), super::blocks::restored(block, &clocks))
                && !tables.add_block(source, block)
            {
                tracing::warn!(prefix = %prefix_of(source), "no room for an automatic block of an earlier daemon");
            }
        }
        let state = State {
            rules: compiled,
            ending: live().filter_map(|rule| Some(((rule.prefix, rule.action), rule.expires_at?))).collect(),
            settings: settings.clone(),
            revision,
            transports: transports.to_vec(),
            open_media: super::open_media(settings),
            connected: super::interfaces::connected(snapshot),
            known: HashMap::new(),
            media: super::media::Book::default(),
        };
        let counters = std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)));
        let filter = Self {
            tables,
            why,
            counters,
            next_slot: AtomicU32::new(0),
            drops: Drops::default(),
            window: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            state: Mutex::new(state),
        };
        filter.project(&filter.state());
        Ok(filter)
    }

    /// Whether a datagram, or the opening of a connection, may come in. Takes no lock for a source that is neither
    /// known nor blocked.
    pub fn admits(&self, remote: SocketAddr, local: SocketAddr, protocol: Protocol, bytes: usize) -> bool {
        !self.judged((remote, local, protocol), SYN, bytes).drops()
    }

    /// Whether a connection that was let in may go on, of which so many bytes have come. It may not when its source was
    /// blocked since, by whatever rule; the limit of TCP segments, which nobody is blocked for, ends none. As
    /// [`admits`](Self::admits), it takes no lock for a source that is not blocked.
    pub fn goes_on(&self, remote: SocketAddr, local: SocketAddr, bytes: usize) -> bool {
        let reason = self.judged((remote, local, Protocol::Tcp), ACK, bytes);
        !matches!(reason, Reason::Manual | Reason::Automatic | Reason::DefaultDeny)
    }

    /// What becomes of a packet, counted and shown to whoever looks on.
    fn judged(&self, (remote, local, protocol): (SocketAddr, SocketAddr, Protocol), flags: u8, bytes: usize) -> Reason {
        let mut frame = [0; LONGEST_HEADERS];
        let length = headers(&mut frame, remote, local, protocol, flags);
        let reason = self.tables.judge(&frame[..length], SOCKETS, clock::monotonic_coarse_ns()).reason;
        let counter = &self.counters[reason as usize];
        counter[0].fetch_add(1, Relaxed);
        counter[1].fetch_add(bytes as u64, Relaxed);
        if (reason.drops() || reason.would_drop()) && self.drops.is_followed() {
            self.show(reason, remote.ip(), &frame[..length], bytes);
        }
        reason
    }

    /// Shows a packet, of which the payload never came here, to whoever looks on; a second's worth of them.
    fn show(&self, reason: Reason, source: IpAddr, headers: &[u8], payload: usize) {
        let span = clock::monotonic_coarse_ns() >> TAP_SPAN << 32;
        let one_more = |window: u64| Some(if window >> 32 == span >> 32 { window + 1 } else { span + 1 });
        let taken = self.window.fetch_update(Relaxed, Relaxed, one_more).unwrap_or_default();
        if taken >> 32 == span >> 32 && taken & u64::from(u32::MAX) >= TAP_SAMPLES {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        self.drops.show(Dropped {
            at: Timestamp::from_millis(clock::wall_ms()),
            interface: Some(NAME.to_owned()),
            reason: reason.name(),
            outcome: tell::outcome(reason),
            source: Some(source.to_canonical()),
            length: (headers.len() + payload) as u32,
            weight: 1,
            bytes: with_length(headers, payload),
        });
    }

    /// Takes away blocks that are over.
    pub fn sweep(&self) {
        let now = clock::monotonic_coarse_ns();
        for (source, block) in self.tables.automatic() {
            if block.expires <= now {
                self.tables.remove_block(source, |block| block.expires <= now);
            }
        }
        self.drops.lost(self.lost.swap(0, Relaxed));
    }

    /// Looks at the machine again: own addresses and connected networks.
    pub fn follow(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        if let Err(error) = state.rules.own(snapshot.addresses.iter().map(|address| address.addr)) {
            tracing::warn!(%error, "an own address has no place in the tables");
        }
        state.connected = super::interfaces::connected(snapshot);
        self.project(&state);
    }

    /// Projects every rule that ends again: somebody set the clock.
    pub fn clock_was_set(&self) {
        let mut state = self.state();
        let clocks = Clocks::now();
        for ((prefix, action), at) in state.ending.clone() {
            if let Err(error) = state.rules.set(&prefix, action, Some(clocks.until(Some(at)))) {
                tracing::warn!(%prefix, %error, "a rule was not projected again after the clock was set");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn project(&self, state: &State) {
        self.tables.settings(&state.projected(), SOCKETS);
    }

    fn set(state: &mut State, rule: &Rule, clocks: &Clocks) -> anyhow::Result<()> {
        state.rules.set(&rule.prefix, rule.action, Some(clocks.until(rule.expires_at)))?;
        match rule.expires_at {
            Some(at) => drop(state.ending.insert((rule.prefix, rule.action), at)),
            None => drop(state.ending.remove(&(rule.prefix, rule.action))),
        }
        Ok(())
    }

    fn unset(state: &mut State, rule: &Rule) -> anyhow::Result<()> {
        state.ending.remove(&(rule.prefix, rule.action));
        Ok(state.rules.set(&rule.prefix, rule.action, None)?)
    }

    fn know(&self, state: &mut State, key: known::Key, budget: u32) {
        // More sources than words share some; each of them still passes what one may send.
        let new = || self.next_slot.fetch_add(1, Relaxed) % known::MAX;
        let slot = *state.known.entry(key).or_insert_with(new);
        self.tables.add_known(key, known::Known { budget, slot });
    }

    fn forget(&self, state: &mut State, key: &known::Key) {
        state.known.remove(key);
        self.tables.remove_known(key);
    }
}

/// The same headers, of a packet with a payload of so many bytes.
fn with_length(headers: &[u8], payload: usize) -> Box<[u8]> {
    let mut headers: Box<[u8]> = headers.into();
    let is_ipv4 = headers[12..14] == [0x08, 0x00];
    let (ip, protocol) = if is_ipv4 { (20, headers[23]) } else { (40, headers[20]) };
    let upper = headers.len() - 14 - ip + payload;
    let (at, length) = if is_ipv4 { (16, ip + upper) } else { (18, upper) };
    headers[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    if protocol == 17 {
        headers[14 + ip + 4..14 + ip + 6].copy_from_slice(&(upper as u16).to_be_bytes());
    }
    headers
}

/// The headers that such a packet had, of TCP with these flags; their length.
fn headers(
    frame: &mut [u8; LONGEST_HEADERS],
    remote: SocketAddr,
    local: SocketAddr,
    protocol: Protocol,
    flags: u8,
) -> usize {
    let (number, upper): (u8, usize) = if protocol == Protocol::Udp { (17, 8) } else { (6, 20) };
    let ip = match (remote.ip(), local.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame[12..14].copy_from_slice(&[0x08, 0x00]);
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&(20 + upper as u16).to_be_bytes());
            frame[22..24].copy_from_slice(&[64, number]);
            frame[26..30].copy_from_slice(&source.octets());
            frame[30..34].copy_from_slice(&destination.octets());
            20
        }
        (source, destination) => {
            let bytes = |addr: IpAddr| match addr {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            frame[14] = 0x60;
            frame[18..20].copy_from_slice(&(upper as u16).to_be_bytes());
            frame[20..22].copy_from_slice(&[number, 64]);
            frame[22..38].copy_from_slice(&bytes(source));
            frame[38..54].copy_from_slice(&bytes(destination));
            40
        }
    };
    let header = &mut frame[14 + ip..];
    header[..2].copy_from_slice(&remote.port().to_be_bytes());
    header[2..4].copy_from_slice(&local.port().to_be_bytes());
    if protocol == Protocol::Udp {
        header[4..6].copy_from_slice(&8u16.to_be_bytes());
    } else {
        // Five words of header.
        header[12] = 0x50;
        header[13] = flags;
    }
    14 + ip + upper
}

impl Filter for UserFilter {
    fn control(&self) -> Control {
        Control::User(self.why.clone())
    }

    fn check(&self, _: &Change) -> anyhow::Result<()> {
        Ok(())
    }

    fn apply(&self, change: &Change) -> anyhow::Result<()> {
        let mut state = self.state();
        let clocks = Clocks::now();
        match change {
            Change::Add(rule) | Change::Replace { new: rule, .. } => Self::set(&mut state, rule, &clocks),
            Change::Remove(rule) => Self::unset(&mut state, rule),
            Change::Many { removed, added } => {
                let kept: HashSet<(Prefix, Action)> = added.iter().map(|rule| (rule.prefix, rule.action)).collect();
                let mut gone = removed.iter().filter(|rule| !kept.contains(&(rule.prefix, rule.action)));
                added.iter().try_for_each(|rule| Self::set(&mut state, rule, &clocks))?;
                gone.try_for_each(|rule| Self::unset(&mut state, rule))
            }
        }
    }

    fn settings(&self, settings: &Settings, transports: &[u16], revision: i64) -> anyhow::Result<()> {
        let mut state = self.state();
        state.settings = settings.clone();
        state.open_media = super::open_media(settings);
        state.transports = transports.to_vec();
        state.revision = revision;
        self.project(&state);
        let budget = state.projected().known_budget;
        let known: Vec<known::Key> = state.known.keys().copied().collect();
        known.into_iter().for_each(|key| self.know(&mut state, key, budget));
        for (source, _) in self.tables.automatic() {
            if self.tables.remove_block(source, |block| blocks::is_outdated(block, settings)) {
                self.tables.reset_rates(|of| of == source);
            }
        }
        Ok(())
    }

    fn automatic_blocks(&self) -> anyhow::Result<Vec<AutomaticBlock>> {
        let clocks = Clocks::now();
        let now = clock::monotonic_coarse_ns();
        let live = blocks::all_live(self.tables.automatic(), now);
        Ok(live.iter().map(|(source, block)| blocks::described(*source, block, &clocks)).collect())
    }

    fn block(&self, new: &NewBlock) -> anyhow::Result<()> {
        let clocks = Clocks::now();
        let Some((source, block)) = blocks::detected(new, &clocks)? else { return Ok(()) };
        // One writer at a time.
        let _state = self.state();
        let there = self.tables.block_of(source, block.is_web_only());
        let Some(block) = blocks::instead(block, there.as_ref(), clocks.monotonic) else { return Ok(()) };
        if !self.tables.add_block(source, block) {
            bail!("the table of automatic blocks is full: {} is not blocked", new.prefix);
        }
        Ok(())
    }

    fn remove_automatic(&self, block: &BlockKey) -> anyhow::Result<bool> {
        let Some(source) = source_of(&block.prefix) else { return Ok(false) };
        let was_there = self.tables.remove_block(source, |there| there.is_web_only() == block.web_only);
        if !block.web_only {
            self.tables.reset_rates(|of| of == source);
        }
        Ok(was_there)
    }

    fn reset_counters(&self, prefix: &Prefix) -> anyhow::Result<()> {
        self.tables.reset_rates(|of| {
            let of = prefix_of(of);
            prefix.covers(&of) || of.covers(prefix)
        });
        Ok(())
    }

    fn known(&self, change: &KnownChange) -> anyhow::Result<()> {
        let mut state = self.state();
        let budget = state.projected().known_budget;
        match change {
            KnownChange::Are(all) => {
                let wanted: HashSet<known::Key> = all.iter().map(super::known::key).collect();
                let gone: Vec<known::Key> = state.known.keys().filter(|key| !wanted.contains(key)).copied().collect();
                gone.iter().for_each(|key| self.forget(&mut state, key));
                wanted.into_iter().for_each(|key| self.know(&mut state, key, budget));
            }
            KnownChange::Change { known, gone } => {
                gone.iter().for_each(|at| self.forget(&mut state, &super::known::key(at)));
                known.iter().for_each(|at| self.know(&mut state, super::known::key(at), budget));
            }
        }
        Ok(())
    }

    fn media(&self, change: &MediaChange) -> anyhow::Result<()> {
        Ok(self.state().media.change(&*self.tables, change)?)
    }

    fn follow_drops(&self, wanted: Wanted) -> anyhow::Result<Follower> {
        Ok(self.drops.follow(wanted)?)
    }

    fn explain(&self, addr: IpAddr) -> anyhow::Result<KernelView> {
        let (hi, lo) = halves(addr);
        let (clocks, now) = (Clocks::now(), clock::monotonic_coarse_ns());
        let said = self.tables.say(addr.is_ipv6(), hi, lo, now);
        let sources = XdpFilter::sources_of(addr);
        let blocks = blocks::live(self.tables.automatic(), now);
        let block = sources.iter().find_map(|source| Some((source, blocks.get(source)?)));
        let rate = self.tables.rates(now).into_iter().find(|(source, ..)| sources.contains(source));
        let action = match said {
            Said::Allow => Some(Action::Allow),
            Said::Block => Some(Action::Block),
            Said::Own | Said::Nothing => None,
        };
        let is_connected = self.state().connected.iter().any(|network| network.contains(addr));
        let budget = self.tables.known_budget(&known::Key { hi, lo, port: 0 });
        Ok(KernelView {
            own: matches!(said, Said::Own),
            manual: action.map(|action| tell::manual(&self.state().rules, addr, action, now, &clocks)),
            known: budget.map(|budget| KnownSource { budget }),
            automatic: block.map(|(source, block)| blocks::described(*source, block, &clocks)),
            connected: is_connected,
            rate: rate.map(|(_, packets, start)| Rate { packets: packets as u32, since: clocks.wall(start) }),
        })
    }

    fn hits(&self, prefix: &Prefix, _: Action) -> Hits {
        tell::exact_hits(&self.state().rules, prefix)
    }

    fn counters(&self) -> anyhow::Result<Vec<InterfaceCounters>> {
        let counted = Reason::ALL.iter().map(|reason| {
            let [packets, bytes] = [0, 1].map(|i| self.counters[*reason as usize][i].load(Relaxed));
            ReasonCount { reason: reason.name().to_owned(), outcome: tell::outcome(*reason), packets, bytes }
        });
        let reasons = counted.filter(|count| count.packets > 0).collect();
        Ok(vec![InterfaceCounters { interface: NAME.to_owned(), reasons }])
    }

    fn top(&self, limit: usize) -> Vec<Talker> {
        let (clocks, now) = (Clocks::now(), clock::monotonic_coarse_ns());
        let blocks = blocks::live(self.tables.automatic(), now);
        let mut rates = self.tables.rates(now);
        rates.sort_by_key(|(_, packets, _)| std::cmp::Reverse(*packets));
        let talker = |(source, packets, start): (Source, u64, u64)| Talker {
            source: prefix_of(source),
            packets_per_second: packets as u32,
            blocked: blocks.get(&source).map(blocks::reason),
            last_seen: Some(clocks.wall(start)),
        };
        rates.into_iter().take(limit).map(talker).collect()
    }

    fn status(&self) -> FilterStatus {
        let state = self.state();
        let blocks = self.tables.automatic().iter().filter(|(_, block)| !block.is_web_only()).count();
        let counts = state.rules.counts();
        let usage = |table: &str, used: usize, limit: usize| Usage {
            table: table.to_owned(),
            used: used as u64,
            limit: limit as u64,
        };
        let (guard_active, automatic_full) = self.tables.alarms(clock::monotonic_coarse_ns());
        let mut not_enforced = vec![
            format!(
                "the filter is not in the kernel ({}): only what reaches the daemon's own sockets is judged",
                self.why
            ),
            "ssh, ICMP, fragments, packets to other programs and to media ports pass unjudged".to_owned(),
        ];
        if state.settings.filter.mode != Enforcement::Enforce {
            not_enforced.push(format!("mode is {}: nothing is dropped", state.settings.filter.mode));
        }
        FilterStatus {
            loaded: false,
            problem: Some(format!("the filter runs in the daemon, slower: {}", self.why)),
            mode: state.settings.filter.mode,
            settings_revision: state.revision,
            interfaces: Vec::new(),
            guard_active,
            automatic_full: automatic_full && blocks >= automatic::MAX as usize,
            usage: vec![
                usage("IPv4 addresses", counts.addresses4, MAX_ADDRESSES),
                usage("IPv6 addresses", counts.addresses6, MAX_ADDRESSES),
                usage("IPv4 prefixes", counts.prefixes4, MAX_PREFIXES),
                usage("IPv6 prefixes", counts.prefixes6, MAX_PREFIXES),
                usage("automatic blocks", blocks, automatic::MAX as usize),
            ],
            memory: 0,
            not_enforced,
        }
    }

    fn attach(&self, _: &str) -> anyhow::Result<()> {
        bail!("{}: set attach in the configuration and restart", self.why)
    }

    fn detach(&self, interface: &str) -> anyhow::Result<()> {
        bail!("{interface} is not filtered: {}", self.why)
    }

    fn doctor(&self) -> Vec<Finding> {
        let mut findings = vec![Finding {
            severity: Severity::Warning,
            subject: "filter".to_owned(),
            message: format!("it runs in the daemon and sees only its sockets: {}", self.why),
            advice: Some(
                "set attach in the configuration, run as root or by the unit, then `systemctl restart pbx`".to_owned(),
            ),
        }];
        findings.extend(tell::rule_findings(&self.state().rules, "the tables are what the rules say"));
        findings
    }

    fn test_frames(&self, frames: &[(u64, Vec<u8>)]) -> anyhow::Result<Vec<TestVerdict>> {
        let state = self.state();
        let seed = Seed(1, 2);
        let scratch = Arc::new(HostTables::new(seed));
        let begin = clock::monotonic_coarse_ns();
        let _rules = RuleTables::adopt(Arc::clone(&scratch), seed, state.rules.entries(), state.rules.own_addresses())?;
        scratch.settings(&state.projected(), SOCKETS);
        for (source, block) in self.tables.automatic() {
            scratch.add_block(source, block);
        }
        let verdict = |(frame, (at, bytes)): (usize, &(u64, Vec<u8>))| {
            let source = match packet::parse(&pbx_core::filter::host::Bytes(bytes)) {
                packet::Parsed::Ip(ip) => Some(prefix_of(Source { hi: ip.hi, lo: ip.lo.max(1) }).addr()),
                _ => None,
            };
            let reason = scratch.judge(bytes, SOCKETS, begin.saturating_add(*at)).reason;
            TestVerdict { frame, outcome: tell::outcome(reason), reason: reason.name().to_owned(), source }
        };
        Ok(frames.iter().enumerate().map(verdict).collect())
    }
}

#[cfg(test)]
mod tests {
    use pbx_core::{
        guard::Detector,
        rule::{Origin, Zone},
    };

    use super::*;

    fn filter(rules: &[Rule]) -> UserFilter {
        let mut settings = Settings::default();
        settings.set("filter.mode", "enforce").unwrap();
        UserFilter::new("attach = \"off\"".to_owned(), [1, 2], (rules, &settings, &[], 1), &[], &Snapshot::default())
            .unwrap()
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_flooding_source_is_blocked_at_its_level_and_let_go_with_its_count() {
        let filter = filter(&[]);
        for (remote, local) in [("192.0.2.9:7000", "192.0.2.1:5060"), ("[2001:db8::9]:7000", "[2001:db8::1]:5060")] {
            let (remote, local) = (socket(remote), socket(local));
            let passed = (0..600).filter(|_| filter.admits(remote, local, Protocol::Udp, 400)).count();
            assert_eq!(passed, 500, "{remote}");
            assert!(!filter.admits(remote, local, Protocol::Tcp, 60), "the block is for all of the appliance's ports");
            assert!(filter.admits(remote, SocketAddr::new(local.ip(), 2222), Protocol::Tcp, 60));
            assert!(filter.explain(remote.ip()).unwrap().automatic.unwrap().enforced);
            let prefix = filter.automatic_blocks().unwrap()[0].prefix;
            assert!(
                filter.remove_automatic(&BlockKey::whole(prefix)).unwrap()
                    && filter.admits(remote, local, Protocol::Udp, 400)
            );
            assert!(filter.explain(remote.ip()).unwrap().automatic.is_none());
        }
        let reasons = filter.counters().unwrap().remove(0).reasons;
        assert_eq!(reasons.iter().map(|count| count.packets).sum::<u64>(), 2 * 603);
    }

    #[test]
    fn a_known_source_has_its_budget_and_a_rule_its_word() {
        let filter = filter(&[]);
        let (remote, local) = (socket("192.0.2.9:7000"), socket("192.0.2.1:5060"));
        let at = crate::filter::KnownAt { addr: remote.ip(), port: None };
        filter.known(&KnownChange::Are(vec![at])).unwrap();
        assert_eq!((0..6000).filter(|_| filter.admits(remote, local, Protocol::Udp, 400)).count(), 5000);
        assert!(filter.automatic_blocks().unwrap().is_empty());
        assert_eq!(filter.explain(remote.ip()).unwrap().known.unwrap().budget, 5000);
        filter.known(&KnownChange::Change { known: vec![], gone: vec![at] }).unwrap();
        assert!(filter.explain(remote.ip()).unwrap().known.is_none());
        let rule = Rule {
            id: 1,
            prefix: "192.0.2.0/24".parse().unwrap(),
            action: Action::Block,
            zone: Zone::Any,
            origin: Origin::Manual,
            description: String::new(),
            created_at: Timestamp::EPOCH,
            created_by: "root".to_owned(),
            expires_at: None,
        };
        filter.apply(&Change::Add(rule.clone())).unwrap();
        assert!(!filter.admits(remote, local, Protocol::Udp, 400));
        assert_eq!(filter.hits(&rule.prefix, Action::Block).packets, 0, "painted ranges count nobody");
        filter.apply(&Change::Remove(rule)).unwrap();
        assert!(filter.admits(socket("192.0.2.10:7000"), local, Protocol::Udp, 400));
    }

    fn new_block(prefix: &str, reason: Detector) -> NewBlock {
        let now = Timestamp::from_millis(clock::wall_ms());
        let expires_at = now.saturating_add(std::time::Duration::from_secs(60));
        NewBlock { prefix: prefix.parse().unwrap(), reason, expires_at, enforced: true, web_only: false }
    }

    #[test]
    fn a_detectors_block_is_in_force_at_once_and_comes_back_from_the_store() {
        let before = filter(&[]);
        let local = socket("192.0.2.1:5060");
        let (one, phone) = (socket("198.51.100.9:7000"), socket("[2001:db8:9::1]:7000"));
        before.block(&new_block("198.51.100.9", Detector::Agents)).unwrap();
        before.block(&NewBlock { web_only: true, ..new_block("198.51.100.8", Detector::Web) }).unwrap();
        before.block(&new_block("2001:db8:9::/64", Detector::Enumeration)).unwrap();
        let web = SocketAddr::new(local.ip(), 8887);
        let stored: Vec<StoredBlock> = before.automatic_blocks().unwrap().iter().map(StoredBlock::from).collect();
        let after = || {
            let mut settings = Settings::default();
            settings.set("filter.mode", "enforce").unwrap();
            let why = "attach = \"off\"".to_owned();
            UserFilter::new(why, [3, 4], (&[], &settings, &[], 1), &stored, &Snapshot::default()).unwrap()
        };
        for filter in [before, after()] {
            assert!(!filter.admits(one, local, Protocol::Udp, 400));
            assert!(!filter.admits(phone, socket("[2001:db8::1]:5060"), Protocol::Udp, 400));
            let guest = socket("198.51.100.8:7000");
            assert!(filter.admits(guest, local, Protocol::Tcp, 60) && !filter.admits(guest, web, Protocol::Tcp, 60));
            let block = filter.explain(one.ip()).unwrap().automatic.unwrap();
            assert_eq!((block.reason, block.web_only), (Detector::Agents, false));
            filter.known(&KnownChange::Are(vec![crate::filter::KnownAt { addr: one.ip(), port: None }])).unwrap();
            assert!(filter.admits(one, local, Protocol::Udp, 400));
            filter.known(&KnownChange::Are(Vec::new())).unwrap();
            assert!(filter.remove_automatic(&BlockKey::whole("198.51.100.9".parse().unwrap())).unwrap());
            assert!(filter.admits(one, local, Protocol::Udp, 400));
        }
    }

    #[test]
    fn a_connection_goes_on_until_its_source_is_blocked_however_much_it_says() {
        let filter = filter(&[]);
        let (remote, local) = (socket("198.51.100.9:7000"), socket("192.0.2.1:5060"));
        assert!(filter.admits(remote, local, Protocol::Tcp, 0));
        assert!((0..100_000).all(|_| filter.goes_on(remote, local, 400)), "nobody is cut off for saying much");
        filter.block(&new_block("198.51.100.9", Detector::Accounts)).unwrap();
        assert!(!filter.goes_on(remote, local, 400) && filter.goes_on(socket("198.51.100.8:7000"), local, 400));
        let known =
            |all: &[IpAddr]| all.iter().map(|addr| crate::filter::KnownAt { addr: *addr, port: None }).collect();
        filter.known(&KnownChange::Are(known(&[remote.ip()]))).unwrap();
        assert!(filter.goes_on(remote, local, 400), "known sources pass before automatic blocks");
        filter.known(&KnownChange::Are(Vec::new())).unwrap();
        assert!(filter.remove_automatic(&BlockKey::whole("198.51.100.9".parse().unwrap())).unwrap());
        assert!(filter.goes_on(remote, local, 400));
    }

    #[test]
    fn a_block_made_while_its_detector_watched_ends_when_the_detector_enforces() {
        let filter = filter(&[]);
        let (remote, local) = (socket("198.51.100.9:7000"), socket("192.0.2.1:5060"));
        filter.block(&NewBlock { enforced: false, ..new_block("198.51.100.9", Detector::Agents) }).unwrap();
        assert!(filter.admits(remote, local, Protocol::Udp, 400));
        let mut settings = Settings::default();
        settings.set("filter.mode", "enforce").unwrap();
        settings.set("guard.agents.enforcement", "monitor").unwrap();
        filter.settings(&settings, &[], 2).unwrap();
        assert_eq!(filter.automatic_blocks().unwrap().len(), 1);
        settings.set("guard.agents.enforcement", "enforce").unwrap();
        filter.settings(&settings, &[], 3).unwrap();
        assert!(filter.automatic_blocks().unwrap().is_empty());
    }

    #[test]
    fn default_deny_keeps_strangers_from_the_sockets() {
        let filter = filter(&[]);
        let mut settings = Settings::default();
        for (key, value) in
            [("filter.mode", "enforce"), ("filter.default_deny", "enforce"), ("network.local_networks", "10.0.0.0/8")]
        {
            settings.set(key, value).unwrap();
        }
        filter.settings(&settings, &[], 2).unwrap();
        let local = socket("192.0.2.1:5060");
        assert!(!filter.admits(socket("198.51.100.9:7000"), local, Protocol::Udp, 400));
        assert!(filter.admits(socket("10.1.2.3:7000"), local, Protocol::Udp, 400));
    }

    #[tokio::test]
    async fn whoever_looks_sees_the_headers_of_what_is_dropped_with_its_whole_length() {
        let filter = filter(&[]);
        let (remote, local) = (socket("198.51.100.9:7000"), socket("192.0.2.1:5060"));
        filter.block(&new_block("198.51.100.9", Detector::Agents)).unwrap();
        filter.admits(remote, local, Protocol::Udp, 400);
        let mut follower = filter.follow_drops(Wanted::default()).unwrap();
        filter.admits(remote, local, Protocol::Udp, 401);
        let dropped = follower.next().await.unwrap().unwrap();
        assert_eq!((dropped.reason, dropped.length, dropped.weight), ("automatic-block", 42 + 401, 1));
        assert_eq!((dropped.source, dropped.bytes.len()), (Some(remote.ip()), 42));
        assert_eq!(dropped.bytes[16..18], (28u16 + 401).to_be_bytes());
        for _ in 0..2 * TAP_SAMPLES {
            filter.admits(remote, local, Protocol::Udp, 400);
        }
        filter.sweep();
        let mut lost = 0;
        while lost == 0 {
            lost = follower.next().await.unwrap().err().unwrap_or(0);
        }
    }
}
