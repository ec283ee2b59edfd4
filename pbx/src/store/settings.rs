//! Settings on the disk: only those that differ from their defaults, with the revision that set them.

use sqlx::Row;

use super::{Audit, Event, NewEvent, Store, StoreError, meta};

/// Everything stored about settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSettings {
    /// Counts the changes; 0 is a new installation.
    pub revision: i64,
    /// Key and value of those that differ from their defaults, by key.
    pub values: Vec<(String, String)>,
}

/// A change of settings. Keys that are not named keep their values.
#[derive(Clone, Copy, Debug)]
pub struct SettingsChange<'a> {
    /// Keys to store; `None` goes back to the default.
    pub values: &'a [(String, Option<String>)],
    /// What the audit keeps.
    pub audit: &'a [Audit],
    /// What is told to whoever follows the events.
    pub events: &'a [NewEvent],
    /// Remember that the filter has enforced at least once.
    pub enforced: bool,
    /// What has to be confirmed from now on, as the operations write it; nothing: nothing has.
    pub pending: Option<&'a str>,
}

impl Store {
    /// What is stored.
    pub async fn settings(&self) -> Result<StoredSettings, StoreError> {
        let rows = sqlx::query("SELECT key, value FROM settings ORDER BY key")
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.failed(error))?;
        let values = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let revision = match self.meta(meta::SETTINGS_REVISION).await? {
            None => 0,
            Some(text) => text.parse().map_err(|_| self.corrupt(format!("settings revision {text:?}")))?,
        };
        Ok(StoredSettings { revision, values })
    }

    /// Commits a change whole or not at all; returns the new revision and the events with their ids.
    pub async fn change_settings(&self, change: SettingsChange<'_>) -> Result<(i64, Vec<Event>), StoreError> {
        let revision = self.settings().await?.revision + 1;
        let mut transaction = self.begin().await?;
        let events = async {
            for (key, value) in change.values {
                match value {
                    Some(value) => {
                        sqlx::query(
                            "INSERT INTO settings (key, value, revision) VALUES (?, ?, ?)
                             ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
                        )
                        .bind(key)
                        .bind(value)
                        .bind(revision)
                        .execute(&mut *transaction)
                        .await?
                    }
                    None => {
                        sqlx::query("DELETE FROM settings WHERE key = ?").bind(key).execute(&mut *transaction).await?
                    }
                };
            }
            meta::set(&mut transaction, meta::SETTINGS_REVISION, &revision.to_string()).await?;
            if change.enforced {
                meta::set(&mut transaction, meta::ENFORCED, "yes").await?;
            }
            match change.pending {
                Some(pending) => meta::set(&mut transaction, meta::SETTINGS_PENDING, pending).await?,
                None => meta::remove(&mut transaction, meta::SETTINGS_PENDING).await?,
            }
            for row in change.audit {
                row.insert(&mut transaction).await?;
            }
            super::events::insert(&mut transaction, change.events).await
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok((revision, events))
    }

    /// The change that waits to be confirmed, as it was written.
    pub async fn settings_pending(&self) -> Result<Option<String>, StoreError> {
        self.meta(meta::SETTINGS_PENDING).await
    }

    /// Nothing waits to be confirmed any more; returns the events with their ids.
    pub async fn confirm_settings(&self, audit: &Audit, events: &[NewEvent]) -> Result<Vec<Event>, StoreError> {
        let mut transaction = self.begin().await?;
        let events = async {
            meta::remove(&mut transaction, meta::SETTINGS_PENDING).await?;
            audit.insert(&mut transaction).await?;
            super::events::insert(&mut transaction, events).await
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(events)
    }
}
