//! The registrar end to end: the real daemon, phones that nobody here wrote, and callers that mean no good.

mod abuse;
mod accounts;
mod crowds;
mod phones;
mod routers;
mod scanners;
mod survival;
mod transports;

use std::fs;

use anyhow::{Context, Result};
use pbx_tests::{
    daemon::Daemon,
    site::{Site, TCP, TLS, UDP, dropped, on_site, server},
};

/// Memory of the daemon, in KiB.
fn memory(daemon: &Daemon) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
