//! A writer between any two steps of a reader: the words of a change are stored one by one, some before the
//! reader begins, some at the moment when it turns to its next table. What it says is what the rules said
//! before the change or say after it.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use pbx_core::{
    address::Prefix,
    filter::{Entry, Key, Memory, RuleTables, Table},
    rule::Action,
};
use pbx_ebpf::{
    abi::{address4, prefix, settings, tick},
    hash::Seed,
    rules::{self, Said},
    tables::RuleMaps,
};

use super::{
    naive::Naive,
    universe,
    writer::{SEED, crowd, history},
};
use crate::{dice::Dice, pair::SECOND};

const NOW: u64 = 1000 * SECOND;
/// Changes that fill the tables, and changes that are taken apart.
const WARM_UP: usize = 150;
const CHANGES: usize = 1500;
/// A reader turns to another table at most so often, in these rules.
const TURNS: usize = 100;

type Store = (Table, usize, u64);

/// The rules' tables in memory.
struct World([Box<[AtomicU64]>; 8]);

impl World {
    fn new() -> Self {
        let sizes = [
            address4::CLASS_ELEMENTS as usize,
            8 << address4::LINE_BITS,
            1 << 16,
            2 << prefix::LENGTHS6_BITS,
            1 << prefix::SET_BITS,
            prefix::SET_WORDS << prefix::SET_BITS,
            settings::Settings::WORDS,
            address4::SUMMARY_ELEMENTS as usize,
        ];
        World(sizes.map(|n| (0..n).map(|_| AtomicU64::new(0)).collect()))
    }
    fn word(&self, table: Table, word: usize) -> &AtomicU64 {
        let (i, base) = match table {
            Table::Summary4 => (7, 0),
            Table::Class4 => (0, 0),
            Table::Address4 => (1, 0),
            Table::Lengths4 => (2, 0),
            Table::Lengths6 => (3, 0),
            Table::Tags => (4, 0),
            Table::Prefix => (5, 0),
            Table::ShortLengths => (6, settings::SHORT_LENGTHS_WORD),
        };
        // The hit words lie between those of the entries.
        let word = if table == Table::Prefix { pbx_core::filter::word(table, word) } else { word };
        &self.0[i][base + word]
    }
    fn swap(&self, (table, word, value): Store) -> Store {
        (table, word, self.word(table, word).swap(value, SeqCst))
    }
}

/// The world as the rules write it, and every word that they write.
struct Writing<'a>(&'a World, &'a RefCell<Vec<Store>>);

impl Memory for Writing<'_> {
    fn load(&self, table: Table, word: usize) -> u64 {
        self.0.word(table, word).load(SeqCst)
    }
    fn store(&mut self, table: Table, word: usize, value: u64) {
        self.0.word(table, word).store(value, SeqCst);
        self.1.borrow_mut().push((table, word, value));
    }
    fn hits(&self, _: Table, _: usize) -> u64 {
        0
    }
}

/// A reader that is interrupted once, before it turns to a table for the `turn`-th time.
struct Reader<'a> {
    world: &'a World,
    turn: usize,
    turns: Cell<usize>,
    stores: &'a [Store],
}

impl Reader<'_> {
    fn at(&self, table: Table, word: usize) -> Option<*mut u64> {
        self.turns.set(self.turns.get() + 1);
        if self.turns.get() == self.turn {
            for store in self.stores {
                self.world.swap(*store);
            }
        }
        Some(self.world.word(table, word).as_ptr())
    }
    fn say(&self, addr: IpAddr) -> Option<Action> {
        let key = Key::of(&Prefix::host(addr));
        match rules::say(self, addr.is_ipv6(), key.hi(), key.lo()) {
            Said::Allow => Some(Action::Allow),
            Said::Block => Some(Action::Block),
            Said::Nothing | Said::Own => None,
        }
    }
}

impl RuleMaps for Reader<'_> {
    fn seed(&self) -> Seed {
        SEED
    }
    fn now(&self) -> u64 {
        NOW
    }
    fn settings(&self) -> Option<*mut settings::Settings> {
        self.at(Table::ShortLengths, 0)?;
        Some(self.world.0[6][0].as_ptr().cast())
    }
    fn summary4(&self, element: u32) -> Option<*mut u64> {
        self.at(Table::Summary4, element as usize)
    }
    fn class4(&self, element: u32) -> Option<*mut u64> {
        self.at(Table::Class4, element as usize)
    }
    fn address4(&self, line: u32) -> Option<*mut u64> {
        self.at(Table::Address4, line as usize * 8)
    }
    fn lengths4(&self, element: u32) -> Option<*mut u64> {
        self.at(Table::Lengths4, element as usize)
    }
    fn lengths6(&self, bucket: u32) -> Option<*mut u64> {
        self.at(Table::Lengths6, bucket as usize * 2)
    }
    fn tags(&self, set: u32) -> Option<*mut u64> {
        self.at(Table::Tags, set as usize)
    }
    fn prefix(&self, set: u32) -> Option<*mut u64> {
        self.at(Table::Prefix, set as usize * 16)
    }
    fn counts_hits(&self) -> bool {
        false
    }
}

/// Applies stores, and gives what undoes them.
fn apply(world: &World, stores: &[Store]) -> Vec<Store> {
    let mut undo: Vec<Store> = stores.iter().map(|store| world.swap(*store)).collect();
    undo.reverse();
    undo
}

#[test]
fn a_change_taken_apart_word_by_word_never_shows_a_reader_a_third_state() {
    let crowd = crowd();
    let addresses: Vec<IpAddr> = crowd.iter().map(Prefix::first).collect();
    let history = history(&crowd, &addresses, NOW);
    let (mirror, world, log) = (World::new(), World::new(), RefCell::new(Vec::new()));
    let mut tables = RuleTables::adopt(Writing(&mirror, &log), SEED, [], []).expect("room");
    assert!(tick(NOW) > 0);
    let (mut readings, mut longest) = (0u64, 0);
    for (n, (prefix, action, until)) in history.changes.iter().take(WARM_UP + CHANGES).enumerate() {
        tables.set(prefix, *action, *until).unwrap_or_else(|full| panic!("{prefix}: {full}"));
        let stores = log.take();
        longest = longest.max(stores.len());
        if n >= WARM_UP {
            let states = [&history.verdicts[n], &history.verdicts[n + 1]];
            for first in 0..=stores.len() {
                for then in first + 1..=stores.len() {
                    let undo_first = apply(&world, &stores[..first]);
                    for (i, addr) in addresses.iter().enumerate() {
                        for turn in 1..=TURNS {
                            let reader =
                                Reader { world: &world, turn, turns: Cell::new(0), stores: &stores[first..then] };
                            // What the interruption overwrites, to be put back.
                            let undo_then = apply(&world, &stores[first..then]);
                            apply(&world, &undo_then);
                            let said = reader.say(*addr);
                            let interrupted = reader.turns.get() >= turn;
                            if interrupted {
                                apply(&world, &undo_then);
                            }
                            assert!(
                                states.iter().any(|state| state[i] == said),
                                "{addr}: {said:?} in change {n}, {prefix} {action:?} {until:?}: words {first}..{then} of \
                                 {stores:x?} at turn {turn}"
                            );
                            readings += 1;
                            if !interrupted {
                                break;
                            }
                        }
                    }
                    apply(&world, &undo_first);
                }
            }
        }
        apply(&world, &stores);
    }
    println!("{CHANGES} changes of up to {longest} words, {readings} readings");
}

#[test]
fn a_start_with_other_rules_never_lets_a_source_through_that_is_blocked_before_and_after() {
    let mut dice = Dice::new(4);
    let addresses: Vec<IpAddr> = (0..400).map(|_| universe::address(&mut dice)).collect();
    let (mirror, world, log) = (World::new(), World::new(), RefCell::new(Vec::new()));
    let (mut before, mut after) = (Naive::default(), Naive::default());
    let mut readings = 0;
    for round in 0..6 {
        // A third of the rules stays, a third goes or does the opposite, a third is new.
        after.rules.retain(|_| !dice.one_in(3));
        for _ in 0..25 {
            let (prefix, action, until) =
                (universe::prefix(&mut dice), universe::action(&mut dice), universe::until(&mut dice, NOW));
            after.set(&prefix, action, Some(until));
        }
        let entries =
            after.rules.iter().map(|(prefix, action, until)| Entry { prefix: *prefix, action: *action, until: *until });
        RuleTables::adopt(Writing(&mirror, &log), SEED, entries, []).expect("room");
        let stores = log.take();
        let same = |addr: &&IpAddr| before.rule(**addr, NOW) == after.rule(**addr, NOW);
        let steady: Vec<(&IpAddr, Option<Action>)> =
            addresses.iter().filter(same).map(|addr| (addr, after.rule(*addr, NOW))).collect();
        for (n, store) in stores.iter().enumerate() {
            world.swap(*store);
            // The class map takes a million words: where little can change, look now and then.
            if store.0 == Table::Class4 && n % 256 != 0 {
                continue;
            }
            for (addr, said) in steady.iter().filter(|(_, said)| *said == Some(Action::Block)) {
                let reader = Reader { world: &world, turn: 0, turns: Cell::new(0), stores: &[] };
                assert_eq!(
                    reader.say(**addr),
                    *said,
                    "round {round}, {addr} after word {n} of {}: {store:x?}",
                    stores.len()
                );
                readings += 1;
            }
        }
        before.rules.clone_from(&after.rules);
    }
    println!("{readings} readings");
}
