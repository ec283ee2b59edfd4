//! Blocks that the kernel made, as the daemon last saw them. The kernel's map is the truth while it lives;
//! these rows are for the time after a reboot, when the map is gone.

use pbx_core::{address::Prefix, guard::Detector, time::Timestamp};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Store, StoreError, millis};
use crate::filter::AutomaticBlock;

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
}

impl From<&AutomaticBlock> for StoredBlock {
    fn from(block: &AutomaticBlock) -> Self {
        let AutomaticBlock { prefix, reason, since, expires_at, packets: _, last_seen: _, enforced, web_only: _ } =
            *block;
        Self { prefix, reason, since, expires_at, enforced }
    }
}

impl Store {
    /// Those that have not ended at `now`, by range.
    pub async fn automatic(&self, now: Timestamp) -> Result<Vec<StoredBlock>, StoreError> {
        let rows = sqlx::query(
            "SELECT prefix, reason, since, expires_at, enforced FROM automatic WHERE expires_at > ? ORDER BY prefix",
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
                })
            })
            .collect()
    }

    /// Keeps `seen` (new ones, or ones whose reason or end moved) and forgets `gone`, in one transaction.
    pub async fn keep_automatic(&self, seen: &[StoredBlock], gone: &[Prefix]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            for chunk in gone.chunks(INSERT_ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM automatic WHERE prefix IN (");
                let mut list = query.separated(", ");
                for prefix in chunk {
                    list.push_bind(prefix.to_string());
                }
                list.push_unseparated(")");
                query.build().execute(&mut *transaction).await?;
            }
            for chunk in seen.chunks(INSERT_ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new(
                    "INSERT OR REPLACE INTO automatic (prefix, reason, since, expires_at, enforced) ",
                );
                query.push_values(chunk, |mut row, block| {
                    row.push_bind(block.prefix.to_string())
                        .push_bind(block.reason.as_str())
                        .push_bind(millis(block.since))
                        .push_bind(millis(block.expires_at))
                        .push_bind(i64::from(block.enforced));
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
