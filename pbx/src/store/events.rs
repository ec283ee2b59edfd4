//! What happened: blocks that the kernel made, changes of state. Bounded: the oldest rows go, and those about
//! registrations before the others.

use pbx_core::{address::Prefix, time::Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Condition, Field, Selection, Store, StoreError, millis};

/// Rows that are kept of all kinds together, and a few less after each cleaning.
pub const EVENTS_KEPT: i64 = 100_000;
/// Rows of them about registrations: phones make these, as many as they like, and what the filter did has to stay.
const REGISTRATIONS_KEPT: i64 = 20_000;
/// Rows that come in between one cleaning and the next: looking for the oldest row of a kind costs milliseconds.
const CLEANING: i64 = 1000;
/// Rows of one statement: five columns, and SQLite takes 32,766 values. A statement of several rows is not kept
/// prepared: there is one for each number of rows, and they are large.
const ROWS: usize = 1000;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A source was blocked by the filter.
    Block,
    /// An automatic block ended or was removed.
    Unblock,
    /// The guard against floods of new sources went on or off, or the table of blocks is full.
    Guard,
    /// An interface was attached, detached, refused, or came back.
    Interface,
    /// Rules were added or removed by somebody, or expired.
    Rules,
    /// Settings were changed.
    Settings,
    /// Tenants or extensions were added, changed or removed.
    Accounts,
    /// A transport was opened, changed, closed, or does not open.
    Transports,
    /// A registration was ended by somebody.
    Registrations,
    /// A call was ended by somebody, or records of calls were closed, lost or removed.
    Calls,
    /// A feed was added, changed or removed, fails, or is read again.
    Feeds,
    /// A certificate ends soon, or was replaced.
    Certificate,
    /// The disk is nearly full, or has room again.
    Disk,
    /// How administrators are told was changed.
    Notify,
    /// The daemon started, stopped, or finished what an earlier one had begun.
    Daemon,
}

/// An event that has no id yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// What kind.
    pub kind: EventKind,
    /// Whom it is about.
    pub prefix: Option<Prefix>,
    /// Where.
    pub interface: Option<String>,
    /// One sentence for a person.
    pub message: String,
}

/// An event as it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What kind.
    pub kind: EventKind,
    /// Whom it is about.
    pub prefix: Option<Prefix>,
    /// Where.
    pub interface: Option<String>,
    /// One sentence for a person.
    pub message: String,
}

/// What of an event can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventField {
    /// Counts up.
    Id,
    /// When.
    At,
    /// What kind.
    Kind,
    /// Whom it is about, as text.
    Prefix,
    /// Where.
    Interface,
    /// The sentence.
    Message,
}

impl Field for EventField {
    const NEWEST: &'static str = "id DESC";

    fn sql(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::At => "at",
            Self::Kind => "kind",
            Self::Prefix => "prefix",
            Self::Interface => "interface",
            Self::Message => "message",
        }
    }
}

impl EventKind {
    const ALL: [Self; 15] = [
        Self::Block,
        Self::Unblock,
        Self::Guard,
        Self::Interface,
        Self::Rules,
        Self::Settings,
        Self::Accounts,
        Self::Transports,
        Self::Registrations,
        Self::Calls,
        Self::Feeds,
        Self::Certificate,
        Self::Disk,
        Self::Notify,
        Self::Daemon,
    ];

    /// The name in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Guard => "guard",
            Self::Interface => "interface",
            Self::Rules => "rules",
            Self::Settings => "settings",
            Self::Accounts => "accounts",
            Self::Transports => "transports",
            Self::Registrations => "registrations",
            Self::Calls => "calls",
            Self::Feeds => "feeds",
            Self::Certificate => "certificate",
            Self::Disk => "disk",
            Self::Notify => "notify",
            Self::Daemon => "daemon",
        }
    }
}

impl Store {
    /// Stores events in one transaction and returns them with their ids.
    pub async fn add_events(&self, events: &[NewEvent]) -> Result<Vec<Event>, StoreError> {
        let mut transaction = self.begin().await?;
        let stored = insert(&mut transaction, events).await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(stored)
    }

    /// The newest events at or after `since`, newest first, at most `limit`.
    pub async fn events(&self, since: Timestamp, limit: u32) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at, kind, prefix, interface, message FROM events WHERE at >= ? ORDER BY id DESC LIMIT ?",
        )
        .bind(millis(since))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.event(row)).collect()
    }

    /// A page of events.
    pub async fn events_page(&self, selection: &Selection<EventField>) -> Result<Vec<Event>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id, at, kind, prefix, interface, message FROM events");
        selection.push(&mut query);
        let rows = query.build().persistent(false).fetch_all(&self.readers).await;
        rows.map_err(|error| self.failed(error))?.iter().map(|row| self.event(row)).collect()
    }

    /// How many there are.
    pub async fn count_events(&self, condition: &Condition<EventField>) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM events WHERE ");
        condition.push(&mut query);
        let count: Result<i64, _> = query.build_query_scalar().persistent(false).fetch_one(&self.readers).await;
        Ok(count.map_err(|error| self.failed(error))?.cast_unsigned())
    }

    /// Forgets what happened before `keep_from`, and says how much.
    pub async fn prune_events(&self, keep_from: Timestamp) -> Result<u64, StoreError> {
        let deleted = sqlx::query(
            "DELETE FROM events WHERE id < (SELECT min(id) FROM events WHERE at >= ?1) OR \
             (at < ?1 AND NOT EXISTS (SELECT 1 FROM events WHERE at >= ?1))",
        )
        .bind(millis(keep_from))
        .execute(&self.writer)
        .await;
        Ok(deleted.map_err(|error| self.failed(error))?.rows_affected())
    }

    /// The newest events about exactly these ranges, newest first.
    pub async fn events_about(&self, prefixes: &[Prefix], limit: u32) -> Result<Vec<Event>, StoreError> {
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(
            "SELECT id, at, kind, prefix, interface, message FROM events WHERE prefix IN (",
        );
        let mut list = query.separated(", ");
        for prefix in prefixes {
            list.push_bind(prefix.to_string());
        }
        list.push_unseparated(") ORDER BY id DESC LIMIT ");
        query.push_bind(limit);
        let rows = query.build().fetch_all(&self.readers).await.map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.event(row)).collect()
    }

    fn event(&self, row: &SqliteRow) -> Result<Event, StoreError> {
        let kind: &str = row.get(2);
        Ok(Event {
            id: row.get(0),
            at: Timestamp::from_millis(row.get(1)),
            kind: EventKind::ALL
                .into_iter()
                .find(|known| known.as_str() == kind)
                .ok_or_else(|| self.corrupt(format!("event kind {kind:?}")))?,
            prefix: row.get::<Option<&str>, _>(3).map(|text| self.prefix(text)).transpose()?,
            interface: row.get(4),
            message: row.get(5),
        })
    }
}

pub(super) async fn insert(connection: &mut SqliteConnection, events: &[NewEvent]) -> Result<Vec<Event>, sqlx::Error> {
    let mut stored = Vec::with_capacity(events.len());
    for chunk in events.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO events (at, kind, prefix, interface, message) ");
        query.push_values(chunk, |mut row, event| {
            row.push_bind(millis(event.at))
                .push_bind(event.kind.as_str())
                .push_bind(event.prefix.map(|prefix| prefix.to_string()))
                .push_bind(event.interface.as_deref())
                .push_bind(event.message.as_str());
        });
        let query = query.build().persistent(chunk.len() == 1);
        // The rows of a statement get ids in their order, one after the other: nobody else writes meanwhile.
        let first = query.execute(&mut *connection).await?.last_insert_rowid() + 1 - chunk.len() as i64;
        stored.extend((first..).zip(chunk).map(|(id, event)| {
            let NewEvent { at, kind, prefix, interface, message } = event.clone();
            Event { id, at, kind, prefix, interface, message }
        }));
    }
    if let (Some(first), Some(last)) = (stored.first(), stored.last())
        && (first.id - 1) / CLEANING < last.id / CLEANING
    {
        clean(connection, EVENTS_KEPT - CLEANING, REGISTRATIONS_KEPT - CLEANING).await?;
    }
    Ok(stored)
}

/// Leaves the newest rows: this many about registrations, and with them that many in all.
pub(super) async fn clean(connection: &mut SqliteConnection, all: i64, registrations: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM events WHERE kind = ?1 AND id <= \
         (SELECT id FROM events WHERE kind = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(EventKind::Registrations.as_str())
    .bind(registrations)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)")
        .bind(all)
        .execute(connection)
        .await?;
    Ok(())
}
