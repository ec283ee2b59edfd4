//! What a writer that was killed leaves behind, and worse: the next start makes the tables right.

use std::{net::IpAddr, sync::Arc};

use pbx_core::filter::{Entry, Memory, RuleTables, Table, host::HostTables, settings::project};
use pbx_core::settings::Settings;
use pbx_ebpf::{
    abi::{address4, prefix, stats::Reason},
    hash::Seed,
};
use pbx_tests::frames::Frame;

use super::{naive::Naive, universe};
use crate::{
    dice::Dice,
    pair::{INTERFACE, SECOND, Shared},
};

const SEED: Seed = Seed(21, 42);

/// Words as a writer leaves them that dies between two stores, and words at random.
fn damage(memory: &mut Shared, dice: &mut Dice) {
    for _ in 0..400 {
        let set = dice.below(1 << prefix::SET_BITS) as usize;
        let entry = (set * prefix::SLOTS + dice.below(prefix::SLOTS as u64) as usize) * prefix::Entry::WORDS;
        match dice.below(9) {
            // An entry without its identity, or without its tag.
            0 => (0..3).for_each(|word| memory.store(Table::Prefix, entry + word, dice.next())),
            1 => (0..4).for_each(|word| memory.store(Table::Prefix, entry + word, dice.next())),
            // A tag or a count of spilled keys that nothing stands for.
            2 => memory.store(Table::Tags, set, dice.next()),
            3 => memory.store(Table::Tags, set, memory.load(Table::Tags, set) | 3 << 32),
            4 => {
                let word = dice.below(8 << address4::LINE_BITS) as usize;
                memory.store(Table::Address4, word, dice.next() << 20 ^ dice.next());
            }
            5 => memory.store(Table::Class4, dice.below(1 << 20) as usize, dice.next() << 20 ^ dice.next()),
            6 => memory.store(Table::Summary4, dice.below(1 << 14) as usize, dice.next()),
            7 => memory.store(Table::Lengths4, dice.below(1 << 16) as usize, dice.next()),
            _ => memory.store(Table::Lengths6, dice.below(2 << prefix::LENGTHS6_BITS) as usize, dice.next()),
        }
    }
    // Every other entry of the rules loses its tag, or is half of a move: a copy in a set that is not its own.
    for word in 0..(prefix::SLOTS << prefix::SET_BITS) {
        if memory.load(Table::Prefix, word * 4 + 3) == 0 || dice.one_in(2) {
            continue;
        }
        if dice.one_in(2) {
            memory.store(Table::Tags, word / prefix::SLOTS, 0);
        } else {
            let to = (word * 4 + 4 * prefix::SLOTS) % (4 * (prefix::SLOTS << prefix::SET_BITS));
            (0..4).for_each(|i| memory.store(Table::Prefix, to + i, memory.load(Table::Prefix, word * 4 + i)));
        }
    }
}

#[test]
fn adopting_damaged_memory_gives_tables_without_a_difference() {
    let host = Arc::new(HostTables::new(SEED));
    let mut settings = Settings::default();
    settings.set("filter.mode", "enforce").expect("a good setting");
    host.settings(&project(&settings, &[], &[]), INTERFACE);
    let mut dice = Dice::new(9);
    let now = 1000 * SECOND;
    for round in 0..6 {
        let (mut model, mut tables) =
            (Naive::default(), RuleTables::adopt(Shared(host.clone()), SEED, [], []).expect("room"));
        for _ in 0..60 {
            let (prefix, action, until) =
                (universe::prefix(&mut dice), universe::action(&mut dice), universe::until(&mut dice, now));
            model.set(&prefix, action, Some(until));
            tables.set(&prefix, action, Some(until)).expect("room");
        }
        model.own = vec![universe::address(&mut dice)];
        let mut memory = tables.into_memory();
        damage(&mut memory, &mut dice);
        let entries =
            model.rules.iter().map(|(prefix, action, until)| Entry { prefix: *prefix, action: *action, until: *until });
        let tables = RuleTables::adopt(memory, SEED, entries, model.own.clone()).expect("room");
        assert_eq!(tables.check(9), [], "round {round}");
        for _ in 0..500 {
            let from = universe::address(&mut dice);
            let frame = to_the_web(from);
            let seen = host.judge(&frame, INTERFACE, now).reason;
            assert_eq!(seen, model.judge(from, super::naive::Towards::Web, now), "round {round}, {from}");
        }
    }
}

#[test]
fn a_check_names_what_is_wrong() {
    let host = Arc::new(HostTables::new(SEED));
    let rule = |text: &str| Entry {
        prefix: pbx_core::address::parse(text).expect("a prefix").prefix,
        action: pbx_core::rule::Action::Block,
        until: pbx_core::filter::Until::Forever,
    };
    let entries = ["203.0.113.7", "203.0.113.0/25", "2001:db8::/64", "2000::/8"].map(rule);
    let tables = RuleTables::adopt(Shared(host.clone()), SEED, entries, []).expect("room");
    assert_eq!(tables.check(9), []);
    for table in [
        Table::Summary4,
        Table::Class4,
        Table::Address4,
        Table::Lengths4,
        Table::Lengths6,
        Table::Tags,
        Table::Prefix,
        Table::ShortLengths,
    ] {
        let words = if table == Table::ShortLengths { 2 } else { 1 << 14 };
        let memory = Shared(host.clone());
        let word = (0..words).find(|word| memory.load(table, *word) != 0).unwrap_or(words - 1);
        let before = memory.load(table, word);
        Shared(host.clone()).store(table, word, before ^ 0x1_0000_0001);
        assert!(!tables.check(9).is_empty(), "{table:?} word {word}");
        Shared(host.clone()).store(table, word, before);
    }
    assert_eq!(tables.check(9), []);
    assert_eq!(
        host.judge(&to_the_web([203, 0, 113, 9].into()), INTERFACE, SECOND).reason,
        Reason::Passed,
        "no mode is set"
    );
}

fn to_the_web(from: IpAddr) -> Vec<u8> {
    let to: IpAddr =
        if from.is_ipv4() { [192, 0, 2, 2].into() } else { "2001:db8:ffff::2".parse().expect("an address") };
    Frame::tcp((from, 9), (to, 80), 2).build()
}
