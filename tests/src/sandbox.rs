//! A network and mount namespace of a test's own, with its own bpffs. First of all; everything else runs inside.
//! Unnamed: nothing of it is seen from outside, and it is gone with the threads and processes that are in it.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;

/// What a closure run by [`Sandbox::run`] finds around it.
#[derive(Debug)]
pub struct Sandbox {
    directory: PathBuf,
    network: Namespace,
    ours: Ours,
}

/// What the sandbox has to take away at its end.
#[derive(Debug)]
enum Ours {
    /// The directory, a tmpfs that only the sandbox sees, and the bpffs in it.
    Directory,
    /// The bpffs in a directory of the caller's.
    Bpffs,
}

impl Sandbox {
    /// Runs `inside` on a thread of its own, in new namespaces: an empty network with `lo` up, a tmpfs as
    /// working directory, a bpffs in it. Threads and processes that `inside` starts are in the sandbox too.
    ///
    /// # Panics
    /// If the sandbox cannot be made (it says what is missing), and with the panic of `inside`.
    pub fn run<T: Send>(inside: impl FnOnce(&Sandbox) -> T + Send) -> T {
        on_own_thread(|| {
            let sandbox = Self::private().unwrap_or_else(|error| panic!("no sandbox: {error:#}"));
            inside(&sandbox)
        })
    }

    /// As [`run`](Self::run), with a directory that others see too: they can reach a socket in it.
    pub fn run_in<T: Send>(directory: &Path, inside: impl FnOnce(&Sandbox) -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            enter_namespaces(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
            inside(&Self::in_directory(directory)?)
        })
    }

    /// As [`run_in`](Self::run_in), in the network of the caller: only the mounts are private.
    /// Programs pinned in its bpffs are detached when the last process in the sandbox ends.
    pub fn run_on_host_network<T: Send>(
        directory: &Path,
        inside: impl FnOnce(&Sandbox) -> Result<T> + Send,
    ) -> Result<T> {
        on_own_thread(|| {
            enter_namespaces(CloneFlags::CLONE_NEWNS)?;
            inside(&Self::in_directory(directory)?)
        })
    }

    /// Where a test puts its files; the path is short enough for unix sockets.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The sandbox's bpffs.
    pub fn bpffs(&self) -> PathBuf {
        self.directory.join("bpf")
    }

    /// The network namespace that `inside` was started in.
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    fn private() -> Result<Self> {
        enter_namespaces(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
        let directory = tempfile::Builder::new().prefix("pbx-test-").tempdir()?.keep();
        mount_new("tmpfs", &directory, "mode=0755")?;
        let sandbox = Self { network: Namespace::current()?, ours: Ours::Directory, directory };
        sandbox.mount_bpffs()?;
        Ok(sandbox)
    }

    fn in_directory(directory: &Path) -> Result<Self> {
        let sandbox = Self { network: Namespace::current()?, ours: Ours::Bpffs, directory: directory.to_owned() };
        sandbox.mount_bpffs()?;
        Ok(sandbox)
    }

    fn mount_bpffs(&self) -> Result<()> {
        fs::create_dir_all(self.bpffs())?;
        mount_new("bpf", &self.bpffs(), "mode=0700")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The mounts would go with the namespace, but their directory can only be removed without them.
        // What fails here is seen by nobody else and taken by the end of the namespace.
        let _ = umount2(&self.bpffs(), MntFlags::MNT_DETACH);
        match self.ours {
            Ours::Directory => {
                let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
                let _ = fs::remove_dir(&self.directory);
            }
            Ours::Bpffs => {
                let _ = fs::remove_dir(self.bpffs());
            }
        }
    }
}

/// A network namespace, alive while it is held.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// A new one, empty but for `lo`, which is up.
    pub fn new() -> Result<Self> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace")?;
            prepare_network()?;
            Self::current()
        })
    }

    /// That of the calling thread.
    pub fn current() -> Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net").context("the network namespace")?.into()))
    }

    /// The same one, held once more.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone().context("the network namespace")?))
    }

    /// Runs `inside` on a thread in this namespace. A socket made there stays in it wherever it is used.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            setns(self, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
            inside()
        })
    }

    /// Makes a program run in this namespace, and end with the thread that starts it.
    pub fn put(&self, command: &mut Command) -> Result<()> {
        let namespace = self.0.try_clone()?;
        // SAFETY: both are system calls, which are allowed between fork and exec.
        unsafe {
            command.pre_exec(move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
            });
        }
        Ok(())
    }

    /// Runs `ip` with these words in this namespace.
    pub fn ip(&self, words: &str) -> Result<()> {
        self.enter(|| ip(words))
    }

    /// A path by which other processes of ours can open it while it is held.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs iproute2's `ip` in the namespace of the calling thread; an error holds what it said.
pub fn ip(words: &str) -> Result<()> {
    let output = match Command::new("ip").args(words.split_whitespace()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("the command ip is missing: install it with `apt-get install iproute2`")
        }
        result => result.context("run ip")?,
    };
    ensure!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

fn enter_namespaces(which: CloneFlags) -> Result<()> {
    ensure!(geteuid().is_root(), "network namespaces and BPF need root: run this as root, for example with sudo");
    // Threads share one root and working directory until CLONE_FS is undone; a mount namespace needs its own.
    unshare(CloneFlags::CLONE_FS | which)
        .context("new namespaces are not allowed here (a container needs CAP_SYS_ADMIN)")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make the mounts private")?;
    if which.contains(CloneFlags::CLONE_NEWNET) {
        // sysfs shows the interfaces of the namespace that mounted it.
        mount_new("sysfs", Path::new("/sys"), "")?;
        prepare_network()?;
    }
    Ok(())
}

fn mount_new(kind: &str, target: &Path, options: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), Some(options))
        .with_context(|| format!("mount a {kind} on {}", target.display()))
}

/// The ports that the machine does not use by itself, below `/proc/sys/net`.
const RESERVED: &str = "ipv4/ip_local_reserved_ports";

/// Reserves these ports in the network of the calling thread, and no others.
pub fn reserve_ports(ports: &str) -> Result<()> {
    // The kernel takes no notice of nothing at all.
    let text = format!("{ports}\n");
    fs::write(Path::new("/proc/sys/net").join(RESERVED), text).with_context(|| format!("reserve {ports:?}"))
}

/// `lo` up, no duplicate address detection that would delay addresses, no filter on source addresses.
fn prepare_network() -> Result<()> {
    for (key, value) in [
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // As the unit has it; with as many ports left for connections as there usually are.
        ("ipv4/ip_local_port_range", "16384 60999"),
        (RESERVED, "45000-64999"),
    ] {
        fs::write(Path::new("/proc/sys/net").join(key), value).with_context(|| format!("set {key}"))?;
    }
    ip("link set lo up")
}
