//! What has registered, for the time after a restart: written in batches behind the registrar, read once at a start.

use std::net::SocketAddr;

use pbx_core::{
    directory::ExtensionId,
    time::Timestamp,
    transport::{Protocol, TransportId},
};
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use super::{Store, StoreError, millis};

/// Rows of one statement: 16 columns, and SQLite takes 32,766 values.
const ROWS: usize = 1000;

/// A binding as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBinding {
    /// The registrar's name for it; a row of the same id is replaced.
    pub id: String,
    /// Whose it is.
    pub extension: ExtensionId,
    /// The Contact URI as the phone wrote it.
    pub contact: String,
    /// The Path values (RFC 3327), comma-separated as they arrived; empty: none.
    pub path: String,
    /// Of the last REGISTER.
    pub call_id: String,
    /// Of the last REGISTER.
    pub cseq: u32,
    /// `+sip.instance` (RFC 5626).
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626).
    pub reg_id: Option<u32>,
    /// What the phone calls itself.
    pub user_agent: String,
    /// How it registered.
    pub protocol: Protocol,
    /// Over which transport.
    pub transport: TransportId,
    /// Where it registered to.
    pub local: SocketAddr,
    /// Where it registered from.
    pub remote: SocketAddr,
    /// A router translates its address.
    pub behind_nat: bool,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Store {
    /// Those that have not ended at `now`, of extensions that are there, by id.
    pub async fn bindings(&self, now: Timestamp) -> Result<Vec<StoredBinding>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, extension, contact, path, call_id, cseq, instance, reg_id, user_agent, protocol, transport,
                 local, remote, behind_nat, since, expires_at
             FROM bindings
             WHERE expires_at > ? AND extension IN (SELECT id FROM extensions) ORDER BY id",
        )
        .bind(millis(now))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.binding(row)).collect()
    }

    /// Keeps `changed` (new ones, or ones that were refreshed) and forgets `gone`, in one transaction. One that is in
    /// both is kept.
    pub async fn keep_bindings(&self, changed: &[StoredBinding], gone: &[String]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            for chunk in gone.chunks(ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM bindings WHERE id IN (");
                let mut list = query.separated(", ");
                for id in chunk {
                    list.push_bind(id);
                }
                list.push_unseparated(")");
                query.build().execute(&mut *transaction).await?;
            }
            for chunk in changed.chunks(ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new(
                    "INSERT OR REPLACE INTO bindings
                     (id, extension, contact, path, call_id, cseq, instance, reg_id, user_agent, protocol, transport,
                      local, remote, behind_nat, since, expires_at) ",
                );
                query.push_values(chunk, |mut row, binding| {
                    row.push_bind(binding.id.as_str())
                        .push_bind(binding.extension.0)
                        .push_bind(binding.contact.as_str())
                        .push_bind(binding.path.as_str())
                        .push_bind(binding.call_id.as_str())
                        .push_bind(binding.cseq)
                        .push_bind(binding.instance.as_deref())
                        .push_bind(binding.reg_id)
                        .push_bind(binding.user_agent.as_str())
                        .push_bind(binding.protocol.token())
                        .push_bind(binding.transport.0)
                        .push_bind(binding.local.to_string())
                        .push_bind(binding.remote.to_string())
                        .push_bind(i64::from(binding.behind_nat))
                        .push_bind(millis(binding.since))
                        .push_bind(millis(binding.expires_at));
                });
                query.build().execute(&mut *transaction).await?;
            }
            Ok(())
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }

    /// Forgets those that had ended at `now` and those of extensions that are gone, and says how many.
    pub async fn sweep_bindings(&self, now: Timestamp) -> Result<u64, StoreError> {
        let swept =
            sqlx::query("DELETE FROM bindings WHERE expires_at <= ? OR extension NOT IN (SELECT id FROM extensions)")
                .bind(millis(now))
                .execute(&self.writer)
                .await
                .map_err(|error| self.failed(error))?;
        Ok(swept.rows_affected())
    }

    fn binding(&self, row: &SqliteRow) -> Result<StoredBinding, StoreError> {
        let read = |error: sqlx::Error| self.corrupt(format!("table bindings: {error}"));
        let socket = |column: usize| -> Result<SocketAddr, StoreError> {
            let text: &str = row.try_get(column).map_err(read)?;
            text.parse().map_err(|_| self.corrupt(format!("binding's address {text:?}")))
        };
        let protocol: &str = row.try_get(9).map_err(read)?;
        Ok(StoredBinding {
            id: row.try_get(0).map_err(read)?,
            extension: ExtensionId(row.try_get(1).map_err(read)?),
            contact: row.try_get(2).map_err(read)?,
            path: row.try_get(3).map_err(read)?,
            call_id: row.try_get(4).map_err(read)?,
            cseq: row.try_get(5).map_err(read)?,
            instance: row.try_get(6).map_err(read)?,
            reg_id: row.try_get(7).map_err(read)?,
            user_agent: row.try_get(8).map_err(read)?,
            protocol: protocol.parse().map_err(|_| self.corrupt(format!("binding's protocol {protocol:?}")))?,
            transport: TransportId(row.try_get(10).map_err(read)?),
            local: socket(11)?,
            remote: socket(12)?,
            behind_nat: row.try_get::<i64, _>(13).map_err(read)? == 1,
            since: Timestamp::from_millis(row.try_get(14).map_err(read)?),
            expires_at: Timestamp::from_millis(row.try_get(15).map_err(read)?),
        })
    }
}
