//! The Debian packages, each with the file that proves it is there and what it is for.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::{Task, is_there};
use crate::step;

/// A package and what it is needed for.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    /// A program, or the absolute path of a file.
    pub(super) proof: &'static str,
    pub(super) why: &'static str,
    needed_by: &'static [Task],
}

use Task::{Bench, Build, Demo, Long, Test};

/// None of these starts a service when it is installed.
const PACKAGES: &[Package] = &[
    Package { name: "build-essential", proof: "cc", why: "links programs, compiles SQLite", needed_by: &[Build] },
    Package { name: "iproute2", proof: "ip", why: "interfaces of the lab", needed_by: &[Demo, Test, Bench] },
    Package {
        name: "ethtool",
        proof: "ethtool",
        why: "offloads of the lab's interfaces",
        needed_by: &[Demo, Test, Bench],
    },
    Package {
        name: "bpftool",
        proof: "bpftool",
        why: "a second look at what the kernel holds",
        needed_by: &[Test, Bench],
    },
    Package {
        name: "nftables",
        proof: "nft",
        why: "routers of the lab; the host's firewall; a filter to compare with",
        needed_by: &[Demo, Test, Bench],
    },
    Package { name: "tcpdump", proof: "tcpdump", why: "reads the captures of dropped packets", needed_by: &[Test] },
    Package { name: "sip-tester", proof: "sipp", why: "phones by the thousand", needed_by: &[Demo, Test] },
    Package { name: "baresip", proof: "baresip", why: "a phone that nobody here wrote", needed_by: &[Test] },
    Package { name: "sipvicious", proof: "svwar", why: "the scanner that everybody meets", needed_by: &[Demo, Test] },
    Package { name: "kamailio", proof: "kamailio", why: "a registrar to compare with", needed_by: &[Bench] },
    Package { name: "xdp-tools", proof: "xdp-filter", why: "a filter to compare with", needed_by: &[Bench] },
    Package {
        name: "util-linux",
        proof: "setpriv",
        why: "the daemon with the unit's user and capabilities",
        needed_by: &[Test],
    },
    Package {
        name: "systemd",
        proof: "systemd-analyze",
        why: "judges the units; nothing is started",
        needed_by: &[Test],
    },
    Package {
        name: "qemu-system-x86",
        proof: "qemu-system-x86_64",
        why: "boots Debian's kernel 6.1",
        needed_by: &[Long],
    },
    Package { name: "busybox-static", proof: "busybox", why: "user space under that kernel", needed_by: &[Long] },
    Package { name: "cpio", proof: "cpio", why: "packs that user space", needed_by: &[Long] },
];

/// What of the table these tasks need and the machine has not.
pub(super) fn missing(tasks: &[Task], path: &[PathBuf]) -> Vec<&'static Package> {
    let needed = |package: &&Package| {
        package.needed_by.contains(&Build) || package.needed_by.iter().any(|task| tasks.contains(task))
    };
    PACKAGES.iter().filter(needed).filter(|package| !is_there(package.proof, path)).collect()
}

/// Whether this process may install packages, and if not, why.
pub(super) fn installer(root: bool, path: &[PathBuf]) -> Result<(), &'static str> {
    match (is_there("apt-get", path), root) {
        (true, true) => Ok(()),
        (true, false) => Err("installing packages needs root"),
        (false, _) => Err("there is no apt-get here, install them the way of this system; on Debian"),
    }
}

/// The lists of the archive may be old, or, in a fresh container, absent: they are renewed once.
pub(super) fn install(packages: &[&Package]) -> Result<()> {
    for arguments in [vec!["update"], install_arguments(packages)] {
        step::run("setup", step::aside(&mut apt_get(arguments))?)?;
    }
    Ok(())
}

/// `apt-get` with these arguments, which asks nobody anything.
pub(super) fn apt_get<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut apt = Command::new("apt-get");
    // Another apt at work (a machine just booted has one) is waited for.
    apt.args(["--quiet", "--option", "DPkg::Lock::Timeout=300"]).args(arguments);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// What a person with the right to do so types instead.
pub(super) fn commands(packages: &[&Package]) -> String {
    format!("sudo apt-get update && sudo apt-get {}", install_arguments(packages).join(" "))
}

fn install_arguments(packages: &[&Package]) -> Vec<&'static str> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages.iter().map(|package| package.name));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_asks_for_its_own_packages_and_the_compiler() {
        let names: Vec<_> = missing(&[Long], &[]).iter().map(|p| p.name).collect();
        assert_eq!(names, ["build-essential", "qemu-system-x86", "busybox-static", "cpio"]);
    }

    #[test]
    fn a_program_in_the_path_proves_its_package() {
        let folder = tempfile::tempdir().unwrap();
        for program in ["cc", "busybox", "cpio"] {
            std::fs::write(folder.path().join(program), "").unwrap();
        }
        let names: Vec<_> = missing(&[Long], &[folder.path().into()]).iter().map(|p| p.name).collect();
        assert_eq!(names, ["qemu-system-x86"]);
    }

    #[test]
    fn who_may_not_install_is_told_the_command() {
        let absent = missing(&[Long], &[]);
        assert_eq!(
            commands(&absent),
            "sudo apt-get update && sudo apt-get install --yes --no-install-recommends \
             build-essential qemu-system-x86 busybox-static cpio"
        );
    }

    #[test]
    fn apt_installs_for_root_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("apt-get"), "").unwrap();
        let path = [folder.path().to_path_buf()];
        assert_eq!(installer(true, &path), Ok(()));
        assert!(installer(false, &path).unwrap_err().contains("root"));
        assert!(installer(true, &[]).unwrap_err().contains("no apt-get"));
    }
}
