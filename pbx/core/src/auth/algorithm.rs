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
