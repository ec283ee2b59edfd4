//! Addresses from which a password was proved: known sources, for as long as the guard remembers them.

use std::net::IpAddr;

use pbx_core::{directory::ExtensionId, time::Timestamp};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Store, StoreError, millis};

/// Rows of one statement. None is kept prepared: there is one for each number of rows, and they are large.
const ROWS: usize = 1000;

/// Who proved a password from where, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredKnown {
    /// From where.
    pub address: IpAddr,
    /// Who.
    pub extension: ExtensionId,
    /// When last.
    pub last_success: Timestamp,
}

impl Store {
    /// Those at or after `since`, of extensions that are there.
    pub async fn known(&self, since: Timestamp) -> Result<Vec<StoredKnown>, StoreError> {
        let rows = sqlx::query(
            "SELECT address, extension, last_success FROM known
             WHERE last_success >= ? AND extension IN (SELECT id FROM extensions) ORDER BY address, extension",
        )
        .bind(millis(since))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|row| {
                let address: &str = row.get(0);
                Ok(StoredKnown {
                    address: address.parse().map_err(|_| self.corrupt(format!("known address {address:?}")))?,
                    extension: ExtensionId(row.get(1)),
                    last_success: Timestamp::from_millis(row.get(2)),
                })
            })
            .collect()
    }

    /// Forgets who is `gone` from an address, keeps these over what was there, and forgets what is older than
    /// `oldest`, in one transaction. What is in both stays.
    pub async fn keep_known(
        &self,
        seen: &[StoredKnown],
        gone: &[(IpAddr, ExtensionId)],
        oldest: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            for chunk in gone.chunks(ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM known WHERE (address, extension) IN (VALUES ");
                let mut rows = query.separated(", ");
                for (address, extension) in chunk {
                    rows.push("(")
                        .push_bind_unseparated(address.to_string())
                        .push_unseparated(", ")
                        .push_bind_unseparated(extension.0)
                        .push_unseparated(")");
                }
                query.push(")").build().persistent(false).execute(&mut *transaction).await?;
            }
            for chunk in seen.chunks(ROWS) {
                let mut query =
                    QueryBuilder::<Sqlite>::new("INSERT OR REPLACE INTO known (address, extension, last_success) ");
                query.push_values(chunk, |mut row, known| {
                    row.push_bind(known.address.to_string())
                        .push_bind(known.extension.0)
                        .push_bind(millis(known.last_success));
                });
                query.build().persistent(false).execute(&mut *transaction).await?;
            }
            sqlx::query("DELETE FROM known WHERE last_success < ?")
                .bind(millis(oldest))
                .execute(&mut *transaction)
                .await?;
            Ok(())
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }
}
