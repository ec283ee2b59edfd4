//! `cargo xtask check`: everything that is judged without running the product. Runs every check and
//! names at the end those that failed.

mod dependencies;
mod licence;
mod traceability;
mod tree;
mod words;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{setup, step};

type Check = (&'static str, fn() -> Result<()>);

/// The quick ones first.
const CHECKS: [Check; 7] = [
    ("formatting", formatting),
    ("words", words::check),
    ("traceability", traceability::check),
    ("dependencies", dependencies::check),
    ("lints", lints),
    ("lints of the kernel program", kernel_lints),
    ("documentation", documentation),
];

pub(crate) fn start() -> Result<()> {
    setup::ensure(&[setup::Task::Build])?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        let start = Instant::now();
        match check() {
            Ok(()) => eprintln!("check: {name}: good ({})", step::seconds(start.elapsed())),
            Err(error) => {
                eprintln!("check: {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        eprintln!("check: all good");
        return Ok(());
    }
    bail!("check failed: {}", failed.join(", "))
}

fn formatting() -> Result<()> {
    step::run("formatting", &mut step::cargo(["fmt", "--all", "--", "--check"]))
}

fn lints() -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    step::run("lints", &mut step::cargo(arguments))
}

/// The same flags as `pbx/xdp/build.rs`, in a target folder of their own: `RUSTC_BOOTSTRAP` would otherwise
/// make cargo build the procedural macros of the whole workspace anew at every change of task.
fn kernel_lints() -> Result<()> {
    let mut clippy = step::cargo(["clippy", "--package", "pbx-ebpf", "--bin", "pbx-filter", "--locked"]);
    clippy.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"]);
    clippy.args(["--target-dir", "target/kernel-lints", "--", "-D", "warnings"]);
    clippy.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3").env_remove("RUSTFLAGS");
    step::run("lints of the kernel program", &mut clippy)
}

/// Libraries only: the library and the program `pbx` would write to one folder.
fn documentation() -> Result<()> {
    let mut doc = step::cargo(["doc", "--workspace", "--no-deps", "--lib", "--locked"]);
    step::run("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))
}
