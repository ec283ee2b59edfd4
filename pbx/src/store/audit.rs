//! Who changed what, when: a row for every change, in the transaction of the change.

use pbx_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError, millis};

/// A row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Over which way (`socket`, `daemon`).
    pub origin: String,
    /// What was done, noun and verb (`rule.add`).
    pub what: String,
    /// To what.
    pub object: String,
    /// How it was, as JSON.
    pub before: Option<String>,
    /// How it is, as JSON.
    pub after: Option<String>,
}

/// A row as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Over which way.
    pub origin: String,
    /// What was done.
    pub what: String,
    /// To what.
    pub object: String,
    /// How it was, as JSON.
    pub before: Option<String>,
    /// How it is, as JSON.
    pub after: Option<String>,
}

impl Audit {
    pub(super) async fn insert(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT INTO audit (at, actor, origin, what, object, before, after) VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(millis(self.at))
            .bind(&self.actor)
            .bind(&self.origin)
            .bind(&self.what)
            .bind(&self.object)
            .bind(&self.before)
            .bind(&self.after)
            .execute(connection)
            .await?;
        Ok(())
    }
}

impl Store {
    /// Writes one row by itself, for a change that only the kernel held.
    pub async fn audit(&self, row: &Audit) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        row.insert(&mut transaction).await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }

    /// The newest rows, newest first.
    pub async fn audit_rows(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at, actor, origin, what, object, before, after FROM audit ORDER BY id DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        Ok(rows.iter().map(of_row).collect())
    }

    /// The newest rows about exactly these objects, newest first.
    pub async fn audit_about(&self, objects: &[String], limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT id, at, actor, origin, what, object, before, after FROM audit WHERE object IN (",
        );
        let mut list = query.separated(", ");
        for object in objects {
            list.push_bind(object);
        }
        list.push_unseparated(") ORDER BY id DESC LIMIT ");
        query.push_bind(limit);
        let rows = query.build().fetch_all(&self.readers).await.map_err(|error| self.failed(error))?;
        Ok(rows.iter().map(of_row).collect())
    }
}

fn of_row(row: &SqliteRow) -> AuditRow {
    AuditRow {
        id: row.get(0),
        at: Timestamp::from_millis(row.get(1)),
        actor: row.get(2),
        origin: row.get(3),
        what: row.get(4),
        object: row.get(5),
        before: row.get(6),
        after: row.get(7),
    }
}
