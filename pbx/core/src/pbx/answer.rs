//! Answers of the core: in a transaction, which repeats them, or sent once, for which nothing is kept.

use super::{Incoming, Output, Pbx};
use crate::{
    gate::answer_flow,
    moment::Moment,
    overload,
    transaction::{Bytes, ServerId},
    wire::sip::Reply,
};

impl Pbx {
    pub(super) fn shed(&mut self, id: ServerId, incoming: &Incoming<'_>, how: overload::Answer, proved: bool) {
        let seconds = match how {
            overload::Answer::Silence => return self.layer.forget(id),
            overload::Answer::Unavailable => None,
            overload::Answer::RetryAfter(seconds) => Some(seconds),
        };
        let mut out = self.buffer();
        let tag = self.tags.of(incoming.message);
        let reply = Reply::start(&mut out, incoming.message, 503, incoming.flow.remote, Some(&tag));
        match seconds {
            Some(seconds) => reply.header_fmt("Retry-After", format_args!("{seconds}")).finish(),
            None => reply.finish(),
        }
        if proved {
            return self.respond(id, 503, out, incoming.now);
        }
        self.layer.forget(id);
        self.send_once(incoming, out);
    }

    /// Tells a known source that there is no such dialog or transaction, and a stranger nothing. Without a
    /// transaction: anybody can write a known address on a datagram, and an INVITE's answer would be sent to it ten
    /// times over.
    pub(super) fn refuse(&mut self, id: ServerId, incoming: &Incoming<'_>, known: bool) {
        self.layer.forget(id);
        if known {
            let mut out = self.buffer();
            let tag = self.tags.of(incoming.message);
            Reply::start(&mut out, incoming.message, 481, incoming.flow.remote, Some(&tag)).finish();
            self.send_once(incoming, out);
        }
    }

    /// Sends an answer for which nothing is kept.
    pub(super) fn send_once(&mut self, incoming: &Incoming<'_>, out: Vec<u8>) {
        let flow = answer_flow(&incoming.flow, incoming.message);
        self.outputs.push_back(Output::Send { flow, bytes: Bytes::from(&out[..]), owner: None });
        self.scratch = out;
    }

    /// Answers with a status and nothing else.
    pub(super) fn answer(&mut self, id: ServerId, incoming: &Incoming<'_>, status: u16) {
        let mut out = self.buffer();
        let tag = self.tags.of(incoming.message);
        Reply::start(&mut out, incoming.message, status, incoming.flow.remote, Some(&tag)).finish();
        self.respond(id, status, out, incoming.now);
    }

    pub(super) fn respond(&mut self, id: ServerId, status: u16, out: Vec<u8>, now: Moment) {
        let bytes = Bytes::from(&out[..]);
        self.scratch = out;
        // It ended while we decided: whoever asked waits no more.
        let _ = self.layer.respond(id, status, bytes, now);
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.clear();
        buffer
    }
}
