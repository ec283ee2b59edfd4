//! Receivers as the API shows them: never with a secret.

use pbx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    notify::{MailConfig, Target, WebhookConfig},
    ops::{Did, OpError, Operations},
    store::StoredTarget,
};

/// Who is told, of what and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyView {
    /// Between two digests to one receiver (`notify.interval`).
    pub interval: String,
    /// What they are about (`notify.about`).
    pub about: String,
    /// Mail and webhook.
    pub receivers: Vec<ReceiverView>,
}

/// One receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverView {
    /// Which.
    pub target: Target,
    /// It is told what happens.
    pub enabled: bool,
    /// When a test of this configuration arrived.
    pub tested_at: Option<Timestamp>,
    /// How mail is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailConfig>,
    /// Where messages are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookConfig>,
    /// There is a password, or a key to sign with.
    pub secret: bool,
    /// When it was told last.
    pub sent_at: Option<Timestamp>,
    /// Since when telling it fails.
    pub failing_since: Option<Timestamp>,
    /// Why.
    pub problem: Option<String>,
}

/// The answer to whatever was done to a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyAnswer {
    /// What became of it, or under `dry_run` would.
    pub did: Did,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// The receiver after it.
    pub item: ReceiverView,
}

impl Operations {
    pub(super) fn receiver(&self, target: Target, stored: Option<&StoredTarget>) -> Result<ReceiverView, OpError> {
        let health = self.healths().get(&target).cloned().unwrap_or_default();
        let (mut mail, mut webhook) = (None, None);
        if let Some(stored) = stored {
            match target {
                Target::Mail => mail = Some(super::mail::config(stored)?),
                Target::Webhook => webhook = Some(super::webhook::config(stored)?),
            }
        }
        Ok(ReceiverView {
            target,
            enabled: stored.is_some_and(|stored| stored.enabled),
            tested_at: stored.and_then(|stored| stored.tested_at),
            mail,
            webhook,
            secret: stored.is_some_and(|stored| stored.sealed_secret.is_some()),
            sent_at: health.sent_at,
            failing_since: health.failing_since,
            problem: health.problem,
        })
    }
}
