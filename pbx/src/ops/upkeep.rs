//! What wears out while nobody looks: certificates end, disks fill up. Told once when it begins to matter.

use std::time::Duration;

use pbx_core::time::{Timestamp, format_duration};

use super::{CertificateView, Operations};
use crate::{host::disk::Disk, store::EventKind};

/// What of a certificate's time may be left when somebody is told, the longest first.
const WARNINGS: [Duration; 4] =
    [Duration::from_secs(30 * 86_400), Duration::from_secs(7 * 86_400), Duration::from_secs(86_400), Duration::ZERO];

/// What somebody was told of already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Worn {
    disk: bool,
    /// Fingerprint and how many warnings there were.
    certificates: std::collections::BTreeMap<String, usize>,
}

/// Who presents a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The transport on this port.
    Tls(u16),
    /// The web server.
    Web,
}

impl Owner {
    const fn who(self) -> &'static str {
        match self {
            Self::Tls(_) => "phones",
            Self::Web => "browsers",
        }
    }

    /// The command that has a certificate of it.
    const fn noun(self) -> &'static str {
        match self {
            Self::Tls(_) => "transport",
            Self::Web => "web",
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls(port) => write!(f, "TLS {port}"),
            Self::Web => f.write_str("the web server"),
        }
    }
}

impl Operations {
    /// Looks at disk and certificates, and tells what is new. To be called now and then.
    pub async fn look_after(&self) {
        let now = self.now();
        let mut told: Vec<(EventKind, String)> = Vec::new();
        {
            let disk = self.disk();
            let mut certificates: Vec<(Owner, CertificateView)> = self
                .accounts()
                .transports()
                .filter(|transport| transport.chain.is_some())
                .map(|one| (Owner::Tls(one.port), CertificateView::of(one.id.0.to_string(), one.chain.clone())))
                .collect();
            certificates.extend(self.web_certificate().map(|certificate| (Owner::Web, certificate)));
            let mut worn = self.inner.worn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(disk) = disk {
                told.extend(worn.disk(disk).map(|message| (EventKind::Disk, message)));
            }
            let ending = worn.certificates(&certificates, now);
            told.extend(ending.into_iter().map(|message| (EventKind::Certificate, message)));
        }
        for (kind, message) in told {
            self.tell(kind, message).await;
        }
    }

    /// What should be said about the disk in the daemon's health.
    pub(super) fn disk_warning(&self) -> Option<String> {
        self.disk().filter(|disk| disk.is_nearly_full()).map(nearly_full)
    }

    fn disk(&self) -> Option<Disk> {
        match (self.inner.environment.disk)() {
            Ok(disk) => Some(disk),
            Err(error) => {
                tracing::info!(%error, "nobody knows how full the disk is");
                None
            }
        }
    }
}

impl Worn {
    fn disk(&mut self, disk: Disk) -> Option<String> {
        let full = disk.is_nearly_full();
        if std::mem::replace(&mut self.disk, full) == full {
            return None;
        }
        Some(if full { nearly_full(disk) } else { format!("the disk has room again: {} free", size(disk.free)) })
    }

    fn certificates(&mut self, certificates: &[(Owner, CertificateView)], now: Timestamp) -> Vec<String> {
        let mut told = Vec::new();
        let mut known = std::collections::BTreeMap::new();
        for (owner, certificate) in certificates {
            let (Some(end), Some(fingerprint)) = (certificate.not_after, &certificate.fingerprint) else { continue };
            let left = end.saturating_since(now);
            let warnings = WARNINGS.iter().filter(|warning| left <= **warning).count();
            let key = format!("{owner} {fingerprint}");
            let before = self.certificates.get(&key).copied().unwrap_or_default();
            if warnings > before {
                let when = if left.is_zero() {
                    format!("has ended, on {end}: {} refuse it", owner.who())
                } else {
                    format!("ends in {}, on {end}", format_duration(Duration::from_secs(left.as_secs() / 3600 * 3600)))
                };
                told.push(format!("the certificate of {owner} {when}; `pbx {} certificate` replaces it", owner.noun()));
            }
            known.insert(key, warnings);
        }
        self.certificates = known;
        told
    }
}

fn nearly_full(disk: Disk) -> String {
    format!(
        "the disk is nearly full: {} of {} free; free some, or nothing can be stored",
        size(disk.free),
        size(disk.size)
    )
}

fn size(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1_u32 << 30))
}
