//! The pin folder: a bpffs with one folder a layout (the maps) and one for the links.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use pbx_ebpf::abi::{LAYOUT, header::SIZES};

/// Makes sure that `folder` lies in a bpffs; as root, mounts one there.
pub(super) fn prepare(folder: &Path) -> anyhow::Result<()> {
    match fs::create_dir_all(folder) {
        Ok(()) => {}
        Err(error) => {
            bail!("cannot make the pin folder {}: {error}; see pin_dir in the configuration", folder.display())
        }
    }
    if is_bpffs(folder)? {
        return Ok(());
    }
    let command = format!("mount -t bpf -o mode=0700 bpf {}", folder.display());
    mount(Some("bpf"), folder, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(|error| {
        anyhow::anyhow!("{} is not a bpffs and cannot be made one ({error}): `{command}`", folder.display())
    })?;
    tracing::info!(folder = %folder.display(), "mounted a bpffs for the filter's maps and links");
    Ok(())
}

/// Another daemon holds the pin folder.
#[derive(Debug, thiserror::Error)]
#[error("another pbx filters with the pins in {}: stop it first, or set another pin_dir", .0.display())]
pub struct Claimed(PathBuf);

/// One daemon a pin folder, whatever its data are: held as long as the lock lives.
pub(super) fn claim(folder: &Path) -> anyhow::Result<Flock<File>> {
    let directory = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(locked),
        Err((_, Errno::EWOULDBLOCK)) => Err(Claimed(folder.to_owned()).into()),
        Err((_, error)) => bail!("cannot lock {}: {error}", folder.display()),
    }
}

/// Takes the filter of an earlier start off every interface.
pub fn take_off(folder: &Path) -> anyhow::Result<()> {
    if !links(folder).exists() {
        return Ok(());
    }
    let _lock = claim(folder)?;
    for pin in attached(folder)? {
        fs::remove_file(&pin)
            .with_context(|| format!("cannot take off the filter of an earlier start ({})", pin.display()))?;
        tracing::info!(link = %pin.display(), "taken off");
    }
    Ok(())
}

/// The pins of all links.
pub(super) fn attached(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(links(folder))?.map(|entry| Ok(entry?.path())).collect()
}

fn is_bpffs(folder: &Path) -> anyhow::Result<bool> {
    let what = statfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    Ok(what.filesystem_type() == BPF_FS_MAGIC)
}

/// The folder of this build's maps.
pub(super) fn maps(folder: &Path) -> PathBuf {
    folder.join(format!("v{LAYOUT}-{SIZES:016x}"))
}

/// The folder of the links.
pub(super) fn links(folder: &Path) -> PathBuf {
    folder.join("links")
}

/// The interface whose link is pinned there.
pub(super) fn interface(link: &Path) -> Option<String> {
    Some(link.file_name()?.to_str()?.replace('~', "."))
}

/// The pin of an interface's link; a bpffs takes no dots.
pub(super) fn link(links: &Path, interface: &str) -> PathBuf {
    links.join(interface.replace('.', "~"))
}

/// The folders of other layouts.
pub(super) fn others(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let ours = maps(folder);
    let mut others = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let versioned = name.to_str().is_some_and(|name| name.starts_with('v') && name.contains('-'));
        if versioned && entry.file_type()?.is_dir() && entry.path() != ours {
            others.push(entry.path());
        }
    }
    Ok(others)
}

/// Deletes a folder of pins.
pub(super) fn delete(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir(folder)
}
