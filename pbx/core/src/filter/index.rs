//! All rules in order, by what the tables call a key, with the deadlines of an allow and a block side by side.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use pbx_ebpf::abi::{MAPPED, prefix};

use crate::{address::Prefix, rule::Action};

/// When a rule ends, in kernel ticks (`pbx_ebpf::abi::tick`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Until {
    /// At the start of this tick.
    Tick(u32),
    /// Never.
    Forever,
}

impl Until {
    /// From a monotonic time (ns), rounded up: a block never ends early.
    pub fn at(ns: u64) -> Self {
        let tick = ns.div_ceil(1 << pbx_ebpf::abi::TICK_SHIFT).max(1);
        u32::try_from(tick).ok().filter(|t| *t != u32::MAX).map_or(Until::Forever, Until::Tick)
    }
    /// Over already at a monotonic time (ns).
    pub fn over(ns: u64) -> Self {
        Until::Tick(u32::try_from(pbx_ebpf::abi::tick(ns)).unwrap_or(u32::MAX - 1).clamp(1, u32::MAX - 1))
    }
    /// As half of an entry's `until` word.
    pub(crate) fn word(self) -> u64 {
        match self {
            Until::Tick(tick) => u64::from(tick),
            Until::Forever => prefix::FOREVER,
        }
    }
}

/// What the rules of one prefix say: an allow until, a block until.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// End of the allow.
    pub allow: Option<Until>,
    /// End of the block.
    pub block: Option<Until>,
}

impl Deadlines {
    /// The field of an action.
    pub fn of(&mut self, action: Action) -> &mut Option<Until> {
        match action {
            Action::Allow => &mut self.allow,
            Action::Block => &mut self.block,
        }
    }
    /// No rule at all.
    pub fn is_empty(&self) -> bool {
        self.allow.is_none() && self.block.is_none()
    }
    /// Whether one of the rules ends.
    pub fn ends(&self) -> bool {
        [self.allow, self.block].into_iter().flatten().any(|until| until != Until::Forever)
    }
    /// What is said for ever.
    pub(crate) fn lasting(&self) -> Option<Action> {
        match (self.allow, self.block) {
            (Some(Until::Forever), _) => Some(Action::Allow),
            (_, Some(Until::Forever)) => Some(Action::Block),
            _ => None,
        }
    }
    /// As an entry's `until` word.
    pub(crate) fn word(&self) -> u64 {
        self.allow.map_or(0, Until::word) | self.block.map_or(0, Until::word) << 32
    }
}

/// A prefix as the tables know it: the length first, then the network; IPv4 is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Length in 128 bits, plus one.
    pub code: u8,
    /// Network.
    pub network: u128,
}

impl Key {
    /// The key of a prefix.
    pub fn of(prefix: &Prefix) -> Self {
        match prefix.addr() {
            IpAddr::V4(addr) => Key { code: 97 + prefix.len(), network: mapped(addr) },
            IpAddr::V6(addr) => Key { code: 1 + prefix.len(), network: addr.to_bits() },
        }
    }
    /// The prefix of a key.
    pub fn prefix(&self) -> Prefix {
        let (addr, len) = if self.is_ipv4() {
            (IpAddr::V4(Ipv4Addr::from_bits(self.network as u32)), self.code - 97)
        } else {
            (IpAddr::V6(Ipv6Addr::from_bits(self.network)), self.code.wrapping_sub(1))
        };
        // The length of a key fits its family; an address of no length is the fallback of a total function.
        Prefix::new(addr, len).unwrap_or_else(|_| Prefix::host(addr))
    }
    /// IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.code >= 97 && (self.network >> 32) as u64 == MAPPED >> 32
    }
    /// Most significant half.
    pub fn hi(&self) -> u64 {
        (self.network >> 64) as u64
    }
    /// Least significant half.
    pub fn lo(&self) -> u64 {
        self.network as u64
    }
    /// IPv4 length.
    pub(crate) fn len4(&self) -> u8 {
        self.code - 97
    }
}

/// An IPv4 address as 128 bits.
pub(crate) fn mapped(addr: Ipv4Addr) -> u128 {
    u128::from(MAPPED) | u128::from(addr.to_bits())
}

/// The rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Key, Deadlines>,
    /// IPv4 prefixes of up to 24 bits that end, and those of more than 24 bits.
    special4: usize,
}

impl Index {
    pub(crate) fn deadlines(&self, key: &Key) -> Deadlines {
        self.keys.get(key).copied().unwrap_or_default()
    }
    /// Sets what the rules of a key say; what they said.
    pub(crate) fn set(&mut self, key: Key, deadlines: Deadlines) -> Deadlines {
        let before = if deadlines.is_empty() { self.keys.remove(&key) } else { self.keys.insert(key, deadlines) }
            .unwrap_or_default();
        self.special4 += usize::from(is_special4(&key, &deadlines));
        self.special4 -= usize::from(is_special4(&key, &before));
        before
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, Deadlines)> + '_ {
        self.keys.iter().map(|(key, deadlines)| (*key, *deadlines))
    }
    /// Keys of a code whose networks lie in a range.
    pub(crate) fn within(&self, code: u8, range: RangeInclusive<u128>) -> impl Iterator<Item = (Key, Deadlines)> + '_ {
        let from = Key { code, network: *range.start() };
        let to = Key { code, network: *range.end() };
        self.keys.range(from..=to).map(|(key, deadlines)| (*key, *deadlines))
    }
    /// IPv4 keys of a length within a range of addresses.
    pub(crate) fn within4(&self, len: u8, from: u32, to: u32) -> impl Iterator<Item = (Key, Deadlines)> + '_ {
        let base = u128::from(MAPPED);
        self.within(97 + len, base | u128::from(from)..=base | u128::from(to))
    }
    /// Whether any IPv4 address needs its prefixes asked one by one.
    pub(crate) fn any_special4(&self) -> bool {
        self.special4 != 0
    }
}

/// IPv4 prefixes that the painted base cannot express.
pub(crate) fn is_special4(key: &Key, deadlines: &Deadlines) -> bool {
    if !key.is_ipv4() || deadlines.is_empty() {
        return false;
    }
    match key.len4() {
        32 => is_twin(deadlines),
        25..=31 => true,
        _ => deadlines.ends(),
    }
}

/// A single IPv4 address that does not fit its slot: an allow beside a block, or an end beyond the slot's.
pub(crate) fn is_twin(deadlines: &Deadlines) -> bool {
    let far = |until| matches!(until, Some(Until::Tick(tick)) if u64::from(tick) > pbx_ebpf::abi::address4::EXPIRY_MAX);
    deadlines.allow.is_some() && deadlines.block.is_some() || far(deadlines.allow) || far(deadlines.block)
}
