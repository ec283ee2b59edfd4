//! Whole lists: imported in one transaction or not at all, flushed, swept.

use std::time::Instant;

use pbx_core::{
    rule::{self, Action, NewRule, Origin, Rule, Zone},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    Context, How, OpError, Operations,
    change::{Plan, Wording},
    rules_csv,
};

/// A list to import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportRequest {
    /// The rules.
    pub text: String,
    /// How they are written.
    pub format: ImportFormat,
    /// Do it although connections are cut.
    pub force: bool,
    /// Only say what would change.
    pub dry_run: bool,
}

/// How the rules of a list are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportFormat {
    /// One rule a line; see [`pbx_core::rule::parse_import`].
    #[default]
    Lines,
    /// CSV with a header: cidr, target, description, expire_at, or what other programs call these.
    Csv,
}

/// What an import, a flush or a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportAnswer {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Rules that are new.
    pub added: usize,
    /// Rules that were there with another end or description.
    pub updated: usize,
    /// Rules that were there as they are in the list.
    pub unchanged: usize,
    /// Rules that are gone.
    pub removed: usize,
    /// Automatic blocks that are gone.
    pub automatic_removed: usize,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// Milliseconds from the request to the end, and of that in the store and the filter.
    pub milliseconds: u64,
}

impl Operations {
    /// Imports a list. Every line is checked before anything is written.
    pub async fn import(&self, context: &Context, request: ImportRequest) -> Result<ImportAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let begun = Instant::now();
            let now = operations.now();
            let ImportRequest { text, format, force, dry_run } = request;
            // Half a million lines are a noticeable piece of work: off the async threads.
            let parse = move || match format {
                ImportFormat::Lines => Ok((rule::parse_import(&text, now), None)),
                ImportFormat::Csv => rules_csv::parse(&text, now).map_err(OpError::usage),
            };
            let (list, unread) =
                tokio::task::spawn_blocking(parse).await.map_err(|error| OpError::internal(error.to_string()))??;
            let list = list.map_err(|error| {
                OpError::usage(format!(
                    "nothing was imported, {} bad line{}",
                    error.total,
                    if error.total == 1 { "" } else { "s" }
                ))
                .with_detail(error.to_string())
            })?;
            let _changing = operations.inner.changing.lock().await;
            let mut answer = ImportAnswer { dry_run, ..ImportAnswer::default() };
            answer.notes.extend(operations.only_sockets());
            let plan = operations.plan_list(&context, list.rules, now, &mut answer);
            answer.notes.extend(unread);
            answer.notes.extend(list.remarks.iter().map(ToString::to_string));
            if list.merged > 0 {
                answer.notes.push(format!("{} lines repeated an earlier one", list.merged));
            }
            if !plan.is_empty() {
                operations.lets_in(&plan, force).await?;
                operations.fits(&plan).await?;
            }
            if !dry_run {
                let ImportAnswer { added, updated, .. } = answer;
                let wording = Wording {
                    verb: "rule.import",
                    object: format!("{} rules", added + updated),
                    sentence: format!("{} imported a list: {added} rules new, {updated} changed", context.actor),
                };
                operations.carry_out(&context, plan, &wording).await?;
            }
            answer.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(answer)
        })
        .await
    }

    /// Removes every rule of one action. Automatic blocks are another matter: see `remove_all_automatic`.
    pub async fn flush(&self, context: &Context, action: Action, how: How) -> Result<ImportAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let removed: Vec<Rule> = operations.book().with(action).cloned().collect();
            let How { force, dry_run } = how;
            let notes = operations.only_sockets().into_iter().collect();
            let answer = ImportAnswer { dry_run, removed: removed.len(), notes, ..ImportAnswer::default() };
            let plan = Plan { removed, by_hand: true, ..Plan::default() };
            operations.lets_in(&plan, force).await?;
            if !dry_run {
                let wording = Wording {
                    verb: "rule.flush",
                    object: format!("all {action} rules"),
                    sentence: format!("{} removed all {} {action} rules", context.actor, plan.removed.len()),
                };
                operations.carry_out(&context, plan, &wording).await?;
            }
            Ok(answer)
        })
        .await
    }

    /// Removes the rules whose time is over at `now` and says how many; the kernel stopped obeying them by itself.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, OpError> {
        let operations = self.clone();
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            if operations.under_control().is_err() {
                // Would be taken back every second; the filter goes by the end of each rule itself.
                return Ok(0);
            }
            let removed = operations.book().expired(now);
            let count = removed.len();
            let ranges: Vec<String> =
                removed.iter().take(3).map(|rule| format!("{} {}", rule.action, rule.prefix)).collect();
            let and_more = if count > 3 { format!(" and {} more", count - 3) } else { String::new() };
            let wording = Wording {
                verb: "rule.expire",
                object: format!("{}{and_more}", ranges.join(", ")),
                sentence: format!("the time of {}{and_more} is over", ranges.join(", ")),
            };
            operations.carry_out(&Context::daemon(), Plan { removed, ..Plan::default() }, &wording).await?;
            Ok(count)
        })
        .await
    }

    fn plan_list(&self, context: &Context, rules: Vec<NewRule>, now: Timestamp, answer: &mut ImportAnswer) -> Plan {
        let book = self.book();
        let mut plan = Plan { added: Vec::with_capacity(rules.len()), ..Plan::default() };
        let mut id = book.next_id();
        for NewRule { prefix, action, expires_at, description } in rules {
            match book.of(&prefix, action) {
                Some(old) => {
                    // A list without a description does not take one away.
                    let description = if description.is_empty() { old.description.clone() } else { description };
                    let of_feed = old.origin == Origin::Feed;
                    if old.expires_at == expires_at && old.description == description && !of_feed {
                        answer.unchanged += 1;
                        continue;
                    }
                    answer.updated += 1;
                    plan.removed.push(old.clone());
                    let mut rule = Rule { expires_at, description, ..old.clone() };
                    if of_feed {
                        // Who asks for a block wants it whatever the feed says later.
                        rule.origin = Origin::Import;
                        rule.created_by = context.actor.clone();
                    }
                    plan.added.push(rule);
                }
                None => {
                    answer.added += 1;
                    plan.added.push(Rule {
                        id,
                        prefix,
                        action,
                        zone: Zone::Any,
                        origin: Origin::Import,
                        description,
                        created_at: now,
                        created_by: context.actor.clone(),
                        expires_at,
                    });
                    id += 1;
                }
            }
        }
        plan
    }
}
