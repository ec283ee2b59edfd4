//! The known sources in the kernel: which window word is whose, and which presence bits are needed. The map is adopted
//! at a start and changed by difference, so that who is known stays known while the daemon is away.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, bail};
use pbx_ebpf::{
    abi::known::{Key, Known, MAX},
    hash::{self, Seed},
};
use pbx_xdp::Maps;

use super::halves;
use crate::filter::{KnownAt, KnownChange};

/// What the kernel holds.
#[derive(Debug)]
pub(super) struct Book {
    known: HashMap<Key, Known>,
    /// Window words that nobody has, the next one last.
    free: Vec<u32>,
    /// Presence bits, and how many sources need each.
    bits: HashMap<(u32, u64), u32>,
}

impl Book {
    /// What the maps hold already.
    pub(super) fn adopt(maps: &Maps, seed: Seed) -> anyhow::Result<Self> {
        let mut book = Self { known: HashMap::new(), free: Vec::new(), bits: HashMap::new() };
        let mut taken = HashSet::new();
        for (key, known) in maps.known_sources().context("the known sources cannot be read")? {
            // A word that two sources share would give them one budget.
            if known.slot < MAX && taken.insert(known.slot) {
                *book.bits.entry(hash::presence(key.hi, key.lo, seed)).or_default() += 1;
                book.known.insert(key, known);
            } else {
                maps.remove_known(key)?;
            }
        }
        maps.mark_all_known(book.bits.keys().copied());
        book.free = (0..MAX).rev().filter(|slot| !taken.contains(slot)).collect();
        Ok(book)
    }

    /// Carries a change out.
    pub(super) fn change(&mut self, maps: &Maps, seed: Seed, change: &KnownChange, budget: u32) -> anyhow::Result<()> {
        match change {
            KnownChange::Change { known, gone } => {
                gone.iter().try_for_each(|at| self.forget(maps, seed, key(at)))?;
                known.iter().try_for_each(|at| self.know(maps, seed, key(at), budget))
            }
            KnownChange::Are(all) => {
                let wanted: HashSet<Key> = all.iter().map(key).collect();
                let gone: Vec<Key> = self.known.keys().filter(|key| !wanted.contains(key)).copied().collect();
                gone.into_iter().try_for_each(|key| self.forget(maps, seed, key))?;
                wanted.into_iter().try_for_each(|key| self.know(maps, seed, key, budget))
            }
        }
    }

    /// Gives everybody this budget.
    pub(super) fn give(&mut self, maps: &Maps, budget: u32) -> anyhow::Result<()> {
        for (key, known) in self.known.iter_mut().filter(|(_, known)| known.budget != budget) {
            known.budget = budget;
            maps.set_known(*key, *known).context("a known source keeps its old budget")?;
        }
        Ok(())
    }

    fn know(&mut self, maps: &Maps, seed: Seed, key: Key, budget: u32) -> anyhow::Result<()> {
        if self.known.get(&key).is_some_and(|there| there.budget == budget) {
            return Ok(());
        }
        let new = !self.known.contains_key(&key);
        let slot = match self.known.get(&key) {
            Some(there) => there.slot,
            None => match self.free.pop() {
                Some(slot) => slot,
                None => bail!("{MAX} sources are known, more do not fit"),
            },
        };
        let known = Known { budget, slot };
        if new {
            maps.known_state.store(slot as usize, 0);
        }
        if let Err(error) = maps.set_known(key, known) {
            if new {
                self.free.push(slot);
            }
            return Err(error).context("the kernel does not take a known source");
        }
        self.known.insert(key, known);
        if new {
            self.need(maps, seed, &key);
        }
        Ok(())
    }

    fn forget(&mut self, maps: &Maps, seed: Seed, key: Key) -> anyhow::Result<()> {
        let Some(known) = self.known.get(&key).copied() else { return Ok(()) };
        maps.remove_known(key).context("the kernel does not forget a known source")?;
        self.known.remove(&key);
        self.free.push(known.slot);
        let bit = hash::presence(key.hi, key.lo, seed);
        if let Some(needed) = self.bits.get_mut(&bit) {
            *needed -= 1;
            if *needed == 0 {
                self.bits.remove(&bit);
                maps.mark_known(bit, false);
            }
        }
        Ok(())
    }

    fn need(&mut self, maps: &Maps, seed: Seed, key: &Key) {
        let bit = hash::presence(key.hi, key.lo, seed);
        *self.bits.entry(bit).or_default() += 1;
        maps.mark_known(bit, true);
    }
}

/// The kernel's key of a known source.
pub(super) fn key(at: &KnownAt) -> Key {
    let (hi, lo) = halves(at.addr);
    Key { hi, lo, port: at.port.map_or(0, u64::from) }
}
