//! The receive workers' way with a message: what it is, the gate, and the queue to the core. On whatever thread
//! received it, without waiting for anybody.

use std::{
    cell::RefCell,
    net::IpAddr,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

use pbx_core::{
    gate::{Class, Noted, Passed, Why},
    guard::{EVIDENCE, Sign, What},
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
    net::{Heard, Outbox, Receiver},
    trace::Direction,
};

thread_local! {
    /// Answers are written here before they are put on their way.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What lies above the sockets.
pub(super) struct Front(pub(super) Arc<Shared>);

impl Receiver for Front {
    fn receive(&self, flow: &Flow, bytes: &[u8], answers: &mut Outbox) -> Heard {
        let shared = &*self.0;
        shared.trace.show(Direction::Received, flow, bytes, super::wall);
        // Closed meanwhile: nobody could answer.
        let Some(of) = shared.transport(flow.transport) else { return Heard::Ignored };
        match classify(bytes) {
            Content::Sip => return self.sip(flow, bytes, &of, answers),
            Content::Stun => {
                let Some(answer) = stun::answer(bytes, flow.remote) else {
                    // An indication (RFC 8489 §6.3.2) has no answer; what only begins like STUN is none.
                    if stun::parse(bytes).is_err() {
                        of.other.fetch_add(1, Relaxed);
                    }
                    return Heard::Ignored;
                };
                match shared.at_gate(&[], |gate| gate.may_have_answer(flow)) {
                    Ok(()) => self.answer(*flow, answer.as_ref(), answers),
                    Err(why) => of.count(why),
                }
            }
            // Those of streams were answered where the stream is cut (RFC 5626 §4.4.1).
            Content::KeepAlive | Content::Empty => {}
            Content::Unknown => {
                of.other.fetch_add(1, Relaxed);
                let noted = Noted { what: Some(What::Malformed { points: 0 }), ..Noted::default() };
                self.tell(flow, bytes, noted);
            }
            // A phone that sends its media to the wrong port is no attacker.
            Content::Zrtp | Content::Dtls | Content::TurnChannel | Content::Rtp => {
                of.other.fetch_add(1, Relaxed);
            }
        }
        Heard::Ignored
    }

    fn refused(&self, flow: &Flow, error: FrameError, head: &[u8], answers: &mut Outbox) {
        let (Some(status), Some(of)) = (error.status(), self.0.transport(flow.transport)) else { return };
        let reason = error.reason().unwrap_or_default();
        let noted = Noted { what: Some(What::Malformed { points: 0 }), ..Noted::default() };
        self.tell(flow, head, noted);
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
        let (ended, weight) = (Input::ConnectionClosed(connection), size_of::<Input>());
        if shared.queues.push(Class::Known, ended, weight, shared.clock.now()).is_err() {
            shared.closed.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    fn broke_off(&self, flow: &Flow) {
        self.tell(flow, &[], Noted { what: Some(What::Malformed { points: 0 }), ..Noted::default() });
    }

    fn is_registered(&self, connection: ConnectionId) -> bool {
        self.0.is_registered(connection)
    }

    fn is_known(&self, addr: IpAddr) -> bool {
        self.0.known.contains(addr)
    }

    fn admits(&self, flow: &Flow, length: usize) -> bool {
        self.0.admits(flow, length)
    }

    fn goes_on(&self, flow: &Flow, length: usize) -> bool {
        self.0.goes_on(flow, length)
    }
}

impl Front {
    fn sip(&self, flow: &Flow, bytes: &[u8], of: &OfTransport, answers: &mut Outbox) -> Heard {
        let shared = &*self.0;
        self.with_scratch(|out| {
            let passed = shared.at_gate(&of.transport.algorithms, |gate| gate.pass(flow, bytes, out));
            match passed {
                Passed::Ended { why, answer, noted } => {
                    of.count(why);
                    self.tell(flow, bytes, noted);
                    let heard = if answer.is_some() { Heard::Taken } else { Heard::Ignored };
                    if let Some(to) = answer {
                        self.answer(to, out, answers);
                    }
                    if why == Why::Broken && flow.protocol != Protocol::Udp {
                        // What was answered goes out first.
                        if let Some(sockets) = shared.sockets() {
                            sockets.disconnect(flow);
                        }
                    }
                    heard
                }
                Passed::Delivered { message, class, credential, noted } => {
                    self.tell(flow, bytes, noted);
                    let (known, message) = (class != Class::Unknown, message.into_owned());
                    let received = Input::Received(Received { flow: *flow, message, credential, known });
                    let weight = size_of::<Input>() + bytes.len();
                    let Err(shed) = shared.queues.push(class, received, weight, shared.clock.now()) else {
                        return Heard::Taken;
                    };
                    of.shed.fetch_add(1, Relaxed);
                    if let Input::Received(shed) = shed {
                        shared.turn_away(flow, &shed.message, class, out);
                    }
                    if out.is_empty() {
                        return Heard::Ignored;
                    }
                    self.answer(*flow, out, answers);
                    Heard::Taken
                }
            }
        })
    }

    /// Tells the guard what a message says about its sender.
    fn tell(&self, flow: &Flow, bytes: &[u8], noted: Noted) {
        let Noted { what, agent, sure } = noted;
        let signs = agent.then_some(What::Agent).into_iter().chain(what);
        let source = flow.remote.ip().to_canonical();
        for what in signs {
            // A success says something only of those who failed, and needs no evidence. A handshake has no message.
            let kept = !matches!(what, What::Succeeded { .. } | What::Answered { .. }) && !bytes.is_empty();
            self.0.guard.tell(Sign {
                source,
                sure: sure || flow.protocol != Protocol::Udp,
                known: self.0.known.contains(source),
                what,
                message: kept.then(|| bytes[..bytes.len().min(EVIDENCE)].into()),
            });
        }
    }

    fn answer(&self, to: Flow, bytes: &[u8], answers: &mut Outbox) {
        self.0.trace.show(Direction::Sent, &to, bytes, super::wall);
        answers.push(to, bytes);
    }

    fn with_scratch<T>(&self, with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        SCRATCH.with_borrow_mut(|out| {
            out.clear();
            with(out)
        })
    }
}

#[cfg(test)]
mod tests {
    use pbx_core::{
        auth::{Key, Keys},
        gate::Tags,
        known::KnownSet,
        settings::Settings,
        transport::TransportId,
    };

    use super::*;
    use crate::{net::Clock, signalling::Transport, sip::shared::Drawn};

    const TRANSPORT: TransportId = TransportId(1);

    /// With a queue of unknown sources that takes no message.
    fn full() -> Front {
        let drawn = Drawn {
            keys: Keys { current: Key::new(&[1; 32]), former: None },
            allowance: [1, 2],
            nonces: [3, 4],
            tags: Tags::new([5, 6]),
        };
        let known = Arc::new(KnownSet::new([7, 8]));
        let (clock, settings) = (Clock::start(), Settings::default());
        let guard = crate::guard::Watch::new(&settings, [], Default::default(), [1, 2], clock);
        let shared = Arc::new(Shared::new(clock, drawn, known, &settings, None, guard));
        let transport = Transport {
            id: TRANSPORT,
            protocol: Protocol::Tcp,
            port: 5060,
            external_port: None,
            algorithms: Vec::new(),
            certificate: None,
        };
        shared.put_transport(TRANSPORT, Some(&transport));
        let heavy = Input::ConnectionClosed(ConnectionId(1));
        shared.queues.push(Class::Unknown, heavy, 8 << 20, shared.clock.now()).unwrap();
        Front(shared)
    }

    fn flow(protocol: Protocol) -> Flow {
        let (local, remote) = ("192.0.2.1:5060".parse().unwrap(), "198.51.100.7:5060".parse().unwrap());
        Flow { transport: TRANSPORT, protocol, local, remote, connection: None }
    }

    fn request(method: &str) -> String {
        format!(
            "{method} sip:1@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.7;branch=z9hG4bK1\r\n\
             Max-Forwards: 70\r\nFrom: <sip:2@example.com>;tag=1\r\nTo: <sip:1@example.com>;tag=2\r\n\
             Call-ID: 1\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    #[test]
    fn a_request_that_finds_the_queue_full_is_answered_on_a_stream_and_nowhere_else() {
        let front = full();
        let mut answers = Outbox::new();
        for (protocol, method, answered) in [
            (Protocol::Tcp, "BYE", true),
            (Protocol::Tls, "CANCEL", true),
            (Protocol::Tcp, "ACK", false),
            (Protocol::Udp, "BYE", false),
        ] {
            answers.clear();
            let heard = front.receive(&flow(protocol), request(method).as_bytes(), &mut answers);
            let said = answers.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect::<String>();
            assert_eq!(said.starts_with("SIP/2.0 503 "), answered, "{protocol} {method}: {said}");
            assert_eq!(said.contains("Retry-After: "), answered, "{said}");
            assert_eq!(heard, if answered { Heard::Taken } else { Heard::Ignored });
        }
        assert_eq!(front.0.transport(TRANSPORT).unwrap().shed.load(Relaxed), 4);
    }

    #[test]
    fn what_strangers_are_told_nothing_about_keeps_no_connection_open() {
        let front = full();
        let mut answers = Outbox::new();
        for said in [&request("OPTIONS").replace(";tag=2", ""), "nonsense SIP/2.0\r\n\r\n", "\r\n\r\n"] {
            assert_eq!(front.receive(&flow(Protocol::Tcp), said.as_bytes(), &mut answers), Heard::Ignored, "{said}");
        }
        assert!(answers.is_empty());
    }
}
