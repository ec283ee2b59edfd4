//! What the guard keeps: why sources were blocked, and who was blocked before. Bounded by number and age.

use pbx_core::{
    address::Prefix,
    guard::{Detector, Offence},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row, sqlite::SqliteRow};

use super::{Store, StoreError, millis};

/// Rows of evidence that are kept; the oldest go.
pub const EVIDENCE_KEPT: i64 = 50_000;
/// Rows that come in between one cleaning and the next.
const CLEANING: i64 = 500;

/// Why a source was blocked, or would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Who.
    pub prefix: Prefix,
    /// By whom.
    pub detector: Detector,
    /// When.
    pub at: Timestamp,
    /// Until when, if nobody ended it.
    pub until: Timestamp,
    /// `false`: its rule only monitored.
    pub enforced: bool,
    /// Whether nobody else can have sent what it rests on.
    pub sure: bool,
    /// Blocks of the same source before, that were not forgotten.
    pub before: u32,
    /// The setting that had the limit.
    pub rule: String,
    /// Its value then.
    pub limit: u32,
    /// The time in which it was counted, in milliseconds.
    pub period_ms: u64,
    /// What was counted.
    pub count: u32,
    /// What other detectors had counted.
    pub counters: Vec<Counter>,
    /// The first that was seen of the source.
    pub first_seen: Timestamp,
    /// The last.
    pub last_seen: Timestamp,
    /// Messages that led to it, secrets masked.
    pub messages: Vec<EvidenceMessage>,
}

/// What a detector had counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Who counted.
    pub detector: Detector,
    /// How often.
    pub count: u32,
}

/// The beginning of a message that led to a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceMessage {
    /// When it came.
    pub at: Timestamp,
    /// What it said, secrets masked.
    pub text: String,
}

impl Store {
    /// Keeps evidence and offenders, and forgets offenders, in one transaction.
    pub async fn keep_guard(
        &self,
        evidence: &[Evidence],
        offences: &[Offence],
        gone: &[Prefix],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            let mut last = None;
            for one in evidence {
                let json = |value: serde_json::Result<String>| value.unwrap_or_else(|_| "[]".to_owned());
                let inserted = sqlx::query(
                    "INSERT INTO evidence (prefix, detector, at, until, enforced, sure, before, rule, limit_was, \
                     period_ms, count, counters, first_seen, last_seen, messages) \
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(one.prefix.to_string())
                .bind(one.detector.as_str())
                .bind(millis(one.at))
                .bind(millis(one.until))
                .bind(i64::from(one.enforced))
                .bind(i64::from(one.sure))
                .bind(one.before)
                .bind(&one.rule)
                .bind(one.limit)
                .bind(i64::try_from(one.period_ms).unwrap_or(i64::MAX))
                .bind(one.count)
                .bind(json(serde_json::to_string(&one.counters)))
                .bind(millis(one.first_seen))
                .bind(millis(one.last_seen))
                .bind(json(serde_json::to_string(&one.messages)))
                .execute(&mut *transaction)
                .await?;
                last = Some(inserted.last_insert_rowid());
            }
            for prefix in gone {
                let query = sqlx::query("DELETE FROM offences WHERE prefix = ?").bind(prefix.to_string());
                query.execute(&mut *transaction).await?;
            }
            for one in offences {
                sqlx::query("INSERT OR REPLACE INTO offences (prefix, sure, unsure, last) VALUES (?, ?, ?, ?)")
                    .bind(one.prefix.to_string())
                    .bind(one.sure)
                    .bind(one.unsure)
                    .bind(millis(one.last))
                    .execute(&mut *transaction)
                    .await?;
            }
            if last.is_some_and(|last| (last - evidence.len() as i64) / CLEANING < last / CLEANING) {
                sqlx::query(
                    "DELETE FROM evidence WHERE id <= (SELECT id FROM evidence ORDER BY id DESC LIMIT 1 OFFSET ?)",
                )
                .bind(EVIDENCE_KEPT - CLEANING)
                .execute(&mut *transaction)
                .await?;
            }
            Ok(())
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }

    /// The newest evidence about exactly these ranges, newest first.
    pub async fn evidence(&self, prefixes: &[Prefix], limit: u32) -> Result<Vec<Evidence>, StoreError> {
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(
            "SELECT prefix, detector, at, until, enforced, sure, before, rule, limit_was, period_ms, count, counters, \
             first_seen, last_seen, messages FROM evidence WHERE prefix IN (",
        );
        let mut list = query.separated(", ");
        for prefix in prefixes {
            list.push_bind(prefix.to_string());
        }
        list.push_unseparated(") ORDER BY id DESC LIMIT ");
        query.push_bind(limit);
        let rows = query.build().fetch_all(&self.readers).await.map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.evidence_of(row)).collect()
    }

    /// Forgets why those were blocked whose blocks ended before `keep_from`, and says how many went.
    pub async fn prune_evidence(&self, keep_from: Timestamp) -> Result<u64, StoreError> {
        let query = sqlx::query("DELETE FROM evidence WHERE until < ?").bind(millis(keep_from));
        Ok(query.execute(&self.writer).await.map_err(|error| self.failed(error))?.rows_affected())
    }

    /// Everybody who was blocked before and is not forgotten since `oldest`.
    pub async fn offences(&self, oldest: Timestamp) -> Result<Vec<Offence>, StoreError> {
        let rows = sqlx::query("SELECT prefix, sure, unsure, last FROM offences WHERE last >= ? ORDER BY last DESC")
            .bind(millis(oldest))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.failed(error))?;
        let offence = |row: &SqliteRow| {
            let (prefix, sure, unsure) = (self.prefix(row.get(0))?, row.get(1), row.get(2));
            Ok(Offence { prefix, sure, unsure, last: Timestamp::from_millis(row.get(3)) })
        };
        rows.iter().map(offence).collect()
    }

    fn evidence_of(&self, row: &SqliteRow) -> Result<Evidence, StoreError> {
        let detector: &str = row.get(1);
        let (counters, messages): (&str, &str) = (row.get(11), row.get(14));
        Ok(Evidence {
            prefix: self.prefix(row.get(0))?,
            detector: Detector::from_name(detector).ok_or_else(|| self.corrupt(format!("detector {detector:?}")))?,
            at: Timestamp::from_millis(row.get(2)),
            until: Timestamp::from_millis(row.get(3)),
            enforced: row.get::<i64, _>(4) == 1,
            sure: row.get::<i64, _>(5) == 1,
            before: row.get(6),
            rule: row.get(7),
            limit: row.get(8),
            period_ms: u64::try_from(row.get::<i64, _>(9)).unwrap_or(0),
            count: row.get(10),
            counters: serde_json::from_str(counters).map_err(|error| self.corrupt(format!("counters: {error}")))?,
            first_seen: Timestamp::from_millis(row.get(12)),
            last_seen: Timestamp::from_millis(row.get(13)),
            messages: serde_json::from_str(messages).map_err(|error| self.corrupt(format!("messages: {error}")))?,
        })
    }
}
