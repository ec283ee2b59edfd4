//! The tasks that make up a running daemon: when one ends before it is told to, the daemon ends with an error, and
//! the service manager starts it again.

use std::{collections::HashMap, future::Future};

use anyhow::anyhow;
use tokio::task::{Id, JoinError, JoinSet};

/// Tasks with names.
#[derive(Debug, Default)]
pub(super) struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    pub(super) fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until a part ends that was not told to, and says which.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => anyhow!("{} ended by itself", self.name(id)),
            Some(Err(error)) => self.broke_off(&error),
            None => std::future::pending().await,
        }
    }

    /// Waits until all parts have ended, as they were told; the first that broke off instead is the error.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            if let (Err(error), Ok(())) = (ended, &outcome) {
                outcome = Err(self.broke_off(&error));
            }
        }
        outcome
    }

    fn broke_off(&self, error: &JoinError) -> anyhow::Error {
        anyhow!("{} broke off: {error}", self.name(error.id()))
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("a part of the daemon")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_ends_is_named() {
        let mut parts = Parts::default();
        parts.start("the one that waits", std::future::pending());
        parts.start("the one that panics", async { panic!("on purpose") });
        let error = parts.broken().await.to_string();
        assert!(error.contains("the one that panics broke off") && error.contains("on purpose"), "{error}");
        parts.start("the one that ends", async {});
        assert_eq!(parts.broken().await.to_string(), "the one that ends ended by itself");
    }

    #[tokio::test]
    async fn parts_that_end_when_they_are_told_are_no_error() {
        let mut parts = Parts::default();
        parts.start("one", async {});
        parts.end().await.unwrap();
        let mut parts = Parts::default();
        parts.start("one", async {});
        parts.start("two", async { panic!("too late") });
        assert!(parts.end().await.unwrap_err().to_string().contains("two broke off"));
    }
}
