//! The header lines of a challenge (RFC 3261 §20.27 and §20.44, RFC 8760 §2). Knows no users: what is written depends
//! on the realm, the transport's algorithms and the nonce alone, so that it tells nobody who exists.

use super::{Algorithm, Nonce};

/// The header that a challenge stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `WWW-Authenticate`, in a 401: of a registrar.
    Www,
    /// `Proxy-Authenticate`, in a 407: of a proxy, for all other requests.
    Proxy,
}

impl Header {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Www => "WWW-Authenticate",
            Self::Proxy => "Proxy-Authenticate",
        }
    }

    /// The name of the header that answers.
    pub const fn answer(self) -> &'static str {
        match self {
            Self::Www => "Authorization",
            Self::Proxy => "Proxy-Authorization",
        }
    }

    /// The status of the response that has it.
    pub const fn status(self) -> u16 {
        match self {
            Self::Www => 401,
            Self::Proxy => 407,
        }
    }
}

/// A challenge.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// Where it stands.
    pub header: Header,
    /// Whose credentials are asked for; see [`check_realm`].
    pub realm: &'a str,
    /// The nonce, the same for every algorithm: only one is answered.
    pub nonce: Nonce,
    /// The transport's algorithms, the preferred one first.
    pub algorithms: &'a [Algorithm],
    /// The credentials were right but not fresh: the phone need not ask its user again.
    pub stale: bool,
}

impl Challenge<'_> {
    /// Appends a header line for each algorithm, each with its CRLF: some phones read only the first.
    pub fn write(&self, out: &mut Vec<u8>) {
        for algorithm in self.algorithms {
            out.extend_from_slice(self.header.name().as_bytes());
            out.extend_from_slice(b": Digest realm=\"");
            quote(self.realm, out);
            out.extend_from_slice(b"\", nonce=\"");
            out.extend_from_slice(self.nonce.as_bytes());
            out.extend_from_slice(b"\", algorithm=");
            out.extend_from_slice(algorithm.token().as_bytes());
            out.extend_from_slice(b", qop=\"auth\"");
            if self.stale {
                out.extend_from_slice(b", stale=true");
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Quoted pairs where they are needed; no control character, whatever the realm is, can end the line.
fn quote(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes().filter(|byte| !byte.is_ascii_control()) {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// A realm that phones would disagree on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the realm {0:?} is not usable: write 1 to 128 printable ASCII characters without \" and \\")]
pub struct RealmError(String);

/// Whether a realm means the same bytes to every phone: some hash quoted pairs as they are written, others without
/// the backslash, and not all know UTF-8.
pub fn check_realm(realm: &str) -> Result<(), RealmError> {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if (1..=128).contains(&realm.len()) && realm.bytes().all(fits) && realm.trim() == realm {
        return Ok(());
    }
    Err(RealmError(realm.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{Key, Keys},
        moment::Moment,
    };

    fn nonce() -> Nonce {
        Keys { current: Key::new(&[7; 32]), former: None }.sign("pbx.example.com", Moment::ZERO, 1)
    }

    fn written(challenge: Challenge<'_>) -> String {
        let mut out = Vec::new();
        challenge.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn challenge<'a>(realm: &'a str, algorithms: &'a [Algorithm]) -> Challenge<'a> {
        Challenge { header: Header::Www, realm, nonce: nonce(), algorithms, stale: false }
    }

    #[test]
    fn each_algorithm_has_a_line_of_its_own_in_the_order_of_the_transport() {
        let lines = written(challenge("pbx.example.com", &[Algorithm::Sha256, Algorithm::Md5]));
        let nonce = nonce();
        assert_eq!(
            lines,
            format!(
                "WWW-Authenticate: Digest realm=\"pbx.example.com\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"\r\n\
                 WWW-Authenticate: Digest realm=\"pbx.example.com\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"\r\n"
            )
        );
    }

    #[test]
    fn a_proxy_challenges_in_its_own_header_and_says_when_only_the_nonce_was_old() {
        let algorithms = [Algorithm::Md5];
        let lines = written(Challenge { header: Header::Proxy, stale: true, ..challenge("a", &algorithms) });
        assert!(lines.starts_with("Proxy-Authenticate: Digest realm=\"a\", "), "{lines}");
        assert!(lines.ends_with(", algorithm=MD5, qop=\"auth\", stale=true\r\n"), "{lines}");
    }

    #[test]
    fn a_realm_cannot_leave_its_quotes_or_its_line() {
        let lines = written(challenge("a\"b\\c\r\nVia: x", &[Algorithm::Md5]));
        assert!(lines.contains("realm=\"a\\\"b\\\\cVia: x\","), "{lines}");
        assert_eq!(lines.lines().count(), 1);
    }

    #[test]
    fn a_realm_of_printable_ascii_is_usable() {
        for realm in ["pbx.example.com", "Company Ltd", &"a".repeat(128)] {
            assert_eq!(check_realm(realm), Ok(()), "{realm}");
        }
        for realm in ["", " a", "a\"b", "a\\b", "a\nb", "Zürich", &"a".repeat(129)] {
            assert!(check_realm(realm).is_err(), "{realm}");
        }
        assert!(check_realm("Zürich").unwrap_err().to_string().contains("1 to 128 printable ASCII"));
    }
}
