//! The boundary between the operations and SIP: what the signalling side can be told and asked. The implementation
//! is in `sip`; everything above speaks only this trait. Calls may block for milliseconds: operations make
//! them off the async threads.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use pbx_core::{
    directory::{Directory, ExtensionId},
    pbx::Pinged,
    settings::Settings,
    time::Timestamp,
    transport::{Protocol, TransportId},
};
use serde::{Deserialize, Serialize};

use crate::{media::RelayStatus, trace::Trace};

/// A transport as an administrator made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Its number in the store.
    pub id: TransportId,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port that it listens on, at all addresses of the machine.
    pub port: u16,
    /// The port by which peers beyond the router reach it; none: the same.
    pub external_port: Option<u16>,
    /// Digest algorithms that it offers, in this order.
    pub algorithms: Vec<pbx_core::auth::Algorithm>,
    /// Certificates (PEM) and private key (PEM), of TLS.
    pub certificate: Option<Arc<CertificatePair>>,
}

/// A certificate chain and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM. A secret.
    pub key: String,
}

impl std::fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificatePair(secret)")
    }
}

/// How a transport is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportStatus {
    /// It listens.
    pub listening: bool,
    /// Why not.
    pub problem: Option<String>,
    /// Open connections, of a stream transport.
    pub connections: u64,
    /// Messages received since it was opened.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages dropped or refused, by reason; reasons that never counted are left out.
    pub dropped: Vec<(String, u64)>,
}

/// One contact that is registered now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Opaque, for [`Signalling::drop_registration`].
    pub id: String,
    /// Whose it is.
    pub extension: ExtensionId,
    /// The Contact URI as the phone wrote it.
    pub contact: String,
    /// What the phone calls itself.
    pub user_agent: String,
    /// `+sip.instance`, of a phone that has one.
    pub instance: Option<String>,
    /// How it registered.
    pub protocol: Protocol,
    /// Where it registered from.
    pub remote: SocketAddr,
    /// Where it registered to.
    pub local: SocketAddr,
    /// It can be reached now; a TCP or TLS phone whose connection is gone can not.
    pub reachable: bool,
    /// It is behind a router that translates addresses.
    pub behind_nat: bool,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless it is refreshed.
    pub expires_at: Timestamp,
}

/// A call that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name, 16 hexadecimal digits; its record has the same.
    pub id: String,
    /// Who called.
    pub caller: ExtensionId,
    /// The caller's number.
    pub caller_number: String,
    /// What was dialled.
    pub dialled: String,
    /// The number that answered, or rings.
    pub callee_number: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was answered.
    pub answered: Option<Timestamp>,
    /// Its legs.
    pub legs: Vec<CallLeg>,
}

/// A phone's part in a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLeg {
    /// Why it is there: `caller`, `branch`, `forward`, `transfer`.
    pub kind: String,
    /// Whose phone it is.
    pub number: String,
    /// `calling`, `ringing`, `talking` or `held`.
    pub state: String,
    /// The Call-ID of its messages.
    pub call_id: String,
    /// How they travel.
    pub protocol: Protocol,
    /// Where they come from.
    pub remote: SocketAddr,
    /// The local RTP port; RTCP is the one above.
    pub media_port: Option<u16>,
    /// Where its media come from, once some came.
    pub media_remote: Option<SocketAddr>,
    /// Its codec, such as `PCMA/8000`; nothing yet if there is none.
    pub codec: Option<String>,
    /// RTP packets from it.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Packets that are missing.
    pub lost: u64,
    /// Interarrival jitter (microseconds).
    pub jitter_us: u64,
    /// Packets to its ports that were not its: from elsewhere, or no RTP that it may send.
    pub refused: u64,
}

/// How much there is to do, and what was done and not done since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// 0: nothing is turned away, to 6: everything ([`pbx_core::overload`]).
    pub level: u8,
    /// How long the oldest message has been waiting (milliseconds).
    pub queue_delay_ms: u64,
    /// Bytes that the daemon uses.
    pub memory_bytes: u64,
    /// Bytes that it may use; 0: nobody set a limit.
    pub memory_limit_bytes: u64,
    /// Contacts that are registered now.
    pub registrations: u64,
    /// Calls that go on.
    pub calls: u64,
    /// Calls that were refused because no media port was free.
    pub calls_without_port: u64,
    /// The relay of media.
    #[serde(default)]
    pub media: RelayStatus,
    /// Addresses from which a password was proved.
    pub known_sources: u64,
    /// Messages that were handled.
    pub handled: u64,
    /// Requests that were turned away because there was too much to do, by class
    /// ([`pbx_core::overload::Class::name`]); classes that never counted are left out.
    pub shed: Vec<(String, u64)>,
    /// Messages that went no further than the gate, by reason ([`pbx_core::gate::Why::name`]); reasons that never
    /// counted are left out.
    pub refused: Vec<(String, u64)>,
    /// Changes of registrations, known sources and call records that are not stored yet.
    pub unsaved: u64,
}

/// The signalling side: transports, registrar, calls.
pub trait Signalling: Send + Sync {
    /// A certificate for a transport that was given none: self-signed, with a new key.
    fn self_signed(&self) -> anyhow::Result<CertificatePair>;
    /// Whether certificates and key can be read and belong together; asked before anything is stored. What an
    /// administrator should know comes back: one sentence each, and it is used nevertheless.
    fn check_certificate(&self, pair: &CertificatePair) -> anyhow::Result<Vec<String>>;
    /// Opens a transport, or changes the open one of this number. On an error what was open stays as it was.
    /// Nothing on other transports is disturbed.
    fn open(&self, transport: &Transport) -> anyhow::Result<()>;
    /// Closes a transport and its connections.
    fn close(&self, id: TransportId) -> anyhow::Result<()>;
    /// How a transport is; none: it was never opened.
    fn transport(&self, id: TransportId) -> Option<TransportStatus>;
    /// Takes over the whole directory. Contacts of extensions that are gone, disabled or whose password changed end.
    fn directory(&self, directory: Arc<Directory>);
    /// Takes over the whole settings.
    fn settings(&self, settings: &Settings);
    /// Every contact that is registered now.
    fn registrations(&self) -> anyhow::Result<Vec<Registration>>;
    /// The contacts of one extension.
    fn registrations_of(&self, extension: ExtensionId) -> anyhow::Result<Vec<Registration>>;
    /// How many contacts each extension has that has any.
    fn registered(&self) -> anyhow::Result<Vec<(ExtensionId, usize)>>;
    /// Ends a registration. `false`: there was none.
    fn drop_registration(&self, id: &str) -> anyhow::Result<bool>;
    /// Asks a phone whether it is there, over the flow of its registration. Blocks until it answers, 32 s at most.
    /// The error is a [`PingError`](pbx_core::pbx::PingError), or signalling has ended.
    fn ping(&self, id: &str) -> anyhow::Result<Pinged>;
    /// Every call that goes on, oldest first.
    fn calls(&self) -> anyhow::Result<Vec<Call>>;
    /// One of them; none: it has ended, or never was.
    fn call(&self, id: &str) -> anyhow::Result<Option<Call>>;
    /// Ends a call. `false`: there was none.
    fn hang_up(&self, id: &str) -> anyhow::Result<bool>;
    /// Where messages are shown to whoever wants to look on.
    fn trace(&self) -> Trace;
    /// How much there is to do. Cheap: it is asked by whoever watches. The error: signalling does not answer.
    fn load(&self) -> anyhow::Result<Load>;
    /// Who proved a password from this address in the last 30 days, and when last.
    fn known(&self, address: IpAddr) -> anyhow::Result<Vec<(ExtensionId, Timestamp)>>;
}

/// A signalling side that there is not: nothing listens and nobody registers. What operations change is only stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disabled;

impl Disabled {
    const WHY: &str = "the signalling side is not running";
}

impl Signalling for Disabled {
    fn self_signed(&self) -> anyhow::Result<CertificatePair> {
        anyhow::bail!(Self::WHY)
    }

    fn check_certificate(&self, _: &CertificatePair) -> anyhow::Result<Vec<String>> {
        anyhow::bail!(Self::WHY)
    }

    fn open(&self, _: &Transport) -> anyhow::Result<()> {
        anyhow::bail!(Self::WHY)
    }

    fn close(&self, _: TransportId) -> anyhow::Result<()> {
        Ok(())
    }

    fn transport(&self, _: TransportId) -> Option<TransportStatus> {
        None
    }

    fn directory(&self, _: Arc<Directory>) {}

    fn settings(&self, _: &Settings) {}

    fn registrations(&self) -> anyhow::Result<Vec<Registration>> {
        Ok(Vec::new())
    }

    fn registrations_of(&self, _: ExtensionId) -> anyhow::Result<Vec<Registration>> {
        Ok(Vec::new())
    }

    fn registered(&self) -> anyhow::Result<Vec<(ExtensionId, usize)>> {
        Ok(Vec::new())
    }

    fn drop_registration(&self, _: &str) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn ping(&self, _: &str) -> anyhow::Result<Pinged> {
        anyhow::bail!(Self::WHY)
    }

    fn calls(&self) -> anyhow::Result<Vec<Call>> {
        Ok(Vec::new())
    }

    fn call(&self, _: &str) -> anyhow::Result<Option<Call>> {
        Ok(None)
    }

    fn hang_up(&self, _: &str) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn trace(&self) -> Trace {
        Trace::default()
    }

    fn load(&self) -> anyhow::Result<Load> {
        Ok(Load::default())
    }

    fn known(&self, _: IpAddr) -> anyhow::Result<Vec<(ExtensionId, Timestamp)>> {
        Ok(Vec::new())
    }
}
