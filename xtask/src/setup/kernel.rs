//! Debian's kernel 6.1 for the long test: taken out of its package into a folder of the workspace, never
//! installed. Two files are kept: the kernel, and the driver of the lab's links, which is a module.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::{is_there, packages::apt_get};
use crate::step;

/// The variant for virtual machines: the same source and the same verifier as the general one, with fewer
/// drivers, a third of the download.
const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// The oldest kernel that is supported, as its packages are named.
const SERIES: &str = "linux-image-6.1.";

/// Where the test finds `vmlinuz` and `veth.ko`.
fn folder(root: &Path) -> PathBuf {
    root.join("target/kernel-6.1")
}

/// The last file that is put there.
pub(super) fn is_fetched(root: &Path) -> bool {
    folder(root).join("vmlinuz").exists()
}

/// Fetches the package and takes the two files out of it.
pub(super) fn fetch(root: &Path, path: &[PathBuf], is_root: bool) -> Result<()> {
    let folder = folder(root);
    let unpacked = folder.join("unpacked");
    if unpacked.exists() {
        // Of a run that was interrupted.
        fs::remove_dir_all(&unpacked)?;
    }
    fs::create_dir_all(&unpacked)?;
    let package = match found(&folder)? {
        Some(package) => package,
        None => {
            download(&folder, path, is_root)?;
            found(&folder)?.context("apt-get downloaded no package")?
        }
    };
    let mut unpack = Command::new("dpkg-deb");
    if let Err(error) = step::run("setup", step::aside(unpack.arg("-x").arg(&package).arg(&unpacked))?) {
        fs::remove_file(&package)?;
        return Err(error.context("the package was damaged and is removed; run this again"));
    }
    let modules = only(&unpacked.join("lib/modules"), "")?;
    fs::copy(modules.join("kernel/drivers/net/veth.ko"), folder.join("veth.ko")).context("the package's veth.ko")?;
    fs::copy(only(&unpacked.join("boot"), "vmlinuz-")?, folder.join("vmlinuz"))?;
    fs::remove_dir_all(&unpacked)?;
    Ok(fs::remove_file(package)?)
}

fn download(folder: &Path, path: &[PathBuf], is_root: bool) -> Result<()> {
    let by_hand = format!(
        "put the package of a Debian kernel ({SERIES}*-cloud-amd64_*.deb, from Debian 12) into {} and run this again",
        folder.display()
    );
    ensure!(is_there("apt-get", path) && is_there("dpkg-deb", path), "there is no apt-get here; {by_hand}");
    if is_root {
        step::run("setup", step::aside(&mut apt_get(["update"]))?)?;
    }
    let listed = Command::new("apt-cache").args(["depends", METAPACKAGE]).output().context("apt-cache")?;
    let Some(name) = kernel_of(&String::from_utf8_lossy(&listed.stdout)) else {
        bail!("this system's {METAPACKAGE} is no kernel 6.1; {by_hand}");
    };
    // apt's own user may not write into the workspace; whoever runs this may.
    let arguments = ["--option", "APT::Sandbox::User=", "download", &name];
    step::run("setup", step::aside(apt_get(arguments).current_dir(folder))?)
}

/// The package of series 6.1 that a metapackage stands for, in what `apt-cache depends` prints.
fn kernel_of(listed: &str) -> Option<String> {
    listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with(SERIES))
        .map(String::from)
}

/// A package that is there already: of a download that was interrupted later on, or put there by hand.
fn found(folder: &Path) -> Result<Option<PathBuf>> {
    Ok(entries(folder)?.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(SERIES) && name.ends_with(".deb")
    }))
}

/// The only entry of a folder whose name begins so.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let mut entries = entries(folder).with_context(|| format!("the package's {}", folder.display()))?;
    entries.retain(|path| path.file_name().unwrap_or_default().to_string_lossy().starts_with(prefix));
    match <[PathBuf; 1]>::try_from(entries) {
        Ok([path]) => Ok(path),
        Err(others) => bail!("one {prefix}* was expected in {}, there are {}", folder.display(), others.len()),
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_oldest_supported_kernel_is_told_from_others() {
        let listed = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(kernel_of(listed).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(kernel_of("linux-image-cloud-amd64\n  Depends: linux-image-6.12.9-cloud-amd64\n"), None);
        assert_eq!(kernel_of(""), None);
    }

    #[test]
    fn a_kernel_is_fetched_when_its_last_file_is_there() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder(root.path())).unwrap();
        assert!(!is_fetched(root.path()));
        fs::write(folder(root.path()).join("vmlinuz"), "").unwrap();
        assert!(is_fetched(root.path()));
    }

    #[test]
    fn a_package_put_there_by_hand_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(found(folder.path()).unwrap(), None);
        let package = folder.path().join("linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb");
        fs::write(&package, "").unwrap();
        assert_eq!(found(folder.path()).unwrap(), Some(package));
    }
}
