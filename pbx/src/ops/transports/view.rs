//! Transports as the API takes and shows them (`/transports`). Keys of certificates are never shown.

use pbx_core::{auth::Algorithm, time::Timestamp, transport::Protocol};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use crate::{
    filter::{Finding, Severity},
    net::certificate,
    ops::{
        Did,
        query::{Kind, Row, Value},
    },
    signalling::TransportStatus,
    store::StoredTransport,
};

/// A transport to make.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddTransport {
    /// UDP, TCP or TLS.
    pub protocol: String,
    /// The port that it listens on.
    pub port: u32,
    /// The port by which peers beyond the router reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<u32>,
    /// Digest algorithms in the order in which they are offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<Vec<String>>,
    /// Whether phones are asked for certificates: `DISABLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<String>,
    /// Certificates of TLS (PEM, the leaf first); self-signed ones are made when none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Their key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What to change in a transport; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateTransport {
    /// The port that it listens on.
    pub port: Option<u32>,
    /// The port by which peers beyond the router reach it; 0: the same.
    pub external_port: Option<u32>,
    /// Digest algorithms in the order in which they are offered.
    pub algorithms: Option<Vec<String>>,
    /// Whether phones are asked for certificates: `DISABLE`.
    pub verification: Option<String>,
    /// Only say what would change.
    pub dry_run: bool,
}

/// Other certificates for a TLS transport: both fields, or neither for self-signed ones.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetCertificate {
    /// Certificates (PEM, the leaf first).
    pub certificate: Option<String>,
    /// Their key (PEM).
    pub private_key: Option<String>,
    /// Only say whether they would do.
    pub dry_run: bool,
}

impl std::fmt::Debug for AddTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddTransport")
            .field("protocol", &self.protocol)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SetCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetCertificate").finish_non_exhaustive()
    }
}

/// A transport as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportView {
    /// Opaque; nothing while the transport is only thought of.
    pub id: Option<String>,
    /// UDP, TCP or TLS.
    pub protocol: Protocol,
    /// The port that it listens on.
    pub port: u16,
    /// The port by which peers beyond the router reach it; nothing: the same.
    pub external_port: Option<u16>,
    /// Digest algorithms in the order in which they are offered.
    pub algorithms: Vec<Algorithm>,
    /// Whether phones are asked for certificates.
    pub verification: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The certificates of a transport, or of the web server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// The transport's; `web` is the web server's.
    pub id: String,
    /// PEM, the leaf first; nothing before a TLS transport was opened for the first time.
    pub certificate: Option<String>,
    /// Whom the leaf is for.
    pub subject: Option<String>,
    /// Who signed it.
    pub issuer: Option<String>,
    /// The names and addresses that it is good for.
    pub names: Vec<String>,
    /// From when.
    pub not_before: Option<Timestamp>,
    /// Until when.
    pub not_after: Option<Timestamp>,
    /// Its SHA-256, as browsers show it.
    pub fingerprint: Option<String>,
}

/// The answer to a change of a transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportAnswer {
    /// What became of it, or under `dry_run` would.
    pub did: Did,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// The transport.
    pub item: TransportView,
}

/// Whether a transport can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransportState {
    /// It listens.
    Activated,
    /// It does not; `problem` says why.
    Deactivated,
}

/// How a transport is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportStatusView {
    /// The transport's.
    pub id: String,
    /// UDP, TCP or TLS.
    pub protocol: Protocol,
    /// The port that it listens on.
    pub port: u16,
    /// Whether it listens.
    pub state: TransportState,
    /// Why not.
    pub problem: Option<String>,
    /// Open connections, of a stream transport.
    pub connections: u64,
    /// Messages received since it was opened.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages dropped or refused, by reason.
    pub dropped: Vec<(String, u64)>,
}

impl TransportView {
    pub(in crate::ops) fn of(stored: &StoredTransport) -> Self {
        let StoredTransport { id, protocol, port, external_port, algorithms, verification, created_at, .. } = stored;
        Self {
            id: Some(id.0.to_string()),
            protocol: *protocol,
            port: *port,
            external_port: *external_port,
            algorithms: algorithms.clone(),
            verification: verification.clone(),
            created_at: *created_at,
        }
    }
}

impl CertificateView {
    /// What the leaf of `certificate`, a chain as PEM, says.
    pub(in crate::ops) fn of(id: String, certificate: Option<String>) -> Self {
        let leaf = certificate.as_deref().and_then(|chain| CertificateDer::from_pem_slice(chain.as_bytes()).ok());
        let facts = leaf.and_then(|leaf| certificate::facts(&leaf));
        let Some(certificate::Facts { subject, issuer, names, not_before, not_after, fingerprint, .. }) = facts else {
            return Self {
                id,
                certificate,
                subject: None,
                issuer: None,
                names: Vec::new(),
                not_before: None,
                not_after: None,
                fingerprint: None,
            };
        };
        Self {
            id,
            certificate,
            subject: Some(subject),
            issuer: Some(issuer),
            names,
            not_before: Some(not_before),
            not_after: Some(not_after),
            fingerprint: Some(fingerprint),
        }
    }
}

impl TransportStatusView {
    pub(in crate::ops) fn of(stored: &StoredTransport, status: Option<TransportStatus>) -> Self {
        let unopened = || TransportStatus {
            listening: false,
            problem: Some("it could not be opened when the daemon started; `pbx events` says why".to_owned()),
            connections: 0,
            received: 0,
            sent: 0,
            dropped: Vec::new(),
        };
        let TransportStatus { listening, problem, connections, received, sent, dropped } =
            status.unwrap_or_else(unopened);
        Self {
            id: stored.id.0.to_string(),
            protocol: stored.protocol,
            port: stored.port,
            state: if listening { TransportState::Activated } else { TransportState::Deactivated },
            problem,
            connections,
            received,
            sent,
            dropped,
        }
    }
}

impl TransportStatusView {
    /// What the doctor says about it.
    pub(in crate::ops) fn finding(&self) -> Finding {
        let subject = format!("transport {} {}", self.protocol, self.port);
        let (severity, message, advice) = match self.state {
            TransportState::Activated => (Severity::Ok, "listens".to_owned(), None),
            TransportState::Deactivated => {
                let flag = if self.protocol == Protocol::Udp { "-lunp" } else { "-ltnp" };
                let message = self.problem.clone().unwrap_or_else(|| "does not listen".to_owned());
                (Severity::Error, message, Some(format!("ss {flag} 'sport = :{}'", self.port)))
            }
        };
        Finding { severity, subject, message, advice }
    }
}

impl Row for TransportView {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("protocol", Kind::Text),
        ("port", Kind::Number),
        ("external_port", Kind::Number),
        ("algorithms", Kind::Text),
        ("verification", Kind::Text),
        ("created_at", Kind::Time),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => self.id.as_deref().and_then(|id| id.parse().ok()).map_or(Value::Null, Value::Number),
            1 => Value::Text(self.protocol.token().into()),
            2 => Value::Number(self.port.into()),
            3 => self.external_port.map_or(Value::Null, |port| Value::Number(port.into())),
            4 => Value::Text(self.algorithms.iter().map(|one| one.name()).collect::<Vec<_>>().join(",").into()),
            5 => Value::Text(self.verification.as_str().into()),
            _ => Value::Time(self.created_at),
        }
    }
}
