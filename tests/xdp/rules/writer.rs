//! A writer beside readers: every verdict is that of the rules before or after the change that runs. The
//! keys crowd a few lines and sets, so that most changes move others out of their way.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use pbx_core::{
    address::Prefix,
    filter::{Key, RuleTables, Until, host::HostTables, settings::project},
    rule::Action,
    settings::Settings,
};
use pbx_ebpf::{
    abi::stats::Reason,
    hash::{self, Seed},
};
use pbx_tests::frames::Frame;

use super::naive::Naive;
use crate::{
    dice::Dice,
    pair::{INTERFACE, SECOND, Shared},
};

pub(crate) const SEED: Seed = Seed(5, 6);
const CHANGES: usize = 30_000;

/// Prefixes whose homes are two lines and two sets, and the wider ones over them.
pub(crate) fn crowd() -> Vec<Prefix> {
    let host = |addr: u32| Prefix::host(Ipv4Addr::from(addr).into());
    let line = |addr: u32| hash::address4(addr, SEED).home;
    let (first, second) = (line(0x0a00_0001), line(0x0a00_0002));
    let addresses = (0x0a00_0001u32..).filter(|a| [first, second].contains(&line(*a))).take(24).map(host);
    let by64 = |i: u64| {
        Prefix::new(Ipv6Addr::from_bits(u128::from(0x2001_0db8_0000_0000 + i) << 64).into(), 64).expect("a /64")
    };
    let set = |prefix: &Prefix| {
        let key = Key::of(prefix);
        hash::prefix(key.hi(), key.lo(), key.code, SEED).home
    };
    let (first, second) = (set(&by64(1)), set(&by64(2)));
    let networks = (1u64..).map(by64).filter(|p| [first, second].contains(&set(p))).take(14);
    let wider = [
        "10.0.0.0/16",
        "10.0.0.0/20",
        "10.0.0.0/25",
        "2001:db8::/32",
        "2001:db8::/33",
        "2001:db8::/40",
        "2001:db8::/48",
        "2001:db8::/50",
        "2001:db8::/51",
        "2001:db8::/52",
        "2001:db8::/53",
        "2001:db8::/54",
        "2001:db8::/55",
        "2001::/16",
    ];
    let wider = wider.map(|text| pbx_core::address::parse(text).expect("a prefix").prefix);
    addresses.chain(networks).chain(wider).collect()
}

/// The verdicts of all addresses after each change.
pub(crate) struct History {
    pub(crate) changes: Vec<(Prefix, Action, Option<Until>)>,
    pub(crate) verdicts: Vec<Vec<Option<Action>>>,
}

pub(crate) fn history(crowd: &[Prefix], addresses: &[IpAddr], now: u64) -> History {
    let (mut dice, mut model) = (Dice::new(77), Naive::default());
    let mut history = History { changes: Vec::new(), verdicts: Vec::new() };
    let verdicts = |model: &Naive| addresses.iter().map(|addr| model.rule(*addr, now)).collect();
    history.verdicts.push(verdicts(&model));
    for _ in 0..CHANGES {
        let prefix = dice.pick(crowd);
        let there = model.rules.iter().find(|(p, ..)| *p == prefix).map(|(_, action, _)| *action);
        let (action, until) = match there {
            Some(action) if !dice.one_in(4) => (action, None),
            _ => {
                let ends = Until::Tick(pbx_ebpf::abi::tick(now) as u32 + 9);
                (dice.pick(&[Action::Block, Action::Block, Action::Allow]), Some(dice.pick(&[Until::Forever, ends])))
            }
        };
        model.set(&prefix, action, until);
        history.changes.push((prefix, action, until));
        history.verdicts.push(verdicts(&model));
    }
    history
}

#[test]
fn every_verdict_beside_a_writer_is_that_before_or_after_the_change() {
    let now = 1000 * SECOND;
    let crowd = crowd();
    let addresses: Vec<IpAddr> = crowd.iter().map(Prefix::first).collect();
    let history = history(&crowd, &addresses, now);
    let host = Arc::new(HostTables::new(SEED));
    let mut settings = Settings::default();
    settings.set("filter.mode", "enforce").expect("a good setting");
    host.settings(&project(&settings, &[], &[]), INTERFACE);
    let mut tables = RuleTables::adopt(Shared(host.clone()), SEED, [], []).expect("room");
    // 2n: n changes are done; 2n + 1: one more is under way.
    let (step, judged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (host, history, addresses, step, judged) = (&host, &history, &addresses, &step, &judged);
            scope.spawn(move || {
                let frames: Vec<Vec<u8>> = addresses.iter().map(|addr| to_the_web(*addr)).collect();
                let (mut dice, mut n) = (Dice::new(thread + 1), 0);
                while step.load(SeqCst) < 2 * CHANGES {
                    let i = dice.below(frames.len() as u64) as usize;
                    let before = step.load(SeqCst);
                    let reason = host.judge(&frames[i], INTERFACE, now).reason;
                    let after = step.load(SeqCst);
                    let said = match reason {
                        Reason::Manual => Some(Action::Block),
                        Reason::Allowed => Some(Action::Allow),
                        _ => None,
                    };
                    let possible = &history.verdicts[before / 2..=after.div_ceil(2)];
                    assert!(
                        possible.iter().any(|verdicts| verdicts[i] == said),
                        "{}: {said:?} between steps {before} and {after}: {:?}",
                        addresses[i],
                        &history.changes[before / 2..after.div_ceil(2)]
                    );
                    n += 1;
                }
                judged.fetch_add(n, SeqCst);
            });
        }
        for (n, (prefix, action, until)) in history.changes.iter().enumerate() {
            step.store(2 * n + 1, SeqCst);
            let done = tables.set(prefix, *action, *until);
            step.store(2 * n + 2, SeqCst);
            if let Err(full) = done {
                step.store(2 * CHANGES, SeqCst);
                panic!("{prefix}: {full}");
            }
        }
    });
    assert_eq!(tables.check(9), []);
    println!("{CHANGES} changes, {} verdicts", judged.into_inner());
}

fn to_the_web(from: IpAddr) -> Vec<u8> {
    let to: IpAddr =
        if from.is_ipv4() { [192, 0, 2, 2].into() } else { "2001:db8:ffff::2".parse().expect("an address") };
    Frame::tcp((from, 9), (to, 80), 2).build()
}
