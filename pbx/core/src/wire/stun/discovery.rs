//! Asks a STUN server for the address that others see, in virtual time (RFC 8489 §6.2.1): what to send when, and
//! what came of it. Beside the transports; knows no socket. The caller gives it only what came from the server.

use std::{net::SocketAddr, time::Duration};

use super::{BINDING, Class, REQUEST_BYTES, TransactionId, mapped, parse, request};
use crate::moment::Moment;

/// The first wait for an answer; each further one is twice as long.
pub const RTO: Duration = Duration::from_millis(500);
/// How often the request is sent (Rc).
pub const TRIES: u32 = 7;
/// What follows the last one, in RTOs (Rm).
pub const LAST_WAIT: u32 = 16;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The address and port that the server saw.
    Mapped(SocketAddr),
    /// The server refused with this code, 300-699.
    Refused(u16),
    /// The server answered what can not be understood.
    Unusable,
    /// No answer within 39.5 s.
    TimedOut,
}

/// One question and its repetitions.
#[derive(Debug)]
pub struct Discovery {
    transaction_id: TransactionId,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many were sent; the next, or the end, is due at a time.
    Asking {
        sent: u32,
        due: Moment,
    },
    Done(Outcome),
}

impl Discovery {
    /// A question with a random transaction id, to be sent now.
    pub const fn new(transaction_id: TransactionId, now: Moment) -> Self {
        Self { transaction_id, state: State::Asking { sent: 0, due: now } }
    }

    /// The request, if it is due: send it.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<[u8; REQUEST_BYTES]> {
        let State::Asking { sent, due } = self.state else { return None };
        if now < due {
            return None;
        }
        if sent == TRIES {
            self.state = State::Done(Outcome::TimedOut);
            return None;
        }
        let sent = sent + 1;
        let wait = if sent == TRIES { LAST_WAIT } else { 1 << (sent - 1) };
        self.state = State::Asking { sent, due: now + RTO * wait };
        Some(request(self.transaction_id))
    }

    /// Takes a datagram of the server. Whether it was the answer.
    pub fn handle_answer(&mut self, datagram: &[u8]) -> bool {
        let (State::Asking { .. }, Ok(message)) = (self.state, parse(datagram)) else { return false };
        if message.transaction_id != self.transaction_id || message.method != BINDING {
            return false;
        }
        let outcome = match message.class {
            Class::Success => mapped(datagram, self.transaction_id).map_or(Outcome::Unusable, Outcome::Mapped),
            Class::Error => message.error_code().map_or(Outcome::Unusable, Outcome::Refused),
            Class::Request | Class::Indication => return false,
        };
        self.state = State::Done(outcome);
        true
    }

    /// When [`Self::poll_transmit`] is to be called next; `None` once it is over.
    pub const fn next_deadline(&self) -> Option<Moment> {
        match self.state {
            State::Asking { due, .. } => Some(due),
            State::Done(_) => None,
        }
    }

    /// What came of it, once it is over.
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Asking { .. } => None,
            State::Done(outcome) => Some(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stun::answer;

    const ID: TransactionId = *b"transaction!";

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn seven_requests_go_out_in_growing_distances_and_then_it_is_over() {
        let mut discovery = Discovery::new(ID, at(0));
        let mut sent = Vec::new();
        let mut end = Moment::ZERO;
        while let Some(due) = discovery.next_deadline() {
            let early = due > at(0) && discovery.poll_transmit(due - Duration::from_micros(1)).is_some();
            assert!(!early, "{due:?}");
            match discovery.poll_transmit(due) {
                Some(bytes) => {
                    assert_eq!(bytes, request(ID));
                    sent.push(due.as_micros() / 1000);
                }
                None => end = due,
            }
        }
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
        assert_eq!((end, discovery.outcome()), (at(39_500), Some(Outcome::TimedOut)));
        assert_eq!(discovery.poll_transmit(at(100_000)), None);
    }

    #[test]
    fn the_answer_ends_it() {
        let mut discovery = Discovery::new(ID, at(0));
        let asked = discovery.poll_transmit(at(0)).expect("it is due");
        let seen: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
        let answer = answer(&asked, seen).expect("a binding is answered");
        assert!(!discovery.handle_answer(&asked), "the request itself is no answer");
        assert!(!discovery.handle_answer(b"SIP/2.0 200 OK\r\n\r\n"));
        assert!(discovery.handle_answer(answer.as_ref()));
        assert_eq!((discovery.outcome(), discovery.next_deadline()), (Some(Outcome::Mapped(seen)), None));
        assert!(!discovery.handle_answer(answer.as_ref()), "once is enough");
    }

    #[test]
    fn the_answer_to_another_request_changes_nothing() {
        let mut discovery = Discovery::new(ID, at(0));
        let seen = "192.0.2.1:5060".parse().expect("an address");
        let other = answer(&request(*b"transaction?"), seen).expect("a binding is answered");
        assert!(!discovery.handle_answer(other.as_ref()));
        assert_eq!(discovery.outcome(), None);
    }

    #[test]
    fn a_refusal_tells_its_code() {
        let mut asked_more = request(ID)[..20].to_vec();
        asked_more[3] = 4;
        asked_more.extend(b"\x00\x03\x00\x00");
        let refusal = answer(&asked_more, "192.0.2.1:1".parse().expect("an address")).expect("a refusal");
        let mut discovery = Discovery::new(ID, at(0));
        assert!(discovery.handle_answer(refusal.as_ref()));
        assert_eq!(discovery.outcome(), Some(Outcome::Refused(420)));
    }

    #[test]
    fn an_address_at_which_nothing_is_reached_is_unusable() {
        let nowhere = answer(&request(ID), "0.0.0.0:0".parse().expect("an address")).expect("an answer");
        let mut discovery = Discovery::new(ID, at(0));
        assert!(discovery.handle_answer(nowhere.as_ref()));
        assert_eq!(discovery.outcome(), Some(Outcome::Unusable));
    }
}
