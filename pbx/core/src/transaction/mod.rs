//! Transactions (RFC 3261 §17, RFC 6026): after the gate and before registrar, dialogs and calls. Absorb and answer
//! retransmissions, send again what may have been lost, end when the RFC says. Know no sockets, headers or calls:
//! messages are bytes that the caller made, and time is an argument.
//!
//! [`Layer`] holds them all; [`Keys`] makes the keys by which messages find theirs. In `server_invite` and its three
//! siblings stand the state machines, whose timers have the letters of the RFC.

mod client_invite;
mod client_other;
mod intervals;
mod key;
mod layer;
mod server_invite;
mod server_other;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use intervals::*;
pub use key::{ClientKey, Fields2543, Keys, ServerKey};
pub use layer::{Holder, Layer, Limits, Usage};

use crate::{slab::SlotKey, transport::Flow};

/// A message as it goes to the wire. Shared, so that keeping it to send it again copies nothing.
pub type Bytes = Arc<[u8]>;

/// A server transaction. Names nothing any more once it has ended, and never another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(SlotKey);

/// A client transaction. Names nothing any more once it has ended, and never another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(SlotKey);

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A server transaction's: a response.
    Server(ServerId),
    /// A client transaction's: a request.
    Client(ClientId),
}

/// What a request that came in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Request {
    /// A new transaction: hand it to the user, who answers with [`Layer::respond`].
    New(ServerId),
    /// A new transaction, of a CANCEL, which is answered 200 or, without `invite`, 481 (RFC 3261 §9.2). If `invite`
    /// takes no 487 any more it was answered already, and the CANCEL changes nothing.
    Cancel {
        /// The CANCEL's own transaction.
        id: ServerId,
        /// The INVITE that it wants to end.
        invite: Option<ServerId>,
    },
    /// The ACK of a final answer other than 2xx, the first one. Nothing is left to do.
    Acknowledged(ServerId),
    /// An ACK of a 2xx, which belongs to the dialog; with the transaction, if its branch is that of the INVITE.
    Ack(Option<ServerId>),
    /// Sent before: what there was to answer it with has been sent again.
    Absorbed,
    /// New, and a limit is reached. Nothing is kept: answer it without a transaction, or not at all.
    Full,
}

/// What a response that came in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Response {
    /// For the user: a provisional answer, or the final one. Of an INVITE there may be several 2xx (RFC 6026 §7.2).
    New(ClientId),
    /// Seen before, or the answer to a CANCEL.
    Absorbed,
    /// None of our transactions': dropped (RFC 6026 §7.3).
    Unmatched,
}

/// What the user of a transaction is told without having asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The final answer to an INVITE, not a 2xx, was never acknowledged (timer H). The transaction has ended.
    NotAcknowledged(ServerId),
    /// The user has not answered a request other than INVITE while its sender waited (RFC 4320 §4.2). It has ended.
    NotAnswered(ServerId),
    /// No final answer came (timers B and F, or 64 T1 after a CANCEL): act as for a 408. The transaction has ended.
    TimedOut(ClientId),
    /// Could not be sent. A client transaction has ended: act as for a 503 (RFC 3261 §8.1.3.1). A server transaction
    /// goes on, so that it still absorbs what comes again (RFC 6026 §8.8), and tells it once.
    TransportFailed(Owner),
}

/// What [`Layer::poll`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send `bytes`; if that fails, tell [`Layer::transport_failed`] with the `owner`.
    Send {
        /// Where to.
        flow: Flow,
        /// The whole message.
        bytes: Bytes,
        /// Whose it is.
        owner: Owner,
    },
    /// Tell the user.
    Event(Event),
}

/// Why an answer was not taken. Neither is a fault of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespondError {
    /// There is no such transaction any more.
    #[error("the transaction has ended: nobody waits for this answer")]
    Ended,
    /// There was a final answer before.
    #[error("the request has its final answer: a second one is not sent")]
    Answered,
    /// No status code.
    #[error("{0} is no status code: give 100 to 699")]
    Code(u16),
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A limit is reached.
    #[error("the transaction layer is at its limit: try again later")]
    Full,
    /// Another transaction has this branch and method.
    #[error("a transaction with this branch is going on: make the branch random")]
    BranchInUse,
}

/// Why an INVITE was not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is no such transaction, it has its final answer, or it is no INVITE.
    #[error("no INVITE waits for its final answer in this transaction: end the call with BYE if it was answered")]
    NotPending,
    /// It was cancelled before.
    #[error("the INVITE was cancelled before: wait for its final answer")]
    Cancelled,
}
