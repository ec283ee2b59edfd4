//! The directory of one run, under `target/demo`, where another terminal finds the socket.
//! A lock tells the living from the dead: what a killed predecessor left is removed at the next start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The directory of this run; gone with it.
pub(crate) struct Workplace {
    path: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Removes the directories of runs that are over and makes one for this.
    pub(crate) fn open() -> Result<Self> {
        let program = std::env::current_exe()?;
        // target/PROFILE/pbx-demo
        let target = program.ancestors().nth(2).context("the program is not in a target directory")?;
        let base = target.join("demo");
        fs::create_dir_all(&base).with_context(|| format!("make {}", base.display()))?;
        // One at a time looks and makes.
        let door = File::create(base.join("lock"))?;
        door.lock().context("wait for another start of the demo")?;
        sweep(&base)?;
        let path = base.join(std::process::id().to_string());
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // What stays is taken by the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn sweep(base: &Path) -> Result<()> {
    for entry in fs::read_dir(base)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let alive = File::open(path.join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if !alive {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}, left by an earlier run", path.display()))?;
        }
    }
    Ok(())
}
