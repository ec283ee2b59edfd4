//! Single values that belong to no table of their own.

use sqlx::SqliteConnection;

use super::{Store, StoreError};

/// Counts the changes of settings.
pub(super) const SETTINGS_REVISION: &str = "settings_revision";
/// There when the filter has been told to enforce at least once.
pub(super) const ENFORCED: &str = "enforced";
/// A bulk change that is committed here and perhaps not yet in the kernel tables.
pub(super) const PENDING: &str = "projection_pending";
/// A change of settings that is taken back unless somebody confirms it, as JSON.
pub(super) const SETTINGS_PENDING: &str = "settings_pending";
/// A text sealed with the key of the secrets, in hexadecimal: tells the right key from a wrong one.
const SECRET_CHECK: &str = "secret_check";

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

    /// What [`Store::set_secret_check`] was given; there from the first start on.
    pub async fn secret_check(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(text) = self.meta(SECRET_CHECK).await? else { return Ok(None) };
        let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Some).ok_or_else(|| self.corrupt(format!("{SECRET_CHECK} {text:?}")))
    }

    /// Keeps what tells the right key of the secrets from a wrong one.
    pub async fn set_secret_check(&self, sealed: &[u8]) -> Result<(), StoreError> {
        let text: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut transaction = self.begin().await?;
        set(&mut transaction, SECRET_CHECK, &text).await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await
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

pub(super) async fn remove(connection: &mut SqliteConnection, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM meta WHERE key = ?").bind(key).execute(connection).await?;
    Ok(())
}
