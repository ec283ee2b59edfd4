//! Messages as they come and go, for an administrator who looks on: only those of the peers that were asked for, read
//! as far as they can be, and without what a digest answers. Remembers nothing: what nobody looked at is gone.

mod dropped;

use std::net::SocketAddr;

use pbx_core::{
    address::{self, Prefix},
    time::Timestamp,
    transport::Protocol,
    wire::{
        demux::{Content, classify},
        sip::{Message, Method, Name, Origin, StartLine},
    },
};
use serde::{Deserialize, Serialize};

use super::{Context, OpError, Operations};
use crate::{
    signalling::Call,
    trace::{Direction, Follower, Traced, masked},
};

pub use dropped::{DroppedPackets, DroppedView};

/// Addresses and ranges that one follower may name.
const MOST_PEERS: usize = 64;

/// A message as the API shows it. Texts are as the peer wrote them, control characters and all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// When it came or went.
    pub time: Timestamp,
    /// Which way.
    pub direction: Direction,
    /// Over what.
    pub protocol: Protocol,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// What it is.
    pub kind: Content,
    /// How long it is (bytes).
    pub bytes: usize,
    /// Why it cannot be read as SIP, although it begins like it.
    pub problem: Option<String>,
    /// The first line, of SIP.
    pub start_line: Option<String>,
    /// The method; of a response, the one that CSeq names.
    pub method: Option<String>,
    /// The status, of a response.
    pub status: Option<u16>,
    /// `Call-ID`.
    pub call_id: Option<String>,
    /// `CSeq`: a number and a method.
    pub cseq: Option<String>,
    /// The URI in `From`.
    pub from: Option<String>,
    /// The URI in `To`.
    pub to: Option<String>,
    /// All of it, of SIP; what a digest answers is masked.
    pub message: Option<String>,
}

/// Follows from when it was made until it is dropped.
#[derive(Debug)]
pub struct Messages {
    follower: Follower,
    call: Option<CallIds>,
}

/// How messages of a call are told.
#[derive(Debug)]
struct CallIds {
    /// Call-IDs of the legs that there were when somebody began to look.
    legs: Vec<String>,
    /// What is in each Call-ID that the appliance makes for this call, so for legs that come later.
    own: String,
}

impl CallIds {
    fn of(call: &Call) -> Self {
        let legs = call.legs.iter().map(|leg| leg.call_id.clone()).collect();
        Self { legs, own: format!(".{}@", call.id) }
    }

    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.legs.iter().chain([&self.own]).map(String::as_bytes)
    }

    /// Whether a message with this Call-ID is of the call.
    fn has(&self, call_id: &str) -> bool {
        call_id.contains(&self.own) || self.legs.iter().any(|leg| leg == call_id)
    }
}

impl Operations {
    /// Follows the messages of these peers (addresses or ranges; none named: of all) from now on; those of one call
    /// only, if one is named by its id or the last digits of it.
    pub async fn trace(&self, context: &Context, peers: &[String], call: Option<&str>) -> Result<Messages, OpError> {
        context.may_see_who_calls("messages")?;
        if peers.len() > MOST_PEERS {
            return Err(OpError::usage(format!(
                "ip: {} addresses and ranges are too many: at most {MOST_PEERS}",
                peers.len()
            )));
        }
        let peers = peers.iter().map(|text| match address::parse(text) {
            Ok(typed) => Ok(typed.prefix),
            Err(error) => Err(OpError::usage(format!("ip: {error}"))),
        });
        let peers: Vec<Prefix> = peers.collect::<Result<_, _>>()?;
        let call = match call {
            Some(id) => Some(CallIds::of(&self.call_called(id).await?)),
            None => None,
        };
        let trace = self.with_signalling(|signalling| signalling.trace()).await?;
        let texts = call.iter().flat_map(CallIds::texts).map(Box::from).collect();
        Ok(Messages { follower: trace.follow(peers, texts), call })
    }
}

impl Messages {
    /// The next message, or how many (of these peers) were lost before it because they came faster than they were
    /// asked for; none: the signalling side ends.
    pub async fn next(&mut self) -> Option<Result<MessageView, u64>> {
        loop {
            let traced = match self.follower.next().await? {
                Ok(traced) => traced,
                Err(lost) => return Some(Err(lost)),
            };
            let view = MessageView::of(&traced);
            // A Call-ID may be somewhere else in a message of another call.
            let is_wanted = |call: &CallIds| view.call_id.as_deref().is_some_and(|call_id| call.has(call_id));
            if self.call.as_ref().is_none_or(is_wanted) {
                return Some(Ok(view));
            }
        }
    }
}

impl MessageView {
    fn of(traced: &Traced) -> Self {
        let Traced { at, direction, protocol, local, remote, ref bytes } = *traced;
        let kind = classify(bytes);
        let view = Self {
            time: at,
            direction,
            protocol,
            local,
            remote,
            kind,
            bytes: bytes.len(),
            problem: None,
            start_line: None,
            method: None,
            status: None,
            call_id: None,
            cseq: None,
            from: None,
            to: None,
            message: None,
        };
        if kind == Content::Sip { view.with_sip(bytes) } else { view }
    }

    /// The same with what can be read of a message, of a broken one too.
    fn with_sip(mut self, bytes: &[u8]) -> Self {
        let message = masked(bytes);
        self.start_line = message.trim_start_matches(['\r', '\n']).lines().next().map(str::to_owned);
        self.message = Some(message);
        let origin = if self.protocol == Protocol::Udp { Origin::Datagram } else { Origin::Stream };
        let parsed = match Message::parse(bytes, origin) {
            Ok(parsed) => parsed,
            Err(error) => return Self { problem: Some(error.to_string()), ..self },
        };
        let uri = |name| parsed.address(name).ok().map(|address| text(address.uri));
        let method = |method: Method<'_>| text(method.text());
        self.method = match parsed.start_line() {
            StartLine::Request { method: own, .. } => Some(method(own)),
            StartLine::Response { .. } => parsed.cseq().ok().map(|cseq| method(cseq.method)),
        };
        self.status = parsed.code();
        self.call_id = parsed.value(Name::CallId).map(text);
        self.cseq = parsed.value(Name::CSeq).map(text);
        (self.from, self.to) = (uri(Name::From), uri(Name::To));
        self
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
