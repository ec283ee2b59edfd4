//! Settings: read, set together, reset, taken from a profile. The first enforcement lets the administrator in first.

use std::collections::BTreeMap;

use pbx_core::{
    address::Prefix,
    rule::Action,
    settings::{self, Definition, Enforcement, Settings},
};
use serde::{Deserialize, Serialize};

use super::{
    AddRule, Context, Did, How, OpError, Operations, PendingChange, RehearsalView,
    extensions::leaves_numbers,
    lockout::SSH,
    pending::{self, Waiting},
    transports::leaves_ports,
};
use crate::store::{Audit, EventKind, NewEvent, SettingsChange};

/// The setting that closes media ports.
const MEDIA: &str = "guard.media.enforcement";

/// Values to set together: all of them or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSettings {
    /// Key and value as text.
    pub values: BTreeMap<String, String>,
    /// Do it although connections are cut.
    #[serde(default)]
    pub force: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Take it back unless somebody confirms it in that time (`2m`; 10 s to 1 h).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<String>,
}

/// How settings are changed, where the values are said elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsHow {
    /// Do it although connections are cut, or another change waits to be confirmed.
    pub force: bool,
    /// Only say what would change, and what the last 24 hours would have been.
    pub dry_run: bool,
    /// As of [`SetSettings`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<String>,
}

impl From<How> for SettingsHow {
    fn from(How { force, dry_run }: How) -> Self {
        Self { force, dry_run, confirm_within: None }
    }
}

/// One setting as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Its value in a new installation.
    pub default: String,
    /// What a number counts.
    pub unit: String,
    /// What it takes, in words.
    pub takes: String,
    /// One line on what it does.
    pub help: String,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsView {
    /// Counts the changes.
    pub revision: i64,
    /// In the order in which a person reads them.
    pub items: Vec<SettingView>,
}

/// A setting that is different now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its name.
    pub key: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
}

/// A setting that has another value than somewhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingDifference {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Its value there.
    pub there: String,
}

/// In what the settings differ from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsDiff {
    /// From which profile; none: from a new installation.
    pub profile: Option<String>,
    /// In the order in which a person reads them.
    pub items: Vec<SettingDifference>,
}

/// The answer to a change of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsAnswer {
    /// Nothing was changed.
    pub dry_run: bool,
    /// The revision after the change.
    pub revision: i64,
    /// What is different; empty when nothing is.
    pub changes: Vec<SettingChange>,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// It is taken back unless somebody confirms it.
    #[serde(default)]
    pub pending: Option<PendingChange>,
    /// Of a dry run: what the last 24 hours would have been.
    #[serde(default)]
    pub rehearsal: Option<RehearsalView>,
}

/// How a change of settings is kept.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    /// For the audit.
    pub(super) verb: &'static str,
    /// For the events.
    pub(super) did: &'static str,
    /// Enforcement begins.
    pub(super) begins: bool,
    /// What waits to be confirmed from now on.
    pub(super) pending: Option<PendingChange>,
    /// What waited, and is confirmed by it.
    pub(super) confirms: Option<PendingChange>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { verb: "setting.set", did: "set", begins: false, pending: None, confirms: None }
    }
}

impl SettingChange {
    /// What is different in `after`.
    pub(super) fn between(before: &Settings, after: &Settings) -> Vec<Self> {
        let differences = before.differences(after).into_iter();
        differences.map(|(key, before, after)| Self { key: key.to_owned(), before, after }).collect()
    }
}

impl Operations {
    /// All settings with their meaning.
    pub fn settings(&self) -> SettingsView {
        let (settings, revision) = self.current_settings();
        SettingsView { revision, items: settings::definitions().iter().map(|one| view(one, &settings)).collect() }
    }

    /// Sets some.
    pub async fn set_settings(&self, context: &Context, request: SetSettings) -> Result<SettingsAnswer, OpError> {
        let (mut wanted, _) = self.current_settings();
        for (key, value) in &request.values {
            wanted.set(key, value).map_err(|error| OpError::usage(error.to_string()))?;
        }
        // By hand; as the default it waits until the machine is ready for it.
        if request.values.contains_key(MEDIA) && wanted.guard.media.enforcement == Enforcement::Enforce {
            let ports = wanted.filter.media_ports.clone();
            let may = self.with_filter(move |filter| filter.may_close(&ports)).await?;
            may.map_err(|open| OpError::usage(format!("{MEDIA}: {open}")))?;
        }
        let SetSettings { values, force, dry_run, confirm_within } = request;
        self.take_over(context, values, SettingsHow { force, dry_run, confirm_within }).await
    }

    /// Sets some, or all, back to their defaults.
    pub async fn reset_settings(
        &self,
        context: &Context,
        keys: Option<Vec<String>>,
        how: impl Into<SettingsHow>,
    ) -> Result<SettingsAnswer, OpError> {
        let values = match keys {
            None => {
                // The mode says that the set-up is over; it is not part of how the guard is tuned.
                settings::definitions()
                    .iter()
                    .filter(|one| one.key != "filter.mode")
                    .map(|one| (one.key.to_owned(), one.default.to_owned()))
                    .collect()
            }
            Some(keys) => keys
                .into_iter()
                .map(|key| match settings::definition(&key) {
                    Some(one) => Ok((key, one.default.to_owned())),
                    None => Err(unknown(&key)),
                })
                .collect::<Result<_, _>>()?,
        };
        self.take_over(context, values, how.into()).await
    }

    /// Takes the values of a profile over.
    pub async fn apply_profile(
        &self,
        context: &Context,
        name: &str,
        how: impl Into<SettingsHow>,
    ) -> Result<SettingsAnswer, OpError> {
        let values = profile(name)?.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.take_over(context, values, how.into()).await
    }

    /// In what the settings differ from those of a new installation, or from a profile, in what that decides.
    pub fn settings_diff(&self, name: Option<&str>) -> Result<SettingsDiff, OpError> {
        let (settings, _) = self.current_settings();
        let mut there = settings.clone();
        match name {
            None => there = Settings::default(),
            Some(name) => {
                for (key, value) in profile(name)? {
                    there.set(key, value).map_err(|error| OpError::internal(error.to_string()))?;
                }
            }
        }
        let differences = settings.differences(&there).into_iter();
        let items = differences.map(|(key, value, there)| SettingDifference { key: key.to_owned(), value, there });
        Ok(SettingsDiff { profile: name.map(str::to_owned), items: items.collect() })
    }

    async fn take_over(
        &self,
        context: &Context,
        values: BTreeMap<String, String>,
        how: SettingsHow,
    ) -> Result<SettingsAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            operations.take_over_now(&context, values, how).await
        })
        .await
    }

    async fn take_over_now(
        &self,
        context: &Context,
        values: BTreeMap<String, String>,
        how: SettingsHow,
    ) -> Result<SettingsAnswer, OpError> {
        let SettingsHow { force, dry_run, confirm_within } = how;
        let within = pending::within(confirm_within.as_deref())?;
        let (old, revision) = self.current_settings();
        let mut new = old.clone();
        for (key, value) in &values {
            new.set(key, value).map_err(|error| OpError::usage(error.to_string()))?;
        }
        new.check().map_err(|error| OpError::usage(error.to_string()))?;
        leaves_ports(&new, &self.accounts())?;
        if new.sip.emergency_numbers != old.sip.emergency_numbers {
            leaves_numbers(&new, &self.accounts())?;
        }
        let changes = SettingChange::between(&old, &new);
        let mut answer = SettingsAnswer { dry_run, revision, changes, ..SettingsAnswer::default() };
        if answer.changes.is_empty() {
            return Ok(answer);
        }
        let waited = self.while_waiting(force)?;
        answer.notes.extend(waited.as_ref().map(|_| "the change that waited is confirmed by this one".to_owned()));
        self.under_control()?;
        answer.notes.extend(self.only_sockets());
        let begins = new.filter.mode == Enforcement::Enforce && old.filter.mode != Enforcement::Enforce;
        let first = begins && !self.store().has_enforced().await?;
        self.enforcement_lets_in(&old, &new, first, force).await?;
        self.default_deny_lets_in(&old, &new, force).await?;
        if first {
            self.let_administrators_in(context, dry_run, &mut answer.notes).await?;
        }
        if dry_run {
            answer.rehearsal = self.rehearse(&old, &new, &answer.changes).await?;
            return Ok(answer);
        }
        let pending = within.map(|within| PendingChange::new(context, self.now(), within, &answer.changes));
        let keeping = Keeping { begins, pending: pending.clone(), confirms: waited, ..Keeping::default() };
        answer.revision = self.write_settings(context, old, new, &answer.changes, &keeping).await?;
        answer.pending = pending;
        Ok(answer)
    }

    /// Whoever is connected to sshd now is allowed before the filter drops anything for the first time.
    async fn let_administrators_in(
        &self,
        context: &Context,
        dry_run: bool,
        notes: &mut Vec<String>,
    ) -> Result<(), OpError> {
        let mut peers: Vec<Prefix> = self
            .look_around()
            .await?
            .peers
            .iter()
            .filter(|peer| peer.service == SSH && !peer.addr.is_loopback())
            .map(|peer| Prefix::host(peer.addr))
            .collect();
        peers.sort();
        peers.dedup();
        if peers.is_empty() {
            notes.push(
                "nobody is connected over ssh, so no address was put on the allow list; `pbx allow add ADDRESS` does"
                    .to_owned(),
            );
        }
        for peer in peers {
            let request = AddRule {
                cidr: peer.to_string(),
                mask: None,
                target: Action::Allow,
                expire_at: None,
                lasting: None,
                description: Some("connected over ssh when the filter began to enforce".to_owned()),
                force: false,
                dry_run,
            };
            let existing = self.book().of(&peer, Action::Allow).is_some_and(|rule| rule.expires_at.is_none());
            if existing {
                continue;
            }
            let answer = self.add_rule_now(context, request).await?;
            if answer.did != Did::Unchanged {
                let would = if dry_run { "would be" } else { "was" };
                notes.push(format!(
                    "{peer}, connected over ssh, {would} put on the allow list first; `pbx allow remove {peer}` takes it off"
                ));
            }
        }
        Ok(())
    }

    /// Stores and projects settings; on an error the old ones stand. The caller holds the lock on changes.
    pub(super) async fn write_settings(
        &self,
        context: &Context,
        old: Settings,
        new: Settings,
        changes: &[SettingChange],
        keeping: &Keeping,
    ) -> Result<i64, OpError> {
        let revision = self.store_settings(context, &new, changes, keeping).await?;
        if let Err(error) = self.project(new.clone(), revision).await {
            let back: Vec<SettingChange> = changes
                .iter()
                .map(|one| SettingChange { key: one.key.clone(), before: one.after.clone(), after: one.before.clone() })
                .collect();
            // What waited before goes on waiting.
            let waits = keeping.confirms.clone().or(self.pending_change());
            let restore = Keeping { pending: waits, ..Keeping::default() };
            return Err(match self.store_settings(context, &old, &back, &restore).await {
                Ok(revision) => {
                    // The filter may hold a part of the new ones.
                    let restored = self.project(old, revision).await;
                    let rest = match restored {
                        Ok(()) => "the old settings stand".to_owned(),
                        Err(second) => format!("and the old ones were not taken back either ({second})"),
                    };
                    OpError::filter(format!("the filter did not take the settings: {error}; {rest}"))
                }
                Err(second) => OpError::filter(format!(
                    "the filter did not take the settings: {error}; the store was not put back ({second}): they take effect when the daemon starts again"
                )),
            });
        }
        *self.waiting() = Waiting { change: keeping.pending.clone(), failed: None };
        if changes.iter().any(|change| change.key.ends_with(".enforcement"))
            && let Err(error) = self.follow_switches().await
        {
            tracing::warn!(error = %error.message, "blocks of a detector that was switched may go on until they end");
        }
        Ok(revision)
    }

    async fn project(&self, settings: Settings, revision: i64) -> Result<(), OpError> {
        let (given, ports) = (settings.clone(), self.accounts().ports());
        self.with_filter(move |filter| filter.settings(&given, &ports, revision))
            .await?
            .map_err(|error| OpError::filter(format!("{error:#}")))?;
        let given = settings.clone();
        self.with_signalling(move |signalling| signalling.settings(&given)).await?;
        self.guard().set(&settings);
        *self.inner.settings.write().unwrap_or_else(std::sync::PoisonError::into_inner) = (settings, revision);
        Ok(())
    }

    async fn store_settings(
        &self,
        context: &Context,
        settings: &Settings,
        changes: &[SettingChange],
        keeping: &Keeping,
    ) -> Result<i64, OpError> {
        let at = self.now();
        let Keeping { verb, did, begins, pending, confirms } = keeping;
        let values: Vec<(String, Option<String>)> = changes
            .iter()
            .map(|change| {
                let default = settings::definition(&change.key).map(|one| one.read(&Settings::default()));
                let value = settings.value(&change.key).filter(|value| Some(value) != default.as_ref());
                (change.key.clone(), value)
            })
            .collect();
        let mut audit: Vec<Audit> = confirms.iter().map(|waited| waited.confirmed(context, at)).collect();
        let rows = changes.iter().map(|change| Audit {
            at,
            actor: context.actor.clone(),
            origin: context.origin.to_owned(),
            what: (*verb).to_owned(),
            object: change.key.clone(),
            before: serde_json::to_string(&change.before).ok(),
            after: serde_json::to_string(&change.after).ok(),
        });
        audit.extend(rows);
        let events: Vec<NewEvent> = changes
            .iter()
            .map(|change| NewEvent {
                at,
                kind: EventKind::Settings,
                prefix: None,
                interface: None,
                message: format!("{} {did} {} from {} to {}", context.actor, change.key, change.before, change.after),
            })
            .collect();
        let pending = pending.as_ref().map(serde_json::to_string).transpose();
        let pending = pending.map_err(|error| OpError::internal(format!("what waits cannot be written: {error}")))?;
        let (revision, events) = self
            .store()
            .change_settings(SettingsChange {
                values: &values,
                audit: &audit,
                events: &events,
                enforced: *begins,
                pending: pending.as_deref(),
            })
            .await?;
        self.publish(events);
        Ok(revision)
    }
}

fn profile(name: &str) -> Result<&'static [(&'static str, &'static str)], OpError> {
    settings::profile(name).ok_or_else(|| {
        let names: Vec<&str> = settings::profiles().iter().map(|profile| profile.name).collect();
        let name = name.escape_debug().to_string();
        OpError::not_found(format!("there is no profile {name:.40}; there are {}", names.join(", ")))
    })
}

fn view(definition: &Definition, settings: &Settings) -> SettingView {
    SettingView {
        key: definition.key.to_owned(),
        value: definition.read(settings),
        default: definition.read(&Settings::default()),
        unit: definition.unit.to_owned(),
        takes: definition.wanted(),
        help: definition.help.to_owned(),
    }
}

fn unknown(key: &str) -> OpError {
    // The setter finds the key that may have been meant.
    match Settings::default().set(key, "") {
        Err(error) => OpError::usage(error.to_string()),
        Ok(()) => OpError::usage(format!("there is no setting {key:.60}")),
    }
}
