//! `cargo xtask test`: everything that is needed, one build, all tests.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::{setup, step};

#[derive(Args)]
pub(crate) struct Test {
    /// Also the tests that take minutes (marked `#[ignore]`), Debian's kernel 6.1 under qemu among them
    #[arg(long)]
    long: bool,
    /// Passed on to `cargo test`: a part of a test's name, `-p pbx-core`, …
    #[arg(last = true)]
    passed_on: Vec<String>,
}

impl Test {
    pub(crate) fn start(self) -> Result<()> {
        let start = Instant::now();
        setup::require_root("test")?;
        setup::ensure(if self.long { &[setup::Task::Test, setup::Task::Long] } else { &[setup::Task::Test] })?;
        // The tests start the daemon that lies beside them, so all programs are built first.
        step::run("build", &mut step::cargo(["build", "--workspace", "--bins", "--tests"]))?;
        step::run("tests", &mut step::cargo(self.arguments()))?;
        eprintln!("── all tests passed: {}", step::seconds(start.elapsed()));
        Ok(())
    }

    /// Goes on after a failure: one run shows all that is wrong.
    fn arguments(&self) -> Vec<&str> {
        let mut arguments = vec!["test", "--no-fail-fast"];
        if !self.passed_on.iter().any(|a| a == "-p" || a.starts_with("--package")) {
            arguments.push("--workspace");
        }
        arguments.extend(self.passed_on.iter().map(String::as_str));
        if self.long {
            if !self.passed_on.iter().any(|a| a == "--") {
                arguments.push("--");
            }
            arguments.push("--include-ignored");
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_includes_the_ignored_tests() {
        let test = Test { long: true, passed_on: vec![] };
        assert_eq!(test.arguments(), ["test", "--no-fail-fast", "--workspace", "--", "--include-ignored"]);
    }

    #[test]
    fn a_named_package_replaces_the_workspace() {
        let passed_on = ["-p", "pbx-core", "address"].map(String::from).to_vec();
        let test = Test { long: false, passed_on };
        assert_eq!(test.arguments(), ["test", "--no-fail-fast", "-p", "pbx-core", "address"]);
    }
}
