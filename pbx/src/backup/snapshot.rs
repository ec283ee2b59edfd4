//! Snapshots of a database, and putting one back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pbx_core::time::Timestamp;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::{BackupError, DATABASE, Folder, KEY, Manifest, Stored, unpack};
use crate::{
    secrets::Secrets,
    store::{Store, newest_layout},
};

/// What SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["pbx.db-wal", "pbx.db-shm"];

/// Copies a database as it is at one moment; its layout.
pub(super) async fn take(database: &Path, target: &Path) -> Result<i64, BackupError> {
    let mut connection = open(database, false).await?;
    let taken = async {
        sqlx::query("VACUUM INTO ?").bind(target.to_string_lossy()).execute(&mut connection).await?;
        layout(&mut connection).await
    };
    let taken = taken.await.map_err(|error| failed(database, &error));
    let _ = connection.close().await;
    taken
}

/// Saves a database whose layout is older than the program's, before it is changed. None: there is nothing to save.
pub async fn before_migration(data_dir: &Path, now: Timestamp) -> Result<Option<Stored>, BackupError> {
    let database = data_dir.join(DATABASE);
    if !database.is_file() {
        return Ok(None);
    }
    let mut connection = open(&database, false).await?;
    let layout = layout(&mut connection).await.map_err(|error| failed(&database, &error));
    let _ = connection.close().await;
    match layout? {
        layout if layout > 0 && layout < newest_layout() => {
            let what = format!("before-layout-{}", newest_layout());
            Ok(Some(Folder::of(data_dir).make(Some(&what), None, now).await?.0))
        }
        _ => Ok(None),
    }
}

/// Puts a backup in place of the database (and of the key, if it has one) in `data_dir`, which no daemon may use
/// meanwhile: the caller holds its lock. What was there is moved into a folder beside it, which comes back; nothing is
/// touched before the backup has been read, checked and found to fit.
pub async fn restore(
    file: &Path,
    passphrase: Option<String>,
    data_dir: &Path,
    now: Timestamp,
) -> Result<(Manifest, Option<PathBuf>), BackupError> {
    let draft = tempfile_in(data_dir)?;
    let restored = async {
        let manifest = {
            let (file, draft) = (file.to_path_buf(), draft.clone());
            let unpacked = tokio::task::spawn_blocking(move || unpack(&file, passphrase.as_deref(), &draft));
            unpacked.await.map_err(|error| BackupError::damaged(&draft_of(data_dir), error.to_string()))??
        };
        check(file, &manifest, &draft, data_dir).await?;
        let old = swap(&draft, data_dir, manifest.has_key, now)?;
        Ok((manifest, old))
    }
    .await;
    let _ = fs::remove_dir_all(&draft);
    restored
}

/// Whether what was unpacked is a database that this program and its key can open.
async fn check(file: &Path, manifest: &Manifest, draft: &Path, data_dir: &Path) -> Result<(), BackupError> {
    let database = draft.join(DATABASE);
    let mut connection = open(&database, true).await?;
    let found: Result<(String, i64), sqlx::Error> = async {
        let state: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await?;
        Ok((state, layout(&mut connection).await?))
    }
    .await;
    let _ = connection.close().await;
    let (state, layout) = found.map_err(|error| BackupError::damaged(file, error.to_string()))?;
    if state != "ok" {
        return Err(BackupError::damaged(file, state));
    }
    if layout > newest_layout() {
        let program = manifest.program.clone();
        return Err(BackupError::Newer { path: file.to_path_buf(), program, layout, known: newest_layout() });
    }
    // A copy, because opening brings it to the current layout: that is for the daemon, with a backup before.
    let trial = draft.join("trial");
    fs::create_dir(&trial).map_err(BackupError::file("make", &trial))?;
    let copied = fs::copy(&database, trial.join(DATABASE));
    copied.map_err(BackupError::file("copy", &database))?;
    let key = if manifest.has_key { draft.join(KEY) } else { data_dir.join(KEY) };
    if key.is_file() {
        fs::copy(&key, trial.join(KEY)).map_err(BackupError::file("copy", &key))?;
    }
    let store = Store::open(&trial.join(DATABASE)).await?;
    let opened = Secrets::open(&store, &trial, None).await;
    store.close().await;
    fs::remove_dir_all(&trial).map_err(BackupError::file("remove", &trial))?;
    opened.map(drop).map_err(|_| BackupError::OtherKey { path: file.to_path_buf(), key: data_dir.join(KEY) })
}

/// Moves what is there aside and what was unpacked in; a failure moves it back.
fn swap(draft: &Path, data_dir: &Path, has_key: bool, now: Timestamp) -> Result<Option<PathBuf>, BackupError> {
    let mut going: Vec<&str> = [DATABASE].into_iter().chain(BESIDE).collect();
    going.extend(has_key.then_some(KEY));
    going.retain(|name| data_dir.join(name).exists());
    let aside = data_dir.join(format!("before-restore-{}", now.to_string().replace([':', '-'], "")));
    let (mut moved, mut outcome) = (Vec::new(), Ok(()));
    if !going.is_empty() {
        fs::create_dir(&aside).map_err(BackupError::file("make", &aside))?;
    }
    let coming = [Some(DATABASE), has_key.then_some(KEY)].into_iter().flatten();
    let steps = going.iter().map(|name| (data_dir.join(name), aside.join(name)));
    let steps = steps.chain(coming.map(|name| (draft.join(name), data_dir.join(name))));
    for (from, to) in steps {
        match fs::rename(&from, &to) {
            Ok(()) => moved.push((from, to)),
            Err(error) => {
                outcome = Err(BackupError::file("move", &from)(error));
                break;
            }
        }
    }
    if outcome.is_err() {
        for (from, to) in moved.iter().rev() {
            let _ = fs::rename(to, from);
        }
        let _ = fs::remove_dir(&aside);
    }
    let synced = fs::File::open(data_dir).and_then(|folder| folder.sync_all());
    outcome.and_then(|()| synced.map_err(BackupError::file("write", data_dir)))?;
    Ok((!going.is_empty()).then_some(aside))
}

async fn open(database: &Path, read_only: bool) -> Result<SqliteConnection, BackupError> {
    let mut options = SqliteConnectOptions::new().filename(database).create_if_missing(false).read_only(read_only);
    if !read_only {
        options = options.journal_mode(SqliteJournalMode::Wal);
    }
    options.connect().await.map_err(|error| failed(database, &error))
}

/// The number of the last migration; 0: there is none.
async fn layout(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let known: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_one(&mut *connection)
        .await?;
    if known == 0 {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT ifnull(max(version), 0) FROM _sqlx_migrations").fetch_one(connection).await
}

fn failed(database: &Path, error: &sqlx::Error) -> BackupError {
    BackupError::damaged(database, error.to_string())
}

fn draft_of(data_dir: &Path) -> PathBuf {
    data_dir.join("restore.draft")
}

/// An empty folder of our own; one that a killed restore left is taken away.
fn tempfile_in(data_dir: &Path) -> Result<PathBuf, BackupError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let draft = draft_of(data_dir);
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(BackupError::file("remove", &draft))?;
    }
    fs::DirBuilder::new().mode(0o700).create(&draft).map_err(BackupError::file("make", &draft))?;
    Ok(draft)
}
