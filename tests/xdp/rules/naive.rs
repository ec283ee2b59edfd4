//! The filter as one would explain it: a list of rules, a list of blocks, a count per source.

use std::{collections::BTreeMap, net::IpAddr};

use pbx_core::{address::Prefix, filter::Until, rule::Action};
use pbx_ebpf::abi::{
    Source,
    rate::{SECOND as WINDOW, UNIT_SHIFT},
    stats::Reason::{self, *},
    tick,
};

use crate::pair::{SECOND, source};

/// Thresholds of the model; the same have to be set on the judges.
pub(crate) const LEVEL1: u64 = 5;
pub(crate) const LEVEL2: u64 = 9;
pub(crate) const TCP: u64 = 4;
pub(crate) const FRAGMENTS: u64 = 3;
pub(crate) const BLOCK1: u64 = 3 * SECOND;
pub(crate) const BLOCK2: u64 = 7 * SECOND;

/// To what a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Towards {
    Sip,
    Segment,
    Fragment,
    Media,
    Web,
}

/// All there is.
#[derive(Default)]
pub(crate) struct Naive {
    pub(crate) rules: Vec<(Prefix, Action, Until)>,
    pub(crate) own: Vec<IpAddr>,
    /// Level and end.
    blocks: BTreeMap<Source, (u32, u64)>,
    windows: BTreeMap<(Source, Towards), (u64, u64)>,
}

impl Naive {
    /// Sets or removes a rule.
    pub(crate) fn set(&mut self, prefix: &Prefix, action: Action, until: Option<Until>) {
        self.rules.retain(|(p, a, _)| (p, a) != (prefix, &action));
        self.rules.extend(until.map(|until| (*prefix, action, until)));
    }

    /// What the manual rules say.
    pub(crate) fn rule(&self, addr: IpAddr, now: u64) -> Option<Action> {
        let lives = |until: &Until| !matches!(until, Until::Tick(end) if tick(now) >= u64::from(*end));
        let live = self.rules.iter().filter(|(prefix, _, until)| prefix.contains(addr) && lives(until));
        live.max_by_key(|(prefix, action, _)| (prefix.len(), *action == Action::Allow)).map(|(_, action, _)| *action)
    }

    /// What becomes of a packet.
    pub(crate) fn judge(&mut self, addr: IpAddr, towards: Towards, now: u64) -> Reason {
        if self.own.contains(&addr) {
            return Own;
        }
        match self.rule(addr, now) {
            Some(Action::Allow) => return Allowed,
            Some(Action::Block) => return Manual,
            None => {}
        }
        let of = counted_as(addr);
        let block = self.blocks.get(&of).copied().filter(|(_, ends)| now < *ends);
        match (towards, block) {
            (Towards::Web, _) => Passed,
            (Towards::Sip, Some((1, ends))) => {
                if self.count(of, towards, now) <= LEVEL2 {
                    return Automatic;
                }
                self.blocks.insert(of, (2, ends.max(now + BLOCK2)));
                Level2
            }
            (Towards::Sip | Towards::Segment | Towards::Media, Some(_)) => Automatic,
            (Towards::Media, None) => MediaPort,
            (Towards::Segment, None) => self.police(of, towards, now, TCP, TcpLimit),
            (Towards::Fragment, _) => self.police(of, towards, now, FRAGMENTS, FragmentLimit),
            (Towards::Sip, None) => self.levels(addr, of, now),
        }
    }

    fn levels(&mut self, addr: IpAddr, of: Source, now: u64) -> Reason {
        let n = self.count(of, Towards::Sip, now);
        if n <= LEVEL1 {
            return Counted;
        }
        let link_local = matches!(addr, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
        let (level, limit, lasts) = if n > LEVEL2 { (2, LEVEL2, BLOCK2) } else { (1, LEVEL1, BLOCK1) };
        if link_local || !(n - limit == 1 || (n - limit).is_multiple_of(64)) {
            return Policed;
        }
        self.blocks.insert(of, (level, now + lasts));
        if level == 2 { Level2 } else { Level1 }
    }

    fn police(&mut self, of: Source, towards: Towards, now: u64, limit: u64, over: Reason) -> Reason {
        if self.count(of, towards, now) <= limit { Counted } else { over }
    }

    fn count(&mut self, of: Source, towards: Towards, now: u64) -> u64 {
        let unit = now >> UNIT_SHIFT;
        let (start, n) = self.windows.entry((of, towards)).or_insert((unit, 0));
        if unit - *start >= WINDOW {
            (*start, *n) = (unit, 0);
        }
        *n += 1;
        *n
    }
}

/// IPv6 is counted by /64, on the link by address.
fn counted_as(addr: IpAddr) -> Source {
    let whole = source(addr);
    match addr {
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 != 0xfe80 => Source { lo: 0, ..whole },
        _ => whole,
    }
}
