//! What the filter learns of legs: the ports that they hold, and who sends to these. A thread beside the relay, so that
//! neither the core nor a worker waits for a table of the kernel's. A port is open within milliseconds of its command.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use pbx_core::media::{Leg, Pair};

use crate::filter::{Filter, MediaChange, MediaHeld};

/// How often the filter is asked whether it is still the same one, and is tried again after an error.
const LOOK: Duration = Duration::from_secs(1);

/// The ports that legs hold now, and which of them the filter has not been told.
#[derive(Default)]
pub(super) struct Flows {
    inner: Mutex<Inner>,
    thread: OnceLock<Thread>,
    ends: AtomicBool,
}

#[derive(Default)]
struct Inner {
    held: BTreeMap<Pair, MediaHeld>,
    changed: BTreeSet<Pair>,
}

impl Flows {
    /// A leg as it is now.
    pub(super) fn set(&self, leg: &Leg) {
        let remote = leg.remote.as_ref();
        let from = [remote.map(|remote| remote.rtp.ip()), remote.map(|remote| remote.rtcp.ip())];
        let held = MediaHeld { pair: leg.pair, from: from.map(|addr| addr.map(|addr| addr.to_canonical())) };
        let mut inner = self.inner();
        if inner.held.insert(leg.pair, held) != Some(held) {
            inner.changed.insert(leg.pair);
            drop(inner);
            self.rouse();
        }
    }

    /// Its ports are nobody's any more.
    pub(super) fn close(&self, pair: Pair) {
        let mut inner = self.inner();
        if inner.held.remove(&pair).is_some() {
            inner.changed.insert(pair);
            drop(inner);
            self.rouse();
        }
    }

    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// Tells the filter of now, and another one everything anew, until the end.
    pub(super) fn run(&self, current: impl Fn() -> Arc<dyn Filter>) {
        let _ = self.thread.set(thread::current());
        let mut told: Option<Arc<dyn Filter>> = None;
        let mut fails = false;
        while !self.ends.load(Ordering::SeqCst) {
            let filter = current();
            let same = told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &filter));
            // One that is not under control says so elsewhere, and all the time.
            if filter.control().is_ours()
                && let Some(change) = self.change(same)
            {
                let outcome = filter.media(&change);
                told = outcome.is_ok().then(|| Arc::clone(&filter));
                match outcome {
                    Ok(()) if fails => tracing::info!("the filter learns the ports of calls again"),
                    Err(error) if !fails => tracing::warn!("the filter does not learn the ports of calls: {error:#}"),
                    Ok(()) | Err(_) => {}
                }
                fails = told.is_none();
                // What changed meanwhile is told at once.
                if !fails && !self.inner().changed.is_empty() {
                    continue;
                }
            }
            thread::park_timeout(LOOK);
        }
        // Whoever comes next closes what is open; until then nobody listens there.
        if let Some(filter) = told
            && let Err(error) = filter.media(&MediaChange::Are(Vec::new()))
        {
            tracing::info!("the filter does not learn that all calls are over: {error:#}");
        }
    }

    /// What there is to tell: to another filter all, to the same one what changed.
    fn change(&self, same: bool) -> Option<MediaChange> {
        let mut inner = self.inner();
        let changed = std::mem::take(&mut inner.changed);
        if !same {
            return Some(MediaChange::Are(inner.held.values().copied().collect()));
        }
        if changed.is_empty() {
            return None;
        }
        let (held, gone): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .map(|pair| (pair, inner.held.get(&pair).copied()))
            .partition(|(_, held)| held.is_some());
        let held = held.into_iter().filter_map(|(_, held)| held).collect();
        Some(MediaChange::Change { held, gone: gone.into_iter().map(|(pair, _)| pair).collect() })
    }

    fn rouse(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
