//! When the first packet of a source leaves: the moment from which it is reckoned how soon the source was blocked.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    frames,
    lab::NEIGHBOUR_INTERFACE,
    sandbox::Namespace,
    wire::{self, Batch, Receives},
};

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
        let shared = Arc::new(Shared::default());
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut batch = Batch::new();
                while shared.at.get().is_none() && !shared.stop.load(Ordering::Acquire) {
                    let mut waiting = [PollFd::new(std::os::fd::AsFd::as_fd(&socket), PollFlags::POLLIN)];
                    if poll(&mut waiting, PollTimeout::from(50_u8)).unwrap_or(0) == 0 {
                        continue;
                    }
                    let now = SystemTime::now();
                    let _ = batch.receive(&socket, |_, frame| {
                        if frames::source_of(frame) == Some(source) {
                            let _ = shared.at.set(now);
                        }
                    });
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
