//! `pbx explain`: what becomes of an address and why, the rule that decides first, on one screen.

use super::{
    Session,
    client::{query, typed},
    evidence,
    failure::Failure,
    render::{ago, left, say, say_json},
};
use crate::ops::{CounterView, Explanation, Fate, KnownHere, OffenceView, PairView, RegistrationView};

/// Lines of a screen.
const SCREEN: usize = 40;
/// Lines of a message that led to a block.
const MESSAGE: usize = 1;
/// Of what there may be many, so many are shown; `--json` has all.
const FEW: usize = 3;

pub(super) async fn explain(session: &Session, ip: &str) -> Result<(), Failure> {
    let value = session.client.get(&format!("/api/security/explain{}", query(&[("ip", ip)]))).await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    lines(&typed(value)?).into_iter().for_each(say);
    Ok(())
}

/// One screen: what does not fit of the events is left out, and what there are many of is counted.
fn lines(explanation: &Explanation) -> Vec<String> {
    let Explanation { address, fate, seen, because, undo, events, .. } = explanation;
    let fate = match fate {
        Fate::Pass if *seen => "passes",
        Fate::Pass => "would pass",
        Fate::Police => "passes up to a limit",
        Fate::WouldDrop => "passes, and would be blocked under enforce",
        Fate::Drop => "IS BLOCKED",
        Fate::Unknown => "MAY BE BLOCKED by a filter that is not under control",
    };
    let mut lines = vec![format!("{address} {fate}"), format!("  {because}")];
    lines.extend(undo.iter().map(|undo| format!("  undo: {undo}")));
    lines.push(String::new());
    lines.extend(tiers(explanation));
    let known = about(explanation);
    if !known.is_empty() {
        lines.push(String::new());
        lines.extend(known);
    }
    let room = SCREEN.saturating_sub(lines.len() + 1);
    if !events.is_empty() && room > 0 {
        lines.push(String::new());
        lines.extend(events.iter().take(room).map(|event| format!("  {}  {}", event.at, event.message)));
    }
    lines
}

/// Every rule that matches, the one that decides first, then what has nothing to say.
fn tiers(explanation: &Explanation) -> Vec<String> {
    let Explanation { steps, also, .. } = explanation;
    let (first, rest): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.decides);
    let (matching, silent): (Vec<_>, Vec<_>) = rest.into_iter().partition(|step| step.matches);
    let mut lines: Vec<String> = first.into_iter().map(|step| format!("→ {:<17} {}", step.tier, step.says)).collect();
    lines.extend(matching.into_iter().map(|step| field(&step.tier, &step.says)));
    lines.extend(few(also, 2, |rule| field("also covered by", rule)));
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(|step| step.tier.as_str()).collect();
        lines.push(field("nothing in", &names.join(", ")));
    }
    lines
}

/// What is known of the address.
fn about(explanation: &Explanation) -> Vec<String> {
    let Explanation { evidence, history, counters, offence, pairs, changes, registered, known, .. } = explanation;
    let mut lines: Vec<String> = evidence.iter().flat_map(|why| evidence::lines(why, MESSAGE)).collect();
    if !counters.is_empty() {
        let counted: Vec<String> = counters.iter().take(FEW + 1).map(counter).collect();
        lines.push(field("counted now", &counted.join(", ")));
    }
    lines.extend(offence.iter().map(blocked_before));
    lines.extend(few(pairs, 2, pair));
    lines.extend(history.iter().map(evidence::past));
    lines.extend(few(registered, FEW, phone));
    lines.extend(few(known, FEW, |KnownHere { extension_number, tenant, last_success }| {
        field("known", &format!("{extension_number} of {tenant} proved its password {}", ago(*last_success)))
    }));
    lines.extend(changes.iter().take(2).map(evidence::change));
    lines
}

/// The first of many, and how many more there are.
fn few<T>(all: &[T], most: usize, line: impl Fn(&T) -> String) -> Vec<String> {
    let mut lines: Vec<String> = all.iter().take(most).map(line).collect();
    if all.len() > most {
        lines.push(field("", &format!("… and {} more (--json)", all.len() - most)));
    }
    lines
}

/// A name and what there is to say.
pub(super) fn field(name: &str, text: &str) -> String {
    format!("  {name:<17} {text}")
}

fn counter(counter: &CounterView) -> String {
    let CounterView { detector, count, limit, period_ms, .. } = counter;
    let period = evidence::period(*period_ms);
    format!("{} {count} of {limit} in {period}", detector.label())
}

fn blocked_before(offence: &OffenceView) -> String {
    let OffenceView { sure, unsure, last, forgotten_at } = offence;
    let times = sure.saturating_add(*unsure);
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    field("blocked", &format!("{times} so far, the last until {last}; the next is longer, until {forgotten_at}"))
}

fn pair(pair: &PairView) -> String {
    let PairView { account, count, until, enforced, undo, .. } = pair;
    let how = if *enforced { "is not heard" } else { "would not be heard" };
    let left = left(Some(*until));
    field("one account", &format!("{account} {how} from there, {left} left: {count} wrong passwords; undo: {undo}"))
}

/// A phone that is registered from the address.
fn phone(phone: &RegistrationView) -> String {
    let name = phone.display_name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let agent = phone.user_agent.as_deref().map(|agent| format!(", {agent}")).unwrap_or_default();
    let text = format!(
        "{} of {}{name} over {} from {}, {} left{}{}{agent}",
        phone.extension_number,
        phone.tenant,
        phone.protocol,
        phone.remote,
        left(Some(phone.expires_at)),
        if phone.behind_nat { ", behind NAT" } else { "" },
        if phone.reachable { "" } else { ", CANNOT BE REACHED: its connection is gone" },
    );
    field("registered", &text)
}

#[cfg(test)]
mod tests;
