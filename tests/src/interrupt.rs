//! Ctrl-C and SIGTERM as something that can be waited for. For the programs that people watch, not for tests.

use std::io::{PipeReader, pipe};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Where the signal handler writes; a handler can only reach a static.
static WRITER: AtomicI32 = AtomicI32::new(-1);

/// Readable once a signal came, and ever after.
#[derive(Debug)]
pub struct Interrupt(PipeReader);

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A signal came.
    Interrupted,
    /// The other thing that was waited for is there.
    Other,
    /// The time is over.
    Time,
}

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP of this process, once.
    pub fn install() -> Result<Self> {
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
    pub fn wait(&self, until: Instant) -> bool {
        self.poll(None, Some(until)) == Over::Interrupted
    }

    /// Waits for a signal, until `other` can be read, and until `until` if there is such a moment.
    pub fn wait_beside(&self, other: BorrowedFd<'_>, until: Option<Instant>) -> Over {
        self.poll(Some(other), until)
    }

    fn poll(&self, other: Option<BorrowedFd<'_>>, until: Option<Instant>) -> Over {
        let ours = PollFd::new(self.0.as_fd(), PollFlags::POLLIN);
        let mut waiting = vec![ours];
        waiting.extend(other.map(|other| PollFd::new(other, PollFlags::POLLIN)));
        loop {
            let left = until.map_or(PollTimeout::NONE, |until| {
                let left = until.saturating_duration_since(Instant::now());
                // Rounded up, so that it does not spin through the last millisecond.
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut waiting, left) {
                Ok(0) if until.is_some_and(|until| Instant::now() >= until) => return Over::Time,
                Ok(0) => {}
                Ok(_) if waiting[0].any() == Some(true) => return Over::Interrupted,
                Ok(_) => return Over::Other,
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
