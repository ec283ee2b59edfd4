//! The file of a backup: a tar archive of manifest, database and, if it is encrypted, the key. Reading is bounded: what
//! has another name, comes twice or is longer than it says is refused, and nothing is written outside the folder.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use age::{Decryptor, Encryptor, Identity, secrecy::SecretString};
use ring::digest::{Context, SHA256};

use super::{BackupError, DATABASE, KEY, Manifest};

/// The first entry.
const MANIFEST: &str = "manifest.json";
/// Bytes of a manifest.
const LONGEST_MANIFEST: u64 = 64 * 1024;
/// Bytes of a key.
const LONGEST_KEY: u64 = 200;
/// What an encrypted file begins with.
const ENCRYPTED: &[u8] = b"age-encryption.org/v1\n";
/// The work of trying a passphrase that a file may ask for, as a power of two: some seconds.
const MOST_WORK: u8 = 22;
const AT_ONCE: usize = 64 * 1024;

/// Writes a backup of `database`, and of `key` if it is encrypted, to a file that is not there yet.
pub(super) fn pack(
    target: &Path,
    manifest: &Manifest,
    database: &Path,
    key: Option<&Path>,
    passphrase: Option<&str>,
) -> Result<(), BackupError> {
    let failed = || BackupError::file("write", target);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map_err(failed())?;
    let mut file = BufWriter::with_capacity(AT_ONCE, file);
    match passphrase {
        None => entries(&mut file, manifest, database, None).map_err(failed())?,
        Some(passphrase) => {
            let encryptor = Encryptor::with_user_passphrase(SecretString::from(passphrase.to_owned()));
            let mut sealed = encryptor.wrap_output(&mut file).map_err(failed())?;
            entries(&mut sealed, manifest, database, key).map_err(failed())?;
            sealed.finish().map_err(failed())?;
        }
    }
    let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(failed())
}

fn entries(into: impl Write, manifest: &Manifest, database: &Path, key: Option<&Path>) -> io::Result<()> {
    let mut archive = tar::Builder::new(into);
    let seconds = u64::try_from(manifest.created_at.as_millis() / 1000).unwrap_or(0);
    let mut add = |name: &str, size: u64, content: &mut dyn Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        archive.append_data(&mut header, name, content)
    };
    let text = serde_json::to_vec_pretty(manifest)?;
    add(MANIFEST, text.len() as u64, &mut text.as_slice())?;
    for (name, path) in [(DATABASE, Some(database)), (KEY, key)] {
        let Some(path) = path else { continue };
        let mut file = File::open(path)?;
        add(name, file.metadata()?.len(), &mut file)?;
    }
    archive.into_inner()?.flush()
}

/// Whether a file asks for a passphrase.
pub fn is_encrypted(file: &Path) -> Result<bool, BackupError> {
    let mut begin = Vec::new();
    let opened = File::open(file).map_err(BackupError::file("read", file))?;
    opened.take(ENCRYPTED.len() as u64).read_to_end(&mut begin).map_err(BackupError::file("read", file))?;
    Ok(begin == ENCRYPTED)
}

/// Unpacks a backup into an empty folder and checks that it is whole; what it says of itself.
pub fn unpack(file: &Path, passphrase: Option<&str>, folder: &Path) -> Result<Manifest, BackupError> {
    let opened = || File::open(file).map(|file| BufReader::with_capacity(AT_ONCE, file));
    let opened = opened().map_err(BackupError::file("read", file))?;
    if !is_encrypted(file)? {
        return read(file, opened, folder);
    }
    let passphrase = passphrase.ok_or_else(|| BackupError::NeedsPassphrase(file.to_path_buf()))?;
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    identity.set_max_work_factor(MOST_WORK);
    let decryptor = Decryptor::new(opened).map_err(|error| BackupError::damaged(file, error.to_string()))?;
    let plain = decryptor.decrypt(std::iter::once(&identity as &dyn Identity)).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed => {
            BackupError::WrongPassphrase(file.to_path_buf())
        }
        error => BackupError::damaged(file, error.to_string()),
    })?;
    read(file, plain, folder)
}

fn read(file: &Path, content: impl Read, folder: &Path) -> Result<Manifest, BackupError> {
    let damaged = |what: &str| BackupError::damaged(file, what);
    let broken = |error: io::Error| BackupError::damaged(file, error.to_string());
    let mut manifest: Option<Manifest> = None;
    let (mut has_database, mut has_key) = (false, false);
    for entry in tar::Archive::new(content).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            return Err(damaged("something in it is no file"));
        }
        let name = entry.path_bytes().into_owned();
        match (name.as_slice(), &manifest) {
            (name, None) if name == MANIFEST.as_bytes() => {
                let mut text = Vec::new();
                (&mut entry).take(LONGEST_MANIFEST).read_to_end(&mut text).map_err(broken)?;
                let read: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
                manifest = Some(read);
            }
            (name, Some(said)) if name == DATABASE.as_bytes() && !has_database => {
                if entry.size() != said.database_bytes {
                    return Err(damaged("its database is not as long as it says"));
                }
                let hash = copy(file, &mut entry, &folder.join(DATABASE))?;
                if hash != said.database_sha256 {
                    return Err(damaged("its database is not what it was: the SHA-256 differs"));
                }
                has_database = true;
            }
            (name, Some(said)) if name == KEY.as_bytes() && said.has_key && !has_key => {
                if entry.size() > LONGEST_KEY {
                    return Err(damaged("its key is too long"));
                }
                copy(file, &mut entry, &folder.join(KEY))?;
                has_key = true;
            }
            _ => return Err(damaged("there is something in it that belongs to no backup, or comes twice")),
        }
    }
    match manifest {
        Some(manifest) if has_database && has_key == manifest.has_key => Ok(manifest),
        _ => Err(damaged("manifest, database or key is missing")),
    }
}

/// Copies an entry into a file that is not there yet; its SHA-256.
fn copy(backup: &Path, entry: &mut impl Read, target: &Path) -> Result<String, BackupError> {
    let failed = || BackupError::file("write", target);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map_err(failed())?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; AT_ONCE];
    loop {
        let read = entry.read(&mut buffer).map_err(|error| BackupError::damaged(backup, error.to_string()))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(failed())?;
    }
    file.sync_all().map_err(failed())?;
    Ok(hexadecimal(hash))
}

/// The length and SHA-256 of a file.
pub(super) fn sum(path: &Path) -> Result<(u64, String), BackupError> {
    let failed = || BackupError::file("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let (mut hash, mut length, mut buffer) = (Context::new(&SHA256), 0, vec![0; AT_ONCE]);
    loop {
        let read = file.read(&mut buffer).map_err(failed())?;
        if read == 0 {
            return Ok((length, hexadecimal(hash)));
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

fn hexadecimal(hash: Context) -> String {
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
