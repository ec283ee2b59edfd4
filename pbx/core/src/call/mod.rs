//! Calls: two legs and what can be done with them. After dialogs and routing, before media.

pub mod cause;
pub(crate) mod course;
pub(crate) mod leg;
mod record;

use std::{net::SocketAddr, sync::Arc};

pub use record::{CallId, Disposition, EndedBy, LegKind, Record, RecordLeg};

use crate::{
    directory::{ExtensionId, TenantId},
    media::{LegId, Pair},
    time::Timestamp,
    transport::Protocol,
};

/// A call that goes on, for whoever looks on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The call.
    pub id: CallId,
    /// Whose phones they are.
    pub tenant: TenantId,
    /// Who called.
    pub caller: ExtensionId,
    /// The caller's number.
    pub caller_number: Arc<str>,
    /// What was dialled.
    pub dialled: Arc<str>,
    /// The number that answered, or rings.
    pub callee_number: Arc<str>,
    /// When it was routed.
    pub started: Timestamp,
    /// When it was answered.
    pub answered: Option<Timestamp>,
    /// Its legs now, the caller's first while that is there.
    pub legs: Vec<SeenLeg>,
}

/// A leg of a call that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLeg {
    /// Its media.
    pub media: LegId,
    /// Why it was made.
    pub kind: LegKind,
    /// Whose phone it is.
    pub number: Arc<str>,
    /// `calling`, `ringing`, `talking`, `held`: in a word.
    pub state: &'static str,
    /// The Call-ID of its dialog.
    pub call_id: Arc<str>,
    /// How its messages travel.
    pub protocol: Protocol,
    /// Where they come from.
    pub remote: SocketAddr,
    /// Local media ports.
    pub pair: Option<Pair>,
    /// Its codec, such as `PCMA/8000`; empty: none yet.
    pub codec: Arc<str>,
}
