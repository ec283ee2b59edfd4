//! Settings that take themselves back: whoever locks themselves out cannot confirm, and the old settings return. What
//! waits is in the store, with the change, so that a crash or a restart takes nothing of that away.

use std::time::Duration;

use pbx_core::{
    settings::{Enforcement, Settings},
    time::{Timestamp, format_duration, parse_duration},
};
use serde::{Deserialize, Serialize};

use super::{
    Context, OpError, Operations, SettingsAnswer,
    settings::{Keeping, SettingChange},
    transports::leaves_ports,
};
use crate::store::{Audit, EventKind, NewEvent};

/// The shortest and the longest time to confirm in.
const WITHIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3600)];
/// After what cannot be taken back, until it is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// A change of settings that is taken back unless somebody confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// When it was made.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// When it is taken back.
    pub until: Timestamp,
    /// The time that was given, in milliseconds.
    pub within_ms: u64,
    /// What it changed.
    pub changes: Vec<SettingChange>,
}

/// What waits, and what became of the last try to take it back.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) change: Option<PendingChange>,
    pub(super) failed: Option<(Timestamp, String)>,
}

/// The time in which a change is to be confirmed, as it was typed.
pub(super) fn within(typed: Option<&str>) -> Result<Option<Duration>, OpError> {
    let Some(typed) = typed else { return Ok(None) };
    let [shortest, longest] = WITHIN.map(format_duration);
    let span = parse_duration(typed).map_err(|error| OpError::usage(format!("confirm_within: {error}")))?;
    if span < WITHIN[0] || span > WITHIN[1] {
        let message = format!("confirm_within: {} is out of range ({shortest} to {longest})", format_duration(span));
        return Err(OpError::usage(message));
    }
    Ok(Some(span))
}

impl PendingChange {
    pub(super) fn new(context: &Context, at: Timestamp, within: Duration, changes: &[SettingChange]) -> Self {
        Self {
            at,
            by: context.actor.clone(),
            until: at.saturating_add(within),
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            changes: changes.to_vec(),
        }
    }

    /// A clock that was set back must not make the wait longer than it was meant to be.
    fn is_due(&self, now: Timestamp) -> bool {
        self.until <= now || self.until > now.saturating_add(Duration::from_millis(self.within_ms))
    }

    /// `guard.level1.packets, guard.level2.packets and 3 more`
    fn keys(&self) -> String {
        let named: Vec<&str> = self.changes.iter().map(|change| change.key.as_str()).take(2).collect();
        match self.changes.len().saturating_sub(named.len()) {
            0 => named.join(" and "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }

    /// As the audit keeps that it was confirmed.
    pub(super) fn confirmed(&self, context: &Context, at: Timestamp) -> Audit {
        let values = |pick: fn(&SettingChange) -> &String| {
            let values: std::collections::BTreeMap<_, _> =
                self.changes.iter().map(|change| (&change.key, pick(change))).collect();
            serde_json::to_string(&values).ok()
        };
        Audit {
            at,
            actor: context.actor.clone(),
            origin: context.origin.to_owned(),
            what: "settings.confirm".to_owned(),
            object: self.keys(),
            before: values(|change| &change.before),
            after: values(|change| &change.after),
        }
    }
}

impl Operations {
    /// The change that waits to be confirmed.
    pub fn pending_change(&self) -> Option<PendingChange> {
        self.waiting().change.clone()
    }

    /// Keeps the change that waits.
    pub async fn confirm_settings(&self, context: &Context) -> Result<PendingChange, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let pending = operations.what_waits()?;
            let at = operations.now();
            let message = format!("{} confirmed the change of {}", context.actor, pending.keys());
            let event = NewEvent { at, kind: EventKind::Settings, prefix: None, interface: None, message };
            let told = operations.store().confirm_settings(&pending.confirmed(&context, at), &[event]).await?;
            *operations.waiting() = Waiting::default();
            operations.publish(told);
            Ok(pending)
        })
        .await
    }

    /// Takes the change that waits back, now.
    pub async fn roll_settings_back(&self, context: &Context) -> Result<SettingsAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let pending = operations.what_waits()?;
            operations.take_back(&context, &pending).await
        })
        .await
    }

    /// Takes the change that waits back if its time is over. To be called at the start and once a second; what cannot be
    /// taken back is tried again.
    pub async fn roll_back_if_due(&self) {
        let now = self.now();
        let is_due = {
            let waiting = self.waiting();
            let rests = waiting.failed.as_ref().is_some_and(|(at, _)| now.saturating_since(*at) < AGAIN && *at <= now);
            waiting.change.as_ref().is_some_and(|pending| pending.is_due(now)) && !rests
        };
        if !is_due {
            return;
        }
        let operations = self.clone();
        let outcome = self
            .to_the_end(async move {
                let _changing = operations.inner.changing.lock().await;
                // Somebody may have confirmed it meanwhile.
                let Some(pending) = operations.pending_change().filter(|pending| pending.is_due(now)) else {
                    return Ok(());
                };
                operations.take_back(&Context::daemon(), &pending).await.map(|_| ())
            })
            .await;
        let Err(error) = outcome else { return };
        let is_new = {
            let mut waiting = self.waiting();
            let before = waiting.failed.replace((now, error.message.clone()));
            before.is_none_or(|(_, message)| message != error.message)
        };
        if is_new {
            let message = format!("settings that nobody confirmed cannot be set back yet: {}", error.message);
            self.tell(EventKind::Settings, message).await;
        }
    }

    /// Refuses a change while another one waits; with force the one that waits is kept.
    pub(super) fn while_waiting(&self, force: bool) -> Result<Option<PendingChange>, OpError> {
        match self.pending_change() {
            Some(pending) if !force => Err(OpError::needs_force(format!(
                "the change of {} by {} waits to be confirmed until {}: `pbx guard confirm` keeps it, `pbx guard \
                 rollback` takes it back; nothing was changed, --force keeps it and goes on",
                pending.keys(),
                pending.by,
                pending.until
            ))
            .with_code("PENDING")),
            pending => Ok(pending),
        }
    }

    /// What somebody should know of what waits.
    pub(super) fn pending_warning(&self) -> Option<String> {
        let waiting = self.waiting();
        let pending = waiting.change.as_ref()?;
        if let Some((_, error)) = &waiting.failed {
            return Some(format!("the change of {} cannot be taken back yet: {error}", pending.keys()));
        }
        let left = super::explain::whole_seconds(pending.until.saturating_since(self.now()));
        Some(format!(
            "the change of {} by {} is taken back in {} unless `pbx guard confirm` comes first",
            pending.keys(),
            pending.by,
            format_duration(left)
        ))
    }

    fn what_waits(&self) -> Result<PendingChange, OpError> {
        self.pending_change().ok_or_else(|| OpError::not_found("no change of settings waits to be confirmed"))
    }

    async fn take_back(&self, context: &Context, pending: &PendingChange) -> Result<SettingsAnswer, OpError> {
        let (old, _) = self.current_settings();
        let mut new: Settings = old.clone();
        for change in &pending.changes {
            new.set(&change.key, &change.before).map_err(|error| OpError::internal(error.to_string()))?;
        }
        new.check().map_err(|error| OpError::refused(error.to_string()))?;
        leaves_ports(&new, &self.accounts())?;
        self.under_control()?;
        let changes = SettingChange::between(&old, &new);
        let begins = new.filter.mode == Enforcement::Enforce && old.filter.mode != Enforcement::Enforce;
        let keeping = Keeping { verb: "setting.rollback", did: "set back", begins, ..Keeping::default() };
        let revision = self.write_settings(context, old, new, &changes, &keeping).await?;
        Ok(SettingsAnswer { revision, changes, ..SettingsAnswer::default() })
    }
}
