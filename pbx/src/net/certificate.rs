//! Certificates of TLS transports: what an administrator gives is checked before anything uses it, and a first one is
//! made by the daemon itself. Stores nothing.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pbx_core::time::Timestamp;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::tls;
use crate::{host::Snapshot, signalling::CertificatePair};

/// The longest PEM text that is looked at (bytes): a chain of a few certificates has less.
const LONGEST: usize = 256 << 10;

/// A certificate that has been checked, ready to be presented.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The chain and its key.
    pub certified: Arc<CertifiedKey>,
    /// What it says.
    pub facts: Facts,
    /// What an administrator should know: it is used nevertheless.
    pub warnings: Vec<String>,
}

/// What the leaf of a chain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whom it is for, as a distinguished name.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses that it is good for.
    pub names: Vec<String>,
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// SHA-256 of it, as hexadecimal pairs with colons, like browsers and openssl show it.
    pub fingerprint: String,
    /// It is its own issuer.
    pub is_self_signed: bool,
}

/// Why a certificate can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Far more than a chain.
    #[error("{field}: {length} bytes are too long: at most {LONGEST}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// No certificate is in it.
    #[error("certificate: no \"BEGIN CERTIFICATE\" block in it: give the chain as PEM, the server's own one first")]
    NoCertificate,
    /// A block is damaged.
    #[error("{field}: this is not valid PEM: {detail}")]
    NotPem {
        /// Which field.
        field: &'static str,
        /// What the reader said.
        detail: String,
    },
    /// A block holds no certificate.
    #[error("certificate: number {number} of the chain can not be read")]
    Unreadable {
        /// Counted from 1.
        number: usize,
    },
    /// A key that needs a pass phrase.
    #[error("private key: it is encrypted: remove the pass phrase, for example with \"openssl pkey -in key.pem\"")]
    Encrypted,
    /// No key is in it.
    #[error("private key: no \"BEGIN PRIVATE KEY\" block in it: give it as PEM (PKCS#8, PKCS#1 or SEC1)")]
    NoKey,
    /// A key of a kind that TLS does not use here.
    #[error("private key: its kind is not supported: use ECDSA (P-256, P-384), Ed25519 or RSA of 2048 to 8192 bits")]
    UnsupportedKey,
    /// The key is of another certificate.
    #[error("private key: it does not belong to the certificate: give the key that the certificate was requested with")]
    Mismatch,
}

/// Checks a chain and its key. An expired one is warned of, not refused: phones often do not look, and a transport
/// that is closed helps nobody.
pub fn check(pair: &CertificatePair, now: Timestamp) -> Result<Checked, CertificateError> {
    for (field, text) in [("certificate", &pair.chain), ("private key", &pair.key)] {
        if text.len() > LONGEST {
            return Err(CertificateError::TooLong { field, length: text.len() });
        }
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| CertificateError::NotPem { field: "certificate", detail: error.to_string() })?;
    let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
    let facts = facts(leaf).ok_or(CertificateError::Unreadable { number: 1 })?;
    for (index, certificate) in chain.iter().enumerate().skip(1) {
        parse(certificate).ok_or(CertificateError::Unreadable { number: index + 1 })?;
    }
    let key = key(&pair.key)?;
    let provider = tls::provider();
    let key = provider.key_provider.load_private_key(key).map_err(|_| CertificateError::UnsupportedKey)?;
    let certified = CertifiedKey::new(chain.clone(), key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => (),
        Err(rustls::Error::InconsistentKeys(_)) => return Err(CertificateError::Mismatch),
        Err(_) => return Err(CertificateError::Unreadable { number: 1 }),
    }
    let warnings = warnings(&facts, now);
    Ok(Checked { certified: Arc::new(certified), facts, warnings })
}

/// Makes a certificate that signs itself, good for these names and addresses for ten years: ECDSA on P-256, which every
/// phone with TLS 1.2 knows. `names` that are none are left out.
pub fn self_signed(common_name: &str, names: &[String], addresses: &[IpAddr]) -> anyhow::Result<CertificatePair> {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    // Phones' clocks may be slow.
    params.not_before = (now - Duration::from_secs(24 * 3600)).into();
    params.not_after = (now + Duration::from_secs(3650 * 24 * 3600)).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let names = names.iter().filter_map(|name| name.as_str().try_into().ok().map(SanType::DnsName));
    params.subject_alt_names = names.chain(addresses.iter().copied().map(SanType::IpAddress)).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok(CertificatePair { chain: certificate.pem(), key: key.serialize_pem() })
}

/// The same for this machine: its name, and the addresses that it has now.
pub fn of_this_machine() -> anyhow::Result<CertificatePair> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.filter(|name| !name.is_empty()).unwrap_or_else(|| "pbx".to_owned());
    let addresses = Snapshot::read().map(|snapshot| snapshot.addresses).unwrap_or_default();
    let addresses: Vec<IpAddr> = addresses.into_iter().map(|address| address.addr).collect();
    self_signed(&host, std::slice::from_ref(&host), &addresses)
}

/// What the first certificate of a chain says; none: it can not be read.
pub fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let parsed = parse(certificate)?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1000));
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let names = alternative.map(|names| names.value.general_names.iter().filter_map(name).collect());
    Some(Facts {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names: names.unwrap_or_default(),
        not_before: time(parsed.validity().not_before),
        not_after: time(parsed.validity().not_after),
        fingerprint: fingerprint(certificate),
        is_self_signed: parsed.subject() == parsed.issuer(),
    })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    rest.is_empty().then_some(parsed)
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|four| IpAddr::from(four).to_string())
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|sixteen| IpAddr::from(sixteen).to_string()))
            .ok(),
        _ => None,
    }
}

fn fingerprint(certificate: &[u8]) -> String {
    let provider = tls::provider();
    let hash = provider.cipher_suites.iter().find_map(|suite| {
        let hash = suite.tls13()?.common.hash_provider;
        (hash.output_len() == 32).then(|| hash.hash(certificate))
    });
    let pairs = hash.iter().flat_map(|hash| hash.as_ref()).map(|byte| format!("{byte:02X}"));
    pairs.collect::<Vec<_>>().join(":")
}

fn key(text: &str) -> Result<PrivateKeyDer<'static>, CertificateError> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateError::Encrypted);
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => CertificateError::NoKey,
        // The detail may quote what is there, which is secret.
        _ => CertificateError::NotPem {
            field: "private key",
            detail: "a line or the end of its block is damaged".into(),
        },
    })
}

fn warnings(facts: &Facts, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    if now >= facts.not_after {
        warnings.push(format!("the certificate expired on {}: phones that check it will not connect", facts.not_after));
    } else if now < facts.not_before {
        warnings.push(format!("the certificate is valid from {} only", facts.not_before));
    } else if facts.not_after.as_millis() - now.as_millis() < 30 * 24 * 3_600_000 {
        warnings.push(format!("the certificate expires on {}", facts.not_after));
    }
    if facts.names.is_empty() {
        warnings.push("the certificate names no host or address: phones that check it will not connect".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::from_millis(since.as_millis().try_into().unwrap())
    }

    fn own() -> CertificatePair {
        self_signed(
            "pbx",
            &["pbx.example.com".into(), "not a name".into()],
            &["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        )
        .unwrap()
    }

    #[test]
    fn the_certificate_of_our_own_making_passes_and_says_what_it_is() {
        let checked = check(&own(), now()).unwrap();
        let Facts { subject, names, not_after, fingerprint, is_self_signed, .. } = checked.facts;
        assert_eq!((subject.as_str(), is_self_signed), ("CN=pbx", true));
        assert!(
            names.starts_with(&["pbx.example.com".to_owned()])
                && names.ends_with(&["192.0.2.1".to_owned(), "2001:db8::1".to_owned()]),
            "{names:?}"
        );
        assert_eq!(fingerprint.split(':').count(), 32);
        let years = (not_after.as_millis() - now().as_millis()) / (365 * 24 * 3_600_000);
        assert!((9..=10).contains(&years) && checked.warnings.is_empty(), "{:?}", checked.warnings);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (good, other) = (own(), own());
        let with = |chain: &str, key: &str| {
            let pair = CertificatePair { chain: chain.to_owned(), key: key.to_owned() };
            check(&pair, now()).unwrap_err()
        };
        assert_eq!(with(&good.chain, &other.key), CertificateError::Mismatch);
        assert_eq!(with("", &good.key), CertificateError::NoCertificate);
        assert_eq!(with(&good.key, &good.key), CertificateError::NoCertificate);
        assert_eq!(with(&good.chain, ""), CertificateError::NoKey);
        assert_eq!(with(&good.chain, &good.chain), CertificateError::NoKey);
        let encrypted = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(with(&good.chain, &encrypted), CertificateError::Encrypted);
        let cut = &good.chain[..good.chain.len() / 2];
        assert!(matches!(
            with(cut, &good.key),
            CertificateError::NotPem { field: "certificate", .. } | CertificateError::NoCertificate
        ));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(with(nonsense, &good.key), CertificateError::Unreadable { number: 1 });
        assert_eq!(with(&format!("{}{nonsense}", good.chain), &good.key), CertificateError::Unreadable { number: 2 });
        let short = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(with(&good.chain, short), CertificateError::UnsupportedKey);
        assert!(matches!(with(&" ".repeat(LONGEST + 1), ""), CertificateError::TooLong { field: "certificate", .. }));
    }

    #[test]
    fn an_expired_certificate_is_warned_of() {
        let pair = own();
        let later = |years: i64| Timestamp::from_millis(now().as_millis() + years * 365 * 24 * 3_600_000);
        assert!(check(&pair, later(11)).unwrap().warnings[0].contains("expired"));
        assert!(check(&pair, later(-1)).unwrap().warnings[0].contains("valid from"));
    }
}
