//! Who changed what, when: a row for every change, in the transaction of the change. Rows are a chain: each has a hash
//! over its content and the hash of the row before, so that what was changed or taken out later is found. Whoever can
//! write the database could make a whole new chain: the last hash, noted elsewhere, tells.

use pbx_core::time::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Condition, Field, Selection, Store, StoreError, millis};

/// A hash of the chain; zeros stand before the first row.
type Hash = [u8; 32];
/// Rows that are read at once.
const AT_ONCE: i64 = 2000;
/// The columns of a row.
const COLUMNS: &str = "SELECT id, at, actor, origin, what, object, before, after FROM audit";

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

/// What of a row can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditField {
    /// Counts up.
    Id,
    /// When.
    At,
    /// Who.
    Actor,
    /// Over which way.
    Origin,
    /// What was done.
    What,
    /// To what.
    Object,
}

/// What became of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Rows whose hashes are right, from the oldest one that is kept.
    pub rows: u64,
    /// Rows that were removed because they were old, behind the last checkpoint.
    pub pruned: u64,
    /// The hash of the last row, in hexadecimal: noted elsewhere, it proves later that nothing before it was changed.
    pub head: String,
    /// The first row that is not what it was, or what is missing.
    pub broken: Option<String>,
}

impl Field for AuditField {
    const NEWEST: &'static str = "id DESC";

    fn sql(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::At => "at",
            Self::Actor => "actor",
            Self::Origin => "origin",
            Self::What => "what",
            Self::Object => "object",
        }
    }
}

impl Audit {
    pub(super) async fn insert(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let hash = self.hash(&last_hash(connection).await?);
        sqlx::query(
            "INSERT INTO audit (at, actor, origin, what, object, before, after, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(millis(self.at))
        .bind(&self.actor)
        .bind(&self.origin)
        .bind(&self.what)
        .bind(&self.object)
        .bind(&self.before)
        .bind(&self.after)
        .bind(hash.as_slice())
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Over the hash before and each field with its length, so that no text can pass for two.
    fn hash(&self, before: &Hash) -> Hash {
        let mut context = Context::new(&SHA256);
        context.update(before);
        context.update(&millis(self.at).to_be_bytes());
        let texts = [&self.actor, &self.origin, &self.what, &self.object].map(Some);
        for text in texts.into_iter().chain([self.before.as_ref(), self.after.as_ref()]) {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            context.update(&length.to_be_bytes());
            context.update(text.map_or(b"".as_slice(), |text| text.as_bytes()));
        }
        hash_of(context.finish().as_ref()).unwrap_or_default()
    }
}

impl AuditRow {
    fn content(self) -> Audit {
        let Self { id: _, at, actor, origin, what, object, before, after } = self;
        Audit { at, actor, origin, what, object, before, after }
    }
}

impl Store {
    /// Writes one row by itself, for a change that only the kernel held.
    pub async fn audit(&self, row: &Audit) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        row.insert(&mut transaction).await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }

    /// A page of rows.
    pub async fn audit_page(&self, selection: &Selection<AuditField>) -> Result<Vec<AuditRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        selection.push(&mut query);
        self.read_audit(query).await
    }

    /// How many there are.
    pub async fn count_audit(&self, condition: &Condition<AuditField>) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM audit WHERE ");
        condition.push(&mut query);
        let count: Result<i64, _> = query.build_query_scalar().persistent(false).fetch_one(&self.readers).await;
        Ok(count.map_err(|error| self.failed(error))?.cast_unsigned())
    }

    /// Those before this one, newest first, for whoever reads all of them page by page; without one, the newest.
    pub async fn audit_before(
        &self,
        condition: &Condition<AuditField>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" WHERE id < ").push_bind(before.unwrap_or(i64::MAX)).push(" AND ");
        condition.push(&mut query);
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        self.read_audit(query).await
    }

    /// The newest rows about exactly these objects, newest first.
    pub async fn audit_about(&self, objects: &[String], limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" WHERE object IN (");
        let mut list = query.separated(", ");
        for object in objects {
            list.push_bind(object);
        }
        list.push_unseparated(") ORDER BY id DESC LIMIT ");
        query.push_bind(limit);
        self.read_audit(query).await
    }

    /// Follows the whole chain. Reads every row: for an administrator who asks, not for a page.
    pub async fn verify_audit(&self) -> Result<Verified, StoreError> {
        let failed = |error| self.failed(error);
        // One snapshot, so that rows and the highest number ever used are of the same moment.
        let mut snapshot = self.readers.begin().await.map_err(failed)?;
        let (mut last, pruned, mut hash) = checkpoint(&mut snapshot).await.map_err(failed)?;
        let mut verified = Verified { rows: 0, pruned: pruned.cast_unsigned(), head: String::new(), broken: None };
        'chain: loop {
            let rows = sqlx::query(
                "SELECT id, at, actor, origin, what, object, before, after, hash FROM audit \
                 WHERE id > ? ORDER BY id LIMIT ?",
            )
            .bind(last)
            .bind(AT_ONCE)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(failed)?;
            for row in &rows {
                let stored = row.get::<Option<&[u8]>, _>(8).and_then(hash_of);
                let read = of_row(row);
                let (id, at) = (read.id, read.at);
                let right = read.content().hash(&hash);
                if stored != Some(right) {
                    verified.broken =
                        Some(format!("row {id} of {at} or the one before it was changed, or a row between is missing"));
                    break 'chain;
                }
                (last, hash) = (id, right);
                verified.rows += 1;
            }
            if rows.is_empty() {
                break;
            }
        }
        let used: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")
            .fetch_optional(&mut *snapshot)
            .await
            .map_err(failed)?;
        if let (None, Some(used)) = (&verified.broken, used.filter(|used| *used > last)) {
            verified.broken = Some(format!("the last rows are missing: there was one with the number {used}"));
        }
        verified.head = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(verified)
    }

    /// Removes the oldest rows, up to the first of `keep_from` or later; a checkpoint with the last one's hash stands
    /// for them. How many went.
    pub async fn prune_audit(&self, keep_from: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let gone = async {
            let (through, rows, _) = checkpoint(&mut transaction).await?;
            let last: Option<(i64, Vec<u8>)> = sqlx::query_as(
                "SELECT id, hash FROM audit WHERE id < ifnull((SELECT min(id) FROM audit WHERE at >= ?), \
                 (SELECT max(id) + 1 FROM audit)) ORDER BY id DESC LIMIT 1",
            )
            .bind(millis(keep_from))
            .fetch_optional(&mut *transaction)
            .await?;
            let Some((last, hash)) = last.filter(|(last, _)| *last > through) else { return Ok(0) };
            let gone: i64 = sqlx::query_scalar("SELECT count(*) FROM audit WHERE id <= ?")
                .bind(last)
                .fetch_one(&mut *transaction)
                .await?;
            sqlx::query("INSERT INTO audit_checkpoints (at, through, rows, hash) VALUES (?, ?, ?, ?)")
                .bind(millis(now))
                .bind(last)
                .bind(rows + gone)
                .bind(hash)
                .execute(&mut *transaction)
                .await?;
            sqlx::query("DELETE FROM audit WHERE id <= ?").bind(last).execute(&mut *transaction).await?;
            Ok(gone.cast_unsigned())
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(gone)
    }

    /// Makes up the hashes of rows that were written before there was a chain. To be called when the store is opened.
    pub(super) async fn chain_audit(&self) -> Result<(), StoreError> {
        loop {
            let mut transaction = self.begin().await?;
            let done = async {
                let rows = sqlx::query(
                    "SELECT id, at, actor, origin, what, object, before, after FROM audit \
                     WHERE hash IS NULL ORDER BY id LIMIT ?",
                )
                .bind(AT_ONCE)
                .fetch_all(&mut *transaction)
                .await?;
                let mut hash = last_hash(&mut transaction).await?;
                for row in &rows {
                    let row = of_row(row);
                    let id = row.id;
                    hash = row.content().hash(&hash);
                    sqlx::query("UPDATE audit SET hash = ? WHERE id = ?")
                        .bind(hash.as_slice())
                        .bind(id)
                        .execute(&mut *transaction)
                        .await?;
                }
                Ok(rows.is_empty())
            }
            .await
            .map_err(|error| self.failed(error))?;
            self.commit(transaction).await?;
            if done {
                return Ok(());
            }
        }
    }

    async fn read_audit(&self, mut query: QueryBuilder<Sqlite>) -> Result<Vec<AuditRow>, StoreError> {
        let rows = query.build().persistent(false).fetch_all(&self.readers).await;
        Ok(rows.map_err(|error| self.failed(error))?.iter().map(of_row).collect())
    }
}

/// The hash that the next row follows.
async fn last_hash(connection: &mut SqliteConnection) -> Result<Hash, sqlx::Error> {
    let last: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT hash FROM audit WHERE hash IS NOT NULL ORDER BY id DESC LIMIT 1")
            .fetch_optional(&mut *connection)
            .await?;
    match last.as_deref().and_then(hash_of) {
        Some(hash) => Ok(hash),
        None => Ok(checkpoint(connection).await?.2),
    }
}

/// The last row that was removed, how many have been, and the hash of the last.
async fn checkpoint(connection: &mut SqliteConnection) -> Result<(i64, i64, Hash), sqlx::Error> {
    let last: Option<(i64, i64, Vec<u8>)> =
        sqlx::query_as("SELECT through, rows, hash FROM audit_checkpoints ORDER BY id DESC LIMIT 1")
            .fetch_optional(connection)
            .await?;
    Ok(last.map_or_else(Default::default, |(through, rows, hash)| (through, rows, hash_of(&hash).unwrap_or_default())))
}

fn hash_of(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().ok()
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

#[cfg(test)]
impl Store {
    /// The newest rows, newest first.
    pub(crate) async fn audit_rows(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.audit_before(&Condition::All(Vec::new()), None, limit).await
    }
}
