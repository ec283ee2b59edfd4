//! Everything that is blocked, by hand or by itself, in one list; and the way out of it.

use pbx_core::{
    address::{self, Prefix},
    guard::Detector,
    rule::{Action, NewRule, Origin, Rule},
    settings::{Enforcement, Settings},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    AddRule, Context, How, ListOptions, OpError, Operations, Page, RuleAnswer, enforcement,
    evidence::PairView,
    query::{Kind, Query, Row, Value},
    rules::end,
};
use crate::{
    filter::{AutomaticBlock, Control, Hits},
    store::{Audit, EventKind, NewEvent},
};

/// Accounts that an event names.
const PAIRS_NAMED: usize = 3;

/// Who made a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// A person, by a rule.
    Manual,
    /// A list that others keep, by a rule.
    Feed,
    /// The filter, or a detector by it.
    Automatic,
    /// A detector, of one account behind a known source.
    Pair,
}

impl BlockKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Feed => "feed",
            Self::Automatic => "automatic",
            Self::Pair => "pair",
        }
    }
}

/// A block as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// The range.
    pub cidr: Prefix,
    /// Who made it.
    pub kind: BlockKind,
    /// Description of a rule, never empty; the name of the detector.
    pub reason: String,
    /// The one account that is not heard from there, of a pair; the rest of the source goes on.
    #[serde(default)]
    pub account: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub expire_at: Option<Timestamp>,
    /// By whose name.
    pub by: String,
    /// It drops; otherwise it only counts, or an allow rule stands before it.
    pub enforced: bool,
    /// What it has dropped.
    #[serde(flatten)]
    pub hits: Hits,
    /// The command that ends it.
    pub undo: String,
}

/// Whom to let go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveBlock {
    /// An address or range.
    pub address: String,
    /// Also allow it for so long (`1d`).
    #[serde(default)]
    pub allow_for: Option<String>,
    /// Do it although connections are cut: an allow rule that lasts longer becomes that short.
    #[serde(default)]
    pub force: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Whom it let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Nothing was changed.
    pub dry_run: bool,
    /// The rule that is gone.
    pub manual: Option<RuleAnswer>,
    /// The automatic blocks that are gone.
    pub automatic: Vec<AutomaticBlock>,
    /// The accounts that are heard again from there.
    #[serde(default)]
    pub pairs: Vec<PairView>,
    /// The allow rule that was made.
    pub allowed: Option<RuleAnswer>,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
}

impl Operations {
    /// A page of everything that is blocked, by default the newest first.
    pub async fn blocks(&self, options: &ListOptions) -> Result<Page<BlockEntry>, OpError> {
        let query = Query::parse::<BlockEntry>(options).map_err(OpError::usage)?;
        let entries = self.block_entries().await?;
        // Hits cost a look into the kernel each: for all rows only when rows are chosen by them.
        if query.needs::<BlockEntry>("packets") || query.needs::<BlockEntry>("last_seen") {
            let entries = self.with_hits(entries).await?;
            return Ok(query.page(entries.into_iter()));
        }
        let page = query.page(entries.into_iter());
        Ok(Page { count: page.count, items: self.with_hits(page.items).await? })
    }

    /// Everything that is blocked, the newest first, without the hits of rules.
    pub(super) async fn block_entries(&self) -> Result<Vec<BlockEntry>, OpError> {
        let (settings, _) = self.current_settings();
        let filters = !matches!(self.control(), Control::Lost { earlier: None, .. });
        let manual = filters && enforcement::of_rules(&settings) == Enforcement::Enforce;
        let now = self.now();
        let mut entries: Vec<BlockEntry> = {
            let book = self.book();
            let shadowed = |rule: &Rule| book.of(&rule.prefix, Action::Allow).is_some_and(|allow| allow.is_live(now));
            book.with(Action::Block)
                .filter(|rule| rule.is_live(now))
                .map(|rule| of_rule(rule, manual && !shadowed(rule)))
                .collect()
        };
        let automatic = self.automatic_now().await?;
        entries.extend(automatic.iter().map(|block| {
            let entry = of_automatic(block, &settings);
            // An allow rule goes before every automatic block.
            BlockEntry { enforced: entry.enforced && !self.is_allowed(&block.prefix), ..entry }
        }));
        entries.extend(self.guard().pairs().into_iter().map(|pair| of_pair(pair.into())));
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.since));
        Ok(entries)
    }

    /// Lets an address go: the rule for exactly it, and every automatic block that covers it or lies in it.
    pub async fn remove_block(&self, context: &Context, request: RemoveBlock) -> Result<Removed, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            operations.remove_block_now(&context, request).await
        })
        .await
    }

    async fn remove_block_now(&self, context: &Context, request: RemoveBlock) -> Result<Removed, OpError> {
        self.under_control()?;
        let RemoveBlock { address, allow_for, force, dry_run } = request;
        let typed = address::parse(&address).map_err(|error| OpError::usage(error.to_string()))?;
        let prefix = typed.prefix;
        let allow = allow_for.map(|lasting| AddRule {
            cidr: prefix.to_string(),
            mask: None,
            target: Action::Allow,
            expire_at: None,
            lasting: Some(lasting),
            description: Some(format!("let go by {}", context.actor)),
            force: true,
            dry_run: true,
        });
        if let Some(allow) = &allow {
            // A wrong duration must be found before anything is removed.
            self.add_rule_now(context, allow.clone()).await?;
        }
        let rule = self.book().of(&prefix, Action::Block).cloned();
        if let Some(lasting) = allow.as_ref().and_then(|allow| allow.lasting.as_deref()) {
            // What was allowed for longer must not end in a block. Both changes at once: the block goes as well.
            let now = self.now();
            let new = NewRule::new(prefix, Action::Allow, end(None, Some(lasting), now)?, "", now)
                .map_err(|error| OpError::usage(error.to_string()))?;
            let (mut plan, ..) = self.plan_rule(context, new, false, Origin::Manual, now);
            plan.removed.extend(rule.clone());
            self.lets_in(&plan, force).await?;
        }
        let automatic: Vec<AutomaticBlock> =
            self.automatic_now().await?.into_iter().filter(|block| block.prefix.overlaps(&prefix)).collect();
        let pairs = self.pairs_within(&prefix);
        let remembered = self.guard().remembers(&prefix);
        if rule.is_none() && automatic.is_empty() && pairs.is_empty() && !remembered {
            return Err(OpError::not_found(self.why_not_removed(&prefix)));
        }
        let mut notes = Vec::new();
        if typed.host_bits_cleared {
            notes.push(format!("{} means {prefix}", address.trim()));
        }
        let manual = match rule {
            Some(rule) => Some(self.remove_rule_now(context, rule, How { force, dry_run }).await?),
            None => None,
        };
        if !automatic.is_empty() && !dry_run {
            self.end_automatic(context, &automatic).await?;
        }
        if !dry_run {
            // The exact ranges as well: an address may be blocked by its /64.
            self.guard().forget(&prefix);
            for block in automatic.iter().filter(|block| !prefix.covers(&block.prefix)) {
                self.guard().forget(&block.prefix);
            }
            self.pairs_ended(context, &prefix, &pairs).await?;
        }
        if automatic.is_empty() && pairs.is_empty() && manual.is_none() {
            notes.push(format!("{prefix} was not blocked; what was counted and remembered of it is forgotten"));
        }
        if !automatic.is_empty() || !pairs.is_empty() {
            let were = if dry_run { "would be" } else { "were" };
            notes.push(format!("the counters that led to the block {were} reset: who was blocked begins at nothing"));
        }
        let allowed = match allow {
            Some(allow) => Some(self.add_rule_now(context, AddRule { dry_run, ..allow }).await?),
            None => None,
        };
        if manual.is_none() && allowed.is_none() {
            let now = self.now();
            let book = self.book();
            if let Some(wider) = book.covering(&prefix, now).first().filter(|rule| rule.action == Action::Block) {
                notes.push(format!(
                    "{prefix} is still blocked by the rule {wider}; `pbx block remove {wider}` removes that",
                    wider = wider.prefix
                ));
            }
        }
        Ok(Removed { dry_run, manual, automatic, pairs, allowed, notes })
    }

    /// Somebody ended pairs: kept in the audit, and told.
    async fn pairs_ended(&self, context: &Context, range: &Prefix, pairs: &[PairView]) -> Result<(), OpError> {
        if pairs.is_empty() {
            return Ok(());
        }
        let at = self.now();
        let row = |pair: &PairView| Audit {
            at,
            actor: context.actor.clone(),
            origin: context.origin.to_owned(),
            what: "pair.remove".to_owned(),
            object: pair.cidr.to_string(),
            before: serde_json::to_string(pair).ok(),
            after: None,
        };
        for pair in pairs {
            self.store().audit(&row(pair)).await?;
        }
        let accounts: Vec<&str> = pairs.iter().map(|pair| pair.account.as_str()).take(PAIRS_NAMED).collect();
        let more = pairs.len().saturating_sub(PAIRS_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("{} lets {range} be heard again for {}{more}", context.actor, accounts.join(", "));
        let event = NewEvent { at, kind: EventKind::Unblock, prefix: Some(*range), interface: None, message };
        self.record(vec![event]).await;
        Ok(())
    }

    fn why_not_removed(&self, prefix: &Prefix) -> String {
        let now = self.now();
        let book = self.book();
        let covering = book.covering(prefix, now);
        let wider = covering.iter().find(|rule| rule.action == Action::Block);
        let inside = book.inside(prefix, Action::Block).count();
        match (wider, inside) {
            (Some(wider), _) => format!(
                "{prefix} has no block of its own; the rule {wider} covers it: `pbx block remove {wider}` removes that, `pbx allow add {prefix}` makes an exception",
                wider = wider.prefix
            ),
            (None, 1..) => format!(
                "there is no block of {prefix} as a whole, but {inside} inside it: `pbx block show {prefix}` lists them, each is removed by its own range"
            ),
            (None, 0) => format!("{prefix} is not blocked; `pbx explain {}` says what happens to it", prefix.addr()),
        }
    }

    pub(super) async fn with_hits(&self, mut entries: Vec<BlockEntry>) -> Result<Vec<BlockEntry>, OpError> {
        self.with_filter(move |filter| {
            for entry in
                entries.iter_mut().filter(|entry| !matches!(entry.kind, BlockKind::Automatic | BlockKind::Pair))
            {
                entry.hits = filter.hits(&entry.cidr, Action::Block);
            }
            entries
        })
        .await
    }
}

/// Why a rule was made: what its maker wrote, or at least how it came.
pub(super) fn why(rule: &Rule) -> String {
    match rule.feed() {
        _ if !rule.description.is_empty() => rule.description.clone(),
        Some(feed) => format!("listed by feed {feed}"),
        None => "by hand".to_owned(),
    }
}

fn of_rule(rule: &Rule, enforced: bool) -> BlockEntry {
    BlockEntry {
        cidr: rule.prefix,
        kind: if rule.feed().is_some() { BlockKind::Feed } else { BlockKind::Manual },
        reason: why(rule),
        account: None,
        since: rule.created_at,
        expire_at: rule.expires_at,
        by: rule.created_by.clone(),
        enforced,
        hits: Hits::default(),
        undo: undo(&rule.prefix),
    }
}

fn of_automatic(block: &AutomaticBlock, settings: &Settings) -> BlockEntry {
    BlockEntry {
        cidr: block.prefix,
        kind: BlockKind::Automatic,
        reason: block.reason.as_str().to_owned(),
        account: None,
        since: block.since,
        expire_at: Some(block.expires_at),
        by: "filter".to_owned(),
        enforced: enforcement::of_automatic(block, settings) == Enforcement::Enforce,
        hits: Hits { packets: block.packets, last_seen: block.last_seen, estimated: false },
        undo: undo(&block.prefix),
    }
}

fn of_pair(pair: PairView) -> BlockEntry {
    let PairView { cidr, account, count: _, since, until, enforced, undo } = pair;
    BlockEntry {
        cidr,
        kind: BlockKind::Pair,
        reason: Detector::Accounts.as_str().to_owned(),
        account: Some(account),
        since,
        expire_at: Some(until),
        by: "guard".to_owned(),
        enforced,
        hits: Hits::default(),
        undo,
    }
}

/// The command that ends a block.
pub(super) fn undo(prefix: &Prefix) -> String {
    format!("pbx block remove {prefix}")
}

impl Row for BlockEntry {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("cidr", Kind::Address),
        ("kind", Kind::Text),
        ("reason", Kind::Text),
        ("since", Kind::Time),
        ("expire_at", Kind::Time),
        ("by", Kind::Text),
        ("enforced", Kind::Bool),
        ("packets", Kind::Number),
        ("last_seen", Kind::Time),
        ("account", Kind::Text),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Address(self.cidr),
            1 => Value::Text(self.kind.as_str().into()),
            2 => Value::Text(self.reason.as_str().into()),
            3 => Value::Time(self.since),
            4 => self.expire_at.map_or(Value::Null, Value::Time),
            5 => Value::Text(self.by.as_str().into()),
            6 => Value::Bool(self.enforced),
            7 => Value::Number(i64::try_from(self.hits.packets).unwrap_or(i64::MAX)),
            8 => self.hits.last_seen.map_or(Value::Null, Value::Time),
            _ => self.account.as_deref().map_or(Value::Null, |account| Value::Text(account.into())),
        }
    }
}
