//! Messages as they come and go, for whoever looks on. Costs one atomic load a message while nobody does; a follower
//! that is too slow loses messages and is told how many.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use pbx_core::{
    time::Timestamp,
    transport::{Flow, Protocol},
};
use serde::Serialize;
use tokio::sync::broadcast;

/// Messages that a follower may lag behind.
const BACKLOG: usize = 1024;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug)]
pub struct Trace {
    followers: Arc<AtomicUsize>,
    sender: broadcast::Sender<Arc<Traced>>,
}

/// Follows from when it was made until it is dropped.
#[derive(Debug)]
pub struct Follower {
    followers: Arc<AtomicUsize>,
    receiver: broadcast::Receiver<Arc<Traced>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { followers: Arc::default(), sender: broadcast::channel(BACKLOG).0 }
    }
}

impl Trace {
    /// Whether anybody looks on.
    pub fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    /// Shows a message to the followers, if there are any; `now` is asked only then.
    pub fn show(&self, direction: Direction, flow: &Flow, bytes: &[u8], now: impl FnOnce() -> Timestamp) {
        if !self.is_followed() {
            return;
        }
        let Flow { protocol, local, remote, .. } = *flow;
        let traced = Traced { at: now(), direction, protocol, local, remote, bytes: bytes.into() };
        // Nobody there any more is no loss.
        let _ = self.sender.send(Arc::new(traced));
    }

    /// Follows from now on.
    pub fn follow(&self) -> Follower {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower { followers: Arc::clone(&self.followers), receiver: self.sender.subscribe() }
    }
}

impl Follower {
    /// The next message, or how many were lost before it; none: the daemon ends.
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
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message as text, without the parts that would let a reader pass for its sender: what a digest answers.
pub fn masked(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut masked = String::with_capacity(text.len());
    let mut in_credentials = false;
    for line in text.split_inclusive('\n') {
        let folded = line.starts_with([' ', '\t']);
        let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        in_credentials = matches!(name.as_str(), "authorization" | "proxy-authorization") || folded && in_credentials;
        if in_credentials { masked.push_str(&without_response(line)) } else { masked.push_str(line) }
    }
    masked
}

fn without_response(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let Some(begin) = lower.match_indices("response").find_map(|(at, word)| {
        let rest = &lower[at + word.len()..];
        let equals = rest.len() - rest.trim_start().len();
        rest[equals..].starts_with('=').then_some(at + word.len() + equals + 1)
    }) else {
        return line.to_owned();
    };
    let rest = &line[begin..];
    let open = rest.len() - rest.trim_start_matches([' ', '\t', '"']).len();
    let length = rest[open..].find(['"', ',', '\r', '\n']).unwrap_or(rest.len() - open);
    format!("{}{}…{}", &line[..begin], &rest[..open], &rest[open + length..])
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
    }

    #[tokio::test]
    async fn a_message_is_shown_only_while_somebody_follows() {
        let trace = Trace::default();
        let flow = Flow {
            transport: pbx_core::transport::TransportId(1),
            protocol: Protocol::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.2:5060".parse().unwrap(),
            connection: None,
        };
        trace.show(Direction::Received, &flow, b"before", || panic!("nobody looks on"));
        let mut follower = trace.follow();
        trace.show(Direction::Sent, &flow, b"seen", || Timestamp::EPOCH);
        let traced = follower.next().await.unwrap().unwrap();
        assert_eq!((&*traced.bytes, traced.direction), (b"seen".as_slice(), Direction::Sent));
        for _ in 0..BACKLOG + 10 {
            trace.show(Direction::Sent, &flow, b"fast", || Timestamp::EPOCH);
        }
        assert_eq!(follower.next().await.unwrap().unwrap_err(), 10);
        drop(follower);
        assert!(!trace.is_followed());
    }
}
