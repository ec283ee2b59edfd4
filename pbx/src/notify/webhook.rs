//! A message to a program: POST with JSON, signed when there is a key.
//!
//! The signature is `sha256=` and the HMAC-SHA256 (RFC 2104) of the time of the header, a dot and the body, in
//! hexadecimal, so that neither can be changed and an old message can be told from a new one.

use std::time::Duration;

use hyper::{HeaderMap, header};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::ATTEMPT;
use crate::web::{self, Limits, Web};

/// The header with the signature.
pub const SIGNATURE: &str = "x-pbx-signature";
/// The header with the time of signing, seconds since the Unix epoch.
pub const TIMESTAMP: &str = "x-pbx-timestamp";
const LIMITS: Limits = Limits { connect: Duration::from_secs(10), whole: ATTEMPT, bytes: 0, redirects: 0 };

/// Where the messages go; the key is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookConfig {
    /// An http or https address.
    pub url: String,
}

impl WebhookConfig {
    /// Whether it makes sense; the error names the field.
    pub fn check(&self) -> Result<(), String> {
        web::address(&self.url).map(|_| ()).map_err(|error| format!("url: {:.100} {error}", self.url))
    }

    /// Hands a message over, once. `now`: seconds since the Unix epoch.
    pub async fn send(&self, web: &Web, key: Option<&str>, now: i64, message: Vec<u8>) -> Result<(), String> {
        let address = web::address(&self.url).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        let value = |text: &str| header::HeaderValue::from_str(text).map_err(|error| error.to_string());
        headers.insert(header::CONTENT_TYPE, value("application/json")?);
        let time = now.to_string();
        headers.insert(TIMESTAMP, value(&time)?);
        if let Some(key) = key {
            headers.insert(SIGNATURE, value(&signature(key, &time, &message))?);
        }
        web.post(&address, headers, message, LIMITS).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// What the header with the signature holds.
pub fn signature(key: &str, time: &str, message: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(time.as_bytes());
    context.update(b".");
    context.update(message);
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_other_programs() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        assert_eq!(
            signature("key", "1700000000", br#"{"a":1}"#),
            "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
        );
    }

    #[test]
    fn an_address_that_is_none_is_refused_by_its_field() {
        assert_eq!(WebhookConfig { url: "https://example.com/hook".into() }.check(), Ok(()));
        assert!(WebhookConfig { url: "example.com".into() }.check().unwrap_err().starts_with("url: example.com is no"));
    }
}
