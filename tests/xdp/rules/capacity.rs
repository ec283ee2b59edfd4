//! What is guaranteed fits: all addresses and prefixes of both families at once, whatever the seed.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use pbx_core::{
    address::Prefix,
    filter::{Entry, RuleTables, Until, host::HostTables},
    rule::{Action, MAX_ADDRESSES, MAX_PREFIXES},
};
use pbx_ebpf::hash::Seed;

use crate::{dice::Dice, pair::Shared};

const SEEDS: [Seed; 3] = [Seed(1, 2), Seed(0xdead_beef, 0xfeed_f00d), Seed(u64::MAX, 1 << 63)];

fn distinct(n: usize, mut make: impl FnMut() -> Prefix) -> Vec<Prefix> {
    let mut seen = HashSet::new();
    while seen.len() < n {
        seen.insert(make());
    }
    seen.into_iter().collect()
}

fn everything(dice: &mut Dice) -> Vec<Entry> {
    let mut word = || u128::from(dice.next()) << 80 ^ u128::from(dice.next()) << 40 ^ u128::from(dice.next());
    let mut v4 = |len: u8| Prefix::new(Ipv4Addr::from_bits(word() as u32).into(), len).expect("a length");
    let addresses4 = distinct(MAX_ADDRESSES, || v4(32));
    let mut len = 0;
    let prefixes4 = distinct(MAX_PREFIXES, || {
        len = (len + 1) % 20;
        v4(12 + len)
    });
    let mut v6 =
        |len: u8| Prefix::new(Ipv6Addr::from_bits(0x2001 << 112 | word() >> 16).into(), len).expect("a length");
    let addresses6 = distinct(MAX_ADDRESSES, || v6(128));
    let prefixes6 = distinct(MAX_PREFIXES, || {
        len = (len + 1) % 60;
        v6(36 + len)
    });
    let all = addresses4.into_iter().chain(prefixes4).chain(addresses6).chain(prefixes6);
    let mut n = 0;
    all.map(|prefix| {
        n += 1;
        let until = if n % 3 == 0 { Until::Tick(1_000_000 + n) } else { Until::Forever };
        Entry { prefix, action: if n % 7 == 0 { Action::Allow } else { Action::Block }, until }
    })
    .collect()
}

#[test]
fn the_guaranteed_number_of_rules_fits_with_any_seed() {
    for seed in SEEDS {
        let entries = everything(&mut Dice::new(seed.0));
        let host = Arc::new(HostTables::new(seed));
        let began = Instant::now();
        let adopted = RuleTables::adopt(Shared(host.clone()), seed, entries.iter().copied(), []);
        let tables = adopted.unwrap_or_else(|full| panic!("seed {seed:?}: {full}"));
        println!("seed {seed:x?}: {} rules adopted in {:?}", entries.len(), began.elapsed());
        drop(tables);
        if seed != SEEDS[0] {
            continue;
        }
        // Other rules on memory that is full of these: what is there must not be in their way.
        let others = everything(&mut Dice::new(seed.1 ^ 99));
        let began = Instant::now();
        let adopted = RuleTables::adopt(Shared(host), seed, others, []);
        adopted.unwrap_or_else(|full| panic!("seed {seed:?}, over others: {full}"));
        println!("seed {seed:x?}: replaced in {:?}", began.elapsed());
    }
}
