//! The web server's certificate: made by the daemon itself at its first start, replaced by hand, presented to new
//! connections at once.

use std::{
    fmt,
    sync::{Arc, MutexGuard, PoisonError},
};

use rustls::ServerConfig;
use serde::{Deserialize, Serialize};

use super::{CertificateView, Context, OpError, Operations, SetCertificate, accounts::Wording, transports::given_pair};
use crate::{
    net::{certificate, tls},
    signalling::CertificatePair,
    store::{EventKind, StoredCertificate},
};

/// What its certificate is called in answers.
const ID: &str = "web";
/// Where its key is sealed.
const KEY_PLACE: &str = "web/key";

/// What the web server presents.
pub(super) struct Presenting {
    chain: String,
    certified: Arc<tls::Presented>,
}

impl fmt::Debug for Presenting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presenting(a certificate)")
    }
}

/// The answer to a change of the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// Nothing was changed.
    pub dry_run: bool,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// The certificate.
    pub item: CertificateView,
}

impl Operations {
    /// TLS as the web server speaks it, with the stored certificate. The first start makes one; one that cannot be
    /// used any more is replaced, because a portal with another certificate is of more use than none, and told.
    pub async fn web_tls(&self) -> Result<Arc<ServerConfig>, OpError> {
        let _changing = self.inner.changing.lock().await;
        let stored = self.store().web_certificate().await?;
        let usable = stored.as_ref().map(|stored| self.opened_certificate(stored));
        let (chain, checked) = match usable {
            Some(Ok(usable)) => usable,
            unusable => {
                let pair = self.own_certificate().await?;
                let checked = self.checked_certificate(&pair)?;
                self.store().set_web_certificate(&self.sealed_certificate(&pair)?, None).await?;
                if let Some(Err(error)) = unusable {
                    let message = format!("the web server presents a new certificate of its own: {}", error.message);
                    self.tell(EventKind::Certificate, message).await;
                }
                (pair.chain, checked)
            }
        };
        let presented = Arc::new(tls::Presented::new(checked.certified));
        let mut config = tls::config(Arc::clone(&presented))
            .map_err(|error| OpError::internal(format!("TLS cannot be set up: {error}")))?;
        Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
        *self.presenting() = Some(Presenting { chain, certified: presented });
        Ok(config)
    }

    /// The web server's certificate; its key is never shown. None before there is a web server.
    pub fn web_certificate(&self) -> Option<CertificateView> {
        self.presenting().as_ref().map(|presenting| CertificateView::of(ID.to_owned(), Some(presenting.chain.clone())))
    }

    /// Presents another certificate from now on: that of the request, or a self-signed one. Connections go on.
    pub async fn set_web_certificate(
        &self,
        context: &Context,
        request: SetCertificate,
    ) -> Result<CertificateAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let SetCertificate { certificate, private_key, dry_run } = request;
            let Some(before) = operations.web_certificate() else {
                return Err(OpError::refused(
                    "there is no web server to present it: name an address in `[web] listen` of the configuration file",
                ));
            };
            let pair = match given_pair(certificate, private_key)? {
                Some(pair) => pair,
                None => operations.own_certificate().await?,
            };
            let checked = operations.checked_certificate(&pair)?;
            let item = CertificateView::of(ID.to_owned(), Some(pair.chain.clone()));
            if !dry_run {
                let json = |view: &CertificateView| serde_json::to_string(view).ok();
                let wording = Wording {
                    verb: "web.certificate",
                    object: ID.to_owned(),
                    before: json(&before),
                    after: json(&item),
                    sentence: format!("{} replaced the certificate of the web server", context.actor),
                };
                let (audit, event) = wording.rows(&context, operations.now(), EventKind::Certificate);
                operations.store().set_web_certificate(&operations.sealed_certificate(&pair)?, Some(&audit)).await?;
                if let Some(presenting) = operations.presenting().as_mut() {
                    presenting.certified.replace(Arc::clone(&checked.certified));
                    presenting.chain = pair.chain;
                }
                operations.record(vec![event]).await;
            }
            Ok(CertificateAnswer { dry_run, notes: checked.warnings, item })
        })
        .await
    }

    /// One that signs itself, for this machine.
    async fn own_certificate(&self) -> Result<CertificatePair, OpError> {
        let made = tokio::task::spawn_blocking(certificate::of_this_machine).await;
        made.map_err(anyhow::Error::from)
            .flatten()
            .map_err(|error| OpError::internal(format!("no certificate could be made: {error:#}")))
    }

    fn presenting(&self) -> MutexGuard<'_, Option<Presenting>> {
        self.inner.web.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened_certificate(&self, stored: &StoredCertificate) -> Result<(String, certificate::Checked), OpError> {
        let key = self.secrets().unseal(KEY_PLACE, &stored.sealed_key)?;
        let pair = CertificatePair { chain: stored.chain.clone(), key };
        let checked = self.checked_certificate(&pair)?;
        Ok((pair.chain, checked))
    }

    fn checked_certificate(&self, pair: &CertificatePair) -> Result<certificate::Checked, OpError> {
        certificate::check(pair, self.now()).map_err(|error| OpError::usage(error.to_string()))
    }

    fn sealed_certificate(&self, pair: &CertificatePair) -> Result<StoredCertificate, OpError> {
        let sealed_key = self.secrets().seal(KEY_PLACE, &pair.key)?;
        Ok(StoredCertificate { chain: pair.chain.clone(), sealed_key, created_at: self.now() })
    }
}
