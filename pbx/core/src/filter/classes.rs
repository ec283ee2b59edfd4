//! `CLASS4`: the class of each /24, computed from the rules for a range of /24s at once.

use pbx_ebpf::abi::address4::{ALLOW, BASE, BLOCK, CONSULT, EXACT};

use super::{
    Memory, Table,
    index::{Index, is_special4, is_twin},
};
use crate::rule::Action;

fn base(action: Action) -> u8 {
    match action {
        Action::Allow => ALLOW as u8,
        Action::Block => BLOCK as u8,
    }
}

/// The classes of the /24s `first ..= last` (numbered by their upper 24 bits). `own` are the appliance's IPv4
/// addresses.
pub(crate) fn paint(index: &Index, own: &[u32], first: u32, last: u32) -> Vec<u8> {
    let (from, to) = (first << 8, last << 8 | 0xff);
    let mut classes = vec![0u8; (last - first + 1) as usize];
    // Shortest first: a longer one paints over it. A prefix that is shorter than the range covers all of it.
    for len in 0..=24u8 {
        let mask = if len == 0 { 0 } else { u32::MAX << (32 - u32::from(len)) };
        for (key, deadlines) in index.within4(len, from & mask, to) {
            let start = key.lo() as u32;
            let end = start | !mask;
            if end < from {
                continue;
            }
            let a = start.max(from).wrapping_sub(from) >> 8;
            let b = end.min(to).wrapping_sub(from) >> 8;
            let painted = &mut classes[a as usize..=b as usize];
            if let Some(action) = deadlines.lasting() {
                painted.iter_mut().for_each(|class| *class = *class & !(BASE as u8) | base(action));
            }
            if deadlines.ends() {
                painted.iter_mut().for_each(|class| *class |= CONSULT as u8);
            }
        }
    }
    for len in 25..=32u8 {
        for (key, deadlines) in index.within4(len, from, to) {
            let class = &mut classes[((key.lo() as u32 - from) >> 8) as usize];
            if is_special4(&key, &deadlines) {
                *class |= CONSULT as u8;
            }
            if len == 32 && !is_twin(&deadlines) {
                *class |= EXACT as u8;
            }
        }
    }
    for address in own.iter().filter(|address| (from..=to).contains(address)) {
        classes[((address - from) >> 8) as usize] |= EXACT as u8;
    }
    classes
}

/// Writes the classes of a range of /24s where they differ.
pub(crate) fn write<M: Memory>(memory: &mut M, index: &Index, own: &[u32], first: u32, last: u32) {
    let (first, last) = (first & !15, last | 15);
    let classes = paint(index, own, first, last);
    for (i, sixteen) in classes.chunks_exact(16).enumerate() {
        let (at, class) = ((first >> 4) as usize + i, word(sixteen));
        // The summary speaks of a word from before it is there until after it is gone.
        if class != 0 {
            summarise(memory, at, true);
            memory.change(Table::Class4, at, class);
        } else {
            memory.change(Table::Class4, at, class);
            summarise(memory, at, false);
        }
    }
}

/// Sets or clears the summary's bit of a class word.
fn summarise<M: Memory>(memory: &mut M, class: usize, there: bool) {
    let bits = memory.load(Table::Summary4, class / 64);
    let bit = 1u64 << (class % 64);
    memory.change(Table::Summary4, class / 64, if there { bits | bit } else { bits & !bit });
}

/// 16 classes as a word.
pub(crate) fn word(classes: &[u8]) -> u64 {
    classes.iter().rev().fold(0, |word, class| word << 4 | u64::from(*class))
}
