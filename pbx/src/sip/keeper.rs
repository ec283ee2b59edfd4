//! What the core changed, on its way to the filter, the store and whoever follows events: gathered by the core thread,
//! an entry for each thing, and kept by a task that may take its time. What the store does not take is kept in memory
//! and tried again.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, Release},
    },
    time::Duration,
};

use pbx_core::{
    call::{CallId, Record},
    directory::ExtensionId,
    known::{Key, LIFE},
    pbx::{Event, Stored},
    registrar::{BindingId, Ended, StoredBinding},
    time::Timestamp,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::Sip;
use crate::{
    filter::{Filter, KnownAt, KnownChange},
    ops::Operations,
    store::{CALLS_KEPT, CALLS_SWEPT, EventKind, NewEvent, Store, StoredKnown},
};

/// Entries of a kind that may wait; more are counted as lost, and read from the core when the store works again.
const MOST: usize = 262_144;
/// Call records that may wait, each of them about a kilobyte. Nobody else has those that find no place: they are
/// counted and told.
const MOST_CALLS: usize = 32_768;
/// Events that may wait; more are only counted.
const MOST_EVENTS: usize = 4096;
/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// The pause after a failure.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the filter is asked whether it is still the same one.
const LOOK: Duration = Duration::from_secs(1);

/// What there is to keep: the last state of each thing that changed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bindings: BTreeMap<BindingId, Option<StoredBinding>>,
    successes: BTreeMap<(IpAddr, ExtensionId), Option<Timestamp>>,
    calls: BTreeMap<CallId, Box<Record>>,
    calls_lost: u64,
    filter: BTreeMap<Key, bool>,
    events: Vec<(Timestamp, Event)>,
    events_lost: u64,
    /// Changes that found no place.
    lost: bool,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.bindings.is_empty()
            && self.successes.is_empty()
            && self.calls.is_empty()
            && self.calls_lost == 0
            && self.filter.is_empty()
            && self.events.is_empty()
            && self.events_lost == 0
            && !self.lost
    }

    pub(super) fn store(&mut self, stored: Stored) {
        let fits = match stored {
            Stored::Binding(binding) => insert(&mut self.bindings, binding.id, Some(binding)),
            Stored::NoBinding(id) => insert(&mut self.bindings, id, None),
            Stored::Success(success) => {
                insert(&mut self.successes, (success.addr, success.extension), Some(success.last))
            }
            Stored::Call(record) => {
                self.call(record);
                true
            }
            Stored::NoSuccess { addr, extension } => insert(&mut self.successes, (addr, extension), None),
        };
        self.lost |= !fits;
    }

    /// The last state of a record is the one that is kept.
    fn call(&mut self, record: Box<Record>) {
        if self.calls.len() < MOST_CALLS || self.calls.contains_key(&record.id) {
            self.calls.insert(record.id, record);
        } else {
            self.calls_lost += 1;
        }
    }

    pub(super) fn filter(&mut self, key: Key, known: bool) {
        self.lost |= !insert(&mut self.filter, key, known);
    }

    pub(super) fn event(&mut self, event: Event, at: Timestamp) {
        if self.events.len() < MOST_EVENTS { self.events.push((at, event)) } else { self.events_lost += 1 }
    }

    /// Entries for the store.
    pub(super) fn unsaved(&self) -> u64 {
        (self.bindings.len() + self.successes.len() + self.calls.len()) as u64
    }

    /// Takes what came later over what is here.
    fn take(&mut self, later: Self) {
        let Self { bindings, successes, calls, calls_lost, filter, events, events_lost, lost } = later;
        self.lost |= lost;
        self.calls_lost += calls_lost;
        calls.into_values().for_each(|record| self.call(record));
        for (id, binding) in bindings {
            self.lost |= !insert(&mut self.bindings, id, binding);
        }
        for (key, last) in successes {
            self.lost |= !insert(&mut self.successes, key, last);
        }
        for (key, known) in filter {
            self.lost |= !insert(&mut self.filter, key, known);
        }
        let room = MOST_EVENTS.saturating_sub(self.events.len());
        self.events_lost += events_lost + events.len().saturating_sub(room) as u64;
        self.events.extend(events.into_iter().take(room));
    }

    async fn save(&self, store: &Store, now: Timestamp) -> Result<(), crate::store::StoreError> {
        let changed: Vec<StoredBinding> = self.bindings.values().flatten().cloned().collect();
        let gone: Vec<BindingId> = self.bindings.iter().filter(|(_, kept)| kept.is_none()).map(|(id, _)| *id).collect();
        if !(changed.is_empty() && gone.is_empty()) {
            store.keep_bindings(&changed, &gone).await?;
        }
        let seen = self.successes.iter().filter_map(|((address, extension), last)| {
            Some(StoredKnown { address: *address, extension: *extension, last_success: (*last)? })
        });
        let seen: Vec<StoredKnown> = seen.collect();
        let gone = self.successes.iter().filter(|(_, last)| last.is_none()).map(|(key, _)| *key);
        let gone: Vec<(IpAddr, ExtensionId)> = gone.collect();
        if !(seen.is_empty() && gone.is_empty()) {
            store.keep_known(&seen, &gone, now.saturating_sub(LIFE)).await?;
        }
        if !self.calls.is_empty() {
            let records: Vec<&Record> = self.calls.values().map(Box::as_ref).collect();
            store.keep_calls(&records).await?;
        }
        Ok(())
    }
}

/// Whether there was room.
fn insert<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    if map.len() >= MOST && !map.contains_key(&key) {
        return false;
    }
    map.insert(key, value);
    true
}

/// Keeps what the core hands over, until the core ends.
pub(super) struct Keeper {
    pub(super) sip: Arc<Sip>,
    pub(super) store: Store,
    pub(super) operations: Operations,
    pub(super) handed: mpsc::Receiver<Pending>,
}

impl Keeper {
    /// Runs until the core thread has ended, and everything that it handed over is kept, or cannot be.
    pub(super) async fn run(mut self) {
        let mut pending = Pending::default();
        // Another filter than last time knows nobody.
        let mut told: Option<Arc<dyn Filter>> = None;
        let (mut fails, mut filter_fails) = (false, false);
        // As if as many as that had been written: an earlier run may have.
        let mut since_sweep = CALLS_SWEPT;
        let mut next_try = Instant::now();
        loop {
            let open = match timeout_at((Instant::now() + LOOK).max(next_try), self.handed.recv()).await {
                Ok(Some(more)) => {
                    let handed = more.unsaved();
                    pending.take(more);
                    // In this order: whoever adds both up may count some twice, and never too few.
                    self.sip.unsaved.store(pending.unsaved(), Relaxed);
                    self.sip.shared.handed.fetch_sub(handed, Release);
                    true
                }
                Ok(None) => false,
                Err(_) => true,
            };
            self.tell_filter(&mut pending, &mut told, &mut filter_fails).await;
            self.tell_events(&mut pending).await;
            if (pending.unsaved() > 0 || pending.lost) && (Instant::now() >= next_try || !open) {
                if std::mem::take(&mut pending.lost) {
                    self.read_all(&mut pending).await;
                }
                match pending.save(&self.store, super::wall()).await {
                    Ok(()) => {
                        if std::mem::take(&mut fails) {
                            tracing::info!("registrations and call records are kept again");
                        }
                        since_sweep += pending.calls.len() as u64;
                        (pending.bindings, pending.successes, pending.calls) = Default::default();
                        next_try = Instant::now();
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut fails, true) {
                            tracing::warn!(%error, "registrations and calls are in force and not stored: tried again every two seconds");
                        }
                        next_try = Instant::now() + AGAIN;
                    }
                }
                self.sip.unsaved.store(pending.unsaved(), Relaxed);
            }
            if since_sweep >= CALLS_SWEPT && !fails && open {
                since_sweep = 0;
                self.sweep_calls().await;
            }
            if !open {
                return;
            }
            sleep(GATHER).await;
        }
    }

    /// The filter learns who is known: from a new filter's first moment all, then the changes.
    async fn tell_filter(&self, pending: &mut Pending, told: &mut Option<Arc<dyn Filter>>, fails: &mut bool) {
        let filter = self.operations.filter();
        let is_same = told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &filter));
        if is_same && pending.filter.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut pending.filter);
        for (key, known) in changes.iter().filter(|(key, _)| key.port.is_none()) {
            self.operations.guard().known(key.addr, *known);
        }
        let change = if is_same {
            let at = |wanted: bool| {
                let of = changes.iter().filter(move |(_, known)| **known == wanted);
                of.map(|(key, _)| known_at(*key)).collect::<Vec<_>>()
            };
            KnownChange::Change { known: at(true), gone: at(false) }
        } else {
            match self.sip.ask(|core| core.pbx.known_keys().map(known_at).collect::<Vec<_>>()).await {
                Ok(all) => KnownChange::Are(all),
                // It ends.
                Err(_) => return,
            }
        };
        let taker = Arc::clone(&filter);
        let outcome = tokio::task::spawn_blocking(move || taker.known(&change)).await;
        match outcome.map_err(anyhow::Error::from).flatten() {
            Ok(()) => {
                *told = Some(filter);
                if std::mem::take(fails) {
                    tracing::info!("the filter learns who has registered again");
                }
            }
            Err(error) => {
                // All of them again, when it takes something again.
                *told = None;
                if !std::mem::replace(fails, true) {
                    tracing::warn!("the filter does not learn who has registered: {error:#}");
                }
            }
        }
    }

    async fn tell_events(&self, pending: &mut Pending) {
        let events = std::mem::take(&mut pending.events);
        let lost = std::mem::take(&mut pending.events_lost);
        let mut told: Vec<NewEvent> = Vec::with_capacity(events.len() + 1);
        for (at, event) in events {
            let message = match event {
                Event::Registered(binding) => {
                    let number = self.sip.number(binding.extension);
                    format!("{number} registered from {} over {}", binding.remote, binding.protocol)
                }
                Event::Unregistered(binding, why) => {
                    let number = self.sip.number(binding.extension);
                    format!("the registration of {number} from {} ended: {}", binding.remote, in_words(why))
                }
            };
            told.push(NewEvent { at, kind: EventKind::Registrations, prefix: None, interface: None, message });
        }
        if lost > 0 {
            let message = format!("{lost} more registrations began or ended than could be written down");
            let at = super::wall();
            told.push(NewEvent { at, kind: EventKind::Registrations, prefix: None, interface: None, message });
        }
        let calls_lost = std::mem::take(&mut pending.calls_lost);
        if calls_lost > 0 {
            let message = format!("{calls_lost} call records found no place while the store took none, and are lost");
            told.push(NewEvent { at: super::wall(), kind: EventKind::Calls, prefix: None, interface: None, message });
        }
        self.operations.record(told).await;
    }

    /// The oldest call records make room for new ones.
    async fn sweep_calls(&self) {
        match self.store.sweep_calls(CALLS_KEPT - CALLS_SWEPT).await {
            Ok(0) => {}
            Ok(swept) => {
                let message =
                    format!("the oldest {swept} call records of who has most were removed: {CALLS_KEPT} are kept");
                let at = super::wall();
                let event = NewEvent { at, kind: EventKind::Calls, prefix: None, interface: None, message };
                self.operations.record(vec![event]).await;
            }
            Err(error) => tracing::warn!(%error, "the oldest call records are not removed: tried again later"),
        }
    }

    /// Changes were lost: everything that there is now takes their place. What ended meanwhile ends in the store by
    /// its time.
    async fn read_all(&self, pending: &mut Pending) {
        let all = self.sip.ask(|core| core.pbx.bindings().map(|one| one.stored().clone()).collect::<Vec<_>>()).await;
        for binding in all.unwrap_or_default() {
            pending.bindings.insert(binding.id, Some(binding));
        }
    }
}

const fn in_words(why: Ended) -> &'static str {
    match why {
        Ended::Unregistered => "the phone took it back",
        Ended::Expired => "its time was over",
        Ended::GaveWay => "it could not be reached, and another phone needed its place",
        Ended::Dropped => "an administrator ended it",
        Ended::Revoked => "the extension is gone, disabled or has another password",
    }
}

fn known_at(key: Key) -> KnownAt {
    KnownAt { addr: key.addr, port: key.port }
}

#[cfg(test)]
mod tests {
    use pbx_core::{call::Disposition, directory::TenantId};

    use super::*;

    fn record(id: u64, disposition: Disposition) -> Stored {
        Stored::Call(Box::new(Record {
            id: CallId(id),
            tenant: TenantId(1),
            caller: ExtensionId(1),
            caller_number: "101".into(),
            caller_name: "".into(),
            dialled: "102".into(),
            callee_number: "102".into(),
            started: Timestamp::EPOCH,
            ringing: None,
            answered: None,
            ended: None,
            billed: Duration::ZERO,
            disposition,
            status: 0,
            cause: 0,
            ended_by: None,
            why: "".into(),
            codec: "".into(),
            legs: Vec::new(),
        }))
    }

    async fn kept(store: &Store) -> Vec<(u64, Disposition)> {
        let all = crate::store::Condition::<crate::store::CallField>::All(Vec::new());
        let records = store.calls_before(&all, None, 100).await.unwrap();
        records.iter().map(|record| (record.id.0, record.disposition)).collect()
    }

    #[tokio::test]
    async fn the_last_state_of_a_call_is_kept_and_what_the_store_refuses_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pbx.db");
        let store = Store::open(&path).await.unwrap();
        let (mut pending, mut later) = (Pending::default(), Pending::default());
        pending.store(record(1, Disposition::Open));
        pending.store(record(2, Disposition::Open));
        later.store(record(1, Disposition::Busy));
        pending.take(later);
        assert_eq!((pending.unsaved(), pending.is_empty()), (2, false));
        pending.save(&store, Timestamp::EPOCH).await.unwrap();
        assert_eq!(kept(&store).await, [(2, Disposition::Open), (1, Disposition::Busy)]);

        store.close().await;
        pending.store(record(2, Disposition::Answered));
        assert!(pending.save(&store, Timestamp::EPOCH).await.is_err());
        assert_eq!(pending.unsaved(), 2, "it is tried again");
        let store = Store::open(&path).await.unwrap();
        pending.save(&store, Timestamp::EPOCH).await.unwrap();
        assert_eq!(kept(&store).await, [(2, Disposition::Answered), (1, Disposition::Busy)]);
    }

    #[test]
    fn records_that_find_no_place_are_counted_and_those_that_have_one_keep_it() {
        let (mut pending, mut later) = (Pending::default(), Pending::default());
        for id in 0..MOST_CALLS as u64 + 3 {
            pending.store(record(id, Disposition::Open));
        }
        assert_eq!((pending.unsaved(), pending.calls_lost, pending.lost), (MOST_CALLS as u64, 3, false));
        later.store(record(0, Disposition::Answered));
        later.store(record(u64::MAX, Disposition::Open));
        pending.take(later);
        assert_eq!((pending.calls[&CallId(0)].disposition, pending.calls_lost), (Disposition::Answered, 4));
    }
}
