//! Single values that belong to no table of their own.

use sqlx::SqliteConnection;

use super::{Store, StoreError};

/// Counts the changes of settings.
pub(super) const SETTINGS_REVISION: &str = "settings_revision";
/// There when the filter has been told to enforce at least once.
pub(super) const ENFORCED: &str = "enforced";
/// A bulk change that is committed here and perhaps not yet in the kernel tables.
pub(super) const PENDING: &str = "projection_pending";

impl Store {
    /// The filter has been told to enforce at least once.
    pub async fn has_enforced(&self) -> Result<bool, StoreError> {
        Ok(self.meta(ENFORCED).await?.is_some())
    }

    /// What was committed without the kernel tables having confirmed it, in words.
    pub async fn pending(&self) -> Result<Option<String>, StoreError> {
        self.meta(PENDING).await
    }

    /// The kernel tables equal the store.
    pub async fn clear_pending(&self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM meta WHERE key = ?")
            .bind(PENDING)
            .execute(&self.writer)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    pub(super) async fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.failed(error))
    }
}

pub(super) async fn set(connection: &mut SqliteConnection, key: &str, value: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")
        .bind(key)
        .bind(value)
        .execute(connection)
        .await?;
    Ok(())
}
