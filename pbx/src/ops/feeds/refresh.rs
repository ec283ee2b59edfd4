//! From what a feed lists to rules: what is new blocks, what it no longer lists goes, the rest stays as it was.
//!
//! Rules that people made are never touched. A range that two feeds list is blocked by one of them; when that one drops
//! it, the other takes the rule over. What somebody unblocked by hand stays away as long as a feed goes on listing it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pbx_core::{
    address::Prefix,
    feed::{self, LeftOut, List, Spared, Why},
    known,
    lockout::Surroundings,
    rule::{self, Action, Origin, Rule, Zone},
};
use serde::{Deserialize, Serialize};

use super::{FeedAnswer, FeedView};
use crate::{
    ops::{
        Context, Did, OpError, Operations,
        change::{Plan, Wording},
    },
    store::{EventKind, FeedEntries, FeedState, NewEvent, StoredFeed},
};

/// Lines that are left out and named one by one; the others are counted.
const NAMED: usize = 20;
/// How long a web server has peace between two readings that somebody asks for.
const PEACE: Duration = Duration::from_secs(10);
/// The service name of phones among the peers.
const PHONE: &str = "phone ";

/// How a feed is read now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefreshFeed {
    /// Only say what would change.
    pub dry_run: bool,
    /// Block again what somebody unblocked by hand.
    pub restore: bool,
}

/// What of a list can be blocked now.
struct Sorted {
    entries: usize,
    taken: Vec<feed::Entry>,
    left_out: Vec<LeftOut>,
    spared: Spared,
}

impl Operations {
    /// Reads a feed now, whatever its time. When it cannot be taken, everything stays as it was.
    pub async fn refresh_feed(
        &self,
        context: &Context,
        name: &str,
        request: RefreshFeed,
    ) -> Result<FeedAnswer, OpError> {
        context.may_change()?;
        let _reading = self.inner.reading.lock().await;
        let feed = self.stored_feed(name).await?;
        if !feed.enabled {
            return Err(OpError::usage(format!("the feed {name} is disabled: `pbx feed enable {name}` first")));
        }
        let since = feed.state.tried_at.map(|at| self.now().saturating_since(at));
        if let Some(since) = since.filter(|since| !feed.source.starts_with('/') && *since < PEACE) {
            let left = (PEACE - since).as_secs() + 1;
            return Err(OpError::refused(format!("its server was asked a moment ago: try again in {left} s")));
        }
        self.read_and_take(context, feed, request).await
    }

    /// Reads the feeds whose time has come, one after the other, and says when the next one's does.
    pub async fn read_due_feeds(&self) -> Duration {
        loop {
            let Ok(feeds) = self.store().feeds().await else { return PEACE };
            let now = self.now();
            let enabled = feeds.into_iter().filter(|feed| feed.enabled);
            // A clock that was set back must not make one wait for longer than it ever would.
            let longest = |feed: &StoredFeed| feed.interval.max(feed::LONGEST_BACK_OFF);
            let due = |feed: &StoredFeed| feed.next_at.min(now.saturating_add(longest(feed)));
            let Some(next) = enabled.min_by_key(due) else { return feed::LONGEST_INTERVAL };
            if due(&next) > now {
                return due(&next).saturating_since(now);
            }
            let _reading = self.inner.reading.lock().await;
            // Somebody may have read, changed or removed it meanwhile.
            let Ok(feed) = self.stored_feed(next.name.as_str()).await else { continue };
            if feed != next {
                continue;
            }
            let name = feed.name.clone();
            if let Err(error) = self.read_and_take(&Context::daemon(), feed, RefreshFeed::default()).await {
                tracing::info!(feed = %name, error = %error.message, "a feed stays as it was");
                if self.stored_feed(name.as_str()).await.is_ok_and(|feed| feed.next_at <= now) {
                    // Not even the failure could be stored: not again at once.
                    return PEACE;
                }
            }
        }
    }

    async fn read_and_take(
        &self,
        context: &Context,
        feed: StoredFeed,
        request: RefreshFeed,
    ) -> Result<FeedAnswer, OpError> {
        let read = self.read_feed(&feed).await;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            match read {
                Ok(list) => operations.take_list(&context, feed, list, request).await,
                Err(why) if request.dry_run => Err(failed(&feed, &why)),
                Err(why) => Err(operations.feed_failed(feed, &why).await),
            }
        })
        .await
    }

    /// Makes the rules of a feed equal what it lists. The caller holds the lock on changes.
    pub(super) async fn take_list(
        &self,
        context: &Context,
        feed: StoredFeed,
        list: List,
        request: RefreshFeed,
    ) -> Result<FeedAnswer, OpError> {
        let RefreshFeed { dry_run, restore } = request;
        match self.plan_feed(&feed, list, restore).await {
            Ok((plan, sorted, shared)) => self.follow_list(context, feed, (plan, sorted, shared), dry_run).await,
            Err(error) if dry_run => Err(failed(&feed, &error.message)),
            Err(error) => Err(self.feed_failed(feed, &error.message).await),
        }
    }

    async fn follow_list(
        &self,
        context: &Context,
        feed: StoredFeed,
        (plan, sorted, shared): (Plan, Sorted, usize),
        dry_run: bool,
    ) -> Result<FeedAnswer, OpError> {
        let replaced: BTreeSet<Prefix> = plan.added.iter().map(|rule| rule.prefix).collect();
        let removed = plan.removed.iter().filter(|rule| !replaced.contains(&rule.prefix)).count();
        let added = plan.added.iter().filter(|rule| rule.feed() == Some(feed.name.as_str())).count();
        let now = self.now();
        let blocking = sorted.taken.len() - shared;
        let state = FeedState {
            tried_at: Some(now),
            read_at: Some(now),
            entries: sorted.entries,
            blocking,
            shared,
            left_out: sorted.left_out.len(),
            left_out_lines: sorted.left_out.iter().take(NAMED).map(ToString::to_string).collect(),
            ..FeedState::default()
        };
        let new = StoredFeed { next_at: now.saturating_add(feed.interval), state, ..feed.clone() };
        let mut answer = FeedAnswer::of(Did::Unchanged, dry_run, &new);
        (answer.added, answer.removed, answer.kept) = (added, removed, blocking - added);
        if added > 0 || removed > 0 {
            answer.did = Did::Updated;
        }
        answer.notes.extend(self.only_sockets());
        answer.notes.extend(left_out_note(&sorted.left_out));
        if shared > 0 {
            answer.notes.push(format!("{shared} of its entries are blocked by rules of somebody else, which stay"));
        }
        if dry_run {
            return Ok(answer);
        }
        let wording = Wording {
            verb: "feed.refresh",
            object: format!("feed {}", feed.name),
            sentence: format!("the feed {}: {added} blocks new, {removed} gone, {} stay", feed.name, answer.kept),
        };
        if let Err(error) = self.carry_out(context, plan, &wording).await {
            return Err(self.feed_failed(feed, &error.message).await);
        }
        let mut told = Vec::new();
        let event = |message| NewEvent { at: now, kind: EventKind::Feeds, prefix: None, interface: None, message };
        if feed.state.problem.is_some() {
            told.push(event(format!("the feed {} is taken again", feed.name)));
        }
        if new.state.left_out_lines != feed.state.left_out_lines
            && let Some(note) = left_out_note(&sorted.left_out)
        {
            told.push(event(format!("the feed {}: {note}", feed.name)));
        }
        let (_, events) = self.store().keep_feed(&new, None, &told).await?;
        self.publish(events);
        answer.item = FeedView::of(&new);
        Ok(answer)
    }

    /// Keeps that a feed could not be taken, tells it when that is news, and says it as an error.
    async fn feed_failed(&self, feed: StoredFeed, why: &str) -> OpError {
        let now = self.now();
        let error = failed(&feed, why);
        let failures = feed.state.failures.saturating_add(1);
        let news = feed.state.problem.as_deref() != Some(why);
        let state = FeedState {
            tried_at: Some(now),
            failures,
            failing_since: feed.state.failing_since.or(Some(now)),
            problem: Some(why.to_owned()),
            ..feed.state.clone()
        };
        let next_at = now.saturating_add(feed::pause(feed.interval, failures));
        let message = error.message.clone();
        let told = NewEvent { at: now, kind: EventKind::Feeds, prefix: None, interface: None, message };
        let told = if news { vec![told] } else { Vec::new() };
        match self.store().keep_feed(&StoredFeed { next_at, state, ..feed }, None, &told).await {
            Ok((_, events)) => self.publish(events),
            Err(error) => tracing::warn!(%error, "how reading a feed went is not stored"),
        }
        error
    }

    /// What has to change, what of the list can be blocked, and how much of that somebody else blocks.
    async fn plan_feed(&self, feed: &StoredFeed, list: List, restore: bool) -> Result<(Plan, Sorted, usize), OpError> {
        let surroundings = self.look_around().await?;
        list.check(&surroundings).map_err(|error| OpError::refused(error.to_string()))?;
        let listed: BTreeMap<Prefix, bool> = self.store().feed_entries(feed.id).await?.into_iter().collect();
        let mut spared = self.spared(&surroundings).await?;
        let released = listed.iter().filter(|(_, released)| **released).map(|(prefix, _)| *prefix);
        let released: Vec<Prefix> = released.collect();
        if !restore {
            released.iter().for_each(|prefix| spared.released(*prefix));
        }
        let entries = list.entries.len();
        // A quarter of a million lookups: off the async threads.
        let sorting = move || {
            let (taken, left_out) = spared.divide(list.entries);
            Sorted { entries, taken, left_out, spared }
        };
        let sorted =
            tokio::task::spawn_blocking(sorting).await.map_err(|error| OpError::internal(error.to_string()))?;
        let (mut plan, shared) = self.difference(feed, &sorted, &listed);
        if restore {
            plan.restored = released;
        }
        self.hand_over(feed, &mut plan, Some(&sorted.spared)).await?;
        if !plan.added.is_empty() || !plan.removed.is_empty() {
            // Who connected or registered since the list was sorted.
            self.lets_in(&plan, false).await?;
            self.fits(&plan).await?;
        }
        Ok((plan, sorted, shared))
    }

    fn difference(&self, feed: &StoredFeed, sorted: &Sorted, listed: &BTreeMap<Prefix, bool>) -> (Plan, usize) {
        let by = rule::made_by_feed(&feed.name);
        let now = self.now();
        let book = self.book();
        let mut plan = Plan::default();
        let mut shared = 0;
        let mut id = book.next_id();
        let mut wanted = BTreeSet::new();
        for entry in &sorted.taken {
            wanted.insert(entry.prefix);
            match book.of(&entry.prefix, Action::Block) {
                Some(rule) if rule.feed() == Some(feed.name.as_str()) => {}
                Some(_) => shared += 1,
                None => {
                    plan.added.push(Rule {
                        id,
                        prefix: entry.prefix,
                        action: Action::Block,
                        zone: Zone::Any,
                        origin: Origin::Feed,
                        description: entry.comment.clone(),
                        created_at: now,
                        created_by: by.clone(),
                        expires_at: None,
                    });
                    id += 1;
                }
            }
        }
        let own = book.with(Action::Block).filter(|rule| rule.feed() == Some(feed.name.as_str()));
        plan.removed = own.filter(|rule| !wanted.contains(&rule.prefix)).cloned().collect();
        // What was released goes on being listed, so that it goes on being known.
        wanted.extend(sorted.left_out.iter().filter(|line| line.why == Why::Released).map(|line| line.prefix));
        plan.feed = Some(FeedEntries {
            feed: feed.id,
            joined: wanted.iter().filter(|prefix| !listed.contains_key(prefix)).copied().collect(),
            left: listed.keys().filter(|prefix| !wanted.contains(prefix)).copied().collect(),
        });
        (plan, shared)
    }

    /// Rules of a feed that go, and that another feed lists as well, become that one's.
    pub(super) async fn hand_over(
        &self,
        feed: &StoredFeed,
        plan: &mut Plan,
        spared: Option<&Spared>,
    ) -> Result<(), OpError> {
        let going: BTreeSet<Prefix> = plan.removed.iter().map(|rule| rule.prefix).collect();
        if going.is_empty() {
            return Ok(());
        }
        let others: BTreeMap<_, _> = self.store().listed_elsewhere(feed.id, &going).await?.into_iter().collect();
        for rule in &plan.removed {
            let Some(other) = others.get(&rule.prefix) else { continue };
            if spared.is_some_and(|spared| spared.why(&rule.prefix).is_some()) {
                continue;
            }
            plan.added.push(Rule { created_by: rule::made_by_feed(other), ..rule.clone() });
        }
        Ok(())
    }

    /// Whom no list may hit.
    async fn spared(&self, surroundings: &Surroundings) -> Result<Spared, OpError> {
        let mut spared = Spared::default();
        for peer in self.registered_peers().await {
            let number = peer.service.strip_prefix(PHONE).unwrap_or(&peer.service).to_owned();
            spared.address(peer.addr, Why::Phone(number));
        }
        for peer in &surroundings.peers {
            spared.address(peer.addr, Why::Connected(format!("{} on port {}", peer.service, peer.port)));
        }
        let now = self.now();
        for known in self.store().known(now.saturating_sub(known::LIFE)).await? {
            spared.address(known.address, Why::Known(known.address));
        }
        let (settings, _) = self.current_settings();
        surroundings.connected.iter().for_each(|network| spared.network(*network));
        settings.network.local_networks.iter().for_each(|network| spared.network(*network));
        let book = self.book();
        book.with(Action::Allow).filter(|rule| rule.is_live(now)).for_each(|rule| spared.allowed(rule.prefix));
        Ok(spared)
    }

    /// Blocks of feeds inside what is allowed from now on go with the change that allows it; what to say of it.
    pub(in crate::ops) fn spare_from_feeds(&self, allowed: &Prefix, plan: &mut Plan) -> Option<String> {
        let book = self.book();
        let inside: Vec<Rule> =
            book.inside(allowed, Action::Block).filter(|rule| rule.feed().is_some()).cloned().collect();
        let first = inside.first()?;
        let feed = first.feed().unwrap_or_default();
        let note = match inside.len() {
            1 => format!("the block of {} from the feed {feed} goes", first.prefix),
            many => format!("{many} blocks of feeds inside it go, {} from the feed {feed} among them", first.prefix),
        };
        plan.removed.extend(inside);
        Some(note)
    }
}

/// A feed that could not be taken, as an error.
fn failed(feed: &StoredFeed, why: &str) -> OpError {
    let StoredFeed { name, source, state, .. } = feed;
    let stay = match state.blocking {
        0 => String::new(),
        blocks => format!("; its {blocks} blocks stay as they are"),
    };
    OpError::refused(format!("the feed {name} cannot be taken: {source} {why}{stay}")).with_code("FEED_FAILED")
}

fn left_out_note(left_out: &[LeftOut]) -> Option<String> {
    let first = left_out.first()?;
    let lines = if left_out.len() == 1 { "1 line".to_owned() } else { format!("{} lines", left_out.len()) };
    Some(format!("{lines} left out: {} {}", first.prefix, first.why))
}
