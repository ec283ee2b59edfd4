//! The folder of the runs: one at a time, its owner's only, with what is kept from one to the next.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pbx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Held while a run is on.
const LOCK: &str = "run.lock";
/// What is kept; for its owner's eyes.
const KEPT: &str = "kept.json";
/// Where the pins of the filter are, while there are any.
const BPFFS: &str = "bpf";

/// How long the daemon of a run that was killed may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// The folder, locked.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    _lock: File,
}

/// What one run leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// The extensions that were made, by number.
    pub(crate) extensions: BTreeMap<String, KeptExtension>,
    /// Where the filter was in the kernel last.
    pub(crate) interfaces: Vec<String>,
}

/// An extension as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptExtension {
    /// Its SIP password.
    pub(crate) password: String,
    /// When it was made; one that was changed later may have another password.
    pub(crate) made: Timestamp,
}

impl Place {
    /// Makes the folder if it is not there, for its owner only, and locks it. An error if another run has it, or if it
    /// belongs to somebody else.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let made = || format!("make the folder {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(made)?;
        let path = path.canonicalize().with_context(made)?;
        let (owner, own) = (fs::metadata(&path)?.uid(), nix::unistd::geteuid());
        ensure!(
            owner == own.as_raw() || own.is_root(),
            "{0} belongs to user {owner}: an earlier run was as another user. As that one or as root, remove it \
             (rm -r {0}) or give it to you (chown -R {own} {0})",
            path.display()
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK));
        let lock = open.with_context(|| format!("open {}", path.join(LOCK).display()))?;
        if let Err(fs::TryLockError::WouldBlock) = lock.try_lock() {
            bail!(
                "another `cargo xtask run` is on in {0}: use that one (pbx --socket {0}/pbx.sock status), or end it",
                path.display()
            );
        }
        wait_for_daemon(&path);
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the pins go.
    pub(crate) fn bpffs(&self) -> PathBuf {
        self.path.join(BPFFS)
    }

    /// Removes everything but the lock, after asking whoever sits at the terminal, unless that was done.
    pub(crate) fn empty(&self, asked: bool) -> Result<()> {
        let there: Vec<PathBuf> = fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.path()))
            .filter(|path| !path.as_ref().is_ok_and(|path| path.ends_with(LOCK)))
            .collect::<io::Result<_>>()?;
        if there.is_empty() {
            return Ok(());
        }
        if !asked {
            confirm(&self.path)?;
        }
        for path in there {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// What the last run left; nothing, if there was none.
    pub(crate) fn kept(&self) -> Result<Kept> {
        let path = self.path.join(KEPT);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is damaged: remove it (then its passwords are lost), or begin anew with --fresh",
                path.display()
            )
        })
    }

    /// Leaves this to the next run. All of it or nothing: a run that is killed meanwhile leaves what was there.
    pub(crate) fn keep(&self, kept: &Kept) -> Result<()> {
        let (path, beside) = (self.path.join(KEPT), self.path.join(format!("{KEPT}.new")));
        let write = || -> Result<()> {
            // Of a run that was killed here; its mode is whatever it was.
            let _ = fs::remove_file(&beside);
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(kept)?)?;
            file.sync_all()?;
            Ok(fs::rename(&beside, &path)?)
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Place {
    /// What root left in a user's folder is the user's, who may run without root next.
    fn drop(&mut self) {
        let Ok(folder) = fs::metadata(&self.path) else { return };
        if folder.uid() != nix::unistd::geteuid().as_raw() {
            // What stays root's is said by the run that cannot read it.
            let _ = give(&self.path, folder.uid(), folder.gid());
        }
    }
}

fn give(folder: &Path, user: u32, group: u32) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Links are given, not what they lead to.
        lchown(entry.path(), Some(user), Some(group))?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), user, group)?;
        }
    }
    Ok(())
}

fn confirm(folder: &Path) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("--fresh removes what earlier runs left in {}: repeat it with --yes", folder.display());
    }
    eprint!(
        "Remove what earlier runs left in {} (extensions, passwords, registrations, rules)? [y/N] ",
        folder.display()
    );
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was removed, nothing was started");
    Ok(())
}

/// Waits for the daemon of a run that was killed: the kernel ends it as well, a moment later. One that stays is named
/// by the next daemon, which does not start.
fn wait_for_daemon(path: &Path) {
    let Ok(lock) = File::open(path.join("data/lock")) else { return };
    let deadline = Instant::now() + ENDING;
    while matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn something() -> Kept {
        let made = Timestamp::from_millis(1_790_000_000_000);
        let extension = KeptExtension { password: "kT7wq2mz#P".to_owned(), made };
        Kept { extensions: [("100".to_owned(), extension)].into(), interfaces: vec!["eth0".to_owned()] }
    }

    #[test]
    fn what_one_run_keeps_the_next_one_finds_and_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let place = Place::open(&path).unwrap();
        assert_eq!(place.kept().unwrap(), Kept::default());
        place.keep(&something()).unwrap();
        place.keep(&something()).unwrap();
        drop(place);
        assert_eq!(Place::open(&path).unwrap().kept().unwrap(), something());
        assert_eq!((mode(&path), mode(&path.join(KEPT))), (0o700, 0o600));
    }

    #[test]
    fn a_damaged_file_is_named_with_what_helps() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path()).unwrap();
        fs::write(folder.path().join(KEPT), "{\"extensions\": 5}").unwrap();
        let error = format!("{:#}", place.kept().unwrap_err());
        assert!(error.contains(KEPT) && error.contains("--fresh"), "{error}");
    }

    #[test]
    fn a_second_run_in_the_same_folder_is_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Place::open(folder.path()).unwrap();
        let error = Place::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another") && error.contains("pbx.sock"), "{error}");
    }

    #[test]
    fn beginning_anew_removes_all_but_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path()).unwrap();
        place.keep(&something()).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/pbx.db"), "").unwrap();
        place.empty(true).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
        assert!(Place::open(folder.path()).is_err(), "still locked");
    }
}
