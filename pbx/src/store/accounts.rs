//! Tenants, extensions and transports on the disk. One call is one transaction: what goes, what is there, audit, events.

use pbx_core::{
    auth::Algorithm,
    directory::{ExtensionId, TenantId},
    time::Timestamp,
    transport::{Protocol, TransportId},
};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Audit, Event, NewEvent, Store, StoreError, millis};

/// Rows of one statement: at most 10 columns, and SQLite takes 32,766 values.
const ROWS: usize = 1000;

/// A tenant as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTenant {
    /// Never used twice.
    pub id: TenantId,
    /// For people; no other has it in any case.
    pub name: String,
    /// Host parts of URIs that mean it, in lower case.
    pub domains: Vec<String>,
    /// Fixed when it was made.
    pub realm: String,
    /// What its passwords have to be, as JSON.
    pub password_policy: String,
    /// Exactly one is.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An extension as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredExtension {
    /// Never used twice.
    pub id: ExtensionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is dialled; no other of the tenant has it.
    pub number: String,
    /// Whom it belongs to.
    pub name: String,
    /// What others see; empty: number and name.
    pub caller_id: String,
    /// A disabled one is answered as if it did not exist.
    pub enabled: bool,
    /// Where its calls go that it does not take, as JSON.
    pub forwarding: String,
    /// The SIP password, encrypted.
    pub sealed_password: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// A transport as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransport {
    /// Never used twice.
    pub id: TransportId,
    /// UDP, TCP, TLS.
    pub protocol: Protocol,
    /// No other of UDP, or of TCP and TLS, has it.
    pub port: u16,
    /// The port beyond the router; none: the same.
    pub external_port: Option<u16>,
    /// What it offers, in this order.
    pub algorithms: Vec<Algorithm>,
    /// Whether it asks phones for certificates.
    pub verification: String,
    /// The certificates, PEM.
    pub chain: Option<String>,
    /// Their key, PEM, encrypted.
    pub sealed_key: Option<Vec<u8>>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// All of them, and the ids that the next new ones get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredAccounts {
    /// By id.
    pub tenants: Vec<StoredTenant>,
    /// By id.
    pub extensions: Vec<StoredExtension>,
    /// By id.
    pub transports: Vec<StoredTransport>,
    /// Of the next tenant.
    pub next_tenant: u32,
    /// Of the next extension.
    pub next_extension: u32,
    /// Of the next transport.
    pub next_transport: u32,
}

/// A change. What is kept is inserted, or, where its id is there, replaced; what goes goes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccountChange<'a> {
    /// Tenants that go; their extensions are named too.
    pub tenants_gone: &'a [TenantId],
    /// New and changed ones, in this order.
    pub tenants: &'a [StoredTenant],
    /// Extensions that go, with all that has registered.
    pub extensions_gone: &'a [ExtensionId],
    /// New and changed ones.
    pub extensions: &'a [StoredExtension],
    /// Transports that go.
    pub transports_gone: &'a [TransportId],
    /// New and changed ones.
    pub transports: &'a [StoredTransport],
    /// What the audit keeps.
    pub audit: &'a [Audit],
    /// What is told to whoever follows the events.
    pub events: &'a [NewEvent],
}

impl Store {
    /// Everything.
    pub async fn accounts(&self) -> Result<StoredAccounts, StoreError> {
        let tenants = self
            .all("SELECT id, name, domains, realm, password_policy, is_default, created_at FROM tenants ORDER BY id")
            .await?;
        let extensions = self
            .all(
                "SELECT id, tenant, number, name, caller_id, enabled, forwarding, sealed_password, created_at,
                     updated_at
                 FROM extensions ORDER BY id",
            )
            .await?;
        let transports = self
            .all(
                "SELECT id, protocol, port, external_port, algorithms, verification, chain, sealed_key, created_at
                 FROM transports ORDER BY id",
            )
            .await?;
        Ok(StoredAccounts {
            tenants: tenants.iter().map(|row| self.tenant(row)).collect::<Result<_, _>>()?,
            extensions: extensions.iter().map(|row| self.extension(row)).collect::<Result<_, _>>()?,
            transports: transports.iter().map(|row| self.transport(row)).collect::<Result<_, _>>()?,
            next_tenant: self.next_id("tenants").await?,
            next_extension: self.next_id("extensions").await?,
            next_transport: self.next_id("transports").await?,
        })
    }

    /// The ports of all transports, in order, each once.
    pub async fn transport_ports(&self) -> Result<Vec<u16>, StoreError> {
        sqlx::query_scalar("SELECT DISTINCT port FROM transports ORDER BY port")
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Commits a change whole or not at all, and returns its events with their ids.
    pub async fn change_accounts(&self, change: AccountChange<'_>) -> Result<Vec<Event>, StoreError> {
        let mut transaction = self.begin().await?;
        let events = async {
            let extensions: Vec<i64> = change.extensions_gone.iter().map(|id| i64::from(id.0)).collect();
            for statement in [
                "DELETE FROM bindings WHERE extension IN (",
                "DELETE FROM known WHERE extension IN (",
                "DELETE FROM extensions WHERE id IN (",
            ] {
                delete(&mut transaction, statement, &extensions).await?;
            }
            let tenants: Vec<i64> = change.tenants_gone.iter().map(|id| i64::from(id.0)).collect();
            delete(&mut transaction, "DELETE FROM tenants WHERE id IN (", &tenants).await?;
            let transports: Vec<i64> = change.transports_gone.iter().map(|id| i64::from(id.0)).collect();
            delete(&mut transaction, "DELETE FROM transports WHERE id IN (", &transports).await?;
            keep_tenants(&mut transaction, change.tenants).await?;
            keep_extensions(&mut transaction, change.extensions).await?;
            keep_transports(&mut transaction, change.transports).await?;
            for row in change.audit {
                row.insert(&mut transaction).await?;
            }
            super::events::insert(&mut transaction, change.events).await
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(events)
    }

    async fn all(&self, statement: &'static str) -> Result<Vec<SqliteRow>, StoreError> {
        sqlx::query(statement).fetch_all(&self.readers).await.map_err(|error| self.failed(error))
    }

    async fn next_id(&self, table: &str) -> Result<u32, StoreError> {
        let last: Option<u32> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?")
            .bind(table)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.failed(error))?;
        last.unwrap_or(0).checked_add(1).ok_or_else(|| self.corrupt(format!("table {table}: its ids are used up")))
    }

    fn tenant(&self, row: &SqliteRow) -> Result<StoredTenant, StoreError> {
        let read = |error: sqlx::Error| self.corrupt(format!("table tenants: {error}"));
        let domains: &str = row.try_get(2).map_err(read)?;
        Ok(StoredTenant {
            id: TenantId(row.try_get(0).map_err(read)?),
            name: row.try_get(1).map_err(read)?,
            domains: serde_json::from_str(domains).map_err(|_| self.corrupt(format!("domains {domains:?}")))?,
            realm: row.try_get(3).map_err(read)?,
            password_policy: row.try_get(4).map_err(read)?,
            is_default: row.try_get::<i64, _>(5).map_err(read)? == 1,
            created_at: Timestamp::from_millis(row.try_get(6).map_err(read)?),
        })
    }

    fn extension(&self, row: &SqliteRow) -> Result<StoredExtension, StoreError> {
        let read = |error: sqlx::Error| self.corrupt(format!("table extensions: {error}"));
        Ok(StoredExtension {
            id: ExtensionId(row.try_get(0).map_err(read)?),
            tenant: TenantId(row.try_get(1).map_err(read)?),
            number: row.try_get(2).map_err(read)?,
            name: row.try_get(3).map_err(read)?,
            caller_id: row.try_get(4).map_err(read)?,
            enabled: row.try_get::<i64, _>(5).map_err(read)? == 1,
            forwarding: row.try_get(6).map_err(read)?,
            sealed_password: row.try_get(7).map_err(read)?,
            created_at: Timestamp::from_millis(row.try_get(8).map_err(read)?),
            updated_at: Timestamp::from_millis(row.try_get(9).map_err(read)?),
        })
    }

    fn transport(&self, row: &SqliteRow) -> Result<StoredTransport, StoreError> {
        let read = |error: sqlx::Error| self.corrupt(format!("table transports: {error}"));
        let protocol: &str = row.try_get(1).map_err(read)?;
        let algorithms: &str = row.try_get(4).map_err(read)?;
        Ok(StoredTransport {
            id: TransportId(row.try_get(0).map_err(read)?),
            protocol: protocol.parse().map_err(|_| self.corrupt(format!("protocol {protocol:?}")))?,
            port: row.try_get(2).map_err(read)?,
            external_port: row.try_get(3).map_err(read)?,
            algorithms: algorithms
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map_err(|_| self.corrupt(format!("algorithms {algorithms:?}")))?,
            verification: row.try_get(5).map_err(read)?,
            chain: row.try_get(6).map_err(read)?,
            sealed_key: row.try_get(7).map_err(read)?,
            created_at: Timestamp::from_millis(row.try_get(8).map_err(read)?),
        })
    }
}

async fn delete(connection: &mut SqliteConnection, statement: &'static str, ids: &[i64]) -> Result<(), sqlx::Error> {
    for chunk in ids.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(statement);
        let mut list = query.separated(", ");
        for id in chunk {
            list.push_bind(*id);
        }
        list.push_unseparated(")");
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn keep_tenants(connection: &mut SqliteConnection, tenants: &[StoredTenant]) -> Result<(), sqlx::Error> {
    for StoredTenant { id, name, domains, realm, password_policy, is_default, created_at } in tenants {
        sqlx::query(
            "INSERT INTO tenants (id, name, domains, realm, password_policy, is_default, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, domains = excluded.domains,
                 password_policy = excluded.password_policy, is_default = excluded.is_default",
        )
        .bind(id.0)
        .bind(name)
        .bind(serde_json::to_string(domains).unwrap_or_default())
        .bind(realm)
        .bind(password_policy)
        .bind(i64::from(*is_default))
        .bind(millis(*created_at))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn keep_extensions(connection: &mut SqliteConnection, extensions: &[StoredExtension]) -> Result<(), sqlx::Error> {
    for chunk in extensions.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO extensions
             (id, tenant, number, name, caller_id, enabled, forwarding, sealed_password, created_at, updated_at) ",
        );
        query.push_values(chunk, |mut row, extension| {
            row.push_bind(extension.id.0)
                .push_bind(extension.tenant.0)
                .push_bind(extension.number.as_str())
                .push_bind(extension.name.as_str())
                .push_bind(extension.caller_id.as_str())
                .push_bind(i64::from(extension.enabled))
                .push_bind(extension.forwarding.as_str())
                .push_bind(extension.sealed_password.as_slice())
                .push_bind(millis(extension.created_at))
                .push_bind(millis(extension.updated_at));
        });
        query.push(
            " ON CONFLICT (id) DO UPDATE SET number = excluded.number, name = excluded.name,
                 caller_id = excluded.caller_id, enabled = excluded.enabled, forwarding = excluded.forwarding,
                 sealed_password = excluded.sealed_password, updated_at = excluded.updated_at",
        );
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn keep_transports(connection: &mut SqliteConnection, transports: &[StoredTransport]) -> Result<(), sqlx::Error> {
    for transport in transports {
        let algorithms: Vec<&str> = transport.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        sqlx::query(
            "INSERT INTO transports
             (id, protocol, port, external_port, algorithms, verification, chain, sealed_key, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET port = excluded.port, external_port = excluded.external_port,
                 algorithms = excluded.algorithms, verification = excluded.verification, chain = excluded.chain,
                 sealed_key = excluded.sealed_key",
        )
        .bind(transport.id.0)
        .bind(transport.protocol.token())
        .bind(transport.port)
        .bind(transport.external_port)
        .bind(algorithms.join(","))
        .bind(&transport.verification)
        .bind(&transport.chain)
        .bind(&transport.sealed_key)
        .bind(millis(transport.created_at))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
