//! `pbx notify`.

use serde_json::{Value, json};

use super::{
    Session,
    args::{ListArgs, MailOptions, Notify, PasswordFrom, SetReceiver},
    client::typed,
    failure::Failure,
    render::{Columns, ago, say, say_json},
};
use crate::{
    ops::{Did, NotifyAnswer, NotifyView, ReceiverView, SetMail, SetWebhook},
    store::NotifyRow,
};

const PATH: &str = "/api/security/notify";

pub(super) async fn run(session: &Session, command: Notify) -> Result<(), Failure> {
    let (target, verb, body) = match command {
        Notify::Show => return show(session, session.client.get(PATH).await?),
        Notify::History(args) => return session.watched(&args.watch, || history(session, &args)).await,
        Notify::Set(SetReceiver::Mail(options)) => {
            let request = mail(options)?;
            return answer(session, session.client.post(&format!("{PATH}/mail"), &request).await?);
        }
        Notify::Set(SetReceiver::Webhook { url, key_stdin, no_key, change }) => {
            let key = if no_key {
                Some(String::new())
            } else {
                PasswordFrom { password_stdin: key_stdin, ask_password: false }.read()?
            };
            let request = SetWebhook { url, key, dry_run: change.dry_run };
            return answer(session, session.client.post(&format!("{PATH}/webhook"), &request).await?);
        }
        Notify::Test { target } => (target, "test", json!({})),
        Notify::On { target, change } => (target, "enable", json!({ "dry_run": change.dry_run })),
        Notify::Off { target, change } => (target, "disable", json!({ "dry_run": change.dry_run })),
        Notify::Remove { target, change } => (target, "destroy", json!({ "dry_run": change.dry_run })),
    };
    answer(session, session.client.post(&format!("{PATH}/{}/{verb}", target.as_str()), &body).await?)
}

fn mail(options: MailOptions) -> Result<SetMail, Failure> {
    let MailOptions { host, port, security, user, password, from, to, change } = options;
    let security =
        security.map(|text| text.parse().map_err(|error: &str| Failure::Usage(error.to_owned()))).transpose()?;
    Ok(SetMail { host, port, security, user, password: password.read()?, from, to, dry_run: change.dry_run })
}

fn show(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let NotifyView { interval, about, receivers } = typed(value)?;
    say(format!("one digest in {interval} at most, about {about}"));
    say("  `pbx guard set notify.interval=10m notify.about=block,disk` changes that");
    receivers.iter().for_each(say_receiver);
    Ok(())
}

fn say_receiver(receiver: &ReceiverView) {
    let ReceiverView { target, enabled, tested_at, mail, webhook, secret, sent_at, failing_since, problem } = receiver;
    let name = target.as_str();
    if mail.is_none() && webhook.is_none() {
        say(format!("{name:<8} not set up: `pbx notify set {name}` does"));
        return;
    }
    let state = match (enabled, tested_at) {
        (true, _) => "on".to_owned(),
        (false, Some(at)) => format!("off, tested {}: `pbx notify on {name}` switches it on", ago(*at)),
        (false, None) => format!("off, not tested: `pbx notify test {name}`"),
    };
    say(format!("{name:<8} {state}"));
    if let Some(mail) = mail {
        let user = mail.user.as_ref().map(|user| format!(", signs in as {user}")).unwrap_or_default();
        say(format!("  server   {}:{}, {}{user}", mail.host, mail.port, mail.security));
        say(format!("  from     {}", mail.from));
        say(format!("  to       {}", mail.to.join(", ")));
    }
    if let Some(webhook) = webhook {
        say(format!("  address  {}", webhook.url));
        say(if *secret { "  signed   yes" } else { "  signed   no" });
    }
    if let Some(at) = sent_at {
        say(format!("  told     {}", ago(*at)));
    }
    if let (Some(since), Some(problem)) = (failing_since, problem) {
        say(format!("  FAILS    since {since}: {problem}"));
    }
}

async fn history(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list(&format!("{PATH}/history"), args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["when", "to", "outcome", "attempt", "about", "why"], &[3]);
    for item in listed.items.iter().cloned() {
        let row: NotifyRow = typed(item)?;
        table.row([
            ago(row.at),
            row.target,
            row.outcome,
            row.attempts.to_string(),
            row.summary,
            row.problem.unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        say("nobody was told anything yet");
        return Ok(());
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let NotifyAnswer { did, dry_run, notes, item } = typed(value)?;
    let would = if dry_run { "would be " } else { "" };
    let what = match did {
        Did::Added | Did::Updated => "changed",
        Did::Unchanged => "as it was",
        Did::Removed => "removed",
    };
    say(format!("{} {would}{what}", item.target));
    if did != Did::Removed {
        say_receiver(&item);
    }
    for note in notes {
        say(format!("  {note}"));
    }
    Ok(())
}
