//! Random rules, times and packets: the kernel program, the host code and the naive model agree on all.

use std::{net::IpAddr, time::Instant};

use pbx_core::filter::{Entry, RuleTables, Until};
use pbx_ebpf::{abi::TICK_SHIFT, hash::Seed};
use pbx_tests::{
    frames::{Frame, protocol, tcp},
    sandbox::Sandbox,
};
use pbx_xdp::KernelTables;

use super::{
    naive::{self, Naive, Towards},
    universe,
};
use crate::{
    dice::Dice,
    pair::{Pair, SECOND, Shared},
};

const SEQUENCES: u64 = 24;
const CASES: u64 = 100;

fn frame(from: IpAddr, towards: Towards) -> Vec<u8> {
    let to: IpAddr =
        if from.is_ipv4() { [192, 0, 2, 2].into() } else { "2001:db8:ffff::2".parse().expect("an address") };
    match towards {
        Towards::Sip => Frame::udp((from, 9), (to, 5060)),
        Towards::Segment => Frame::tcp((from, 9), (to, 5061), tcp::ACK),
        Towards::Fragment => Frame::ip(from, to, protocol::UDP, &[0; 16]).fragment(2, true),
        Towards::Media => Frame::udp((from, 9), (to, 45000)),
        Towards::Web => Frame::tcp((from, 9), (to, 80), tcp::SYN),
    }
    .build()
}

struct Trial {
    pair: Pair,
    model: Naive,
    dice: Dice,
    packets: u64,
    name: String,
}

impl Trial {
    /// No rules, no blocks; the thresholds of the model.
    fn begin(&mut self, sequence: u64) {
        self.pair.begin();
        for (key, text) in [
            ("guard.level1.packets", naive::LEVEL1.to_string()),
            ("guard.level2.packets", naive::LEVEL2.to_string()),
            ("guard.level1.block_time", format!("{}s", naive::BLOCK1 / SECOND)),
            ("guard.level2.block_time", format!("{}s", naive::BLOCK2 / SECOND)),
            ("guard.tcp.packets", naive::TCP.to_string()),
            ("guard.fragments.packets", naive::FRAGMENTS.to_string()),
        ] {
            self.pair.set(key, &text);
        }
        self.model = Naive::default();
        self.dice = Dice::new(sequence);
    }

    fn packet(&mut self, from: IpAddr, towards: Towards) {
        let seen = self.pair.judge(&frame(from, towards)).reason;
        let expected = self.model.judge(from, towards, self.pair.now);
        assert_eq!(
            seen, expected,
            "{}: {from} {towards:?} at {}, rules {:?}",
            self.name, self.pair.now, self.model.rules
        );
        self.packets += 1;
    }

    /// One change, some time, some packets.
    fn case(&mut self) {
        match self.dice.below(10) {
            0..=5 => self.add(),
            6..=7 if !self.model.rules.is_empty() => {
                let (prefix, action, _) = self.dice.pick(&self.model.rules);
                self.pair.rule(&prefix, action, None);
                self.model.set(&prefix, action, None);
            }
            8 => {
                self.model.own = (0..self.dice.below(3)).map(|_| universe::address(&mut self.dice)).collect();
                self.pair.own(&self.model.own);
            }
            _ => self.add(),
        }
        self.pair.now += match self.dice.below(4) {
            0 => 0,
            1 => self.dice.below(1 << TICK_SHIFT),
            2 => self.dice.below(1_000_000),
            _ => self.dice.below(SECOND),
        };
        for _ in 0..4 {
            let from = universe::address(&mut self.dice);
            let towards = self.dice.pick(&[
                Towards::Sip,
                Towards::Sip,
                Towards::Segment,
                Towards::Fragment,
                Towards::Media,
                Towards::Web,
            ]);
            for _ in 0..self.dice.pick(&[1, 1, 2, 7, 12]) {
                self.packet(from, towards);
            }
        }
    }

    fn add(&mut self) {
        let again = !self.model.rules.is_empty() && self.dice.one_in(4);
        let prefix = if again { self.dice.pick(&self.model.rules).0 } else { universe::prefix(&mut self.dice) };
        let (action, until) = (universe::action(&mut self.dice), universe::until(&mut self.dice, self.pair.now));
        self.pair.rule(&prefix, action, Some(until));
        self.model.set(&prefix, action, Some(until));
    }

    /// The last nanosecond of every rule that ends within `horizon`, and the one after.
    fn cross_every_expiry(&mut self, horizon: u64) {
        let mut ends: Vec<(u64, IpAddr, IpAddr)> = Vec::new();
        for (prefix, _, until) in &self.model.rules {
            if let Until::Tick(end) = until {
                ends.push((u64::from(*end) << TICK_SHIFT, prefix.first(), prefix.last()));
            }
        }
        ends.sort();
        let near = self.pair.now + 1..self.pair.now + horizon;
        for (end, first, last) in ends.into_iter().filter(|(end, ..)| near.contains(end)) {
            for now in [end - 1, end] {
                self.pair.now = self.pair.now.max(now);
                self.packet(first, Towards::Web);
                self.packet(last, Towards::Web);
            }
        }
    }

    /// The tables are what the rules say, and what a new start makes of them says the same.
    fn check_and_adopt(&mut self) {
        assert_eq!(self.pair.kernel_rules.check(9), [], "{}: kernel tables", self.name);
        assert_eq!(self.pair.host_rules.check(9), [], "{}: host tables", self.name);
        let (seed, own) = (self.pair.seed, self.model.own.clone());
        let entries = || {
            self.model.rules.iter().map(|(prefix, action, until)| Entry {
                prefix: *prefix,
                action: *action,
                until: *until,
            })
        };
        let kernel = KernelTables(self.pair.kernel.maps.clone());
        self.pair.kernel_rules = RuleTables::adopt(kernel, seed, entries(), own.clone()).expect("room");
        self.pair.host_rules = RuleTables::adopt(Shared(self.pair.host.clone()), seed, entries(), own).expect("room");
        for _ in 0..40 {
            let from = universe::address(&mut self.dice);
            self.packet(from, Towards::Web);
        }
    }
}

#[test]
fn kernel_host_and_the_naive_model_agree_on_random_rules_times_and_packets() {
    Sandbox::run(|_| {
        let began = Instant::now();
        let pair = Pair::new(Seed(0xabc, 0xdef));
        let mut trial = Trial { pair, model: Naive::default(), dice: Dice::new(0), packets: 0, name: String::new() };
        for sequence in 0..SEQUENCES {
            trial.begin(sequence);
            for case in 0..CASES {
                trial.name = format!("sequence {sequence}, case {case}");
                trial.case();
            }
            // The ends that no slot can hold lie years ahead: once is enough.
            trial.cross_every_expiry(if sequence + 1 == SEQUENCES { u64::MAX >> 2 } else { 3600 * SECOND });
            trial.check_and_adopt();
        }
        println!("{} cases, {} packets in {:?}", SEQUENCES * CASES, trial.packets, began.elapsed());
    });
}
