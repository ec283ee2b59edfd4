//! `pbx-bench sip`: what a message, a registration and a call cost, beside rsip and Kamailio in the same run, in namespaces of
//! its own.

pub(crate) mod appliance;
mod calls;
mod flooded;
mod gate;
mod growth;
pub(crate) mod kamailio;
mod lexing;
pub(crate) mod process;
mod registration;
mod secrecy;
mod stateless;
mod strangers;
pub(crate) mod timed;

use anyhow::{Context as _, Result, ensure};
use pbx_tests::sandbox::Sandbox;

use crate::report::Report;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds, each of ours and the peer.
    pub(crate) rounds: usize,
    /// Unauthenticated requests in all.
    pub(crate) strangers: u32,
    /// Registrations in all, and users of each kind.
    pub(crate) phones: u32,
    /// Instead of all else: calls for so many minutes.
    pub(crate) long: Option<usize>,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 20, strangers: 1_000_000, phones: 10_000, long: None };
    pub(crate) const QUICK: Self = Self { rounds: 3, strangers: 60_000, phones: 1_500, long: None };
}

/// The rows, by name.
const ROWS: [&str; 7] = ["lexing", "gate", "stateless", "registration", "secrecy", "calls", "flooded"];

/// Measures the rows whose names contain `only`.
pub(crate) fn measure(sandbox: &Sandbox, effort: Effort, only: Option<&str>, report: &mut Report) -> Result<()> {
    if let Some(minutes) = effort.long {
        return growth::measure(sandbox.directory(), minutes, report).context("the long run");
    }
    let rows: Vec<_> = ROWS.into_iter().filter(|row| only.is_none_or(|text| row.contains(text))).collect();
    ensure!(!rows.is_empty(), "no row is called {:?}: there are {}", only.unwrap_or_default(), ROWS.join(", "));
    for row in rows {
        let directory = sandbox.directory().join(row);
        std::fs::create_dir_all(&directory)?;
        let measured = match row {
            "lexing" => timed::pinned(|| lexing::measure(effort, report)),
            "gate" => timed::pinned(|| gate::measure(effort, report)),
            "stateless" => stateless::measure(&directory, effort, report),
            "registration" => registration::measure(&directory, effort, report),
            "calls" => calls::measure(&directory, effort, report),
            "flooded" => flooded::measure(&directory, effort, report),
            _ => secrecy::measure(&directory, effort, report),
        };
        measured.with_context(|| format!("the row {row}"))?;
    }
    Ok(())
}

/// What all figures have in common.
pub(crate) fn conditions(effort: Effort) -> Vec<String> {
    vec![
        format!(
            "{} interleaved rounds; lexing and gate: CPU time of a pinned thread; the others: CPU time of the whole \
             server process, user space and kernel, over UDP on the loopback, until it is idle again",
            effort.rounds
        ),
        "the daemon keeps registrations in SQLite and has the filter in user space (attach = \"off\"); Kamailio keeps \
         them in memory only"
            .to_owned(),
    ]
}
