//! Where messages for programs are posted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NotifyAnswer;
use crate::{
    notify::{Target, WebhookConfig},
    ops::{Context, OpError, Operations},
    store::StoredTarget,
};

/// Where the key lies.
pub(super) const PLACE: &str = "notify/webhook/key";
/// Bytes that a key has: fewer can be guessed.
const SHORTEST: usize = 16;
const LONGEST: usize = 256;

/// What to change about the webhook; what is not named stays.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetWebhook {
    /// An http or https address.
    pub url: Option<String>,
    /// What messages are signed with; an empty text: nothing. It is never shown again.
    pub key: Option<String>,
    /// Only say what would change.
    pub dry_run: bool,
}

impl fmt::Debug for SetWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetWebhook(url {:?}, dry_run {})", self.url, self.dry_run)
    }
}

impl Operations {
    /// Says where messages are posted. It is off until a test has arrived.
    pub async fn set_webhook(&self, context: &Context, request: SetWebhook) -> Result<NotifyAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let old = operations.stored_target(Target::Webhook).await?;
            let before = old.as_ref().map(config).transpose()?;
            let SetWebhook { url, key, dry_run } = request;
            let url = url.map(|url| url.trim().to_owned()).or(before.map(|before| before.url));
            let new = WebhookConfig { url: url.ok_or_else(|| OpError::usage("url: a webhook needs an address"))? };
            new.check().map_err(OpError::usage)?;
            let kept = old.as_ref().and_then(|old| old.sealed_secret.clone());
            let sealed = match key.as_deref() {
                None => kept,
                Some("") => None,
                Some(key) if key.len() < SHORTEST => {
                    return Err(OpError::usage(format!(
                        "key: it has {SHORTEST} to {LONGEST} bytes, so that nobody guesses it"
                    )));
                }
                Some(key) => Some(operations.sealed(PLACE, kept, key, LONGEST)?),
            };
            let text = serde_json::to_string(&new).map_err(|error| OpError::internal(error.to_string()))?;
            operations.keep_config(&context, Target::Webhook, old, (text, sealed), dry_run).await
        })
        .await
    }
}

/// The stored configuration.
pub(super) fn config(stored: &StoredTarget) -> Result<WebhookConfig, OpError> {
    serde_json::from_str(&stored.config)
        .map_err(|error| OpError::internal(format!("where messages are posted cannot be read: {error}; set it anew")))
}
