//! What a process costs: CPU time from the scheduler's own accounts, and memory.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// CPU time that a process and its children have used so far, in user space and in the kernel, threads that have ended
/// included. On a kernel without `IRQ_TIME_ACCOUNTING` it includes what the network did while the process ran.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in family(pid)? {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32)).context("the CPU clock of a process")?;
        total += Duration::from(clock_gettime(clock)?);
    }
    Ok(total)
}

/// Memory of a process that is resident (`VmRSS`), in bytes.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: f64 = line.split_whitespace().next().context("VmRSS without a number")?.parse()?;
    Ok(kilobytes * 1024.0)
}

/// Waits until a process does nothing any more but what it always does: less than 1 % of a CPU.
pub(crate) fn settle(pid: u32) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(250);
    let mut before = cpu_time(pid)?;
    for _ in 0..120 {
        thread::sleep(LOOK);
        let now = cpu_time(pid)?;
        if now.saturating_sub(before) < LOOK / 100 {
            return Ok(());
        }
        before = now;
    }
    ensure!(false, "process {pid} was still busy 30 s after the last answer");
    Ok(())
}

/// The process and whoever it started, the oldest first.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut all = vec![pid];
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if parent(&entry.path()) == Some(pid) {
            all.extend(family(other)?);
        }
    }
    Ok(all)
}

fn parent(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name in parentheses may hold anything; the state and the parent follow it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
