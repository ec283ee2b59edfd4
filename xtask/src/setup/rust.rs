//! What building the kernel program needs beside the toolchain: the source of `core`, and a linker for
//! BPF, which is installed into `target/tools` and is the only program of that folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::Missing;
use crate::step;

/// The newest that links with the LLVM of the pinned rustc; later ones expect a newer LLVM.
const BPF_LINKER: &str = "0.10.1";

/// A component of the toolchain, the file in the toolchain that proves it, and what it is for.
const COMPONENTS: [(&str, &str, &str); 3] = [
    ("rust-src", "lib/rustlib/src/rust/library/core/Cargo.toml", "builds core for BPF"),
    ("rustfmt", "bin/cargo-fmt", "cargo xtask check"),
    ("clippy", "bin/cargo-clippy", "cargo xtask check"),
];

pub(super) fn missing(root: &Path) -> Result<Vec<Missing>> {
    let sysroot = sysroot(root)?;
    let mut missing = Vec::new();
    for (component, proof, why) in COMPONENTS {
        if !sysroot.join(proof).exists() {
            missing.push(Missing {
                what: format!("the Rust component {component}"),
                why,
                command: add(root, component),
            });
        }
    }
    if !linker_is_there(&linker_folders(root)?) {
        let what = format!("bpf-linker {BPF_LINKER}");
        missing.push(Missing {
            what,
            why: "links the kernel program; takes some minutes",
            command: install_linker(root),
        });
    }
    Ok(missing)
}

/// The folder of the toolchain that is at work in the workspace, whatever others the machine has.
fn sysroot(root: &Path) -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root).output();
    let output = output.context("rustc does not start; install Rust from https://rustup.rs")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "rustc --print sysroot: {}", complaint.trim());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// Where the build script of `pbx-xdp` looks for the linker, in its order.
fn linker_folders(root: &Path) -> Result<Vec<PathBuf>> {
    if let Some(named) = std::env::var_os("PBX_TOOLS").map(PathBuf::from) {
        let folders = vec![named.clone()];
        ensure!(
            linker_is_there(&folders),
            "PBX_TOOLS names {}, which holds no bpf-linker {BPF_LINKER}; install it there or unset PBX_TOOLS",
            named.display()
        );
        return Ok(folders);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::iter::once(root.join("target/tools/bin")).chain(std::env::split_paths(&path)).collect())
}

/// The first linker of these folders is the one that is used.
fn linker_is_there(folders: &[PathBuf]) -> bool {
    let first = folders.iter().map(|folder| folder.join("bpf-linker")).find(|linker| linker.is_file());
    first.is_some_and(|linker| {
        let output = Command::new(linker).arg("--version").output();
        output.is_ok_and(|output| is_linker_version(&String::from_utf8_lossy(&output.stdout)))
    })
}

fn is_linker_version(answer: &str) -> bool {
    answer.split_whitespace().eq(["bpf-linker", BPF_LINKER])
}

/// Without a toolchain's name rustup takes the one that the workspace pins.
fn add(root: &Path, component: &str) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", component]).current_dir(root);
    rustup
}

fn install_linker(root: &Path) -> Command {
    let mut cargo = step::cargo(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"]);
    cargo.arg("--root").arg(root.join("target/tools"));
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_the_linker_does_not_count() {
        assert!(is_linker_version("bpf-linker 0.10.1\n"));
        assert!(!is_linker_version("bpf-linker 0.13.0\n"));
        assert!(!is_linker_version(""));
    }

    #[test]
    fn a_folder_without_a_linker_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!linker_is_there(&[folder.path().into()]));
    }
}
