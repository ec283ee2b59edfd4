//! What the core wants done.

use super::Pinged;
use crate::{
    auth::Header,
    call::Record,
    directory::{ExtensionId, TenantId},
    known::{Key, Success},
    media,
    registrar::{BindingId, Ended, StoredBinding},
    transaction::{Bytes, Owner},
    transport::Flow,
    wire::sip::Message,
};

/// Something to do.
#[derive(Debug)]
pub enum Output {
    /// Send a message.
    Send {
        /// Where to.
        flow: Flow,
        /// The whole message.
        bytes: Bytes,
        /// Whom to tell when it cannot be sent; nobody: it was sent without a transaction.
        owner: Option<Owner>,
    },
    /// Sign a nonce and challenge the sender again, whose password was right when the gate judged it.
    Challenge {
        /// Which way the request came.
        flow: Flow,
        /// The request.
        message: Box<Message<Box<[u8]>>>,
        /// Of which kind.
        header: Header,
        /// Whose realm.
        tenant: TenantId,
    },
    /// Write into the store, in batches: the last change of a thing is all that matters.
    Store(Stored),
    /// Tell the filter: known from now on, or not any more.
    Filter {
        /// Who.
        key: Key,
        /// Known.
        known: bool,
    },
    /// Tell the relay.
    Media(media::Command),
    /// An administrator may want to know.
    Event(Event),
    /// How a phone took a [ping](super::Pbx::ping).
    Pinged {
        /// The caller's number.
        number: u64,
        /// How.
        outcome: Pinged,
    },
}

/// A change for the store.
#[derive(Debug)]
pub enum Stored {
    /// Insert or replace.
    Binding(StoredBinding),
    /// Delete.
    NoBinding(BindingId),
    /// Insert or replace, by address and extension.
    Success(Success),
    /// Insert or replace, with all its legs.
    Call(Box<Record>),
    /// Delete.
    NoSuccess {
        /// The address.
        addr: std::net::IpAddr,
        /// The extension.
        extension: ExtensionId,
    },
}

/// What happened to a registration.
#[derive(Debug)]
pub enum Event {
    /// A phone registered that was not there.
    Registered(StoredBinding),
    /// A registration ended.
    Unregistered(StoredBinding, Ended),
}
