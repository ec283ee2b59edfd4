//! The manual rules and the settings as the kernel's tables have them: compiled, changed one rule at a time,
//! adopted from an earlier run, and checked. Pure: the tables are a [`Memory`], of the kernel or of a test.
//!
//! A rule's change is a handful of words in an order in which every reader sees the state before or after it
//! (see `docs/ARCHITECTURE.md`, "The tables").

mod addresses;
mod classes;
pub mod host;
mod index;
mod lengths;
mod prefixes;
mod rules;
pub mod settings;

use pbx_ebpf::abi::{address4, prefix};

pub use host::HostTables;
pub use index::{Deadlines, Key, Until};
pub use rules::{Counts, Difference, Entry, Full, RuleTables};

/// The tables that the daemon alone writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// `SUMMARY4`.
    Summary4,
    /// `CLASS4`.
    Class4,
    /// `ADDRESS4`.
    Address4,
    /// `LENGTHS4`.
    Lengths4,
    /// `LENGTHS6`.
    Lengths6,
    /// `TAGS`.
    Tags,
    /// `PREFIX`.
    Prefix,
    /// The short lengths in `SETTINGS`.
    ShortLengths,
}

/// Where a word of a table lies in its map: beside the words that the daemon writes lie the hit words.
pub const fn word(table: Table, word: usize) -> usize {
    match table {
        Table::Address4 => word / 8 * address4::LINE_WORDS + word % 8,
        Table::Prefix => word / 4 * prefix::SLOT_WORDS + word % 4,
        _ => word,
    }
}

/// Where the hit word of a slot lies in its map (see [`Memory::hits`]).
pub const fn hit_word(table: Table, slot: usize) -> usize {
    match table {
        Table::Address4 => slot / 8 * address4::LINE_WORDS + address4::HITS + slot % 8,
        _ => slot * prefix::SLOT_WORDS + prefix::Entry::WORDS,
    }
}

/// The words of the tables, without the hit words between them.
pub trait Memory {
    /// Reads a word.
    fn load(&self, table: Table, word: usize) -> u64;
    /// Writes a word; readers see it whole.
    fn store(&mut self, table: Table, word: usize, value: u64);
    /// The hit word of a slot (`Address4`: `line * 8 + slot`; `Prefix`: `set * 4 + slot`).
    fn hits(&self, table: Table, slot: usize) -> u64;

    /// Writes a word if it is not that already; whether it wrote.
    fn change(&mut self, table: Table, word: usize, value: u64) -> bool {
        let differs = self.load(table, word) != value;
        if differs {
            self.store(table, word, value);
        }
        differs
    }
}
