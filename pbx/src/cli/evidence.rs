//! Why a source is blocked, for the screen; and `pbx block show`.

use std::time::Duration;

use pbx_core::time::{Timestamp, format_duration};

use super::{
    Session,
    client::{query, typed},
    explain::field,
    failure::Failure,
    render::{ago, left, number, range, say, say_json},
};
use crate::{
    filter::Hits,
    ops::{BlockEntry, BlockKind, BlockShown, EvidenceView},
    store::{AuditRow, Evidence, EvidenceMessage},
};

/// Lines of a message that are shown without `--messages`.
const BEGINNING: usize = 3;
/// Characters of a line of a message.
const WIDEST: usize = 90;

pub(super) async fn show(session: &Session, address: &str, messages: bool) -> Result<(), Failure> {
    let value = session.client.get(&format!("/api/security/blocks/show{}", query(&[("address", address)]))).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let count = value["count"].as_u64().unwrap_or_default();
    let shown: Vec<BlockShown> = typed(value["items"].clone())?;
    let left_out = count.saturating_sub(shown.len() as u64);
    let most = if messages { usize::MAX } else { BEGINNING };
    shown.iter().flat_map(|block| block_lines(block, most)).for_each(say);
    if left_out > 0 {
        say(format!("{left_out} more; `pbx block list --search {address}` lists them"));
    }
    Ok(())
}

fn block_lines(block: &BlockShown, most: usize) -> Vec<String> {
    let BlockShown { entry, evidence, history, changes } = block;
    let BlockEntry { cidr, kind, reason, account, since, expire_at, by, enforced, hits, undo } = entry;
    let mut lines = vec![cidr.to_string()];
    lines.extend(range(cidr, &cidr.count().to_string()).map(|range| field("range", &range)));
    let made = match kind {
        BlockKind::Manual => format!("by {by}, a rule"),
        BlockKind::Feed => format!("from {by}"),
        BlockKind::Automatic => "by itself".to_owned(),
        BlockKind::Pair => "by itself, for one account of a known source".to_owned(),
    };
    lines.push(field("made", &format!("{made}, since {since} ({})", ago(*since))));
    lines.extend(account.iter().map(|account| field("account", account)));
    lines.push(field("reason", if reason.is_empty() { "-" } else { reason }));
    let end = expire_at.map_or("permanent".to_owned(), |end| format!("until {end} ({} left)", left(Some(end))));
    lines.push(field("ends", &end));
    if *kind != BlockKind::Pair {
        lines.push(field("dropped", &format!("{} packets, last {}", packets(hits), seen(hits))));
    }
    if !enforced {
        lines.push(field("note", "drops nothing now: the filter only monitors, or an allow rule stands before it"));
    }
    lines.extend(evidence.iter().flat_map(|why| self::lines(why, most)));
    lines.extend(history.iter().map(past));
    lines.extend(changes.iter().map(change));
    lines.push(field("undo", undo));
    lines
}

/// What led to a block; of each message so many lines.
pub(super) fn lines(view: &EvidenceView, most: usize) -> Vec<String> {
    let EvidenceView { evidence, because, messages_kept } = view;
    let Evidence { counters, before, sure, enforced, first_seen, last_seen, messages, .. } = evidence;
    let mut lines = vec![field("why", because)];
    if !counters.is_empty() {
        let counted: Vec<String> =
            counters.iter().map(|one| format!("{} {}", one.detector.label(), one.count)).collect();
        lines.push(field("counted besides", &counted.join(", ")));
    }
    let times = match before {
        0 => "never blocked before".to_owned(),
        1 => "blocked once before".to_owned(),
        times => format!("blocked {times} times before"),
    };
    lines.push(field("seen", &format!("from {first_seen} to {last_seen}; {times}")));
    let sure = if *sure {
        "nobody else can have sent it"
    } else {
        "anybody may have sent it in this name (UDP without a proof), so the block begins short"
    };
    let monitored = if *enforced { "" } else { "; its rule only monitored" };
    lines.push(field("evidence", &format!("{sure}{monitored}")));
    if messages.is_empty() && *messages_kept > 0 {
        lines.push(field("messages", &format!("{messages_kept} are kept, which administrators see")));
    }
    lines.extend(messages.iter().flat_map(|message| message_lines(message, most)));
    lines
}

fn message_lines(message: &EvidenceMessage, most: usize) -> Vec<String> {
    let EvidenceMessage { at, text } = message;
    let shortened = |line: &str| -> String {
        let line = line.trim_end_matches('\r');
        if most == usize::MAX || line.chars().count() <= WIDEST {
            return line.to_owned();
        }
        line.chars().take(WIDEST - 1).chain(['…']).collect()
    };
    let mut texts = text.lines().map(shortened);
    let first = texts.next().unwrap_or_default();
    let mut lines = vec![field(&time_of_day(*at), &first)];
    lines.extend(texts.take(most - 1).map(|line| field("", &line)));
    lines
}

/// An earlier block.
pub(super) fn past(view: &EvidenceView) -> String {
    let EvidenceView { evidence: Evidence { at, until, enforced, .. }, because, .. } = view;
    let how = if *enforced { "" } else { "would have been " };
    let lasting = format_duration(Duration::from_secs(until.saturating_since(*at).as_secs()));
    field("before", &format!("{how}blocked at {at} for {lasting}: {because}"))
}

/// What somebody changed.
pub(super) fn change(row: &AuditRow) -> String {
    let AuditRow { at, actor, what, object, .. } = row;
    field("changed", &format!("{what} {object} by {actor} at {at}"))
}

/// A time in which something is counted.
pub(super) fn period(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}

/// 06:51:41.050
fn time_of_day(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('T').map_or(text.clone(), |(_, time)| time.trim_end_matches('Z').to_owned())
}

pub(super) fn packets(hits: &Hits) -> String {
    let estimated = if hits.estimated && hits.packets > 0 { "≈" } else { "" };
    format!("{estimated}{}", number(hits.packets))
}

pub(super) fn seen(hits: &Hits) -> String {
    hits.last_seen.map_or_else(|| "-".to_owned(), ago)
}
