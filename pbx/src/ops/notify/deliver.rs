//! One attempt to tell one receiver, and what is kept of it.

use pbx_core::notify::{Digest, Topic};
use serde_json::json;

use super::{Health, mail, webhook};
use crate::{
    notify::{Target, host_name},
    ops::{OpError, Operations},
    store::{NotifyRow, StoredTarget},
};

/// A digest on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same in every attempt, so that a receiver knows a repetition.
    pub id: String,
    /// What happened.
    pub digest: Digest,
    /// Nothing happened: somebody wants to see whether it arrives.
    pub test: bool,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Sent,
    /// It did not.
    Failed,
    /// The receiver is off, so that nobody is to be told.
    Off,
}

impl Operations {
    /// The receivers that are on.
    pub async fn receivers_on(&self) -> Result<Vec<Target>, OpError> {
        let stored = self.store().notify_targets().await?;
        let on = |target: &Target| stored.iter().any(|one| one.target == target.as_str() && one.enabled);
        Ok(Target::ALL.into_iter().filter(on).collect())
    }

    /// A digest as a message, with an id of its own.
    pub fn message(&self, digest: Digest) -> Result<Message, OpError> {
        let id: [u8; 8] = self.secrets().random()?;
        Ok(Message { id: id.iter().map(|byte| format!("{byte:02x}")).collect(), digest, test: false })
    }

    /// Tries once to tell a receiver. `attempt` counts from 1; after the `last` one there is none.
    pub async fn deliver(&self, target: Target, message: &Message, attempt: u32, last: bool) -> Delivery {
        let stored = match self.configured(target).await {
            Ok(stored) if stored.enabled => stored,
            Ok(_) => return Delivery::Off,
            Err(error) if error.kind() == crate::ops::Kind::NotFound => return Delivery::Off,
            Err(error) => {
                tracing::info!(%target, error = %error.message, "nobody is told");
                return Delivery::Failed;
            }
        };
        let sent = self.send(&stored, target, message).await;
        self.remember(target, &message.digest.summary(), &sent, (attempt, last)).await
    }

    /// Keeps how an attempt went.
    pub(super) async fn remember(
        &self,
        target: Target,
        summary: &str,
        sent: &Result<(), String>,
        (attempt, last): (u32, bool),
    ) -> Delivery {
        let now = self.now();
        {
            let mut healths = self.healths();
            let health = healths.entry(target).or_default();
            *health = match sent {
                Ok(()) => Health { sent_at: Some(now), ..Health::default() },
                Err(why) => Health {
                    failing_since: health.failing_since.or(Some(now)),
                    problem: Some(why.clone()),
                    sent_at: health.sent_at,
                },
            };
        }
        let row = NotifyRow {
            id: 0,
            at: now,
            target: target.to_string(),
            summary: summary.to_owned(),
            outcome: match (sent, last) {
                (Ok(()), _) => "sent",
                (Err(_), false) => "failed",
                (Err(_), true) => "gave up",
            }
            .to_owned(),
            attempts: attempt,
            problem: sent.as_ref().err().cloned(),
        };
        if let Err(error) = self.store().add_notify_row(&row).await {
            tracing::warn!(%error, "what was told is not in the history");
        }
        if sent.is_ok() { Delivery::Sent } else { Delivery::Failed }
    }

    /// Sends a message, once.
    pub(super) async fn send(&self, stored: &StoredTarget, target: Target, message: &Message) -> Result<(), String> {
        let said = |error: OpError| error.message;
        let secret = |place: &str| {
            let open = |sealed: &Vec<u8>| self.secrets().unseal(place, sealed).map_err(|error| error.to_string());
            stored.sealed_secret.as_ref().map(open).transpose()
        };
        let host = host_name();
        match target {
            Target::Mail => {
                let config = mail::config(stored).map_err(said)?;
                let (subject, text) = in_words(message, &host);
                config.send(secret(mail::PLACE)?.as_deref(), &subject, text).await
            }
            Target::Webhook => {
                let config = webhook::config(stored).map_err(said)?;
                let now = self.now().as_millis() / 1000;
                let body = in_json(message, &host).to_string().into_bytes();
                config.send(&self.inner.environment.web, secret(webhook::PLACE)?.as_deref(), now, body).await
            }
        }
    }
}

/// Subject and text of a mail.
fn in_words(message: &Message, host: &str) -> (String, String) {
    if message.test {
        let text = format!("{host}, {}\n\nThis is a test. Mail from this appliance arrives.\n", message.digest.until);
        return (format!("{host}: test"), text);
    }
    (format!("{host}: {}", message.digest.summary()), message.digest.text(host))
}

fn in_json(message: &Message, host: &str) -> serde_json::Value {
    let Message { id, digest, test } = message;
    let items: Vec<serde_json::Value> = digest
        .items
        .iter()
        .map(|item| {
            json!({
                "topic": item.topic,
                "at": item.at,
                "address": item.address,
                "message": item.message,
                "undo": item.undo(),
            })
        })
        .collect();
    let unnamed: serde_json::Map<String, serde_json::Value> = Topic::ALL
        .into_iter()
        .map(|topic| (topic.to_string(), digest.unnamed(topic)))
        .filter(|(_, count)| *count > 0)
        .map(|(topic, count)| (topic, count.into()))
        .collect();
    json!({
        "id": id,
        "host": host,
        "test": test,
        "from": digest.from,
        "until": digest.until,
        "summary": if *test { "test".to_owned() } else { digest.summary() },
        "counts": digest.counts,
        "items": items,
        "unnamed": unnamed,
        "missed": digest.missed,
        "undelivered": digest.undelivered,
    })
}
