//! The algorithms of a challenge.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A hash that credentials are made with (RFC 8760 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// What every phone has.
    Md5,
    /// What phones should have.
    Sha256,
}

impl Algorithm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Md5, Self::Sha256];

    /// The token in a challenge.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The name in settings and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is none of an algorithm's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no algorithm: write md5 or sha256")]
pub struct NoSuchAlgorithm(String);

impl FromStr for Algorithm {
    type Err = NoSuchAlgorithm;

    fn from_str(text: &str) -> Result<Self, NoSuchAlgorithm> {
        let named = |algorithm: &Self| algorithm.name().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(named).ok_or_else(|| NoSuchAlgorithm(text.chars().take(20).collect()))
    }
}

/// What credentials say they were made with: an algorithm, and whether its secret is of one session (RFC 7616 §3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The hash.
    pub algorithm: Algorithm,
    /// `-sess`: nonce and cnonce are hashed into the secret. Never offered; understood, since some phones prefer it.
    pub session: bool,
}

impl Scheme {
    /// The scheme of an `algorithm` parameter, in any case; none means MD5 (RFC 7616 §3.3). `SHA256` is what some
    /// phones write for `SHA-256`. `None` for every other.
    pub fn of(token: Option<&[u8]>) -> Option<Self> {
        let Some(token) = token else { return Some(Self { algorithm: Algorithm::Md5, session: false }) };
        let (name, session) = match token.split_last_chunk::<5>() {
            Some((name, ending)) if ending.eq_ignore_ascii_case(b"-sess") => (name, true),
            _ => (token, false),
        };
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        let algorithm = if is("MD5") {
            Algorithm::Md5
        } else if is("SHA-256") || is("SHA256") {
            Algorithm::Sha256
        } else {
            return None;
        };
        Some(Self { algorithm, session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_in_any_case_and_without_the_hyphen() {
        let scheme = |token: &str| Scheme::of(Some(token.as_bytes()));
        for token in ["SHA-256", "sha-256", "SHA256", "sha256"] {
            assert_eq!(scheme(token), Some(Scheme { algorithm: Algorithm::Sha256, session: false }), "{token}");
        }
        assert_eq!(scheme("md5-sess"), Some(Scheme { algorithm: Algorithm::Md5, session: true }));
        assert_eq!(scheme("SHA256-sess"), Some(Scheme { algorithm: Algorithm::Sha256, session: true }));
        for token in ["", "-sess", "MD4", "SHA-512-256", "MD5-sess-sess", "AKAv1-MD5", "MD5 "] {
            assert_eq!(scheme(token), None, "{token}");
        }
    }

    #[test]
    fn no_token_means_md5() {
        assert_eq!(Scheme::of(None), Some(Scheme { algorithm: Algorithm::Md5, session: false }));
    }
}
