//! A binding: where one contact of an extension is reached (RFC 3261 §10). Data; decides nothing.

use std::{fmt, net::SocketAddr, num::ParseIntError, str::FromStr, sync::Arc};

use crate::{
    directory::ExtensionId,
    moment::Moment,
    time::Timestamp,
    transport::{ConnectionId, Flow, Protocol, TransportId},
};

/// Names a binding as long as it lives; never used again, not by a later run of the daemon either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingId(pub u64);

impl fmt::Display for BindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for BindingId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// What of a binding is on the disk: everything but the connection. Times are the wall's.
///
/// The texts are shared: cloning copies none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBinding {
    /// Its name.
    pub id: BindingId,
    /// Whose it is.
    pub extension: ExtensionId,
    /// The Contact URI as the phone wrote it, without brackets and header parameters.
    pub contact: Arc<str>,
    /// Preference, in thousandths (RFC 3261 §20.10); none written: 1000.
    pub q: u16,
    /// `+sip.instance` (RFC 5626 §4.1), without quotes.
    pub instance: Option<Arc<str>>,
    /// `reg-id`, of a binding made as outbound says (RFC 5626 §6); then it is told from others by instance and this.
    pub reg_id: Option<u32>,
    /// Call-ID of the request that wrote it last.
    pub call_id: Arc<str>,
    /// CSeq of that request.
    pub cseq: u32,
    /// The Path values, topmost first, as one header (RFC 3327 §5.3).
    pub path: Option<Arc<str>>,
    /// What the phone calls itself; empty if it does not say.
    pub user_agent: Arc<str>,
    /// The transport that it registered on.
    pub transport: TransportId,
    /// Its protocol.
    pub protocol: Protocol,
    /// The own address that it registered to, and that requests to it leave from.
    pub local: SocketAddr,
    /// Where the request came from, and requests to it go.
    pub remote: SocketAddr,
    /// A router translates its addresses.
    pub behind_nat: bool,
    /// When the binding was made.
    pub since: Timestamp,
    /// When it ends unless it is refreshed.
    pub expires_at: Timestamp,
}

/// A binding that lives.
#[derive(Clone, Debug)]
pub struct Binding {
    pub(super) stored: StoredBinding,
    pub(super) expires: Moment,
    pub(super) connection: Option<ConnectionId>,
    pub(super) reachable: bool,
}

impl Binding {
    /// What the store keeps of it.
    pub fn stored(&self) -> &StoredBinding {
        &self.stored
    }

    /// When it ends unless it is refreshed.
    pub fn expires(&self) -> Moment {
        self.expires
    }

    /// Where requests to it go; nothing while the phone has no connection, or its transport is closed.
    pub fn flow(&self) -> Option<Flow> {
        let StoredBinding { transport, protocol, local, remote, .. } = self.stored;
        self.reachable.then_some(Flow { transport, protocol, local, remote, connection: self.connection })
    }

    /// Whole seconds that are left, at least one.
    pub(super) fn remaining(&self, now: Moment) -> u32 {
        u32::try_from(self.expires.since(now).as_secs()).unwrap_or(u32::MAX).max(1)
    }
}

/// What became of a binding: for the store, the filter, the keep-alives and whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingChange {
    /// New, and reachable.
    Added(StoredBinding),
    /// Written again under the same id, and reachable; any field but extension and start may have changed.
    Refreshed(StoredBinding),
    /// It stays, but nothing can be sent to it until the phone returns.
    Unreachable(StoredBinding),
    /// Gone.
    Removed(StoredBinding, Ended),
}

impl BindingChange {
    /// The binding as it is now, or last was.
    pub fn binding(&self) -> &StoredBinding {
        match self {
            Self::Added(binding) | Self::Refreshed(binding) => binding,
            Self::Unreachable(binding) | Self::Removed(binding, _) => binding,
        }
    }
}

/// Why a binding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The phone took it back.
    Unregistered,
    /// Its time was over.
    Expired,
    /// It could not be reached, and a new contact of the extension needed its place.
    GaveWay,
    /// The extension is gone or disabled, or has another password.
    Revoked,
    /// An administrator ended it.
    Dropped,
}

impl Ended {
    /// A word for it, in events and in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unregistered => "unregistered",
            Self::Expired => "expired",
            Self::GaveWay => "gave_way",
            Self::Revoked => "revoked",
            Self::Dropped => "dropped",
        }
    }
}
