//! Whether all threads of the relay are there: one that breaks off takes the calls of its legs with it, so it is noticed
//! at once, and the daemon ends as it does when the core thread is gone.

use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use tokio::sync::watch;

/// The threads' life: true once one of them has broken off.
#[derive(Debug, Default)]
pub(super) struct Life(watch::Sender<bool>);

impl Life {
    /// Starts a thread whose end by a panic is noticed.
    pub(super) fn start(&self, name: String, run: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
        let witness = Witness(self.0.clone());
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            let _witness = witness;
            run();
        });
        thread.with_context(|| format!("cannot start the relay's thread {name}"))
    }

    pub(super) fn is_broken(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until a thread breaks off.
    pub(super) fn broken(&self) -> impl Future<Output = ()> + use<> {
        let mut broken = self.0.subscribe();
        async move {
            if broken.wait_for(|broken| *broken).await.is_err() {
                // The relay has ended as it was told.
                std::future::pending().await
            }
        }
    }
}

/// Is dropped when its thread ends, however that happens.
struct Witness(watch::Sender<bool>);

impl Drop for Witness {
    fn drop(&mut self) {
        if thread::panicking() {
            let thread = thread::current();
            tracing::error!(thread = thread.name(), "a thread of the relay broke off");
            self.0.send_replace(true);
        }
    }
}
