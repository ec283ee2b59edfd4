//! The filter itself: what it does, where it sits, and test runs of it.

use std::sync::{Arc, atomic::Ordering};

use pbx_core::{guard::Detector, overload::Class, settings::Enforcement};
use serde::{Deserialize, Serialize};

use super::{Context, OpError, Operations, PendingChange, TransportState, TransportStatusView, enforcement, pcap};
use crate::{
    config::is_interface_name,
    filter::{
        Filter, FilterStatus, Finding, InterfaceCounters, NoSuchInterface, Outcome, Severity, Talker, TestVerdict,
    },
    guard::GuardStatus,
    signalling::Load,
    store::EventKind,
};

/// The most sources that one answer lists.
const MOST_TALKERS: usize = 1000;
/// Frames of one test run.
const MOST_FRAMES: usize = 100_000;

/// One screen of health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// The mode as it is stored.
    pub mode: Enforcement,
    /// What default deny does under that mode.
    pub default_deny: Enforcement,
    /// The revision of the settings in the store; the filter's own is in `filter`.
    pub settings_revision: i64,
    /// Rules that allow.
    pub allow_rules: usize,
    /// Rules that block.
    pub block_rules: usize,
    /// Blocks that the filter made and that last.
    pub automatic_blocks: usize,
    /// Of them, those that would be lost at a reboot because the store has not taken them yet.
    pub unsaved_blocks: usize,
    /// Extensions of all tenants.
    #[serde(default)]
    pub extensions: usize,
    /// Phones that are registered now; nothing when the signalling side does not say.
    #[serde(default)]
    pub registrations: Option<u64>,
    /// Where phones reach the appliance.
    #[serde(default)]
    pub transports: Vec<TransportStatusView>,
    /// How much the signalling side has to do; nothing when it does not say.
    #[serde(default)]
    pub load: Option<Load>,
    /// What the guard does.
    #[serde(default)]
    pub guard: GuardStatus,
    /// Detectors that enforce nothing now, by their own switches or because nothing does.
    #[serde(default)]
    pub monitoring: Vec<Detector>,
    /// A change of settings that is taken back unless somebody confirms it.
    #[serde(default)]
    pub pending: Option<PendingChange>,
    /// The filter.
    pub filter: FilterStatus,
    /// What somebody should do something about, one sentence each.
    pub warnings: Vec<String>,
}

/// What became of the frames of a test run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// Frames that would pass.
    pub passed: usize,
    /// Frames that would be dropped.
    pub dropped: usize,
    /// Frames that would be dropped under enforce.
    pub would_drop: usize,
    /// Frame by frame.
    pub verdicts: Vec<TestVerdict>,
}

impl Operations {
    /// One screen of health.
    pub async fn status(&self) -> Result<Status, OpError> {
        let filter = self.with_filter(|filter| filter.status()).await?;
        let automatic = self.automatic_now().await;
        let (settings, settings_revision) = self.current_settings();
        let mut warnings = Vec::new();
        if let Some(problem) = &filter.problem {
            warnings.push(problem.clone());
        }
        match settings.filter.mode {
            // Without our filter the stored mode says nothing about what is dropped.
            _ if !filter.loaded => {}
            Enforcement::Enforce => {}
            Enforcement::Monitor => {
                warnings
                    .push("the filter only monitors: it drops nothing until `pbx firewall mode enforce`".to_owned());
            }
            Enforcement::Off => {
                warnings.push("the filter is off: `pbx firewall mode enforce` turns it on".to_owned());
            }
        }
        if filter.loaded && filter.settings_revision != settings_revision {
            warnings.push(format!(
                "the kernel has revision {} of the settings, the store {settings_revision}: `pbx doctor` compares them",
                filter.settings_revision
            ));
        }
        if filter.guard_active {
            warnings.push("a flood of new sources: rates are policed, no new automatic blocks are made".to_owned());
        }
        if filter.automatic_full {
            warnings
                .push("the table of automatic blocks is full: rates are policed, no new blocks are made".to_owned());
        }
        let automatic_blocks = match automatic {
            Ok(blocks) => blocks.len(),
            Err(error) => {
                warnings.push(error.message);
                0
            }
        };
        let unsaved_blocks = self.inner.unsaved.load(Ordering::Relaxed);
        if unsaved_blocks > 0 {
            warnings.push(format!("{unsaved_blocks} automatic blocks are not stored yet; the log says why"));
        }
        let transports = self.transport_states().await?;
        for closed in transports.iter().filter(|one| one.state == TransportState::Deactivated) {
            let problem = closed.problem.as_deref().unwrap_or("it does not listen");
            warnings.push(format!("no phone reaches {} {}: {problem}", closed.protocol, closed.port));
        }
        let load = match self.with_signalling(|signalling| signalling.load()).await? {
            Ok(load) => {
                warnings.extend(overload_warning(load.level));
                Some(load)
            }
            Err(error) => {
                warnings.push(format!(
                    "registrations and load are not known: {error:#}; the log may say why, `systemctl restart pbx` helps"
                ));
                None
            }
        };
        let guard = self.guard().status();
        warnings.extend(guard_warnings(&guard));
        warnings.extend(self.pending_warning());
        let monitoring = Detector::ALL
            .into_iter()
            .filter(|detector| enforcement::of_detector(*detector, &settings) != Enforcement::Enforce)
            .collect();
        warnings.extend(self.feed_warnings().await);
        warnings.extend(self.notify_warnings());
        warnings.extend(self.disk_warning());
        let extensions = self.accounts().extensions().count();
        let book = self.book();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: settings.filter.mode,
            default_deny: enforcement::of_default_deny(&settings),
            settings_revision,
            allow_rules: book.with(pbx_core::rule::Action::Allow).count(),
            block_rules: book.with(pbx_core::rule::Action::Block).count(),
            automatic_blocks,
            unsaved_blocks,
            extensions,
            registrations: load.as_ref().map(|load| load.registrations),
            transports,
            load,
            guard,
            monitoring,
            pending: self.pending_change(),
            filter,
            warnings,
        })
    }

    /// Counters by interface and reason.
    pub async fn counters(&self) -> Result<Vec<InterfaceCounters>, OpError> {
        self.with_filter(|filter| filter.counters())
            .await?
            .map_err(|error| OpError::filter(format!("cannot read the counters: {error:#}")))
    }

    /// The loudest sources, the loudest first.
    pub async fn top(&self, limit: usize) -> Result<Vec<Talker>, OpError> {
        if !(1..=MOST_TALKERS).contains(&limit) {
            return Err(OpError::usage(format!("limit: {limit} is out of range (1 to {MOST_TALKERS})")));
        }
        self.with_filter(move |filter| filter.top(limit)).await
    }

    /// What the filter and the store find when they look at themselves.
    pub async fn doctor(&self) -> Result<Vec<Finding>, OpError> {
        // Goes with the examination, which goes on when whoever asked hangs up.
        let only_one = Arc::clone(&self.inner.examining).lock_owned().await;
        let examine = move |filter: &dyn Filter| {
            let findings = filter.doctor();
            drop(only_one);
            findings
        };
        let mut findings = self.with_filter(examine).await?;
        let stored = self.store().rules().await;
        let (severity, message) = match stored {
            Ok(rules) if rules.len() == self.book().len() => {
                (Severity::Ok, format!("{} rules, all in memory", rules.len()))
            }
            Ok(rules) => {
                (Severity::Error, format!("{} rules are stored and {} are in memory", rules.len(), self.book().len()))
            }
            Err(error) => (Severity::Error, error.to_string()),
        };
        let advice = (severity != Severity::Ok).then(|| "systemctl restart pbx".to_owned());
        findings.push(Finding { severity, subject: "store".to_owned(), message, advice });
        findings.extend(self.transport_states().await?.iter().map(TransportStatusView::finding));
        Ok(findings)
    }

    /// Attaches the filter to an interface, or takes it off.
    pub async fn attach(
        &self,
        context: &Context,
        interface: &str,
        attach: bool,
        dry_run: bool,
    ) -> Result<FilterStatus, OpError> {
        context.may_change()?;
        if !is_interface_name(interface) {
            return Err(OpError::usage(format!(
                "{:?} is no interface name",
                interface.chars().take(40).collect::<String>()
            )));
        }
        let (operations, context, name) = (self.clone(), context.clone(), interface.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            if !dry_run {
                let given = name.clone();
                operations
                    .with_filter(move |filter| if attach { filter.attach(&given) } else { filter.detach(&given) })
                    .await?
                    .map_err(|error| match error.downcast_ref::<NoSuchInterface>() {
                        Some(nothing) => OpError::not_found(nothing.to_string()),
                        None => OpError::filter(format!("{error:#}")),
                    })?;
                let did = if attach { "attached the filter to" } else { "took the filter off" };
                operations.tell(EventKind::Interface, format!("{} {did} {name}", context.actor)).await;
            }
            operations.with_filter(|filter| filter.status()).await
        })
        .await
    }

    /// Runs the frames of a capture through a copy of the filter.
    pub async fn test_capture(&self, capture: Vec<u8>) -> Result<TestReport, OpError> {
        let verdicts = self
            .with_filter(move |filter| {
                let frames = pcap::frames(&capture, MOST_FRAMES).map_err(OpError::usage)?;
                filter.test_frames(&frames).map_err(|error| OpError::filter(format!("the test run failed: {error:#}")))
            })
            .await??;
        let count = |outcome| verdicts.iter().filter(|verdict| verdict.outcome == outcome).count();
        Ok(TestReport {
            passed: count(Outcome::Passed),
            dropped: count(Outcome::Dropped),
            would_drop: count(Outcome::WouldDrop),
            verdicts,
        })
    }
}

/// What the guard could not do.
fn guard_warnings(guard: &GuardStatus) -> Vec<String> {
    let mut warnings = Vec::new();
    if guard.shed > 0 {
        warnings.push(format!(
            "{} signs of attacks came faster than they were counted, since the start; what they led to came later",
            guard.shed
        ));
    }
    if guard.lost > 0 {
        warnings.push(format!("{} decisions of the guard are in force and not kept: why is not known", guard.lost));
    }
    warnings
}

/// What a level of overload means to whoever phones.
fn overload_warning(level: u8) -> Option<String> {
    let shed: Vec<&str> = Class::ALL.iter().take(level.into()).map(|class| in_words(*class)).collect();
    let last = shed.last()?;
    let before = shed[..shed.len() - 1].join(", ");
    let shed = if before.is_empty() { (*last).to_owned() } else { format!("{before} and {last}") };
    Some(format!(
        "overloaded, level {level} of {}: {shed} are turned away; `pbx top` shows who sends most",
        Class::ALL.len()
    ))
}

const fn in_words(class: Class) -> &'static str {
    match class {
        Class::Unauthenticated => "strangers",
        Class::NewCall => "new calls",
        Class::NewRegistration => "phones that register anew",
        Class::Refresh => "phones that stay registered",
        Class::InDialog => "requests of calls that are up",
        Class::Emergency => "emergency calls",
    }
}
