//! Whether one sender in a spoofed flood is still caught: it sends one packet in 65,536, and 1,000 a second.

use anyhow::Result;
use pbx_ebpf::abi::stats::Reason;
use pbx_xdp::Options;

use crate::{
    population::{Sources, scattered},
    programs::{Driver, Filter},
    report::Report,
};

/// One packet in so many is the sender's.
const SHARE: u32 = 65_536;
/// Its packets in the second, twice level 1.
const SENT: u32 = 1_000;
/// Its packets between two steps of the clock.
const STEP: u32 = 10;
const SECOND: u64 = 1_000_000_000;

/// Measures it, in a second of an injected clock: no machine here makes 65 million packets a second.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let filter = Filter::load(None, Options { test_clock: true, ..Options::default() })?;
    let driver = Driver::load(0)?;
    let sources = Sources { heavy: Some((SHARE, scattered(1))), ..Sources::SPOOFED };
    let mut frame = sources.frame(false, 5060);
    let steps = SENT / STEP;
    for step in 0..steps {
        let now = 60 * SECOND + u64::from(step) * SECOND / u64::from(steps);
        filter.loaded.maps.clock.store(0, now);
        let done = step * STEP * SHARE;
        frame[FIRST_TURN..FIRST_TURN + 4].copy_from_slice(&done.to_ne_bytes());
        driver.exactly(&filter.program, false, &frame, STEP * SHARE)?;
    }
    let dropped = dropped(&filter)?;
    report.figure(
        format!("of {SENT} packets of a sender with 1/65,536 of a spoofed flood passed (level 1: 500)"),
        f64::from(SENT) - dropped as f64,
        "packets",
        Some(550.0),
    );
    Ok(())
}

/// Where the turn lies in a frame for IPv4.
const FIRST_TURN: usize = 44;

/// All dropped packets; only the sender's can be: no other sends more than a few.
fn dropped(filter: &Filter) -> Result<u64> {
    let mut dropped = 0;
    for element in 0..2 {
        for counters in filter.loaded.maps.stats.get(&element, 0)?.iter() {
            dropped += Reason::ALL
                .iter()
                .filter(|reason| reason.drops())
                .map(|reason| counters.0[*reason as usize][0])
                .sum::<u64>();
        }
    }
    Ok(dropped)
}
