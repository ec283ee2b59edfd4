//! The folder of the backups that the daemon makes: `backups` in the data folder.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use pbx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BackupError, DATABASE, KEY, Manifest, container, snapshot};

/// Endings of a plain and of an encrypted one.
const PLAIN: &str = ".tar";
const SEALED: &str = ".tar.age";
/// Characters of a name.
const LONGEST_NAME: usize = 100;
/// What is still being made.
const DRAFT: &str = ".draft";
/// After so long a draft is nobody's.
const DRAFT_LIFE: Duration = Duration::from_secs(6 * 3600);

/// The folder, beside the database that is saved in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    data_dir: PathBuf,
}

/// A backup in the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The file's name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its size.
    pub bytes: u64,
    /// It opens with a passphrase only, and holds the key of the secrets.
    pub encrypted: bool,
}

impl Folder {
    /// That of a data folder.
    pub fn of(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_path_buf() }
    }

    fn path(&self) -> PathBuf {
        self.data_dir.join("backups")
    }

    /// Makes a backup called after its time, and `what` where that says something. Consistent, whatever is written
    /// meanwhile; nobody waits for it. With a passphrase it is encrypted and has the key, if that lies beside the
    /// database.
    pub async fn make(
        &self,
        what: Option<&str>,
        passphrase: Option<String>,
        now: Timestamp,
    ) -> Result<(Stored, Manifest), BackupError> {
        let folder = self.path();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(BackupError::file("make", &folder))?;
        let time: String = now.to_string().chars().filter(|one| !matches!(one, '-' | ':')).take(15).collect();
        let what = what.map(|what| format!("-{what}")).unwrap_or_default();
        let ending = if passphrase.is_some() { SEALED } else { PLAIN };
        let (name, path) = free(&folder, &format!("pbx-{time}{what}"), ending);
        let database = folder.join(format!("{name}.db{DRAFT}"));
        let draft = folder.join(format!("{name}{DRAFT}"));
        let made = async {
            let layout = snapshot::take(&self.data_dir.join(DATABASE), &database).await?;
            let key = Some(self.data_dir.join(KEY)).filter(|key| passphrase.is_some() && key.is_file());
            let (draft, database) = (draft.clone(), database.clone());
            let packed = tokio::task::spawn_blocking(move || {
                let (database_bytes, database_sha256) = container::sum(&database)?;
                let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
                let manifest = Manifest {
                    program: env!("CARGO_PKG_VERSION").to_owned(),
                    layout,
                    created_at: now,
                    host: host.unwrap_or_default(),
                    database_bytes,
                    database_sha256,
                    has_key: key.is_some(),
                };
                container::pack(&draft, &manifest, &database, key.as_deref(), passphrase.as_deref())?;
                Ok(manifest)
            });
            packed.await.map_err(|error| BackupError::file("write", &path)(io::Error::other(error))).flatten()
        };
        let made: Result<Manifest, BackupError> = made.await;
        let _ = fs::remove_file(&database);
        let renamed = made.and_then(|manifest| {
            fs::rename(&draft, &path).map_err(BackupError::file("write", &path))?;
            let synced = fs::File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(BackupError::file("write", &folder))?;
            Ok(manifest)
        });
        if renamed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        let manifest = renamed?;
        Ok((stored(&path)?, manifest))
    }

    /// All of them, the newest first. What an ended daemon had begun is taken away.
    pub fn list(&self, now: Timestamp) -> Result<Vec<Stored>, BackupError> {
        let folder = self.path();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(BackupError::file("read", &folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(BackupError::file("read", &folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(DRAFT) {
                let age = stored(&path).map(|draft| now.saturating_since(draft.created_at));
                if age.is_ok_and(|age| age > DRAFT_LIFE) {
                    let _ = fs::remove_file(&path);
                }
            } else if is_name(name) {
                found.push(stored(&path)?);
            }
        }
        found.sort_by(|a, b| (b.created_at, &b.name).cmp(&(a.created_at, &a.name)));
        Ok(found)
    }

    /// Where the backup of this name is; none: there is none.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        is_name(name).then(|| self.path().join(name)).filter(|path| path.is_file())
    }

    /// Takes one away.
    pub fn remove(&self, path: &Path) -> Result<(), BackupError> {
        fs::remove_file(path).map_err(BackupError::file("remove", path))
    }
}

fn free(folder: &Path, name: &str, ending: &str) -> (String, PathBuf) {
    (1..)
        .map(|number| if number == 1 { format!("{name}{ending}") } else { format!("{name}-{number}{ending}") })
        .map(|name| (name.clone(), folder.join(name)))
        .find(|(_, path)| !path.exists())
        .unwrap_or_else(|| (name.to_owned(), folder.join(name)))
}

fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with("pbx-")
        && (name.ends_with(PLAIN) || name.ends_with(SEALED))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn stored(path: &Path) -> Result<Stored, BackupError> {
    let metadata = fs::metadata(path).map_err(BackupError::file("read", path))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Stored {
        encrypted: name.ends_with(SEALED),
        created_at: Timestamp::from_millis(metadata.mtime().saturating_mul(1000)),
        bytes: metadata.len(),
        name,
    })
}
