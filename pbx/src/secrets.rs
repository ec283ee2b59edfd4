//! Secrets at rest: what the database holds encrypted, and the key for it, which is never in the database. Beside the
//! store, under the operations. Knows no table; a caller names the place of each secret, which is bound to it, so that
//! a secret that was copied to another row does not open.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a random nonce for each secret. A sealed secret is one version byte, the nonce,
//! the ciphertext and its tag.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::store::{Store, StoreError};

/// The file in `data_dir`.
const FILE: &str = "secret.key";
/// The name of the credential that the service manager may hand over instead.
const CREDENTIAL: &str = "pbx.key";
const KEY_LEN: usize = 32;
/// A key in hexadecimal with line ends is shorter; a longer file is no key.
const LONGEST_FILE: u64 = 200;
const VERSION: u8 = 1;
/// What is sealed in the database to know the key again, and its place.
const CHECK: &str = "this key opens this database";
const CHECK_PLACE: &str = "meta/secret_check";

/// Why secrets cannot be read. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key's file or credential cannot be read or made.
    #[error("cannot {action} the key of the secrets, {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may read the key.
    #[error("{} is readable by others (mode {mode:03o}), and it opens every SIP password: `chmod 600 {}`", .path.display(), .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "{} is no key: it takes 64 hexadecimal digits or 32 bytes; put the right file back from the backup", .0.display()
    )]
    NoKey(PathBuf),
    /// The database has secrets, and there is no key.
    #[error(
        "the database holds encrypted secrets and their key is missing: put {} (mode 600) back from the backup, or hand \
         it over as the credential {CREDENTIAL}; no new key was made, because it would not open them",
        .0.display()
    )]
    Missing(PathBuf),
    /// The database has secrets, and this is another key.
    #[error(
        "{} is not the key that the secrets in the database were encrypted with: put the right one back from the \
         backup; nothing was changed",
        .0.display()
    )]
    Wrong(PathBuf),
    /// A secret does not open: damaged, or from another row.
    #[error("the secret at {0} does not open: it is damaged, or was copied from another place; set it anew")]
    Damaged(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key, ready to be used. Clones share it; it is never printed.
#[derive(Clone)]
pub struct Secrets {
    key: Arc<LessSafeKey>,
    random: SystemRandom,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(secret)")
    }
}

impl Secrets {
    /// Finds the key: the credential `pbx.key` in `credentials` (systemd's `$CREDENTIALS_DIRECTORY`), else
    /// `secret.key` in `data_dir`, which is made at the first start. A key that does not open the database's secrets
    /// is an error, and so is a missing one when there are some.
    pub async fn open(store: &Store, data_dir: &Path, credentials: Option<&Path>) -> Result<Self, SecretError> {
        let check = store.secret_check().await?;
        let file = data_dir.join(FILE);
        let credential = credentials.map(|folder| folder.join(CREDENTIAL)).filter(|path| path.exists());
        let path = credential.clone().unwrap_or_else(|| file.clone());
        // The service manager guards its credentials itself, and lets the service in by an ACL that looks like a mode.
        let found = read(&path, credential.is_none())?;
        let Some(check) = check else {
            let key = match found {
                Some(key) => key,
                None => make(&path)?,
            };
            let secrets = Self::with_key(&key);
            store.set_secret_check(&secrets.seal(CHECK_PLACE, CHECK)?).await?;
            return Ok(secrets);
        };
        let secrets = Self::with_key(&found.ok_or(SecretError::Missing(file))?);
        match secrets.unseal(CHECK_PLACE, &check) {
            Ok(text) if text == CHECK => Ok(secrets),
            _ => Err(SecretError::Wrong(path)),
        }
    }

    /// With a key that somebody else keeps.
    pub fn with_key(key: &[u8; KEY_LEN]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are the algorithm's length");
        Self { key: Arc::new(LessSafeKey::new(key)), random: SystemRandom::new() }
    }

    /// Encrypts a secret for its place (`extensions/17/password`).
    pub fn seal(&self, place: &str, secret: &str) -> Result<Vec<u8>, SecretError> {
        let nonce: [u8; NONCE_LEN] = self.random()?;
        let mut text = secret.as_bytes().to_vec();
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text)
            .map_err(|_| SecretError::Random)?;
        Ok([&[VERSION], nonce.as_slice(), text.as_slice(), tag.as_ref()].concat())
    }

    /// Decrypts what was sealed for the same place.
    pub fn unseal(&self, place: &str, sealed: &[u8]) -> Result<String, SecretError> {
        let damaged = || SecretError::Damaged(place.to_owned());
        let (&version, rest) = sealed.split_first().ok_or_else(damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        if version != VERSION {
            return Err(damaged());
        }
        let mut text = text.to_vec();
        let opened = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut text)
            .map_err(|_| damaged())?;
        std::str::from_utf8(opened).map(str::to_owned).map_err(|_| damaged())
    }

    /// Random bytes, for passwords, realms and ids.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], SecretError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| SecretError::Random)?;
        Ok(bytes)
    }
}

/// The key in a file; `None`: there is no file.
fn read(path: &Path, guarded_by_mode: bool) -> Result<Option<[u8; KEY_LEN]>, SecretError> {
    let failed = |source| SecretError::File { action: "read", path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if guarded_by_mode && mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_path_buf(), mode });
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes).map(Some).ok_or_else(|| SecretError::NoKey(path.to_path_buf()))
}

fn parse(bytes: &[u8]) -> Option<[u8; KEY_LEN]> {
    if let Ok(key) = bytes.try_into() {
        return Some(key);
    }
    let digits: &[u8; 2 * KEY_LEN] = bytes.trim_ascii().try_into().ok()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut key = [0; KEY_LEN];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

/// A new key in a new file, on the disk before anything is encrypted with it.
fn make(path: &Path) -> Result<[u8; KEY_LEN], SecretError> {
    let failed = |source| SecretError::File { action: "make", path: path.to_path_buf(), source };
    let mut key = [0; KEY_LEN];
    SystemRandom::new().fill(&mut key).map_err(|_| SecretError::Random)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    // Under another name first: half a key would be worse than none.
    let draft = path.with_extension("new");
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    writeln!(file, "{digits}").and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    tracing::info!(path = %path.display(), "made the key of the secrets: keep a copy of it apart from the database's");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl Place {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("pbx.db")).await.unwrap();
            Self { folder, store }
        }

        fn key(&self) -> PathBuf {
            self.folder.path().join(FILE)
        }

        async fn open(&self) -> Result<Secrets, SecretError> {
            Secrets::open(&self.store, self.folder.path(), None).await
        }
    }

    #[tokio::test]
    async fn the_first_start_makes_a_key_that_only_its_owner_reads_and_later_starts_use_it() {
        let place = Place::new().await;
        let sealed = place.open().await.unwrap().seal("extensions/1/password", "Open-Sesame7").unwrap();
        let made = std::fs::read(place.key()).unwrap();
        assert_eq!(std::fs::metadata(place.key()).unwrap().permissions().mode() & 0o777, 0o600);
        let again = place.open().await.unwrap();
        assert_eq!(again.unseal("extensions/1/password", &sealed).unwrap(), "Open-Sesame7");
        assert_eq!(std::fs::read(place.key()).unwrap(), made);
        assert_eq!(format!("{again:?}"), "Secrets(secret)");
    }

    #[test]
    fn a_secret_opens_at_its_own_place_only_and_only_whole() {
        let secrets = Secrets::with_key(&[7; 32]);
        let sealed = secrets.seal("extensions/1/password", "Open-Sesame7").unwrap();
        assert_ne!(sealed, secrets.seal("extensions/1/password", "Open-Sesame7").unwrap());
        assert!(!String::from_utf8_lossy(&sealed).contains("Sesame"));
        let open = |place: &str, bytes: &[u8]| secrets.unseal(place, bytes).map_err(|error| error.to_string());
        assert_eq!(open("extensions/1/password", &sealed).unwrap(), "Open-Sesame7");
        assert!(open("extensions/2/password", &sealed).unwrap_err().contains("extensions/2/password"));
        for index in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[index] ^= 1;
            assert!(open("extensions/1/password", &bad).is_err(), "byte {index}");
            assert!(open("extensions/1/password", &sealed[..index]).is_err(), "{index} bytes");
        }
        assert!(Secrets::with_key(&[8; 32]).unseal("extensions/1/password", &sealed).is_err());
    }

    #[tokio::test]
    async fn a_key_that_others_may_read_is_refused_with_the_command_that_helps() {
        let place = Place::new().await;
        place.open().await.unwrap();
        std::fs::set_permissions(place.key(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = place.open().await.unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", place.key().display())), "{error}");
        assert!(error.contains("mode 640"), "{error}");
    }

    #[tokio::test]
    async fn a_lost_or_wrong_key_is_an_error_and_no_new_one_is_made() {
        let place = Place::new().await;
        place.open().await.unwrap();
        let right = std::fs::read(place.key()).unwrap();
        std::fs::remove_file(place.key()).unwrap();
        let missing = place.open().await.unwrap_err().to_string();
        assert!(missing.contains("missing") && missing.contains(&place.key().display().to_string()), "{missing}");
        assert!(!place.key().exists());

        let write = |bytes: &[u8]| {
            std::fs::write(place.key(), bytes).unwrap();
            std::fs::set_permissions(place.key(), std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write(&[b'0'; 64]);
        let wrong = place.open().await.unwrap_err().to_string();
        assert!(wrong.contains("not the key"), "{wrong}");
        assert_eq!(std::fs::read(place.key()).unwrap(), [b'0'; 64]);
        for bad in ["", "0123", &"x".repeat(64), &"0".repeat(200)] {
            write(bad.as_bytes());
            let error = place.open().await.unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
        write(&right);
        place.open().await.unwrap();
    }

    #[tokio::test]
    async fn a_credential_of_the_service_manager_stands_before_the_file() {
        let place = Place::new().await;
        let credentials = tempfile::tempdir().unwrap();
        std::fs::write(credentials.path().join(CREDENTIAL), [9; 32]).unwrap();
        let open = || Secrets::open(&place.store, place.folder.path(), Some(credentials.path()));
        let sealed = open().await.unwrap().seal("a/1", "b").unwrap();
        assert!(!place.key().exists());
        assert_eq!(Secrets::with_key(&[9; 32]).unseal("a/1", &sealed).unwrap(), "b");
        std::fs::remove_file(credentials.path().join(CREDENTIAL)).unwrap();
        assert!(matches!(open().await.unwrap_err(), SecretError::Missing(_)));
    }
}
