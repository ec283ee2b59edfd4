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
    guard::{Detector, Guard, Networks, Offence, Output, PairBlock, Peak, Place, Sign, Watched, pairs::Pairs},
    settings::Settings,
    time::Timestamp,
};
use tokio::sync::{mpsc, oneshot};

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
/// Blocks in a second that rest on what anybody may have sent.
const UNSURE: u64 = 256;
/// The pause after the store has refused something.
const AGAIN: Duration = Duration::from_secs(2);

/// The guard, its thread, and the way to both.
pub struct Watch {
    guard: Mutex<Guard>,
    pairs: Pairs,
    clock: Clock,
    networks: ArcSwap<Networks>,
    /// The settings and the machine's place, as the guard has them.
    around: Mutex<(Settings, Place)>,
    signs: SyncSender<Sign>,
    waiting: Mutex<Option<Receiver<Sign>>>,
    outputs: mpsc::Sender<(Timestamp, Output)>,
    kept: Mutex<Option<mpsc::Receiver<(Timestamp, Output)>>>,
    operations: OnceLock<Operations>,
    counted: AtomicU64,
    shed: AtomicU64,
    lost: AtomicU64,
    ends: AtomicBool,
    /// The filter did not take the last block.
    refused: AtomicBool,
    /// A second, and how many blocks were made in it that rest on what anybody may have sent.
    unsure_second: AtomicU64,
    unsure_blocks: AtomicU64,
    began: Timestamp,
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
    /// Sources of which a rehearsal knows nothing, because there were too many.
    #[serde(default)]
    pub left_out: u64,
}

fn wall() -> Timestamp {
    Timestamp::from_millis(clock::wall_ms())
}

impl Watch {
    /// A guard that has seen nothing but what the store kept. `seed` is random and secret.
    pub fn new(
        settings: &Settings,
        offences: impl IntoIterator<Item = Offence>,
        place: Place,
        seed: [u64; 2],
        clock: Clock,
    ) -> Arc<Self> {
        let networks = Networks::new(settings, place.clone());
        let mut guard = Guard::new(settings, networks.clone());
        guard.restore(offences, []);
        let (signs, waiting) = sync_channel(SIGNS);
        let (outputs, kept) = mpsc::channel(OUTPUTS);
        Arc::new(Self {
            guard: Mutex::new(guard),
            pairs: Pairs::new(seed),
            clock,
            networks: ArcSwap::from_pointee(networks),
            around: Mutex::new((settings.clone(), place)),
            signs,
            waiting: Mutex::new(Some(waiting)),
            outputs,
            kept: Mutex::new(Some(kept)),
            operations: OnceLock::new(),
            counted: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ends: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            unsure_second: AtomicU64::new(0),
            unsure_blocks: AtomicU64::new(0),
            began: wall(),
        })
    }

    /// Starts the thread, which blocks by the filter of these operations; what comes back keeps what it decides, and is a
    /// part of the daemon. Nothing the second time.
    ///
    /// # Errors
    ///
    /// The machine gives no thread.
    pub fn start(self: &Arc<Self>, operations: Operations) -> anyhow::Result<Option<impl Future<Output = ()> + use<>>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(waiting), Some(mut kept)) = (waiting, kept) else { return Ok(None) };
        let _ = self.operations.set(operations.clone());
        let watch = Arc::clone(self);
        // Dropped with the thread, however that ends: a part of the daemon that ends by itself ends the daemon.
        let (lives, mut ended) = oneshot::channel::<()>();
        thread::Builder::new()
            .name("pbx-guard".to_owned())
            .spawn(move || {
                let _lives = lives;
                watch.run(&waiting);
            })
            .context("cannot start the guard's thread")?;
        Ok(Some(async move {
            let mut together = Vec::new();
            loop {
                // What the store refused is tried again first.
                if together.is_empty() {
                    tokio::select! {
                        _ = kept.recv_many(&mut together, TOGETHER) => {}
                        _ = &mut ended => break,
                    }
                }
                // Blocks are in force already; only the record of them waits for the disk.
                match operations.keep_guard(&together).await {
                    Ok(()) => together.clear(),
                    Err(error) => {
                        // What waits meanwhile is bounded by the queue.
                        tracing::warn!(error = %error.message, "why sources were blocked is not stored yet");
                        tokio::select! {
                            () = tokio::time::sleep(AGAIN) => {}
                            _ = &mut ended => break,
                        }
                    }
                }
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
        let mut known = self.around.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.clone_from(settings);
        self.set_now(&known);
    }

    fn set_now(&self, (settings, place): &(Settings, Place)) {
        let networks = Networks::new(settings, place.clone());
        self.networks.store(Arc::new(networks.clone()));
        let mut guard = self.guard();
        let ended = guard.set(settings, networks);
        self.release(&ended);
    }

    /// Takes over the machine's place in its networks.
    pub fn set_place(&self, place: Place) {
        let mut known = self.around.lock().unwrap_or_else(PoisonError::into_inner);
        known.1 = place;
        self.set_now(&known);
    }

    /// An address became known, or is no longer.
    pub fn known(&self, addr: IpAddr, known: bool) {
        self.guard().known(addr, known);
    }

    /// The filter has blocked a source by itself.
    pub fn blocked_by_filter(&self, prefix: Prefix, detector: Detector, enforced: bool) {
        let mut guard = self.guard();
        guard.blocked_by_filter(prefix, detector, enforced, self.clock.now(), wall());
        self.carry_out(&mut guard);
    }

    /// How many packets a source sends in a second.
    pub fn rate(&self, prefix: Prefix, packets: u32, known: bool) {
        self.guard().rate(prefix, packets, known, wall());
    }

    /// Forgets all about a range: somebody let it go. The pairs that may try again.
    pub fn forget(&self, range: &Prefix) -> Vec<PairBlock> {
        let mut guard = self.guard();
        let released = self.forget_in(&mut guard, range);
        self.carry_out(&mut guard);
        released
    }

    fn forget_in(&self, guard: &mut Guard, range: &Prefix) -> Vec<PairBlock> {
        let released: Vec<PairBlock> = guard.pairs().filter(|pair| range.contains(pair.source)).cloned().collect();
        guard.forget(range);
        self.release(&released);
        released
    }

    /// Whether anything is remembered of a range: counted, or blocked before.
    pub fn remembers(&self, range: &Prefix) -> bool {
        self.guard().remembers(range)
    }

    /// Whether somebody known lives in a range.
    pub fn knows_in(&self, range: &Prefix) -> bool {
        self.guard().knows_in(range)
    }

    fn release(&self, pairs: &[PairBlock]) {
        pairs.iter().for_each(|pair| self.pairs.release(pair.source, pair.account.hash));
    }

    /// Pairs of a known source and an account that are not heard now.
    pub fn pairs(&self) -> Vec<PairBlock> {
        self.guard().pairs().cloned().collect()
    }

    /// Since when it counts.
    pub const fn began(&self) -> Timestamp {
        self.began
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
        let Watched { sources, evicted, pairs, left_out } = self.guard().watched();
        let [signs, shed, lost] = [&self.counted, &self.shed, &self.lost].map(|count| count.load(Relaxed));
        GuardStatus { signs, shed, lost, sources, evicted, pairs, left_out }
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
            let mut guard = self.guard();
            batch.drain(..).for_each(|sign| guard.sign(sign, now, wall));
            if now >= next_sweep {
                guard.sweep(now, wall);
                next_sweep = now + SWEEP;
            }
            self.carry_out(&mut guard);
        }
    }

    /// Does at once what cannot wait, and hands the rest to what keeps. With the guard held, so that nobody lets a source
    /// go between a decision and what comes of it.
    fn carry_out(&self, guard: &mut Guard) {
        let at = wall();
        while let Some(output) = guard.poll_output() {
            let goes_on = match &output {
                Output::Block(block) => {
                    let new = NewBlock {
                        prefix: block.prefix,
                        reason: block.detector,
                        expires_at: at.saturating_add(block.time),
                        enforced: block.enforced,
                        web_only: block.web_only,
                    };
                    let is_blocked = block.by_filter || self.block(&new, block.sure);
                    if !is_blocked && block.detector != Detector::Level2 {
                        // It begins at nothing, instead of being taken for blocked.
                        self.forget_in(guard, &block.prefix);
                    }
                    // A block of the filter's that is not prolonged is one all the same.
                    is_blocked || block.detector == Detector::Level2
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

    /// Whether it is blocked now: whom a rule allows is not, and of what anybody may have sent only so much in a second.
    fn block(&self, block: &NewBlock, sure: bool) -> bool {
        let Some(operations) = self.operations.get() else { return false };
        if operations.is_allowed(&block.prefix) {
            return false;
        }
        if !sure && !self.may_block_unsure() {
            self.lost.fetch_add(1, Relaxed);
            return false;
        }
        match operations.filter().block(block) {
            Ok(()) => {
                self.refused.store(false, Relaxed);
                true
            }
            Err(error) => {
                self.lost.fetch_add(1, Relaxed);
                if !self.refused.swap(true, Relaxed) {
                    tracing::warn!(source = %block.prefix, "the filter does not block it: {error:#}");
                }
                false
            }
        }
    }

    /// One more block in this second that rests on what anybody may have sent: forged addresses must not fill the table.
    /// Only who holds the guard comes here.
    fn may_block_unsure(&self) -> bool {
        let second = self.clock.now().as_micros() / 1_000_000;
        let is_same = self.unsure_second.swap(second, Relaxed) == second;
        let count = if is_same { self.unsure_blocks.load(Relaxed) } else { 0 };
        self.unsure_blocks.store(count + 1, Relaxed);
        count < UNSURE
    }

    /// Counts a sign at once, as its thread would.
    #[cfg(test)]
    pub(crate) fn count(&self, sign: Sign) {
        let mut guard = self.guard();
        guard.sign(sign, self.clock.now(), wall());
        self.carry_out(&mut guard);
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
