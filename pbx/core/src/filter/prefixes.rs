//! `PREFIX` and `TAGS`: entries of prefixes of both families. As in `addresses`, with the tag word as the
//! act of publishing: an entry is written, then its tag; the tag goes, then the entry.

use pbx_ebpf::{
    abi::{
        address4::hit_generation,
        prefix::{Entry, OWN, SET_BITS, SLOTS},
    },
    hash::{self, Places, Seed},
};

use super::{Memory, Table, index::Key, rules::Full};

const WORDS: usize = Entry::WORDS;

/// What an entry should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) until: u64,
    pub(crate) own: bool,
}

/// Where an entry is: set and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(u32, usize);

impl At {
    fn word(self, field: usize) -> usize {
        (self.0 as usize * SLOTS + self.1) * WORDS + field
    }
    /// Index of its hit word.
    pub(crate) fn hits(self) -> usize {
        self.0 as usize * SLOTS + self.1
    }
}

fn places(key: &Key, seed: Seed) -> Places {
    hash::prefix(key.hi(), key.lo(), key.code, seed)
}

fn key_at<M: Memory>(memory: &M, at: At) -> Option<Key> {
    let identity = memory.load(Table::Prefix, at.word(3));
    if identity == 0 {
        return None;
    }
    let hi = memory.load(Table::Prefix, at.word(0));
    let lo = memory.load(Table::Prefix, at.word(1));
    Some(Key { code: identity as u8, network: u128::from(hi) << 64 | u128::from(lo) })
}

fn find<M: Memory>(memory: &M, set: u32, key: &Key) -> Option<At> {
    (0..SLOTS).map(|i| At(set, i)).find(|at| key_at(memory, *at).as_ref() == Some(key))
}

fn free<M: Memory>(memory: &M, set: u32) -> Option<At> {
    (0..SLOTS).map(|i| At(set, i)).find(|at| memory.load(Table::Prefix, at.word(3)) == 0)
}

fn set_tag<M: Memory>(memory: &mut M, at: At, tag: u8) {
    let tags = memory.load(Table::Tags, at.0 as usize);
    let shift = 8 * at.1;
    memory.store(Table::Tags, at.0 as usize, tags & !(0xff << shift) | u64::from(tag) << shift);
}

fn spill<M: Memory>(memory: &mut M, set: u32, up: bool) {
    let tags = memory.load(Table::Tags, set as usize);
    let count = tags >> 32;
    let count = if up { count + 1 } else { count.saturating_sub(1) };
    memory.store(Table::Tags, set as usize, tags & 0xffff_ffff | count << 32);
}

/// Numbers each rewriting of a key, so that a reader notices one (`pbx_ebpf::rules`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence(u32);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        u64::from(self.0) << 32
    }
}

fn write<M: Memory>(memory: &mut M, sequence: &mut Sequence, at: At, key: &Key, wanted: Wanted, tag: u8) {
    let generation = (hit_generation(memory.hits(Table::Prefix, at.hits())) + 1) & 3;
    let own = if wanted.own { OWN } else { 0 };
    memory.store(Table::Prefix, at.word(0), key.hi());
    memory.store(Table::Prefix, at.word(1), key.lo());
    memory.store(Table::Prefix, at.word(2), wanted.until);
    memory.store(Table::Prefix, at.word(3), u64::from(key.code) | own | generation << 10 | sequence.next());
    set_tag(memory, at, tag);
}

fn erase<M: Memory>(memory: &mut M, at: At) {
    set_tag(memory, at, 0);
    memory.store(Table::Prefix, at.word(3), 0);
}

/// Makes the key's entry say what is wanted.
pub(crate) fn put<M: Memory>(
    memory: &mut M,
    seed: Seed,
    sequence: &mut Sequence,
    key: &Key,
    wanted: Wanted,
) -> Result<(), Full> {
    let places = places(key, seed);
    if let Some(at) = position(memory, seed, key) {
        memory.change(Table::Prefix, at.word(2), wanted.until);
        let identity = memory.load(Table::Prefix, at.word(3));
        let with = if wanted.own { identity | OWN } else { identity & !OWN };
        memory.change(Table::Prefix, at.word(3), with);
        return Ok(());
    }
    if let Some(at) = free(memory, places.home).or_else(|| make_room(memory, seed, sequence, places.home)) {
        write(memory, sequence, at, key, wanted, places.tag);
        return Ok(());
    }
    let at = free(memory, places.other).or_else(|| make_room(memory, seed, sequence, places.other)).ok_or(Full)?;
    spill(memory, places.home, true);
    write(memory, sequence, at, key, wanted, places.tag);
    Ok(())
}

fn make_room<M: Memory>(memory: &mut M, seed: Seed, sequence: &mut Sequence, set: u32) -> Option<At> {
    for i in 0..SLOTS {
        let at = At(set, i);
        let Some(key) = key_at(memory, at) else { continue };
        let places = places(&key, seed);
        if places.home != set {
            continue;
        }
        let Some(to) = free(memory, places.other) else { continue };
        let wanted = Wanted {
            until: memory.load(Table::Prefix, at.word(2)),
            own: memory.load(Table::Prefix, at.word(3)) & OWN != 0,
        };
        spill(memory, set, true);
        write(memory, sequence, to, &key, wanted, places.tag);
        erase(memory, at);
        return Some(at);
    }
    None
}

/// Takes the key's entry away.
pub(crate) fn remove<M: Memory>(memory: &mut M, seed: Seed, key: &Key) {
    let places = places(key, seed);
    if let Some(at) = find(memory, places.home, key) {
        erase(memory, at);
    }
    if let Some(at) = find(memory, places.other, key) {
        erase(memory, at);
        spill(memory, places.home, false);
    }
}

/// Where the key's entry is.
pub(crate) fn position<M: Memory>(memory: &M, seed: Seed, key: &Key) -> Option<At> {
    let places = places(key, seed);
    find(memory, places.home, key).or_else(|| find(memory, places.other, key))
}

/// What the key's entry says.
pub(crate) fn get<M: Memory>(memory: &M, seed: Seed, key: &Key) -> Option<Wanted> {
    let at = position(memory, seed, key)?;
    Some(Wanted {
        until: memory.load(Table::Prefix, at.word(2)),
        own: memory.load(Table::Prefix, at.word(3)) & OWN != 0,
    })
}

/// Every key that has an entry.
pub(crate) fn all<M: Memory>(memory: &M) -> Vec<Key> {
    (0..1u32 << SET_BITS)
        .flat_map(|set| (0..SLOTS).map(move |i| At(set, i)))
        .filter_map(|at| key_at(memory, at))
        .collect()
}

/// Mends what a writer that died between two words left.
pub(crate) fn repair<M: Memory>(memory: &mut M, seed: Seed) {
    let sets = 1u32 << SET_BITS;
    let mut spilled = vec![0u64; sets as usize];
    for set in 0..sets {
        for i in 0..SLOTS {
            let at = At(set, i);
            let tag = (memory.load(Table::Tags, set as usize) >> (8 * i)) as u8;
            let Some(key) = key_at(memory, at) else {
                if tag != 0 {
                    set_tag(memory, at, 0);
                }
                continue;
            };
            let places = places(&key, seed);
            let away = places.home != set;
            let misplaced = away && (places.other != set || find(memory, places.home, &key).is_some());
            if tag != places.tag || misplaced {
                erase(memory, at);
            } else if away {
                spilled[places.home as usize] += 1;
            }
        }
    }
    for (set, count) in spilled.into_iter().enumerate() {
        let tags = memory.load(Table::Tags, set);
        memory.change(Table::Tags, set, tags & 0xffff_ffff | count << 32);
    }
}
