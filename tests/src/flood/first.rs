//! When the first packet of a source leaves: the moment from which it is reckoned how soon the source was blocked.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use anyhow::{Context, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};

use crate::{
    frames,
    lab::NEIGHBOUR_INTERFACE,
    sandbox::Namespace,
    stamp,
    wire::{self, Receives},
};

/// As much of a frame as tells its source.
const HEADERS: usize = 128;

/// Looks for the first IP packet of a source on a neighbour's interface, and at none after it.
#[derive(Debug)]
pub struct First(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    at: OnceLock<SystemTime>,
    stop: AtomicBool,
}

impl First {
    /// Begins to look.
    pub fn of(network: &Namespace, source: impl Into<IpAddr>) -> Result<Self> {
        let source = source.into();
        let socket = network.enter(|| {
            wire::packet_socket(NEIGHBOUR_INTERFACE, Receives::Everything).context("look at the interface")
        })?;
        // Lets the kernel note when packets leave.
        stamp::last(&socket);
        let shared = Arc::new(Shared::default());
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut frame = [0; HEADERS];
                while shared.at.get().is_none() && !shared.stop.load(Ordering::Acquire) {
                    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                    if poll(&mut waiting, PollTimeout::from(50_u8)).unwrap_or(0) == 0 {
                        continue;
                    }
                    // One at a time: the stamp is that of the last one.
                    let length = recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT).unwrap_or(0);
                    if frames::source_of(&frame[..length]) == Some(source) {
                        let _ = shared.at.set(stamp::last(&socket).unwrap_or_else(SystemTime::now));
                    }
                }
            }
        });
        Ok(Self(shared))
    }

    /// When it was; none yet.
    pub fn at(&self) -> Option<SystemTime> {
        self.0.at.get().copied()
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
    }
}
