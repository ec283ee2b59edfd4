//! Known sources: addresses that proved to belong to us, by a live registration or by a password within 30 days.
//! After registrar and digest; tells the filter, the store and the receive workers. Budgets are the filter's.
//!
//! A live registration makes its address known, and, while it can be reached over UDP or its connection, its address
//! and port, which the kernel gives a budget of their own. A password makes the address known. IPv6 is known by the
//! single address. The kernel holds [`MAX`] keys: registrations come first, then the latest passwords; who is left
//! out is still known here, and gets the first place that is free.

mod set;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

pub use set::KnownSet;

use crate::{
    directory::ExtensionId,
    registrar::{BindingChange, BindingId, StoredBinding},
    time::Timestamp,
};

/// Keys that the kernel's table holds.
pub const MAX: usize = pbx_ebpf::abi::known::MAX as usize;
/// How long a password makes its source known.
pub const LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Between two writes of the same success.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(3600);
/// Successes that are remembered; the oldest give way.
pub const MAX_SUCCESSES: usize = 131_072;

/// A source as the filter knows it: an address, or one port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The address, IPv4 as such.
    pub addr: IpAddr,
    /// The port; none: the address as a whole.
    pub port: Option<u16>,
}

/// A password that was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Success {
    /// Where it came from.
    pub addr: IpAddr,
    /// Whose it was.
    pub extension: ExtensionId,
    /// When it last was; on the disk up to [`WRITE_INTERVAL`] behind.
    pub last: Timestamp,
}

/// What others must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownChange {
    /// To the filter: known now.
    Set(Key),
    /// To the filter: no longer.
    Remove(Key),
    /// To the store: insert or replace, by address and extension.
    Write(Success),
    /// To the store: delete.
    Forget {
        /// The address.
        addr: IpAddr,
        /// The extension.
        extension: ExtensionId,
    },
}

/// Why a key is known.
#[derive(Clone, Copy, Debug, Default)]
struct Reasons {
    bindings: u32,
    /// The latest success.
    last: Option<Timestamp>,
    told: bool,
}

/// What decides who is told when there are more keys than places: registrations first, later successes first.
type Rank = (Reverse<bool>, Reverse<Option<Timestamp>>, Key);

/// All known sources.
#[derive(Debug)]
pub struct Known {
    capacity: usize,
    keys: BTreeMap<Key, Reasons>,
    /// The keys that the filter has.
    told: BTreeSet<Rank>,
    /// The keys that it has no place for.
    waiting: BTreeSet<Rank>,
    bindings: BTreeMap<BindingId, (IpAddr, Option<u16>)>,
    /// By address and extension: when last, and when that was written last.
    successes: BTreeMap<(IpAddr, ExtensionId), (Timestamp, Timestamp)>,
    /// The same by the time of writing.
    written: BTreeSet<(Timestamp, IpAddr, ExtensionId)>,
    changes: VecDeque<KnownChange>,
    set: Arc<KnownSet>,
}

impl Known {
    /// Nobody. `seed` is random and secret.
    pub fn new(seed: [u64; 2]) -> Self {
        Self::with_capacity(MAX, seed)
    }

    fn with_capacity(capacity: usize, seed: [u64; 2]) -> Self {
        Self {
            capacity,
            keys: BTreeMap::new(),
            told: BTreeSet::new(),
            waiting: BTreeSet::new(),
            bindings: BTreeMap::new(),
            successes: BTreeMap::new(),
            written: BTreeSet::new(),
            changes: VecDeque::new(),
            set: Arc::new(KnownSet::new(seed)),
        }
    }

    /// The addresses, for the receive workers.
    pub fn set(&self) -> Arc<KnownSet> {
        Arc::clone(&self.set)
    }

    /// What has to be told next; to be drained after every call.
    pub fn poll_change(&mut self) -> Option<KnownChange> {
        self.changes.pop_front()
    }

    /// Takes over what became of a binding.
    pub fn binding_changed(&mut self, change: &BindingChange) {
        match change {
            BindingChange::Added(binding) | BindingChange::Refreshed(binding) => self.bound(binding, true),
            BindingChange::Unreachable(binding) => self.bound(binding, false),
            BindingChange::Removed(binding, _) => self.unbound(binding.id),
        }
    }

    /// A binding lives, and can be reached or not: what the registrar restored, and what changed.
    pub fn bound(&mut self, binding: &StoredBinding, reachable: bool) {
        let now = (binding.remote.ip().to_canonical(), reachable.then_some(binding.remote.port()));
        if self.bindings.get(&binding.id) == Some(&now) {
            return;
        }
        // First what comes, then what goes: a source that stays is not told as gone in between.
        self.hold(now);
        if let Some(before) = self.bindings.insert(binding.id, now) {
            self.release(before);
        }
    }

    /// A binding ended.
    pub fn unbound(&mut self, id: BindingId) {
        if let Some(before) = self.bindings.remove(&id) {
            self.release(before);
        }
    }

    /// A password was right.
    pub fn succeeded(&mut self, addr: IpAddr, extension: ExtensionId, wall: Timestamp) {
        let addr = addr.to_canonical();
        if let Some((last, written)) = self.successes.get_mut(&(addr, extension)) {
            *last = wall.max(*last);
            if wall.saturating_since(*written) < WRITE_INTERVAL {
                return;
            }
        }
        self.write(Success { addr, extension, last: wall });
    }

    /// Takes up what the store kept; what is too old is told to be forgotten.
    pub fn restore(&mut self, successes: impl IntoIterator<Item = Success>, wall: Timestamp) {
        for success in successes {
            let Success { addr, extension, last } = success;
            let addr = addr.to_canonical();
            if wall.saturating_since(last) >= LIFE {
                self.changes.push_back(KnownChange::Forget { addr, extension });
            } else if !self.successes.contains_key(&(addr, extension)) {
                // A clock that was set back makes nobody known for longer.
                self.remember(Success { addr, extension, last: last.min(wall) });
            }
        }
    }

    /// Forgets successes that are too old; to be called at times, by the wall clock.
    pub fn expire(&mut self, wall: Timestamp) {
        while let Some((written, addr, extension)) = self.written.first().copied()
            && wall.saturating_since(written) >= LIFE
        {
            match self.successes.get(&(addr, extension)) {
                Some((last, _)) if wall.saturating_since(*last) < LIFE => {
                    self.write(Success { addr, extension, last: *last });
                }
                _ => self.forget(addr, extension),
            }
        }
    }

    /// Forgets the successes of every extension that `may_stay` denies: gone, disabled, or of another password.
    pub fn revoke(&mut self, may_stay: impl Fn(ExtensionId) -> bool) {
        let pairs = self.successes.keys().filter(|(_, extension)| !may_stay(*extension));
        for (addr, extension) in pairs.copied().collect::<Vec<_>>() {
            self.forget(addr, extension);
        }
    }

    /// Whether an address is known, told to the filter or not.
    pub fn is_known(&self, addr: IpAddr) -> bool {
        self.keys.contains_key(&Key { addr: addr.to_canonical(), port: None })
    }

    /// Who proved a password from an address, and when last.
    pub fn successes(&self, addr: IpAddr) -> impl Iterator<Item = Success> {
        let addr = addr.to_canonical();
        let range = (addr, ExtensionId(0))..=(addr, ExtensionId(u32::MAX));
        let of = self.successes.range(range);
        of.map(|((addr, extension), (last, _))| Success { addr: *addr, extension: *extension, last: *last })
    }

    /// The keys that the filter should have: what a table that was lost is filled with.
    pub fn told(&self) -> impl Iterator<Item = Key> {
        self.told.iter().map(|(_, _, key)| *key)
    }

    fn hold(&mut self, (addr, port): (IpAddr, Option<u16>)) {
        for key in keys(addr, port) {
            self.change(key, |reasons| reasons.bindings += 1);
        }
    }

    fn release(&mut self, (addr, port): (IpAddr, Option<u16>)) {
        for key in keys(addr, port) {
            self.change(key, |reasons| reasons.bindings = reasons.bindings.saturating_sub(1));
        }
    }

    fn write(&mut self, success: Success) {
        self.remember(success);
        self.changes.push_back(KnownChange::Write(success));
    }

    fn remember(&mut self, success: Success) {
        let Success { addr, extension, last } = success;
        if let Some((_, written)) = self.successes.insert((addr, extension), (last, last)) {
            self.written.remove(&(written, addr, extension));
        }
        self.written.insert((last, addr, extension));
        self.change(Key { addr, port: None }, |reasons| reasons.last = reasons.last.max(Some(last)));
        if self.successes.len() > MAX_SUCCESSES
            && let Some((_, addr, extension)) = self.written.first().copied()
        {
            self.forget(addr, extension);
        }
    }

    fn forget(&mut self, addr: IpAddr, extension: ExtensionId) {
        if let Some((_, written)) = self.successes.remove(&(addr, extension)) {
            self.written.remove(&(written, addr, extension));
        }
        self.changes.push_back(KnownChange::Forget { addr, extension });
        let last = self.successes(addr).map(|success| success.last).max();
        self.change(Key { addr, port: None }, |reasons| reasons.last = last);
    }

    /// Changes why a key is known, and with it whether it is, and who has a place.
    fn change(&mut self, key: Key, how: impl FnOnce(&mut Reasons)) {
        let before = self.keys.get(&key).copied();
        let mut reasons = before.unwrap_or_default();
        how(&mut reasons);
        if let Some(before) = before {
            let rank = rank(key, &before);
            let _ = self.told.remove(&rank) || self.waiting.remove(&rank);
        }
        let is_known = reasons.bindings > 0 || reasons.last.is_some();
        if is_known {
            let side = if reasons.told { &mut self.told } else { &mut self.waiting };
            side.insert(rank(key, &reasons));
            self.keys.insert(key, reasons);
        } else {
            self.keys.remove(&key);
            if reasons.told {
                self.changes.push_back(KnownChange::Remove(key));
            }
        }
        if is_known != before.is_some() {
            if is_known {
                self.set.insert(key.addr, key.port);
            } else {
                self.set.remove(key.addr, key.port);
            }
        }
        self.settle();
    }

    /// Gives the places to those that come first.
    fn settle(&mut self) {
        while let Some(first) = self.waiting.first().copied() {
            if self.told.len() >= self.capacity {
                match self.told.last().copied() {
                    Some(last) if last > first => {
                        self.told.remove(&last);
                        self.tell(last, false);
                    }
                    _ => return,
                }
            }
            self.waiting.remove(&first);
            self.tell(first, true);
        }
    }

    fn tell(&mut self, rank: Rank, told: bool) {
        let key = rank.2;
        if let Some(reasons) = self.keys.get_mut(&key) {
            reasons.told = told;
        }
        let (side, change) = match told {
            true => (&mut self.told, KnownChange::Set(key)),
            false => (&mut self.waiting, KnownChange::Remove(key)),
        };
        side.insert(rank);
        self.changes.push_back(change);
    }
}

/// The whole address, and the port if there is one.
fn keys(addr: IpAddr, port: Option<u16>) -> impl Iterator<Item = Key> {
    [Some(Key { addr, port: None }), port.map(|port| Key { addr, port: Some(port) })].into_iter().flatten()
}

fn rank(key: Key, reasons: &Reasons) -> Rank {
    let registered = reasons.bindings > 0;
    // Among registrations, when a password was last right decides nothing.
    (Reverse(registered), Reverse(reasons.last.filter(|_| !registered)), key)
}

#[cfg(test)]
mod tests;
