//! The object as it was built: counting needs instructions that give back what was there.

use pbx_xdp::object::OBJECT;

/// `BPF_STX | BPF_ATOMIC | BPF_DW` (linux/bpf.h).
const ATOMIC: u8 = 0xdb;
/// `BPF_CMPXCHG`, and the flag of instructions that fetch (linux/bpf.h).
const CMPXCHG: i32 = 0xf1;
const FETCH: i32 = 1;

/// Instructions of the sections with code, as opcode and immediate.
fn instructions() -> Vec<(u8, i32)> {
    let half = |at: usize| usize::from(u16::from_le_bytes([OBJECT[at], OBJECT[at + 1]]));
    let long = |at: usize| u64::from_le_bytes(OBJECT[at..at + 8].try_into().expect("eight bytes")) as usize;
    // ELF64: section headers at `e_shoff`, `e_shentsize` bytes each (System V ABI, "Sections").
    let (table, size, number) = (long(0x28), half(0x3a), half(0x3c));
    let executable = |at: &usize| long(at + 8) & 4 != 0;
    let sections = (0..number).map(|i| table + i * size).filter(executable);
    let code = sections.flat_map(|at| OBJECT[long(at + 0x18)..][..long(at + 0x20)].as_chunks::<8>().0);
    code.map(|i| (i[0], i32::from_le_bytes([i[4], i[5], i[6], i[7]]))).collect()
}

#[test]
fn windows_are_counted_with_instructions_that_give_back_what_was_there() {
    let code = instructions();
    assert!(code.len() > 1000, "{} instructions", code.len());
    let atomics: Vec<i32> = code.iter().filter(|(opcode, _)| *opcode == ATOMIC).map(|(_, imm)| *imm).collect();
    let exchanges = atomics.iter().filter(|imm| **imm == CMPXCHG).count();
    // Counting, taking a slot (twice), the budget, the guard (on, off, new sources), the cap, raising a block.
    assert!(exchanges >= 9, "{exchanges} compare-exchanges among {} atomics: {atomics:x?}", atomics.len());
    assert!(atomics.iter().any(|imm| imm & FETCH != 0));
    println!("{} instructions, {exchanges} compare-exchanges", code.len());
}
