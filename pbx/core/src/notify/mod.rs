//! What administrators are told of by mail or webhook: gathered into digests, so that an attack is one message and not
//! ten thousand. After the event log, before whoever delivers. Bounded; knows no server and no clock.

mod digest;
mod topic;

use std::{collections::BTreeMap, time::Duration};

pub use digest::{Digest, Item};
pub use topic::{Topic, Topics};

use crate::time::Timestamp;

/// Items of one topic that a digest names; more are counted.
pub const NAMED: usize = 40;
/// How long the first event after a while waits for others.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What is gathered for one receiver until its next digest.
#[derive(Debug, Clone, Default)]
pub struct Gather {
    digest: Digest,
    /// When the first of it came.
    begun: Option<Timestamp>,
    /// When the digest before was taken.
    taken: Option<Timestamp>,
}

impl Gather {
    /// Adds an event.
    pub fn add(&mut self, now: Timestamp, item: Item) {
        self.begin(now);
        let named = self.digest.items.iter().filter(|other| other.topic == item.topic).count();
        *self.digest.counts.entry(item.topic).or_default() += 1;
        if named < NAMED {
            self.digest.items.push(item);
        }
    }

    /// Counts events that nobody read: the log was written faster.
    pub fn missed(&mut self, now: Timestamp, events: u64) {
        self.begin(now);
        self.digest.missed += events;
    }

    /// Counts what was in a digest that could not be delivered.
    pub fn undelivered(&mut self, now: Timestamp, digest: &Digest) {
        self.begin(now);
        self.digest.undelivered += digest.total() + digest.undelivered;
    }

    /// How many events wait.
    pub fn waiting(&self) -> u64 {
        self.digest.total()
    }

    /// Whether there is anything to tell.
    pub fn is_waiting(&self) -> bool {
        self.begun.is_some()
    }

    /// When the next digest is to be taken: soon after the first event, and `interval` after the digest before.
    pub fn due(&self, now: Timestamp, interval: Duration) -> Option<Timestamp> {
        let soon = self.begun?.min(now).saturating_add(PATIENCE.min(interval));
        // A clock that was set back must not silence anybody.
        let next = self.taken.map(|taken| taken.min(now).saturating_add(interval));
        Some(next.map_or(soon, |next| next.max(soon)))
    }

    /// The digest, if it is time; what comes from now on is for the next one.
    pub fn take(&mut self, now: Timestamp, interval: Duration) -> Option<Digest> {
        self.due(now, interval).filter(|due| *due <= now)?;
        let from = self.begun.take().unwrap_or(now);
        self.taken = Some(now);
        let mut digest = std::mem::take(&mut self.digest);
        digest.items.sort_by_key(|item| item.topic);
        (digest.from, digest.until) = (from, now);
        Some(digest)
    }

    fn begin(&mut self, now: Timestamp) {
        self.begun.get_or_insert(now);
    }
}

impl Default for Digest {
    fn default() -> Self {
        let (from, until) = (Timestamp::EPOCH, Timestamp::EPOCH);
        Self { from, until, counts: BTreeMap::new(), items: Vec::new(), missed: 0, undelivered: 0 }
    }
}

#[cfg(test)]
mod tests;
