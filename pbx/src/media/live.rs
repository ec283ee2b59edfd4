//! What is counted while media flows: of each leg, and of the relay. Written by one worker without waiting, read by
//! whoever shows it.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use pbx_core::media::{Stats, quality::Quality};
use serde::{Deserialize, Serialize};

/// A number that one thread writes.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    pub(super) fn add(&self, count: u64) {
        // Nobody else writes it.
        self.0.store(self.0.load(Relaxed) + count, Relaxed);
    }

    fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a leg counts.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) packets: Tally,
    pub(super) bytes: Tally,
    lost: Tally,
    jitter: Tally,
    pub(super) refused: Tally,
    pub(super) sent: Tally,
    pub(super) sent_bytes: Tally,
    /// Where its phone's RTP comes from. Written when that changes only.
    latched: Mutex<Option<SocketAddr>>,
    /// The worker listens.
    open: AtomicBool,
}

impl Live {
    pub(super) fn open(&self) {
        self.open.store(true, Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    pub(super) fn rate(&self, quality: &Quality) {
        self.lost.set(quality.lost());
        self.jitter.set(quality.jitter());
    }

    pub(super) fn latch(&self, from: SocketAddr) {
        *self.latched.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
    }

    pub(super) fn latched(&self) -> Option<SocketAddr> {
        *self.latched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> Stats {
        let Self { packets, bytes, lost, jitter, refused, sent, sent_bytes, latched: _, open: _ } = self;
        Stats {
            packets: packets.read(),
            bytes: bytes.read(),
            lost: lost.read(),
            jitter: jitter.read(),
            refused: refused.read(),
            sent: sent.read(),
            sent_bytes: sent_bytes.read(),
        }
    }
}

/// A number that any thread counts up.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What the relay counts, beside its legs.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// The kernel's receive buffers were full.
    pub(super) overflow: Count,
    /// The kernel did not take what was to be sent.
    pub(super) unsent: Count,
    /// Packets for where a phone says that it is and nothing was heard from.
    pub(super) withheld: Count,
    /// Commands that waited because a worker's queue was full.
    pub(super) delayed: Count,
    /// Digits that were not sent.
    pub(super) digits: Count,
    /// Ports that somebody else holds.
    pub(super) taken: Count,
    /// How often no port was left of the range.
    pub(super) used_up: Count,
}

/// The relay as a whole, for whoever shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Legs that there are.
    pub legs: usize,
    /// Pairs that are bound and wait for a leg.
    pub ready: usize,
    /// Packets that the kernel dropped because they were not read in time.
    pub receive_buffer_full: u64,
    /// Packets that the kernel did not take to send.
    pub not_sent: u64,
    /// Packets that were not sent because nothing ever came from where the phone says that it is.
    pub withheld: u64,
    /// Commands that waited for a worker.
    pub delayed: u64,
    /// Digits that the phone takes no events for, or that came too fast.
    pub digits_lost: u64,
    /// Ports of the range that another program was found to hold.
    pub taken: u64,
    /// How often the range was used up.
    pub used_up: u64,
    /// A thread of it broke off: the daemon is about to end, and to be started again.
    pub broken: bool,
}
