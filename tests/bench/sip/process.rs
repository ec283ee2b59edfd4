//! What a process costs: CPU time from the scheduler's own accounts, and memory.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};

/// CPU time that a process, its threads and its children have used so far.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in family(pid)? {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            // The first number is nanoseconds on a CPU; a thread that just ended is no loss worth an error.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let on_cpu: u64 = text.split(' ').next().and_then(|word| word.parse().ok()).context("schedstat")?;
            total += Duration::from_nanos(on_cpu);
        }
    }
    Ok(total)
}

/// Memory of a process and its children that no other process shares, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let mut total = 0;
    for pid in family(pid)? {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        total += private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() * 1024;
    }
    Ok(total)
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
