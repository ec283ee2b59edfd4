//! `cargo xtask run`, `demo` and `bench`: build, then become the registrar, the lab or the bench.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::{setup, step};

#[derive(Args)]
pub(crate) struct Run {
    /// Filter on this interface instead of the one of the default route (root)
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// End by itself after so many seconds; without it Ctrl-C ends it
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Begin anew: asks, then removes the extensions, passwords, registrations and rules of earlier runs
    #[arg(long)]
    fresh: bool,
    /// Do not ask before --fresh removes
    #[arg(long, requires = "fresh")]
    yes: bool,
    /// When it is ready, print its facts as one line of JSON, passwords included, instead of the guide
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn start(self) -> Result<()> {
        setup::ensure(&[setup::Task::Build])?;
        // The development build: ready sooner, and the kernel program is optimized in every build.
        step::run("build", &mut programs(&[]))?;
        become_program("debug", "pbx-run", &self.arguments(&target_folder()?.join("run")))
    }

    fn arguments(&self, folder: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--folder".into(), folder.into()];
        if let Some(interface) = &self.interface {
            arguments.extend(["--interface".into(), interface.into()]);
        }
        if let Some(seconds) = self.seconds {
            arguments.extend(["--seconds".into(), seconds.to_string().into()]);
        }
        for (given, flag) in [(self.fresh, "--fresh"), (self.yes, "--yes"), (self.json, "--json")] {
            arguments.extend(given.then(|| flag.into()));
        }
        arguments
    }
}

#[derive(Args)]
pub(crate) struct Demo {
    /// Only with the filter enforcing, and short acts: about a minute
    #[arg(long)]
    quick: bool,
    /// The figures as JSON on standard output instead of the table
    #[arg(long)]
    json: bool,
    /// What the call may lose in an act, in percent (0 to 100); 1 unless given
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss: Option<f64>,
    /// With the daemon as it is installed; building that takes longer
    #[arg(long)]
    release: bool,
}

impl Demo {
    pub(crate) fn start(self) -> Result<()> {
        setup::require_root("demo")?;
        setup::ensure(&[setup::Task::Demo])?;
        let (profile, folder): (&[&str], _) = if self.release { (&["--release"], "release") } else { (&[], "debug") };
        step::run("build", &mut programs(profile))?;
        become_program(folder, "pbx-demo", &self.arguments())
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        for (given, flag) in [(self.quick, "--quick"), (self.json, "--json")] {
            arguments.extend(given.then(|| flag.into()));
        }
        if let Some(loss) = self.loss {
            arguments.extend(["--loss".into(), loss.to_string().into()]);
        }
        arguments
    }
}

fn percent(text: &str) -> Result<f64> {
    let number: f64 = text.parse().context("a number from 0 to 100, as 2.5")?;
    ensure!((0.0..=100.0).contains(&number), "a number from 0 to 100, as 2.5");
    Ok(number)
}

#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure: `filter`, `sip`, `relay` or `guard`
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
fn become_program(profile: &str, name: &str, arguments: &[impl AsRef<OsStr>]) -> Result<()> {
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
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn what_run_was_told_reaches_the_registrar() {
        let words = ["run", "--fresh", "--yes", "--interface", "eth0", "--seconds", "20", "--json"];
        let run = Line::try_parse_from(words).unwrap().run;
        assert_eq!(
            run.arguments(Path::new("/t/run")),
            ["--folder", "/t/run", "--interface", "eth0", "--seconds", "20", "--fresh", "--yes", "--json"]
        );
        let bare = Line::try_parse_from(["run"]).unwrap().run;
        assert_eq!(bare.arguments(Path::new("/t/run")), ["--folder", "/t/run"]);
        assert!(Line::try_parse_from(["run", "--yes"]).is_err(), "there is nothing to ask");
    }

    #[test]
    fn what_demo_was_told_reaches_the_lab() {
        let demo = Demo { quick: true, json: true, loss: Some(2.5), release: false };
        assert_eq!(demo.arguments(), ["--quick", "--json", "--loss", "2.5"]);
        assert!(Demo { quick: false, json: false, loss: None, release: true }.arguments().is_empty());
    }

    #[test]
    fn what_bench_was_told_reaches_the_bench() {
        let bench = Bench { name: "filter".into(), json: true, quick: true, passed_on: vec!["--rounds=3".into()] };
        assert_eq!(bench.arguments(), ["filter", "--json", "--quick", "--rounds=3"]);
    }
}
