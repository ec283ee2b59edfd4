//! What has to survive: rules, settings, audit, events, the kernel's own blocks; tenants, extensions, transports,
//! what has registered, the records of calls, and the feeds. The only SQL.
//!
//! SQLite in WAL mode with one writing connection. `synchronous=FULL`: a commit is on the disk when it
//! returns, because a command that says "blocked" must still be right after a power cut. That costs one
//! sync for each change; bulk changes are one transaction, so they pay it once.
//!
//! A change is committed here before the kernel tables get it. When the daemon dies in between, the next
//! start makes the tables equal the store by difference, so nothing is lost; [`Store::pending`] only tells
//! that start what it is finishing.

mod accounts;
mod audit;
mod automatic;
mod bindings;
mod cdrs;
mod events;
pub mod fail2ban;
mod feeds;
mod guard;
mod known;
mod meta;
mod notify;
mod rules;
mod selection;
mod settings;
mod web;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use pbx_core::{address::Prefix, time::Timestamp};
use sqlx::{
    Connection as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use self::{
    accounts::{AccountChange, StoredAccounts, StoredExtension, StoredTenant, StoredTransport},
    audit::{Audit, AuditField, AuditRow, Verified},
    automatic::StoredBlock,
    cdrs::{CALLS_KEPT, CALLS_SWEPT, CallField},
    events::{EVENTS_KEPT, Event, EventField, EventKind, NewEvent},
    feeds::{FeedEntries, FeedState, Released, StoredFeed},
    guard::{Counter, EVIDENCE_KEPT, Evidence, EvidenceMessage},
    known::StoredKnown,
    notify::{NotifyRow, StoredTarget},
    rules::RuleChange,
    selection::{Comparison, Condition, Field, Operand, Part, Selection},
    settings::{SettingsChange, StoredSettings},
    web::StoredCertificate,
};

/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that only read; WAL lets them go on beside the writer.
const READERS: u32 = 3;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The layout that this program brings a database to: the number of its last migration.
pub fn newest_layout() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The open database.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    path: PathBuf,
}

/// Why the store did not do it. The state is the one from before.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space left.
    #[error("the disk that holds {} is full; nothing was changed: free some space and repeat", .0.display())]
    Full(PathBuf),
    /// Another process holds the database.
    #[error("{} is held by another process; nothing was changed: look for it with `fuser {}`", .0.display(), .0.display())]
    Busy(PathBuf),
    /// The folder or file cannot be made or opened.
    #[error("cannot open {}: {message}; `data_dir` in the configuration says where it is", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// The schema is from another version.
    #[error("cannot bring {} to this version's layout: {message}", path.display())]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// What was wrong.
        message: String,
    },
    /// A row holds what no version of this program writes.
    #[error("{} holds a value that means nothing: {what}", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// Table, column, value.
        what: String,
    },
    /// Anything else that SQLite reports.
    #[error("database {}: {message}; nothing was changed", path.display())]
    Sql {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        message: String,
    },
}

impl Store {
    /// Opens the database at `path`, makes it when it is not there, and brings it to the current layout.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |message: String| StoreError::Open { path: path.to_path_buf(), message };
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|error| failed(error.to_string()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        // The writer keeps its connection: a new one would have to prepare every statement again.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // A full disk ends a transaction by itself, which leaves sqlx in the belief that it goes on.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(|error| failed(error.to_string()))?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(|error| StoreError::Migrate { path: path.to_path_buf(), message: error.to_string() })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.create_if_missing(false).read_only(true))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let store = Self { writer, readers, path: path.to_path_buf() };
        store.chain_audit().await?;
        Ok(store)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is in the log back into the file and closes every connection.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.failed(error))
    }

    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|error| self.failed(error))
    }

    /// Sorts what SQLite reports by what somebody can do about it.
    fn failed(&self, error: sqlx::Error) -> StoreError {
        // Extended codes keep the primary one in the low byte: 13 SQLITE_FULL, 5 BUSY, 6 LOCKED.
        let primary = error
            .as_database_error()
            .and_then(|database| database.code())
            .and_then(|code| code.parse::<u32>().ok())
            .map(|code| code & 0xff);
        match primary {
            Some(13) => StoreError::Full(self.path.clone()),
            Some(5 | 6) => StoreError::Busy(self.path.clone()),
            _ => StoreError::Sql { path: self.path.clone(), message: error.to_string() },
        }
    }

    fn corrupt(&self, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), what: what.into() }
    }

    fn prefix(&self, text: &str) -> Result<Prefix, StoreError> {
        text.parse().map_err(|_| self.corrupt(format!("prefix {text:?}")))
    }
}

/// A moment as its column.
fn millis(at: Timestamp) -> i64 {
    at.as_millis()
}

#[cfg(test)]
impl Store {
    /// Makes the database look as a later program leaves it.
    pub(crate) async fn pretend_newer(&self) {
        sqlx::query(
            "UPDATE _sqlx_migrations SET version = 9999 WHERE version = (SELECT max(version) FROM _sqlx_migrations)",
        )
        .execute(&self.writer)
        .await
        .unwrap();
    }

    /// Makes it look as an earlier one left it.
    pub(crate) async fn pretend_older(&self) {
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)")
            .execute(&self.writer)
            .await
            .unwrap();
    }
}

#[cfg(test)]
mod tests;
