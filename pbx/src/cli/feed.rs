//! `pbx feed`.

use serde_json::{Value, json};

use super::{
    Session,
    args::{Feed, ListArgs},
    client::{encoded, typed},
    failure::Failure,
    render::{Columns, ago, left, number, say, say_json},
};
use crate::ops::{AddFeed, Did, FeedAnswer, FeedView, UpdateFeed};

pub(super) async fn run(session: &Session, command: Feed) -> Result<(), Failure> {
    let path = |name: &str, verb: &str| format!("/api/security/feeds/{}{verb}", encoded(name));
    let value = match command {
        Feed::List(args) => return session.watched(&args.watch, || list(session, &args)).await,
        Feed::Show { name } => return show(session, session.client.get(&path(&name, "")).await?),
        Feed::Add { name, source, options, force, change } => {
            let (every, max_entries) = (options.every, options.max_entries);
            let request = AddFeed { name, source, every, max_entries, force, dry_run: change.dry_run };
            session.client.post("/api/security/feeds", &request).await?
        }
        Feed::Set { name, source, options, change } => {
            let (every, max_entries) = (options.every, options.max_entries);
            let update = UpdateFeed { source, every, max_entries, enabled: None, dry_run: change.dry_run };
            session.client.post(&path(&name, ""), &update).await?
        }
        Feed::Remove { name, change } => {
            session.client.post(&path(&name, "/destroy"), &json!({ "dry_run": change.dry_run })).await?
        }
        Feed::Refresh { name, restore, change } => {
            let request = json!({ "dry_run": change.dry_run, "restore": restore });
            session.client.post(&path(&name, "/refresh"), &request).await?
        }
        Feed::Enable { name, change } => {
            let update = UpdateFeed { enabled: Some(true), dry_run: change.dry_run, ..UpdateFeed::default() };
            session.client.post(&path(&name, ""), &update).await?
        }
        Feed::Disable { name, change } => {
            let update = UpdateFeed { enabled: Some(false), dry_run: change.dry_run, ..UpdateFeed::default() };
            session.client.post(&path(&name, ""), &update).await?
        }
    };
    answer(session, value)
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/security/feeds", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["feed", "blocks", "left out", "read", "next", "state", "source"], &[1, 2]);
    for item in listed.items.iter().cloned() {
        let feed: FeedView = typed(item)?;
        let state = match (&feed.state.problem, feed.enabled) {
            (_, false) => "disabled",
            (Some(_), _) => "FAILS",
            (None, _) => "ok",
        };
        table.row([
            feed.name,
            number(feed.state.blocking as u64),
            number(feed.state.left_out as u64),
            feed.state.read_at.map_or_else(|| "never".to_owned(), ago),
            left(feed.next_at),
            state.to_owned(),
            feed.source,
        ]);
    }
    if table.is_empty() {
        say("there is no feed; `pbx feed add NAME ADDRESS` adds one");
        return Ok(());
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

fn show(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let feed: FeedView = typed(value)?;
    let state = &feed.state;
    let disabled = if feed.enabled { "" } else { ", DISABLED" };
    say(format!("{}{disabled}", feed.name));
    say(format!("  source   {}", feed.source));
    let limit = format!("up to {} entries", number(feed.max_entries.into()));
    say(format!("  read     every {}, {limit}; next in {}", feed.every, left(feed.next_at)));
    say(format!("  added    by {}, {}", feed.created_by, ago(feed.created_at)));
    match state.read_at {
        Some(read_at) => {
            let shared = match state.shared {
                0 => String::new(),
                shared => format!(", {} blocked by rules of somebody else", number(shared as u64)),
            };
            let counts = format!("{} entries, {} block", number(state.entries as u64), number(state.blocking as u64));
            say(format!("  holds    {counts}{shared} (read {})", ago(read_at)));
        }
        None => say("  holds    nothing, it was never read"),
    }
    if state.left_out > 0 {
        say(format!("  left out {} lines", number(state.left_out as u64)));
        state.left_out_lines.iter().for_each(|line| say(format!("           {line}")));
        let more = state.left_out.saturating_sub(state.left_out_lines.len());
        if more > 0 {
            say(format!("           and {} more", number(more as u64)));
        }
    }
    if let Some(warning) = feed.warning() {
        say(format!("  FAILS    {} times in a row: {warning}", state.failures));
    }
    Ok(())
}

fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let FeedAnswer { did, dry_run, added, removed, kept, notes, item } = typed(value)?;
    let would = if dry_run { "would be " } else { "" };
    let what = match did {
        Did::Added => "added",
        Did::Updated => "changed",
        Did::Unchanged => "as it was",
        Did::Removed => "removed",
    };
    let count = |blocks: usize| number(blocks as u64);
    say(format!(
        "{} {would}{what}: {} blocks new, {} gone, {} stay",
        item.name,
        count(added),
        count(removed),
        count(kept)
    ));
    for note in notes {
        say(format!("  {note}"));
    }
    match did {
        Did::Added if !dry_run => say(format!("  undo: pbx feed remove {}", item.name)),
        Did::Removed if !dry_run => {
            say(format!("  undo: pbx feed add {} {} --every {}", item.name, item.source, item.every))
        }
        _ => {}
    }
    Ok(())
}
