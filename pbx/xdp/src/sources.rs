//! Sources in the maps: automatic blocks, rates, known sources.

use std::{
    collections::HashSet,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::maps::{HashMap, MapData, MapError};
use pbx_ebpf::{
    abi::{
        Source,
        automatic::{Block, MONITOR},
        guard, known, presence,
        rate::{ELEMENTS, FRAGMENTS, LEVELS, OWNER, TCP},
    },
    hash::{self, Seed},
    rate::{self, Slot, current},
};

use crate::{
    Maps,
    maps::{BlockValue, KnownKey, KnownValue, SourceKey},
};

type Blocks = HashMap<MapData, SourceKey, BlockValue>;

fn held(map: &Mutex<Blocks>) -> MutexGuard<'_, Blocks> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Maps {
    /// All automatic blocks of both kinds, also those that are over. Nobody waits meanwhile.
    pub fn blocks(&self) -> io::Result<Vec<(Source, Block)>> {
        let all = self.automatic.all()?.into_iter().chain(self.web.all()?);
        Ok(all.map(|(source, block)| (source.0, block.0)).collect())
    }

    fn map_of(&self, web_only: bool) -> MutexGuard<'_, Blocks> {
        held(&if web_only { &self.web } else { &self.automatic }.entry)
    }

    /// The automatic block of exactly this source, of all ports or of the web ports alone.
    pub fn block(&self, source: Source, web_only: bool) -> Option<Block> {
        self.map_of(web_only).get(&SourceKey(source), 0).ok().map(|block| block.0)
    }

    /// Makes an automatic block. One that is there keeps what is longer and higher of the two.
    pub fn add_block(&self, seed: Seed, source: Source, block: Block) -> io::Result<()> {
        const NOEXIST: u64 = 1;
        let mut map = self.map_of(block.is_web_only());
        match map.insert(SourceKey(source), BlockValue(block), NOEXIST) {
            Ok(()) => {}
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                let there = map.get(&SourceKey(source), 0).map_err(io::Error::other)?.0;
                if block.expires > there.expires || block.level > there.level {
                    // The detector is of the one that ends later.
                    let later = if block.expires > there.expires { &block } else { &there };
                    let merged = Block {
                        expires: later.expires,
                        level: block.level.max(there.level),
                        flags: later.flags & !MONITOR | block.flags & there.flags & MONITOR,
                        ..there
                    };
                    map.insert(SourceKey(source), BlockValue(merged), 0).map_err(io::Error::other)?;
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        drop(map);
        self.mark(seed, source);
        Ok(())
    }

    /// Puts the block that `decide` makes of the one that is there, of this kind, in its place; none: it stays.
    /// `false`: the table is full.
    pub fn replace_block(
        &self,
        seed: Seed,
        source: Source,
        web_only: bool,
        decide: impl FnOnce(Option<&Block>) -> Option<Block>,
    ) -> io::Result<bool> {
        let mut map = self.map_of(web_only);
        let there = map.get(&SourceKey(source), 0).ok().map(|block| block.0);
        let Some(block) = decide(there.as_ref()) else { return Ok(true) };
        match map.insert(SourceKey(source), BlockValue(block), 0) {
            Ok(()) => {}
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                return Ok(false);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        drop(map);
        // After the block: a sweep that clears the bit has not seen it, and looks again after that.
        self.mark(seed, source);
        Ok(true)
    }

    /// Ends the automatic block of exactly this source and kind; whether there was one.
    pub fn remove_block(&self, source: Source, web_only: bool) -> io::Result<bool> {
        match self.map_of(web_only).remove(&SourceKey(source)) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(false),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn mark(&self, seed: Seed, source: Source) {
        let (element, bit) = hash::presence(source.hi, source.lo, seed);
        self.presence.set_bits(element as usize * 2 + presence::AUTOMATIC, bit);
    }

    /// Sets the presence bit of every automatic block.
    pub fn mark_blocks(&self, seed: Seed) -> io::Result<()> {
        self.blocks()?.into_iter().for_each(|(source, _)| self.mark(seed, source));
        Ok(())
    }

    /// Takes blocks away that were over at `now`, and presence bits that no block needs; how many blocks went.
    pub fn sweep_blocks(&self, seed: Seed, now: u64) -> io::Result<usize> {
        let blocks = self.blocks()?;
        let mut gone = 0;
        let mut needed = HashSet::new();
        for (source, block) in &blocks {
            // Asked again, because the kernel may have prolonged it meanwhile.
            let web_only = block.is_web_only();
            if block.expires <= now && self.block(*source, web_only).is_some_and(|block| block.expires <= now) {
                gone += usize::from(self.remove_block(*source, web_only)?);
            } else {
                needed.insert(hash::presence(source.hi, source.lo, seed));
            }
        }
        self.clear_presence(seed, &needed)?;
        Ok(gone)
    }

    fn clear_presence(&self, seed: Seed, needed: &HashSet<(u32, u64)>) -> io::Result<()> {
        let mut cleared = false;
        for element in 0..1u32 << presence::BITS {
            let word = element as usize * 2 + presence::AUTOMATIC;
            let set = self.presence.load(word);
            for bit in (0..64).map(|i| 1u64 << i).filter(|bit| set & bit != 0) {
                if !needed.contains(&(element, bit)) {
                    self.presence.clear_bits(word, bit);
                    cleared = true;
                }
            }
        }
        if cleared {
            // A block that the kernel made while we looked has its bit again.
            self.mark_blocks(seed)?;
        }
        Ok(())
    }

    /// Ends the alarm over new sources when it has been calm for long enough; whether it did.
    pub fn end_guard(&self, now: u64) -> bool {
        let calm = now.saturating_sub(self.guard.load(2)) >= guard::CALM;
        self.guard.load(1) == 1 && calm && self.guard.compare_exchange(1, 1, 0) == 1
    }

    /// All known sources.
    pub fn known_sources(&self) -> io::Result<Vec<(known::Key, known::Known)>> {
        let map = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|entry| entry.map(|(key, known)| (key.0, known.0)).map_err(io::Error::other)).collect()
    }

    /// Makes a source known, or gives a known one another budget. Its presence bit is the caller's next step.
    pub fn set_known(&self, key: known::Key, value: known::Known) -> io::Result<()> {
        let mut map = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(KnownKey(key), KnownValue(value), 0).map_err(io::Error::other)
    }

    /// Forgets a known source; one that is not there is no error.
    pub fn remove_known(&self, key: known::Key) -> io::Result<()> {
        let mut map = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match map.remove(&KnownKey(key)) {
            Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Says whether an address whose bit this is may be a known source.
    pub fn mark_known(&self, (element, bit): (u32, u64), known: bool) {
        let word = element as usize * 2 + presence::KNOWN;
        if known {
            self.presence.set_bits(word, bit);
        } else {
            self.presence.clear_bits(word, bit);
        }
    }

    /// Says that no address but those with these bits may be a known source.
    pub fn mark_all_known(&self, bits: impl IntoIterator<Item = (u32, u64)>) {
        let mut words = vec![0; 1 << presence::BITS];
        for (element, bit) in bits {
            words[element as usize] |= bit;
        }
        words.iter().enumerate().for_each(|(element, bits)| self.presence.store(element * 2 + presence::KNOWN, *bits));
    }

    /// The budget of a known source.
    pub fn known_budget(&self, hi: u64, lo: u64) -> Option<u32> {
        let map = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(&KnownKey(known::Key { hi, lo, port: 0 }), 0).ok().map(|known| known.0.budget)
    }

    /// All rate slots in use.
    pub fn rates(&self) -> Vec<Slot> {
        (0..ELEMENTS).flat_map(rate::slots).filter_map(|word| self.rate_at(word)).collect()
    }

    /// The rate slots of exactly this source.
    pub fn rates_of(&self, seed: Seed, source: Source) -> Vec<Slot> {
        let kinds = [LEVELS, TCP, FRAGMENTS];
        let sets = kinds.map(|kind| hash::rate(source.hi, source.lo, kind, seed));
        let words = sets.into_iter().flat_map(rate::slots);
        words.filter_map(|word| self.rate_at(word)).filter(|slot| slot.source == source).collect()
    }

    fn rate_at(&self, word: usize) -> Option<Slot> {
        rate::slot(word, |word| self.rate.load(word))
    }

    /// Frees a slot, if it still is the source's: its next packet is its first.
    pub fn reset_rate(&self, slot: &Slot) {
        let mut state = self.rate.load(slot.word);
        loop {
            let same = self.rate_at(slot.word).is_some_and(|now| now.source == slot.source && now.kind == slot.kind);
            if !same {
                return;
            }
            let seen = self.rate.compare_exchange(slot.word, state, state & OWNER);
            if seen == state {
                return;
            }
            state = seen;
        }
    }

    /// Packets of a slot within its running second at `now`.
    pub fn running(&self, slot: &Slot, now: u64) -> u64 {
        current(self.rate.load(slot.word), now)
    }
}
