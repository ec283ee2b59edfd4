//! Why an address is blocked, passes, or would: every tier in the order of judgement, the one that decides marked.

use std::net::IpAddr;

use pbx_core::{
    address::{self, Prefix},
    guard::Detector,
    rule::{Action, Rule},
    settings::{Enforcement, Scope, Settings},
    time::{Timestamp, format_duration},
};
use serde::{Deserialize, Serialize};

use super::{
    Context, CounterView, EvidenceView, OffenceView, OpError, Operations, PairView, RegistrationView,
    blocks::{undo, why},
    enforcement,
    evidence::{Found, ranges_of},
    lockout::is_local,
};
use crate::{
    filter::{AutomaticBlock, Control, KernelView, ManualVerdict},
    store::{AuditRow, Event},
};

/// Events about the address that are shown.
const EVENTS: u32 = 5;
/// What a tier says that has nothing to say.
const NOTHING: [&str; 4] = ["no", "none", "none covers it", "off"];

/// What becomes of packets from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// They pass.
    Pass,
    /// They pass up to a budget or a rate.
    Police,
    /// They pass, and would be dropped under enforce.
    WouldDrop,
    /// They are dropped.
    Drop,
    /// A filter that is not under control decides.
    Unknown,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which: `own address`, `manual rules`, `known sources`, `automatic blocks`, `default deny`, `rate levels`.
    pub tier: String,
    /// It has something to say about the address.
    #[serde(default)]
    pub matches: bool,
    /// It is the one that decides.
    pub decides: bool,
    /// What it says about the address.
    pub says: String,
}

/// Somebody who proved a password from an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHere {
    /// The extension's number.
    pub extension_number: String,
    /// The name of its tenant.
    pub tenant: String,
    /// When last.
    pub last_success: Timestamp,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whose.
    pub address: IpAddr,
    /// What becomes of its packets.
    pub fate: Fate,
    /// Something is known of it; otherwise this is what would become of its packets.
    #[serde(default)]
    pub seen: bool,
    /// Why, in one sentence.
    pub because: String,
    /// The command that changes it.
    pub undo: Option<String>,
    /// Tier by tier, in the order of judgement.
    pub steps: Vec<Step>,
    /// Rules that cover the address and do not decide.
    pub also: Vec<String>,
    /// What led to the automatic block.
    #[serde(default)]
    pub evidence: Option<EvidenceView>,
    /// Earlier automatic blocks, and those that are no longer in force, the newest first: at most three.
    #[serde(default)]
    pub history: Vec<EvidenceView>,
    /// What detectors count of it now, those that are nearest to their limits first.
    #[serde(default)]
    pub counters: Vec<CounterView>,
    /// What is remembered of its earlier blocks: the next one is longer.
    #[serde(default)]
    pub offence: Option<OffenceView>,
    /// Accounts that are not heard from there.
    #[serde(default)]
    pub pairs: Vec<PairView>,
    /// What people changed about it, the newest first: at most three.
    #[serde(default)]
    pub changes: Vec<AuditRow>,
    /// Phones that are registered from it now.
    #[serde(default)]
    pub registered: Vec<RegistrationView>,
    /// Who proved a password from it in the last 30 days, the latest first.
    #[serde(default)]
    pub known: Vec<KnownHere>,
    /// What happened to it, the newest first.
    pub events: Vec<Event>,
}

impl Operations {
    /// Explains one address; one that was never seen, too. Whoever is no administrator sees no messages.
    pub async fn explain(&self, context: &Context, text: &str) -> Result<Explanation, OpError> {
        let address = address::parse_host(text).map_err(|error| OpError::usage(error.to_string()))?;
        let (control, view) = self.with_filter(move |filter| (filter.control(), filter.explain(address))).await?;
        let mut view = view.map_err(|error| OpError::filter(format!("cannot read the filter's tables: {error:#}")))?;
        let now = self.now();
        let rules: Vec<Rule> = self.book().covering(&Prefix::host(address), now).into_iter().cloned().collect();
        if !control.is_ours() {
            // Without tables only the rules can say what would happen.
            view.manual = rules.first().map(|rule| ManualVerdict {
                action: rule.action,
                prefix: Some(rule.prefix),
                expires_at: rule.expires_at,
            });
        }
        let (settings, _) = self.current_settings();
        let about = ranges_of(address, view.automatic.as_ref());
        let mut explanation = explain(address, &rules, &view, &settings, now);
        explanation.events = self.store().events_about(&about, EVENTS).await?;
        let made_by = view.automatic.as_ref().map(|block| block.reason);
        let Found { now: evidence, history } = self.evidence_about(context, &about, made_by).await?;
        (explanation.evidence, explanation.history) = (evidence, history);
        (explanation.counters, explanation.offence) = self.counted(address);
        explanation.pairs = self.pairs_within(&Prefix::host(address));
        explanation.changes = self.changes_about(&about).await?;
        explanation.registered = self.registered_now().await?;
        explanation.registered.retain(|view| view.is_from(address));
        explanation.known = self.known_here(address).await?;
        explanation.look_whether_seen(&view);
        explanation.without_control(control);
        Ok(explanation)
    }

    async fn known_here(&self, address: IpAddr) -> Result<Vec<KnownHere>, OpError> {
        let mut known = self
            .with_signalling(move |signalling| signalling.known(address))
            .await?
            .map_err(|error| OpError::internal(format!("cannot read who is known from {address}: {error:#}")))?;
        known.sort_by_key(|(_, last_success)| std::cmp::Reverse(*last_success));
        let accounts = self.accounts();
        let named = |(id, last_success)| {
            let extension = accounts.extension(id)?.extension.as_ref();
            let (extension_number, tenant) = (extension.number.clone(), accounts.tenant_name(extension));
            Some(KnownHere { extension_number, tenant, last_success })
        };
        Ok(known.into_iter().filter_map(named).collect())
    }
}

impl Explanation {
    fn look_whether_seen(&mut self, view: &KernelView) {
        let is_known = view.own || view.known.is_some() || !self.registered.is_empty() || !self.known.is_empty();
        let did_something = view.rate.is_some()
            || view.automatic.is_some()
            || !self.counters.is_empty()
            || self.offence.is_some()
            || !self.history.is_empty()
            || !self.events.is_empty();
        self.seen = is_known || did_something;
        if !self.seen && self.fate == Fate::Pass {
            self.because = format!("nobody has seen it yet; {}", self.because);
        }
    }

    /// Without a filter of ours, what was found only says what one would do.
    fn without_control(&mut self, control: Control) {
        let (fate, because) = match control {
            Control::Held => return,
            Control::User(why) => {
                self.because = format!("{} (judged by the daemon, at its own sockets only: {why})", self.because);
                return;
            }
            Control::Lost { earlier: None, .. } => {
                (Fate::Pass, "the filter is not loaded, so everything passes; `pbx doctor` says why".to_owned())
            }
            Control::Lost { earlier: Some(earlier), .. } => {
                (Fate::Unknown, format!("the filter is not under control (`pbx doctor` says why), and {earlier}"))
            }
        };
        self.because = format!("{because}; with what is stored: {}", self.because);
        self.fate = fate;
        self.undo = None;
    }
}

struct Verdict {
    fate: Fate,
    because: String,
    undo: Option<String>,
}

fn explain(address: IpAddr, rules: &[Rule], view: &KernelView, settings: &Settings, now: Timestamp) -> Explanation {
    let mut steps = Vec::new();
    let mut winner: Option<Verdict> = None;
    let mut tier = |name: &str, says: String, verdict: Option<Verdict>| {
        let decides = winner.is_none() && verdict.is_some();
        let matches = verdict.is_some() || !NOTHING.contains(&says.as_str());
        steps.push(Step { tier: name.to_owned(), matches, decides, says });
        if decides {
            winner = verdict;
        }
    };
    let (says, verdict) = own(address, view);
    tier("own address", says, verdict);
    let (says, verdict) = manual(address, rules, view, settings, now);
    tier("manual rules", says, verdict);
    let (says, verdict) = known(address, view);
    tier("known sources", says, verdict);
    let (says, verdict) = automatic(view.automatic.as_ref(), settings, now);
    tier("automatic blocks", says, verdict);
    let (says, verdict) = default_deny(address, view, settings);
    tier("default deny", says, verdict);
    let (says, verdict) = rates(address, view, settings);
    tier("rate levels", says, Some(verdict));
    let winner = winner.unwrap_or(Verdict { fate: Fate::Pass, because: "nothing decides".to_owned(), undo: None });
    let also = rules.iter().skip(1).map(|rule| describe(rule, now)).collect();
    let Verdict { fate, because, undo } = winner;
    Explanation {
        address,
        fate,
        seen: true,
        because,
        undo,
        steps,
        also,
        evidence: None,
        history: Vec::new(),
        counters: Vec::new(),
        offence: None,
        pairs: Vec::new(),
        changes: Vec::new(),
        registered: Vec::new(),
        known: Vec::new(),
        events: Vec::new(),
    }
}

fn own(address: IpAddr, view: &KernelView) -> (String, Option<Verdict>) {
    if !view.own {
        return ("no".to_owned(), None);
    }
    let because = format!("{address} is an address of this appliance, which passes before every rule");
    ("yes: passes before every rule".to_owned(), Some(Verdict { fate: Fate::Pass, because, undo: None }))
}

fn manual(
    address: IpAddr,
    rules: &[Rule],
    view: &KernelView,
    settings: &Settings,
    now: Timestamp,
) -> (String, Option<Verdict>) {
    let says = match (&view.manual, rules.first()) {
        (Some(kernel), Some(rule)) if kernel.action != rule.action => {
            format!("the kernel says {} and the store {}: run `pbx doctor`", kernel.action, describe(rule, now))
        }
        (None, Some(rule)) => format!("{}; the kernel does not have it: run `pbx doctor`", describe(rule, now)),
        (Some(kernel), None) => {
            format!("the kernel says {}, the store has no such rule: run `pbx doctor`", kernel.action)
        }
        (Some(_), Some(rule)) => describe(rule, now),
        (None, None) => "none covers it".to_owned(),
    };
    // What the kernel says is what happens; the store says why.
    let Some(action) = view.manual.as_ref().map(|kernel| kernel.action) else { return (says, None) };
    let rule = rules.iter().find(|rule| rule.action == action);
    let prefix = rule.map(|rule| rule.prefix).or(view.manual.as_ref().and_then(|kernel| kernel.prefix));
    let name = prefix.map_or_else(|| "a rule".to_owned(), |prefix| format!("the {action} rule {prefix}"));
    let reason = rule.map(|rule| format!(" ({})", why(rule))).unwrap_or_default();
    match action {
        Action::Allow => {
            let because = format!("{name}{reason} lets {address} pass uncounted");
            let undo = prefix.map(|prefix| format!("pbx allow remove {prefix}"));
            (says, Some(Verdict { fate: Fate::Pass, because, undo }))
        }
        Action::Block => {
            let Some(fate) = fate(enforcement::of_rules(settings)) else {
                return (format!("{says}; manual rules are off"), None);
            };
            let because = format!("{name}{reason} {} everything from {address}", verb(fate));
            (says, Some(Verdict { fate, because, undo: prefix.map(|prefix| undo(&prefix)) }))
        }
    }
}

fn known(address: IpAddr, view: &KernelView) -> (String, Option<Verdict>) {
    let Some(known) = view.known else { return ("no".to_owned(), None) };
    let because = format!(
        "{address} is a known source: up to {} packets a second to protected ports pass, more are dropped one by one, and it is never blocked for its rate",
        known.budget
    );
    (format!("yes: {} packets a second", known.budget), Some(Verdict { fate: Fate::Police, because, undo: None }))
}

fn automatic(block: Option<&AutomaticBlock>, settings: &Settings, now: Timestamp) -> (String, Option<Verdict>) {
    let Some(block) = block else { return ("none".to_owned(), None) };
    let level = block.reason.label();
    let (key, limit) = block.reason.limit(&settings.guard);
    let left = format_duration(whole_seconds(block.expires_at.saturating_since(now)));
    let says = format!("{} for {level} since {}, {left} left, {} packets", block.prefix, block.since, block.packets);
    let Some(fate) = fate(enforcement::of_automatic(block, settings)) else {
        let off = if settings.filter.mode == Enforcement::Off { "the filter" } else { level };
        return (format!("{says}; {off} is off"), None);
    };
    let ports = match settings.guard.scope {
        _ if block.web_only => "to the ports of the web",
        Scope::Appliance => "to protected and media ports",
        Scope::All => "to every port",
    };
    let dropped = match fate {
        Fate::Drop => "is".to_owned(),
        _ if settings.filter.mode != Enforcement::Enforce => "would be (the filter only monitors)".to_owned(),
        _ if !block.enforced => "would be (the block was made when nothing was enforced)".to_owned(),
        _ => format!("would be ({level} only monitors)"),
    };
    let because = format!(
        "{}: {} ({key} is {limit}); what it sends {ports} {dropped} dropped for {left} more",
        block.prefix,
        block.reason.what()
    );
    (says, Some(Verdict { fate, because, undo: Some(undo(&block.prefix)) }))
}

fn default_deny(address: IpAddr, view: &KernelView, settings: &Settings) -> (String, Option<Verdict>) {
    let Some(fate) = fate(enforcement::of_default_deny(settings)) else { return ("off".to_owned(), None) };
    if is_local(address, view, settings) {
        return ("a local network: passes".to_owned(), None);
    }
    let dropped = if fate == Fate::Drop { "is" } else { "would be (it only monitors)" };
    let because = format!(
        "default deny: {address} is no trunk, no known source, not allowed and not in a local network; what it sends to protected ports {dropped} dropped"
    );
    let undo = Some(format!("pbx allow add {address}"));
    ("nothing vouches for it".to_owned(), Some(Verdict { fate, because, undo }))
}

fn rates(address: IpAddr, view: &KernelView, settings: &Settings) -> (String, Verdict) {
    let limit = settings.guard.level1.packets;
    let holds = enforcement::of_detector(Detector::Level1, settings);
    let seen = match view.rate {
        Some(rate) => format!("{} packets since {}", rate.packets, rate.since),
        None => "not seen in this second".to_owned(),
    };
    let (lets, up_to) = match holds {
        Enforcement::Enforce => (
            format!("level 1 lets {limit} a second pass"),
            format!("; to protected ports, up to {limit} packets a second"),
        ),
        Enforcement::Monitor => (format!("level 1 only monitors ({limit} a second)"), String::new()),
        Enforcement::Off => ("level 1 is off".to_owned(), String::new()),
    };
    let because = format!("no rule and no automatic block stops {address}: it passes{up_to}");
    (format!("{seen}; {lets}"), Verdict { fate: Fate::Pass, because, undo: None })
}

const fn fate(enforcement: Enforcement) -> Option<Fate> {
    match enforcement {
        Enforcement::Enforce => Some(Fate::Drop),
        Enforcement::Monitor => Some(Fate::WouldDrop),
        Enforcement::Off => None,
    }
}

const fn verb(fate: Fate) -> &'static str {
    match fate {
        Fate::Drop => "drops",
        _ => "would drop (the filter only monitors)",
    }
}

fn describe(rule: &Rule, now: Timestamp) -> String {
    let left = rule.expires_at.map_or_else(
        || "permanent".to_owned(),
        |end| format!("{} left", format_duration(whole_seconds(end.saturating_since(now)))),
    );
    let why = if rule.description.is_empty() { String::new() } else { format!(", \"{}\"", rule.description) };
    let by = if rule.feed().is_some() { "from" } else { "by" };
    format!("{} {}{why}, {by} {} at {}, {left}", rule.action, rule.prefix, rule.created_by, rule.created_at)
}

/// The nearest second: a clock's error of milliseconds is nothing to show.
pub(super) fn whole_seconds(span: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(span.saturating_add(std::time::Duration::from_millis(500)).as_secs())
}
