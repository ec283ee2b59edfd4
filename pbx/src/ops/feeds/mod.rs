//! Block lists that others keep: listed, added, changed, removed. What they list becomes rules in `refresh`.

mod read;
mod refresh;
mod view;

use std::time::Duration;

use pbx_core::{
    feed::{self, FeedName},
    rule::Action,
    time::{format_duration, parse_duration},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::{refresh::RefreshFeed, view::FeedView};
use super::{
    Context, Did, How, ListOptions, OpError, Operations, Page,
    change::{Plan, Wording},
    query::Query,
};
use crate::{
    store::{Audit, EventKind, FeedEntries, FeedState, NewEvent, StoredFeed},
    web::{self, Limits},
};

/// What reading a feed may cost.
pub const FEED_LIMITS: Limits =
    Limits { connect: Duration::from_secs(10), whole: Duration::from_secs(60), bytes: feed::LARGEST, redirects: 3 };
/// Feeds that there may be.
const MOST_FEEDS: usize = 64;

/// A feed to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddFeed {
    /// Its name.
    pub name: String,
    /// A file's absolute path, or an http or https address.
    pub source: String,
    /// How often it is read (`6h`).
    #[serde(default)]
    pub every: Option<String>,
    /// Entries that it may have.
    #[serde(default)]
    pub max_entries: Option<u32>,
    /// Add it although it cannot be read now.
    #[serde(default)]
    pub force: bool,
    /// Read it and say what it would block.
    #[serde(default)]
    pub dry_run: bool,
}

/// What to change in a feed; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateFeed {
    /// A file's absolute path, or an http or https address.
    pub source: Option<String>,
    /// How often it is read (`6h`).
    pub every: Option<String>,
    /// Entries that it may have.
    pub max_entries: Option<u32>,
    /// It is read, and its entries block; otherwise none of them does.
    pub enabled: Option<bool>,
    /// Only say what would change.
    pub dry_run: bool,
}

/// The answer to whatever was done to a feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedAnswer {
    /// What became of it, or under `dry_run` would.
    pub did: Did,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Blocks that are new.
    pub added: usize,
    /// Blocks that are gone.
    pub removed: usize,
    /// Blocks that stay.
    pub kept: usize,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// The feed after it.
    pub item: FeedView,
}

impl FeedAnswer {
    fn of(did: Did, dry_run: bool, feed: &StoredFeed) -> Self {
        let item = FeedView::of(feed);
        Self { did, dry_run, added: 0, removed: 0, kept: 0, notes: Vec::new(), item }
    }
}

impl Operations {
    /// A page of feeds, by default by name.
    pub async fn feeds(&self, options: &ListOptions) -> Result<Page<FeedView>, OpError> {
        let query = Query::parse::<FeedView>(options).map_err(OpError::usage)?;
        let feeds = self.store().feeds().await?;
        Ok(query.page(feeds.iter().map(FeedView::of)))
    }

    /// One feed.
    pub async fn feed(&self, name: &str) -> Result<FeedView, OpError> {
        Ok(FeedView::of(&self.stored_feed(name).await?))
    }

    /// Adds a feed and reads it. When it cannot be read it is not added, unless that is forced.
    pub async fn add_feed(&self, context: &Context, request: AddFeed) -> Result<FeedAnswer, OpError> {
        context.may_change()?;
        let AddFeed { name, source, every, max_entries, force, dry_run } = request;
        let now = self.now();
        let feed = StoredFeed {
            id: 0,
            name: name.parse().map_err(|error: feed::NameError| OpError::usage(error.to_string()))?,
            source: source_of(&source)?,
            interval: every.as_deref().map_or(Ok(feed::DEFAULT_INTERVAL), interval)?,
            most: entries(max_entries.unwrap_or(feed::DEFAULT_ENTRIES))?,
            enabled: true,
            created_at: now,
            created_by: context.actor.clone(),
            next_at: now,
            state: FeedState::default(),
        };
        let _reading = self.inner.reading.lock().await;
        let others = self.store().feeds().await?;
        if others.iter().any(|other| other.name == feed.name) {
            return Err(OpError::usage(format!(
                "there is a feed {name} already; `pbx feed set {name}` changes it, `pbx feed remove {name}` removes it"
            )));
        }
        if others.len() >= MOST_FEEDS {
            return Err(OpError::full(format!("there are {MOST_FEEDS} feeds, which are the most: remove one")));
        }
        let read = self.read_feed(&feed).await;
        let list = match read {
            Ok(list) => Some(list),
            Err(why) if !force => {
                return Err(OpError::refused(format!(
                    "the feed {name} was not added, because it cannot be taken: {} {why}; --force adds it all the same",
                    feed.source
                ))
                .with_code("NEEDS_FORCE"));
            }
            Err(_) => None,
        };
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            if dry_run {
                let mut answer = match list {
                    Some(list) => {
                        operations.take_list(&context, feed, list, RefreshFeed { dry_run, restore: false }).await?
                    }
                    None => FeedAnswer::of(Did::Added, dry_run, &feed),
                };
                answer.did = Did::Added;
                return Ok(answer);
            }
            let told = format!("{} added the feed {}: {}", context.actor, feed.name, feed.source);
            let id = operations.keep_feed(&context, "feed.add", None, &feed, told).await?;
            let feed = StoredFeed { id, ..feed };
            let answer = match list {
                Some(list) => operations.take_list(&context, feed, list, RefreshFeed::default()).await,
                None => Ok(FeedAnswer::of(Did::Added, false, &feed)),
            };
            operations.inner.feeds_changed.notify_one();
            answer.map(|answer| FeedAnswer { did: Did::Added, ..answer }).map_err(|error| {
                let message = format!("{}; the feed is added and will be tried again", error.message);
                error.with_message(message)
            })
        })
        .await
    }

    /// Changes a feed; one that is disabled blocks nothing from then on.
    pub async fn update_feed(&self, context: &Context, name: &str, update: UpdateFeed) -> Result<FeedAnswer, OpError> {
        context.may_change()?;
        let (operations, context, name) = (self.clone(), context.clone(), name.to_owned());
        self.to_the_end(async move {
            let _reading = operations.inner.reading.lock().await;
            let _changing = operations.inner.changing.lock().await;
            let old = operations.stored_feed(&name).await?;
            let UpdateFeed { source, every, max_entries, enabled, dry_run } = update;
            let mut new = old.clone();
            if let Some(source) = source {
                new.source = source_of(&source)?;
            }
            if let Some(every) = every {
                new.interval = interval(&every)?;
            }
            if let Some(most) = max_entries {
                new.most = entries(most)?;
            }
            new.enabled = enabled.unwrap_or(old.enabled);
            if new == old {
                return Ok(FeedAnswer::of(Did::Unchanged, dry_run, &old));
            }
            let now = operations.now();
            // What was true of another place says nothing of this one.
            if new.source != old.source || new.enabled != old.enabled {
                new.state = FeedState { failures: 0, failing_since: None, problem: None, ..new.state };
                new.next_at = now;
            } else {
                new.next_at = new.next_at.min(now.saturating_add(new.interval));
            }
            let mut answer = FeedAnswer::of(Did::Updated, dry_run, &new);
            if old.enabled && !new.enabled {
                answer.removed = operations.let_go(&context, &old, dry_run).await?;
                new.state = FeedState { tried_at: new.state.tried_at, ..FeedState::default() };
            }
            if !dry_run {
                let told = format!("{} changed the feed {}: {}", context.actor, new.name, differences(&old, &new));
                operations.keep_feed(&context, "feed.update", Some(&old), &new, told).await?;
                operations.inner.feeds_changed.notify_one();
            }
            answer.item = FeedView::of(&new);
            Ok(answer)
        })
        .await
    }

    /// Removes a feed and its blocks.
    pub async fn remove_feed(&self, context: &Context, name: &str, how: How) -> Result<FeedAnswer, OpError> {
        context.may_change()?;
        let (operations, context, name) = (self.clone(), context.clone(), name.to_owned());
        self.to_the_end(async move {
            let _reading = operations.inner.reading.lock().await;
            let _changing = operations.inner.changing.lock().await;
            let feed = operations.stored_feed(&name).await?;
            let mut answer = FeedAnswer::of(Did::Removed, how.dry_run, &feed);
            answer.removed = operations.let_go(&context, &feed, how.dry_run).await?;
            if !how.dry_run {
                let told = format!("{} removed the feed {name}", context.actor);
                let (audit, event) = rows(&context, operations.now(), "feed.remove", Some(&feed), None, told);
                let events = operations.store().forget_feed(feed.id, &audit, &[event]).await?;
                operations.publish(events);
            }
            Ok(answer)
        })
        .await
    }

    /// Waits until feeds are added or changed.
    pub async fn feeds_changed(&self) {
        self.inner.feeds_changed.notified().await;
    }

    /// Removes every block of a feed, but for those that another feed takes over; returns how many.
    async fn let_go(&self, context: &Context, feed: &StoredFeed, dry_run: bool) -> Result<usize, OpError> {
        let listed = self.store().feed_entries(feed.id).await?;
        let mut plan = Plan {
            removed: self.rules_of(&feed.name),
            feed: Some(FeedEntries {
                feed: feed.id,
                left: listed.into_iter().map(|(prefix, _)| prefix).collect(),
                ..FeedEntries::default()
            }),
            ..Plan::default()
        };
        self.hand_over(feed, &mut plan, None).await?;
        let gone = plan.removed.len() - plan.added.len();
        if !dry_run {
            let wording = Wording {
                verb: "feed.let_go",
                object: format!("feed {}", feed.name),
                sentence: format!("{gone} blocks of the feed {} are gone", feed.name),
            };
            self.carry_out(context, plan, &wording).await?;
        }
        Ok(gone)
    }

    /// The rules that a feed made.
    fn rules_of(&self, name: &FeedName) -> Vec<pbx_core::rule::Rule> {
        self.book().with(Action::Block).filter(|rule| rule.feed() == Some(name.as_str())).cloned().collect()
    }

    async fn stored_feed(&self, name: &str) -> Result<StoredFeed, OpError> {
        let feeds = self.store().feeds().await?;
        feeds.into_iter().find(|feed| feed.name.as_str() == name).ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            OpError::not_found(format!("there is no feed {name:?}; `pbx feed list` shows those that are there"))
        })
    }

    async fn keep_feed(
        &self,
        context: &Context,
        verb: &'static str,
        old: Option<&StoredFeed>,
        new: &StoredFeed,
        told: String,
    ) -> Result<i64, OpError> {
        let (audit, event) = rows(context, self.now(), verb, old, Some(new), told);
        let (id, events) = self.store().keep_feed(new, Some(&audit), &[event]).await?;
        self.publish(events);
        Ok(id)
    }

    /// What should be said about feeds in the daemon's health.
    pub(super) async fn feed_warnings(&self) -> Vec<String> {
        let feeds = match self.store().feeds().await {
            Ok(feeds) => feeds,
            Err(error) => return vec![format!("nobody knows how the feeds are: {error}")],
        };
        let failing = feeds.iter().filter(|feed| feed.enabled);
        failing.filter_map(|feed| FeedView::of(feed).warning()).collect()
    }
}

fn rows(
    context: &Context,
    at: pbx_core::time::Timestamp,
    verb: &'static str,
    old: Option<&StoredFeed>,
    new: Option<&StoredFeed>,
    told: String,
) -> (Audit, NewEvent) {
    let text = |feed: &StoredFeed| {
        let StoredFeed { source, interval, most, enabled, .. } = feed;
        json!({ "source": source, "every": format_duration(*interval), "max_entries": most, "enabled": enabled })
            .to_string()
    };
    let name = new.or(old).map(|feed| feed.name.to_string()).unwrap_or_default();
    let audit = Audit {
        at,
        actor: context.actor.clone(),
        origin: context.origin.to_owned(),
        what: verb.to_owned(),
        object: format!("feed {name}"),
        before: old.map(text),
        after: new.map(text),
    };
    (audit, NewEvent { at, kind: EventKind::Feeds, prefix: None, interface: None, message: told })
}

fn differences(old: &StoredFeed, new: &StoredFeed) -> String {
    let mut told = Vec::new();
    if old.source != new.source {
        told.push(format!("it is at {}", new.source));
    }
    if old.interval != new.interval {
        told.push(format!("it is read every {}", format_duration(new.interval)));
    }
    if old.most != new.most {
        told.push(format!("it may have {} entries", new.most));
    }
    if old.enabled != new.enabled {
        told.push(if new.enabled { "it is enabled" } else { "it is disabled" }.to_owned());
    }
    told.join(", ")
}

/// An absolute path or an address, as it is kept.
fn source_of(text: &str) -> Result<String, OpError> {
    const LONGEST: usize = 2000;
    let text = text.trim();
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(OpError::usage(format!("source: it is one line of at most {LONGEST} bytes")));
    }
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    match web::address(text) {
        Ok(url) => Ok(url.to_string()),
        Err(error) => Err(OpError::usage(format!(
            "source: {text:?} {error}; give the absolute path of a file, or an http or https address"
        ))),
    }
}

fn interval(text: &str) -> Result<Duration, OpError> {
    let span = parse_duration(text).map_err(|error| OpError::usage(format!("every: {error}")))?;
    if !(feed::SHORTEST_INTERVAL..=feed::LONGEST_INTERVAL).contains(&span) {
        return Err(OpError::usage(format!(
            "every: {text} is out of range; it takes {} to {}",
            format_duration(feed::SHORTEST_INTERVAL),
            format_duration(feed::LONGEST_INTERVAL)
        )));
    }
    Ok(span)
}

fn entries(most: u32) -> Result<u32, OpError> {
    if !(1..=feed::MOST_ENTRIES).contains(&most) {
        return Err(OpError::usage(format!(
            "max_entries: {most} is out of range; it takes 1 to {}",
            feed::MOST_ENTRIES
        )));
    }
    Ok(most)
}
