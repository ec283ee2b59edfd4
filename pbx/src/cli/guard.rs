//! `pbx guard`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Session,
    args::{Change, Guard},
    client::{encoded, typed},
    failure::Failure,
    render::{Columns, say, say_json},
};
use crate::{
    api::ResetRequest,
    ops::{How, SetSettings, SettingsAnswer, SettingsView},
};

pub(super) async fn run(session: &Session, command: Guard) -> Result<(), Failure> {
    match command {
        Guard::List { changed } => list(session, changed).await,
        Guard::Get { key } => get(session, &key).await,
        Guard::Set { values, force, change } => {
            let request = SetSettings { values: pairs(values)?, force, dry_run: change.dry_run };
            answer(session, session.client.post("/api/security/settings", &request).await?)
        }
        Guard::Reset { keys, all, force, change } => {
            let request = ResetRequest { keys: (!all).then_some(keys), force, dry_run: change.dry_run };
            answer(session, session.client.post("/api/security/settings/reset", &request).await?)
        }
        Guard::Profile { name: None, .. } => profiles(session).await,
        Guard::Profile { name: Some(name), force, change: Change { dry_run } } => {
            let path = format!("/api/security/profiles/{}", encoded(&name));
            answer(session, session.client.post(&path, &How { force, dry_run }).await?)
        }
    }
}

/// Says what a change of settings did; also for `firewall mode`.
pub(super) fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let SettingsAnswer { dry_run, revision, changes, notes } = typed(value)?;
    if changes.is_empty() {
        say(format!("nothing to change (revision {revision})"));
    }
    let would = if dry_run { "would be " } else { "" };
    for change in &changes {
        say(format!("{} {would}{} (was {})", change.key, shown(&change.after), shown(&change.before)));
    }
    for note in notes {
        say(format!("  {note}"));
    }
    Ok(())
}

async fn list(session: &Session, changed: bool) -> Result<(), Failure> {
    let mut value = session.client.get("/api/security/settings").await?;
    if changed && let Some(items) = value["items"].as_array_mut() {
        items.retain(|item| item["value"] != item["default"]);
    }
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let SettingsView { revision, items } = typed(value)?;
    let mut table = Columns::new(&["setting", "value", "default", "unit"], &[]);
    for item in items {
        let default = if item.value == item.default { String::new() } else { shown(&item.default).to_owned() };
        table.row([item.key, shown(&item.value).to_owned(), default, item.unit]);
    }
    if table.is_empty() {
        say("every setting has its default");
    } else {
        say(&table);
    }
    say(format!("revision {revision}; `pbx guard get SETTING` says what one does"));
    Ok(())
}

async fn get(session: &Session, key: &str) -> Result<(), Failure> {
    let value = session.client.get("/api/security/settings").await?;
    let found = value["items"].as_array().and_then(|items| items.iter().find(|item| item["key"] == key)).cloned();
    let Some(found) = found else {
        return Err(Failure::Answer {
            status: hyper::StatusCode::NOT_FOUND,
            errors: vec![crate::ops::OpError::not_found(format!(
                "there is no setting {key}: `pbx guard list` shows all"
            ))],
        });
    };
    if session.json {
        say_json(&found);
        return Ok(());
    }
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    say(format!("{} = {}", text("key"), shown(&text("value"))));
    say(format!("  {}", text("help")));
    say(format!("  takes {}", text("takes")));
    say(format!("  default {}", shown(&text("default"))));
    Ok(())
}

async fn profiles(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/security/profiles").await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let mut table = Columns::new(&["profile", "for whom"], &[]);
    for item in value["items"].as_array().into_iter().flatten() {
        table.row(["name", "help"].map(|field| item[field].as_str().unwrap_or_default().to_owned()));
    }
    say(&table);
    Ok(())
}

/// `KEY VALUE`, or `KEY=VALUE` as often as needed.
fn pairs(words: Vec<String>) -> Result<BTreeMap<String, String>, Failure> {
    if let [key, value] = words.as_slice()
        && !key.contains('=')
    {
        return Ok(BTreeMap::from([(key.clone(), value.clone())]));
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
            None => Err(Failure::Usage(format!("{word}: write KEY VALUE, or KEY=VALUE for several"))),
        })
        .collect()
}

/// An empty list is shown as something.
fn shown(value: &str) -> &str {
    if value.is_empty() { "(none)" } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Vec<(String, String)>, u8> {
        pairs(words.iter().map(|word| (*word).to_owned()).collect())
            .map(|map| map.into_iter().collect())
            .map_err(|failure| failure.code())
    }

    #[test]
    fn one_setting_is_two_words_and_several_have_equals_signs() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read(&["a.b", "5"]), Ok(vec![pair("a.b", "5")]));
        assert_eq!(read(&["a.b=5", "c=6"]), Ok(vec![pair("a.b", "5"), pair("c", "6")]));
        assert_eq!(read(&["a.b", ""]), Ok(vec![pair("a.b", "")]));
        assert_eq!(read(&["a.b"]), Err(2));
        assert_eq!(read(&["a.b=5", "c", "d"]), Err(2));
    }
}
