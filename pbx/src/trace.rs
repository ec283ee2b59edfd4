//! Messages as they come and go, for whoever looks on. Costs one atomic load a message while nobody does. Only messages
//! of the peers that somebody follows are copied; a follower that is too slow loses some of them and is told how many.

pub mod dropped;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use pbx_core::{
    address::Prefix,
    time::Timestamp,
    transport::{Flow, Protocol},
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Messages that a follower may lag behind.
const BACKLOG: usize = 1024;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Traced {
    /// When.
    pub at: Timestamp,
    /// Which way.
    pub direction: Direction,
    /// Over what.
    pub protocol: Protocol,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// As it came or went.
    pub bytes: Box<[u8]>,
}

/// Where messages are shown to followers. A handle: clones share the followers.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many there are. All that a message costs while there are none.
    count: AtomicUsize,
    seats: ArcSwap<Vec<Arc<Seat>>>,
}

/// A follower, as whoever shows sees it.
#[derive(Debug)]
struct Seat {
    /// Empty: everybody.
    peers: Vec<Prefix>,
    /// One of them is in each message; empty: in any.
    texts: Vec<Box<[u8]>>,
    /// Only this follower's: nobody else's messages push out its own.
    sender: broadcast::Sender<Arc<Traced>>,
}

/// Follows from when it was made until it is dropped.
#[derive(Debug)]
pub struct Follower {
    seat: Weak<Seat>,
    shared: Weak<Shared>,
    receiver: broadcast::Receiver<Arc<Traced>>,
}

impl Trace {
    /// Whether anybody looks on.
    pub fn is_followed(&self) -> bool {
        self.shared.count.load(Ordering::Relaxed) > 0
    }

    /// Shows a message to the followers of its peer, if there are any; `now` is asked only then, and only then the
    /// message is copied.
    pub fn show(&self, direction: Direction, flow: &Flow, bytes: &[u8], now: impl FnOnce() -> Timestamp) {
        if !self.is_followed() {
            return;
        }
        let Flow { protocol, local, remote, .. } = *flow;
        let peer = remote.ip().to_canonical();
        let seats = self.shared.seats.load();
        let mut following = seats.iter().filter(|seat| seat.follows(peer, bytes));
        let Some(first) = following.next() else { return };
        let traced = Arc::new(Traced { at: now(), direction, protocol, local, remote, bytes: bytes.into() });
        for seat in std::iter::once(first).chain(following) {
            // Nobody there any more is no loss.
            let _ = seat.sender.send(Arc::clone(&traced));
        }
    }

    /// Follows the messages of these peers from now on (of all when none are named) in which one of these texts is
    /// (in any when none are named).
    pub fn follow(&self, peers: Vec<Prefix>, texts: Vec<Box<[u8]>>) -> Follower {
        let (sender, receiver) = broadcast::channel(BACKLOG);
        let seat = Arc::new(Seat { peers, texts, sender });
        let follower = Follower { seat: Arc::downgrade(&seat), shared: Arc::downgrade(&self.shared), receiver };
        self.shared.seats.rcu(|seats| seats.iter().chain([&seat]).cloned().collect::<Vec<_>>());
        self.shared.count.fetch_add(1, Ordering::Relaxed);
        follower
    }
}

impl Seat {
    fn follows(&self, peer: IpAddr, bytes: &[u8]) -> bool {
        (self.peers.is_empty() || self.peers.iter().any(|prefix| prefix.contains(peer)))
            && (self.texts.is_empty() || self.texts.iter().any(|text| contains(bytes, text)))
    }
}

/// An empty text is in nothing: a leg without a Call-ID is no reason to show everything.
fn contains(bytes: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text)
}

impl Follower {
    /// The next message, or how many of those that are followed were lost before it; none: the daemon ends.
    pub async fn next(&mut self) -> Option<Result<Arc<Traced>, u64>> {
        match self.receiver.recv().await {
            Ok(traced) => Some(Ok(traced)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Err(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let is_own = |seat: &Arc<Seat>| Arc::as_ptr(seat) == self.seat.as_ptr();
        shared.seats.rcu(|seats| seats.iter().filter(|seat| !is_own(seat)).cloned().collect::<Vec<_>>());
        shared.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message as text, without the parts that would let a reader pass for its sender: what a digest answers.
pub fn masked(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut masked = String::with_capacity(text.len());
    let mut rest = &*text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(header_end(rest));
        let name = line.split(':').next().unwrap_or_default().trim();
        let is_credentials =
            name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("proxy-authorization");
        if is_credentials {
            mask_responses(line, &mut masked)
        } else {
            masked.push_str(line)
        }
        rest = after;
    }
    masked
}

/// Where the first header of a text ends, with the lines that are folded into it.
fn header_end(text: &str) -> usize {
    let mut end = 0;
    loop {
        end = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
        if !text[end..].starts_with([' ', '\t']) {
            return end;
        }
    }
}

/// Every one of them: a quoted text before the true one may look like it.
fn mask_responses(header: &str, masked: &mut String) {
    const WORD: &str = "response";
    let lower = header.to_ascii_lowercase();
    let mut done = 0;
    while let Some(at) = lower[done..].find(WORD) {
        let word_end = done + at + WORD.len();
        let Some(value) = lower[word_end..].trim_start().strip_prefix('=') else {
            masked.push_str(&header[done..word_end]);
            done = word_end;
            continue;
        };
        let value = value.trim_start_matches(|one: char| one.is_whitespace() || one == '"');
        let begin = header.len() - value.len();
        masked.push_str(&header[done..begin]);
        masked.push('…');
        done = begin + value.find(['"', ',', '\r', '\n']).unwrap_or(value.len());
    }
    masked.push_str(&header[done..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_digest_answers_is_masked_wherever_it_stands() {
        let message = "REGISTER sip:a SIP/2.0\r\nAuthorization: Digest username=\"100\",\r\n response = \"0123abcd\", uri=\"sip:a\"\r\nX-response=\"kept\": 1\r\nproxy-authorization: Digest response=77,nc=1\r\n\r\n";
        let shown = masked(message.as_bytes());
        assert!(!shown.contains("0123abcd") && !shown.contains("77,"), "{shown}");
        assert!(shown.contains("response = \"…\", uri=\"sip:a\"") && shown.contains("response=…,nc=1"), "{shown}");
        assert!(shown.contains("X-response=\"kept\": 1"));
        assert_eq!(masked(b"response=\xff"), "response=\u{fffd}");
        let decoy =
            b"Authorization: Digest username=\"response=x\", Response =\r\n\t\"0123abcd\"\r\nresponse: response=1";
        let expected = "Authorization: Digest username=\"response=…\", Response =\r\n\t\"…\"\r\nresponse: response=1";
        assert_eq!(masked(decoy), expected);
    }

    fn show(trace: &Trace, remote: &str, bytes: &[u8]) {
        let flow = Flow {
            transport: pbx_core::transport::TransportId(1),
            protocol: Protocol::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: None,
        };
        trace.show(Direction::Sent, &flow, bytes, || {
            assert_ne!(bytes, b"of nobody");
            Timestamp::EPOCH
        });
    }

    async fn next(follower: &mut Follower) -> Arc<Traced> {
        follower.next().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_message_is_shown_only_while_somebody_follows() {
        let trace = Trace::default();
        show(&trace, "192.0.2.2:5060", b"of nobody");
        let mut follower = trace.follow(Vec::new(), Vec::new());
        show(&trace, "192.0.2.2:5060", b"seen");
        let traced = next(&mut follower).await;
        assert_eq!((&*traced.bytes, traced.direction), (b"seen".as_slice(), Direction::Sent));
        for _ in 0..BACKLOG + 10 {
            show(&trace, "192.0.2.2:5060", b"fast");
        }
        assert_eq!(follower.next().await.unwrap().unwrap_err(), 10);
        drop(follower);
        assert!(!trace.is_followed());
        show(&trace, "192.0.2.2:5060", b"of nobody");
        let mut last = trace.follow(Vec::new(), Vec::new());
        drop(trace);
        assert!(last.next().await.is_none(), "the daemon ends");
    }

    #[tokio::test]
    async fn a_flood_of_others_costs_a_follower_nothing() {
        let trace = Trace::default();
        let mut one = trace.follow(vec!["192.0.2.2".parse().unwrap()], Vec::new());
        show(&trace, "[::ffff:192.0.2.2]:5060", b"before");
        for _ in 0..3 * BACKLOG {
            // Nobody follows it: it is not even copied.
            show(&trace, "198.51.100.7:5060", b"of nobody");
        }
        let mut all = trace.follow(Vec::new(), Vec::new());
        for _ in 0..3 * BACKLOG {
            show(&trace, "198.51.100.7:5060", b"flood");
        }
        show(&trace, "192.0.2.2:5060", b"after");
        assert_eq!(&*next(&mut one).await.bytes, b"before");
        assert_eq!(&*next(&mut one).await.bytes, b"after");
        assert_eq!(all.next().await.unwrap().unwrap_err(), 2 * BACKLOG as u64 + 1, "its own only");
        drop(one);
        assert!(trace.is_followed());
        assert_eq!(&*next(&mut all).await.bytes, b"flood");
    }
}
