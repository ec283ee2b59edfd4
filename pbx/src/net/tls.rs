//! TLS as SIP gets it here: versions 1.2 and 1.3, suites with forward secrecy and authenticated encryption only, and a
//! certificate that can be replaced while handshakes go on. No client certificates are asked for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The suites, strongest first. AES in Galois mode and ChaCha20-Poly1305, keys by ECDHE.
const SUITES: [CipherSuite; 9] = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// The cryptography that TLS uses.
pub fn provider() -> CryptoProvider {
    let all = ring::default_provider();
    let named = |suite: &CipherSuite| all.cipher_suites.iter().find(|known| known.suite() == *suite).copied();
    CryptoProvider { cipher_suites: SUITES.iter().filter_map(named).collect(), ..all }
}

/// The certificate that new handshakes get.
#[derive(Debug)]
pub struct Presented(ArcSwap<CertifiedKey>);

impl Presented {
    /// Presents this one.
    pub fn new(certificate: Arc<CertifiedKey>) -> Self {
        Self(ArcSwap::new(certificate))
    }

    /// From now on presents this one. Connections that exist stay.
    pub fn replace(&self, certificate: Arc<CertifiedKey>) {
        self.0.store(certificate);
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The server's side, presenting what `presented` holds.
pub fn config(presented: Arc<Presented>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(&versions)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(presented);
    // A phone that comes back resumes by a ticket that it keeps itself: nothing is stored here for who never returns.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    // The server's order is by strength, but a phone without AES instructions may prefer ChaCha20.
    config.ignore_client_order = false;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_suites_are_there_and_no_others() {
        let provider = provider();
        let suites: Vec<_> = provider.cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(suites, SUITES);
    }
}
