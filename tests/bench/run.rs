//! One timed test run: `BPF_PROG_TEST_RUN` with a repeat count, between two readings of the thread's CPU clock.
//! The kernel's own duration is wall time, which another process on the CPU would spoil.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// `XDP_DROP` and `XDP_PASS` (linux/bpf.h).
pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;

/// CPU to which everything that is measured is pinned: the last, where the fewest interrupts are served.
pub(crate) fn cpu() -> usize {
    // Asked once: a pinned thread has one CPU only.
    static LAST: OnceLock<usize> = OnceLock::new();
    *LAST.get_or_init(|| std::thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1))
}

/// Pins the calling thread.
pub(crate) fn pin() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu())?;
    sched_setaffinity(Pid::from_raw(0), &set).context("pin the bench to one CPU")
}

/// Pins the calling thread, and what it starts from now on, to all CPUs but that of [`cpu`]; where there is only one it
/// stays there.
pub(crate) fn avoid() -> Result<()> {
    let mut set = CpuSet::new();
    for other in 0..cpu().max(1) {
        set.set(other)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context("keep the bench off one CPU")
}

/// CPU time of the calling thread so far.
pub(crate) fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("the thread's CPU clock")?.into())
}

/// What came of a run.
pub(crate) struct Outcome {
    /// Verdict of the last repeat.
    pub(crate) verdict: u32,
    /// CPU time of a repeat, in nanoseconds.
    pub(crate) nanoseconds: f64,
}

/// Runs a program on a frame, `repeat` times.
pub(crate) fn timed(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<Outcome> {
    run(program, frame, repeat, None)
}

/// As [`timed`], with frames that a redirect really sends, in batches of 64.
pub(crate) fn live(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<Outcome> {
    run(program, frame, repeat, Some(64))
}

fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32, live_batch: Option<u32>) -> Result<Outcome> {
    const LIVE_FRAMES: u32 = 1 << 1;
    let mut attributes = Attributes {
        program: program.as_raw_fd() as u32,
        input_size: frame.len() as u32,
        input: frame.as_ptr() as u64,
        repeat,
        flags: if live_batch.is_some() { LIVE_FRAMES } else { 0 },
        batch: live_batch.unwrap_or(0),
        ..Attributes::default()
    };
    let before = thread_time()?;
    // SAFETY: the attributes are what the command reads and writes, and the frame outlives the call.
    let result = unsafe { bpf(PROG_TEST_RUN, (&raw mut attributes).cast(), mem::size_of::<Attributes>()) };
    let after = thread_time()?;
    result.context("BPF_PROG_TEST_RUN")?;
    Ok(Outcome { verdict: attributes.verdict, nanoseconds: (after - before).as_nanos() as f64 / f64::from(repeat) })
}

/// Puts a program into the first element of a program array.
pub(crate) fn put(array: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let (key, value) = (0u32, program.as_raw_fd() as u32);
    let mut attributes = Update {
        map: array.as_raw_fd() as u32,
        _padding: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: key and value are words of the sizes that a program array has, and outlive the call.
    unsafe { bpf(MAP_UPDATE_ELEM, (&raw mut attributes).cast(), mem::size_of::<Update>()) }
        .context("put the program under test into the driver's array")
}

const MAP_UPDATE_ELEM: i64 = 2;
const PROG_TEST_RUN: i64 = 10;

/// `union bpf_attr`, member `test` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    verdict: u32,
    input_size: u32,
    output_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    _padding: u32,
}

/// `union bpf_attr`, the member of the commands on elements.
#[repr(C)]
struct Update {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// # Safety
/// `attributes` is what `command` wants, of `size` bytes.
unsafe fn bpf(command: i64, attributes: *mut libc::c_void, size: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
