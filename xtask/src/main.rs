//! `cargo xtask`: what a person types in a fresh clone. Finds or installs what the work needs, then
//! builds, runs, tests, checks or measures; it knows commands and paths, and nothing about packets.

mod check;
mod launch;
mod setup;
mod step;
mod test;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Set up, run, test, check and measure pbx.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find what building, running, testing and measuring need; install what is missing
    Setup {
        /// Also what `test --long` needs (qemu)
        #[arg(long)]
        long: bool,
    },
    /// Start the registrar with two extensions and say how to register a softphone; as root with the kernel's filter
    Run(launch::Run),
    /// Show the filter at work: a lab with an appliance, a good and a bad neighbour (root)
    Demo(launch::Demo),
    /// Build and run all tests (root)
    Test(test::Test),
    /// Formatting, lints, documentation, dependencies, traceability; needs no root
    Check,
    /// Measure against other filters, in the release build (root)
    Bench(launch::Bench),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup { long } => setup::everything(long),
        Task::Run(run) => run.start(),
        Task::Demo(demo) => demo.start(),
        Task::Test(test) => test.start(),
        Task::Check => check::start(),
        Task::Bench(bench) => bench.start(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that RUST_BACKTRACE would add to a `Debug` print.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_path_buf()
}
