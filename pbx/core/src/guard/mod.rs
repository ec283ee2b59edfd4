//! The guard: what sources do becomes blocks, each with its reason. After the gate, which sees what they do; before the
//! filter, which drops them. Decides by what it is told and keeps it in bounded memory: a table of sources, of which
//! those with the fewest signs give way.
//!
//! A known source is never blocked: where somebody behind it fails again and again for one account, the pair of both is
//! (see [`pairs`]), and an alarm says what else was seen.

pub mod agents;
mod detector;
mod evidence;
mod offences;
pub mod pairs;
mod peaks;
mod sign;
mod source;
mod spread;
#[cfg(test)]
mod tests;
mod window;

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    time::Duration,
};

pub use detector::Detector;
pub use evidence::{Block, MESSAGES, RuleApplied, Seen};
pub use offences::Offence;
pub use peaks::{Peak, Rehearsal, rehearse};
pub use sign::{Account, EVIDENCE, Sign, What};

use self::{
    evidence::Ring,
    offences::Offences,
    peaks::Peaks,
    source::{ACCOUNT_PERIOD, Source},
    spread::Spread,
    window::{Counted, Window},
};
use crate::{
    address::Prefix,
    moment::Moment,
    settings::{Enforcement, GuardSettings, Settings},
    time::Timestamp,
};

/// Sources that are watched at once.
pub const SOURCES: usize = 65_536;
/// Accounts of which it is counted how often anybody failed.
const ACCOUNTS: usize = 8192;
/// Pairs of source and account that are blocked at once.
const PAIRS: usize = 4096;
/// The time in which wrong passwords for an account, from anywhere, count together.
const DAY: Duration = Duration::from_secs(86_400);
/// The time in which a known source fails so often for one account that no telephone with a wrong password does it.
const HAMMERED: Duration = Duration::from_secs(120);
/// Between two alarms about the same.
const ALARM_QUIET: Duration = Duration::from_secs(3600);
/// Sources that are compared when one has to give way.
const COMPARED: usize = 8;

/// What the guard wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Block a source; or only keep why, when [`Block::by_filter`] says that it is blocked.
    Block(Box<Block>),
    /// Do not judge what comes from a known source for an account.
    Pair(PairBlock),
    /// Tell an administrator.
    Alarm(Alarm),
    /// Many sources of a network are blocked.
    Spread {
        /// The network.
        network: Prefix,
        /// How many.
        sources: u32,
        /// Whether to block it, and not only to suggest that.
        enforced: bool,
        /// How long.
        time: Duration,
    },
    /// Keep what is remembered of an offender.
    Offence(Offence),
    /// Forget an offender.
    NoOffence(Prefix),
}

/// A known source that is not heard for one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairBlock {
    /// The source.
    pub source: IpAddr,
    /// The account.
    pub account: Account,
    /// How many wrong passwords led to it.
    pub count: u32,
    /// Since when.
    pub since: Timestamp,
    /// How long, from then.
    pub time: Duration,
    /// `false`: only told.
    pub enforced: bool,
}

/// Something that an administrator should hear of, and that blocks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A source that is never blocked did what others are blocked for.
    Spared {
        /// The source.
        prefix: Prefix,
        /// By whom it was seen.
        detector: Detector,
        /// How often.
        count: u32,
        /// Why it is not blocked.
        exempt: Exempt,
    },
    /// Many wrong passwords for one account, from anywhere.
    Account {
        /// The account.
        account: Account,
        /// How many in a day.
        count: u32,
    },
}

/// Why a source is never blocked by a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// This machine, its gateway or its name server: everybody may be behind it.
    Machine,
    /// It is in a local network, where new telephones try numbers.
    Local,
    /// Somebody there proved a password.
    Known,
}

/// The guard.
#[derive(Debug)]
pub struct Guard {
    settings: GuardSettings,
    ceiling: Enforcement,
    networks: Networks,
    /// Known addresses, IPv4 mapped: the /64 of one is judged by the address.
    known: BTreeSet<u128>,
    index: HashMap<Prefix, usize>,
    sources: Vec<Source>,
    hand: usize,
    ring: Ring,
    offences: Offences,
    spread: Spread,
    peaks: Peaks,
    accounts: HashMap<u64, (Window, Option<Moment>)>,
    pairs: HashMap<(IpAddr, u64), (PairBlock, Moment)>,
    alarmed: HashMap<(Prefix, Detector), Moment>,
    outputs: VecDeque<Output>,
    evicted: u64,
}

/// Networks that the guard treats otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Ours: whoever tries numbers there is a new telephone rather than an attacker.
    pub local: Vec<Prefix>,
    /// Without a router in between: IPv6 is judged by the address there, as in local ones.
    pub on_link: Vec<Prefix>,
    /// The machine's own addresses, its gateways and name servers: a block of one of them hits everybody.
    pub machine: Vec<IpAddr>,
}

/// The machine's place in its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The networks of its interfaces.
    pub connected: Vec<Prefix>,
    /// Its addresses, gateways and name servers.
    pub machine: Vec<IpAddr>,
}

impl Networks {
    /// The configured local networks and those of the own interfaces. When none are configured, the private ones of the
    /// own interfaces are local.
    pub fn new(settings: &Settings, Place { connected, machine }: Place) -> Self {
        let configured = &settings.network.local_networks;
        let local = if configured.is_empty() {
            connected.iter().filter(|network| is_private(network.addr())).copied().collect()
        } else {
            configured.iter().copied().collect()
        };
        Self { local, on_link: connected, machine }
    }

    fn is_local(&self, addr: IpAddr) -> bool {
        self.local.iter().any(|network| network.contains(addr))
    }

    /// Whether a source, an address or a /64, is the machine or what it depends on.
    fn is_machine(&self, source: &Prefix) -> bool {
        self.machine.iter().any(|addr| source.contains(*addr))
    }

    fn is_on_link(&self, addr: IpAddr) -> bool {
        self.is_local(addr) || self.on_link.iter().any(|network| network.contains(addr))
    }
}

/// RFC 1918, RFC 4193, and link-local addresses.
fn is_private(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_private() || addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unique_local() || addr.is_unicast_link_local(),
    }
}

/// What the guard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Sources that are watched.
    pub sources: usize,
    /// Sources that gave way to others, since the start.
    pub evicted: u64,
    /// Pairs of source and account that are blocked.
    pub pairs: usize,
    /// Peaks that found no place: of these sources a rehearsal knows nothing.
    pub left_out: u64,
}

impl Guard {
    /// A guard that has seen nothing.
    pub fn new(settings: &Settings, networks: Networks) -> Self {
        Self {
            settings: settings.guard.clone(),
            ceiling: settings.filter.mode,
            networks,
            known: BTreeSet::new(),
            index: HashMap::new(),
            sources: Vec::new(),
            hand: 0,
            ring: Ring::default(),
            offences: Offences::default(),
            spread: Spread::default(),
            peaks: Peaks::default(),
            accounts: HashMap::new(),
            pairs: HashMap::new(),
            alarmed: HashMap::new(),
            outputs: VecDeque::new(),
            evicted: 0,
        }
    }

    /// Takes over settings. What was counted stays; a detector that begins to enforce may speak at once of whom it has
    /// only told of. The pairs that end by it: their detector does something else now.
    pub fn set(&mut self, settings: &Settings, networks: Networks) -> Vec<PairBlock> {
        let before = Detector::ALL.map(|detector| self.enforcement(detector));
        self.settings.clone_from(&settings.guard);
        self.ceiling = settings.filter.mode;
        self.networks = networks;
        let mut ended = Vec::new();
        for (detector, before) in Detector::ALL.into_iter().zip(before) {
            let now = self.enforcement(detector);
            if now == Enforcement::Enforce && before != now {
                self.sources.iter_mut().for_each(|source| source.speak_of(detector));
            }
            if detector == Detector::Accounts && before != now {
                ended = self.pairs.drain().map(|(_, (pair, _))| pair).collect();
            }
        }
        ended
    }

    /// Takes up what the store kept.
    pub fn restore(&mut self, offences: impl IntoIterator<Item = Offence>, peaks: impl IntoIterator<Item = Peak>) {
        self.offences.restore(offences);
        self.peaks.restore(peaks);
    }

    /// What is wanted next; to be drained after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// An address became known, or is no longer.
    pub fn known(&mut self, addr: IpAddr, known: bool) {
        let bits = bits(addr);
        if known {
            self.known.insert(bits)
        } else {
            self.known.remove(&bits)
        };
    }

    /// Whether somebody known lives in a range.
    pub fn knows_in(&self, range: &Prefix) -> bool {
        self.known.range(bits(range.first())..=bits(range.last())).next().is_some()
    }

    /// Whether anything is remembered of a range: counted, or blocked before.
    pub fn remembers(&self, range: &Prefix) -> bool {
        self.index.keys().any(|prefix| prefix.overlaps(range)) || self.offences.any_in(range)
    }

    /// A source did something.
    pub fn sign(&mut self, sign: Sign, now: Moment, wall: Timestamp) {
        let Sign { source, sure, known, what, message } = sign;
        let prefix = self.judged_as(source);
        // A success says something only of those who failed.
        if let What::Succeeded { account, target } = what {
            self.succeeded(&prefix, account, target, now);
            return;
        }
        let at = self.place(prefix, now, wall);
        let watched = &mut self.sources[at];
        (watched.last, watched.last_moment) = (wall, now);
        (watched.signs, watched.known) = (watched.signs.saturating_add(1), known);
        if let Some(message) = message {
            watched.kept.keep(&mut self.ring, wall, message);
        }
        let seen = Counting { at, sure, known, now, wall };
        match what {
            What::Malformed { points } => {
                self.count(seen, Detector::Malformed, 1);
                self.count(seen, Detector::Scanner, points);
            }
            What::Agent => self.count(seen, Detector::Agents, 1),
            What::Points { call, points } => {
                if self.sources[at].is_new_call(call) {
                    self.count(seen, Detector::Scanner, points);
                }
            }
            What::Path => self.count(seen, Detector::Provisioning, 1),
            What::SignInFailed => self.count(seen, Detector::Web, 1),
            What::Challenged { call, target, points } => {
                if self.sources[at].is_new_call(call) {
                    self.count(seen, Detector::Scanner, points);
                    self.count(seen, Detector::Challenges, 1);
                }
                // Whoever tries numbers may use one Call-ID for all of them.
                self.tried(seen, target, false);
            }
            What::Answered { target } => self.answered(at, target, now),
            What::Rejected { account, user_known, answers, target } => {
                if answers {
                    self.answered(at, target, now);
                }
                self.rejected(seen, account, user_known, source);
                if !user_known {
                    self.tried(seen, target, true);
                }
            }
            What::Succeeded { .. } => {}
        }
    }

    /// The filter has blocked a source by itself.
    pub fn blocked_by_filter(
        &mut self,
        prefix: Prefix,
        detector: Detector,
        enforced: bool,
        now: Moment,
        wall: Timestamp,
    ) {
        let at = self.place(prefix, now, wall);
        let (_, limit) = detector.limit(&self.settings);
        self.peaks.note(prefix, detector, limit.saturating_add(1), false, wall);
        let first = detector.block_time(&self.settings).get();
        // The cool-off is short on purpose; it makes nobody an offender.
        let (time, before) = match detector {
            Detector::Level2 => self.offences.rated(&prefix, detector, &self.settings, wall),
            _ => (first, 0),
        };
        let counted = Counted { all: limit.saturating_add(1), sure: 0 };
        let by_filter = time <= first;
        let made = Made { detector, enforced, time, before, by_filter, counted, sure: false };
        let seen = Counting { at, sure: false, known: false, now, wall };
        self.made(seen, made);
    }

    /// How many packets a source sent in a second, for rehearsals.
    pub fn rate(&mut self, prefix: Prefix, packets: u32, known: bool, wall: Timestamp) {
        for detector in [Detector::Level1, Detector::Level2] {
            let (_, limit) = detector.limit(&self.settings);
            if packets >= limit / 5 {
                self.peaks.note(prefix, detector, packets, known, wall);
            }
        }
    }

    /// Forgets all that is counted and remembered of a range: somebody let it go.
    pub fn forget(&mut self, range: &Prefix) -> usize {
        let inside: Vec<Prefix> = self.index.keys().filter(|prefix| prefix.overlaps(range)).copied().collect();
        inside.iter().for_each(|prefix| self.remove(prefix));
        self.pairs.retain(|(source, _), _| !range.contains(*source));
        self.spread.forget(range);
        self.alarmed.retain(|(prefix, _), _| !prefix.overlaps(range));
        let offenders = self.offences.forget(range);
        self.outputs.extend(offenders.into_iter().map(Output::NoOffence));
        inside.len()
    }

    /// Counts what only time tells: challenges that stay unanswered. To be called about once a second.
    pub fn sweep(&mut self, now: Moment, wall: Timestamp) {
        for at in 0..self.sources.len() {
            let source = &self.sources[at];
            if source.waits() {
                let known = source.known;
                self.enumerated(Counting { at, sure: false, known, now, wall });
            }
        }
        self.pairs.retain(|_, (_, until)| now < *until);
        self.alarmed.retain(|_, told| now.since(*told) < ALARM_QUIET);
        self.spread.sweep(now);
        self.accounts.retain(|_, (window, _)| window.count(now, DAY).all > 0);
        self.peaks.sweep(wall);
    }

    /// Pairs of source and account that are blocked.
    pub fn pairs(&self) -> impl Iterator<Item = &PairBlock> {
        self.pairs.values().map(|(pair, _)| pair)
    }

    /// How far sources went in the last 24 hours.
    pub fn peaks(&self, wall: Timestamp) -> Vec<Peak> {
        self.peaks.all(wall)
    }

    /// What detectors count of an address now, and how often it was blocked before.
    pub fn counters(&mut self, addr: IpAddr, now: Moment) -> (Vec<(Detector, u32)>, Option<Offence>) {
        let prefix = self.judged_as(addr);
        let settings = &self.settings;
        let counted = self.index.get(&prefix).map(|at| {
            let source = &mut self.sources[*at];
            let mut counters = source.counters(now, |detector| detector.period(settings));
            let (targets, _) = source.in_vain(now, settings.enumeration.period.get());
            if targets > 0 {
                counters.push((Detector::Enumeration, targets));
            }
            let worst = source.most_failures(now, if source.known { HAMMERED } else { ACCOUNT_PERIOD });
            if worst > 0 {
                counters.push((Detector::Accounts, worst));
            }
            counters
        });
        (counted.unwrap_or_default(), self.offences.of(&prefix).copied())
    }

    /// What the guard holds.
    pub fn watched(&self) -> Watched {
        let (sources, pairs) = (self.sources.len(), self.pairs.len());
        Watched { sources, evicted: self.evicted, pairs, left_out: self.peaks.left_out }
    }

    /// As what a source is counted: IPv6 by /64, but for networks without a router in between, and where somebody known
    /// lives.
    fn judged_as(&self, addr: IpAddr) -> Prefix {
        let addr = addr.to_canonical();
        if let IpAddr::V6(v6) = addr {
            let first = v6.to_bits() >> 64 << 64;
            let lives_there = self.known.range(first..=first | u128::from(u64::MAX)).next().is_some();
            if !lives_there
                && !self.networks.is_on_link(addr)
                && let Ok(network) = Prefix::new(addr, 64)
            {
                return network;
            }
        }
        Prefix::host(addr)
    }

    /// The place of a source in the table; another gives way for it if need be.
    fn place(&mut self, prefix: Prefix, now: Moment, wall: Timestamp) -> usize {
        if let Some(at) = self.index.get(&prefix) {
            return *at;
        }
        let source = Source::new(prefix, now, wall);
        if self.sources.len() < SOURCES {
            self.sources.push(source);
            self.index.insert(prefix, self.sources.len() - 1);
            return self.sources.len() - 1;
        }
        let candidates = (0..COMPARED).map(|step| (self.hand + step) % self.sources.len());
        let at = candidates.min_by_key(|at| self.sources[*at].weight(now)).unwrap_or(0);
        self.hand = (self.hand + COMPARED) % self.sources.len();
        self.evicted += 1;
        self.index.remove(&self.sources[at].prefix);
        self.sources[at] = source;
        self.index.insert(prefix, at);
        at
    }

    fn remove(&mut self, prefix: &Prefix) {
        let Some(at) = self.index.remove(prefix) else { return };
        self.sources.swap_remove(at);
        if let Some(moved) = self.sources.get(at) {
            self.index.insert(moved.prefix, at);
        }
    }

    fn succeeded(&mut self, prefix: &Prefix, account: u64, target: u64, now: Moment) {
        let Some(at) = self.index.get(prefix).copied() else { return };
        self.answered(at, target, now);
        let source = &mut self.sources[at];
        let taken = source.succeeded(account, now);
        source.window(Detector::Authentication).take_back(now, self.settings.period.get(), taken);
    }

    fn answered(&mut self, at: usize, target: u64, now: Moment) {
        let source = &mut self.sources[at];
        source.window(Detector::Challenges).take_back(now, self.settings.period.get(), 1);
        source.answered(target);
    }

    fn tried(&mut self, seen: Counting, target: u64, failed: bool) {
        let period = self.settings.enumeration.period.get();
        self.sources[seen.at].tried(target, failed, seen.sure, seen.now, period);
        self.enumerated(seen);
    }

    fn enumerated(&mut self, seen: Counting) {
        let (targets, sure) = self.sources[seen.at].in_vain(seen.now, self.settings.enumeration.period.get());
        if targets > 0 {
            let counted = Counted { all: targets, sure: if sure { targets } else { 0 } };
            self.counted(seen, Detector::Enumeration, counted);
        }
    }

    fn rejected(&mut self, seen: Counting, account: Account, user_known: bool, source: IpAddr) {
        self.count(seen, Detector::Authentication, 1);
        let period = if seen.known { HAMMERED } else { ACCOUNT_PERIOD };
        let counted = self.sources[seen.at].rejected(account.hash, seen.sure, seen.now, period);
        if !seen.known {
            self.counted(seen, Detector::Accounts, counted);
        } else if counted.sure >= self.settings.accounts.failures.get() {
            // Only for what nobody else can have written in the name of a known source.
            self.block_pair(seen, source, account.clone(), counted.sure);
        }
        if user_known {
            self.count_account(account, seen.now);
        }
    }

    fn block_pair(&mut self, seen: Counting, source: IpAddr, account: Account, count: u32) {
        let enforcement = self.enforcement(Detector::Accounts);
        let key = (source.to_canonical(), account.hash);
        if enforcement == Enforcement::Off || self.pairs.len() >= PAIRS || self.pairs.contains_key(&key) {
            return;
        }
        let (time, enforced) = (self.settings.accounts.block_time.get(), enforcement == Enforcement::Enforce);
        self.sources[seen.at].forget_account(account.hash);
        let pair = PairBlock { source: key.0, account, count, since: seen.wall, time, enforced };
        self.pairs.insert(key, (pair.clone(), seen.now + time));
        self.outputs.push_back(Output::Pair(pair));
    }

    /// Counts for an account, whoever failed.
    fn count_account(&mut self, account: Account, now: Moment) {
        if self.accounts.len() >= ACCOUNTS && !self.accounts.contains_key(&account.hash) {
            return;
        }
        let (window, told) = match self.accounts.entry(account.hash) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert((Window::default(), None)),
        };
        let count = window.add(now, DAY, 1, false).all;
        if count >= self.settings.accounts.alarm.get() && told.is_none_or(|told| now.since(told) >= DAY) {
            *told = Some(now);
            self.outputs.push_back(Output::Alarm(Alarm::Account { account, count }));
        }
    }

    /// Counts by a detector with a window of its own.
    fn count(&mut self, seen: Counting, detector: Detector, by: u16) {
        if by == 0 || self.enforcement(detector) == Enforcement::Off {
            return;
        }
        let period = detector.period(&self.settings);
        let counted = self.sources[seen.at].window(detector).add(seen.now, period, by, seen.sure);
        self.counted(seen, detector, counted);
    }

    /// Acts when a limit is reached.
    fn counted(&mut self, seen: Counting, detector: Detector, counted: Counted) {
        let enforcement = self.enforcement(detector);
        if enforcement == Enforcement::Off {
            return;
        }
        let (_, limit) = detector.limit(&self.settings);
        let source = &mut self.sources[seen.at];
        let prefix = source.prefix;
        if counted.all.saturating_mul(5) >= limit {
            self.peaks.note(prefix, detector, counted.all, seen.known, seen.wall);
        }
        if counted.all < limit || source.is_quiet(detector, seen.now) {
            return;
        }
        let local = detector == Detector::Enumeration && self.networks.is_local(prefix.addr());
        let exempt = match () {
            () if self.networks.is_machine(&prefix) => Some(Exempt::Machine),
            () if local => Some(Exempt::Local),
            () if seen.known => Some(Exempt::Known),
            () => None,
        };
        if let Some(exempt) = exempt {
            self.spare(seen, prefix, detector, counted.all, exempt);
            return;
        }
        let sure = counted.sure.saturating_mul(2) >= counted.all;
        let (time, before) = self.offences.next(&prefix, detector, sure, &self.settings, seen.wall);
        let enforced = enforcement == Enforcement::Enforce;
        let made = Made { detector, enforced, time, before, by_filter: false, counted, sure };
        self.made(seen, made);
    }

    /// A source that is never blocked: told once an hour.
    fn spare(&mut self, seen: Counting, prefix: Prefix, detector: Detector, count: u32, exempt: Exempt) {
        self.sources[seen.at].quieten(detector, seen.now + ALARM_QUIET);
        if self.alarmed.len() < SOURCES && self.alarmed.insert((prefix, detector), seen.now).is_none() {
            self.outputs.push_back(Output::Alarm(Alarm::Spared { prefix, detector, count, exempt }));
        }
    }

    /// A block is made: evidence, offence, and what it means for its network.
    fn made(&mut self, seen: Counting, made: Made) {
        let Counting { at, now, wall, .. } = seen;
        let Made { detector, enforced, time, before, by_filter, counted, sure } = made;
        let settings = &self.settings;
        let source = &mut self.sources[at];
        let prefix = source.prefix;
        let counters = source.counters(now, |detector| detector.period(settings));
        let counters = counters.into_iter().filter(|(of, _)| *of != detector).collect();
        let (key, limit) = detector.limit(settings);
        let block_time = detector.block_time(settings).get();
        let rule = RuleApplied { key, limit, period: detector.period(settings), block_time };
        let block = Block {
            prefix,
            detector,
            time,
            enforced,
            web_only: detector == Detector::Web,
            by_filter,
            sure,
            before,
            rule,
            count: counted.all,
            counters,
            first: source.first,
            last: source.last,
            messages: source.kept.messages(&self.ring),
        };
        // Whoever was blocked begins at nothing when that is over.
        source.window(detector).clear();
        source.quieten(detector, now + time);
        match detector {
            Detector::Enumeration => source.forget_targets(),
            Detector::Accounts => source.forget_accounts(),
            _ => {}
        }
        self.outputs.push_back(Output::Block(Box::new(block)));
        if !enforced {
            return;
        }
        if detector != Detector::Level1 {
            let offence = self.offences.add(prefix, sure, settings, wall, wall.saturating_add(time));
            self.outputs.push_back(Output::Offence(offence));
        }
        // Forged addresses make no attack of a network, and the cool-off says little.
        if sure || detector == Detector::Level2 {
            self.watch_network(prefix, time, now);
        }
    }

    fn watch_network(&mut self, prefix: Prefix, time: Duration, now: Moment) {
        let enforcement = self.enforcement(Detector::Spread);
        if enforcement == Enforcement::Off {
            return;
        }
        let most = self.settings.spread.sources.get();
        if let Some((network, sources)) = self.spread.blocked(prefix, now + time, most, now) {
            let enforced = enforcement == Enforcement::Enforce;
            let time = self.settings.spread.block_time.get();
            self.outputs.push_back(Output::Spread { network, sources, enforced, time });
        }
    }

    fn enforcement(&self, detector: Detector) -> Enforcement {
        detector.enforcement(&self.settings).under(self.ceiling)
    }
}

/// An address as a number, IPv4 mapped.
fn bits(addr: IpAddr) -> u128 {
    match addr.to_canonical() {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// A sign that is being counted.
#[derive(Clone, Copy)]
struct Counting {
    at: usize,
    sure: bool,
    known: bool,
    now: Moment,
    wall: Timestamp,
}

/// A block that is being made.
struct Made {
    detector: Detector,
    enforced: bool,
    time: Duration,
    before: u32,
    by_filter: bool,
    counted: Counted,
    sure: bool,
}
