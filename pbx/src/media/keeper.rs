//! The thread that keeps the pool of ports: binds pairs in an order that nobody can guess, lets those of legs that are
//! over rest, and tells the core of both. It takes its time, so that the core and the workers need not.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hasher as _,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use pbx_core::{
    media::{LegId, Pair, Stats},
    moment::Moment,
    pbx::Input,
    settings::Ports as Ranges,
};
use siphasher::sip::SipHasher13;

use super::{desk::Desk, socket::Ports, worker::Common};
use crate::net::receiving::Receiving;

/// How long the ports of a leg that is over are nobody's: what its phone still sends must not reach the next one.
const REST: Duration = Duration::from_secs(2);
/// Pairs that are told at once.
const SHARE: usize = 32;
/// How soon commands that found a full queue are tried again.
const AGAIN: Duration = Duration::from_millis(5);
/// How soon ports that another program held are tried again, when there are no others.
const TAKEN_AGAIN: Duration = Duration::from_secs(2);
/// As many pairs as there can be.
const MOST: usize = 1 << 15;

/// A leg that a worker has closed.
pub(super) struct Returned {
    pub(super) leg: LegId,
    pub(super) stats: Stats,
    pub(super) ports: Ports,
}

/// How the keeper is told.
pub(super) struct Keeper {
    returned: ArrayQueue<Returned>,
    wanted: AtomicUsize,
    ranges: Mutex<Option<Ranges>>,
    ends: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Keeper {
    pub(super) fn new(ranges: Ranges) -> Self {
        Self {
            returned: ArrayQueue::new(MOST),
            wanted: AtomicUsize::new(0),
            ranges: Mutex::new(Some(ranges)),
            ends: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Takes a leg that is over.
    pub(super) fn give_back(&self, returned: Returned) {
        // There are not more pairs than have room.
        let _ = self.returned.push(returned);
        self.rouse();
    }

    pub(super) fn want(&self, pairs: usize) {
        let add = |wanted: usize| Some(wanted.saturating_add(pairs).min(MOST));
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.rouse();
    }

    pub(super) fn set_ranges(&self, ranges: Ranges) {
        *self.ranges.lock().unwrap_or_else(PoisonError::into_inner) = Some(ranges);
        self.rouse();
    }

    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.rouse();
    }

    pub(super) fn rouse(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The keeper's thread.
pub(super) struct Keeping {
    pub(super) common: Arc<Common>,
    pub(super) desk: Arc<Desk>,
    pub(super) events: Box<dyn Fn(Input) + Send + Sync>,
    pub(super) stock: Stock,
}

impl Keeping {
    pub(super) fn run(mut self) {
        let common = Arc::clone(&self.common);
        let keeper = &common.keeper;
        let _ = keeper.thread.set(thread::current());
        let mut buffer = Receiving::new();
        loop {
            let ends = keeper.ends.load(Ordering::SeqCst);
            let now = common.clock.now();
            if let Some(ranges) = keeper.ranges.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.stock.set_ranges(&ranges);
            }
            while let Some(Returned { leg, stats, ports }) = keeper.returned.pop() {
                self.stock.resting.push_back((now + REST, ports));
                (self.events)(Input::LegEnded { leg, stats });
            }
            if ends {
                return;
            }
            self.stock.want(keeper.wanted.swap(0, Ordering::Relaxed));
            let rested = self.stock.rested(now, self.desk.ready(), &mut buffer);
            let bound = self.stock.bind(&common, now);
            let more = bound.len() == SHARE;
            self.hand_over(rested.into_iter().chain(bound));
            let waits = self.desk.flush();
            if more || !keeper.returned.is_empty() {
                continue;
            }
            let until = [waits.then_some(AGAIN), self.stock.next(now)].into_iter().flatten().min();
            match until {
                Some(span) => thread::park_timeout(span),
                None => thread::park(),
            }
        }
    }

    fn hand_over(&self, ports: impl Iterator<Item = Ports>) {
        let pairs = self.desk.put(ports);
        if !pairs.is_empty() {
            (self.events)(Input::Pairs(pairs));
        }
    }
}

/// Which ports there are, and who has them.
pub(super) struct Stock {
    /// Even ports of pairs in the range that are not bound by us.
    free: Vec<u16>,
    /// Those that another program was found to hold, or whose neighbour.
    taken: Vec<u16>,
    taken_until: Moment,
    /// Even ports in the range.
    range: HashSet<u16>,
    /// Bound: ready, in a leg, or resting.
    bound: HashSet<u16>,
    /// Until when each rests.
    resting: VecDeque<(Moment, Ports)>,
    /// Asked for and not there yet.
    owed: usize,
    /// Ready pairs that there should be: the most that was ever asked for at once.
    mark: usize,
    /// It was said that there are no more.
    said: bool,
    random: SipHasher13,
    drawn: u64,
}

impl Stock {
    /// Nothing yet; `seed` is secret.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        Self {
            free: Vec::new(),
            taken: Vec::new(),
            taken_until: Moment::ZERO,
            range: HashSet::new(),
            bound: HashSet::new(),
            resting: VecDeque::new(),
            owed: 0,
            mark: 0,
            said: false,
            random: SipHasher13::new_with_keys(seed[0], seed[1]),
            drawn: 0,
        }
    }

    fn set_ranges(&mut self, ranges: &Ranges) {
        self.range = pairs(ranges).map(|pair| pair.rtp).collect();
        self.free = self.range.iter().filter(|port| !self.bound.contains(port)).copied().collect();
        self.taken.clear();
        self.said = false;
    }

    fn want(&mut self, pairs: usize) {
        self.owed = (self.owed + pairs).min(MOST);
        self.mark = self.mark.max(pairs);
    }

    /// Pairs that have rested and are needed; the others are closed.
    fn rested(&mut self, now: Moment, ready: usize, buffer: &mut Receiving) -> Vec<Ports> {
        let mut rested = Vec::new();
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, ports)) = self.resting.pop_front() else { break };
            let port = ports.pair.rtp;
            let inside = self.range.contains(&port);
            if inside && (self.owed > 0 || ready + rested.len() < self.mark) {
                ports.drain(buffer);
                self.owed = self.owed.saturating_sub(1);
                rested.push(ports);
            } else {
                self.bound.remove(&port);
                if inside {
                    self.free.push(port);
                }
            }
        }
        rested
    }

    /// Binds what is owed, up to a share.
    fn bind(&mut self, common: &Common, now: Moment) -> Vec<Ports> {
        let mut bound = Vec::new();
        while self.owed > 0 && bound.len() < SHARE {
            if self.free.is_empty() && now >= self.taken_until && !self.taken.is_empty() {
                self.free.append(&mut self.taken);
                self.taken_until = now + TAKEN_AGAIN;
            }
            if self.free.is_empty() {
                if !std::mem::replace(&mut self.said, true) {
                    tracing::warn!(
                        pairs = self.range.len(),
                        "all ports of filter.media_ports are in use: calls are refused until others end"
                    );
                }
                common.counts.used_up.add(1);
                // What is owed stays owed: whoever asked does not ask again. What rests, and what others give back, is
                // given when it can be.
                break;
            }
            let port = self.draw();
            match Ports::bind(Pair { rtp: port }) {
                Ok(ports) => {
                    self.bound.insert(port);
                    self.owed -= 1;
                    self.said = false;
                    bound.push(ports);
                }
                Err(error) => {
                    common.counts.taken.add(1);
                    self.taken.push(port);
                    if error.kind() != std::io::ErrorKind::AddrInUse {
                        tracing::error!(%error, port, "a port for calls can not be opened");
                        self.taken_until = now + TAKEN_AGAIN;
                        break;
                    }
                }
            }
        }
        bound
    }

    /// One of the free, each as likely as the others.
    fn draw(&mut self) -> u16 {
        self.drawn += 1;
        let mut random = self.random;
        random.write_u64(self.drawn);
        let index = ((u128::from(random.finish()) * self.free.len() as u128) >> 64) as usize;
        self.free.swap_remove(index)
    }

    /// How long until there is something to do.
    fn next(&self, now: Moment) -> Option<Duration> {
        let rested = self.resting.front().map(|(until, _)| until.since(now));
        let again = (self.owed > 0 && !self.taken.is_empty()).then(|| self.taken_until.since(now));
        [rested, again].into_iter().flatten().min().map(|span| span.max(Duration::from_millis(1)))
    }
}

/// The pairs inside the range.
pub(super) fn pairs(ranges: &Ranges) -> impl Iterator<Item = Pair> {
    ranges
        .ranges()
        .iter()
        .flat_map(|range| (range.first.next_multiple_of(2)..range.last).step_by(2).map(|rtp| Pair { rtp }))
}
