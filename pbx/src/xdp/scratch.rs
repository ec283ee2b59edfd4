//! Frames through a scratch copy: the same program on copies of the tables, the clock set to each frame's time.
//! What is live neither counts nor changes.

use anyhow::Context as _;
use pbx_ebpf::{
    abi::{stats, stats::Reason},
    packet,
};
use pbx_xdp::{Loaded, Options, Words};

use super::{XdpFilter, prefix_of, tell};
use crate::{
    filter::{Outcome, TestVerdict},
    host::clock,
};

pub(super) fn run(filter: &XdpFilter, frames: &[(u64, Vec<u8>)]) -> anyhow::Result<Vec<TestVerdict>> {
    let options = Options { seed: filter.seed, test_clock: true, ..Options::default() };
    let mut scratch = Loaded::load(&options).context("no scratch copy of the filter")?;
    let (from, to) = (&filter.maps, &scratch.maps);
    let pairs: [(&Words, &Words); 11] = [
        (&from.settings, &to.settings),
        (&from.ports, &to.ports),
        (&from.summary4, &to.summary4),
        (&from.class4, &to.class4),
        (&from.address4, &to.address4),
        (&from.lengths4, &to.lengths4),
        (&from.lengths6, &to.lengths6),
        (&from.tags, &to.tags),
        (&from.prefix, &to.prefix),
        (&from.rate, &to.rate),
        (&from.presence, &to.presence),
    ];
    for (from, to) in pairs {
        (0..from.len()).for_each(|word| to.store(word, from.load(word)));
    }
    for (source, block) in from.blocks()? {
        to.add_block(filter.seed, source, block)?;
    }
    let state = filter.state();
    let enforcement = state.projected().enforcement;
    drop(state);
    to.write_interface(0, 0, enforcement);
    let begin = clock::monotonic_coarse_ns();
    let mut before = sums(&scratch)?;
    let mut verdicts = Vec::with_capacity(frames.len());
    for (index, (at, frame)) in frames.iter().enumerate() {
        let source = match packet::parse(&pbx_core::filter::host::Bytes(frame)) {
            packet::Parsed::Ip(ip) => Some(prefix_of(pbx_ebpf::abi::Source { hi: ip.hi, lo: ip.lo.max(1) }).addr()),
            _ => None,
        };
        scratch.maps.clock.store(0, begin.saturating_add(*at));
        // The kernel runs nothing shorter than an Ethernet header; such a frame never reaches a program.
        if frame.len() < 14 {
            verdicts.push(TestVerdict {
                frame: index,
                outcome: Outcome::Dropped,
                reason: "too short".to_owned(),
                source,
            });
            continue;
        }
        scratch.run(frame, 1).with_context(|| format!("frame {index}"))?;
        let after = sums(&scratch)?;
        let counted = |reason: &Reason| after[*reason as usize] > before[*reason as usize];
        let reason = Reason::ALL.iter().find(|r| counted(r)).copied().unwrap_or(Reason::Passed);
        before = after;
        verdicts.push(TestVerdict {
            frame: index,
            outcome: tell::outcome(reason),
            reason: reason.name().to_owned(),
            source,
        });
    }
    Ok(verdicts)
}

fn sums(scratch: &Loaded) -> anyhow::Result<[u64; stats::REASONS]> {
    let mut sums = [0; stats::REASONS];
    for cpu in scratch.maps.stats.get(&0, 0)?.iter() {
        sums.iter_mut().zip(cpu.0).for_each(|(sum, counter)| *sum += counter[0]);
    }
    Ok(sums)
}
