//! `pbx firewall`.

use pbx_core::settings::Enforcement;
use serde_json::Value;

use super::{
    Session,
    args::{Change, Firewall, Mode, Tuning},
    block::read,
    client::{encoded, typed},
    failure::Failure,
    guard,
    render::{Columns, bytes, number, say, say_json},
};
use crate::{
    api::{AttachRequest, ModeRequest},
    filter::{AttachState, FilterStatus, InterfaceCounters, InterfaceStatus, Outcome},
    ops::{Status, TestReport},
};

/// Frames of a test run that are listed one by one.
const LISTED: usize = 50;

pub(super) async fn run(session: &Session, command: Firewall) -> Result<(), Failure> {
    match command {
        Firewall::Status(watch) => session.watched(&watch, || status(session)).await,
        Firewall::Mode { mode, tuning: Tuning { force, confirm_within, dry_run } } => {
            let mode = match mode {
                Mode::Enforce => Enforcement::Enforce,
                Mode::Monitor => Enforcement::Monitor,
                Mode::Off => Enforcement::Off,
            };
            let request = ModeRequest { mode, force, dry_run, confirm_within };
            guard::answer(session, session.client.post("/api/security/mode", &request).await?)
        }
        Firewall::Attach { interface, change } => place(session, &interface, "attach", change).await,
        Firewall::Detach { interface, change } => place(session, &interface, "detach", change).await,
        Firewall::Stats(watch) => session.watched(&watch, || stats(session)).await,
        Firewall::Test { pcap } => test(session, read(&pcap)?).await,
    }
}

async fn status(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/security/status").await?;
    if session.json {
        say_json(&value["filter"]);
        return Ok(());
    }
    let Status { filter, .. } = typed(value)?;
    say_filter(&filter);
    Ok(())
}

/// The filter's part of a status.
pub(super) fn say_filter(filter: &FilterStatus) {
    let loaded = if filter.loaded { "loaded" } else { "NOT LOADED" };
    say(format!(
        "filter   {loaded}, mode {}, settings revision {}, {} of kernel memory",
        filter.mode,
        filter.settings_revision,
        bytes(filter.memory)
    ));
    if let Some(problem) = &filter.problem {
        say(format!("         {problem}"));
    }
    for interface in &filter.interfaces {
        say_interface(interface);
    }
    if filter.interfaces.is_empty() {
        say("         attached to nothing");
    }
    for usage in filter.usage.iter().filter(|usage| usage.used > 0) {
        say(format!("         {}: {} of {}", usage.table, number(usage.used), number(usage.limit)));
    }
    for sentence in &filter.not_enforced {
        say(format!("NOT ENFORCED: {sentence}"));
    }
}

fn say_interface(interface: &InterfaceStatus) {
    let state = match interface.attach {
        AttachState::Native => "attached (native)",
        AttachState::Generic => "attached (generic, slower)",
        AttachState::Waiting => "is not there; attached when it returns",
        AttachState::Refused => "REFUSED",
        AttachState::Detached => "detached",
    };
    let note = interface.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
    say(format!("         {} {state}{note}", interface.name));
}

async fn place(session: &Session, interface: &str, verb: &str, Change { dry_run }: Change) -> Result<(), Failure> {
    let path = format!("/api/security/interfaces/{}/{verb}", encoded(interface));
    let value = session.client.post(&path, &AttachRequest { dry_run }).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let filter: FilterStatus = typed(value)?;
    if dry_run {
        say(format!("would {verb} {interface}; now:"));
    }
    match filter.interfaces.iter().find(|one| one.name == interface) {
        Some(one) => say_interface(one),
        None => say(format!("         {interface} detached")),
    }
    Ok(())
}

async fn stats(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/security/stats").await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    say(stats_table(value)?);
    Ok(())
}

fn stats_table(value: Value) -> Result<Columns, Failure> {
    let interfaces: Vec<InterfaceCounters> = typed(value["items"].clone())?;
    let mut table = Columns::new(&["interface", "outcome", "reason", "packets", "bytes"], &[3, 4]);
    for InterfaceCounters { interface, reasons } in interfaces {
        for reason in reasons {
            table.row([
                interface.clone(),
                outcome(reason.outcome).to_owned(),
                reason.reason,
                number(reason.packets),
                bytes(reason.bytes),
            ]);
        }
    }
    Ok(table)
}

async fn test(session: &Session, capture: Vec<u8>) -> Result<(), Failure> {
    let value = session.client.post_bytes("/api/security/test", capture).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let TestReport { passed, dropped, would_drop, verdicts } = typed(value)?;
    let mut table = Columns::new(&["frame", "from", "outcome", "reason"], &[0]);
    for verdict in verdicts.iter().take(LISTED) {
        table.row([
            (verdict.frame + 1).to_string(),
            verdict.source.map_or_else(|| "-".to_owned(), |source| source.to_string()),
            outcome(verdict.outcome).to_owned(),
            verdict.reason.clone(),
        ]);
    }
    if !table.is_empty() {
        say(&table);
    }
    if verdicts.len() > LISTED {
        say(format!("{} more; --json shows all", verdicts.len() - LISTED));
    }
    say(format!("{} frames: {passed} passed, {dropped} dropped, {would_drop} would be dropped", verdicts.len()));
    Ok(())
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Dropped => "dropped",
        Outcome::WouldDrop => "would drop",
    }
}
