//! Manual rules on the disk. One call is one transaction: removed, added, audit, events.

use pbx_core::{rule::Rule, time::Timestamp};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Audit, Event, FeedEntries, NewEvent, Store, StoreError, feeds::Released, meta, millis};

/// Rows of one insert statement: 9 columns, and SQLite takes 32,766 values.
const INSERT_ROWS: usize = 1000;
/// Ids of one delete statement.
const DELETE_ROWS: usize = 10_000;

/// A change of rules; a rule that is in both lists under one id was replaced.
#[derive(Clone, Copy, Debug)]
pub struct RuleChange<'a> {
    /// Gone, by id.
    pub removed: &'a [Rule],
    /// New, with their ids.
    pub added: &'a [Rule],
    /// What the audit keeps.
    pub audit: &'a [Audit],
    /// What is told to whoever follows the events.
    pub events: &'a [NewEvent],
    /// The change is too large to be thought of as one step: remember it until the kernel tables have it.
    pub pending: Option<&'a str>,
    /// What a feed lists from now on, and what no longer.
    pub feed: Option<&'a FeedEntries>,
    /// Ranges that no feed blocks again as long as it goes on listing them, or that feeds block again.
    pub released: Option<&'a Released>,
}

impl Store {
    /// Every rule, by id.
    pub async fn rules(&self) -> Result<Vec<Rule>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, prefix, action, zone, origin, description, created_at, created_by, expires_at
             FROM rules ORDER BY id",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.rule(row)).collect()
    }

    /// The id that the next new rule gets; ids are never used twice.
    pub async fn next_rule_id(&self) -> Result<i64, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'rules'")
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(last.unwrap_or(0) + 1)
    }

    /// Commits a change whole or not at all, and returns its events with their ids.
    pub async fn change_rules(&self, change: RuleChange<'_>) -> Result<Vec<Event>, StoreError> {
        let mut transaction = self.begin().await?;
        let events = async {
            delete(&mut transaction, change.removed).await?;
            insert(&mut transaction, change.added).await?;
            if let Some(entries) = change.feed {
                super::feeds::change_entries(&mut transaction, entries).await?;
            }
            if let Some(released) = change.released {
                super::feeds::release(&mut transaction, released).await?;
            }
            for row in change.audit {
                row.insert(&mut transaction).await?;
            }
            if let Some(what) = change.pending {
                meta::set(&mut transaction, meta::PENDING, what).await?;
            }
            super::events::insert(&mut transaction, change.events).await
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(events)
    }

    fn rule(&self, row: &SqliteRow) -> Result<Rule, StoreError> {
        let read = |error: sqlx::Error| self.corrupt(format!("table rules: {error}"));
        let text = |column: usize| row.try_get::<&str, _>(column).map_err(read);
        let id: i64 = row.try_get(0).map_err(read)?;
        let word = |value: &str| self.corrupt(format!("rule {id}: {value:?}"));
        Ok(Rule {
            id,
            prefix: self.prefix(text(1)?)?,
            action: text(2)?.parse().map_err(|_| word(text(2).unwrap_or_default()))?,
            zone: text(3)?.parse().map_err(|_| word(text(3).unwrap_or_default()))?,
            origin: text(4)?.parse().map_err(|_| word(text(4).unwrap_or_default()))?,
            description: text(5)?.to_owned(),
            created_at: Timestamp::from_millis(row.try_get(6).map_err(read)?),
            created_by: text(7)?.to_owned(),
            expires_at: row.try_get::<Option<i64>, _>(8).map_err(read)?.map(Timestamp::from_millis),
        })
    }
}

async fn delete(connection: &mut SqliteConnection, rules: &[Rule]) -> Result<(), sqlx::Error> {
    for chunk in rules.chunks(DELETE_ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM rules WHERE id IN (");
        let mut ids = query.separated(", ");
        for rule in chunk {
            ids.push_bind(rule.id);
        }
        ids.push_unseparated(")");
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, rules: &[Rule]) -> Result<(), sqlx::Error> {
    for chunk in rules.chunks(INSERT_ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO rules (id, prefix, action, zone, origin, description, created_at, created_by, expires_at) ",
        );
        query.push_values(chunk, |mut row, rule| {
            row.push_bind(rule.id)
                .push_bind(rule.prefix.to_string())
                .push_bind(rule.action.to_string())
                .push_bind(rule.zone.to_string())
                .push_bind(rule.origin.to_string())
                .push_bind(rule.description.as_str())
                .push_bind(millis(rule.created_at))
                .push_bind(rule.created_by.as_str())
                .push_bind(rule.expires_at.map(millis));
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}
