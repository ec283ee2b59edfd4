//! The table of verdicts: what is given, a frame, and what has to become of it.

mod deny;
mod detectors;
mod essential;
mod extensions;
mod flows;
mod malformed;
mod manual;
mod ports;

use std::net::IpAddr;

use pbx_core::{address, filter::Until, rule::Action};
use pbx_ebpf::abi::{Source, stats::Reason};
use pbx_tests::frames::Frame;

use crate::pair::{Pair, SECOND, source, with_pair};

/// What a row is given before its frame comes.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    /// A setting.
    Set(&'static str, &'static str),
    /// A rule that never ends.
    Rule(Action, &'static str),
    /// A rule that ends so many ticks after the one that runs now.
    RuleFor(Action, &'static str, u32),
    /// An address of the appliance.
    Appliance(&'static str),
    /// A known source: address, port (0: all), budget.
    Registered(&'static str, u16, u32),
    /// A media flow: remote address, local port.
    Flow(&'static str, u16),
    /// A media port held by a call.
    Held(u16),
    /// An automatic block of an address: level, flags.
    Blocked(&'static str, u32, u32),
    /// An automatic block of a /64, by its upper half.
    Blocked64(u64, u32),
    /// A detector's block of a /64: flags.
    Blocked64As(u64, u32),
    /// A frame sent so often before.
    Sent(u64, Frame),
    /// So many nanoseconds pass.
    Later(u64),
    /// The clock stands so many nanoseconds before (negative) or after the start of the n-th tick from now.
    AtTick(u32, i64),
}

pub(crate) use Given::*;

/// A block rule that never ends.
pub(crate) fn block(prefix: &'static str) -> Given {
    Rule(Action::Block, prefix)
}

/// An allow rule that never ends.
pub(crate) fn allow(prefix: &'static str) -> Given {
    Rule(Action::Allow, prefix)
}

/// One line of the table.
pub(crate) struct Row {
    name: &'static str,
    given: Vec<Given>,
    frame: Vec<u8>,
    says: Reason,
}

/// A line without anything given.
pub(crate) fn row(name: &'static str, frame: &Frame, says: Reason) -> Row {
    row_of(name, frame.build(), says)
}

/// As [`row`], of bytes.
pub(crate) fn row_of(name: &'static str, frame: Vec<u8>, says: Reason) -> Row {
    Row { name, given: Vec::new(), frame, says }
}

impl Row {
    /// Given these.
    pub(crate) fn given(mut self, given: impl IntoIterator<Item = Given>) -> Self {
        self.given.extend(given);
        self
    }
}

/// Runs every row on both judges and reports all that are wrong.
pub(crate) fn run(rows: Vec<Row>) {
    let number = rows.len();
    let wrong = with_pair(|pair| rows.into_iter().filter_map(|row| row.run(pair)).collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{} of {number} rows:\n{}", wrong.len(), wrong.join("\n"));
    println!("{number} rows");
}

impl Row {
    fn run(self, pair: &mut Pair) -> Option<String> {
        pair.begin();
        let start = pair.now;
        for given in self.given {
            apply(pair, given, start);
        }
        let seen = pair.judge(&self.frame);
        (seen.reason != self.says).then(|| format!("{}: {:?} instead of {:?}", self.name, seen.reason, self.says))
    }
}

fn apply(pair: &mut Pair, given: Given, start: u64) {
    let addr = |text: &str| -> IpAddr { text.parse().unwrap_or_else(|_| panic!("{text:?} is no address")) };
    match given {
        Set(key, text) => pair.set(key, text),
        Rule(action, text) => rule(pair, text, action, Until::Forever),
        RuleFor(action, text, ticks) => rule(pair, text, action, pair.in_ticks(ticks)),
        Appliance(text) => pair.own(&[addr(text)]),
        Registered(text, port, budget) => pair.known(addr(text), port, budget),
        Flow(text, port) => pair.flow(addr(text), port),
        Held(port) => pair.hold(port),
        Blocked(text, level, flags) => pair.blocked(source(addr(text)), level, flags, 60 * SECOND),
        Blocked64(hi, level) => pair.blocked(Source { hi, lo: 0 }, level, 0, 60 * SECOND),
        Blocked64As(hi, flags) => pair.blocked(Source { hi, lo: 0 }, 0, flags, 60 * SECOND),
        Sent(n, frame) => (0..n).for_each(|_| {
            pair.judge(&frame.build());
        }),
        Later(ns) => pair.now += ns,
        AtTick(ticks, ns) => {
            let tick = u64::from(ticks) + pbx_ebpf::abi::tick(start);
            pair.now = (tick << pbx_ebpf::abi::TICK_SHIFT).wrapping_add_signed(ns);
        }
    }
}

fn rule(pair: &mut Pair, text: &str, action: Action, until: Until) {
    let prefix = address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).prefix;
    pair.rule(&prefix, action, Some(until));
}
