//! Backups: made beside a daemon that writes, checked, put back, refused.

use std::fs;

use super::*;
use crate::{
    secrets::Secrets,
    store::{Audit, Store},
};

const NOW: Timestamp = Timestamp::from_millis(1_795_412_400_000);

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A data folder with one row in its database.
    async fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let store = place.store().await;
        Secrets::open(&store, &place.data(), None).await.unwrap();
        store.audit(&row("first")).await.unwrap();
        store.close().await;
        place
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn store(&self) -> Store {
        Store::open(&self.data().join(DATABASE)).await.unwrap()
    }

    async fn rows(&self) -> Vec<String> {
        let store = self.store().await;
        let rows = store.audit_rows(10).await.unwrap().into_iter().map(|row| row.object).collect();
        store.close().await;
        rows
    }

    async fn backup(&self, passphrase: Option<&str>) -> (PathBuf, Manifest) {
        let folder = Folder::of(&self.data());
        let (stored, manifest) = folder.make(None, passphrase.map(str::to_owned), NOW).await.unwrap();
        (folder.find(&stored.name).unwrap(), manifest)
    }

    async fn restore(&self, file: &Path, passphrase: Option<&str>) -> Result<Option<PathBuf>, BackupError> {
        restore(file, passphrase.map(str::to_owned), &self.data(), NOW).await.map(|(_, old)| old)
    }
}

fn row(object: &str) -> Audit {
    let text = |text: &str| text.to_owned();
    Audit {
        at: NOW,
        actor: text("root"),
        origin: text("socket"),
        what: text("rule.add"),
        object: text(object),
        before: None,
        after: None,
    }
}

#[tokio::test]
async fn what_was_saved_beside_a_writer_comes_back_and_what_was_there_is_kept() {
    let place = Place::new().await;
    let store = place.store().await;
    let (file, manifest) = place.backup(None).await;
    assert_eq!((manifest.layout, manifest.has_key), (crate::store::newest_layout(), false));
    store.audit(&row("second")).await.unwrap();
    store.close().await;
    let old = place.restore(&file, None).await.unwrap().unwrap();
    assert_eq!(place.rows().await, ["first"]);
    // Undone by moving it back.
    fs::copy(old.join(DATABASE), place.data().join(DATABASE)).unwrap();
    assert_eq!(place.rows().await, ["second", "first"]);
    assert!(!place.data().join("restore.draft").exists());
    let left: Vec<_> =
        fs::read_dir(place.data().join("backups")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, [file.file_name().unwrap()]);
}

#[tokio::test]
async fn an_encrypted_one_has_the_key_and_is_all_that_a_new_machine_needs() {
    let place = Place::new().await;
    let (file, manifest) = place.backup(Some("correct horse battery")).await;
    assert!(manifest.has_key && is_encrypted(&file).unwrap());
    let content = fs::read(&file).unwrap();
    assert!(!content.windows(6).any(|bytes| bytes == b"SQLite"), "it is readable");
    let new = tempfile::tempdir().unwrap();
    let nothing = restore(&file, Some("correct horse battery".into()), new.path(), NOW).await.unwrap();
    assert_eq!(nothing.1, None);
    let store = Store::open(&new.path().join(DATABASE)).await.unwrap();
    Secrets::open(&store, new.path(), None).await.unwrap();
    store.close().await;
    assert!(matches!(place.restore(&file, None).await, Err(BackupError::NeedsPassphrase(_))));
    assert!(matches!(place.restore(&file, Some("another horse")).await, Err(BackupError::WrongPassphrase(_))));
    assert_eq!(place.rows().await, ["first"]);
}

#[tokio::test]
async fn a_plain_one_needs_the_key_that_its_secrets_were_encrypted_with() {
    let (place, other) = (Place::new().await, Place::new().await);
    let (file, _) = place.backup(None).await;
    assert!(matches!(other.restore(&file, None).await, Err(BackupError::OtherKey { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(restore(&file, None, empty.path(), NOW).await, Err(BackupError::OtherKey { .. })));
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_damaged_is_refused_and_nothing_is_touched() {
    let place = Place::new().await;
    let (file, _) = place.backup(None).await;
    let whole = fs::read(&file).unwrap();
    let store = place.store().await;
    store.audit(&row("second")).await.unwrap();
    store.close().await;
    let damaged = place.folder.path().join("damaged.tar");
    for spoil in [
        (|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2)) as fn(&mut Vec<u8>),
        |bytes| bytes.clear(),
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes[0] ^= 1,
        |bytes| *bytes = b"not an archive".to_vec(),
        |bytes| {
            let twice = bytes.clone();
            bytes.splice(0..0, twice[..twice.len() - 1024].to_vec());
        },
    ] {
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        fs::write(&damaged, &bytes).unwrap();
        let error = place.restore(&damaged, None).await.unwrap_err();
        assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
        assert_eq!(place.rows().await, ["second", "first"], "{error}");
    }
    assert!(matches!(place.restore(Path::new("/nowhere"), None).await, Err(BackupError::File { .. })));
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_folder_is_refused() {
    let place = Place::new().await;
    let (file, _) = place.backup(None).await;
    let mut archive = tar::Archive::new(fs::File::open(&file).unwrap());
    let mut manifest = String::new();
    io::Read::read_to_string(&mut archive.entries().unwrap().next().unwrap().unwrap(), &mut manifest).unwrap();
    let evil = place.folder.path().join("evil.tar");
    let mut builder = tar::Builder::new(fs::File::create(&evil).unwrap());
    for (name, content) in [("manifest.json", manifest.as_bytes()), ("../escaped", b"x")] {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.finish().unwrap();
    let error = place.restore(&evil, None).await.unwrap_err().to_string();
    assert!(error.contains("belongs to no backup"), "{error}");
    assert!(!place.data().join("../escaped").exists() && !place.folder.path().join("escaped").exists());
}

#[tokio::test]
async fn what_a_later_program_made_is_refused() {
    let place = Place::new().await;
    let store = place.store().await;
    store.pretend_newer().await;
    store.close().await;
    let (file, _) = place.backup(None).await;
    let other = tempfile::tempdir().unwrap();
    let error = restore(&file, None, other.path(), NOW).await.unwrap_err();
    assert!(matches!(error, BackupError::Newer { layout: 9999, .. }), "{error}");
}

#[tokio::test]
async fn a_database_of_an_older_layout_is_saved_before_it_is_changed() {
    let place = Place::new().await;
    assert_eq!(before_migration(&place.data(), NOW).await.unwrap(), None);
    assert_eq!(before_migration(Path::new("/nowhere"), NOW).await.unwrap(), None);
    let store = place.store().await;
    store.pretend_older().await;
    store.close().await;
    let saved = before_migration(&place.data(), NOW).await.unwrap().unwrap();
    assert!(saved.name.contains("before-layout") && !saved.encrypted, "{saved:?}");
}
