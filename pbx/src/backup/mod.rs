//! Backups: a consistent snapshot of the database in one file, with what says what it is. After the store; knows no
//! operation. A plain one holds no secret that can be read, because the key of the secrets is not in it; one with a
//! passphrase is encrypted (age) and holds the key too, so that it is all that a new machine needs.

mod container;
mod place;
mod snapshot;

use std::{
    io,
    path::{Path, PathBuf},
};

use pbx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    container::{is_encrypted, unpack},
    place::{Folder, Stored},
    snapshot::{before_migration, restore},
};
use crate::store::StoreError;

/// The database's file, in a backup as in the data folder.
const DATABASE: &str = "pbx.db";
/// The key's.
const KEY: &str = "secret.key";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The program that made it.
    pub program: String,
    /// The layout of the database: the number of its last migration.
    pub layout: i64,
    /// When.
    pub created_at: Timestamp,
    /// On which machine.
    pub host: String,
    /// Bytes of the database.
    pub database_bytes: u64,
    /// SHA-256 of the database, in hexadecimal.
    pub database_sha256: String,
    /// Whether the key of the secrets is in it.
    pub has_key: bool,
}

/// Why a backup cannot be made, read or put back. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is no backup, or not a whole one.
    #[error("{} is no whole backup: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It is encrypted.
    #[error("{} is encrypted: name the passphrase with --passphrase-file FILE or --ask-passphrase", .0.display())]
    NeedsPassphrase(PathBuf),
    /// The passphrase is another one.
    #[error("the passphrase does not open {}", .0.display())]
    WrongPassphrase(PathBuf),
    /// A later program made it.
    #[error(
        "{} was made by pbx {program}, whose database has layout {layout}; this program knows layouts up to {known}: \
         install that version first",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The program that made it.
        program: String,
        /// Its database's layout.
        layout: i64,
        /// The last one that this program knows.
        known: i64,
    },
    /// Its secrets need a key that is neither in it nor there.
    #[error(
        "the secrets in {} were encrypted with another key than {}: put the right key there first (mode 600), or use an \
         encrypted backup, which has it",
        path.display(), key.display()
    )]
    OtherKey {
        /// The backup.
        path: PathBuf,
        /// Where the key is looked for.
        key: PathBuf,
    },
    /// A daemon uses the data folder.
    #[error("{0}")]
    InUse(String),
    /// The database does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }

    fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), what: what.into() }
    }
}

#[cfg(test)]
mod tests;
