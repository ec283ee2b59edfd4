//! `pbx-bench filter`: the packet filter measured against xdp-filter, LPM tries, an LRU hash and nftables, all in
//! one run, in namespaces of its own. Measures and says what was aimed at; asserts nothing.

mod cases;
mod pairs;
mod population;
mod programs;
mod report;
mod run;

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
    },
}

fn main() -> ExitCode {
    let What::Filter { json, quick } = Arguments::parse().what;
    match filter(if quick { Effort::QUICK } else { Effort::FULL }, json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pbx-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn filter(effort: Effort, json: bool) -> Result<()> {
    let report = Sandbox::run(|sandbox| -> Result<Report> {
        run::pin()?;
        let mut report = Report::default();
        cases::measure_all(&sandbox.bpffs(), effort, &mut report)?;
        Ok(report)
    })?;
    if json {
        println!("{}", report.json()?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}
