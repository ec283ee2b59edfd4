//! Block lists that others keep: where they are, how reading them went, and what each of them lists.

use std::{collections::BTreeSet, time::Duration};

use pbx_core::{address::Prefix, feed::FeedName, time::Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Audit, Event, NewEvent, Store, StoreError, millis};

/// Rows of one statement.
const ROWS: usize = 1000;

/// A feed as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFeed {
    /// Its number; 0: it gets one.
    pub id: i64,
    /// Its name, which stays.
    pub name: FeedName,
    /// A file's path, or an address.
    pub source: String,
    /// How often it is read.
    pub interval: Duration,
    /// Entries that it may have.
    pub most: u32,
    /// It is read, and its entries block.
    pub enabled: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it is read next.
    pub next_at: Timestamp,
    /// How reading it went.
    pub state: FeedState,
}

/// How reading a feed went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeedState {
    /// When it was tried last.
    pub tried_at: Option<Timestamp>,
    /// When it was read last.
    pub read_at: Option<Timestamp>,
    /// Entries that it had then.
    pub entries: usize,
    /// Of them, those that block.
    pub blocking: usize,
    /// Of them, those for which there is a rule of somebody else.
    pub shared: usize,
    /// Of them, those that would hit somebody legitimate.
    pub left_out: usize,
    /// The first of these, a line each.
    pub left_out_lines: Vec<String>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// When the first of them was.
    pub failing_since: Option<Timestamp>,
    /// Why the last one failed.
    pub problem: Option<String>,
}

/// What a feed lists from now on, and what no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedEntries {
    /// The number of the feed.
    pub feed: i64,
    /// What it lists that it did not.
    pub joined: Vec<Prefix>,
    /// What it listed.
    pub left: Vec<Prefix>,
}

/// Ranges that were unblocked by hand (`by_hand`), or whose release is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The ranges, as far as feeds list them.
    pub prefixes: Vec<Prefix>,
    /// They stay away; otherwise feeds block them again.
    pub by_hand: bool,
}

impl FeedEntries {
    /// The way back.
    #[must_use]
    pub fn back(self) -> Self {
        let Self { feed, joined, left } = self;
        Self { feed, joined: left, left: joined }
    }
}

impl Store {
    /// Every feed, by name.
    pub async fn feeds(&self) -> Result<Vec<StoredFeed>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, source, interval_ms, most, enabled, created_at, created_by, next_at, state
             FROM feeds ORDER BY name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.feed(row)).collect()
    }

    /// Stores a new feed, or what is different about an old one, and returns its number.
    pub async fn keep_feed(
        &self,
        feed: &StoredFeed,
        audit: Option<&Audit>,
        events: &[NewEvent],
    ) -> Result<(i64, Vec<Event>), StoreError> {
        let state = serde_json::to_string(&feed.state).map_err(|error| self.corrupt(error.to_string()))?;
        let mut transaction = self.begin().await?;
        let done = async {
            let id: i64 = sqlx::query_scalar(
                "INSERT INTO feeds (id, name, source, interval_ms, most, enabled, created_at, created_by, next_at, state)
                 VALUES (nullif(?, 0), ?, ?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET source = excluded.source, interval_ms = excluded.interval_ms,
                     most = excluded.most, enabled = excluded.enabled, next_at = excluded.next_at,
                     state = excluded.state
                 RETURNING id",
            )
            .bind(feed.id)
            .bind(feed.name.as_str())
            .bind(&feed.source)
            .bind(i64::try_from(feed.interval.as_millis()).unwrap_or(i64::MAX))
            .bind(feed.most)
            .bind(feed.enabled)
            .bind(millis(feed.created_at))
            .bind(&feed.created_by)
            .bind(millis(feed.next_at))
            .bind(state)
            .fetch_one(&mut *transaction)
            .await?;
            if let Some(audit) = audit {
                audit.insert(&mut transaction).await?;
            }
            Ok((id, super::events::insert(&mut transaction, events).await?))
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(done)
    }

    /// Forgets a feed and what it lists. Its rules are another matter.
    pub async fn forget_feed(&self, id: i64, audit: &Audit, events: &[NewEvent]) -> Result<Vec<Event>, StoreError> {
        let mut transaction = self.begin().await?;
        let events = async {
            sqlx::query("DELETE FROM feeds WHERE id = ?").bind(id).execute(&mut *transaction).await?;
            audit.insert(&mut transaction).await?;
            super::events::insert(&mut transaction, events).await
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(events)
    }

    /// What a feed listed when it was read last, and which of it somebody has released.
    pub async fn feed_entries(&self, feed: i64) -> Result<Vec<(Prefix, bool)>, StoreError> {
        let rows = sqlx::query("SELECT prefix, released FROM feed_entries WHERE feed = ?")
            .bind(feed)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| Ok((self.prefix(row.get(0))?, row.get(1)))).collect()
    }

    /// Which of these ranges a feed other than `feed` lists as well and nobody has released, and the name of the first
    /// such feed that is enabled.
    pub async fn listed_elsewhere(
        &self,
        feed: i64,
        prefixes: &BTreeSet<Prefix>,
    ) -> Result<Vec<(Prefix, FeedName)>, StoreError> {
        let rows = sqlx::query(
            "SELECT entry.prefix, min(feeds.name) FROM feed_entries AS entry JOIN feeds ON feeds.id = entry.feed
             WHERE entry.feed <> ?1 AND feeds.enabled = 1 AND entry.released = 0
             AND entry.prefix IN (SELECT prefix FROM feed_entries WHERE feed = ?1)
             GROUP BY entry.prefix",
        )
        .bind(feed)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        let mut found = Vec::new();
        for row in &rows {
            let prefix = self.prefix(row.get(0))?;
            if prefixes.contains(&prefix) {
                found.push((prefix, self.feed_name(row.get(1))?));
            }
        }
        Ok(found)
    }

    fn feed(&self, row: &SqliteRow) -> Result<StoredFeed, StoreError> {
        let name: &str = row.get(1);
        let state: &str = row.get(9);
        Ok(StoredFeed {
            id: row.get(0),
            name: self.feed_name(name)?,
            source: row.get(2),
            interval: Duration::from_millis(u64::try_from(row.get::<i64, _>(3)).unwrap_or_default()),
            most: row.get(4),
            enabled: row.get(5),
            created_at: Timestamp::from_millis(row.get(6)),
            created_by: row.get(7),
            next_at: Timestamp::from_millis(row.get(8)),
            state: serde_json::from_str(state)
                .map_err(|error| self.corrupt(format!("state of the feed {name}: {error}")))?,
        })
    }

    fn feed_name(&self, text: &str) -> Result<FeedName, StoreError> {
        text.parse().map_err(|_| self.corrupt(format!("name of a feed {text:?}")))
    }
}

pub(super) async fn change_entries(
    connection: &mut SqliteConnection,
    entries: &FeedEntries,
) -> Result<(), sqlx::Error> {
    let FeedEntries { feed, joined, left } = entries;
    for chunk in left.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM feed_entries WHERE feed = ");
        query.push_bind(*feed);
        within(&mut query, chunk);
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    for chunk in joined.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT OR IGNORE INTO feed_entries (prefix, feed, released) ");
        query.push_values(chunk, |mut row, prefix| {
            row.push_bind(prefix.to_string()).push_bind(*feed).push_bind(false);
        });
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn release(connection: &mut SqliteConnection, released: &Released) -> Result<(), sqlx::Error> {
    for chunk in released.prefixes.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE feed_entries SET released = ");
        query.push_bind(released.by_hand);
        query.push(" WHERE true");
        within(&mut query, chunk);
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

fn within(query: &mut QueryBuilder<Sqlite>, prefixes: &[Prefix]) {
    query.push(" AND prefix IN (");
    let mut list = query.separated(", ");
    for prefix in prefixes {
        list.push_bind(prefix.to_string());
    }
    list.push_unseparated(")");
}
