//! Why a source is blocked, as people see it: the rule and its values at that time, what was counted, the messages that
//! led to it, who changed something since. Messages say who calls whom, so only administrators see them.

use std::net::IpAddr;

use pbx_core::{
    address::{self, Prefix},
    guard::{Detector, Offence, PairBlock},
    settings::GuardSettings,
    time::{Timestamp, format_duration},
};
use serde::{Deserialize, Serialize};

use super::{
    Context, OpError, Operations, Page, Role,
    blocks::{BlockEntry, BlockKind, undo},
    query::PAGE,
};
use crate::{
    filter::AutomaticBlock,
    store::{AuditRow, Evidence},
};

/// Blocks that are over and shown.
pub(super) const HISTORY: usize = 3;
/// Changes by people that are shown.
const CHANGES: u32 = 3;
/// Rows of evidence that are looked at for one source.
const LOOKED_AT: u32 = 16;

/// Why a source was blocked, or would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// What was kept; to who may not see messages, without them.
    #[serde(flatten)]
    pub evidence: Evidence,
    /// The rule in words, with its values of that time.
    pub because: String,
    /// How many messages are kept.
    pub messages_kept: usize,
}

/// A known source that is not heard for one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairView {
    /// The source.
    pub cidr: Prefix,
    /// The account, as it was written.
    pub account: String,
    /// How many wrong passwords led to it.
    pub count: u32,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// It is not heard; otherwise that is only told.
    pub enforced: bool,
    /// The command that ends it.
    pub undo: String,
}

/// What a detector counts of a source now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterView {
    /// Who counts.
    pub detector: Detector,
    /// How much.
    pub count: u32,
    /// How much blocks.
    pub limit: u32,
    /// The setting that says so.
    pub rule: String,
    /// The time in which it is counted, in milliseconds.
    pub period_ms: u64,
}

/// What is remembered of a source that was blocked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffenceView {
    /// Blocks for what nobody else can have sent.
    pub sure: u32,
    /// Blocks for what anybody may have sent in its name.
    pub unsure: u32,
    /// When the last of them ended, or ends.
    pub last: Timestamp,
    /// When all of them are forgotten, if no other follows.
    pub forgotten_at: Timestamp,
}

/// A block with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockShown {
    /// As in the list.
    #[serde(flatten)]
    pub entry: BlockEntry,
    /// Why, of a block that a detector made.
    pub evidence: Option<EvidenceView>,
    /// Earlier blocks of the same range, the newest first.
    pub history: Vec<EvidenceView>,
    /// What people changed about it, the newest first.
    pub changes: Vec<AuditRow>,
}

/// Evidence about a source: of the block that is live, and earlier.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) now: Option<EvidenceView>,
    pub(super) history: Vec<EvidenceView>,
}

impl Operations {
    /// The blocks that cover an address or lie in a range, each with what led to it: at most a page of them.
    pub async fn show_blocks(&self, context: &Context, address: &str) -> Result<Page<BlockShown>, OpError> {
        let typed = address::parse(address).map_err(|error| OpError::usage(error.to_string()))?;
        let range = typed.prefix;
        let mut entries = self.block_entries().await?;
        entries.retain(|entry| entry.cidr.overlaps(&range));
        let count = entries.len();
        if count == 0 {
            let addr = range.addr();
            let message = format!("{range} is not blocked; `pbx explain {addr}` says what happens to it, and what did");
            return Err(OpError::not_found(message));
        }
        entries.truncate(PAGE);
        let mut items = Vec::with_capacity(entries.len());
        for entry in self.with_hits(entries).await? {
            let made_by = (entry.kind == BlockKind::Automatic).then(|| Detector::from_name(&entry.reason)).flatten();
            let Found { now, history } = self.evidence_about(context, &[entry.cidr], made_by).await?;
            let changes = self.changes_about(&[entry.cidr]).await?;
            items.push(BlockShown { entry, evidence: now, history, changes });
        }
        Ok(Page { count: Some(count), items })
    }

    /// What is kept about these ranges. `made_by`: who made the block that is live.
    pub(super) async fn evidence_about(
        &self,
        context: &Context,
        ranges: &[Prefix],
        made_by: Option<Detector>,
    ) -> Result<Found, OpError> {
        let now = self.now();
        let mut found = Found::default();
        for evidence in self.store().evidence(ranges, LOOKED_AT).await? {
            let is_live = found.now.is_none() && made_by == Some(evidence.detector) && evidence.until > now;
            let view = EvidenceView::new(context, evidence);
            if is_live {
                found.now = Some(view);
            } else if found.history.len() < HISTORY {
                found.history.push(view);
            }
        }
        Ok(found)
    }

    /// What people changed about these ranges.
    pub(super) async fn changes_about(&self, ranges: &[Prefix]) -> Result<Vec<AuditRow>, OpError> {
        let named = |range: &Prefix| [range.to_string(), format!("block {range}"), format!("allow {range}")];
        let objects: Vec<String> = ranges.iter().flat_map(named).collect();
        Ok(self.store().audit_about(&objects, CHANGES).await?)
    }

    /// What detectors count of an address now, and what is remembered of it.
    pub(super) fn counted(&self, address: IpAddr) -> (Vec<CounterView>, Option<OffenceView>) {
        let (settings, _) = self.current_settings();
        let (counters, offence) = self.guard().counters(address);
        let mut counters: Vec<CounterView> =
            counters.into_iter().map(|(detector, count)| CounterView::new(detector, count, &settings.guard)).collect();
        counters.sort_by_key(|counter| {
            (std::cmp::Reverse(u64::from(counter.count) * 1000 / u64::from(counter.limit.max(1))), counter.detector)
        });
        let forget = settings.guard.repeat.forget.get();
        let offence = offence.map(|Offence { sure, unsure, last, .. }| OffenceView {
            sure,
            unsure,
            last,
            forgotten_at: last.saturating_add(forget),
        });
        (counters, offence.filter(|offence| offence.forgotten_at > self.now()))
    }

    /// The pairs of a range that are not heard, those that began last first.
    pub(super) fn pairs_within(&self, range: &Prefix) -> Vec<PairView> {
        let pairs = self.guard().pairs().into_iter().filter(|pair| range.contains(pair.source));
        let mut pairs: Vec<PairView> = pairs.map(PairView::from).collect();
        pairs.sort_by(|one, other| (other.since, &one.account).cmp(&(one.since, &other.account)));
        pairs
    }
}

impl EvidenceView {
    fn new(context: &Context, mut evidence: Evidence) -> Self {
        let messages_kept = evidence.messages.len();
        if context.role != Role::Admin {
            evidence.messages.clear();
        }
        let Evidence { detector, count, ref rule, limit, period_ms, .. } = evidence;
        let period = format_duration(std::time::Duration::from_millis(period_ms));
        let because = format!("{}: {count} in {period}, when {rule} was {limit}", detector.what());
        Self { evidence, because, messages_kept }
    }
}

impl From<PairBlock> for PairView {
    fn from(pair: PairBlock) -> Self {
        let PairBlock { source, account, count, since, time, enforced } = pair;
        let (cidr, until) = (Prefix::host(source), since.saturating_add(time));
        Self { cidr, account: account.name.into(), count, since, until, enforced, undo: undo(&cidr) }
    }
}

impl CounterView {
    fn new(detector: Detector, count: u32, guard: &GuardSettings) -> Self {
        let (rule, limit) = detector.limit(guard);
        let period_ms = u64::try_from(detector.period(guard).as_millis()).unwrap_or(u64::MAX);
        Self { detector, count, limit, rule: rule.to_owned(), period_ms }
    }
}

/// The ranges by which a source may be kept: the address, its network of 64 bits, and the block that covers it.
pub(super) fn ranges_of(address: IpAddr, block: Option<&AutomaticBlock>) -> Vec<Prefix> {
    let mut ranges = vec![Prefix::host(address)];
    ranges.extend(address.is_ipv6().then(|| Prefix::new(address, 64).ok()).flatten());
    ranges.extend(block.map(|block| block.prefix));
    ranges.sort();
    ranges.dedup();
    ranges
}
