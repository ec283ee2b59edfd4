//! One step of a task: says what it runs and how long it took. On standard error, so that standard
//! output belongs to what the step runs.

use std::{
    ffi::OsStr,
    io,
    os::fd::AsFd,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A command of cargo, in the workspace, by the cargo that started this program.
pub(crate) fn cargo<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(crate::root());
    // What cargo told this program of this program: build scripts that look at it would run again, and all that
    // depends on them be built again, by turns with a cargo that a person starts.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end; its failure names the whole command line.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    let line = command_line(command);
    eprintln!("── {title}: {line}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("`{line}` does not start"))?;
    if !status.success() {
        bail!("{title} failed after {} ({status}): {line}", seconds(start.elapsed()));
    }
    eprintln!("── {title}: {}", seconds(start.elapsed()));
    Ok(())
}

/// What the command prints on standard output goes to standard error; it can ask nobody anything.
pub(crate) fn aside(command: &mut Command) -> Result<&mut Command> {
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    Ok(command.stdin(Stdio::null()).stdout(stderr))
}

pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

/// A command as a person would type it.
pub(crate) fn command_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
