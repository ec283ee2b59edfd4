//! Packets that rules without a counter of their own dropped or would have dropped, estimated from samples.

use std::{collections::HashMap, net::IpAddr};

use pbx_core::{address::Prefix, filter::RuleTables, rule::Action, time::Timestamp};
use pbx_ebpf::abi::{events::Sample, stats::Reason};
use pbx_xdp::KernelTables;

use super::{Clocks, prefix_of};
use crate::filter::Hits;

/// Estimates by rule.
#[derive(Debug, Default)]
pub(super) struct Estimates(HashMap<(Prefix, Action), (u64, Timestamp)>);

impl Estimates {
    /// Attributes a sampled drop to the longest rule that covers its source.
    pub(super) fn add(&mut self, rules: &RuleTables<KernelTables>, sample: &Sample, clocks: &Clocks) {
        if ![Reason::Manual as u32, Reason::WouldManual as u32].contains(&sample.reason) {
            return;
        }
        let source = prefix_of(pbx_ebpf::abi::Source { hi: sample.hi, lo: sample.lo.max(1) });
        let IpAddr::V4(_) = source.addr() else { return };
        let blocking = (0..=32u8).rev().filter_map(|len| Prefix::new(source.addr(), len).ok());
        let Some(prefix) = blocking.into_iter().find(|prefix| rules.deadlines(prefix).block.is_some()) else { return };
        let entry = self.0.entry((prefix, Action::Block)).or_insert((0, clocks.wall));
        entry.0 += sample.weight;
        entry.1 = clocks.wall(sample.time);
    }

    /// The estimate of a rule.
    pub(super) fn of(&self, prefix: &Prefix, action: Action) -> Hits {
        let found = self.0.get(&(*prefix, action));
        Hits { packets: found.map_or(0, |e| e.0), last_seen: found.map(|e| e.1), estimated: true }
    }

    /// Forgets a rule that is gone.
    pub(super) fn forget(&mut self, prefix: &Prefix, action: Action) {
        self.0.remove(&(*prefix, action));
    }
}
