//! `cargo xtask run` and `cargo xtask bench`: build, then become the lab or the bench.

use std::{os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::{setup, step};

#[derive(Args)]
pub(crate) struct Run {
    /// End by itself after so many seconds; without it Ctrl-C ends it
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Filter on this interface of the machine instead of in a lab; in monitor unless --enforce
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Drop packets on the real interface
    #[arg(long, requires = "interface")]
    enforce: bool,
}

impl Run {
    pub(crate) fn start(self) -> Result<()> {
        setup::require_root("run")?;
        setup::ensure(&[setup::Task::Run])?;
        // The development build: ready sooner, and the kernel program is optimized in every build.
        step::run("build", &mut programs(&[]))?;
        become_program("debug", "pbx-lab", &self.arguments())
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(seconds) = self.seconds {
            arguments.extend(["--seconds".to_owned(), seconds.to_string()]);
        }
        if let Some(interface) = &self.interface {
            arguments.extend(["--interface".to_owned(), interface.clone()]);
        }
        if self.enforce {
            arguments.push("--enforce".to_owned());
        }
        arguments
    }
}

#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure: `filter` or `sip`
    name: String,
    /// The figures as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Fewer rounds: about a minute, and less certain
    #[arg(long)]
    quick: bool,
    /// Passed on to the bench
    #[arg(last = true)]
    passed_on: Vec<String>,
}

impl Bench {
    pub(crate) fn start(self) -> Result<()> {
        setup::require_root("bench")?;
        setup::ensure(&[setup::Task::Bench])?;
        step::run("build", &mut programs(&["--release", "--features", "pbx-tests/bench"]))?;
        become_program("release", "pbx-bench", &self.arguments())
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.name.clone()];
        if self.json {
            arguments.push("--json".to_owned());
        }
        if self.quick {
            arguments.push("--quick".to_owned());
        }
        arguments.extend(self.passed_on.iter().cloned());
        arguments
    }
}

/// The daemon and the programs around it.
fn programs(profile: &[&str]) -> Command {
    step::cargo(["build", "-p", "pbx", "-p", "pbx-tests", "--bins"].iter().chain(profile))
}

/// Replaces this process, so that Ctrl-C and the exit code are the program's own.
fn become_program(profile: &str, name: &str, arguments: &[String]) -> Result<()> {
    let program = target_folder()?.join(profile).join(name);
    ensure!(program.is_file(), "the build made no {name} (looked for {})", program.display());
    let error = Command::new(&program).args(arguments).exec();
    Err(anyhow!(error).context(format!("{} does not start", program.display())))
}

/// This program lies in `target/debug`, wherever cargo was told to put `target`.
fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program lies")?;
    own.ancestors().nth(2).map(PathBuf::from).with_context(|| format!("{} is in no target folder", own.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_run_was_told_reaches_the_lab() {
        let run = Run { seconds: Some(20), interface: Some("eth0".into()), enforce: true };
        assert_eq!(run.arguments(), ["--seconds", "20", "--interface", "eth0", "--enforce"]);
    }

    #[test]
    fn what_bench_was_told_reaches_the_bench() {
        let bench = Bench { name: "filter".into(), json: true, quick: true, passed_on: vec!["--rounds=3".into()] };
        assert_eq!(bench.arguments(), ["filter", "--json", "--quick", "--rounds=3"]);
    }
}
