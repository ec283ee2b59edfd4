//! `pbx ext` and `pbx reg`.

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    Session,
    args::{Change, Ext, Forward, InTenant, ListArgs, Reg, Switch},
    ask::confirm,
    block::read,
    client::{encoded, query, typed},
    failure::Failure,
    render::{Columns, ago, left, number, say, say_json},
};
use crate::ops::{
    AddExtension, Did, ExtensionAnswer, ExtensionsImported, PingView, RegistrationView, SetPassword, UpdateExtension,
    User, UserStatus,
};

pub(super) async fn ext(session: &Session, command: Ext) -> Result<(), Failure> {
    match command {
        Ext::List(args) => session.watched(&args.watch, || list(session, &args)).await,
        Ext::Add { number, name, caller_id, tenant, disabled, password, change } => {
            let request = AddExtension {
                extension_number: number,
                extension_password: password.read()?,
                display_name: name,
                caller_id,
                tenant: tenant.tenant,
                enabled: disabled.then_some(false),
                dry_run: change.dry_run,
            };
            answer(session, session.client.post("/api/users", &request).await?)
        }
        Ext::Show { number, tenant } => show(session, &number, &tenant).await,
        Ext::Set { number, tenant, new_number, name, caller_id, enable, disable, forward, change } => {
            let Forward { forward_always, forward_busy, forward_no_answer, forward_offline, no_answer_after, dnd } =
                forward;
            let request = UpdateExtension {
                extension_number: new_number,
                display_name: name,
                caller_id,
                enabled: (enable || disable).then_some(enable),
                forward_always: forward_always.map(number_or_none),
                forward_busy: forward_busy.map(number_or_none),
                forward_no_answer: forward_no_answer.map(number_or_none),
                forward_offline: forward_offline.map(number_or_none),
                no_answer_seconds: no_answer_after,
                do_not_disturb: dnd.map(|dnd| dnd == Switch::On),
                dry_run: change.dry_run,
            };
            let id = find(session, &number, &tenant).await?.0;
            answer(session, session.client.post(&format!("/api/users/{id}"), &request).await?)
        }
        Ext::Remove { number, tenant, yes, change } => remove(session, &number, &tenant, yes, change).await,
        Ext::Passwd { number, tenant, password, change } => {
            let id = find(session, &number, &tenant).await?.0;
            let request = SetPassword { extension_password: password.read()?, dry_run: change.dry_run };
            answer(session, session.client.post(&format!("/api/users/{id}/extension_password"), &request).await?)
        }
        Ext::Import { file, update, change } => import(session, &file, update, change).await,
        Ext::Export { tenant } => {
            let text = session.client.text(&format!("/api/users/export{}", of_tenant(&tenant))).await?;
            let _ = io::stdout().lock().write_all(text.as_bytes());
            Ok(())
        }
    }
}

pub(super) async fn reg(session: &Session, command: Reg) -> Result<(), Failure> {
    match command {
        Reg::List(args) => session.watched(&args.watch, || list_registrations(session, &args)).await,
        Reg::Drop { number: Some(number), tenant, change, .. } => {
            let (id, _) = find(session, &number, &tenant).await?;
            let status: UserStatus = typed(session.client.get(&format!("/api/users/{id}/status")).await?)?;
            let ids = status.items.into_iter().map(|one| one.id).collect();
            drop_all(session, ids, &format!("nothing is registered for {number}"), change).await
        }
        Reg::Drop { id, change, .. } => {
            drop_all(session, id.into_iter().collect(), "there is no such registration", change).await
        }
        Reg::Ping { number: Some(number), tenant, .. } => {
            let (id, _) = find(session, &number, &tenant).await?;
            let status: UserStatus = typed(session.client.get(&format!("/api/users/{id}/status")).await?)?;
            let ids = status.items.into_iter().map(|one| one.id).collect();
            ping_all(session, ids, &format!("nothing is registered for {number}")).await
        }
        Reg::Ping { id, .. } => ping_all(session, id.into_iter().collect(), "there is no such registration").await,
    }
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/users", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["number", "name", "tenant", "caller id", "state", "phones"], &[5]);
    for item in listed.items.iter().cloned() {
        let user: User = typed(item)?;
        let state = state(&user);
        table.row([
            user.extension_number,
            user.display_name.unwrap_or_default(),
            user.tenant,
            user.caller_id.unwrap_or_default(),
            state,
            user.registered.map_or_else(|| "?".to_owned(), number),
        ]);
    }
    if table.is_empty() {
        say("there is no extension; `pbx ext add NUMBER` makes one");
        return Ok(());
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

async fn show(session: &Session, number: &str, tenant: &InTenant) -> Result<(), Failure> {
    let (id, item) = find(session, number, tenant).await?;
    let value = session.client.get(&format!("/api/users/{id}/status")).await?;
    if session.json {
        let mut item = item;
        item["registrations"] = value["items"].clone();
        say_json(&item);
        return Ok(());
    }
    let user: User = typed(item)?;
    let status: UserStatus = typed(value)?;
    say_user(&user);
    say(format!("  made       {} ({}), changed {}", user.created_at, ago(user.created_at), ago(user.updated_at)));
    if status.items.is_empty() {
        say("  phones     none is registered");
    }
    for phone in status.items {
        say(format!(
            "  phone      {} {} {}{}, {} left, since {}",
            phone.user_agent.as_deref().unwrap_or("a phone"),
            phone.protocol,
            phone.remote,
            marks(&phone),
            left(Some(phone.expires_at)),
            ago(phone.since)
        ));
    }
    Ok(())
}

fn say_user(user: &User) {
    let name = user.display_name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    say(format!("{}{name}", user.extension_number));
    say(format!("  tenant     {}", user.tenant));
    say(format!("  caller id  {}", user.caller_id.as_deref().unwrap_or("(number and name)")));
    say(format!("  state      {}", if user.enabled { "enabled" } else { "disabled: answered as if it did not exist" }));
    forwarding(user).into_iter().for_each(say);
}

/// In a word, and what keeps its phones from ringing.
fn state(user: &User) -> String {
    let to = user.forward_always.as_ref().map(|to| format!("forwarded to {to}"));
    match (user.enabled, to, user.do_not_disturb) {
        (false, ..) => "disabled".to_owned(),
        (true, Some(to), _) => to,
        (true, None, true) => "do not disturb".to_owned(),
        (true, None, false) => "enabled".to_owned(),
    }
}

/// Where its calls go that it does not take.
fn forwarding(user: &User) -> Vec<String> {
    let mut lines = Vec::new();
    if user.do_not_disturb {
        lines.push("  disturb    no: its phones do not ring".to_owned());
    }
    let when_silent = format!("after {} s without an answer", user.no_answer_seconds);
    for (when, to) in [
        ("every call", &user.forward_always),
        ("when busy", &user.forward_busy),
        (when_silent.as_str(), &user.forward_no_answer),
        ("when no phone can be reached", &user.forward_offline),
    ] {
        lines.extend(to.as_ref().map(|to| format!("  forwards   to {to} {when}")));
    }
    if user.forward_always.is_some() && lines.len() > 1 {
        lines.push("             (while every call is forwarded, the rest has no effect)".to_owned());
    }
    lines
}

/// The API takes a number away that is empty.
fn number_or_none(text: String) -> String {
    if text.eq_ignore_ascii_case("none") { String::new() } else { text }
}

fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let ExtensionAnswer { did, dry_run, notes, item, generated_password } = typed(value)?;
    let would = if dry_run { "would be " } else { "" };
    let what = match did {
        Did::Added => "added",
        Did::Updated => "changed",
        Did::Unchanged => "as it was",
        Did::Removed => "removed",
    };
    let would = if did == Did::Unchanged { "" } else { would };
    say(format!("{} of {} {would}{what}", item.extension_number, item.tenant));
    if let Some(password) = generated_password {
        say(format!("  password  {password}"));
        say("  it is shown this once: write it into the phone now, or set another one (`pbx ext passwd`)");
    }
    for note in notes {
        say(format!("  {note}"));
    }
    Ok(())
}

async fn remove(session: &Session, number: &str, tenant: &InTenant, yes: bool, change: Change) -> Result<(), Failure> {
    let (id, item) = find(session, number, tenant).await?;
    if !yes && !change.dry_run {
        let user: User = typed(item)?;
        let name = user.display_name.map(|name| format!(" ({name})")).unwrap_or_default();
        let question = format!(
            "Remove {}{name} of {}, with {} registered phones?",
            user.extension_number,
            user.tenant,
            user.registered.unwrap_or(0)
        );
        confirm(&question, "this removes an extension")?;
    }
    answer(
        session,
        session.client.post(&format!("/api/users/{id}/destroy"), &json!({ "dry_run": change.dry_run })).await?,
    )
}

async fn import(session: &Session, file: &Path, update: bool, change: Change) -> Result<(), Failure> {
    let bytes = read(file)?;
    let flags = [("update", update.to_string()), ("dry_run", change.dry_run.to_string())];
    let pairs: Vec<(&str, &str)> = flags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let value = session.client.post_bytes(&format!("/api/users/import{}", query(&pairs)), bytes).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let ExtensionsImported { dry_run, added, updated, unchanged, passwords, milliseconds } = typed(value)?;
    let would = if dry_run { "would be " } else { "" };
    // The passwords are for a file; what is said about them is not.
    eprintln!(
        "{} {would}added, {} changed, {} as they were ({milliseconds} ms)",
        number(added as u64),
        number(updated as u64),
        number(unchanged as u64)
    );
    if !passwords.is_empty() {
        eprintln!("{} passwords were made; they are shown this once:", number(passwords.len() as u64));
        say("tenant,number,password");
    }
    for made in passwords {
        let tenant = made.tenant.replace('"', "\"\"");
        let password = made.extension_password.replace('"', "\"\"");
        say(format!("\"{tenant}\",{},\"{password}\"", made.extension_number));
    }
    Ok(())
}

async fn list_registrations(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/registrations", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["number", "name", "tenant", "from", "over", "phone", "since", "left"], &[]);
    for item in listed.items.iter().cloned() {
        let phone: RegistrationView = typed(item)?;
        let marks = marks(&phone);
        table.row([
            phone.extension_number,
            phone.display_name.unwrap_or_default(),
            phone.tenant,
            format!("{}{marks}", phone.remote),
            phone.protocol.to_string(),
            phone.user_agent.unwrap_or_default(),
            ago(phone.since),
            left(Some(phone.expires_at)),
        ]);
    }
    if table.is_empty() {
        say("no phone is registered");
        return Ok(());
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

/// What is worth knowing about how a phone is reached.
fn marks(phone: &RegistrationView) -> String {
    let nat = if phone.behind_nat { " (behind a router)" } else { "" };
    let gone = if phone.reachable { "" } else { " (unreachable until it returns)" };
    format!("{nat}{gone}")
}

/// Asks each, and fails unless all answer.
async fn ping_all(session: &Session, ids: Vec<String>, none: &str) -> Result<(), Failure> {
    some(&ids, none)?;
    let (mut silent, mut items) = (0, Vec::new());
    for id in ids {
        let value = session.client.post(&format!("/api/registrations/{}/ping", encoded(&id)), &json!({})).await?;
        let ping: PingView = typed(value.clone())?;
        silent += usize::from(!ping.answered);
        if session.json {
            items.push(value);
            continue;
        }
        let PingView { registration: RegistrationView { extension_number, remote, protocol, .. }, .. } = &ping;
        let outcome = match (ping.status, ping.milliseconds, &ping.problem) {
            (Some(status), Some(after), _) => format!("answered {status} after {after} ms"),
            (.., Some(problem)) => format!("NOT THERE: {problem}"),
            _ => "NOT THERE".to_owned(),
        };
        say(format!("{extension_number} at {remote} over {protocol}: {outcome}"));
    }
    if session.json {
        say_json(&json!({ "items": items }));
    }
    if silent > 0 {
        return Err(Failure::Failed(format!("{silent} did not answer")));
    }
    Ok(())
}

async fn drop_all(session: &Session, ids: Vec<String>, none: &str, change: Change) -> Result<(), Failure> {
    some(&ids, none)?;
    let mut dropped = Vec::new();
    for id in ids {
        let path = format!("/api/registrations/{}/destroy", encoded(&id));
        dropped.push(session.client.post(&path, &json!({ "dry_run": change.dry_run })).await?);
    }
    if session.json {
        say_json(&json!({ "dry_run": change.dry_run, "items": dropped }));
        return Ok(());
    }
    let would = if change.dry_run { "would be " } else { "" };
    for value in dropped {
        let phone: RegistrationView = typed(value)?;
        say(format!("{} of {} at {} {would}no longer registered", phone.extension_number, phone.tenant, phone.remote));
    }
    Ok(())
}

/// An error, and its words, when there is none.
fn some(ids: &[String], none: &str) -> Result<(), Failure> {
    if ids.is_empty() {
        return Err(Failure::Answer {
            status: hyper::StatusCode::NOT_FOUND,
            errors: vec![crate::ops::OpError::not_found(format!("{none}; `pbx reg list` shows all"))],
        });
    }
    Ok(())
}

/// The id of an extension, and the extension as the API shows it.
async fn find(session: &Session, number: &str, tenant: &InTenant) -> Result<(String, Value), Failure> {
    let path = format!("/api/extension_numbers/{}{}", encoded(number), of_tenant(tenant));
    let value = session.client.get(&path).await?;
    let id = value["id"].as_str().map(encoded);
    id.map(|id| (id, value)).ok_or_else(|| Failure::Failed("the daemon's answer has no id".to_owned()))
}

fn of_tenant(tenant: &InTenant) -> String {
    tenant.tenant.as_deref().map(|tenant| query(&[("tenant", tenant)])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            id: Some("1".into()),
            extension_number: "101".into(),
            display_name: None,
            caller_id: None,
            tenant: "default".into(),
            enabled: true,
            registered: Some(0),
            forward_always: None,
            forward_busy: None,
            forward_no_answer: None,
            forward_offline: None,
            no_answer_seconds: 20,
            do_not_disturb: false,
            created_at: pbx_core::time::Timestamp::EPOCH,
            updated_at: pbx_core::time::Timestamp::EPOCH,
        }
    }

    #[test]
    fn where_calls_go_is_said_in_words_and_nothing_when_they_go_nowhere() {
        assert_eq!((state(&user()), forwarding(&user()).len()), ("enabled".to_owned(), 0));
        let some = User { forward_busy: Some("102".into()), forward_no_answer: Some("103".into()), ..user() };
        let lines = ["  forwards   to 102 when busy", "  forwards   to 103 after 20 s without an answer"];
        assert_eq!((state(&some), forwarding(&some)), ("enabled".to_owned(), lines.map(str::to_owned).to_vec()));
        let all = User { forward_always: Some("104".into()), do_not_disturb: true, ..some };
        assert_eq!((state(&all), forwarding(&all).len()), ("forwarded to 104".to_owned(), 5));
        assert_eq!(state(&User { enabled: false, ..all }), "disabled");
        assert_eq!((number_or_none("None".into()), number_or_none("200".into())), (String::new(), "200".to_owned()));
    }
}
