//! `pbx backup`. Reading and putting back work on files, without a daemon.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    Session,
    args::{Backup, ListArgs},
    ask::confirm,
    client::{encoded, typed},
    download::save,
    failure::Failure,
    render::{Columns, bytes, now, number, say, say_json},
};
use crate::{
    backup::{self, BackupError, Manifest, Stored},
    config::Config,
    daemon,
    ops::{BackupAnswer, MakeBackup},
};

const BACKUPS: &str = "/api/backups";

pub(super) async fn run(session: &Session, command: Backup) -> Result<(), Failure> {
    match command {
        Backup::Create { to, passphrase } => {
            let request = MakeBackup { passphrase: passphrase.read(true)? };
            create(session, request, to.as_deref()).await
        }
        Backup::List(args) => session.watched(&args.watch, || list(session, &args)).await,
        Backup::Remove { name, yes, change } => {
            let path = format!("{BACKUPS}/{}/destroy", encoded(&name));
            if !yes && !change.dry_run {
                confirm(&format!("Remove the backup {name} for good?"), "this removes a backup")?;
            }
            let value = session.client.post(&path, &json!({ "dry_run": change.dry_run })).await?;
            answer(session, &value, if change.dry_run { "would be removed" } else { "removed" })
        }
        Backup::Verify { file, passphrase } => {
            let passphrase = asked(&file, passphrase)?;
            let folder = std::env::temp_dir().join(format!("pbx-verify-{}", std::process::id()));
            let made = std::fs::create_dir(&folder);
            made.map_err(|error| Failure::Failed(format!("cannot make {}: {error}", folder.display())))?;
            let manifest = backup::unpack(&file, passphrase.as_deref(), &folder);
            let _ = std::fs::remove_dir_all(&folder);
            said(session, &file, &manifest.map_err(failed)?, None);
            Ok(())
        }
        Backup::Restore { file, config, yes, passphrase } => {
            let config = Config::load(config.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
            let data_dir = &config.data_dir;
            let passphrase = asked(&file, passphrase)?;
            // Before anybody is asked anything.
            let made = std::fs::create_dir_all(data_dir);
            made.map_err(|error| Failure::Failed(format!("cannot make {}: {error}", data_dir.display())))?;
            let _lock = daemon::lock(data_dir).map_err(|error| failed(BackupError::InUse(format!("{error:#}"))))?;
            if !yes {
                let question = format!("Put {} in place of what is in {}?", file.display(), data_dir.display());
                confirm(&question, "this replaces the database")?;
            }
            let restored = backup::restore(&file, passphrase, data_dir, now()).await;
            let (manifest, old) = restored.map_err(failed)?;
            said(session, &file, &manifest, Some(old.as_deref()));
            Ok(())
        }
    }
}

async fn create(session: &Session, request: MakeBackup, to: Option<&Path>) -> Result<(), Failure> {
    if let Some(to) = to.filter(|to| to.exists()) {
        return Err(Failure::Usage(format!("{} is there already: name another file", to.display())));
    }
    let value = session.client.post(BACKUPS, &request).await?;
    let Some(to) = to else {
        return answer(session, &value, "made");
    };
    let BackupAnswer { item, .. } = typed(value.clone())?;
    let path = format!("{BACKUPS}/{}", encoded(&item.name));
    let saved = save(session, &path, to).await;
    // The one in the data folder was only on its way.
    let removed = session.client.post(&format!("{path}/destroy"), &json!({})).await;
    if saved.is_err() {
        let _ = std::fs::remove_file(to);
    }
    saved.and(removed.map(drop))?;
    answer(session, &value, &format!("saved as {}", to.display()))
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list(BACKUPS, args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    if listed.items.is_empty() {
        say("there is no backup; `pbx backup create` makes one");
        return Ok(());
    }
    let mut table = Columns::new(&["name", "made at", "size", "encrypted"], &[2]);
    for item in listed.items.iter().cloned() {
        let Stored { name, created_at, bytes: size, encrypted } = typed(item)?;
        table.row([name, created_at.to_string(), bytes(size), if encrypted { "yes" } else { "no" }.to_owned()]);
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

fn answer(session: &Session, value: &Value, did: &str) -> Result<(), Failure> {
    if session.json {
        say_json(value);
        return Ok(());
    }
    let BackupAnswer { item, notes, .. } = typed(value.clone())?;
    say(format!("{} ({}) {did}", item.name, bytes(item.bytes)));
    for note in notes {
        say(format!("  {note}"));
    }
    Ok(())
}

/// What is in a file, and, after it was put back, where what was there is.
fn said(session: &Session, file: &Path, manifest: &Manifest, restored: Option<Option<&Path>>) {
    if session.json {
        let old = restored.flatten().map(|old| old.display().to_string());
        say_json(&json!({ "manifest": manifest, "restored": restored.is_some(), "old": old }));
        return;
    }
    let Manifest { program, layout, created_at, host, database_bytes, has_key, .. } = manifest;
    let what = if restored.is_some() { "was put back" } else { "is whole" };
    say(format!("{} {what}", file.display()));
    say(format!("  made at    {created_at} on {host}, by pbx {program}"));
    say(format!("  database   {} bytes, layout {layout}", number(*database_bytes)));
    say(format!("  secrets    {}", if *has_key { "their key is in it" } else { "their key is not in it" }));
    match restored {
        Some(Some(old)) => {
            say(format!("  what was there is in {}: move it back to undo this", old.display()));
            say("start the daemon: `systemctl start pbx`");
        }
        Some(None) => say("start the daemon: `systemctl start pbx`"),
        None => {}
    }
}

/// The passphrase of an encrypted file; of another one none is asked for.
fn asked(file: &Path, from: super::args::PassphraseFrom) -> Result<Option<String>, Failure> {
    if backup::is_encrypted(file).map_err(failed)? { from.read(false) } else { Ok(None) }
}

fn failed(error: BackupError) -> Failure {
    match error {
        BackupError::InUse(_) => Failure::Refused(error.to_string()),
        BackupError::NeedsPassphrase(_) => Failure::Usage(error.to_string()),
        error => Failure::Failed(error.to_string()),
    }
}
