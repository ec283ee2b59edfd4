//! The rules' tables as a whole: adopt what is there, change one rule, compare.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use pbx_ebpf::{
    abi::{address4, prefix},
    hash::Seed,
};

use super::{
    Memory, Table, addresses, classes,
    index::{Deadlines, Index, Key, Until, is_special4, is_twin, mapped},
    lengths::{self, Lengths6},
    prefixes::{self, Sequence},
};
use crate::{address::Prefix, rule::Action};

/// A rule as the tables need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whom it covers.
    pub prefix: Prefix,
    /// What it does.
    pub action: Action,
    /// When it ends.
    pub until: Until,
}

/// No slot is free for a key, neither at home nor elsewhere. The guaranteed numbers of rules leave the tables
/// at most half full, where this does not happen by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's rule tables have no room for this entry")]
pub struct Full;

/// A place where the tables are not what the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which table.
    pub table: Table,
    /// What is there and what should be.
    pub what: String,
}

/// The rules and the memory that they are compiled into.
#[derive(Debug)]
pub struct RuleTables<M> {
    memory: M,
    seed: Seed,
    index: Index,
    own: BTreeSet<IpAddr>,
    lengths6: Lengths6,
    sequence: Sequence,
}

impl<M: Memory> RuleTables<M> {
    /// Makes the memory, whatever an earlier run left in it, say what `entries` and the appliance's own
    /// addresses say. Only differences are written; a source that is blocked before and after stays blocked.
    ///
    /// # Errors
    /// [`Full`].
    pub fn adopt(
        mut memory: M,
        seed: Seed,
        entries: impl IntoIterator<Item = Entry>,
        own: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, Full> {
        addresses::repair(&mut memory, seed);
        prefixes::repair(&mut memory, seed);
        let mut index = Index::default();
        for entry in entries {
            let key = Key::of(&entry.prefix);
            let mut deadlines = index.deadlines(&key);
            *deadlines.of(entry.action) = Some(entry.until);
            index.set(key, deadlines);
        }
        let own = own.into_iter().collect();
        let mut tables =
            RuleTables { memory, seed, index, own, lengths6: Lengths6::default(), sequence: Sequence::default() };
        tables.fill()?;
        Ok(tables)
    }

    /// Writes everything that is wanted, then takes away what is not.
    fn fill(&mut self) -> Result<(), Full> {
        let keys = self.wanted_keys();
        // Longest first: a rule that a longer one goes before never speaks without it.
        if keys.iter().rev().any(|key| self.put(key).is_err()) {
            // What an earlier run left takes up the room.
            self.take_strays();
            keys.iter().rev().try_for_each(|key| self.put(key))?;
        }
        for key in keys.iter().filter(|key| !key.is_ipv4()) {
            self.lengths6.add(key, self.seed);
        }
        for bucket in (0..1 << prefix::LENGTHS6_BITS).chain([Lengths6::short()]) {
            self.lengths6.write(&mut self.memory, bucket);
        }
        // While the classes change, a list that changes too names every length: the old class asks it, and the new.
        let lists: Vec<u64> = (0..1 << 16).map(|sixteen| lengths::of_16(&self.index, sixteen)).collect();
        for (sixteen, list) in lists.iter().enumerate() {
            if self.memory.load(Table::Lengths4, sixteen) != *list {
                self.memory.store(Table::Lengths4, sixteen, prefix::ALL);
            }
        }
        let own = self.own4();
        for eight in 0..256u32 {
            classes::write(&mut self.memory, &self.index, &own, eight << 16, eight << 16 | 0xffff);
        }
        for (sixteen, list) in lists.iter().enumerate() {
            self.memory.change(Table::Lengths4, sixteen, *list);
        }
        self.take_strays();
        Ok(())
    }

    /// Takes away every slot and entry that should not be there.
    fn take_strays(&mut self) {
        for address in addresses::all(&self.memory) {
            if self.slot(address).is_none() {
                addresses::remove(&mut self.memory, self.seed, address);
            }
        }
        for key in prefixes::all(&self.memory) {
            if self.entry(&key).is_none() {
                prefixes::remove(&mut self.memory, self.seed, &key);
            }
        }
    }

    /// Sets or removes (`None`) a rule.
    ///
    /// # Errors
    /// [`Full`]; the tables are as before.
    pub fn set(&mut self, prefix: &Prefix, action: Action, until: Option<Until>) -> Result<(), Full> {
        let key = Key::of(prefix);
        let mut deadlines = self.index.deadlines(&key);
        *deadlines.of(action) = until;
        self.replace(key, deadlines)
    }

    fn replace(&mut self, key: Key, deadlines: Deadlines) -> Result<(), Full> {
        let had_entry = self.entry(&key).is_some();
        let before = self.index.set(key, deadlines);
        if before == deadlines {
            return Ok(());
        }
        if let Err(full) = self.put(&key) {
            self.index.set(key, before);
            return Err(full);
        }
        self.lists6(&key, had_entry);
        if key.is_ipv4() {
            let (was, is) = (is_special4(&key, &before), is_special4(&key, &deadlines));
            let listed = was || is || self.index.any_special4() && key.len4() < 32;
            // A class that says "ask the prefixes" must find their lengths in the list: before it, after it.
            if listed && is {
                self.lists4(&key);
            }
            self.classes(&key);
            if listed && !is {
                self.lists4(&key);
            }
        }
        self.take(&key);
        Ok(())
    }

    /// The rules, as [`adopt`](Self::adopt) takes them.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.index.iter().flat_map(|(key, deadlines)| {
            let Deadlines { allow, block } = deadlines;
            let entry = move |action, until: Option<Until>| Some(Entry { prefix: key.prefix(), action, until: until? });
            [entry(Action::Allow, allow), entry(Action::Block, block)].into_iter().flatten()
        })
    }

    /// The appliance's own addresses.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.own.iter().copied()
    }

    /// Replaces the appliance's own addresses.
    ///
    /// # Errors
    /// [`Full`]; the addresses up to the one without room are replaced.
    pub fn own(&mut self, own: impl IntoIterator<Item = IpAddr>) -> Result<(), Full> {
        let own: BTreeSet<IpAddr> = own.into_iter().collect();
        let changed: Vec<IpAddr> = own.symmetric_difference(&self.own).copied().collect();
        for addr in changed {
            let key = Key::of(&Prefix::host(addr));
            let had_entry = self.entry(&key).is_some();
            let gone = self.own.remove(&addr);
            if !gone {
                self.own.insert(addr);
            }
            if let Err(full) = self.put(&key) {
                self.own.remove(&addr);
                return Err(full);
            }
            self.lists6(&key, had_entry);
            if key.is_ipv4() {
                self.classes(&key);
            }
            self.take(&key);
        }
        Ok(())
    }

    /// Counts an IPv6 key in or out of the lists: its entry is there before the list names its length, and
    /// after.
    fn lists6(&mut self, key: &Key, had_entry: bool) {
        if key.is_ipv4() {
            return;
        }
        let bucket = match (had_entry, self.entry(key).is_some()) {
            (false, true) => self.lengths6.add(key, self.seed),
            (true, false) => self.lengths6.remove(key, self.seed),
            _ => None,
        };
        if let Some(bucket) = bucket {
            self.lengths6.write(&mut self.memory, bucket);
        }
    }

    fn lists4(&mut self, key: &Key) {
        let first = key.lo() as u32 >> 16;
        let last = if key.len4() < 16 { first + (1 << (16 - key.len4())) - 1 } else { first };
        for sixteen in first..=last {
            self.memory.change(Table::Lengths4, sixteen as usize, lengths::of_16(&self.index, sixteen));
        }
    }

    fn classes(&mut self, key: &Key) {
        let own = self.own4();
        let first = key.lo() as u32 >> 8;
        let last = if key.len4() < 24 { first + (1 << (24 - key.len4())) - 1 } else { first };
        classes::write(&mut self.memory, &self.index, &own, first, last);
    }

    /// Writes the slot or entry of a key, if it should have one.
    fn put(&mut self, key: &Key) -> Result<(), Full> {
        if let Some(wanted) = self.slot_of(key) {
            addresses::put(&mut self.memory, self.seed, key.lo() as u32, wanted)?;
        }
        if let Some(wanted) = self.entry(key) {
            prefixes::put(&mut self.memory, self.seed, &mut self.sequence, key, wanted)?;
        }
        Ok(())
    }

    /// Takes away the slot or entry of a key, if it should have none.
    fn take(&mut self, key: &Key) {
        if key.is_ipv4() && key.len4() == 32 && self.slot_of(key).is_none() {
            addresses::remove(&mut self.memory, self.seed, key.lo() as u32);
        }
        if self.entry(key).is_none() {
            prefixes::remove(&mut self.memory, self.seed, key);
        }
    }

    fn slot_of(&self, key: &Key) -> Option<addresses::Wanted> {
        if key.is_ipv4() && key.len4() == 32 { self.slot(key.lo() as u32) } else { None }
    }

    /// What the slot of an IPv4 address should say.
    fn slot(&self, address: u32) -> Option<addresses::Wanted> {
        let addr = std::net::Ipv4Addr::from_bits(address);
        if self.own.contains(&IpAddr::V4(addr)) {
            return Some(addresses::Wanted { code: address4::OWN, expiry: 0 });
        }
        let deadlines = self.index.deadlines(&Key { code: 129, network: mapped(addr) });
        if deadlines.is_empty() || is_twin(&deadlines) {
            return None;
        }
        let (code, until) = match (deadlines.allow, deadlines.block) {
            (Some(until), _) => (address4::ALLOW, until),
            (None, Some(until)) => (address4::BLOCK, until),
            (None, None) => return None,
        };
        Some(addresses::Wanted { code, expiry: if let Until::Tick(tick) = until { u64::from(tick) } else { 0 } })
    }

    /// What the entry of a key should say.
    fn entry(&self, key: &Key) -> Option<prefixes::Wanted> {
        let deadlines = self.index.deadlines(key);
        if key.is_ipv4() {
            let wanted = !deadlines.is_empty() && (key.len4() < 32 || is_twin(&deadlines));
            return wanted.then(|| prefixes::Wanted { until: deadlines.word(), own: false });
        }
        let own = key.code == 129 && self.own.contains(&key.prefix().addr());
        (own || !deadlines.is_empty()).then(|| prefixes::Wanted { until: deadlines.word(), own })
    }

    fn own4(&self) -> Vec<u32> {
        self.own.iter().filter_map(|addr| if let IpAddr::V4(v4) = addr { Some(v4.to_bits()) } else { None }).collect()
    }

    /// Every key that the rules and own addresses mention.
    fn wanted_keys(&self) -> BTreeSet<Key> {
        let own = self.own.iter().map(|addr| Key::of(&Prefix::host(*addr)));
        self.index.iter().map(|(key, _)| key).chain(own).collect()
    }

    /// The memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Ends the compilation and gives the memory back.
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// What is said of a prefix.
    pub fn deadlines(&self, prefix: &Prefix) -> Deadlines {
        self.index.deadlines(&Key::of(prefix))
    }

    /// The hit word of a rule's slot or entry; none for prefixes that are painted into the class map.
    pub fn hits(&self, prefix: &Prefix) -> Option<u64> {
        let key = Key::of(prefix);
        if self.slot_of(&key).is_some() {
            let word = addresses::position(&self.memory, self.seed, key.lo() as u32)?;
            let slot = self.memory.load(Table::Address4, word);
            let hits = self.memory.hits(Table::Address4, word);
            return Some(if address4::hit_generation(hits) == address4::slot_generation(slot) { hits } else { 0 });
        }
        let at = prefixes::position(&self.memory, self.seed, &key)?;
        Some(self.memory.hits(Table::Prefix, at.hits()))
    }

    /// Recomputes everything and names up to `most` differences.
    pub fn check(&self, most: usize) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut say = |table, what: String| {
            if found.len() < most {
                found.push(Difference { table, what });
            }
        };
        let mut mended = Mended { memory: &self.memory, words: Vec::new() };
        addresses::repair(&mut mended, self.seed);
        prefixes::repair(&mut mended, self.seed);
        for (table, word, wanted) in mended.words {
            let there = self.memory.load(table, word);
            say(table, format!("word {word:#x}: {there:#x} instead of {wanted:#x}"));
        }
        let keys = self.wanted_keys();
        for key in &keys {
            let (wanted, there) = (self.slot_of(key), addresses::get(&self.memory, self.seed, key.lo() as u32));
            if key.is_ipv4() && key.len4() == 32 && wanted != there {
                say(Table::Address4, format!("{}: {there:?} instead of {wanted:?}", key.prefix()));
            }
            let (wanted, there) = (self.entry(key), prefixes::get(&self.memory, self.seed, key));
            if wanted != there {
                say(Table::Prefix, format!("{}: {there:?} instead of {wanted:?}", key.prefix()));
            }
        }
        for address in addresses::all(&self.memory) {
            if self.slot(address).is_none() {
                say(Table::Address4, format!("{}: no rule", std::net::Ipv4Addr::from_bits(address)));
            }
        }
        let stray: HashSet<Key> = prefixes::all(&self.memory).into_iter().filter(|key| !keys.contains(key)).collect();
        for key in stray {
            say(Table::Prefix, format!("{}: no rule", key.prefix()));
        }
        let own = self.own4();
        for eight in 0..256u32 {
            let wanted = classes::paint(&self.index, &own, eight << 16, eight << 16 | 0xffff);
            for (i, sixteen) in wanted.chunks_exact(16).enumerate() {
                let at = (eight << 12) as usize + i;
                let (there, wanted) = (self.memory.load(Table::Class4, at), classes::word(sixteen));
                if there != wanted {
                    say(Table::Class4, format!("word {at:#x}: {there:#x} instead of {wanted:#x}"));
                }
                let summary = self.memory.load(Table::Summary4, at / 64) >> (at % 64) & 1 != 0;
                if summary != (wanted != 0) {
                    say(Table::Summary4, format!("bit {at:#x}: {summary} instead of {}", wanted != 0));
                }
            }
        }
        for sixteen in 0..1u32 << 16 {
            let there = self.memory.load(Table::Lengths4, sixteen as usize);
            let wanted = lengths::of_16(&self.index, sixteen);
            if there != wanted {
                say(Table::Lengths4, format!("word {sixteen:#x}: {there:#x} instead of {wanted:#x}"));
            }
        }
        for bucket in (0..1u32 << prefix::LENGTHS6_BITS).chain([Lengths6::short()]) {
            let (table, at) = Lengths6::place(bucket);
            let there = [self.memory.load(table, at), self.memory.load(table, at + 1)];
            let wanted = self.lengths6.list(bucket);
            if there != wanted {
                say(table, format!("bucket {bucket:#x}: {there:x?} instead of {wanted:x?}"));
            }
        }
        found
    }
}

/// A memory in which mending changes nothing but is noted.
struct Mended<'a, M> {
    memory: &'a M,
    words: Vec<(Table, usize, u64)>,
}

impl<M: Memory> Memory for Mended<'_, M> {
    fn load(&self, table: Table, word: usize) -> u64 {
        self.memory.load(table, word)
    }
    fn store(&mut self, table: Table, word: usize, value: u64) {
        self.words.push((table, word, value));
    }
    fn hits(&self, table: Table, slot: usize) -> u64 {
        self.memory.hits(table, slot)
    }
}

/// How many keys there are, by family and kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Single IPv4 addresses.
    pub addresses4: usize,
    /// IPv4 prefixes.
    pub prefixes4: usize,
    /// Single IPv6 addresses.
    pub addresses6: usize,
    /// IPv6 prefixes.
    pub prefixes6: usize,
}

impl<M> RuleTables<M> {
    /// How many keys there are.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (key, _) in self.index.iter() {
            *match (key.is_ipv4(), key.code == 129) {
                (true, true) => &mut counts.addresses4,
                (true, false) => &mut counts.prefixes4,
                (false, true) => &mut counts.addresses6,
                (false, false) => &mut counts.prefixes6,
            } += 1;
        }
        counts
    }
}
