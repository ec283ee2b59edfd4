//! Answers to challenges (MD5 with `qop=auth`, RFC 2617), for the phones of the harness.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use md5::{Digest as _, Md5};

/// The `Authorization` line, with its end, of a REGISTER for `domain` that answers the MD5 challenge in `challenge`.
pub fn authorization(number: &str, password: &str, domain: &str, challenge: &str) -> Result<String> {
    let challenges = challenge.lines().filter_map(|line| line.strip_prefix("WWW-Authenticate: "));
    let credentials = credentials(challenges, "REGISTER", &format!("sip:{domain}"), number, password)?;
    Ok(format!("Authorization: {credentials}\r\n"))
}

/// What answers the MD5 one of these challenges for a request of this method to this URI.
pub(super) fn credentials<'a>(
    challenges: impl IntoIterator<Item = &'a str>,
    method: &str,
    uri: &str,
    number: &str,
    password: &str,
) -> Result<String> {
    let challenge = challenges
        .into_iter()
        .filter_map(|challenge| challenge.strip_prefix("Digest "))
        .find(|challenge| !challenge.contains("SHA-256"))
        .context("no MD5 challenge")?;
    let quoted = |name: &str| -> Option<&str> {
        let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let (Some(realm), Some(nonce)) = (quoted("realm"), quoted("nonce")) else {
        bail!("a challenge without realm or nonce: {challenge}")
    };
    let ha1 = hex(&format!("{number}:{realm}:{password}"));
    let ha2 = hex(&format!("{method}:{uri}"));
    let response = hex(&format!("{ha1}:{nonce}:00000001:c0ffee:auth:{ha2}"));
    Ok(format!(
        "Digest username=\"{number}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c0ffee\""
    ))
}

/// The value of the first header of this name, as the server writes it.
pub(super) fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
