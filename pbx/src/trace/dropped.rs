//! Packets that the filter dropped, or would have dropped, for whoever looks on: tools behind the kernel's filter cannot
//! see them. They are samples; a filter takes more of them while somebody looks, and tells of those that it could not
//! take. Costs one atomic load a sample while nobody does. At most [`MOST`] look on at once.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use pbx_core::{address::Prefix, time::Timestamp};
use tokio::sync::broadcast;

use crate::filter::Outcome;

/// Samples that a follower may lag behind.
const BACKLOG: usize = 2048;
/// Followers at once.
pub const MOST: usize = 8;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// When it came.
    pub at: Timestamp,
    /// Where.
    pub interface: Option<String>,
    /// The kernel contract's name of the reason.
    pub reason: &'static str,
    /// Whether it was dropped or would have been.
    pub outcome: Outcome,
    /// Who sent it, where the frame says so.
    pub source: Option<IpAddr>,
    /// Bytes of the frame.
    pub length: u32,
    /// It stands for so many packets of the reason.
    pub weight: u64,
    /// The first of its bytes, from the Ethernet header on.
    pub bytes: Box<[u8]>,
}

/// Which packets a follower wants; empty lists: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// From these.
    pub sources: Vec<Prefix>,
    /// For these reasons.
    pub reasons: Vec<String>,
}

impl Wanted {
    fn has(&self, dropped: &Dropped) -> bool {
        let from = |source: IpAddr| self.sources.iter().any(|prefix| prefix.contains(source));
        (self.sources.is_empty() || dropped.source.is_some_and(from))
            && (self.reasons.is_empty() || self.reasons.iter().any(|reason| reason == dropped.reason))
    }
}

/// What a follower gets.
#[derive(Clone, Debug)]
enum Shown {
    Packet(Arc<Dropped>),
    Lost(u64),
}

/// Where a filter shows them. A handle: clones share the followers.
#[derive(Clone, Debug)]
pub struct Drops {
    followers: Arc<AtomicUsize>,
    sender: broadcast::Sender<Shown>,
}

impl Default for Drops {
    fn default() -> Self {
        Self { followers: Arc::default(), sender: broadcast::channel(BACKLOG).0 }
    }
}

/// Follows from when it was made until it is dropped.
#[derive(Debug)]
pub struct Follower {
    followers: Arc<AtomicUsize>,
    receiver: broadcast::Receiver<Shown>,
    wanted: Wanted,
}

/// [`MOST`] look on already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} look at dropped packets already: end one of them first")]
pub struct TooMany;

impl Drops {
    /// Whether anybody looks on.
    pub fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    /// Shows a packet.
    pub fn show(&self, dropped: Dropped) {
        // Nobody there any more is no loss.
        let _ = self.sender.send(Shown::Packet(Arc::new(dropped)));
    }

    /// Tells that so many samples were not taken.
    pub fn lost(&self, samples: u64) {
        if samples > 0 && self.is_followed() {
            let _ = self.sender.send(Shown::Lost(samples));
        }
    }

    /// Follows from now on.
    pub fn follow(&self, wanted: Wanted) -> Result<Follower, TooMany> {
        let one_more = |count: usize| (count < MOST).then_some(count + 1);
        self.followers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|_| TooMany)?;
        Ok(Follower { followers: Arc::clone(&self.followers), receiver: self.sender.subscribe(), wanted })
    }
}

impl Follower {
    /// The next packet that is wanted, or how many samples were lost before it, of whatever packets; none: the filter
    /// is gone.
    pub async fn next(&mut self) -> Option<Result<Arc<Dropped>, u64>> {
        loop {
            match self.receiver.recv().await {
                Ok(Shown::Packet(dropped)) if self.wanted.has(&dropped) => return Some(Ok(dropped)),
                Ok(Shown::Packet(_)) => {}
                Ok(Shown::Lost(lost)) | Err(broadcast::error::RecvError::Lagged(lost)) => return Some(Err(lost)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(source: &str, reason: &'static str) -> Dropped {
        Dropped {
            at: Timestamp::EPOCH,
            interface: Some("eth0".to_owned()),
            reason,
            outcome: Outcome::Dropped,
            source: source.parse().ok(),
            length: 60,
            weight: 1,
            bytes: Box::default(),
        }
    }

    #[tokio::test]
    async fn a_follower_sees_the_packets_that_it_wants_and_is_told_of_lost_ones() {
        let drops = Drops::default();
        assert!(!drops.is_followed());
        drops.show(dropped("192.0.2.1", "level1"));
        let sources = vec!["192.0.2.0/24".parse().unwrap()];
        let mut follower = drops.follow(Wanted { sources, reasons: vec!["level1".to_owned()] }).unwrap();
        for (source, reason) in
            [("198.51.100.1", "level1"), ("192.0.2.1", "level2"), ("", "level1"), ("192.0.2.1", "level1")]
        {
            drops.show(dropped(source, reason));
        }
        drops.lost(0);
        drops.lost(7);
        assert_eq!(*follower.next().await.unwrap().unwrap(), dropped("192.0.2.1", "level1"));
        assert_eq!(follower.next().await.unwrap().unwrap_err(), 7);
        for _ in 0..BACKLOG + 10 {
            drops.show(dropped("192.0.2.2", "level1"));
        }
        assert_eq!(follower.next().await.unwrap().unwrap_err(), 10);
        drop(drops);
        for _ in 0..BACKLOG {
            follower.next().await.unwrap().unwrap();
        }
        assert!(follower.next().await.is_none());
    }

    #[test]
    fn so_many_look_on_and_no_more_until_one_goes() {
        let drops = Drops::default();
        let mut all: Vec<Follower> = (0..MOST).map(|_| drops.follow(Wanted::default()).unwrap()).collect();
        assert_eq!(drops.follow(Wanted::default()).unwrap_err(), TooMany);
        all.pop();
        let _last = drops.follow(Wanted::default()).unwrap();
        drop(all);
        assert!(drops.is_followed());
        drop(_last);
        assert!(!drops.is_followed());
    }
}
