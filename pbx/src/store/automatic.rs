//! Blocks that the kernel made, as the daemon last saw them. The kernel's map is the truth while it lives;
//! these rows are for the time after a reboot, when the map is gone.

use pbx_core::{address::Prefix, guard::Detector, time::Timestamp};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Store, StoreError, millis};
use crate::filter::{AutomaticBlock, BlockKey};

/// Rows of one insert statement.
const INSERT_ROWS: usize = 1000;

/// A block to put back after a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// A host, or the /64 of an IPv6 source.
    pub prefix: Prefix,
    /// What the source did.
    pub reason: Detector,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// `false`: made under monitor.
    pub enforced: bool,
    /// It closes the ports of the web alone.
    pub web_only: bool,
}

impl StoredBlock {
    /// Which it is.
    pub const fn key(&self) -> BlockKey {
        BlockKey { prefix: self.prefix, web_only: self.web_only }
    }
}

impl From<&AutomaticBlock> for StoredBlock {
    fn from(block: &AutomaticBlock) -> Self {
        let AutomaticBlock { prefix, reason, since, expires_at, packets: _, last_seen: _, enforced, web_only } = *block;
        Self { prefix, reason, since, expires_at, enforced, web_only }
    }
}

impl Store {
    /// Those that have not ended at `now`, by range.
    pub async fn automatic(&self, now: Timestamp) -> Result<Vec<StoredBlock>, StoreError> {
        let rows = sqlx::query(
            "SELECT prefix, reason, since, expires_at, enforced, web_only FROM automatic WHERE expires_at > ?
             ORDER BY prefix, web_only",
        )
        .bind(millis(now))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|row| {
                let reason: &str = row.get(1);
                Ok(StoredBlock {
                    prefix: self.prefix(row.get(0))?,
                    reason: Detector::from_name(reason)
                        .ok_or_else(|| self.corrupt(format!("block reason {reason:?}")))?,
                    since: Timestamp::from_millis(row.get(2)),
                    expires_at: Timestamp::from_millis(row.get(3)),
                    enforced: row.get::<i64, _>(4) == 1,
                    web_only: row.get::<i64, _>(5) == 1,
                })
            })
            .collect()
    }

    /// Keeps `seen` (new ones, or ones whose reason or end moved) and forgets `gone`, in one transaction.
    pub async fn keep_automatic(&self, seen: &[StoredBlock], gone: &[BlockKey]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            for chunk in gone.chunks(INSERT_ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM automatic WHERE (prefix, web_only) IN (");
                query.push_values(chunk, |mut row, key| {
                    row.push_bind(key.prefix.to_string()).push_bind(i64::from(key.web_only));
                });
                query.push(")");
                query.build().execute(&mut *transaction).await?;
            }
            for chunk in seen.chunks(INSERT_ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new(
                    "INSERT OR REPLACE INTO automatic (prefix, reason, since, expires_at, enforced, web_only) ",
                );
                query.push_values(chunk, |mut row, block| {
                    row.push_bind(block.prefix.to_string())
                        .push_bind(block.reason.as_str())
                        .push_bind(millis(block.since))
                        .push_bind(millis(block.expires_at))
                        .push_bind(i64::from(block.enforced))
                        .push_bind(i64::from(block.web_only));
                });
                query.build().execute(&mut *transaction).await?;
            }
            Ok(())
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }
}
