//! The receive workers' way with a message: what it is, the gate, and the queue to the core. On whatever thread
//! received it, without waiting for anybody.

use std::{
    cell::RefCell,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

use pbx_core::{
    gate::{Class, Passed, Why},
    pbx::{Input, Received},
    transport::{ConnectionId, Flow, Protocol},
    wire::{
        demux::{Content, classify},
        stream::FrameError,
        stun,
    },
};

use super::shared::{OfTransport, Shared};
use crate::{
    net::{Outbox, Receiver},
    trace::Direction,
};

thread_local! {
    /// Answers are written here before they are put on their way.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What lies above the sockets.
pub(super) struct Front(pub(super) Arc<Shared>);

impl Receiver for Front {
    fn receive(&self, flow: &Flow, bytes: &[u8], answers: &mut Outbox) {
        let shared = &*self.0;
        shared.trace.show(Direction::Received, flow, bytes, super::wall);
        // Closed meanwhile: nobody could answer.
        let Some(of) = shared.transport(flow.transport) else { return };
        match classify(bytes) {
            Content::Sip => self.sip(flow, bytes, &of, answers),
            Content::Stun => {
                let Some(answer) = stun::answer(bytes, flow.remote) else {
                    // An indication (RFC 8489 §6.3.2) has no answer; what only begins like STUN is none.
                    if stun::parse(bytes).is_err() {
                        of.other.fetch_add(1, Relaxed);
                    }
                    return;
                };
                match shared.at_gate(&[], |gate| gate.may_have_answer(flow)) {
                    Ok(()) => self.answer(*flow, answer.as_ref(), answers),
                    Err(why) => of.count(why),
                }
            }
            // Those of streams were answered where the stream is cut (RFC 5626 §4.4.1).
            Content::KeepAlive | Content::Empty => {}
            Content::Zrtp | Content::Dtls | Content::TurnChannel | Content::Rtp | Content::Unknown => {
                of.other.fetch_add(1, Relaxed);
            }
        }
    }

    fn refused(&self, flow: &Flow, error: FrameError, head: &[u8], answers: &mut Outbox) {
        let (Some(status), Some(of)) = (error.status(), self.0.transport(flow.transport)) else { return };
        let reason = error.reason().unwrap_or_default();
        self.with_scratch(|out| {
            self.0.at_gate(&of.transport.algorithms, |gate| gate.refuse(flow, head, (status, reason), out));
            if !out.is_empty() {
                self.answer(*flow, out, answers);
            }
        });
    }

    fn closed(&self, connection: ConnectionId) {
        let shared = &*self.0;
        // In the queue of the registrations that came over it, so that it is handled after them.
        if shared.queues.push(Class::Known, Input::ConnectionClosed(connection), shared.clock.now()).is_err() {
            shared.closed.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    fn is_registered(&self, connection: ConnectionId) -> bool {
        self.0.is_registered(connection)
    }

    fn admits(&self, flow: &Flow, length: usize) -> bool {
        self.0.admits(flow, length)
    }
}

impl Front {
    fn sip(&self, flow: &Flow, bytes: &[u8], of: &OfTransport, answers: &mut Outbox) {
        let shared = &*self.0;
        self.with_scratch(|out| {
            let passed = shared.at_gate(&of.transport.algorithms, |gate| gate.pass(flow, bytes, out));
            match passed {
                Passed::Ended { why, answer } => {
                    of.count(why);
                    if let Some(to) = answer {
                        self.answer(to, out, answers);
                    }
                    if why == Why::Broken && flow.protocol != Protocol::Udp {
                        // What was answered goes out first.
                        if let Some(sockets) = shared.sockets() {
                            sockets.disconnect(flow);
                        }
                    }
                }
                Passed::Delivered { message, class, credential } => {
                    let (known, message) = (class != Class::Unknown, message.into_owned());
                    let received = Input::Received(Received { flow: *flow, message, credential, known });
                    if shared.queues.push(class, received, shared.clock.now()).is_err() {
                        // The phone sends it again.
                        of.shed.fetch_add(1, Relaxed);
                    }
                }
            }
        });
    }

    fn answer(&self, to: Flow, bytes: &[u8], answers: &mut Outbox) {
        self.0.trace.show(Direction::Sent, &to, bytes, super::wall);
        answers.push(to, bytes);
    }

    fn with_scratch(&self, with: impl FnOnce(&mut Vec<u8>)) {
        SCRATCH.with_borrow_mut(|out| {
            out.clear();
            with(out);
        });
    }
}
