//! Manual rules: listed, made, changed, removed.

use std::time::Duration;

use pbx_core::{
    address::{self, Prefix},
    rule::{self, Action, NewRule, Origin, Rule, Zone},
    settings::Enforcement,
    time::{Timestamp, parse_duration},
};

use super::{
    AddRule, Context, Did, How, IpFilter, ListOptions, OpError, Operations, Page, RuleAnswer, UpdateRule,
    change::{Plan, Wording},
    enforcement,
    query::Query,
};

impl Operations {
    /// A page of rules, by default in the order in which they were made.
    pub async fn rules(&self, options: &ListOptions) -> Result<Page<IpFilter>, OpError> {
        let query = Query::parse::<&Rule>(options).map_err(OpError::usage)?;
        let page = {
            let book = self.book();
            let mut all: Vec<&Rule> = book.iter().collect();
            all.sort_unstable_by_key(|rule| rule.id);
            query.page(all.into_iter()).map(Rule::clone)
        };
        let count = page.count;
        Ok(Page { count, items: self.views(page.items).await? })
    }

    /// One rule.
    pub async fn rule(&self, id: &str) -> Result<IpFilter, OpError> {
        let rule = self.find(id)?;
        self.view(rule).await
    }

    /// All rules of one action, or all, as text that an import reads.
    pub fn export(&self, action: Option<Action>) -> String {
        let now = self.now();
        let book = self.book();
        rule::export(
            book.iter()
                .filter(|rule| rule.is_live(now) && action.is_none_or(|action| rule.action == action))
                .map(Rule::parts),
        )
    }

    /// Makes a rule, or changes the one that is there for the same range and target.
    pub async fn add_rule(&self, context: &Context, request: AddRule) -> Result<RuleAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            operations.add_rule_now(&context, request).await
        })
        .await
    }

    pub(super) async fn add_rule_now(&self, context: &Context, request: AddRule) -> Result<RuleAnswer, OpError> {
        let AddRule { cidr, mask, target, expire_at, lasting, description, force, dry_run } = request;
        let now = self.now();
        let text = mask.map_or_else(|| cidr.clone(), |mask| format!("{} {}", cidr.trim(), mask.trim()));
        let typed = address::parse(&text).map_err(|error| OpError::usage(error.to_string()))?;
        let end = end(expire_at, lasting.as_deref(), now)?;
        let new = NewRule::new(typed.prefix, target, end, description.as_deref().unwrap_or_default(), now)
            .map_err(|error| OpError::usage(error.to_string()))?;
        let (mut plan, rule, did) = self.plan_rule(context, new, description.is_some(), Origin::Manual, now);
        let mut notes = Vec::new();
        if rule.action == Action::Allow && did != Did::Unchanged {
            notes.extend(self.spare_from_feeds(&rule.prefix, &mut plan));
        }
        notes.extend(self.notes(&rule, now));
        if typed.host_bits_cleared {
            notes.insert(0, format!("{} means {}", text.trim(), typed.prefix));
        }
        if did != Did::Unchanged {
            self.lets_in(&plan, force).await?;
            self.fits(&plan).await?;
        }
        if !dry_run {
            let verb = if did == Did::Added { "rule.add" } else { "rule.update" };
            self.carry_out(context, plan, &wording(verb, context, &rule)).await?;
        }
        let mut item = self.view(rule).await?;
        if dry_run && did == Did::Added {
            item.id = None;
        }
        Ok(RuleAnswer { did, dry_run, notes, item })
    }

    /// Changes end or description of a rule.
    pub async fn update_rule(&self, context: &Context, id: &str, update: UpdateRule) -> Result<RuleAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            operations.update_rule_now(&context, &id, update).await
        })
        .await
    }

    async fn update_rule_now(&self, context: &Context, id: &str, update: UpdateRule) -> Result<RuleAnswer, OpError> {
        let old = self.find(id)?;
        let end = if update.permanent {
            if update.expire_at.is_some() || update.lasting.is_some() {
                return Err(OpError::usage("permanent goes with neither expire_at nor for"));
            }
            None
        } else {
            end(update.expire_at, update.lasting.as_deref(), self.now())?.or(old.expires_at)
        };
        let request = AddRule {
            cidr: old.prefix.to_string(),
            mask: None,
            target: old.action,
            expire_at: end,
            lasting: None,
            description: update.description,
            force: update.force,
            dry_run: update.dry_run,
        };
        self.add_rule_now(context, request).await
    }

    /// Removes one rule, and resets the counters of its sources.
    pub async fn remove_rule(&self, context: &Context, id: &str, how: How) -> Result<RuleAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let rule = operations.find(&id)?;
            operations.remove_rule_now(&context, rule, how).await
        })
        .await
    }

    /// Removes the rule for exactly this range.
    pub async fn remove_rule_of(
        &self,
        context: &Context,
        cidr: &str,
        action: Action,
        how: How,
    ) -> Result<RuleAnswer, OpError> {
        let prefix = address::parse(cidr).map_err(|error| OpError::usage(error.to_string()))?.prefix;
        let id = self.book().of(&prefix, action).map(|rule| rule.id);
        match id {
            Some(id) => self.remove_rule(context, &id.to_string(), how).await,
            None => Err(OpError::not_found(self.nothing_there(&prefix, action))),
        }
    }

    pub(super) async fn remove_rule_now(
        &self,
        context: &Context,
        rule: Rule,
        How { force, dry_run }: How,
    ) -> Result<RuleAnswer, OpError> {
        let item = self.view(rule.clone()).await?;
        let mut notes: Vec<String> = self.only_sockets().into_iter().collect();
        if let Some(feed) = rule.feed() {
            notes.push(format!(
                "the feed {feed} listed it and does not block it again; `pbx feed refresh {feed} --restore` does"
            ));
        }
        let plan = Plan { removed: vec![rule.clone()], by_hand: true, ..Plan::default() };
        self.lets_in(&plan, force).await?;
        if !dry_run {
            self.carry_out(context, plan, &wording("rule.remove", context, &rule)).await?;
        }
        if rule.action == Action::Block {
            if !dry_run && self.control().is_ours() {
                self.reset_counters(rule.prefix, &mut notes).await?;
            }
            let now = self.now();
            let book = self.book();
            let still = book.covering(&rule.prefix, now).into_iter().find(|other| other.id != rule.id);
            if let Some(wider) = still.filter(|wider| wider.action == Action::Block) {
                notes.push(format!(
                    "{} is still blocked by the rule {wider}; `pbx block remove {wider}` removes that, `pbx allow add {}` makes an exception",
                    rule.prefix,
                    rule.prefix,
                    wider = wider.prefix
                ));
            }
        }
        Ok(RuleAnswer { did: Did::Removed, dry_run, notes, item })
    }

    pub(super) async fn reset_counters(&self, prefix: Prefix, notes: &mut Vec<String>) -> Result<(), OpError> {
        match self.with_filter(move |filter| filter.reset_counters(&prefix)).await? {
            Ok(()) => notes.push(format!("the counters of {prefix} were reset")),
            Err(error) => notes.push(format!("the counters of {prefix} could not be reset: {error:#}")),
        }
        Ok(())
    }

    /// What has to change so that `new` holds, the rule as it will be, and what that is called.
    pub(super) fn plan_rule(
        &self,
        context: &Context,
        new: NewRule,
        describes: bool,
        origin: Origin,
        now: Timestamp,
    ) -> (Plan, Rule, Did) {
        let book = self.book();
        let NewRule { prefix, action, expires_at, description } = new;
        let Some(old) = book.of(&prefix, action) else {
            let rule = Rule {
                id: book.next_id(),
                prefix,
                action,
                zone: Zone::Any,
                origin,
                description,
                created_at: now,
                created_by: context.actor.clone(),
                expires_at,
            };
            return (Plan { added: vec![rule.clone()], ..Plan::default() }, rule, Did::Added);
        };
        let mut rule = old.clone();
        rule.expires_at = expires_at;
        if describes {
            rule.description = description;
        }
        if old.origin == Origin::Feed {
            // Who asks for a block wants it whatever the feed says later.
            rule.origin = origin;
            rule.created_by = context.actor.clone();
        }
        if rule == *old {
            return (Plan::default(), rule, Did::Unchanged);
        }
        let plan = Plan { removed: vec![old.clone()], added: vec![rule.clone()], ..Plan::default() };
        (plan, rule, Did::Updated)
    }

    fn notes(&self, rule: &Rule, now: Timestamp) -> Vec<String> {
        let mut notes: Vec<String> = self.only_sockets().into_iter().collect();
        let only_sockets = !notes.is_empty();
        let book = self.book();
        let other = match rule.action {
            Action::Allow => Action::Block,
            Action::Block => Action::Allow,
        };
        let inside: Vec<&Rule> = book.inside(&rule.prefix, other).filter(|rule| rule.is_live(now)).take(1000).collect();
        if inside.iter().any(|inner| inner.prefix == rule.prefix) {
            notes.push(match rule.action {
                Action::Allow => format!("{} is blocked as well; while both are there it is allowed", rule.prefix),
                Action::Block => format!(
                    "{} is allowed as well, and allow wins: `pbx allow remove {}` lets the block take effect",
                    rule.prefix, rule.prefix
                ),
            });
        }
        let narrower = inside.iter().filter(|inner| inner.prefix != rule.prefix).count();
        if narrower > 0 {
            let many = if narrower >= 999 { "or more " } else { "" };
            notes.push(format!(
                "{narrower} {many}narrower {other} rule{} inside it decide{} before it",
                if narrower == 1 { "" } else { "s" },
                if narrower == 1 { "s" } else { "" }
            ));
        }
        let (settings, _) = self.current_settings();
        let holds = enforcement::of_rules(&settings);
        if rule.action == Action::Block && holds != Enforcement::Enforce && !only_sockets {
            let cause = if settings.filter.mode == Enforcement::Enforce {
                "`pbx guard set guard.manual.enforcement enforce`"
            } else {
                "`pbx firewall mode enforce`"
            };
            notes.push(match holds {
                Enforcement::Monitor => format!("the filter only monitors: nothing is dropped before {cause}"),
                _ => format!("the filter is off: nothing is dropped before {cause}"),
            });
        }
        notes
    }

    fn nothing_there(&self, prefix: &Prefix, action: Action) -> String {
        let now = self.now();
        let book = self.book();
        let wider = book.covering(prefix, now).into_iter().find(|rule| rule.action == action);
        match wider {
            Some(wider) => format!(
                "there is no {action} rule for exactly {prefix}; {wider} covers it: `pbx {action} remove {wider}` removes that",
                wider = wider.prefix
            ),
            None => format!("there is no {action} rule for {prefix}; `pbx {action} list` shows those that are there"),
        }
    }

    fn find(&self, id: &str) -> Result<Rule, OpError> {
        id.parse().ok().and_then(|id| self.book().by_id(id).cloned()).ok_or_else(|| {
            OpError::not_found(format!("there is no rule with the id {:.40}", id.escape_debug().to_string()))
        })
    }

    pub(super) async fn view(&self, rule: Rule) -> Result<IpFilter, OpError> {
        let mut views = self.views(vec![rule]).await?;
        views.pop().ok_or_else(|| OpError::internal("one rule became none"))
    }

    async fn views(&self, rules: Vec<Rule>) -> Result<Vec<IpFilter>, OpError> {
        self.with_filter(move |filter| {
            let view = |rule: Rule| {
                let hits = filter.hits(&rule.prefix, rule.action);
                IpFilter::of(rule, hits)
            };
            rules.into_iter().map(view).collect()
        })
        .await
    }
}

/// When a rule ends: at most one of the two may be given.
pub(super) fn end(at: Option<Timestamp>, lasting: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, OpError> {
    match (at, lasting) {
        (Some(_), Some(_)) => Err(OpError::usage("give either expire_at or for, not both")),
        (at, None) => Ok(at),
        (None, Some(text)) => {
            let span = parse_duration(text).map_err(|error| OpError::usage(error.to_string()))?;
            if span < Duration::from_secs(1) {
                return Err(OpError::usage(format!("{text} is too short for a rule: at least 1s")));
            }
            Ok(Some(now.saturating_add(span)))
        }
    }
}

pub(super) fn wording(verb: &'static str, context: &Context, rule: &Rule) -> Wording {
    let did = match verb {
        "rule.add" => "made",
        "rule.remove" => "removed",
        _ => "changed",
    };
    let sentence = format!("{} {did} the rule: {} {}", context.actor, rule.action, rule.prefix);
    Wording { verb, object: format!("{} {}", rule.action, rule.prefix), sentence }
}
