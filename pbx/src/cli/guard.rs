//! `pbx guard`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Session,
    args::{Guard, Tuning},
    client::{encoded, query, typed},
    failure::Failure,
    render::{Columns, ago, left, number, say, say_json, span},
};
use crate::{
    api::{PendingAnswer, ResetRequest},
    ops::{
        PendingChange, RehearsalView, Rehearsed, SetSettings, SettingDifference, SettingsAnswer, SettingsDiff,
        SettingsHow, SettingsView,
    },
};

/// Sources that a rehearsal names; `--json` has more.
const LISTED: usize = 10;

pub(super) async fn run(session: &Session, command: Guard) -> Result<(), Failure> {
    match command {
        Guard::List { changed } => list(session, changed).await,
        Guard::Get { key } => get(session, &key).await,
        Guard::Set { values, tuning: Tuning { force, confirm_within, dry_run } } => {
            let request = SetSettings { values: pairs(values)?, force, dry_run, confirm_within };
            answer(session, session.client.post("/api/security/settings", &request).await?)
        }
        Guard::Reset { keys, all, tuning: Tuning { force, confirm_within, dry_run } } => {
            let request = ResetRequest { keys: (!all).then_some(keys), force, dry_run, confirm_within };
            answer(session, session.client.post("/api/security/settings/reset", &request).await?)
        }
        Guard::Diff { profile } => diff(session, profile.as_deref()).await,
        Guard::Pending => pending(session).await,
        Guard::Confirm => {
            let value = session.client.post("/api/security/settings/pending/confirm", &json!({})).await?;
            confirmed(session, value)
        }
        Guard::Rollback => {
            answer(session, session.client.post("/api/security/settings/pending/rollback", &json!({})).await?)
        }
        Guard::Profile { name: None, .. } => profiles(session).await,
        Guard::Profile { name: Some(name), tuning: Tuning { force, confirm_within, dry_run } } => {
            let path = format!("/api/security/profiles/{}", encoded(&name));
            let how = SettingsHow { force, dry_run, confirm_within };
            answer(session, session.client.post(&path, &how).await?)
        }
    }
}

/// Says what a change of settings did; also for `firewall mode`.
pub(super) fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let SettingsAnswer { dry_run, revision, changes, notes, pending, rehearsal } = typed(value)?;
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
    if let Some(PendingChange { until, .. }) = pending {
        let left = left(Some(until));
        say(format!("  taken back in {left}, at {until}, unless `pbx guard confirm` comes first"));
    }
    rehearsal.iter().flat_map(rehearsed).for_each(say);
    Ok(())
}

/// What the last 24 hours would have been.
fn rehearsed(rehearsal: &RehearsalView) -> Vec<String> {
    let RehearsalView { since, until, more, more_count, fewer, fewer_count, same, notes } = rehearsal;
    let known_for = span(until.saturating_since(*since));
    let mut lines = vec![
        String::new(),
        format!("What the last {known_for} would have been (since {since}, when counting began or a day ago):"),
        format!("  more     {} sources would have been blocked that were not", number(*more_count as u64)),
    ];
    lines.extend(sources(more, *more_count));
    lines.push(format!("  fewer    {} sources would not have been blocked", number(*fewer_count as u64)));
    lines.extend(sources(fewer, *fewer_count));
    lines.push(format!("  the same {} sources blocked either way", number(*same as u64)));
    lines.extend(notes.iter().map(|note| format!("  {note}")));
    lines
}

fn sources(sources: &[Rehearsed], count: usize) -> Vec<String> {
    let line = |one: &Rehearsed| {
        let Rehearsed { cidr, detector, count, limit_before, limit_after, last, only_told, registered, known } = one;
        let limit = if limit_before == limit_after {
            format!("{limit_after}")
        } else {
            format!("{limit_after} instead of {limit_before}")
        };
        let ours = match (registered.as_slice(), known) {
            ([], false) => String::new(),
            ([], true) => ", KNOWN: a password was proved there".to_owned(),
            (numbers, _) => format!(", REGISTERED: {}", numbers.join(", ")),
        };
        let told = if *only_told { ", only told" } else { "" };
        format!("           {cidr}  {} {count}, limit {limit}{told}, last {}{ours}", detector.label(), ago(*last))
    };
    let mut lines: Vec<String> = sources.iter().take(LISTED).map(line).collect();
    if count > lines.len() {
        lines.push(format!("           … and {} more (--json lists {})", count - lines.len(), sources.len()));
    }
    lines
}

fn confirmed(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let PendingChange { changes, .. } = typed(value)?;
    changes.iter().for_each(|change| say(format!("{} stays {}", change.key, shown(&change.after))));
    Ok(())
}

async fn pending(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/security/settings/pending").await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let PendingAnswer { pending } = typed(value)?;
    let Some(PendingChange { at, by, until, changes, .. }) = pending else {
        say("no change of settings waits to be confirmed");
        return Ok(());
    };
    for change in &changes {
        say(format!("{} is {} (was {})", change.key, shown(&change.after), shown(&change.before)));
    }
    say(format!("  changed by {by} {}, taken back in {} (at {until})", ago(at), left(Some(until))));
    say("  `pbx guard confirm` keeps it, `pbx guard rollback` takes it back now");
    Ok(())
}

async fn diff(session: &Session, profile: Option<&str>) -> Result<(), Failure> {
    let pairs: Vec<(&str, &str)> = profile.iter().map(|name| ("profile", *name)).collect();
    let value = session.client.get(&format!("/api/security/settings/diff{}", query(&pairs))).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let SettingsDiff { profile, items } = typed(value)?;
    let there = profile.map_or("default".to_owned(), |name| format!("profile {name}"));
    let mut table = Columns::new(&["setting", "value", &there], &[]);
    for SettingDifference { key, value, there } in items {
        table.row([key, shown(&value).to_owned(), shown(&there).to_owned()]);
    }
    if table.is_empty() {
        say(format!("every setting is that of the {there}"));
    } else {
        say(&table);
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
