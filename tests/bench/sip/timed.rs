//! Work of one thread, timed: CPU time and allocations a piece.

use std::time::Duration;

use anyhow::Result;

use crate::{allocations, run};

/// What a piece cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU time, in nanoseconds.
    pub(crate) nanoseconds: f64,
    pub(crate) allocations: f64,
}

/// Does the work so many times on the calling thread.
pub(crate) fn timed(times: u32, mut work: impl FnMut()) -> Result<Cost> {
    let (before, count) = (run::thread_time()?, allocations::count());
    for _ in 0..times {
        work();
    }
    let (taken, count): (Duration, u64) = (run::thread_time()? - before, allocations::count() - count);
    let each = |value: f64| value / f64::from(times);
    Ok(Cost { nanoseconds: each(taken.as_nanos() as f64), allocations: each(count as f64) })
}

/// Runs `work` on a thread that is pinned to one CPU, and leaves the caller where it was.
pub(crate) fn pinned<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            run::pin()?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
