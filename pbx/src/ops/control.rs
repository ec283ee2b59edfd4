//! Whether changes reach the kernel: refused while the filter is not under control, only stored while it is
//! switched off, and taken up again when a lost filter is regained.

use std::sync::{Arc, PoisonError};

use anyhow::Context as _;

use super::{Book, OpError, Operations, State};
use crate::filter::{Control, Filter};

impl Operations {
    /// Whether changes reach the kernel.
    pub fn control(&self) -> Control {
        self.filter().control()
    }

    /// Uses another filter from now on.
    pub fn use_filter(&self, filter: Arc<dyn Filter>) {
        *self.inner.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
    }

    /// Tries to take a lost filter over with what the store has. No change is made meanwhile; afterwards all
    /// go to the new filter. `open` blocks, and gives whatever else the caller needs.
    pub async fn regain<T: Send + 'static>(
        &self,
        open: impl FnOnce(&State) -> anyhow::Result<(Arc<dyn Filter>, T)> + Send + 'static,
    ) -> anyhow::Result<T> {
        let _changing = self.inner.changing.lock().await;
        let state = State::load(self.store(), self.now()).await?;
        let opening = tokio::task::spawn_blocking(move || {
            let opened = open(&state);
            (state, opened)
        });
        let (state, opened) = opening.await.context("taking the filter over broke off")?;
        let (filter, rest) = opened?;
        let State { rules, next_rule_id, settings, settings_revision, automatic, pending, .. } = state;
        *self.book_mut() = Book::new(rules, next_rule_id);
        *self.inner.settings.write().unwrap_or_else(PoisonError::into_inner) = (settings, settings_revision);
        *self.kept() = automatic.into_iter().map(|block| (block.key(), block)).collect();
        self.use_filter(filter);
        if let Err(error) = self.started(pending, &[]).await {
            // Harmless: the next start compares tables and store anyway.
            tracing::warn!(%error, "the mark of a change that is finished now stays");
        }
        Ok(rest)
    }

    /// The filter of now.
    pub(crate) fn filter(&self) -> Arc<dyn Filter> {
        Arc::clone(&self.inner.filter.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses a change that would be stored while an earlier filter goes on as it was.
    pub(super) fn under_control(&self) -> Result<(), OpError> {
        let Control::Lost { why, earlier } = self.control() else { return Ok(()) };
        let goes_on = earlier.unwrap_or_else(|| "nothing is filtered".to_owned());
        let message = format!(
            "nothing was changed, because the filter is not under control: {why}; {goes_on}. The daemon tries again \
             every minute, `systemctl restart pbx` at once"
        );
        Err(OpError::filter(message))
    }

    /// What to add to the answer of a change that only the daemon's own sockets heed.
    pub(super) fn only_sockets(&self) -> Option<String> {
        let Control::User(why) = self.control() else { return None };
        Some(format!("enforced at the daemon's own sockets only, not in the kernel: {why}"))
    }
}
