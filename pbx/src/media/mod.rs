//! The relay of media: threads that move RTP and RTCP between the ports of legs as the core's commands say
//! ([`pbx_core::media`]), a pool of ports, and what the filter learns of both. Below the core, beside signalling; knows
//! no calls, only legs.
//!
//! A leg's packets are one worker's from the socket to the peer's socket, and every decision about them is
//! `pbx_core`'s. Commands reach a worker by a bounded queue; what does not fit waits with whoever commands, a leg at most
//! once.

mod desk;
mod flows;
mod keeper;
mod leg;
mod life;
mod live;
mod socket;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pbx_core::{
    media::{Command, LegId, Stats},
    pbx::Input,
    settings::{Ports, Settings},
};

pub use self::live::RelayStatus;
use self::{
    desk::Desk,
    flows::Flows,
    keeper::{Keeper, Keeping, Stock},
    life::Life,
    live::Counts,
    worker::{Common, Door, Worker},
};
use crate::{filter::Filter, net::Clock};

/// How a relay is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's clock.
    pub clock: Clock,
    /// Threads that move packets.
    pub workers: usize,
    /// The ports that legs have theirs from.
    pub ports: Ports,
    /// How long a phone's port is silent before another one of its address is believed.
    pub silence: Duration,
    /// Random numbers that nobody else knows: of the order of the ports, and of the names of streams.
    pub seeds: [[u64; 2]; 2],
}

impl Options {
    /// As the settings say, with a thread for each processor up to four.
    pub fn new(settings: &Settings, seeds: [[u64; 2]; 2], clock: Clock) -> Self {
        Self {
            clock,
            workers: thread::available_parallelism().map_or(1, usize::from).min(4),
            ports: settings.filter.media_ports.clone(),
            silence: settings.calls.media_silence.get(),
            seeds,
        }
    }
}

/// A relay that runs. Dropping it ends it.
pub struct Relay {
    common: Arc<Common>,
    life: Life,
    desk: Arc<Desk>,
    doors: Vec<Arc<Door>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    flows: Arc<Flows>,
    telling: Mutex<Option<JoinHandle<()>>>,
}

impl Relay {
    /// Starts the threads. `events` is told of pairs that are ready and of legs that ended, by a thread that may wait.
    ///
    /// # Errors
    ///
    /// The machine gives no threads, or too few files.
    pub fn start(options: Options, events: Box<dyn Fn(Input) + Send + Sync>) -> anyhow::Result<Self> {
        let Options { clock, workers, ports, silence, seeds: [order, names] } = options;
        let silence = AtomicU64::new(micros(silence));
        let common = Arc::new(Common { clock, silence, counts: Counts::default(), keeper: Keeper::new(ports) });
        let doors = (0..workers.max(1)).map(|_| Door::new().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let desk = Arc::new(Desk::new(doors.clone(), names));
        let relay = Self {
            common,
            life: Life::default(),
            desk,
            doors,
            threads: Mutex::default(),
            keeper: Mutex::default(),
            flows: Arc::default(),
            telling: Mutex::default(),
        };
        // On an error the drop of `relay` ends the threads that there are.
        for (index, door) in relay.doors.iter().enumerate() {
            let (common, door, epoll) = (Arc::clone(&relay.common), Arc::clone(door), door.epoll()?);
            let thread = relay.life.start(format!("media-{index}"), move || Worker::new(common, door, epoll).run())?;
            relay.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        let keeping = Keeping {
            common: Arc::clone(&relay.common),
            desk: Arc::clone(&relay.desk),
            events,
            stock: Stock::new(order),
        };
        let thread = relay.life.start("media-ports".to_owned(), move || keeping.run())?;
        *relay.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(relay)
    }

    /// Tells the filter which ports legs hold, from now until the end: `current` says which filter that is. Once.
    ///
    /// # Errors
    ///
    /// The machine gives no thread.
    pub fn guard(&self, current: impl Fn() -> Arc<dyn Filter> + Send + 'static) -> anyhow::Result<()> {
        let flows = Arc::clone(&self.flows);
        let thread = self.life.start("media-filter".to_owned(), move || flows.run(current))?;
        *self.telling.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Does as the core says. Never waits.
    pub fn command(&self, command: Command) {
        let counts = &self.common.counts;
        match command {
            Command::Set(leg) => {
                let (id, pair) = (leg.id, leg.pair);
                // First: the port is open before anybody is told of it.
                self.flows.set(&leg);
                if !self.desk.set(leg, counts) {
                    self.flows.close(pair);
                    tracing::error!(leg = id.0, port = pair.rtp, "a leg has no media: its ports are not there");
                }
            }
            Command::Close(leg) => {
                if let Some(pair) = self.desk.close(leg, counts) {
                    self.flows.close(pair);
                }
            }
            Command::Digit { leg, digit, duration } => self.desk.digit(leg, digit, duration, counts),
            Command::Wanted(pairs) => self.common.keeper.want(pairs),
        }
        if self.desk.flush() {
            self.common.keeper.rouse();
        }
    }

    /// Takes over new settings. Ports outside a new range stay with the legs that have them.
    pub fn settings(&self, settings: &Settings) {
        self.common.silence.store(micros(settings.calls.media_silence.get()), Ordering::Relaxed);
        self.common.keeper.set_ranges(settings.filter.media_ports.clone());
    }

    /// What went through a leg so far, and where its phone's RTP comes from; none: there is no such leg, or
    /// its worker has not heard of it yet.
    pub fn seen(&self, leg: LegId) -> Option<(Stats, Option<SocketAddr>)> {
        self.desk.seen(leg)
    }

    /// Whether a thread of it broke off: calls have no media then, or will have none.
    pub fn is_broken(&self) -> bool {
        self.life.is_broken()
    }

    /// Waits until a thread of it breaks off; for ever, if none does.
    pub fn broken(&self) -> impl Future<Output = ()> + use<> {
        self.life.broken()
    }

    /// The relay as a whole.
    pub fn status(&self) -> RelayStatus {
        let Counts { overflow, unsent, withheld, delayed, digits, taken, used_up } = &self.common.counts;
        RelayStatus {
            legs: self.desk.legs(),
            ready: self.desk.ready(),
            receive_buffer_full: overflow.read(),
            not_sent: unsent.read(),
            withheld: withheld.read(),
            delayed: delayed.read(),
            digits_lost: digits.read(),
            taken: taken.read(),
            used_up: used_up.read(),
            broken: self.is_broken(),
        }
    }

    /// Ends all legs, telling of each, and all threads. Blocks until they have ended.
    pub fn stop(&self) {
        self.doors.iter().for_each(|door| door.end());
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the relay had broken off");
            }
        }
        // After the workers: it tells of the legs that they ended.
        self.common.keeper.end();
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if keeper.is_some_and(|keeper| keeper.join().is_err()) {
            tracing::error!("the keeper of the ports had broken off");
        }
        self.flows.end();
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner).take();
        if telling.is_some_and(|telling| telling.join().is_err()) {
            tracing::error!("what tells the filter of calls had broken off");
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
