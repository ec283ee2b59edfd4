//! What the guard decided: kept with its evidence, and told. Blocks are in force before anybody comes here.

use pbx_core::{
    address::Prefix,
    guard::{Alarm, Block, Exempt, Offence, Output, PairBlock},
    rule::{Action, NewRule, Origin},
    time::{Timestamp, format_duration},
};

use super::{Context, OpError, Operations, blocks::undo};
use crate::{
    filter::Talker,
    host::Snapshot,
    store::{Counter, EventKind, Evidence, EvidenceMessage, NewEvent},
    trace::masked,
    xdp::place,
};

/// Registered phones that are named in a suggestion.
const NAMED: usize = 3;
/// Sources whose rate is looked at.
const LOUDEST: usize = 64;

impl Operations {
    /// Whether a live rule allows all of a range: then nobody blocks it automatically.
    pub(crate) fn is_allowed(&self, prefix: &Prefix) -> bool {
        let now = self.now();
        self.book().covering(prefix, now).first().is_some_and(|rule| rule.action == Action::Allow)
    }

    /// Takes the loudest sources into what rehearsals know. To be called about once a second.
    pub(crate) async fn note_rates(&self) {
        let (settings, _) = self.current_settings();
        // Less is not remembered.
        let least = settings.guard.level1.packets.get() / 5;
        let Ok(talkers) = self.with_filter(|filter| filter.top(LOUDEST)).await else { return };
        let loud: Vec<Talker> = talkers.into_iter().filter(|talker| talker.packets_per_second >= least).collect();
        if loud.is_empty() {
            return;
        }
        let known = self.with_signalling(move |signalling| {
            let is_known = |prefix: &Prefix| {
                prefix.is_host() && signalling.known(prefix.addr()).is_ok_and(|known| !known.is_empty())
            };
            loud.into_iter().map(|talker| (is_known(&talker.source), talker)).collect::<Vec<_>>()
        });
        let Ok(loud) = known.await else { return };
        for (known, Talker { source, packets_per_second, .. }) in loud {
            self.guard().rate(source, packets_per_second, known);
        }
    }

    /// Takes over what changed of the machine's networks.
    pub(crate) fn machine_changed(&self, snapshot: &Snapshot) {
        self.guard().set_place(place(snapshot));
    }

    /// Keeps what the guard decided and tells whoever follows. On an error nothing was kept; what was told is not told
    /// again when it is tried again.
    pub async fn keep_guard(&self, decided: &[(Timestamp, Output)]) -> Result<(), OpError> {
        if decided.is_empty() {
            return Ok(());
        }
        let (mut evidence, mut offences, mut gone) = (Vec::new(), Vec::<Offence>::new(), Vec::new());
        let (mut events, mut spreads, mut blocks) = (Vec::new(), Vec::new(), false);
        for (at, output) in decided {
            match output {
                Output::Block(block) => {
                    evidence.push(of_block(block, *at));
                    blocks = true;
                }
                Output::Pair(pair) => events.push(of_pair(pair, *at)),
                Output::Alarm(alarm) => events.push(of_alarm(alarm, *at)),
                Output::Spread { network, sources, enforced, time } => {
                    spreads.push((*network, *sources, *enforced, *time))
                }
                Output::Offence(offence) => {
                    gone.retain(|prefix| *prefix != offence.prefix);
                    offences.retain(|other| other.prefix != offence.prefix);
                    offences.push(*offence);
                }
                Output::NoOffence(prefix) => {
                    offences.retain(|offence| offence.prefix != *prefix);
                    gone.push(*prefix);
                }
            }
        }
        self.store().keep_guard(&evidence, &offences, &gone).await?;
        self.record(events).await;
        if blocks && let Err(error) = self.follow_automatic().await {
            tracing::warn!(error = %error.message, "automatic blocks are in force and not stored yet");
        }
        for (network, sources, enforced, time) in spreads {
            self.spread(network, sources, enforced, time).await;
        }
        Ok(())
    }

    /// Suggests a block of a network, or makes it, if nobody of ours lives there.
    async fn spread(&self, network: Prefix, sources: u32, enforced: bool, time: std::time::Duration) {
        let ours = self.registered_within(&network).await;
        let mut message = format!("{sources} addresses of {network} are blocked");
        let lasting = format_duration(time);
        if ours.is_empty() {
            message += "; nobody is registered from there";
        } else {
            let named = ours.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let more = ours.len().saturating_sub(NAMED);
            message += &format!("; registered from there: {named}");
            if more > 0 {
                message += &format!(" and {more} more");
            }
        }
        let known = self.guard().knows_in(&network);
        if known && ours.is_empty() {
            message += ", but a known source is in it";
        }
        if enforced && ours.is_empty() && !known {
            match self.block_network(network, time).await {
                Ok(()) => message += &format!("; all of it is blocked for {lasting}, `{}` ends that", undo(&network)),
                Err(error) => message += &format!("; it is not blocked as a whole: {}", error.message),
            }
        } else {
            message += &format!("; `pbx block add {network} --for {lasting}` blocks all of it");
        }
        let event =
            NewEvent { at: self.now(), kind: EventKind::Guard, prefix: Some(network), interface: None, message };
        self.record(vec![event]).await;
    }

    async fn block_network(&self, network: Prefix, time: std::time::Duration) -> Result<(), OpError> {
        let (operations, context) = (self.clone(), Context::daemon());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let now = operations.now();
            let end = Some(now.saturating_add(time));
            let new = NewRule::new(network, Action::Block, end, "many blocked addresses in it", now)
                .map_err(|error| OpError::usage(error.to_string()))?;
            let (plan, rule, did) = operations.plan_rule(&context, new, true, Origin::Guard, now);
            if did != super::Did::Added {
                return Err(OpError::usage("there is a rule for it already"));
            }
            operations.lets_in(&plan, false).await?;
            operations.fits(&plan).await?;
            operations.carry_out(&context, plan, &super::rules::wording("rule.add", &context, &rule)).await?;
            Ok(())
        })
        .await
    }

    /// The numbers of phones that are registered from a range.
    async fn registered_within(&self, range: &Prefix) -> Vec<String> {
        let registered = self.registered_now().await.unwrap_or_default();
        let mut numbers: Vec<String> = registered
            .into_iter()
            .filter(|one| range.contains(one.remote.ip().to_canonical()))
            .map(|one| one.extension_number)
            .collect();
        numbers.sort();
        numbers.dedup();
        numbers
    }
}

fn of_block(block: &Block, at: Timestamp) -> Evidence {
    let counters = block.counters.iter().map(|(detector, count)| Counter { detector: *detector, count: *count });
    let messages = block.messages.iter().map(|seen| EvidenceMessage { at: seen.at, text: masked(&seen.bytes) });
    Evidence {
        prefix: block.prefix,
        detector: block.detector,
        at,
        until: at.saturating_add(block.time),
        enforced: block.enforced,
        sure: block.sure,
        before: block.before,
        rule: block.rule.key.to_owned(),
        limit: block.rule.limit,
        period_ms: u64::try_from(block.rule.period.as_millis()).unwrap_or(u64::MAX),
        count: block.count,
        counters: counters.collect(),
        first_seen: block.first,
        last_seen: block.last,
        messages: messages.collect(),
    }
}

fn of_pair(pair: &PairBlock, at: Timestamp) -> NewEvent {
    let PairBlock { source, account, count, time, enforced, .. } = pair;
    let how = if *enforced { "is not heard" } else { "would not be heard" };
    let message = format!(
        "{source} {how} for the account {} for {}: {count} wrong passwords in two minutes from a known source, whose other \
         phones go on; `{}` undoes it",
        account.name,
        format_duration(*time),
        undo(&Prefix::host(*source)),
    );
    NewEvent { at, kind: EventKind::Guard, prefix: Some(Prefix::host(*source)), interface: None, message }
}

fn of_alarm(alarm: &Alarm, at: Timestamp) -> NewEvent {
    let (prefix, message) = match alarm {
        Alarm::Spared { prefix, detector, count, exempt } => {
            let why = match exempt {
                Exempt::Machine => "an address of this machine, its gateway or its name server",
                Exempt::Local => "in a local network",
                Exempt::Known => "a known source",
            };
            let message = format!("{prefix} is {why}, so it is not blocked for {}: {count} times", detector.what());
            (Some(*prefix), message)
        }
        Alarm::Account { account, count } => {
            let message = format!(
                "{count} wrong passwords for the account {} in a day, from all over: its password should be a good one",
                account.name
            );
            (None, message)
        }
    };
    NewEvent { at, kind: EventKind::Guard, prefix, interface: None, message }
}
