//! What is older than the settings say goes.

use super::Operations;
use crate::store::EventKind;

impl Operations {
    /// Forgets what is too old. To be called now and then; what fails is tried again the next time.
    pub async fn forget_old(&self) {
        let (now, (settings, _)) = (self.now(), self.current_settings());
        let from = |span: std::time::Duration| now.saturating_sub(span);
        let retention = &settings.retention;
        let store = self.store();
        let forgotten = [
            ("call records", store.prune_calls(from(retention.cdrs.get())).await),
            ("events", store.prune_events(from(retention.events.get())).await),
            ("pieces of evidence", store.prune_evidence(from(retention.evidence.get())).await),
            ("rows of the audit", store.prune_audit(from(retention.audit.get()), now).await),
        ];
        for (what, gone) in forgotten {
            match gone {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "{what} were removed because they are old (`retention.*`)"),
                Err(error) => {
                    tracing::warn!(%error, "{what} that are too old could not be removed");
                    self.tell(EventKind::Daemon, format!("{what} that are too old could not be removed: {error}"))
                        .await;
                }
            }
        }
    }
}
