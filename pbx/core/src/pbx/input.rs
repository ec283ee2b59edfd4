//! What the core is given.

use std::time::Duration;

use crate::{
    gate::Credential,
    media,
    transaction::Owner,
    transport::{ConnectionId, Flow, TransportId},
    wire::sip::Message,
};

/// Something that happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time; a box would cost an allocation a message")]
pub enum Input {
    /// A message came, and passed the [gate](crate::gate).
    Received(Received),
    /// A connection is gone.
    ConnectionClosed(ConnectionId),
    /// A transport is closed.
    TransportClosed(TransportId),
    /// What was sent for a transaction could not be sent.
    SendFailed(Owner),
    /// Pairs of ports that are ready for calls, beside those that were told before.
    Pairs(Vec<media::Pair>),
    /// A leg has ended in the relay, and this went through it.
    LegEnded {
        /// The leg.
        leg: media::LegId,
        /// What.
        stats: media::Stats,
    },
    /// How long messages wait in the queues, measured a few times a second, and memory that is in use beside what the
    /// core knows of, in bytes.
    Measured {
        /// Of the oldest message of a known source, within a dialog or not.
        queue_delay: Duration,
        /// Of the oldest message of a stranger: its wait turns away nobody but strangers.
        unknown_delay: Duration,
        /// Bytes.
        memory: u64,
    },
}

/// A message that passed the gate.
#[derive(Debug)]
pub struct Received {
    /// Which way it came.
    pub flow: Flow,
    /// The message, with bytes of its own.
    pub message: Message<Box<[u8]>>,
    /// Who proved to have sent it; the reuse of the nonce is not checked yet.
    pub credential: Option<Credential>,
    /// Whether it came from a known source.
    pub known: bool,
}
