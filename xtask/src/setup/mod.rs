//! What the work needs of the machine: looks, says what is missing, installs it, looks again. Does
//! nothing when all is there. Outside the workspace it changes the Rust toolchain (a component) and the
//! Debian packages, both only after saying so.

mod kernel;
mod packages;
mod rust;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::step;
use packages::Package;

/// What something is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    Build,
    Demo,
    Test,
    Bench,
    Long,
}

/// Something that is missing and installed by one command.
struct Missing {
    what: String,
    why: &'static str,
    command: Command,
}

/// `cargo xtask setup`.
pub(crate) fn everything(long: bool) -> Result<()> {
    let tasks = [Task::Demo, Task::Test, Task::Bench, Task::Long];
    let changed = ensure(if long { &tasks } else { &tasks[..3] })?;
    eprintln!("{}", if changed { "setup: done" } else { "setup: all is there, nothing to do" });
    Ok(())
}

/// Installs what these tasks need; true if something was missing.
pub(crate) fn ensure(tasks: &[Task]) -> Result<bool> {
    let root = crate::root();
    let mut changed = false;

    // First, because cargo needs a C compiler to install anything.
    let path = search_path();
    let mut absent = packages::missing(tasks, &path);
    if !absent.is_empty() {
        for package in &absent {
            eprintln!("setup: Debian package {} is missing ({})", package.name, package.why);
        }
        match packages::installer(is_root(), &path) {
            Ok(()) => {
                packages::install(&absent)?;
                changed = true;
                absent = packages::missing(tasks, &path);
                for Package { name, proof, .. } in &absent {
                    eprintln!("setup: {name} is installed, but there is still no {proof}");
                }
            }
            // What needs no root goes on, so that this command is all that is left to do.
            Err(reason) => eprintln!("setup: {reason}; please run:\n\n    {}\n", packages::commands(&absent)),
        }
    }

    for mut missing in rust::missing(&root)? {
        eprintln!("setup: {} is missing ({})", missing.what, missing.why);
        step::run("setup", step::aside(&mut missing.command)?)?;
        changed = true;
    }
    if changed && let Some(missing) = rust::missing(&root)?.first() {
        bail!("{} was installed without an error, and is still not found", missing.what);
    }
    if !absent.is_empty() {
        bail!("Debian packages are missing, see above");
    }
    if tasks.contains(&Task::Long) && !kernel::is_fetched(&root) {
        eprintln!("setup: Debian's kernel 6.1 is missing (the long test boots it; unpacked, not installed)");
        kernel::fetch(&root, &path, is_root())?;
        changed = true;
    }
    Ok(changed)
}

/// Network namespaces and XDP belong to root.
pub(crate) fn require_root(task: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    // `sudo` has a search path of its own, in which rustup's cargo is not.
    bail!(
        "network namespaces and XDP need root; please run:\n\n    \
         sudo -E env \"PATH=$PATH\" cargo xtask {task}\n"
    )
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// The folders of `PATH`, and those where root's programs are, which a user's `PATH` leaves out.
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).collect()
}

/// Whether a program is in one of the folders, or a file at an absolute path.
fn is_there(proof: &str, path: &[PathBuf]) -> bool {
    // Joining an absolute path replaces the folder.
    Path::new(proof).is_absolute() && Path::new(proof).exists()
        || path.iter().any(|folder| folder.join(proof).is_file())
}
