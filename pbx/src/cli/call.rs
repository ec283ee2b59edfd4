//! `pbx call` and `pbx cdr`.

use std::path::Path;

use pbx_core::{
    call::{Disposition, EndedBy},
    time::Timestamp,
};
use serde_json::json;

use super::{
    Session,
    args::{Call, Cdr, Change, ListArgs, WhichCdrs},
    ask::confirm,
    client::{encoded, query, typed},
    download::save,
    events::moment,
    failure::Failure,
    render::{Columns, ago, bytes, number, say, say_json, span},
};
use crate::{
    ops::{CallState, CallView, CdrDetail, CdrLegView, CdrView, LegMedia},
    signalling::CallLeg,
};

pub(super) async fn call(session: &Session, command: Call) -> Result<(), Failure> {
    match command {
        Call::List(args) => session.watched(&args.watch, || list_calls(session, &args)).await,
        Call::Show { id } => {
            let value = session.client.get(&format!("/api/sessions/{}", encoded(&id))).await?;
            if session.json {
                say_json(&value);
                return Ok(());
            }
            call_lines(&typed(value)?).into_iter().for_each(say);
            Ok(())
        }
        Call::Hangup { id, yes, change } => hang_up(session, &id, yes, change).await,
    }
}

pub(super) async fn cdr(session: &Session, command: Cdr) -> Result<(), Failure> {
    match command {
        Cdr::List { which, list } => session.watched(&list.watch, || list_cdrs(session, &which, &list)).await,
        Cdr::Show { id } => {
            let value = session.client.get(&format!("/api/cdrs/{}", encoded(&id))).await?;
            if session.json {
                say_json(&value);
                return Ok(());
            }
            cdr_lines(&typed(value)?).into_iter().for_each(say);
            Ok(())
        }
        Cdr::Export { which, filter, csv, file } => {
            if csv && session.json {
                return Err(Failure::Usage("--csv or --json, not both".to_owned()));
            }
            export(session, &which, filter, &file).await
        }
    }
}

async fn list_calls(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/sessions", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["id", "from", "to", "tenant", "state", "for", "codec"], &[]);
    for item in listed.items.iter().cloned() {
        let call: CallView = typed(item)?;
        let since = call.answered_at.unwrap_or(call.started_at);
        table.row([
            call.id,
            named(&call.caller_number, call.caller_name.as_deref()),
            reached(&call.dialled, call.callee_number.as_deref()),
            call.tenant.unwrap_or_default(),
            state(call.state).to_owned(),
            span(super::render::now().saturating_since(since)),
            call.codec.unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        say("no call goes on; `pbx cdr list` shows those that have ended");
        return Ok(());
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

async fn hang_up(session: &Session, id: &str, yes: bool, change: Change) -> Result<(), Failure> {
    let path = format!("/api/sessions/{}", encoded(id));
    let mut id = id.to_owned();
    if !yes && !change.dry_run {
        let call: CallView = typed(session.client.get(&path).await?)?;
        let question = format!("End the call from {} to {}?", call.caller_number, call.dialled);
        confirm(&question, "this ends a call")?;
        // What was asked about, whatever a short id means by now.
        id = call.id;
    }
    let path = format!("/api/sessions/{}/destroy", encoded(&id));
    let value = session.client.post(&path, &json!({ "dry_run": change.dry_run })).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let call: CallView = typed(value)?;
    let did = if change.dry_run { "would be ended" } else { "is ended" };
    say(format!("the call from {} to {} {did}", call.caller_number, call.dialled));
    Ok(())
}

async fn list_cdrs(session: &Session, which: &WhichCdrs, args: &ListArgs) -> Result<(), Failure> {
    let own = conditions(which)?;
    let words: Vec<&str> = own.iter().map(String::as_str).collect();
    let listed = session.list("/api/cdrs", args, &words, None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["started (UTC)", "from", "to", "outcome", "talked", "id"], &[4]);
    for item in listed.items.iter().cloned() {
        let record: CdrView = typed(item)?;
        table.row([
            at(record.started_at),
            named(&record.caller_number, record.caller_name.as_deref()),
            reached(&record.dialled, record.callee_number.as_deref()),
            outcome(record.disposition).to_owned(),
            talked(&record),
            record.id,
        ]);
    }
    if table.is_empty() {
        let all = own.is_empty() && args.filter.is_empty() && args.search.is_none();
        say(if all {
            "there is no call record yet: the next call of a registered phone makes one"
        } else {
            "no call record is like that; `pbx cdr list` without conditions shows the newest"
        });
        return Ok(());
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

async fn export(session: &Session, which: &WhichCdrs, filter: Vec<String>, file: &Path) -> Result<(), Failure> {
    let mut conditions = conditions(which)?;
    conditions.extend(filter);
    let filter = conditions.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" and ");
    let format = if session.json { "json" } else { "csv" };
    let mut pairs = vec![("format", format)];
    if !filter.is_empty() {
        pairs.push(("filter", &filter));
    }
    let path = format!("/api/cdrs/export{}", query(&pairs));
    save(session, &path, file).await
}

/// In the words of a list's filter.
fn conditions(which: &WhichCdrs) -> Result<Vec<String>, Failure> {
    let WhichCdrs { from, to, number, disposition } = which;
    let mut conditions = Vec::new();
    if let Some(from) = from {
        conditions.push(format!("started_at ge {}", moment(from)?));
    }
    if let Some(to) = to {
        conditions.push(format!("started_at lt {}", moment(to)?));
    }
    if let Some(number) = number {
        let number = number.replace('\'', "''");
        let is = |field: &str| format!("{field} eq '{number}'");
        conditions.push(["caller_number", "dialled", "callee_number"].map(is).join(" or "));
    }
    if let Some(ended) = disposition {
        conditions.push(format!("disposition eq '{}'", Disposition::from(*ended).as_str()));
    }
    Ok(conditions)
}

fn call_lines(call: &CallView) -> Vec<String> {
    let mut lines = vec![format!("call {}: {}", call.id, state(call.state))];
    let mut field = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
    field("from", named(&call.caller_number, call.caller_name.as_deref()));
    field("to", reached(&call.dialled, call.callee_number.as_deref()));
    call.tenant.iter().for_each(|tenant| field("tenant", tenant.clone()));
    field("began", format!("{} ({})", at(call.started_at), ago(call.started_at)));
    if let Some(answered) = call.answered_at {
        field("answered", format!("after {} ({})", span(answered.saturating_since(call.started_at)), ago(answered)));
    }
    for leg in &call.legs {
        field("phone", leg_line(leg));
        field("", media_line(leg));
    }
    lines
}

/// caller 101, talking, over UDP from 198.51.100.7:5060, Call-ID a84b4c76e66710
fn leg_line(leg: &CallLeg) -> String {
    let CallLeg { kind, number, state, protocol, remote, call_id, .. } = leg;
    format!("{kind} {number}, {state}, over {protocol} from {remote}, Call-ID {call_id}")
}

/// PCMA/8000 at port 45000 from 198.51.100.7:4000: 3 050 packets, 512.3 KiB, 2 lost (0.1 %), jitter 0.1 ms
fn media_line(leg: &CallLeg) -> String {
    let Some(port) = leg.media_port else { return "no media".to_owned() };
    let codec = leg.codec.as_deref().unwrap_or("no codec yet");
    let from = match leg.media_remote {
        Some(from) => format!("from {from}"),
        None => "nothing came yet".to_owned(),
    };
    let counted = came(leg.packets, leg.bytes, leg.lost, leg.jitter_us, leg.refused);
    format!("{codec} at port {port}, {from}: {counted}")
}

fn came(packets: u64, bytes_of: u64, lost: u64, jitter_us: u64, refused: u64) -> String {
    let refused = if refused > 0 { format!(", {} refused", number(refused)) } else { String::new() };
    format!(
        "{} packets, {}, {} lost{}, jitter {:.1} ms{refused}",
        number(packets),
        bytes(bytes_of),
        number(lost),
        share(lost, packets),
        jitter_us as f64 / 1000.0
    )
}

/// Of what was sent, what is missing: ` (0.1 %)`.
fn share(lost: u64, packets: u64) -> String {
    if lost == 0 {
        return String::new();
    }
    format!(" ({:.1} %)", 100.0 * lost as f64 / lost.saturating_add(packets) as f64)
}

fn cdr_lines(detail: &CdrDetail) -> Vec<String> {
    let CdrDetail { record, legs } = detail;
    let mut lines = vec![format!("call {}: {}", record.id, outcome(record.disposition))];
    let mut field = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
    field("from", named(&record.caller_number, record.caller_name.as_deref()));
    field("to", reached(&record.dialled, record.callee_number.as_deref()));
    record.tenant.iter().for_each(|tenant| field("tenant", tenant.clone()));
    field("began", at(record.started_at));
    let after = |moment: Timestamp| format!("after {}", span(moment.saturating_since(record.started_at)));
    record.ringing_at.into_iter().for_each(|moment| field("rang", after(moment)));
    record.answered_at.into_iter().for_each(|moment| field("answered", after(moment)));
    if let Some(ended) = record.ended_at {
        let by = record.ended_by.map(|by| format!(", by {}", who(by))).unwrap_or_default();
        field("ended", format!("{}{by}, talked {}", at(ended), talked(record)));
    }
    let codes =
        [record.status.map(|status| format!("SIP {status}")), record.cause.map(|cause| format!("Q.850 cause {cause}"))];
    let codes: Vec<String> = codes.into_iter().flatten().collect();
    if !codes.is_empty() {
        field("code", codes.join(", "));
    }
    record.why.iter().for_each(|why| field("why", why.clone()));
    record.codec.iter().for_each(|codec| field("codec", codec.clone()));
    for leg in legs {
        field("phone", cdr_leg_line(leg, record.started_at));
        if let Some(LegMedia { packets, bytes: size, lost, jitter_us, refused, sent, .. }) = leg.media {
            field("", format!("{}; {} sent to it", came(packets, size, lost, jitter_us, refused), number(sent)));
        }
    }
    lines
}

/// branch 102 at 198.51.100.7:5060, rang after 1s, answered 200 after 3s, PCMA/8000
fn cdr_leg_line(leg: &CdrLegView, began: Timestamp) -> String {
    let after = |moment: Timestamp| span(moment.saturating_since(began));
    let mut line = format!("{} {} at {}", leg.kind.as_str(), leg.number, leg.remote);
    if let Some(rang) = leg.ringing_at {
        line += &format!(", rang after {}", after(rang));
    }
    match (leg.answered_at, leg.status) {
        (Some(answered), _) => line += &format!(", answered after {}", after(answered)),
        (None, Some(status)) => line += &format!(", said {status}"),
        (None, None) => {}
    }
    if let Some(ended) = leg.ended_at {
        line += &format!(", ended after {}", after(ended));
    }
    if let Some(codec) = &leg.codec {
        line += &format!(", {codec}");
    }
    line
}

/// 101 Alice
fn named(number: &str, name: Option<&str>) -> String {
    name.map_or_else(|| number.to_owned(), |name| format!("{number} {name}"))
}

/// What was dialled, and who was reached if that is somebody else.
fn reached(dialled: &str, callee: Option<&str>) -> String {
    match callee {
        Some(callee) if callee != dialled => format!("{dialled} → {callee}"),
        _ => dialled.to_owned(),
    }
}

const fn state(state: CallState) -> &'static str {
    match state {
        CallState::Ringing => "ringing",
        CallState::Talking => "talking",
    }
}

const fn outcome(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Open => "goes on",
        Disposition::Answered => "answered",
        Disposition::Busy => "busy",
        Disposition::NoAnswer => "no answer",
        Disposition::Cancelled => "caller gave up",
        Disposition::Failed => "failed",
        Disposition::Interrupted => "interrupted",
    }
}

const fn who(by: EndedBy) -> &'static str {
    match by {
        EndedBy::Caller => "the caller",
        EndedBy::Callee => "the callee",
        EndedBy::System => "the appliance",
        EndedBy::Administrator => "an administrator",
    }
}

/// 1m 1s; a dash for a call that nobody answered.
fn talked(record: &CdrView) -> String {
    match record.answered_at {
        Some(_) => span(std::time::Duration::from_secs(record.billed_seconds)),
        None => "-".to_owned(),
    }
}

/// 2026-11-23 06:51:41
fn at(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.split(['.', 'Z']).next().unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests;
