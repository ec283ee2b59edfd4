//! Messages to administrators: how the mail server and the webhook are reached, and the reaching. Under the operations.
//! One attempt each, bounded in time; who tries again and when is `daemon`'s.

mod mail;
#[cfg(test)]
pub(crate) mod peer;
mod webhook;

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    mail::{MailConfig, Security},
    webhook::{SIGNATURE, TIMESTAMP, WebhookConfig, signature},
};

/// How long one attempt may take.
pub const ATTEMPT: Duration = Duration::from_secs(60);

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A mailbox.
    Mail,
    /// A program behind a web server.
    Webhook,
}

impl Target {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mail, Self::Webhook];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is nobody of that name to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are mail and webhook to tell, and nobody else")]
pub struct UnknownTarget;

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        Self::ALL.into_iter().find(|target| target.as_str() == text).ok_or(UnknownTarget)
    }
}

/// What this machine calls itself.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "pbx".to_owned())
}

/// An error with what led to it, once each.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
