//! The attack lab: a call, an office and attackers in network namespaces, first with the filter enforcing, then without
//! it, and a table of what both were like. Started by `cargo xtask demo`; the end-to-end test too. Leaves nothing behind,
//! however it ends.

mod acts;
mod audio;
mod figures;
mod handshakes;
mod office;
mod scene;
mod table;
mod verdict;
mod workplace;

use std::{io::Write as _, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pbx_tests::interrupt::Interrupt;
use serde_json::json;

use scene::{Effort, Pass};
use workplace::Workplace;

/// Watch attacks end in the kernel: two phones talk, ten more register, and somebody attacks.
///
/// Exit code 0: with the filter enforcing the call survived, every attacker was blocked, and nobody else was.
#[derive(Debug, Parser)]
#[command(name = "pbx-demo")]
struct Arguments {
    /// Only with the filter enforcing, and short acts: about a minute.
    #[arg(long)]
    quick: bool,
    /// The figures as JSON on standard output instead of the table.
    #[arg(long)]
    json: bool,
    /// What the call may lose in an act (percent, 0 to 100).
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    loss: f64,
}

/// Somebody pressed Ctrl-C.
#[derive(Debug)]
struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted; all is cleaned up")
    }
}

impl std::error::Error for Interrupted {}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            // As a shell says of a program that SIGINT ended.
            if error.is::<Interrupted>() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let interrupt = Interrupt::install()?;
    let passes = play(arguments, &interrupt).map_err(|error| {
        // Ctrl-C in a terminal reaches the commands that are on too, and their end is no fault of anybody's.
        if interrupt.wait(Instant::now()) { Interrupted.into() } else { error }
    })?;
    let failed = verdict::failures(&passes[0], arguments.loss);
    let report = if arguments.json {
        format!("{:#}\n", json!({ "succeeded": failed.is_empty(), "failed": failed, "passes": passes }))
    } else {
        table::report(&passes, &failed)
    };
    std::io::stdout().write_all(report.as_bytes()).context("print what came of it")?;
    Ok(failed.is_empty())
}

/// All passes, the enforcing one first.
fn play(arguments: &Arguments, interrupt: &Interrupt) -> Result<Vec<Pass>> {
    let workplace = Workplace::open()?;
    let (modes, effort): (&[&'static str], _) =
        if arguments.quick { (&["enforce"], Effort::QUICK) } else { (&["enforce", "off"], Effort::FULL) };
    let mut passes: Vec<Pass> = Vec::new();
    for mode in modes {
        let pass = scene::play(&workplace.path().join(mode), mode, effort, interrupt);
        passes.push(pass.with_context(|| format!("with the filter in mode {mode}"))?);
    }
    Ok(passes)
}

fn percent(text: &str) -> Result<f64> {
    let number: f64 = text.parse().context("a number from 0 to 100, as 2.5")?;
    // What is not a number is not between the two either.
    ensure!((0.0..=100.0).contains(&number), "a number from 0 to 100, as 2.5");
    Ok(number)
}
