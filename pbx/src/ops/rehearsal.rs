//! What the last 24 hours would have been with other settings: who more, who less, and who of them is ours.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use pbx_core::{
    address::Prefix,
    guard::{Detector, Peak, Rehearsal, rehearse},
    settings::{Enforcement, Settings},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{OpError, Operations, query::PAGE, settings::SettingChange};

/// What is remembered of what sources did.
const DAY: Duration = Duration::from_secs(86_400);

/// A source that would have been blocked, or would not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The source.
    pub cidr: Prefix,
    /// By whom.
    pub detector: Detector,
    /// The most that was counted within one period.
    pub count: u32,
    /// The limit as it is.
    pub limit_before: u32,
    /// The limit as it would be.
    pub limit_after: u32,
    /// When it was counted last.
    pub last: Timestamp,
    /// Neither before nor after would anything have been dropped, only told.
    pub only_told: bool,
    /// Extensions that are registered from there now.
    pub registered: Vec<String>,
    /// Somebody has proved a password there in the last 30 days.
    pub known: bool,
}

/// What the last 24 hours would have been with other settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsalView {
    /// Since when it is known what sources did: at most 24 hours, at most since the daemon began.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Who would have been blocked and was not: first those that are registered or known, then those that went
    /// furthest; at most 100 of them.
    pub more: Vec<Rehearsed>,
    /// How many these are.
    pub more_count: usize,
    /// Who would not have been blocked, likewise. An upper bound: whoever was blocked was not counted any more.
    pub fewer: Vec<Rehearsed>,
    /// How many these are.
    pub fewer_count: usize,
    /// How many are blocked either way.
    pub same: usize,
    /// What it does not say.
    pub notes: Vec<String>,
}

impl Operations {
    /// Rehearses a change; nothing when it changes nothing that decides who is blocked.
    pub(super) async fn rehearse(
        &self,
        before: &Settings,
        after: &Settings,
        changes: &[SettingChange],
    ) -> Result<Option<RehearsalView>, OpError> {
        let is_guard = |change: &&SettingChange| change.key.starts_with("guard.") || change.key == "filter.mode";
        let changed: Vec<&str> = changes.iter().filter(is_guard).map(|change| change.key.as_str()).collect();
        if changed.is_empty() {
            return Ok(None);
        }
        let (given, wanted, peaks) = (before.clone(), after.clone(), self.guard().peaks());
        let rehearsed = tokio::task::spawn_blocking(move || rehearse(&peaks, &given, &wanted)).await;
        let Rehearsal { more, fewer, same } =
            rehearsed.map_err(|error| OpError::internal(format!("the rehearsal broke off: {error}")))?;
        let now = self.now();
        let (more_count, fewer_count) = (more.len(), fewer.len());
        let mut notes = notes(&changed, before, after);
        let began = self.guard().began();
        if began > now.saturating_sub(DAY) {
            notes.push(format!("the daemon began at {began}: what sources did before that is not known"));
        }
        if fewer_count > 0 {
            notes.push(
                "fewer is an upper bound: whoever was blocked was not counted any more, and may have gone on"
                    .to_owned(),
            );
        }
        let left_out = self.guard().status().left_out;
        if left_out > 0 {
            notes.push(format!("so many sources came that {left_out} are not known of"));
        }
        Ok(Some(RehearsalView {
            since: began.max(now.saturating_sub(DAY)).min(now),
            until: now,
            more: self.rehearsed(more, before, after).await?,
            more_count,
            fewer: self.rehearsed(fewer, before, after).await?,
            fewer_count,
            same,
            notes,
        }))
    }

    /// The first page of them, those that are ours first.
    async fn rehearsed(
        &self,
        peaks: Vec<Peak>,
        before: &Settings,
        after: &Settings,
    ) -> Result<Vec<Rehearsed>, OpError> {
        if peaks.is_empty() {
            return Ok(Vec::new());
        }
        // By address, and by the network that IPv6 is judged as.
        let mut registered: HashMap<Prefix, Vec<String>> = HashMap::new();
        for one in self.registered_now().await? {
            let addr = one.remote.ip().to_canonical();
            for prefix in [Some(Prefix::host(addr)), network(addr)].into_iter().flatten() {
                registered.entry(prefix).or_default().push(one.extension_number.clone());
            }
        }
        let does =
            |peak: &Peak, settings: &Settings| peak.detector.enforcement(&settings.guard).under(settings.filter.mode);
        let view = |peak: &Peak, known: bool| {
            let limit = |settings: &Settings| peak.detector.limit(&settings.guard).1;
            let mut numbers = registered.get(&peak.prefix).cloned().unwrap_or_default();
            numbers.sort();
            numbers.dedup();
            Rehearsed {
                cidr: peak.prefix,
                detector: peak.detector,
                count: peak.count,
                limit_before: limit(before),
                limit_after: limit(after),
                last: peak.last,
                only_told: [before, after].iter().all(|one| does(peak, one) != Enforcement::Enforce),
                registered: numbers,
                known,
            }
        };
        let addresses: Vec<Option<IpAddr>> =
            peaks.iter().map(|peak| peak.prefix.is_host().then(|| peak.prefix.addr())).collect();
        let known = self
            .with_signalling(move |signalling| {
                let is_known = |addr: IpAddr| signalling.known(addr).is_ok_and(|known| !known.is_empty());
                addresses.into_iter().map(|addr| addr.is_some_and(is_known)).collect::<Vec<bool>>()
            })
            .await?;
        let mut views: Vec<Rehearsed> = peaks.iter().zip(known).map(|(peak, known)| view(peak, known)).collect();
        // They come in the order of how far they went.
        views.sort_by_key(|one| (one.registered.is_empty(), !one.known));
        views.truncate(PAGE);
        Ok(views)
    }
}

fn network(addr: IpAddr) -> Option<Prefix> {
    addr.is_ipv6().then(|| Prefix::new(addr, 64).ok()).flatten()
}

/// What a rehearsal of these keys cannot say.
fn notes(changed: &[&str], before: &Settings, after: &Settings) -> Vec<String> {
    let mut notes = Vec::new();
    let decides = |key: &str| {
        key == "filter.mode"
            || key.ends_with(".enforcement")
            || Detector::ALL.iter().any(|detector| detector.limit(&before.guard).0 == key)
    };
    let others: Vec<&str> = changed.iter().copied().filter(|key| !decides(key)).collect();
    if !others.is_empty() {
        notes.push(format!("the last day says nothing about {}: rehearsed without", others.join(", ")));
    }
    let off = |settings: &Settings, detector: Detector| {
        detector.enforcement(&settings.guard).under(settings.filter.mode) == Enforcement::Off
    };
    let blind: Vec<&str> = Detector::ALL
        .into_iter()
        .filter(|detector| off(before, *detector) && !off(after, *detector))
        .map(Detector::label)
        .collect();
    if !blind.is_empty() {
        notes.push(format!("off until now, so nothing was counted: {}", blind.join(", ")));
    }
    notes
}
