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
