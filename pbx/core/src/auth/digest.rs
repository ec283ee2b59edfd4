//! The arithmetic of Digest (RFC 7616 §3.4): secrets and responses. Under everything else in this module; knows
//! neither users nor nonces.

use std::{fmt, hint::black_box};

use md5::{Digest, Md5, digest::Output};
use sha2::Sha256;

use super::{Algorithm, Scheme};
use crate::directory::Ha1;

impl Ha1 {
    /// The secrets of a user in a realm, by every algorithm (RFC 7616 §3.4.2).
    pub fn of(user: &str, realm: &str, password: &str) -> Self {
        let parts = [user.as_bytes(), realm.as_bytes(), password.as_bytes()];
        Self { md5: hash::<Md5>(&parts).into(), sha256: hash::<Sha256>(&parts).into() }
    }
}

/// What a response proves, but for the secret. All bytes as they were received, quotes taken off: what a phone hashed
/// is what it wrote, not what we would have written.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// With which hash.
    pub scheme: Scheme,
    /// The method of the request.
    pub method: &'a [u8],
    /// The `uri` of the credentials; not the request URI, which a proxy may have changed.
    pub uri: &'a [u8],
    /// The nonce.
    pub nonce: &'a [u8],
    /// The client's nonce; empty without one, which only the oldest way of use has.
    pub cnonce: &'a [u8],
    /// How the nonce is used.
    pub used: Use<'a>,
}

/// How a nonce is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use<'a> {
    /// Without `qop`, as in RFC 2069: no count, so that a nonce serves once.
    Once,
    /// `qop=auth`: with a count, `nc` as it was written.
    Counted(&'a [u8]),
}

impl Proof<'_> {
    /// The response that the holder of the secret gives (RFC 7616 §3.4.1).
    pub fn response(&self, ha1: &Ha1) -> Response {
        match self.scheme.algorithm {
            Algorithm::Md5 => Response::of(&self.answer::<Md5>(&ha1.md5)),
            Algorithm::Sha256 => Response::of(&self.answer::<Sha256>(&ha1.sha256)),
        }
    }

    fn answer<H: Digest>(&self, ha1: &[u8]) -> Output<H> {
        let mut secret = Hex::of(ha1);
        if self.scheme.session {
            secret = Hex::of(&hash::<H>(&[secret.bytes(), self.nonce, self.cnonce]));
        }
        let request = Hex::of(&hash::<H>(&[self.method, self.uri]));
        match self.used {
            Use::Once => hash::<H>(&[secret.bytes(), self.nonce, request.bytes()]),
            Use::Counted(count) => {
                hash::<H>(&[secret.bytes(), self.nonce, count, self.cnonce, b"auth", request.bytes()])
            }
        }
    }
}

/// The hash of `parts` with colons between them.
fn hash<H: Digest>(parts: &[&[u8]]) -> Output<H> {
    let mut hash = H::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize()
}

/// The longest hash, in bytes.
const LONGEST: usize = 32;

/// A response: 16 or 32 bytes, printed in lower-case hexadecimal.
#[derive(Clone, Copy)]
pub struct Response {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Response {
    fn of(bytes: &[u8]) -> Self {
        let mut response = Self { bytes: [0; LONGEST], len: bytes.len() };
        response.bytes[..bytes.len()].copy_from_slice(bytes);
        response
    }

    /// The response of a `response` parameter, in either case; `None` if it is not as long as the hash or no
    /// hexadecimal number.
    pub fn read(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        let len = match algorithm {
            Algorithm::Md5 => 16,
            Algorithm::Sha256 => 32,
        };
        if text.len() != 2 * len {
            return None;
        }
        let mut bytes = [0; LONGEST];
        for (byte, [high, low]) in bytes.iter_mut().zip(text.as_chunks().0) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self { bytes, len })
    }

    /// Whether both are the same, in a time that does not tell how much of them is.
    pub fn is(&self, other: &Self) -> bool {
        let differences = self.bytes.iter().zip(&other.bytes).fold(0, |all, (one, two)| all | (one ^ two));
        black_box(differences) == 0 && self.len == other.len
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(Hex::of(&self.bytes[..self.len]).bytes()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A hash in lower-case hexadecimal.
struct Hex {
    text: [u8; 2 * LONGEST],
    len: usize,
}

impl Hex {
    fn of(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 2 * LONGEST];
        for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        Self { text, len: 2 * bytes.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

#[cfg(test)]
mod tests;
