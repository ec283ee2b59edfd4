//! The web server's certificate on the disk.

use pbx_core::time::Timestamp;
use sqlx::Row;

use super::{Audit, Store, StoreError, millis};

/// A certificate as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    /// The certificates, PEM, the server's own one first.
    pub chain: String,
    /// Their key, PEM, encrypted.
    pub sealed_key: Vec<u8>,
    /// When it was made or given.
    pub created_at: Timestamp,
}

impl Store {
    /// The web server's certificate; none before its first start.
    pub async fn web_certificate(&self) -> Result<Option<StoredCertificate>, StoreError> {
        let row = sqlx::query("SELECT chain, sealed_key, created_at FROM web_certificate")
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(row.map(|row| StoredCertificate {
            chain: row.get(0),
            sealed_key: row.get(1),
            created_at: Timestamp::from_millis(row.get(2)),
        }))
    }

    /// Keeps another one. `audit`: who gave it; nobody did when the daemon made it.
    pub async fn set_web_certificate(
        &self,
        certificate: &StoredCertificate,
        audit: Option<&Audit>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("INSERT OR REPLACE INTO web_certificate (id, chain, sealed_key, created_at) VALUES (1, ?, ?, ?)")
            .bind(&certificate.chain)
            .bind(&certificate.sealed_key)
            .bind(millis(certificate.created_at))
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.failed(error))?;
        if let Some(audit) = audit {
            audit.insert(&mut transaction).await.map_err(|error| self.failed(error))?;
        }
        self.commit(transaction).await
    }
}
