//! `pbx block` and `pbx allow`.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use pbx_core::{guard::Detector, rule::Action, time::Timestamp};
use serde_json::{Value, json};

use super::{
    Session,
    args::{Add, Allow, Block, Change, ListArgs},
    ask::confirm,
    client::{query, typed},
    evidence::{packets, seen, show},
    failure::Failure,
    render::{Columns, ago, left, now, number, range, say, say_json},
};
use crate::{
    api::FlushRequest,
    ops::{AddRule, BlockEntry, BlockKind, Did, ImportAnswer, IpFilter, RemoveBlock, Removed, RuleAnswer},
    store::fail2ban,
};

pub(super) async fn block(session: &Session, command: Block) -> Result<(), Failure> {
    match command {
        Block::List(args) => session.watched(&args.watch, || list_blocks(session, &args)).await,
        Block::Add(add) => make(session, Action::Block, add).await,
        Block::Remove { address, allow_for, force, change } => {
            let request = RemoveBlock { address: address.text(), allow_for, force, dry_run: change.dry_run };
            remove(session, &request).await
        }
        Block::Show { address, messages } => show(session, &address.text(), messages).await,
        Block::Import { file, csv, fail2ban, force, change } => {
            let (bytes, format, note) = match (fail2ban, file) {
                (Some(database), _) => bans(&database).await?,
                (None, file) => {
                    let format = if csv { "csv" } else { "lines" };
                    (read(&file.unwrap_or_else(|| "-".into()))?, format, None)
                }
            };
            import(session, (bytes, format), note, force, change).await
        }
        Block::Export { all } => {
            let pairs: &[(&str, &str)] = if all { &[] } else { &[("target", "DENY")] };
            let text = session.client.text(&format!("/api/ip_filters/export{}", query(pairs))).await?;
            let _ = io::stdout().lock().write_all(text.as_bytes());
            Ok(())
        }
        Block::Flush { manual, automatic, yes, change } => {
            let request = FlushRequest {
                manual: manual || !automatic,
                automatic: automatic || !manual,
                dry_run: change.dry_run,
                ..FlushRequest::default()
            };
            flush(session, request, yes).await
        }
    }
}

pub(super) async fn allow(session: &Session, command: Allow) -> Result<(), Failure> {
    match command {
        Allow::List(args) => session.watched(&args.watch, || list_allowed(session, &args)).await,
        Allow::Add(add) => make(session, Action::Allow, add).await,
        Allow::Remove { address, force, change } => {
            let body =
                json!({ "cidr": address.text(), "target": Action::Allow, "force": force, "dry_run": change.dry_run });
            let value = session.client.post("/api/ip_filters/destroy", &body).await?;
            rule_answer(session, value)
        }
    }
}

async fn list_blocks(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/security/blocks", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["address", "by", "reason", "dropped", "last seen", "since", "left"], &[3]);
    let mut monitored = false;
    for item in listed.items.iter().cloned() {
        let entry: BlockEntry = typed(item)?;
        monitored |= !entry.enforced;
        table.row(block_row(&entry));
    }
    if table.is_empty() {
        say("nothing is blocked");
        return Ok(());
    }
    say(&table);
    if monitored {
        say("* drops nothing now: `pbx explain ADDRESS` says why");
    }
    listed.rest().into_iter().for_each(say);
    Ok(())
}

fn block_row(entry: &BlockEntry) -> [String; 7] {
    let by = match entry.kind {
        BlockKind::Manual | BlockKind::Feed => entry.by.clone(),
        BlockKind::Automatic => "automatic".to_owned(),
        BlockKind::Pair => "automatic, one account".to_owned(),
    };
    let reason = match (Detector::from_name(&entry.reason), &entry.account) {
        (Some(detector), Some(account)) => format!("{account}: {}", detector.what()),
        (Some(detector), None) if entry.kind == BlockKind::Automatic => detector.what().to_owned(),
        _ => entry.reason.clone(),
    };
    let mark = if entry.enforced { "" } else { " *" };
    [
        format!("{}{mark}", entry.cidr),
        by,
        reason,
        packets(&entry.hits),
        seen(&entry.hits),
        ago(entry.since),
        left(entry.expire_at),
    ]
}

async fn list_allowed(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/ip_filters", args, &["target eq 'ACCEPT'"], Some("id desc"), &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["address", "by", "reason", "passed", "last seen", "since", "left"], &[3]);
    for item in listed.items.iter().cloned() {
        let rule: IpFilter = typed(item)?;
        table.row([
            rule.cidr.to_string(),
            rule.created_by,
            rule.description,
            packets(&rule.hits),
            seen(&rule.hits),
            ago(rule.created_at),
            left(rule.expire_at),
        ]);
    }
    if table.is_empty() {
        say("the allow list is empty");
        return Ok(());
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

async fn make(session: &Session, target: Action, add: Add) -> Result<(), Failure> {
    let Add { address, lasting, until, reason, force, change } = add;
    let expire_at =
        until.map(|text| text.parse::<Timestamp>().map_err(|error| Failure::Usage(error.to_string()))).transpose()?;
    let request = AddRule {
        cidr: address.text(),
        mask: None,
        target,
        expire_at,
        lasting,
        description: reason,
        force,
        dry_run: change.dry_run,
    };
    let value = session.client.post("/api/ip_filters", &request).await?;
    rule_answer(session, value)
}

fn rule_answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let answer: RuleAnswer = typed(value)?;
    say_rule(&answer);
    if answer.did != Did::Removed && !answer.dry_run {
        say(format!("  undo: pbx {} remove {}", answer.item.target, answer.item.cidr));
    }
    Ok(())
}

fn say_rule(answer: &RuleAnswer) {
    let RuleAnswer { did, dry_run, notes, item } = answer;
    let would = if *dry_run { "would be " } else { "" };
    let what = match (did, item.target) {
        (Did::Added, Action::Block) => format!("{would}blocked"),
        (Did::Added, Action::Allow) => format!("{would}allowed"),
        (Did::Updated, action) => format!("{would}changed: {action}"),
        (Did::Unchanged, action) => format!("is there already: {action}"),
        (Did::Removed, Action::Block) => format!("{would}no longer blocked by hand"),
        (Did::Removed, Action::Allow) => format!("{would}off the allow list"),
    };
    let end = match (did, item.expire_at) {
        (Did::Removed, _) => String::new(),
        (_, Some(end)) => format!(", until {end} ({})", left(Some(end))),
        (_, None) => ", permanently".to_owned(),
    };
    say(format!("{} {what}{end}", item.cidr));
    range(&item.cidr, &item.addresses).into_iter().for_each(|range| say(format!("  {range}")));
    for note in notes {
        say(format!("  {note}"));
    }
}

async fn remove(session: &Session, request: &RemoveBlock) -> Result<(), Failure> {
    let value = session.client.post("/api/security/blocks/remove", request).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let Removed { dry_run, manual, automatic, pairs, allowed, notes } = typed(value)?;
    manual.iter().for_each(say_rule);
    let would = if dry_run { "would be " } else { "" };
    for block in automatic {
        say(format!("{} {would}no longer blocked automatically ({})", block.prefix, block.reason.label()));
    }
    for pair in pairs {
        say(format!("{} {would}heard again for the account {}", pair.cidr, pair.account));
    }
    allowed.iter().for_each(say_rule);
    for note in notes {
        say(format!("  {note}"));
    }
    Ok(())
}

/// The bans of fail2ban's database as CSV, its format, and what to say of those that are left out.
async fn bans(database: &Path) -> Result<(Vec<u8>, &'static str, Option<String>), Failure> {
    let bans = fail2ban::read(database, now()).await.map_err(|error| Failure::Failed(error.to_string()))?;
    let note = match (bans.over, bans.odd) {
        (0, 0) => None,
        (over, 0) => Some(format!("{over} bans are over and were left out")),
        (over, odd) => Some(format!("{over} bans are over and {odd} name no address; these were left out")),
    };
    Ok((bans.csv().into_bytes(), "csv", note))
}

async fn import(
    session: &Session,
    (bytes, format): (Vec<u8>, &str),
    note: Option<String>,
    force: bool,
    change: Change,
) -> Result<(), Failure> {
    let flags = [("format", format.to_owned()), ("force", force.to_string()), ("dry_run", change.dry_run.to_string())];
    let pairs: Vec<(&str, &str)> = flags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let value = session.client.post_bytes(&format!("/api/ip_filters/import{}", query(&pairs)), bytes).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let ImportAnswer { dry_run, added, updated, unchanged, notes, milliseconds, .. } = typed(value)?;
    let would = if dry_run { "would be " } else { "" };
    say(format!(
        "{} {would}added, {} changed, {} there already ({milliseconds} ms)",
        number(added as u64),
        number(updated as u64),
        number(unchanged as u64)
    ));
    for note in notes.into_iter().chain(note) {
        say(format!("  {note}"));
    }
    Ok(())
}

async fn flush(session: &Session, request: FlushRequest, yes: bool) -> Result<(), Failure> {
    let would = FlushRequest { dry_run: true, ..request.clone() };
    if !request.dry_run && !yes {
        let preview: ImportAnswer = typed(session.client.post("/api/ip_filters/flush", &would).await?)?;
        let ImportAnswer { removed, automatic_removed, .. } = preview;
        let question = format!("Remove {removed} rules and {automatic_removed} automatic blocks?");
        confirm(&question, "this removes every block")?;
    }
    let value = session.client.post("/api/ip_filters/flush", &request).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let ImportAnswer { dry_run, removed, automatic_removed, .. } = typed(value)?;
    let would = if dry_run { "would be " } else { "" };
    say(format!("{removed} rules and {automatic_removed} automatic blocks {would}removed"));
    Ok(())
}

/// A file, or standard input.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    bytes.map_err(|error| Failure::Failed(format!("cannot read {}: {error}", file.display())))
}
