//! What has registered, for the time after a restart: written in batches behind the registrar, read once at a start.

use std::{net::SocketAddr, sync::Arc};

use pbx_core::{
    directory::ExtensionId,
    registrar::{BindingId, StoredBinding},
    time::Timestamp,
    transport::TransportId,
};
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use super::{Store, StoreError, millis};

/// Rows of one statement: 17 columns, and SQLite takes 32,766 values. None is kept prepared: there is one for each
/// number of rows, and they are large.
const ROWS: usize = 1000;

impl Store {
    /// Those that have not ended at `now`, of extensions that are there, by id.
    pub async fn bindings(&self, now: Timestamp) -> Result<Vec<StoredBinding>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, extension, contact, q, instance, reg_id, call_id, cseq, path, user_agent, transport, protocol,
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
    pub async fn keep_bindings(&self, changed: &[StoredBinding], gone: &[BindingId]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            for chunk in gone.chunks(ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM bindings WHERE id IN (");
                let mut list = query.separated(", ");
                for id in chunk {
                    list.push_bind(id.0.cast_signed());
                }
                list.push_unseparated(")");
                query.build().persistent(false).execute(&mut *transaction).await?;
            }
            for chunk in changed.chunks(ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new(
                    "INSERT OR REPLACE INTO bindings
                     (id, extension, contact, q, instance, reg_id, call_id, cseq, path, user_agent, transport, protocol,
                      local, remote, behind_nat, since, expires_at) ",
                );
                query.push_values(chunk, |mut row, binding| {
                    // The database's whole numbers have a sign; the bits are the same.
                    row.push_bind(binding.id.0.cast_signed())
                        .push_bind(binding.extension.0)
                        .push_bind(binding.contact.as_ref())
                        .push_bind(binding.q)
                        .push_bind(binding.instance.as_deref())
                        .push_bind(binding.reg_id)
                        .push_bind(binding.call_id.as_ref())
                        .push_bind(binding.cseq)
                        .push_bind(binding.path.as_deref())
                        .push_bind(binding.user_agent.as_ref())
                        .push_bind(binding.transport.0)
                        .push_bind(binding.protocol.token())
                        .push_bind(binding.local.to_string())
                        .push_bind(binding.remote.to_string())
                        .push_bind(i64::from(binding.behind_nat))
                        .push_bind(millis(binding.since))
                        .push_bind(millis(binding.expires_at));
                });
                query.build().persistent(false).execute(&mut *transaction).await?;
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
        let text = |column: usize| row.try_get::<&str, _>(column).map(Arc::from).map_err(read);
        let text_or_none =
            |column: usize| row.try_get::<Option<&str>, _>(column).map(|text| text.map(Arc::from)).map_err(read);
        let protocol: &str = row.try_get(11).map_err(read)?;
        Ok(StoredBinding {
            id: BindingId(row.try_get::<i64, _>(0).map_err(read)?.cast_unsigned()),
            extension: ExtensionId(row.try_get(1).map_err(read)?),
            contact: text(2)?,
            q: row.try_get(3).map_err(read)?,
            instance: text_or_none(4)?,
            reg_id: row.try_get(5).map_err(read)?,
            call_id: text(6)?,
            cseq: row.try_get(7).map_err(read)?,
            path: text_or_none(8)?,
            user_agent: text(9)?,
            transport: TransportId(row.try_get(10).map_err(read)?),
            protocol: protocol.parse().map_err(|_| self.corrupt(format!("binding's protocol {protocol:?}")))?,
            local: socket(12)?,
            remote: socket(13)?,
            behind_nat: row.try_get::<i64, _>(14).map_err(read)? == 1,
            since: Timestamp::from_millis(row.try_get(15).map_err(read)?),
            expires_at: Timestamp::from_millis(row.try_get(16).map_err(read)?),
        })
    }
}
