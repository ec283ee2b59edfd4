//! `ADDRESS4`: slots of single IPv4 addresses. A key lies in its home line or, counted there as spilled, in
//! its other line; one that must make room only ever moves from home to other, copy first, so that a reader
//! going home → other always meets it.

use pbx_ebpf::{
    abi::address4::{SLOTS, SPILLED, hit_generation, slot, slot_address, slot_code, slot_expiry, slot_generation},
    hash::{self, Seed},
};

use super::{Memory, Table, rules::Full};

const WORDS: usize = 8;

/// What a slot should say: code and expiry tick (0: never).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) code: u64,
    pub(crate) expiry: u64,
}

fn find<M: Memory>(memory: &M, line: u32, address: u32) -> Option<usize> {
    (0..SLOTS).map(|i| line as usize * WORDS + i).find(|word| {
        let slot = memory.load(Table::Address4, *word);
        slot_code(slot) != 0 && slot_address(slot) == address
    })
}

fn free<M: Memory>(memory: &M, line: u32) -> Option<usize> {
    (0..SLOTS).map(|i| line as usize * WORDS + i).find(|word| slot_code(memory.load(Table::Address4, *word)) == 0)
}

fn spill<M: Memory>(memory: &mut M, line: u32, up: bool) {
    let word = line as usize * WORDS + SPILLED;
    let count = memory.load(Table::Address4, word);
    memory.store(Table::Address4, word, if up { count + 1 } else { count.saturating_sub(1) });
}

fn write<M: Memory>(memory: &mut M, word: usize, address: u32, wanted: Wanted) {
    // The generation is another than the one that the slot's old hits belong to.
    let generation = hit_generation(memory.hits(Table::Address4, word)) + 1;
    memory.store(Table::Address4, word, slot(address, wanted.code, generation, wanted.expiry));
}

/// Makes the address's slot say what is wanted.
pub(crate) fn put<M: Memory>(memory: &mut M, seed: Seed, address: u32, wanted: Wanted) -> Result<(), Full> {
    let places = hash::address4(address, seed);
    if let Some(word) = find(memory, places.home, address).or_else(|| find(memory, places.other, address)) {
        let before = memory.load(Table::Address4, word);
        let now = slot(address, wanted.code, slot_generation(before), wanted.expiry);
        if slot_code(before) == wanted.code {
            memory.change(Table::Address4, word, now);
        } else {
            write(memory, word, address, wanted);
        }
        return Ok(());
    }
    if let Some(word) = free(memory, places.home).or_else(|| make_room(memory, seed, places.home)) {
        write(memory, word, address, wanted);
        return Ok(());
    }
    let word = free(memory, places.other).or_else(|| make_room(memory, seed, places.other)).ok_or(Full)?;
    spill(memory, places.home, true);
    write(memory, word, address, wanted);
    Ok(())
}

/// Moves a key that is at home in this line to its other line.
fn make_room<M: Memory>(memory: &mut M, seed: Seed, line: u32) -> Option<usize> {
    for i in 0..SLOTS {
        let word = line as usize * WORDS + i;
        let slot = memory.load(Table::Address4, word);
        let places = hash::address4(slot_address(slot), seed);
        if places.home != line {
            continue;
        }
        let Some(to) = free(memory, places.other) else { continue };
        spill(memory, line, true);
        write(memory, to, slot_address(slot), Wanted { code: slot_code(slot), expiry: slot_expiry(slot) });
        memory.store(Table::Address4, word, 0);
        return Some(word);
    }
    None
}

/// Takes the address's slot away.
pub(crate) fn remove<M: Memory>(memory: &mut M, seed: Seed, address: u32) {
    let places = hash::address4(address, seed);
    if let Some(word) = find(memory, places.home, address) {
        memory.store(Table::Address4, word, 0);
    }
    if let Some(word) = find(memory, places.other, address) {
        memory.store(Table::Address4, word, 0);
        spill(memory, places.home, false);
    }
}

/// What the address's slot says.
pub(crate) fn get<M: Memory>(memory: &M, seed: Seed, address: u32) -> Option<Wanted> {
    let word = position(memory, seed, address)?;
    let slot = memory.load(Table::Address4, word);
    Some(Wanted { code: slot_code(slot), expiry: slot_expiry(slot) })
}

/// The word of the address's slot.
pub(crate) fn position<M: Memory>(memory: &M, seed: Seed, address: u32) -> Option<usize> {
    let places = hash::address4(address, seed);
    find(memory, places.home, address).or_else(|| find(memory, places.other, address))
}

/// Every address that has a slot.
pub(crate) fn all<M: Memory>(memory: &M) -> Vec<u32> {
    let lines = 1usize << pbx_ebpf::abi::address4::LINE_BITS;
    let words = (0..lines).flat_map(|line| (0..SLOTS).map(move |i| line * WORDS + i));
    words
        .map(|word| memory.load(Table::Address4, word))
        .filter(|slot| slot_code(*slot) != 0)
        .map(slot_address)
        .collect()
}

/// Mends what a writer that died between two words left: slots in lines that are not theirs, second copies,
/// spill counts.
pub(crate) fn repair<M: Memory>(memory: &mut M, seed: Seed) {
    let lines = 1u32 << pbx_ebpf::abi::address4::LINE_BITS;
    let mut spilled = vec![0u64; lines as usize];
    for line in 0..lines {
        for i in 0..SLOTS {
            let word = line as usize * WORDS + i;
            let slot = memory.load(Table::Address4, word);
            if slot_code(slot) == 0 {
                continue;
            }
            let address = slot_address(slot);
            let places = hash::address4(address, seed);
            if places.home == line {
                continue;
            }
            if places.other != line || find(memory, places.home, address).is_some() {
                memory.store(Table::Address4, word, 0);
            } else {
                spilled[places.home as usize] += 1;
            }
        }
    }
    for (line, count) in spilled.into_iter().enumerate() {
        memory.change(Table::Address4, line * WORDS + SPILLED, count);
    }
}
