//! `pbx-bench filter`: the packet filter measured against xdp-filter, LPM tries, an LRU hash and nftables;
//! `pbx-bench sip`: messages and registrations, against rsip and Kamailio; `pbx-bench relay`: media, against a bare
//! tokio relay and rtpengine; `pbx-bench guard`: what attacks cost the guard, how soon they end and what they leave of
//! calls, beside Kamailio's pike and nftables. Each in one run, in namespaces of its own. Measures and says what was
//! aimed at; asserts nothing.

mod allocations;
mod cases;
mod changes;
mod flood;
mod guard;
mod pairs;
mod population;
mod programs;
mod relay;
mod report;
mod run;
mod sharing;
mod sip;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pbx_tests::sandbox::Sandbox;

use pairs::Effort;
use report::Report;

/// Measure pbx.
#[derive(Debug, Parser)]
#[command(name = "pbx-bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The packet filter, in nanoseconds of CPU and as ratios to other filters
    Filter {
        /// The figures as JSON on standard output
        #[arg(long)]
        json: bool,
        /// Fewer rounds: about a minute, and less certain
        #[arg(long)]
        quick: bool,
        /// Only the comparisons whose names contain this text
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// So many rounds
        #[arg(long, value_name = "N")]
        rounds: Option<usize>,
    },
    /// SIP: lexing, the gate, stateless answers, registrations, calls, memory, and whether answers tell who exists
    Sip {
        /// The figures as JSON on standard output
        #[arg(long)]
        json: bool,
        /// Fewer rounds and phones: less certain
        #[arg(long)]
        quick: bool,
        /// Only the rows whose names contain this text: lexing, gate, stateless, registration, secrecy, calls, flooded
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Instead of the rows: calls for so many minutes, and what the daemon's memory does
        #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "60", conflicts_with = "only",
              value_parser = clap::value_parser!(u16).range(1..=1440))]
        long: Option<u16>,
        /// So many rounds
        #[arg(long, value_name = "N")]
        rounds: Option<usize>,
    },
    /// The media relay: CPU time of a packet that is passed on
    Relay {
        /// The figures as JSON on standard output
        #[arg(long)]
        json: bool,
        /// Fewer and shorter rounds: less certain
        #[arg(long)]
        quick: bool,
        /// So many rounds
        #[arg(long, value_name = "N")]
        rounds: Option<usize>,
    },
    /// The guard: what counting costs a message, what it takes up, how soon the kernel drops, and calls under a flood
    Guard {
        /// The figures as JSON on standard output
        #[arg(long)]
        json: bool,
        /// Fewer rounds: less certain
        #[arg(long)]
        quick: bool,
        /// Only the rows whose names contain this text: bookkeeping, latency, flood
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// A relay as a process of its own
    #[command(hide = true)]
    RelayPart {
        /// Which
        kind: relay::part::Kind,
        /// So many calls
        calls: u16,
        /// The port of the first phone
        first: u16,
    },
}

fn main() -> ExitCode {
    let (report, json) = match Arguments::parse().what {
        What::Filter { json, quick, only, rounds } => {
            let mut effort = if quick { Effort::QUICK } else { Effort::FULL };
            effort.rounds = rounds.unwrap_or(effort.rounds).max(1);
            (filter(effort, only.as_deref()), json)
        }
        What::Sip { json, quick, only, long, rounds } => {
            let mut effort = if quick { sip::Effort::QUICK } else { sip::Effort::FULL };
            effort.rounds = rounds.unwrap_or(effort.rounds).clamp(1, 100);
            effort.long = long.map(usize::from);
            (sip(effort, only.as_deref()), json)
        }
        What::Relay { json, quick, rounds } => {
            let mut effort = if quick { relay::Effort::QUICK } else { relay::Effort::FULL };
            effort.rounds = rounds.unwrap_or(effort.rounds).clamp(1, 100);
            (media(effort), json)
        }
        What::Guard { json, quick, only } => {
            let effort = if quick { guard::Effort::QUICK } else { guard::Effort::FULL };
            (guarded(effort, only.as_deref()), json)
        }
        What::RelayPart { kind, calls, first } => {
            let ran = relay::part::run(kind, calls, first);
            return ran.map_or_else(complain, |()| ExitCode::SUCCESS);
        }
    };
    match report.and_then(|report| show(&report, json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(error),
    }
}

fn complain(error: anyhow::Error) -> ExitCode {
    eprintln!("pbx-bench: {error:#}");
    ExitCode::FAILURE
}

fn filter(effort: Effort, only: Option<&str>) -> Result<Report> {
    Sandbox::run(|sandbox| {
        run::pin()?;
        let mut report = Report { unit: "a packet", conditions: conditions(effort), ..Report::default() };
        cases::measure_all(&sandbox.bpffs(), effort, only, &mut report)?;
        if only.is_none() {
            sharing::measure(&mut report)?;
            flood::measure(effort, &mut report)?;
            changes::measure(&mut report)?;
        }
        Ok(report)
    })
}

fn sip(effort: sip::Effort, only: Option<&str>) -> Result<Report> {
    Sandbox::run(|sandbox| {
        let mut conditions = vec![format!("{}; load average {}", machine(), load_average())];
        conditions.extend(sip::conditions(effort));
        let mut report = Report { unit: "a piece", conditions, ..Report::default() };
        sip::measure(sandbox, effort, only, &mut report)?;
        Ok(report)
    })
}

fn media(effort: relay::Effort) -> Result<Report> {
    Sandbox::run(|sandbox| {
        let mut conditions = vec![format!("{}; load average {}", machine(), load_average())];
        conditions.extend(relay::conditions(effort));
        let mut report = Report { unit: "a packet", conditions, ..Report::default() };
        relay::measure(sandbox.directory(), effort, &mut report)?;
        Ok(report)
    })
}

fn guarded(effort: guard::Effort, only: Option<&str>) -> Result<Report> {
    Sandbox::run(|sandbox| {
        let mut conditions = vec![format!("{}; load average {}", machine(), load_average())];
        conditions.extend(guard::conditions(effort));
        let mut report = Report { unit: "a message", conditions, ..Report::default() };
        guard::measure(sandbox, effort, only, &mut report)?;
        Ok(report)
    })
}

fn show(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", report.json()?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

fn conditions(effort: Effort) -> Vec<String> {
    vec![
        machine(),
        format!(
            "{} interleaved rounds of {} packets, pinned to CPU {}, thread CPU time; load average {}",
            effort.rounds,
            effort.repeat,
            run::cpu(),
            load_average()
        ),
        "a ratio is the median over the rounds of pbx / peer in the same round, with its extremes".to_owned(),
    ]
}

fn machine() -> String {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    format!("kernel {}, CPU {}", kernel.unwrap_or_default(), model.trim_start_matches(['\t', ' ', ':']))
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
