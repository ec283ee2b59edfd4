//! Asking a phone whether it is there: OPTIONS over the flow of its registration (RFC 3261 §11), from the address
//! that the phone reaches us by.

use std::time::Duration;

use super::{Output, Pbx};
use crate::{
    gate::hex,
    moment::Moment,
    registrar::BindingId,
    transaction::{Bytes, ClientId, Event, Owner},
    wire::sip::{Method, Request},
};

/// Phones that may be asked at once.
const MOST: usize = 1024;

/// How a phone took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinged {
    /// It answered with this status, which proves that it is there, whatever it is.
    Answered {
        /// The status.
        code: u16,
        /// After so long.
        after: Duration,
    },
    /// No answer in 64 T1, which are 32 s.
    Silent,
    /// The request could not be sent.
    NotSent,
}

/// Why nobody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// There is no such registration.
    #[error("there is no such registration any more")]
    NotRegistered,
    /// The phone has no connection, or its transport is closed.
    #[error("the phone can not be reached until it returns: its connection or its transport is closed")]
    Unreachable,
    /// Many are being asked, or the transactions are at their limit.
    #[error("too many phones are being asked at once: try again in a while")]
    Full,
}

/// One that was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ping {
    number: u64,
    sent: Moment,
}

impl Pbx {
    /// Asks a phone whether it is there; [`Output::Pinged`] says with `number` how it took it.
    ///
    /// # Errors
    ///
    /// See [`PingError`]; then nothing was sent, and nothing follows.
    pub fn ping(&mut self, id: BindingId, number: u64, now: Moment) -> Result<(), PingError> {
        let binding = self.registrar.binding(id).ok_or(PingError::NotRegistered)?;
        let flow = binding.flow().ok_or(PingError::Unreachable)?;
        if self.pings.len() >= MOST {
            return Err(PingError::Full);
        }
        let stored = binding.stored().clone();
        let random = [(); 3].map(|()| self.random.next());
        let [branch, tag, call] = random.map(hex).map(|hex| String::from_utf8_lossy(&hex).into_owned());
        let branch = format!("z9hG4bK{branch}");
        let us = self.reach.advertised(flow.transport, flow.local, flow.remote.ip());
        let mut out = self.buffer();
        let mut request = Request::start(&mut out, Method::Options, stored.contact.as_bytes())
            .via(flow.protocol.token(), us, &branch)
            .ids(70, format_args!("{call}@{}", us.ip()), 1, Method::Options)
            .header("From", format!("<sip:{us}>;tag={tag}"))
            .header("To", format!("<{}>", stored.contact));
        if let Some(path) = &stored.path {
            request = request.header("Route", path.as_bytes());
        }
        let transport = flow.protocol.token().to_ascii_lowercase();
        request
            .header("Contact", format!("<sip:{us};transport={transport}>"))
            .header("Accept", "application/sdp")
            .header("User-Agent", "pbx")
            .finish();
        let key = self.keys.client(Method::Options.text(), branch.as_bytes());
        let bytes = Bytes::from(&out[..]);
        self.scratch = out;
        let client = self.layer.send_request(key, flow, bytes, now).map_err(|_| PingError::Full)?;
        self.pings.insert(client, Ping { number, sent: now });
        self.settle((now, self.wall));
        Ok(())
    }

    /// The phone answered.
    pub(super) fn ping_answered(&mut self, client: ClientId, code: u16, now: Moment) {
        if code >= 200
            && let Some(ping) = self.pings.remove(&client)
        {
            let outcome = Pinged::Answered { code, after: now.since(ping.sent) };
            self.outputs.push_back(Output::Pinged { number: ping.number, outcome });
        }
    }

    /// The transaction ended otherwise.
    pub(super) fn ping_ended(&mut self, event: Event) {
        let (client, outcome) = match event {
            Event::TimedOut(client) => (client, Pinged::Silent),
            Event::TransportFailed(Owner::Client(client)) => (client, Pinged::NotSent),
            Event::TransportFailed(Owner::Server(_)) | Event::NotAcknowledged(_) | Event::NotAnswered(_) => return,
        };
        if let Some(ping) = self.pings.remove(&client) {
            self.outputs.push_back(Output::Pinged { number: ping.number, outcome });
        }
    }
}
