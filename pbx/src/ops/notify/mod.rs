//! Who is told what happens: configured, tested, switched on, and told. Nobody is told anything before a test arrived
//! with the very configuration that is used. Failing servers cost nobody time: `daemon` tries again, and `status` says it.

mod deliver;
mod mail;
mod view;
mod webhook;

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
};

use pbx_core::{notify::Digest, time::Timestamp};

pub use self::{
    deliver::{Delivery, Message},
    mail::SetMail,
    view::{NotifyAnswer, NotifyView, ReceiverView},
    webhook::SetWebhook,
};
use super::{
    Context, Did, How, ListOptions, OpError, Operations, Page,
    accounts::Wording,
    query::{Kind, Query, Row, Value},
};
use crate::{
    notify::{Target, UnknownTarget},
    store::{EventKind, NotifyRow, StoredTarget},
};

/// How telling goes, of each receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// When the first of the attempts in a row that failed was.
    failing_since: Option<Timestamp>,
    /// Why the last one failed.
    problem: Option<String>,
    /// When somebody was told last.
    sent_at: Option<Timestamp>,
}

/// How telling goes, by receiver.
pub(super) type Healths = BTreeMap<Target, Health>;

impl Operations {
    /// How both receivers are reached, whether they are on, and how telling them goes.
    pub async fn notify(&self) -> Result<NotifyView, OpError> {
        let (settings, _) = self.current_settings();
        let mut receivers = Vec::new();
        for target in Target::ALL {
            receivers.push(self.receiver(target, self.stored_target(target).await?.as_ref())?);
        }
        let (interval, about) = (settings.notify.interval.to_string(), settings.notify.about.to_string());
        Ok(NotifyView { interval, about, receivers })
    }

    /// Sends a message that says that it is a test. Once it has arrived, the receiver can be switched on.
    pub async fn test_notify(&self, context: &Context, target: &str) -> Result<NotifyAnswer, OpError> {
        context.may_change()?;
        let target = target_of(target)?;
        let stored = self.configured(target).await?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let now = operations.now();
            let digest = Digest { from: now, until: now, ..Digest::default() };
            let message = Message { test: true, ..operations.message(digest)? };
            let sent = operations.send(&stored, target, &message).await;
            operations.remember(target, "test", &sent, (1, true)).await;
            if let Err(why) = sent {
                return Err(OpError::refused(format!("the test did not arrive: {why}")).with_code("NOTIFY_FAILED"));
            }
            let _changing = operations.inner.changing.lock().await;
            let current = operations.configured(target).await?;
            if (&current.config, &current.sealed_secret) != (&stored.config, &stored.sealed_secret) {
                return Err(OpError::refused(format!(
                    "the test arrived, but the {target} was changed meanwhile: test it again"
                )));
            }
            let new = StoredTarget { tested_at: Some(now), ..current.clone() };
            let told = format!("{} tested the {target}: it works", context.actor);
            operations.keep_target(&context, "notify.test", target, Some(&current), Some(&new), told).await?;
            let mut answer = operations.answer(Did::Updated, false, target, Some(&new))?;
            if !new.enabled {
                answer.notes.push(format!("`pbx notify on {target}` switches it on"));
            }
            Ok(answer)
        })
        .await
    }

    /// Switches a receiver on or off.
    pub async fn switch_notify(
        &self,
        context: &Context,
        target: &str,
        on: bool,
        how: How,
    ) -> Result<NotifyAnswer, OpError> {
        context.may_change()?;
        let target = target_of(target)?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let old = operations.configured(target).await?;
            if old.enabled == on {
                return operations.answer(Did::Unchanged, how.dry_run, target, Some(&old));
            }
            if on && old.tested_at.is_none() {
                return Err(OpError::refused(format!(
                    "no test has arrived with this configuration: `pbx notify test {target}` first"
                ))
                .with_code("UNTESTED"));
            }
            let new = StoredTarget { enabled: on, ..old.clone() };
            if !how.dry_run {
                let word = if on { "on" } else { "off" };
                let told = format!("{} switched the {target} {word}", context.actor);
                operations.keep_target(&context, "notify.switch", target, Some(&old), Some(&new), told).await?;
            }
            operations.answer(Did::Updated, how.dry_run, target, Some(&new))
        })
        .await
    }

    /// Forgets how a receiver is reached, its password too.
    pub async fn remove_notify(&self, context: &Context, target: &str, how: How) -> Result<NotifyAnswer, OpError> {
        context.may_change()?;
        let target = target_of(target)?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let old = operations.configured(target).await?;
            if !how.dry_run {
                let told = format!("{} removed the {target}", context.actor);
                operations.keep_target(&context, "notify.remove", target, Some(&old), None, told).await?;
            }
            operations.answer(Did::Removed, how.dry_run, target, None)
        })
        .await
    }

    /// What was told, the newest first.
    pub async fn notify_history(&self, options: &ListOptions) -> Result<Page<NotifyRow>, OpError> {
        let query = Query::parse::<NotifyRow>(options).map_err(OpError::usage)?;
        Ok(query.page(self.store().notify_rows().await?.into_iter()))
    }

    /// Waits until a receiver is changed.
    pub async fn notify_changed(&self) {
        self.inner.notify_changed.notified().await;
    }

    /// What should be said about telling in the daemon's health.
    pub(super) fn notify_warnings(&self) -> Vec<String> {
        let healths = self.healths();
        let warning = |(target, health): (&Target, &Health)| {
            let (since, problem) = (health.failing_since?, health.problem.as_ref()?);
            Some(format!("the {target} tells nobody since {since}: {problem}; `pbx notify test {target}` tries it"))
        };
        healths.iter().filter_map(warning).collect()
    }

    fn healths(&self) -> MutexGuard<'_, Healths> {
        self.inner.healths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stored_target(&self, target: Target) -> Result<Option<StoredTarget>, OpError> {
        let targets = self.store().notify_targets().await?;
        Ok(targets.into_iter().find(|stored| stored.target == target.as_str()))
    }

    async fn configured(&self, target: Target) -> Result<StoredTarget, OpError> {
        self.stored_target(target).await?.ok_or_else(|| {
            OpError::not_found(format!("nobody said how the {target} is reached: `pbx notify set {target}` does"))
        })
    }

    /// Stores a receiver with audit and event, and lets whoever tells know.
    async fn keep_target(
        &self,
        context: &Context,
        verb: &'static str,
        target: Target,
        old: Option<&StoredTarget>,
        new: Option<&StoredTarget>,
        sentence: String,
    ) -> Result<(), OpError> {
        let wording =
            Wording { verb, object: target.to_string(), before: old.map(shown), after: new.map(shown), sentence };
        let (audit, event) = wording.rows(context, self.now(), EventKind::Notify);
        let events = self.store().keep_notify_target(target.as_str(), new, &audit, &[event]).await?;
        if new.is_none_or(|new| !new.enabled) {
            self.healths().remove(&target);
        }
        self.publish(events);
        self.inner.notify_changed.notify_one();
        Ok(())
    }

    /// Stores another configuration: it is off until a test of it has arrived.
    async fn keep_config(
        &self,
        context: &Context,
        target: Target,
        old: Option<StoredTarget>,
        (config, sealed_secret): (String, Option<Vec<u8>>),
        dry_run: bool,
    ) -> Result<NotifyAnswer, OpError> {
        if let Some(same) = old.as_ref().filter(|old| old.config == config && old.sealed_secret == sealed_secret) {
            return self.answer(Did::Unchanged, dry_run, target, Some(same));
        }
        let did = if old.is_some() { Did::Updated } else { Did::Added };
        let was_on = old.as_ref().is_some_and(|old| old.enabled);
        let new = StoredTarget { target: target.to_string(), config, sealed_secret, tested_at: None, enabled: false };
        if !dry_run {
            let told = format!("{} changed how the {target} is reached", context.actor);
            self.keep_target(context, "notify.set", target, old.as_ref(), Some(&new), told).await?;
        }
        let mut answer = self.answer(did, dry_run, target, Some(&new))?;
        let off = if was_on { "it is off until then" } else { "then it can be switched on" };
        answer.notes.push(format!("`pbx notify test {target}` sends a test; {off}"));
        Ok(answer)
    }

    fn answer(
        &self,
        did: Did,
        dry_run: bool,
        target: Target,
        stored: Option<&StoredTarget>,
    ) -> Result<NotifyAnswer, OpError> {
        Ok(NotifyAnswer { did, dry_run, notes: Vec::new(), item: self.receiver(target, stored)? })
    }
}

/// A receiver for the audit: everything but the secret.
fn shown(stored: &StoredTarget) -> String {
    let StoredTarget { target: _, config, sealed_secret, tested_at, enabled } = stored;
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    serde_json::json!({
        "config": config,
        "secret": sealed_secret.is_some(),
        "tested": tested_at.is_some(),
        "enabled": enabled,
    })
    .to_string()
}

fn target_of(text: &str) -> Result<Target, OpError> {
    text.parse().map_err(|error: UnknownTarget| OpError::not_found(error.to_string()))
}

impl Row for NotifyRow {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("at", Kind::Time),
        ("target", Kind::Text),
        ("summary", Kind::Text),
        ("outcome", Kind::Text),
        ("attempts", Kind::Number),
        ("problem", Kind::Text),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Number(self.id),
            1 => Value::Time(self.at),
            2 => Value::Text(self.target.as_str().into()),
            3 => Value::Text(self.summary.as_str().into()),
            4 => Value::Text(self.outcome.as_str().into()),
            5 => Value::Number(self.attempts.into()),
            _ => self.problem.as_deref().map_or(Value::Null, |problem| Value::Text(problem.into())),
        }
    }
}
