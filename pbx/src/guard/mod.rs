//! The guard in the daemon: a thread that counts what the receive workers tell it, and blocks in the filter at once. What
//! it decides is decided in `pbx_core::guard`; here is who asks it, and what becomes of its answers.
//!
//! Workers never wait: they put a sign into a bounded queue, and what finds it full is counted. The lock on the guard is
//! taken by its thread, a batch at a time, and by operations that look at it.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use pbx_core::{
    address::Prefix,
    guard::{Detector, Guard, Networks, Offence, Output, PairBlock, Peak, Sign, Watched, pairs::Pairs},
    settings::Settings,
    time::Timestamp,
};
use tokio::sync::{mpsc, watch};

use crate::{filter::NewBlock, host::clock, net::Clock, ops::Operations};

/// Signs that may wait; with their messages up to 8 MiB.
const SIGNS: usize = 8192;
/// Signs that are counted in one go.
const BATCH: usize = 256;
/// How often is looked at what only time tells.
const SWEEP: Duration = Duration::from_secs(1);
/// Outputs that may wait to be kept; more are counted as lost.
const OUTPUTS: usize = 4096;
/// What is told in one go.
const TOGETHER: usize = 512;
/// The pause after the store has refused something.
const AGAIN: Duration = Duration::from_secs(2);

/// The guard, its thread, and the way to both.
pub struct Watch {
    guard: Mutex<Guard>,
    pairs: Pairs,
    clock: Clock,
    networks: ArcSwap<Networks>,
    connected: Mutex<Vec<Prefix>>,
    signs: SyncSender<Sign>,
    waiting: Mutex<Option<Receiver<Sign>>>,
    outputs: mpsc::Sender<(Timestamp, Output)>,
    kept: Mutex<Option<mpsc::Receiver<(Timestamp, Output)>>>,
    operations: OnceLock<Operations>,
    counted: AtomicU64,
    shed: AtomicU64,
    lost: AtomicU64,
    ends: AtomicBool,
}

/// What the guard does, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuardStatus {
    /// Signs that were counted since the start.
    pub signs: u64,
    /// Signs that found the queue full.
    pub shed: u64,
    /// Decisions that could not be kept or told.
    pub lost: u64,
    /// Sources that are watched now.
    pub sources: usize,
    /// Sources that gave way to others.
    pub evicted: u64,
    /// Pairs of a known source and an account that are not heard now.
    pub pairs: usize,
}

fn wall() -> Timestamp {
    Timestamp::from_millis(clock::wall_ms())
}

impl Watch {
    /// A guard that has seen nothing but what the store kept. `seed` is random and secret; `connected` are the networks
    /// of the own interfaces.
    pub fn new(
        settings: &Settings,
        offences: impl IntoIterator<Item = Offence>,
        connected: Vec<Prefix>,
        seed: [u64; 2],
        clock: Clock,
    ) -> Arc<Self> {
        let networks = Networks::new(settings, connected.clone());
        let mut guard = Guard::new(settings, networks.clone());
        guard.restore(offences, []);
        let (signs, waiting) = sync_channel(SIGNS);
        let (outputs, kept) = mpsc::channel(OUTPUTS);
        Arc::new(Self {
            guard: Mutex::new(guard),
            pairs: Pairs::new(seed),
            clock,
            networks: ArcSwap::from_pointee(networks),
            connected: Mutex::new(connected),
            signs,
            waiting: Mutex::new(Some(waiting)),
            outputs,
            kept: Mutex::new(Some(kept)),
            operations: OnceLock::new(),
            counted: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ends: AtomicBool::new(false),
        })
    }

    /// Starts the thread, which blocks by the filter of these operations; what comes back keeps what it decides, and is a
    /// part of the daemon. Nothing the second time.
    ///
    /// # Errors
    ///
    /// The machine gives no thread.
    pub fn start(
        self: &Arc<Self>,
        operations: Operations,
        mut ending: watch::Receiver<bool>,
    ) -> anyhow::Result<Option<impl Future<Output = ()> + use<>>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(waiting), Some(mut kept)) = (waiting, kept) else { return Ok(None) };
        let _ = self.operations.set(operations.clone());
        let watch = Arc::clone(self);
        thread::Builder::new()
            .name("pbx-guard".to_owned())
            .spawn(move || watch.run(&waiting))
            .context("cannot start the guard's thread")?;
        Ok(Some(async move {
            let mut together = Vec::new();
            loop {
                tokio::select! {
                    _ = kept.recv_many(&mut together, TOGETHER) => {}
                    _ = ending.wait_for(|ends| *ends) => break,
                }
                // Blocks are in force already; only the record of them waits for the disk.
                while let Err(error) = operations.keep_guard(&together).await {
                    tracing::warn!(error = %error.message, "why sources were blocked is not stored yet");
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        _ = ending.wait_for(|ends| *ends) => break,
                    }
                }
                together.clear();
            }
            // What was decided last.
            while let Ok(output) = kept.try_recv() {
                together.push(output);
            }
            if let Err(error) = operations.keep_guard(&together).await {
                tracing::warn!(error = %error.message, "why the last sources were blocked is not stored");
            }
        }))
    }

    /// Ends the thread, and with it what keeps.
    pub fn end(&self) {
        self.ends.store(true, SeqCst);
    }

    /// A source did something. Never waits.
    pub fn tell(&self, sign: Sign) {
        if self.signs.try_send(sign).is_err() {
            self.shed.fetch_add(1, Relaxed);
        }
    }

    /// Pairs of known sources and accounts, for the receive workers.
    pub fn held(&self) -> &Pairs {
        &self.pairs
    }

    /// Networks that are treated otherwise, as they are now.
    pub fn networks(&self) -> Arc<Networks> {
        self.networks.load_full()
    }

    /// Takes over settings.
    pub fn set(&self, settings: &Settings) {
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let networks = Networks::new(settings, connected);
        self.networks.store(Arc::new(networks.clone()));
        self.guard().set(settings, networks);
    }

    /// Takes over the networks of the own interfaces.
    pub fn set_connected(&self, connected: Vec<Prefix>, settings: &Settings) {
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = connected;
        self.set(settings);
    }

    /// An address became known, or is no longer.
    pub fn known(&self, addr: IpAddr, known: bool) {
        self.guard().known(addr, known);
    }

    /// The filter has blocked a source by itself.
    pub fn blocked_by_filter(&self, prefix: Prefix, detector: Detector, enforced: bool) {
        let outputs = {
            let mut guard = self.guard();
            guard.blocked_by_filter(prefix, detector, enforced, self.clock.now(), wall());
            outputs(&mut guard)
        };
        self.carry_out(outputs);
    }

    /// How many packets a source sends in a second.
    pub fn rate(&self, prefix: Prefix, packets: u32, known: bool) {
        self.guard().rate(prefix, packets, known, wall());
    }

    /// Forgets all about a range: somebody let it go. The pairs that may try again.
    pub fn forget(&self, range: &Prefix) -> Vec<PairBlock> {
        let (released, outputs) = {
            let mut guard = self.guard();
            let released: Vec<PairBlock> = guard.pairs().filter(|pair| range.contains(pair.source)).cloned().collect();
            guard.forget(range);
            (released, outputs(&mut guard))
        };
        released.iter().for_each(|pair| self.pairs.release(pair.source, pair.account.hash));
        self.carry_out(outputs);
        released
    }

    /// Pairs of a known source and an account that are not heard now.
    pub fn pairs(&self) -> Vec<PairBlock> {
        self.guard().pairs().cloned().collect()
    }

    /// How far sources went in the last 24 hours.
    pub fn peaks(&self) -> Vec<Peak> {
        self.guard().peaks(wall())
    }

    /// What detectors count of an address now, and how often it was blocked before.
    pub fn counters(&self, addr: IpAddr) -> (Vec<(Detector, u32)>, Option<Offence>) {
        self.guard().counters(addr, self.clock.now())
    }

    /// What the guard does, in numbers.
    pub fn status(&self) -> GuardStatus {
        let Watched { sources, evicted, pairs } = self.guard().watched();
        let [signs, shed, lost] = [&self.counted, &self.shed, &self.lost].map(|count| count.load(Relaxed));
        GuardStatus { signs, shed, lost, sources, evicted, pairs }
    }

    fn run(&self, waiting: &Receiver<Sign>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut next_sweep = self.clock.now() + SWEEP;
        while !self.ends.load(SeqCst) {
            match waiting.recv_timeout(next_sweep.since(self.clock.now())) {
                Ok(sign) => batch.push(sign),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            batch.extend(waiting.try_iter().take(BATCH - batch.len()));
            let (now, wall) = (self.clock.now(), wall());
            self.counted.fetch_add(batch.len() as u64, Relaxed);
            let outputs = {
                let mut guard = self.guard();
                batch.drain(..).for_each(|sign| guard.sign(sign, now, wall));
                if now >= next_sweep {
                    guard.sweep(now, wall);
                    next_sweep = now + SWEEP;
                }
                outputs(&mut guard)
            };
            self.carry_out(outputs);
        }
    }

    /// Does at once what cannot wait, and hands the rest to what keeps.
    fn carry_out(&self, outputs: Vec<Output>) {
        let at = wall();
        for output in outputs {
            let goes_on = match &output {
                Output::Block(block) => {
                    let new = NewBlock {
                        prefix: block.prefix,
                        reason: block.detector,
                        expires_at: at.saturating_add(block.time),
                        enforced: block.enforced,
                        web_only: block.web_only,
                    };
                    block.by_filter || self.block(&new)
                }
                Output::Pair(pair) => {
                    if pair.enforced {
                        self.pairs.hold(pair.source, pair.account.hash, self.clock.now() + pair.time);
                    }
                    true
                }
                Output::Alarm(_) | Output::Spread { .. } | Output::Offence(_) | Output::NoOffence(_) => true,
            };
            if goes_on && self.outputs.try_send((at, output)).is_err() {
                self.lost.fetch_add(1, Relaxed);
            }
        }
    }

    /// Whether it is blocked now: whom a rule allows is not.
    fn block(&self, block: &NewBlock) -> bool {
        let Some(operations) = self.operations.get() else { return false };
        if operations.is_allowed(&block.prefix) {
            return false;
        }
        match operations.filter().block(block) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(source = %block.prefix, "the filter does not block it: {error:#}");
                false
            }
        }
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outputs(guard: &mut Guard) -> Vec<Output> {
    std::iter::from_fn(|| guard.poll_output()).collect()
}
