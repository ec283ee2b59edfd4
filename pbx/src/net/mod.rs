//! The sockets that SIP travels on: datagrams, streams and TLS, opened, moved and closed while the daemon runs. Below
//! everything that understands SIP: it hands whole messages up, as they came, and sends bytes down a flow. It knows
//! protocols and limits, but no method, header or user.
pub mod certificate;
pub mod clock;
pub(crate) mod control;
pub mod counters;
pub mod external;
pub mod outbox;
pub mod queues;
pub(crate) mod receiving;
pub mod stream;
pub mod tls;
pub mod transports;
pub mod udp;

use std::net::IpAddr;

use pbx_core::{
    transport::{ConnectionId, Flow},
    wire::stream::FrameError,
};

pub use self::{
    clock::Clock,
    counters::{Counters, Dropped},
    outbox::Outbox,
    transports::Transports,
};

/// What a message was to whoever received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was handed on or answered: the idle time of its connection begins anew.
    Taken,
    /// It was dropped in silence, and keeps no connection open.
    Ignored,
}

/// What lies above the sockets. Called on the receive workers (threads of UDP, tokio tasks of TCP and TLS), from
/// several at once: must be quick and never block. A panic ends what it was called with, a datagram or a connection,
/// and nothing else.
pub trait Receiver: Send + Sync + 'static {
    /// A datagram, or what a stream framed: SIP, STUN or a keep-alive, as it came, never empty. Answers that need no
    /// state go into `answers`, which are sent at once by the same transport, from the local address of their flow.
    fn receive(&self, flow: &Flow, bytes: &[u8], answers: &mut Outbox) -> Heard;

    /// A stream that can not be cut into messages any more and is closed: `head` is what came of the header section in
    /// whole lines, from which an answer can be made (see [`FrameError::status`]); empty for garbage.
    fn refused(&self, flow: &Flow, error: FrameError, head: &[u8], answers: &mut Outbox) {
        let _ = (flow, error, head, answers);
    }

    /// A connection is ready: of TLS, its handshake is over. The flow stays the same as long as it lives.
    fn connected(&self, flow: &Flow) {
        let _ = flow;
    }

    /// A connection is gone, and its number will not come back. Called once for each that was [connected](Self::connected).
    fn closed(&self, connection: ConnectionId) {
        let _ = connection;
    }

    /// A peer broke its TLS handshake off, or sent what is none. Not told of one that cannot agree with us or rejects our
    /// certificate, nor of one that took too long: that may be our fault.
    fn broke_off(&self, flow: &Flow) {
        let _ = flow;
    }

    /// Whether somebody registered over this connection: then it may be idle for as long as it likes.
    fn is_registered(&self, connection: ConnectionId) -> bool {
        let _ = connection;
        false
    }

    /// Whether the address is known: some of what connections may use is kept for these.
    fn is_known(&self, addr: IpAddr) -> bool {
        let _ = addr;
        false
    }

    /// The user-space filter: whether a datagram of this length, or a new connection (length 0), may come in. What may
    /// not is dropped in silence and counted.
    fn admits(&self, flow: &Flow, length: usize) -> bool {
        let _ = (flow, length);
        true
    }

    /// The user-space filter: whether a connection may go on that has just said so many bytes. One whose source was
    /// blocked after it was let in may not: it is closed, and they are not looked at.
    fn goes_on(&self, flow: &Flow, length: usize) -> bool {
        let _ = (flow, length);
        true
    }
}
