//! Backups: made, listed, handed out, removed. Putting one back is no operation of a daemon: it may not run then.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::{
    Context, How, ListOptions, OpError, Operations, Page,
    accounts::{Wording, shown},
    query::{Kind, Query, Row, Value},
};
use crate::{
    backup::{BackupError, Folder, Manifest, Stored},
    store::EventKind,
};

/// Characters of a passphrase, at least and at most.
const PASSPHRASE: std::ops::RangeInclusive<usize> = 8..=1024;
/// Backups that are kept.
const MOST: usize = 100;
/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// What kind of backup.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MakeBackup {
    /// Encrypts it, and puts the key of the secrets in: 8 to 1024 characters.
    pub passphrase: Option<String>,
}

impl std::fmt::Debug for MakeBackup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MakeBackup").finish_non_exhaustive()
    }
}

/// The answer to a backup that was made or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupAnswer {
    /// The backup.
    pub item: Stored,
    /// What it says of itself, when it was made.
    pub manifest: Option<Manifest>,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
}

/// A backup on its way out.
#[derive(Debug)]
pub struct BackupFile {
    file: tokio::fs::File,
}

impl Operations {
    /// Makes a backup in the data folder.
    pub async fn make_backup(&self, context: &Context, request: MakeBackup) -> Result<BackupAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            // One after the other: each takes the space of the database, twice.
            let _making = operations.inner.saving.lock().await;
            let MakeBackup { passphrase } = request;
            if let Some(passphrase) = &passphrase
                && !PASSPHRASE.contains(&passphrase.chars().count())
            {
                return Err(OpError::usage(format!(
                    "passphrase: {} characters are out of range ({} to {})",
                    passphrase.chars().count(),
                    PASSPHRASE.start(),
                    PASSPHRASE.end()
                )));
            }
            let folder = operations.backup_folder();
            if folder.list(operations.now())?.len() >= MOST {
                return Err(OpError::full(format!(
                    "there are {MOST} backups already: remove some (`pbx backup remove NAME`)"
                )));
            }
            let encrypted = passphrase.is_some();
            let (item, manifest) = folder.make(None, passphrase, operations.now()).await?;
            let mut notes = Vec::new();
            if !encrypted {
                notes.push(
                    "the key of the secrets is not in it: keep a copy of secret.key elsewhere, or SIP passwords have to \
                     be set anew after the loss of this machine; a backup with a passphrase has the key"
                        .to_owned(),
                );
            } else if !manifest.has_key {
                notes.push(
                    "the key of the secrets is not in it, because the service manager holds it: save that one too"
                        .to_owned(),
                );
            }
            operations.told_of_backup(&context, "backup.create", "made", &item).await?;
            Ok(BackupAnswer { item, manifest: Some(manifest), notes })
        })
        .await
    }

    /// A page of backups, by default the newest first.
    pub fn backups(&self, context: &Context, options: &ListOptions) -> Result<Page<Stored>, OpError> {
        context.may_change()?;
        let query = Query::parse::<Stored>(options).map_err(OpError::usage)?;
        Ok(query.page(self.backup_folder().list(self.now())?.into_iter()))
    }

    /// One to be taken elsewhere.
    pub async fn open_backup(&self, context: &Context, name: &str) -> Result<BackupFile, OpError> {
        context.may_change()?;
        let path = self.found_backup(name)?;
        let file = tokio::fs::File::open(&path).await;
        let file = file.map_err(|error| OpError::internal(format!("cannot read {}: {error}", path.display())))?;
        Ok(BackupFile { file })
    }

    /// Takes one away for good.
    pub async fn remove_backup(&self, context: &Context, name: &str, how: How) -> Result<BackupAnswer, OpError> {
        context.may_change()?;
        let (operations, context, name) = (self.clone(), context.clone(), name.to_owned());
        self.to_the_end(async move {
            let _making = operations.inner.saving.lock().await;
            let path = operations.found_backup(&name)?;
            let all = operations.backup_folder().list(operations.now())?;
            let Some(item) = all.into_iter().find(|one| one.name == name) else {
                return Err(OpError::internal("a backup that is there is not in the list"));
            };
            if !how.dry_run {
                operations.backup_folder().remove(&path)?;
                operations.told_of_backup(&context, "backup.remove", "removed", &item).await?;
            }
            Ok(BackupAnswer { item, manifest: None, notes: Vec::new() })
        })
        .await
    }

    fn backup_folder(&self) -> Folder {
        Folder::of(self.store().path().parent().unwrap_or(Path::new(".")))
    }

    fn found_backup(&self, name: &str) -> Result<std::path::PathBuf, OpError> {
        self.backup_folder().find(name).ok_or_else(|| {
            OpError::not_found(format!("there is no backup {}; `pbx backup list` shows all", shown(name)))
        })
    }

    async fn told_of_backup(
        &self,
        context: &Context,
        verb: &'static str,
        did: &str,
        item: &Stored,
    ) -> Result<(), OpError> {
        let wording = Wording {
            verb,
            object: item.name.clone(),
            before: None,
            after: serde_json::to_string(item).ok(),
            sentence: format!("{} {did} the backup {}", context.actor, item.name),
        };
        let (audit, event) = wording.rows(context, self.now(), EventKind::Daemon);
        self.store().audit(&audit).await?;
        self.record(vec![event]).await;
        Ok(())
    }
}

impl BackupFile {
    /// The next piece; none: that was all.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, OpError> {
        let mut piece = Vec::with_capacity(PIECE);
        let mut some = (&mut self.file).take(PIECE as u64);
        let read = some.read_to_end(&mut piece).await;
        read.map_err(|error| OpError::internal(format!("the backup cannot be read on: {error}")))?;
        Ok((!piece.is_empty()).then_some(piece))
    }
}

impl From<BackupError> for OpError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => error.into(),
            error => Self::internal(error.to_string()).with_code("BACKUP_FAILED"),
        }
    }
}

impl Row for Stored {
    const FIELDS: &'static [(&'static str, Kind)] =
        &[("name", Kind::Text), ("created_at", Kind::Time), ("bytes", Kind::Number), ("encrypted", Kind::Bool)];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Text(self.name.as_str().into()),
            1 => Value::Time(self.created_at),
            2 => Value::Number(i64::try_from(self.bytes).unwrap_or(i64::MAX)),
            _ => Value::Bool(self.encrypted),
        }
    }
}

#[cfg(test)]
impl Operations {
    /// Gives a backup another name.
    pub(crate) fn set_aside(&self, name: &str, to: &str) {
        let path = self.found_backup(name).unwrap();
        std::fs::rename(&path, path.with_file_name(to)).unwrap();
    }
}
