//! Streams and datagrams before any message parser: the framer, STUN, and what tells datagrams apart.

use std::{net::SocketAddr, time::Duration};

use pbx_core::{
    moment::Moment,
    wire::{
        demux::{Content, classify},
        sip::{Message, Origin},
        stream::{Frame, FrameError, Framer, Limits, Refused},
        stun::{self, discovery::Discovery},
    },
};

/// Limits that a short input reaches.
const LOW: Limits = Limits { head_bytes: 256, headers: 6, message_bytes: 512, ..Limits::DEFAULT };

/// A frame with bytes of its own.
#[derive(Debug, PartialEq, Eq)]
enum Cut {
    Message(Vec<u8>, usize),
    Ping,
    Refused(FrameError, Vec<u8>),
}

/// A stream is cut into the same frames whatever the pieces in which it comes, nothing is lost between them, and the
/// memory that is held stays within the limits and what came.
pub fn stream(bytes: &[u8]) {
    for limits in [Limits::DEFAULT, LOW] {
        let whole = cut(bytes, limits, bytes.len());
        for size in [1, 3, 64] {
            assert_eq!(cut(bytes, limits, size), whole, "in pieces of {size}");
        }
        complete(bytes, &whole);
    }
}

fn cut(bytes: &[u8], limits: Limits, size: usize) -> Vec<Cut> {
    let mut framer = Framer::new(limits, Moment::ZERO);
    let mut cuts = Vec::new();
    let mut unfinished = 0;
    for (count, piece) in bytes.chunks(size.max(1)).enumerate() {
        let now = Moment::ZERO + Duration::from_micros(count as u64);
        let mut input = piece;
        unfinished += piece.len();
        loop {
            let frame = match framer.next(&mut input, now) {
                Ok(None) => break,
                Ok(Some(Frame::Message { bytes, body })) => Cut::Message(bytes.to_vec(), body),
                Ok(Some(Frame::Ping)) => Cut::Ping,
                Err(Refused { error, head }) => {
                    cuts.push(Cut::Refused(error, head.to_vec()));
                    assert!(framer.next(&mut input, now).is_err(), "a broken stream stays broken");
                    return cuts;
                }
            };
            // Some are of use.
            if matches!(&frame, Cut::Message(bytes, _) if bytes.len() % 2 == 0) {
                framer.heard(now);
            }
            cuts.push(frame);
            unfinished = input.len();
        }
        assert!(input.is_empty(), "no frame, and something is left");
        let most = limits.message_bytes.max(limits.head_bytes + 1).min(2 * unfinished);
        assert!(framer.held_bytes() <= most, "{} bytes held of {unfinished}", framer.held_bytes());
        if let Some(deadline) = framer.next_deadline() {
            assert!(framer.handle_timeout(deadline).is_some() && deadline > now);
            assert_eq!(framer.handle_timeout(deadline - Duration::from_micros(1)), None);
        }
    }
    cuts
}

/// Between the messages there are only line ends, and each body is as long as it should be.
fn complete(bytes: &[u8], cuts: &[Cut]) {
    let mut rest = bytes;
    for cut in cuts {
        let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        match cut {
            Cut::Message(message, body) => {
                rest = rest[blank..].strip_prefix(&message[..]).expect("a message is what came");
                assert!(message[..*body].ends_with(b"\n") && *body > 2);
                // Or what one of them takes for a body is a request of its own to the other.
                if let Ok(parsed) = Message::parse(&message[..], Origin::Stream) {
                    assert_eq!((parsed.head().len(), parsed.body().len()), (*body, message.len() - body));
                }
            }
            Cut::Refused(error, head) => {
                assert!(rest[blank..].starts_with(head) && (head.is_empty() || head.ends_with(b"\n")));
                assert_eq!(error.status().is_some(), error.reason().is_some());
                return;
            }
            // Keep-alives are among the line ends.
            Cut::Ping => (),
        }
    }
}

/// A datagram is told apart, and if it is STUN, the answer to it is right and no larger than it may be.
pub fn stun(datagram: &[u8]) {
    let content = classify(datagram);
    let source = SocketAddr::from(([192, 0, 2, 1], 5060));
    let Ok(message) = stun::parse(datagram) else {
        assert!(stun::answer(datagram, source).is_none());
        return;
    };
    assert_eq!(content == Content::Stun, datagram[0] < 4);
    let used: usize = message.attributes().map(|(_, value)| 4 + value.len().next_multiple_of(4)).sum();
    assert_eq!(used, datagram.len() - stun::HEADER_BYTES);
    let id = message.transaction_id;
    let told = stun::mapped(datagram, id);
    assert!(told.is_none() || told == message.mapped());
    let mut discovery = Discovery::new(id, Moment::ZERO);
    assert_eq!(discovery.handle_answer(datagram), discovery.outcome().is_some());
    if let Some(answer) = stun::answer(datagram, source) {
        let bytes = answer.as_ref();
        let answer = stun::parse(bytes).expect("an answer of ours is right");
        assert!(bytes.len() <= stun::ANSWER_BYTES && answer.transaction_id == id);
        assert_eq!(answer.fingerprint, message.fingerprint);
        match answer.class {
            stun::Class::Success => assert_eq!(stun::mapped(bytes, id), Some(source)),
            _ => assert_eq!((answer.error_code(), message.unknown().next().is_some()), (Some(420), true)),
        }
    }
}
