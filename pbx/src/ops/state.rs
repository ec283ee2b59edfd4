//! What the store holds, loaded whole: the daemon makes the filter's tables from it, then the operations.

use pbx_core::{
    rule::Rule,
    settings::{SettingError, Settings},
    time::Timestamp,
};

use super::{Operations, PendingChange};
use crate::store::{EventKind, Store, StoreError, StoredBlock};

/// The stored state at a start.
#[derive(Clone, Debug)]
pub struct State {
    /// Every rule, expired ones too.
    pub rules: Vec<Rule>,
    /// The id of the next new rule.
    pub next_rule_id: i64,
    /// The settings: defaults and what is stored.
    pub settings: Settings,
    /// Their revision.
    pub settings_revision: i64,
    /// A change of settings that waits to be confirmed.
    pub settings_pending: Option<PendingChange>,
    /// The ports of the transports, which the filter protects.
    pub transports: Vec<u16>,
    /// Stored settings that this version does not take; it uses their defaults.
    pub refused_settings: Vec<String>,
    /// Automatic blocks that have not ended, for a kernel that lost its own at a reboot.
    pub automatic: Vec<StoredBlock>,
    /// A bulk change that an earlier daemon committed and perhaps did not bring to the kernel.
    pub pending: Option<String>,
}

impl State {
    /// Reads everything. The transports of a new installation are there once [`super::Accounts::load`] was called.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Self, StoreError> {
        let stored = store.settings().await?;
        let (settings, mut refused_settings) = settings(&stored.values);
        let waits = store.settings_pending().await?;
        let settings_pending = waits.as_deref().and_then(|text| serde_json::from_str(text).ok());
        if waits.is_some() && settings_pending.is_none() {
            refused_settings.push("what waits to be confirmed cannot be read, so it stays".to_owned());
        }
        Ok(Self {
            rules: store.rules().await?,
            next_rule_id: store.next_rule_id().await?,
            settings,
            settings_revision: stored.revision,
            settings_pending,
            transports: store.transport_ports().await?,
            refused_settings,
            automatic: store.automatic(now).await?,
            pending: store.pending().await?,
        })
    }
}

impl Operations {
    /// To be called when the start has made the kernel tables equal the store. Says what an earlier daemon
    /// left to do, and which stored settings were not taken.
    pub async fn started(&self, state_pending: Option<String>, refused_settings: &[String]) -> Result<(), StoreError> {
        if let Some(what) = state_pending {
            self.store().clear_pending().await?;
            self.tell(EventKind::Daemon, format!("finished what an earlier daemon had begun: {what}")).await;
        }
        for what in refused_settings {
            self.tell(EventKind::Settings, format!("a stored setting is not taken, its default is used: {what}")).await;
        }
        if let Err(error) = self.follow_switches().await {
            tracing::warn!(error = %error.message, "blocks of a detector that was switched may go on until they end");
        }
        Ok(())
    }
}

/// The defaults with the stored values over them. Values that this version refuses are left out and told;
/// values that do not fit together fall back to their defaults, all of them.
fn settings(values: &[(String, String)]) -> (Settings, Vec<String>) {
    let mut settings = Settings::default();
    let mut refused: Vec<SettingError> = Vec::new();
    for (key, value) in values {
        refused.extend(settings.set(key, value).err());
    }
    let mut refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
    if let Err(error) = settings.check() {
        refused.push(error.to_string());
        let mode = settings.filter.mode;
        settings = Settings::default();
        settings.filter.mode = mode;
    }
    (settings, refused)
}
