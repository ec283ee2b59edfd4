//! Who is told what happens, and what they were told. Bounded: the oldest rows of the history go.

use pbx_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::{Audit, Event, NewEvent, Store, StoreError, millis};

/// Rows of the history that are kept.
const KEPT: i64 = 1000;

/// A receiver as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTarget {
    /// `mail` or `webhook`.
    pub target: String,
    /// How it is reached, JSON without secrets.
    pub config: String,
    /// Its password or key.
    pub sealed_secret: Option<Vec<u8>>,
    /// When a test of this configuration succeeded.
    pub tested_at: Option<Timestamp>,
    /// It is told what happens.
    pub enabled: bool,
}

/// A message that was sent, or was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyRow {
    /// Counts up.
    #[serde(default)]
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// `mail` or `webhook`.
    pub target: String,
    /// What it was about, one line.
    pub summary: String,
    /// `sent`, `failed` (will be tried again) or `gave up`.
    pub outcome: String,
    /// Which attempt it was.
    pub attempts: u32,
    /// Why it failed.
    pub problem: Option<String>,
}

impl Store {
    /// Every receiver that was ever configured, by name.
    pub async fn notify_targets(&self) -> Result<Vec<StoredTarget>, StoreError> {
        let rows =
            sqlx::query("SELECT target, config, sealed_secret, tested_at, enabled FROM notify_targets ORDER BY target")
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.failed(error))?;
        let target = |row: &sqlx::sqlite::SqliteRow| StoredTarget {
            target: row.get(0),
            config: row.get(1),
            sealed_secret: row.get(2),
            tested_at: row.get::<Option<i64>, _>(3).map(Timestamp::from_millis),
            enabled: row.get(4),
        };
        Ok(rows.iter().map(target).collect())
    }

    /// Stores how a receiver is reached; with nothing, forgets it.
    pub async fn keep_notify_target(
        &self,
        target: &str,
        stored: Option<&StoredTarget>,
        audit: &Audit,
        events: &[NewEvent],
    ) -> Result<Vec<Event>, StoreError> {
        let mut transaction = self.begin().await?;
        let events = async {
            match stored {
                Some(stored) => {
                    sqlx::query(
                        "INSERT OR REPLACE INTO notify_targets (target, config, sealed_secret, tested_at, enabled)
                         VALUES (?, ?, ?, ?, ?)",
                    )
                    .bind(target)
                    .bind(&stored.config)
                    .bind(&stored.sealed_secret)
                    .bind(stored.tested_at.map(millis))
                    .bind(stored.enabled)
                    .execute(&mut *transaction)
                    .await?
                }
                None => {
                    sqlx::query("DELETE FROM notify_targets WHERE target = ?")
                        .bind(target)
                        .execute(&mut *transaction)
                        .await?
                }
            };
            audit.insert(&mut transaction).await?;
            super::events::insert(&mut transaction, events).await
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(events)
    }

    /// Adds a row to the history.
    pub async fn add_notify_row(&self, row: &NotifyRow) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            let id = sqlx::query(
                "INSERT INTO notify_history (at, target, summary, outcome, attempts, problem) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(millis(row.at))
            .bind(&row.target)
            .bind(&row.summary)
            .bind(&row.outcome)
            .bind(row.attempts)
            .bind(&row.problem)
            .execute(&mut *transaction)
            .await?
            .last_insert_rowid();
            sqlx::query("DELETE FROM notify_history WHERE id <= ?").bind(id - KEPT).execute(&mut *transaction).await
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }

    /// The history, newest first.
    pub async fn notify_rows(&self) -> Result<Vec<NotifyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at, target, summary, outcome, attempts, problem FROM notify_history ORDER BY id DESC",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        let row = |row: &sqlx::sqlite::SqliteRow| NotifyRow {
            id: row.get(0),
            at: Timestamp::from_millis(row.get(1)),
            target: row.get(2),
            summary: row.get(3),
            outcome: row.get(4),
            attempts: row.get(5),
            problem: row.get(6),
        };
        Ok(rows.iter().map(row).collect())
    }
}
