//! The order of judgement, in one place: essential traffic, manual rules, media flows in progress, known
//! sources, automatic blocks, default deny, protected ports, media ports.

use crate::{
    abi::{
        Source, automatic, events, interfaces,
        interfaces::{Enforcement, Interface, Rule},
        known, media, ports, presence, rate as rates,
        settings::{self, Settings},
        stats::Reason,
    },
    hash,
    packet::{self, Frame, Ip, Parsed, Upper},
    rate,
    rules::{self, Said},
    tables::Tables,
    word,
};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Why; [`Reason::drops`] says whether it is dropped.
    pub reason: Reason,
    /// Source (zero when there is none), most significant bits.
    pub hi: u64,
    /// Source, least significant bits.
    pub lo: u64,
    /// Element of `STATS`.
    pub stats: u32,
    /// This CPU's packets with this reason on this interface.
    pub nth: u64,
    /// A dropped packet is sampled when `nth` has none of these bits.
    pub sample_mask: u64,
}

/// Where a packet came in and what is enforced there.
#[derive(Clone, Copy)]
struct Place {
    ifindex: u32,
    stats: u32,
    enforcement: u64,
}

impl Place {
    #[inline(always)]
    fn of<T: Tables>(t: &T, ifindex: u32) -> Self {
        let mut stats = 0;
        let mut enforcement = 0;
        if let Some(words) = t.interface(ifindex & (interfaces::SLOTS - 1)) {
            // SAFETY: an element has two words.
            let identity = unsafe { word::load(words) };
            if identity as u32 == ifindex {
                stats = (identity >> 32) as u32;
                // SAFETY: as above.
                enforcement = unsafe { word::load(words.add(1)) };
            } else if let Some(words) = t.interface(0) {
                // SAFETY: as above.
                enforcement = unsafe { word::load(words.add(1)) };
            }
        }
        Place { ifindex, stats, enforcement }
    }
    /// Interface and element of `STATS` in one word.
    #[inline(always)]
    fn pack(&self) -> u64 {
        u64::from(self.ifindex) | u64::from(self.stats) << 32
    }
    #[inline(always)]
    fn rule(&self, rule: Rule) -> Enforcement {
        Interface::rule(self.enforcement, rule)
    }
}

/// Judges a frame and counts it.
#[inline(always)]
pub fn judge<T: Tables, F: Frame>(t: &T, frame: &F, ifindex: u32) -> Judged {
    let place = Place::of(t, ifindex);
    let parsed = packet::parse(frame);
    let (hi, lo) = match parsed {
        Parsed::Ip(ip) => (ip.hi, ip.lo),
        _ => (0, 0),
    };
    let reason = match parsed {
        Parsed::NotIp => Reason::NotIp,
        Parsed::ManyTags => Reason::ManyTags,
        Parsed::Malformed => match place.rule(Rule::Police) {
            Enforcement::Enforce => Reason::Malformed,
            Enforcement::Monitor => Reason::WouldMalformed,
            Enforcement::Off => Reason::Passed,
        },
        Parsed::Ip(ip) => match essential(&ip) {
            Some(reason) => reason,
            None => {
                let [hi, lo, rest] = frame.forget_words([ip.hi, ip.lo, ip.pack()]);
                t.source(hi, lo, rest, place.pack(), place.enforcement)
            }
        },
    };
    let nth = t.count(place.stats, reason, frame.linear() as u64);
    let sample_mask = Interface::sample_mask(place.enforcement);
    Judged { reason, hi, lo, stats: place.stats, nth, sample_mask }
}

/// What the network cannot do without (1).
#[inline(always)]
fn essential(ip: &Ip) -> Option<Reason> {
    match ip.upper {
        Upper::Icmp6 => match ip.dport {
            133..=137 if ip.hops == 255 => Some(Reason::NeighbourDiscovery),
            130..=132 | 143 if packet::is_link_local(ip.hi) || ip.hi | ip.lo == 0 => Some(Reason::MulticastListener),
            _ => None,
        },
        Upper::Udp if !ip.v6 && ip.dport == 68 => Some(Reason::Dhcp),
        Upper::Udp if ip.v6 && ip.dport == 546 && packet::is_link_local(ip.hi) => Some(Reason::Dhcp),
        _ => None,
    }
}

/// Everything that depends on the source (2 to 8): a packet as [`Ip::pack`]s it, the interface (ifindex, and
/// the element of `STATS` in the high 32 bits) and what is enforced there.
#[inline(always)]
pub fn source<T: Tables>(t: &T, hi: u64, lo: u64, rest: u64, place: u64, enforcement: u64) -> Reason {
    let ip = &Ip::unpack(hi, lo, rest);
    let place = Place { ifindex: place as u32, stats: (place >> 32) as u32, enforcement };
    let said = rules::say(t, ip.v6, ip.hi, ip.lo);
    let mut watched = false;
    match said {
        Said::Own => return Reason::Own,
        Said::Allow => return Reason::Allowed,
        Said::Block => match place.rule(Rule::Manual) {
            Enforcement::Enforce => return Reason::Manual,
            Enforcement::Monitor => watched = true,
            Enforcement::Off => {}
        },
        Said::Nothing => {}
    }
    let reason = traffic(t, place, ip);
    if watched { observed(Reason::WouldManual, reason) } else { reason }
}

/// To what a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Towards {
    /// A protected port, counted for the levels.
    Levels,
    /// A protected port, TCP other than SYN.
    Tcp,
    /// No port to be seen.
    Fragments,
    /// A media port.
    Media,
    /// None of these.
    Elsewhere,
}

#[inline(always)]
fn towards<T: Tables>(t: &T, ip: &Ip) -> Towards {
    match ip.upper {
        Upper::Udp | Upper::Syn | Upper::Tcp => {}
        Upper::Opaque => return Towards::Fragments,
        Upper::Icmp6 | Upper::Other => return Towards::Elsewhere,
    }
    let Some(words) = t.ports(u32::from(ip.dport >> 6)) else { return Towards::Elsewhere };
    let bit = 1u64 << (ip.dport & 63);
    // SAFETY: an element has four words.
    let (protected, media) = unsafe { (word::load(words.add(ports::PROTECTED)), word::load(words.add(ports::MEDIA))) };
    if protected & bit != 0 {
        return if ip.upper == Upper::Tcp { Towards::Tcp } else { Towards::Levels };
    }
    if media & bit != 0 && ip.upper == Upper::Udp { Towards::Media } else { Towards::Elsewhere }
}

/// Whether a source lies in one of the first `used` networks.
#[inline(always)]
fn within_any(networks: &[settings::Network], used: &u64, ip: &Ip) -> bool {
    let used = read(used);
    let mut i = 0;
    while i < networks.len() {
        if i as u64 >= used {
            break;
        }
        let one = &networks[i];
        if ip.hi & read(&one.mask_hi) == read(&one.hi) && ip.lo & read(&one.mask_lo) == read(&one.lo) {
            return true;
        }
        i += 1;
    }
    false
}

/// The source as it is counted and blocked: IPv6 by /64, inside on-link prefixes by address.
#[inline(always)]
fn counted_as(settings: &Settings, ip: &Ip) -> Source {
    if !ip.v6 {
        return Source { hi: 0, lo: ip.lo };
    }
    if packet::is_link_local(ip.hi) {
        return Source { hi: ip.hi, lo: ip.lo };
    }
    let lo = if within_any(&settings.onlink, &settings.onlink_used, ip) { ip.lo } else { 0 };
    Source { hi: ip.hi, lo }
}

/// What default deny does to a source that nothing vouched for until here (6).
#[inline(always)]
fn default_deny(place: Place, settings: &Settings, towards: Towards, ip: &Ip) -> Enforcement {
    let rule = place.rule(Rule::DefaultDeny);
    if rule == Enforcement::Off || !matches!(towards, Towards::Levels | Towards::Tcp) {
        return Enforcement::Off;
    }
    let is_local = ip.v6 && packet::is_link_local(ip.hi) || within_any(&settings.local, &settings.local_used, ip);
    if is_local { Enforcement::Off } else { rule }
}

/// Sources that are never blocked automatically: fe80::/10, :: and 0.0.0.0.
#[inline(always)]
fn never_blocked(ip: &Ip) -> bool {
    if ip.v6 { packet::is_link_local(ip.hi) || ip.hi | ip.lo == 0 } else { ip.lo as u32 == 0 }
}

#[inline(always)]
fn read(word: &u64) -> u64 {
    // SAFETY: a reference to a word of `SETTINGS`, which the daemon writes word by word.
    unsafe { word::load(word) }
}

/// Everything that depends on where the packet goes (3 to 8).
#[inline(always)]
fn traffic<T: Tables>(t: &T, place: Place, ip: &Ip) -> Reason {
    let Some(settings) = t.settings() else { return Reason::Passed };
    // SAFETY: the one element of `SETTINGS`; its words are read through `read` only.
    let settings = unsafe { &*settings };
    let towards = towards(t, ip);
    let flags = read(&settings.flags);
    if towards == Towards::Elsewhere && flags & settings::SCOPE_ALL == 0 {
        return Reason::Passed;
    }
    if towards == Towards::Media
        && flags & settings::FLOWS != 0
        && t.media(&media::Flow { hi: ip.hi, lo: ip.lo, port: u64::from(ip.dport) })
    {
        return Reason::MediaFlow;
    }
    let now = t.now();
    let as_source = counted_as(settings, ip);
    if let Some(budget) = known(t, ip) {
        return match towards {
            Towards::Levels => within(t, place, budget, now),
            Towards::Tcp | Towards::Fragments => police(t, place, settings, towards, as_source, now),
            Towards::Media => media_port(t, place, ip),
            Towards::Elsewhere => Reason::Passed,
        };
    }
    let mut watched = false;
    if (towards != Towards::Fragments || flags & settings::SCOPE_ALL != 0)
        && let Some(reason) = blocked(t, place, settings, towards, ip, as_source, now)
    {
        if reason != Reason::WouldAutomatic {
            return reason;
        }
        watched = true;
    }
    let denied = default_deny(place, settings, towards, ip);
    if denied == Enforcement::Enforce {
        return Reason::DefaultDeny;
    }
    let mut reason = match towards {
        Towards::Levels => levels(t, place, settings, ip, as_source, now),
        Towards::Tcp | Towards::Fragments => police(t, place, settings, towards, as_source, now),
        Towards::Media => media_port(t, place, ip),
        Towards::Elsewhere => Reason::Passed,
    };
    if denied == Enforcement::Monitor {
        reason = observed(Reason::WouldDefaultDeny, reason);
    }
    if watched { observed(Reason::WouldAutomatic, reason) } else { reason }
}

/// What a packet is counted as that a rule in monitor would have dropped: that, unless another rule drops it.
/// Every packet is counted once.
#[inline(always)]
fn observed(would: Reason, then: Reason) -> Reason {
    if then.drops() { then } else { would }
}

/// The bits of a source in `PRESENCE`.
#[inline(always)]
fn may_be<T: Tables>(t: &T, hi: u64, lo: u64, which: usize) -> bool {
    let (element, bit) = hash::presence(hi, lo, t.seed());
    match t.presence(element) {
        // SAFETY: an element has two words.
        Some(words) => unsafe { word::load(words.add(which)) & bit != 0 },
        None => false,
    }
}

/// The budget of a known source (4): of its registered port, else of its address.
#[inline(always)]
fn known<T: Tables>(t: &T, ip: &Ip) -> Option<known::Known> {
    if !may_be(t, ip.hi, ip.lo, presence::KNOWN) {
        return None;
    }
    t.known(&known::Key { hi: ip.hi, lo: ip.lo, port: u64::from(ip.sport) })
        .or_else(|| t.known(&known::Key { hi: ip.hi, lo: ip.lo, port: 0 }))
}

#[inline(always)]
fn within<T: Tables>(t: &T, place: Place, known: known::Known, now: u64) -> Reason {
    let Some(window) = t.known_state(known.slot) else { return Reason::Known };
    if rate::wide::add(window, 1, now) <= u64::from(known.budget) {
        return Reason::Known;
    }
    match place.rule(Rule::Police) {
        Enforcement::Enforce => Reason::KnownBudget,
        Enforcement::Monitor => Reason::WouldPolice,
        Enforcement::Off => Reason::Known,
    }
}

/// End of a block, and its level and flags in one word.
///
/// # Safety
/// A live entry; the kernel writes its words, the daemon replaces entries as a whole.
#[inline(always)]
unsafe fn state(block: *mut automatic::Block) -> (u64, u64) {
    // SAFETY: the caller's promise; `level` begins an aligned word, the other half of which is `flags`.
    unsafe { (word::load(&raw const (*block).expires), word::load((&raw const (*block).level).cast())) }
}

#[inline(always)]
const fn is_monitored(kind: u64) -> bool {
    (kind >> 32) as u32 & automatic::MONITOR != 0
}

/// Automatic blocks (5): of everything that the scope covers, then of the web ports alone.
#[inline(always)]
fn blocked<T: Tables>(
    t: &T,
    place: Place,
    settings: &Settings,
    towards: Towards,
    ip: &Ip,
    source: Source,
    now: u64,
) -> Option<Reason> {
    // The /64 of a blocked neighbour may hold `::`.
    if !may_be(t, source.hi, source.lo, presence::AUTOMATIC) || never_blocked(ip) {
        return None;
    }
    let whole = blocked_whole(t, place, settings, towards, source, now);
    if whole.is_some_and(Reason::drops) || !matches!(towards, Towards::Levels | Towards::Tcp) {
        return whole;
    }
    let web = blocked_web(t, place, ip, source, now);
    if web.is_some() { web } else { whole }
}

/// A detector's block of the web ports.
#[inline(always)]
fn blocked_web<T: Tables>(t: &T, place: Place, ip: &Ip, source: Source, now: u64) -> Option<Reason> {
    let words = t.ports(u32::from(ip.dport >> 6))?;
    // SAFETY: an element has four words.
    if ip.upper == Upper::Udp || unsafe { word::load(words.add(ports::WEB)) } & 1u64 << (ip.dport & 63) == 0 {
        return None;
    }
    let block = t.web(&source)?;
    // SAFETY: a live entry.
    let (expires, kind) = unsafe { state(block) };
    let enforcement = place.rule(Rule::Detect);
    if now >= expires || enforcement == Enforcement::Off {
        return None;
    }
    // SAFETY: as above.
    unsafe { count_blocked(block, now) };
    let drops = enforcement == Enforcement::Enforce && !is_monitored(kind);
    Some(if drops { Reason::Automatic } else { Reason::WouldAutomatic })
}

/// Counts a packet of a block.
///
/// # Safety
/// A live entry; a lost increment under contention is accepted.
#[inline(always)]
unsafe fn count_blocked(block: *mut automatic::Block, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let packets = &raw mut (*block).packets;
        word::store(packets, word::load(packets) + 1);
        word::store(&raw mut (*block).last, now);
    }
}

#[inline(always)]
fn blocked_whole<T: Tables>(
    t: &T,
    place: Place,
    settings: &Settings,
    towards: Towards,
    source: Source,
    now: u64,
) -> Option<Reason> {
    let block = t.automatic(&source)?;
    // SAFETY: a live entry.
    let (expires, kind) = unsafe { state(block) };
    let (level, monitored) = (kind as u32, is_monitored(kind));
    let enforcement = place.rule(match level {
        1 => Rule::Level1,
        2 => Rule::Level2,
        _ => Rule::Detect,
    });
    let counts = now < expires
        && match enforcement {
            // What a level made while it only watched is over when it acts; a detector has a switch of its own.
            Enforcement::Enforce => !monitored || level == 0,
            Enforcement::Monitor => true,
            Enforcement::Off => false,
        };
    if !counts {
        return None;
    }
    // SAFETY: as above.
    unsafe { count_blocked(block, now) };
    if enforcement == Enforcement::Monitor || monitored {
        return Some(Reason::WouldAutomatic);
    }
    // Counting goes on, so that level 2 is reached in any later second of a level 1 block.
    let level2 = place.rule(Rule::Level2);
    if level == 1 && towards == Towards::Levels && level2 != Enforcement::Off {
        let n = t.counted(source.hi, source.lo, rates::LEVELS, now, read(&settings.new_sources));
        if n > read(&settings.level2) && !rate::guard_is_on(t, now) {
            let raises = level2 == Enforcement::Enforce;
            let until = now + read(&settings.level2_block);
            let raised = if raises { kind + 1 } else { kind | (automatic::WOULD_RAISE as u64) << 32 };
            // SAFETY: as above. One CPU raises it; a longer block stays.
            unsafe {
                if raised == kind || word::compare_exchange((&raw mut (*block).level).cast(), kind, raised) != kind {
                    return Some(Reason::Automatic);
                }
                if raises && until > expires {
                    word::store(&raw mut (*block).expires, until);
                }
                core::ptr::write_volatile(&raw mut (*block).count, n as u32);
            }
            let told = if raises { events::Kind::Raised } else { events::Kind::WouldBlock };
            t.event(&events::Event {
                time: now,
                hi: source.hi,
                lo: source.lo,
                expires: if until > expires { until } else { expires },
                kind: told as u32,
                level: 2,
                count: n as u32,
                ifindex: place.ifindex,
            });
            return Some(if raises { Reason::Level2 } else { Reason::Automatic });
        }
    }
    Some(Reason::Automatic)
}

/// Protected ports: the two levels (7).
#[inline(always)]
fn levels<T: Tables>(t: &T, place: Place, settings: &Settings, ip: &Ip, source: Source, now: u64) -> Reason {
    let n = t.counted(source.hi, source.lo, rates::LEVELS, now, read(&settings.new_sources));
    let (level1, level2) = (read(&settings.level1), read(&settings.level2));
    if n <= level1 {
        return Reason::Counted;
    }
    let (rule1, rule2) = (place.rule(Rule::Level1), place.rule(Rule::Level2));
    // What acts goes before what only watches, then the higher level before the lower.
    let (level, limit, enforcement) = if n > level2 && rule2 == Enforcement::Enforce {
        (2, level2, rule2)
    } else if rule1 == Enforcement::Enforce {
        (1, level1, rule1)
    } else if n > level2 && rule2 == Enforcement::Monitor {
        (2, level2, rule2)
    } else if rule1 == Enforcement::Monitor {
        (1, level1, rule1)
    } else {
        return Reason::Counted;
    };
    // The packet that crosses the line makes the block; the others make up for one that could not be made.
    let over = n - limit;
    if (over == 1 || over & 63 == 0)
        && !never_blocked(ip)
        && let Some(reason) = make_block(t, place, settings, source, level, n, enforcement, now)
    {
        return reason;
    }
    match enforcement {
        Enforcement::Enforce => Reason::Policed,
        Enforcement::Monitor => Reason::WouldLevel,
        Enforcement::Off => Reason::Counted,
    }
}

/// Makes the block; `None`: there may be none now.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn make_block<T: Tables>(
    t: &T,
    place: Place,
    settings: &Settings,
    source: Source,
    level: u32,
    n: u64,
    enforcement: Enforcement,
    now: u64,
) -> Option<Reason> {
    if rate::guard_is_on(t, now) {
        return None;
    }
    // Also for a block that is there: the daemon clears bits that it thinks nobody needs.
    let (element, bit) = hash::presence(source.hi, source.lo, t.seed());
    if let Some(words) = t.presence(element) {
        // SAFETY: an element has two words.
        unsafe { word::fetch_or(words.add(presence::AUTOMATIC), bit) };
    }
    let lasts = if level == 2 { read(&settings.level2_block) } else { read(&settings.level1_block) };
    let monitored = enforcement == Enforcement::Monitor;
    let mut expires = now + lasts;
    if let Some(there) = t.automatic(&source) {
        // SAFETY: a live entry.
        let (until, kind) = unsafe { state(there) };
        let (was, watched) = (kind as u32, is_monitored(kind));
        // What it says already is no news, and is not begun anew.
        if now < until && monitored && (!watched || was >= level) {
            return Some(Reason::WouldLevel);
        }
        if now < until && !monitored && !watched && was == level {
            return Some(Reason::Automatic);
        }
        if watched == monitored && was == 1 && level == 2 && until > expires {
            expires = until;
        }
    }
    let block = automatic::Block {
        expires,
        since: now,
        packets: if monitored { 0 } else { 1 },
        last: now,
        level,
        flags: if monitored { automatic::MONITOR } else { 0 },
        count: n as u32,
        ifindex: place.ifindex,
    };
    let guard = t.guard();
    if !t.block(&source, &block) {
        if let Some(guard) = guard {
            // SAFETY: `GUARD` has four words.
            let first = unsafe { word::load(guard.add(3)) == 0 && word::compare_exchange(guard.add(3), 0, 1) == 0 };
            if first {
                t.event(&rate::alarm(events::Kind::Full, n, now));
            }
        }
        return None;
    }
    if let Some(guard) = guard {
        // SAFETY: as above.
        unsafe {
            if word::load(guard.add(3)) != 0 {
                word::store(guard.add(3), 0);
            }
        }
    }
    t.event(&events::Event {
        time: now,
        hi: source.hi,
        lo: source.lo,
        expires: block.expires,
        kind: if monitored { events::Kind::WouldBlock as u32 } else { events::Kind::Blocked as u32 },
        level,
        count: n as u32,
        ifindex: place.ifindex,
    });
    Some(match (monitored, level) {
        (true, _) => Reason::WouldLevel,
        (false, 2) => Reason::Level2,
        (false, _) => Reason::Level1,
    })
}

/// Limits of what is never blocked for: other TCP, later fragments (7).
#[inline(always)]
fn police<T: Tables>(t: &T, place: Place, settings: &Settings, towards: Towards, source: Source, now: u64) -> Reason {
    let (kind, limit, reason) = if towards == Towards::Tcp {
        (rates::TCP, read(&settings.tcp), Reason::TcpLimit)
    } else {
        (rates::FRAGMENTS, read(&settings.fragments), Reason::FragmentLimit)
    };
    if t.counted(source.hi, source.lo, kind, now, read(&settings.new_sources)) <= limit {
        return Reason::Counted;
    }
    match place.rule(Rule::Police) {
        Enforcement::Enforce => reason,
        Enforcement::Monitor => Reason::WouldPolice,
        Enforcement::Off => Reason::Counted,
    }
}

/// Media ports: only those that a call holds (8).
#[inline(always)]
fn media_port<T: Tables>(t: &T, place: Place, ip: &Ip) -> Reason {
    let enforcement = place.rule(Rule::Media);
    if enforcement == Enforcement::Off {
        return Reason::Passed;
    }
    let held = match t.ports(u32::from(ip.dport >> 6)) {
        // SAFETY: an element has four words.
        Some(words) => unsafe { word::load(words.add(ports::HELD)) & 1u64 << (ip.dport & 63) != 0 },
        None => false,
    };
    match (held, enforcement) {
        (true, _) | (false, Enforcement::Off) => Reason::Passed,
        (false, Enforcement::Monitor) => Reason::WouldMediaPort,
        (false, Enforcement::Enforce) => Reason::MediaPort,
    }
}
