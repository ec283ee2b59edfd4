//! `pbx-bench filter`: the packet filter measured against xdp-filter, LPM tries, an LRU hash and nftables, all in
//! one run, in namespaces of its own. Measures and says what was aimed at; asserts nothing.

mod cases;
mod changes;
mod flood;
mod pairs;
mod population;
mod programs;
mod report;
mod run;
mod sharing;

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
}

fn main() -> ExitCode {
    let What::Filter { json, quick, only, rounds } = Arguments::parse().what;
    let mut effort = if quick { Effort::QUICK } else { Effort::FULL };
    effort.rounds = rounds.unwrap_or(effort.rounds).max(1);
    match filter(effort, only.as_deref(), json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pbx-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn filter(effort: Effort, only: Option<&str>, json: bool) -> Result<()> {
    let report = Sandbox::run(|sandbox| -> Result<Report> {
        run::pin()?;
        let mut report = Report { conditions: conditions(effort), ..Report::default() };
        cases::measure_all(&sandbox.bpffs(), effort, only, &mut report)?;
        if only.is_none() {
            sharing::measure(&mut report)?;
            flood::measure(effort, &mut report)?;
            changes::measure(&mut report)?;
        }
        Ok(report)
    })?;
    if json {
        println!("{}", report.json()?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

fn conditions(effort: Effort) -> Vec<String> {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    vec![
        format!("kernel {}, CPU {}", kernel.unwrap_or_default(), model.trim_start_matches(['\t', ' ', ':'])),
        format!(
            "{} interleaved rounds of {} packets, pinned to CPU {}, thread CPU time; load average {}",
            effort.rounds,
            effort.repeat,
            run::cpu(),
            std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("?")
        ),
        "a ratio is the median over the rounds of pbx / peer in the same round, with its extremes".to_owned(),
    ]
}
