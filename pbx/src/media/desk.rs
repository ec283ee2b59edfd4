//! Where commands arrive: which worker has which leg, which pairs wait for one, and the commands that found a full
//! queue. Locked for moments only, by the core thread, the keeper and whoever looks; never by a worker.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pbx_core::media::{Leg, LegId, Pair, Stats};
use siphasher::sip::SipHasher13;

use super::{
    live::{Counts, Live},
    socket::Ports,
    worker::{Door, Order},
};

/// The desk.
pub(super) struct Desk {
    doors: Vec<Arc<Door>>,
    random: SipHasher13,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    legs: HashMap<LegId, Known>,
    ready: HashMap<Pair, Ports>,
    /// Legs about which a worker has something to learn still; the last word counts.
    waiting: BTreeMap<LegId, Waiting>,
}

struct Known {
    worker: usize,
    pair: Pair,
    live: Arc<Live>,
}

type New = Box<(Ports, Arc<Live>, u64)>;

struct Waiting {
    worker: usize,
    set: Option<(Box<Leg>, Option<New>)>,
    close: bool,
}

impl Desk {
    pub(super) fn new(doors: Vec<Arc<Door>>, random: [u64; 2]) -> Self {
        let random = SipHasher13::new_with_keys(random[0], random[1]);
        Self { doors, random, inner: Mutex::default() }
    }

    /// Makes or changes a leg. `false`: its pair is not there, or another leg has it.
    pub(super) fn set(&self, leg: Leg, counts: &Counts) -> bool {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let (worker, new) = match inner.legs.get(&leg.id) {
            Some(known) if known.pair != leg.pair => return false,
            Some(known) => (known.worker, None),
            None => {
                let Some(ports) = inner.ready.remove(&leg.pair) else { return false };
                let worker = (leg.group % self.doors.len() as u64) as usize;
                let live = Arc::new(Live::default());
                inner.legs.insert(leg.id, Known { worker, pair: leg.pair, live: Arc::clone(&live) });
                (worker, Some(Box::new((ports, live, self.random.hash(&leg.id.0.to_ne_bytes())))))
            }
        };
        let id = leg.id;
        let leg = Box::new(leg);
        let (leg, new) = match inner.waiting.get_mut(&id) {
            Some(waiting) => {
                let new = new.or_else(|| waiting.set.take().and_then(|(_, new)| new));
                waiting.set = Some((leg, new));
                return true;
            }
            None => match self.doors[worker].order(Order::Set(leg, new)) {
                Err(Order::Set(leg, new)) => (leg, new),
                _ => return true,
            },
        };
        counts.delayed.add(1);
        inner.waiting.insert(id, Waiting { worker, set: Some((leg, new)), close: false });
        true
    }

    /// Ends a leg; its pair, if there is such a leg.
    pub(super) fn close(&self, leg: LegId, counts: &Counts) -> Option<Pair> {
        let mut inner = self.inner();
        let known = inner.legs.remove(&leg)?;
        if let Some(waiting) = inner.waiting.get_mut(&leg) {
            waiting.close = true;
        } else if self.doors[known.worker].order(Order::Close(leg)).is_err() {
            counts.delayed.add(1);
            inner.waiting.insert(leg, Waiting { worker: known.worker, set: None, close: true });
        }
        Some(known.pair)
    }

    /// Sends a digit, if the worker has the time: one that is late is none.
    pub(super) fn digit(&self, leg: LegId, digit: char, duration: Duration, counts: &Counts) {
        let inner = self.inner();
        let worker = inner.legs.get(&leg).filter(|_| !inner.waiting.contains_key(&leg)).map(|known| known.worker);
        let ordered =
            worker.is_some_and(|worker| self.doors[worker].order(Order::Digit { leg, digit, duration }).is_ok());
        if !ordered {
            counts.digits.add(1);
        }
    }

    /// Tries again what found a full queue; whether some still waits.
    pub(super) fn flush(&self) -> bool {
        let mut inner = self.inner();
        inner.waiting.retain(|leg, waiting| {
            let door = &self.doors[waiting.worker];
            if let Some((leg, new)) = waiting.set.take()
                && let Err(Order::Set(leg, new)) = door.order(Order::Set(leg, new))
            {
                waiting.set = Some((leg, new));
                return true;
            }
            waiting.close && door.order(Order::Close(*leg)).is_err()
        });
        !inner.waiting.is_empty()
    }

    /// Pairs that are bound and wait for a leg.
    pub(super) fn ready(&self) -> usize {
        self.inner().ready.len()
    }

    /// Legs that there are.
    pub(super) fn legs(&self) -> usize {
        self.inner().legs.len()
    }

    /// Puts pairs there for legs to come.
    pub(super) fn put(&self, ports: impl Iterator<Item = Ports>) -> Vec<Pair> {
        let mut inner = self.inner();
        ports
            .map(|ports| {
                let pair = ports.pair;
                inner.ready.insert(pair, ports);
                pair
            })
            .collect()
    }

    /// What went through a leg so far, and where its phone was heard; none: there is no such leg yet.
    pub(super) fn seen(&self, leg: LegId) -> Option<(Stats, Option<SocketAddr>)> {
        let live = Arc::clone(&self.inner().legs.get(&leg)?.live);
        live.is_open().then(|| (live.stats(), live.latched()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
