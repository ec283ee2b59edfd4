//! User space for a kernel, packed as an initramfs: files, and programs with the libraries that they load.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// A folder that is filled and then packed.
pub(crate) struct Initramfs {
    root: PathBuf,
}

impl Initramfs {
    pub(crate) fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// Copies a file to a path in the root folder.
    pub(crate) fn copy(&mut self, from: &Path, to: &str) -> Result<PathBuf> {
        let to = self.root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("it has a folder")?)?;
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
        Ok(to)
    }

    /// Copies a program, by its path or one of the system's by its name, to `/bin`, and its libraries to where
    /// its loader looks for them.
    pub(crate) fn program(&mut self, program: impl AsRef<Path>) -> Result<()> {
        let program = find(program.as_ref())?;
        let name = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
        let copy = self.copy(&program, &format!("bin/{name}"))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        // Debug information is most of a program, and all of it would be unpacked into the machine's memory.
        let stripped = Command::new("strip").arg(&copy).status().context("strip")?;
        ensure!(stripped.success(), "strip {}: {stripped}", copy.display());
        // A static program makes `ldd` fail, and needs nothing.
        let listed = Command::new("ldd").arg(&program).output().context("ldd")?;
        for library in libraries(&String::from_utf8_lossy(&listed.stdout)) {
            self.copy(Path::new(&library), &library)?;
        }
        Ok(())
    }

    /// Writes the archive that the kernel unpacks (`newc`).
    pub(crate) fn pack(self, image: &Path) -> Result<()> {
        fs::set_permissions(self.root.join("init"), fs::Permissions::from_mode(0o755))?;
        let mut names = Vec::new();
        list(&self.root, &self.root, &mut names)?;
        let mut cpio = Command::new("cpio")
            .args(["--quiet", "--create", "--format=newc", "--owner=0:0"])
            .current_dir(&self.root)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(image)?)
            .spawn()
            .context("start cpio (`cargo xtask setup --long` installs it)")?;
        // The handle is dropped at the end of the line, which ends the list.
        cpio.stdin.take().context("it is piped")?.write_all(names.join("\n").as_bytes())?;
        let status = cpio.wait()?;
        ensure!(status.success(), "cpio: {status}");
        Ok(())
    }
}

/// Absolute paths in what `ldd` prints: `libc.so.6 => /lib/…/libc.so.6 (0x…)` and the loader.
fn libraries(listed: &str) -> Vec<String> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(String::from).collect()
}

fn find(program: &Path) -> Result<PathBuf> {
    if program.is_absolute() {
        ensure!(program.is_file(), "{} is not built: `cargo build --workspace --bins`", program.display());
        return Ok(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.with_context(|| format!("no {} here; `cargo xtask setup --long` installs it", program.display()))
}

/// Names relative to the root, each folder before what is in it.
fn list(root: &Path, folder: &Path, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        names.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
        if path.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}
