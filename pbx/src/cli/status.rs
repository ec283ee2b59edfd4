//! `pbx status`, `doctor`, `top`.

use std::time::{Duration, Instant};

use pbx_core::{guard::Detector, overload::Class, settings::Enforcement};

use super::{
    Session,
    client::{query, typed},
    failure::Failure,
    firewall::say_filter,
    render::{Columns, ago, bytes, clear, number, say, say_json},
};
use crate::{
    filter::{Finding, InterfaceCounters, Outcome, Severity, Talker},
    guard::GuardStatus,
    ops::{Status, TransportState, TransportStatusView},
    signalling::Load,
};

pub(super) async fn status(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/security/status").await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let status: Status = typed(value)?;
    let mut mode = match status.mode {
        Enforcement::Enforce => "enforces",
        Enforcement::Monitor => "MONITORS, drops nothing",
        Enforcement::Off => "is OFF",
    }
    .to_owned();
    match status.default_deny {
        Enforcement::Enforce => mode.push_str(", DEFAULT DENY: strangers reach no protected port"),
        Enforcement::Monitor => mode.push_str(", default deny monitors"),
        Enforcement::Off => {}
    }
    say(format!("pbx {} {mode}, settings revision {}", status.version, status.settings_revision));
    say(format!(
        "rules    {} block, {} allow; {} automatic blocks",
        number(status.block_rules as u64),
        number(status.allow_rules as u64),
        number(status.automatic_blocks as u64)
    ));
    say(format!(
        "phones   {} extensions, {} registered",
        number(status.extensions as u64),
        status.registrations.map_or_else(|| "nobody knows how many".to_owned(), number)
    ));
    let transport = |one: &TransportStatusView| match one.state {
        TransportState::Activated => format!("{} {}", one.protocol, one.port),
        TransportState::Deactivated => format!("{} {} CLOSED", one.protocol, one.port),
    };
    say(format!("         {}", status.transports.iter().map(transport).collect::<Vec<_>>().join(", ")));
    status.load.iter().map(calls).for_each(say);
    status.load.iter().flat_map(load).for_each(say);
    guard(&status).into_iter().for_each(say);
    say_filter(&status.filter);
    for warning in status.warnings.iter().filter(|warning| Some(*warning) != status.filter.problem.as_ref()) {
        say(format!("warning  {warning}"));
    }
    Ok(())
}

/// What the guard does, as lines under a heading; loudly when it blocks nobody.
fn guard(status: &Status) -> Vec<String> {
    let GuardStatus { signs, shed, lost, sources, evicted, pairs, left_out: _ } = status.guard;
    let count = |what: &str, count: u64| if count == 0 { String::new() } else { format!(", {} {what}", number(count)) };
    let mut lines = vec![
        format!("guard    {} signs counted{}{}", number(signs), count("SHED", shed), count("LOST", lost)),
        format!(
            "         {} sources watched{}{}",
            number(sources as u64),
            count("gave way to others", evicted),
            count("accounts not heard from known sources", pairs as u64)
        ),
    ];
    let names: Vec<&str> = status.monitoring.iter().map(|detector| detector.label()).collect();
    if names.len() == Detector::ALL.len() {
        lines.push("         BLOCKS NOBODY: what detectors see is only told".to_owned());
    } else if !names.is_empty() {
        lines.push(format!("         blocks nobody for: {}", names.join(", ")));
    }
    lines
}

/// How many calls there are, and how many there were not.
fn calls(load: &Load) -> String {
    let refused = match load.calls_without_port {
        0 => String::new(),
        refused => format!(", {} REFUSED because no media port was free", number(refused)),
    };
    // Whoever is turned away before that is no attempt yet: there is no record of it.
    let turned_away = match load.shed.iter().find(|(class, _)| class == Class::NewCall.name()) {
        Some((_, count)) => format!(", {} TURNED AWAY under load, without a record", number(*count)),
        None => String::new(),
    };
    let withheld = match load.media.withheld {
        0 => String::new(),
        withheld => format!(", {} media packets withheld from where no phone was heard", number(withheld)),
    };
    let broken = if load.media.broken { ", THE RELAY OF MEDIA HAS BROKEN OFF" } else { "" };
    let noun = if load.calls == 1 { "call goes on" } else { "calls go on" };
    format!("calls    {} {noun}{refused}{turned_away}{withheld}{broken}", number(load.calls))
}

/// What the signalling side has to do, as lines under a heading.
fn load(load: &Load) -> Vec<String> {
    let limit = match load.memory_limit_bytes {
        0 => String::new(),
        limit => format!(" of {}", bytes(limit)),
    };
    let unsaved = match load.unsaved {
        0 => String::new(),
        unsaved => format!(", {} changes not stored yet", number(unsaved)),
    };
    let mut lines = vec![
        format!(
            "load     level {} of {}, messages wait {} ms, {}{limit} of memory",
            load.level,
            Class::ALL.len(),
            number(load.queue_delay_ms),
            bytes(load.memory_bytes)
        ),
        format!(
            "         {} messages handled, {} known sources{unsaved}",
            number(load.handled),
            number(load.known_sources)
        ),
    ];
    for (what, counts) in [("refused", &load.refused), ("turned away under load", &load.shed)] {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {}", number(*count))).collect();
        if !counts.is_empty() {
            lines.push(format!("         {what}: {}", counts.join(", ")));
        }
    }
    lines
}

/// Exit code 1 when something is wrong, so that a script sees it.
pub(super) async fn doctor(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/security/doctor").await?;
    let findings: Vec<Finding> = typed(value["items"].clone())?;
    let wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    if session.json {
        say_json(&value);
    } else {
        for Finding { severity, subject, message, advice } in findings {
            let mark = match severity {
                Severity::Ok => "ok     ",
                Severity::Warning => "warning",
                Severity::Error => "ERROR  ",
            };
            say(format!("{mark}  {subject}: {message}"));
            advice.into_iter().for_each(|advice| say(format!("         {advice}")));
        }
    }
    if wrong { Err(Failure::Code(1)) } else { Ok(()) }
}

pub(super) async fn top(session: &Session, once: bool, interval: Duration, limit: u32) -> Result<(), Failure> {
    let mut before: Option<(Instant, [u64; 3])> = None;
    loop {
        let value =
            session.client.get(&format!("/api/security/top{}", query(&[("limit", &limit.to_string())]))).await?;
        let stats = session.client.get("/api/security/stats").await?;
        if session.json {
            say(serde_json::json!({ "top": value["items"], "stats": stats["items"] }));
        } else {
            let counters: Vec<InterfaceCounters> = typed(stats["items"].clone())?;
            let now = (Instant::now(), totals(&counters));
            if !once {
                clear();
            }
            say(rates(before, now));
            say(talkers(typed(value["items"].clone())?));
            before = Some(now);
        }
        if once {
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

fn totals(counters: &[InterfaceCounters]) -> [u64; 3] {
    let mut totals = [0; 3];
    for reason in counters.iter().flat_map(|interface| &interface.reasons) {
        let index = match reason.outcome {
            Outcome::Passed => 0,
            Outcome::Dropped => 1,
            Outcome::WouldDrop => 2,
        };
        totals[index] += reason.packets;
    }
    totals
}

fn rates(before: Option<(Instant, [u64; 3])>, (now, counts): (Instant, [u64; 3])) -> String {
    let Some((then, old)) = before else {
        let [passed, dropped, would] = counts.map(number);
        return format!("packets so far: {passed} passed, {dropped} dropped, {would} would be dropped");
    };
    let seconds = now.duration_since(then).as_secs_f64().max(0.001);
    let mut index = 0;
    let [passed, dropped, would] = counts.map(|count| {
        let rate = count.saturating_sub(old[index]) as f64 / seconds;
        index += 1;
        number(rate.round() as u64)
    });
    format!("packets a second: {passed} passed, {dropped} dropped, {would} would be dropped")
}

fn talkers(talkers: Vec<Talker>) -> String {
    let mut table = Columns::new(&["source", "packets/s", "blocked", "last seen"], &[1]);
    for talker in talkers {
        table.row([
            talker.source.to_string(),
            number(u64::from(talker.packets_per_second)),
            talker.blocked.map_or_else(|| "-".to_owned(), |reason| reason.as_str().to_owned()),
            talker.last_seen.map_or_else(|| "-".to_owned(), ago),
        ]);
    }
    if table.is_empty() { "nobody is being counted".to_owned() } else { table.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_one_line_and_those_without_a_port_or_a_record_are_named() {
        assert_eq!(calls(&Load::default()), "calls    0 calls go on");
        assert_eq!(calls(&Load { calls: 1, ..Load::default() }), "calls    1 call goes on");
        let full = Load { calls: 9999, calls_without_port: 3, ..Load::default() };
        assert_eq!(calls(&full), "calls    9 999 calls go on, 3 REFUSED because no media port was free");
        let busy = Load {
            shed: vec![("unauthenticated".into(), 9), ("new_call".into(), 1200)],
            media: crate::media::RelayStatus { withheld: 17, broken: true, ..Default::default() },
            ..Load::default()
        };
        assert_eq!(
            calls(&busy),
            "calls    0 calls go on, 1 200 TURNED AWAY under load, without a record, 17 media packets withheld from \
             where no phone was heard, THE RELAY OF MEDIA HAS BROKEN OFF"
        );
    }

    #[test]
    fn load_is_two_lines_and_what_was_refused_is_named() {
        assert_eq!(
            load(&Load::default()),
            [
                "load     level 0 of 6, messages wait 0 ms, 0 B of memory",
                "         0 messages handled, 0 known sources"
            ]
        );
        let busy = Load {
            level: 2,
            queue_delay_ms: 1234,
            memory_bytes: 3_565_158,
            memory_limit_bytes: 1 << 30,
            handled: 65_536,
            refused: vec![("challenged".into(), 4000), ("garbage".into(), 2)],
            shed: vec![("unauthenticated".into(), 9)],
            unsaved: 7,
            ..Load::default()
        };
        assert_eq!(
            load(&busy),
            [
                "load     level 2 of 6, messages wait 1 234 ms, 3.4 MiB of 1.0 GiB of memory",
                "         65 536 messages handled, 0 known sources, 7 changes not stored yet",
                "         refused: challenged 4 000, garbage 2",
                "         turned away under load: unauthenticated 9"
            ]
        );
    }
}
