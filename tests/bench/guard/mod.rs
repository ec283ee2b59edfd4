//! `pbx-bench guard`: what the guard's bookkeeping costs a message, what it takes up, how long it is from the last
//! wrong password that counts to the first packet that the kernel drops, and what a flood leaves of the calls.

mod bookkeeping;
mod generator;
mod latency;
mod load;
mod sides;

use anyhow::{Context as _, Result, ensure};
use pbx_tests::sandbox::Sandbox;

use crate::{report::Report, sip::timed};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Attackers that are blocked, one after the other.
    pub(crate) rounds: usize,
    /// Signs of a round.
    pub(crate) signs: u32,
    /// Rounds of calls, each against all sides.
    pub(crate) loads: usize,
    /// Calls of a round.
    pub(crate) calls: usize,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 21, signs: 200_000, loads: 3, calls: 500 };
    pub(crate) const QUICK: Self = Self { rounds: 7, signs: 50_000, loads: 1, calls: 300 };
}

/// The rows, by name.
const ROWS: [&str; 3] = ["bookkeeping", "latency", "flood"];

/// Measures the rows whose names contain `only`.
pub(crate) fn measure(sandbox: &Sandbox, effort: Effort, only: Option<&str>, report: &mut Report) -> Result<()> {
    let rows: Vec<_> = ROWS.into_iter().filter(|row| only.is_none_or(|text| row.contains(text))).collect();
    ensure!(!rows.is_empty(), "no row is called {:?}: there are {}", only.unwrap_or_default(), ROWS.join(", "));
    for row in rows {
        let measured = match row {
            "bookkeeping" => timed::pinned(|| bookkeeping::measure(effort, report)),
            "latency" => latency::measure(sandbox, effort, report),
            _ => load::measure(effort, report),
        };
        measured.with_context(|| format!("the row {row}"))?;
    }
    Ok(())
}

/// What the rows are.
pub(crate) fn conditions(effort: Effort) -> Vec<String> {
    let Effort { rounds, signs, loads, calls } = effort;
    vec![
        format!(
            "bookkeeping: CPU time of a pinned thread, {rounds} rounds of {signs} signs with 600 bytes of message each"
        ),
        format!(
            "latency: {rounds} attackers one after the other, over veth, a packet each 0.2 ms; the first that is not \
             answered any more counts"
        ),
        format!(
            "flood: {loads} rounds of {calls} calls with digest, {} a second, against each side in turn; servers and \
             phones have all CPUs but the last, the generator and what the kernel does with its packets the last",
            load::RATE
        ),
    ]
}
