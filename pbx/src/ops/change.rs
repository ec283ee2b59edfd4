//! The one way in which rules change: store first, then filter, then memory; undone together.

use pbx_core::{
    address::Prefix,
    rule::{Action, Rule},
};
use serde_json::json;

use super::{Context, OpError, Operations};
use crate::{
    filter::Change,
    store::{Audit, EventKind, FeedEntries, NewEvent, Released, RuleChange},
};

/// What is to change, thought through but not begun.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Rules that go, also those that are replaced.
    pub removed: Vec<Rule>,
    /// Rules that come, with their ids.
    pub added: Vec<Rule>,
    /// Somebody removes blocks: feeds that list them leave them away.
    pub by_hand: bool,
    /// What a feed lists from now on; on a plan of a feed only.
    pub feed: Option<FeedEntries>,
    /// Ranges that feeds block again although somebody removed them.
    pub restored: Vec<Prefix>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        let lists_the_same = self.feed.as_ref().is_none_or(|feed| feed.joined.is_empty() && feed.left.is_empty());
        self.removed.is_empty() && self.added.is_empty() && lists_the_same && self.restored.is_empty()
    }

    /// What feeds leave away from now on, or no longer.
    fn released(&self) -> Option<Released> {
        if !self.restored.is_empty() {
            return Some(Released { prefixes: self.restored.clone(), by_hand: false });
        }
        let gone = self.removed.iter().filter(|rule| self.by_hand && rule.action == Action::Block);
        let prefixes: Vec<Prefix> = gone.map(|rule| rule.prefix).collect();
        (!prefixes.is_empty()).then_some(Released { prefixes, by_hand: true })
    }

    /// The way back.
    fn back(self) -> Self {
        let Self { removed, added, by_hand: _, feed, restored: _ } = self;
        Self { removed: added, added: removed, feed: feed.map(FeedEntries::back), ..Self::default() }
    }

    fn change(&self) -> Change {
        match (self.removed.as_slice(), self.added.as_slice()) {
            ([], [rule]) => Change::Add(rule.clone()),
            ([rule], []) => Change::Remove(rule.clone()),
            ([old], [new]) if old.prefix == new.prefix && old.action == new.action => {
                Change::Replace { old: old.clone(), new: new.clone() }
            }
            (removed, added) => Change::Many { removed: removed.to_vec(), added: added.to_vec() },
        }
    }

    fn is_single(&self) -> bool {
        self.removed.len() <= 1 && self.added.len() <= 1
    }
}

impl Operations {
    /// Whether a plan fits, in numbers of rules and in the kernel tables. Writes nothing.
    pub(super) async fn fits(&self, plan: &Plan) -> Result<(), OpError> {
        self.under_control()?;
        let mut left = self.book().used();
        plan.removed.iter().for_each(|rule| left.remove(&rule.prefix));
        left.check(&pbx_core::rule::Capacity::of(plan.added.iter().map(|rule| &rule.prefix)))?;
        let change = plan.change();
        self.with_filter(move |filter| filter.check(&change))
            .await?
            .map_err(|error| OpError::full(format!("the filter has no room for it: {error:#}")))
    }

    /// Carries a plan out. The caller holds the lock on changes and has asked [`Self::fits`].
    /// `what` names the change in audit and events.
    pub(super) async fn carry_out(&self, context: &Context, plan: Plan, what: &Wording) -> Result<(), OpError> {
        if plan.is_empty() {
            return Ok(());
        }
        self.under_control()?;
        let at = self.now();
        let audit = [what.audit(context, at, &plan)];
        let told = [NewEvent {
            at,
            kind: EventKind::Rules,
            prefix: plan.only_prefix(),
            interface: None,
            message: what.sentence.clone(),
        }];
        // One rule is one step for the kernel; only a bulk change can be cut in two.
        let pending = (!plan.is_single()).then_some(what.sentence.as_str());
        let events = self
            .store()
            .change_rules(RuleChange {
                removed: &plan.removed,
                added: &plan.added,
                audit: &audit,
                events: &told,
                pending,
                feed: plan.feed.as_ref(),
                released: plan.released().as_ref(),
            })
            .await?;
        if plan.removed.is_empty() && plan.added.is_empty() {
            // Only what a feed lists has changed, which the filter does not know.
            self.publish(events);
            return Ok(());
        }
        let change = plan.change();
        let applied = self.with_filter(move |filter| filter.apply(&change)).await.and_then(|outcome| {
            outcome.map_err(|error| OpError::filter(format!("the filter did not take it: {error:#}")))
        });
        if let Err(error) = applied {
            return Err(self.put_back(context, plan, what, error).await);
        }
        if pending.is_some()
            && let Err(error) = self.store().clear_pending().await
        {
            // Harmless: the next start compares tables and store anyway.
            tracing::warn!(%error, "the mark of a finished change stays");
        }
        self.book_mut().change(&plan.removed, &plan.added);
        self.publish(events);
        Ok(())
    }

    async fn put_back(&self, context: &Context, plan: Plan, what: &Wording, error: OpError) -> OpError {
        let at = self.now();
        let sentence = format!("taken back, because {}: {}", error.message, what.sentence);
        let released = plan.released().map(|Released { prefixes, by_hand }| Released { prefixes, by_hand: !by_hand });
        let undo = plan.back();
        let told = [NewEvent {
            at,
            kind: EventKind::Rules,
            prefix: undo.only_prefix(),
            interface: None,
            message: sentence.clone(),
        }];
        let audit = [Wording { verb: "rule.undo", object: what.object.clone(), sentence }.audit(context, at, &undo)];
        let undone = self
            .store()
            .change_rules(RuleChange {
                removed: &undo.removed,
                added: &undo.added,
                audit: &audit,
                events: &told,
                pending: None,
                feed: undo.feed.as_ref(),
                released: released.as_ref(),
            })
            .await;
        match undone {
            Ok(events) => {
                if let Err(error) = self.store().clear_pending().await {
                    tracing::warn!(%error, "the mark of a change that was taken back stays");
                }
                self.publish(events);
                let message = format!("{}; the store was put back, nothing changed", error.message);
                error.with_message(message)
            }
            Err(second) => {
                // The store is what counts: memory follows it, and the next start makes the filter follow too.
                self.book_mut().change(&undo.added, &undo.removed);
                let message = format!(
                    "{}; putting the store back failed as well ({second}): the change is stored and takes effect when the daemon starts again (`systemctl restart pbx`)",
                    error.message
                );
                error.with_message(message)
            }
        }
    }
}

impl Plan {
    fn only_prefix(&self) -> Option<pbx_core::address::Prefix> {
        match (self.removed.as_slice(), self.added.as_slice()) {
            (_, [rule]) | ([rule], []) => Some(rule.prefix),
            _ => None,
        }
    }
}

/// How a change is called.
#[derive(Clone, Debug)]
pub(super) struct Wording {
    /// For the audit: noun and verb.
    pub verb: &'static str,
    /// For the audit: to what.
    pub object: String,
    /// For the events: one sentence.
    pub sentence: String,
}

impl Wording {
    fn audit(&self, context: &Context, at: pbx_core::time::Timestamp, plan: &Plan) -> Audit {
        Audit {
            at,
            actor: context.actor.clone(),
            origin: context.origin.to_owned(),
            what: self.verb.to_owned(),
            object: self.object.clone(),
            before: rules_text(&plan.removed),
            after: rules_text(&plan.added),
        }
    }
}

/// One rule whole; of many only how many, because the audit is read by people.
fn rules_text(rules: &[Rule]) -> Option<String> {
    match rules {
        [] => None,
        [rule] => serde_json::to_string(rule).ok(),
        many => Some(json!({ "rules": many.len() }).to_string()),
    }
}
