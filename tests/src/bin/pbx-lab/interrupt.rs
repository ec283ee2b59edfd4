//! Ctrl-C and SIGTERM as something that can be waited for.

use std::io::{PipeReader, pipe};
use std::os::fd::{AsFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Where the signal handler writes; a handler can only reach a static.
static WRITER: AtomicI32 = AtomicI32::new(-1);

/// Readable once a signal came, and ever after.
pub(crate) struct Interrupt(PipeReader);

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    pub(crate) fn install() -> Result<Self> {
        let (reader, writer) = pipe()?;
        // Never closed: the handler may run until the process ends.
        WRITER.store(writer.into_raw_fd(), Ordering::Release);
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: the handler only writes to a pipe, which is allowed in a handler.
            unsafe { sigaction(signal, &action)? };
        }
        Ok(Self(reader))
    }

    /// Waits until `until`; `true` at once when a signal came.
    pub(crate) fn wait(&self, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that it does not spin through the last millisecond.
            let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, left) {
                Ok(0) if Instant::now() < until => {}
                Ok(0) => return false,
                Ok(_) => return true,
                Err(_) => {}
            }
        }
    }
}

extern "C" fn note(_signal: i32) {
    let writer = WRITER.load(Ordering::Acquire);
    // SAFETY: one byte from a constant to a descriptor that is never closed. A full pipe already says enough.
    unsafe {
        libc::write(writer, b"!".as_ptr().cast(), 1);
    }
}
