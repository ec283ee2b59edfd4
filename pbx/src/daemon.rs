//! The composition root: opens the store, takes the filter over, binds the socket, wires them, and ends in order.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use aya::maps::{MapData, RingBuf};
use nix::fcntl::{Flock, FlockArg};
use pbx_core::{lockout::Surroundings, time::Timestamp};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    api,
    config::{Attach, Config},
    filter::Filter,
    host::{self, Snapshot, clock},
    ops::{Environment, Operations, State},
    store::{EventKind, NewEvent, Store},
    xdp::{self, Start, Told, XdpFilter},
};

/// How often expired rules and blocks are swept and the store follows the kernel's blocks.
const SWEEP: Duration = Duration::from_secs(1);
/// After a kernel event, how long further ones are gathered before the blocks are read.
const GATHER: Duration = Duration::from_millis(50);
/// Kernel events that may wait to be told.
const EVENT_QUEUE: usize = 256;

/// Runs the daemon until it is told to end. `detach`: take the filter off when it ends.
pub async fn run(config: Config, detach: bool) -> anyhow::Result<()> {
    start_log();
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    let _lock = lock(&config.data_dir)?;
    let store = Store::open(&config.data_dir.join("pbx.db")).await?;
    let state = State::load(&store, now()).await?;
    let snapshot = tokio::task::spawn_blocking(Snapshot::read).await?.context("cannot look at the interfaces")?;

    // Before the filter, so that a daemon that has no socket leaves it alone. Who connects waits.
    let listener =
        api::bind(&config.socket).with_context(|| format!("cannot bind the socket {}", config.socket.display()))?;
    let (filter, told) = open_filter(&config, &state, &snapshot)?;
    let (pending, refused) = (state.pending.clone(), state.refused_settings.clone());
    let filter_dyn: Arc<dyn Filter> = match &filter {
        Ok(filter) => filter.clone(),
        Err(disabled) => disabled.clone(),
    };
    let environment = Environment { filter: filter_dyn, surroundings: surroundings(), clock: Arc::new(now) };
    let operations = Operations::new(store.clone(), state, environment);
    operations.started(pending, &refused).await?;
    operations.record(told.into_iter().map(|told| told.event(now())).collect()).await;
    follow_blocks(&operations).await;

    let (end, ending) = watch::channel(false);
    let router = api::router(operations.clone(), api::system_authority(), ending.clone());
    let server = tokio::spawn(api::Server::new(listener, router, ending.clone()).run());
    let background = filter
        .as_ref()
        .ok()
        .map(|filter| tokio::spawn(background(Arc::clone(filter), operations.clone(), ending.clone())));
    let sweeper = tokio::spawn(sweep_rules(operations.clone(), ending));

    // Who is told that we are ready may end us at once.
    let signals = Signals::listen()?;
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("filtering")]);
    tracing::info!(socket = %config.socket.display(), "ready");
    signals.wait_for_end().await;

    notify(&[sd_notify::NotifyState::Stopping]);
    let _ = end.send(true);
    server.await?;
    sweeper.await?;
    if let Some(background) = background {
        background.await?;
    }
    if let (true, Ok(filter)) = (detach, &filter) {
        filter.leave()?;
        tracing::info!("the filter is taken off all interfaces");
    }
    store.close().await;
    let _ = std::fs::remove_file(&config.socket);
    Ok(())
}

/// The surroundings as they are, or, when they cannot be read, as they were: a lock-out check that sees nobody
/// would let everything through.
fn surroundings() -> Arc<dyn Fn() -> Surroundings + Send + Sync> {
    let last = Mutex::new(Surroundings::default());
    Arc::new(move || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match host::surroundings(&[]) {
            Ok(surroundings) => *last = surroundings,
            Err(error) => tracing::warn!(%error, "the surroundings cannot be read: lock-out checks use the last ones"),
        }
        last.clone()
    })
}

type Opened = (Result<Arc<XdpFilter>, Arc<xdp::Disabled>>, Vec<Told>);

fn open_filter(config: &Config, state: &State, snapshot: &Snapshot) -> anyhow::Result<Opened> {
    if config.xdp.attach == Attach::Off {
        let why = "attach = \"off\" in the configuration".to_owned();
        // What an earlier start pinned would go on filtering.
        xdp::take_off(&config.xdp.pin_dir)?;
        tracing::warn!("nothing is filtered: {why}");
        return Ok((Err(Arc::new(xdp::Disabled(why))), Vec::new()));
    }
    let start = Start {
        config: &config.xdp,
        rules: &state.rules,
        settings: &state.settings,
        revision: state.settings_revision,
        automatic: &state.automatic,
    };
    match xdp::take_over(start, snapshot) {
        Ok((filter, told)) => Ok((Ok(Arc::new(filter)), told)),
        Err(error) if error.is::<xdp::Claimed>() => Err(error),
        Err(error) => {
            // What an earlier daemon pinned goes on enforcing; this one says loudly that it cannot change it.
            let why = format!("{error:#}");
            tracing::error!("the filter is not under control: {why}");
            Ok((Err(Arc::new(xdp::Disabled(why))), Vec::new()))
        }
    }
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A second subscriber in the same process (tests) is no error.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

fn now() -> Timestamp {
    Timestamp::from_millis(clock::wall_ms())
}

/// One daemon a data folder.
fn lock(data_dir: &Path) -> anyhow::Result<Flock<File>> {
    let path = data_dir.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder);
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut locked) => {
            locked.set_len(0)?;
            locked.rewind()?;
            write!(&*locked, "{}", std::process::id())?;
            Ok(locked)
        }
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
            "another pbx (process {}) runs on {}: stop it first, or set another data_dir, socket and pin_dir",
            holder.trim(),
            data_dir.display()
        ),
        Err((_, error)) => bail!("cannot lock {}: {error}", path.display()),
    }
}

/// What the daemon is told by signals.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait_for_end(mut self) {
        // Half of what the unit's watchdog grants.
        let watchdog = sd_notify::watchdog_enabled().map(|granted| granted / 2);
        let mut alive = interval(watchdog.unwrap_or(Duration::from_secs(3600)));
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tracing::info!("the configuration file is read at a start only; settings change live"),
                _ = alive.tick() => {
                    if watchdog.is_some() {
                        notify(&[sd_notify::NotifyState::Watchdog]);
                    }
                }
            }
        }
    }
}

/// Tells the service manager; whoever does not listen any more is no reason to end.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::info!(%error, "the service manager does not listen");
    }
}

async fn follow_blocks(operations: &Operations) {
    if let Err(error) = operations.follow_automatic().await {
        tracing::warn!(error = %error.message, "automatic blocks are in force and not stored yet");
    }
}

/// Takes expired rules out of the store.
async fn sweep_rules(operations: Operations, mut ending: watch::Receiver<bool>) {
    let mut tick = interval(SWEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = ended(&mut ending) => return,
            _ = tick.tick() => {
                if let Err(error) = operations.sweep(now()).await {
                    tracing::warn!(error = %error.message, "expired rules stay in the store; the kernel no longer heeds them");
                }
            }
        }
    }
}

/// Follows the machine and the kernel.
async fn background(filter: Arc<XdpFilter>, operations: Operations, mut ending: watch::Receiver<bool>) {
    let (events, mut arrived) = mpsc::channel(EVENT_QUEUE);
    let rings = filter.rings().map(|[events_ring, samples_ring]| {
        let (reader, sampler) = (Arc::clone(&filter), Arc::clone(&filter));
        [
            tokio::spawn(drain(events_ring, ending.clone(), move |record| {
                // Full: the blocks' table has what this would have told.
                let _ = events.try_send(reader.read_event(record));
            })),
            tokio::spawn(drain(samples_ring, ending.clone(), move |record| sampler.read_sample(record))),
        ]
    });
    let mut machine =
        host::watch::start().inspect_err(|error| tracing::warn!(%error, "interfaces are not followed")).ok();
    // What changed between the snapshot of the start and the first of these is looked at now.
    machine.iter_mut().for_each(watch::Receiver::mark_changed);
    let mut steps = clock::steps().inspect_err(|error| tracing::warn!(%error, "a set clock goes unnoticed")).ok();
    let mut tick = interval(SWEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = ended(&mut ending) => break,
            Some(event) = arrived.recv() => {
                let mut told: Vec<NewEvent> = event.into_iter().collect();
                tokio::time::sleep(GATHER).await;
                while let Ok(more) = arrived.try_recv() {
                    told.extend(more);
                }
                operations.record(told).await;
                follow_blocks(&operations).await;
            }
            snapshot = changed(&mut machine) => {
                let Some(snapshot) = snapshot else { continue };
                let filter = Arc::clone(&filter);
                if let Ok(told) = tokio::task::spawn_blocking(move || filter.follow(&snapshot)).await {
                    operations.record(told.into_iter().map(|told| told.event(now())).collect()).await;
                }
            }
            moved = stepped(&mut steps) => {
                let filter = Arc::clone(&filter);
                let _ = tokio::task::spawn_blocking(move || filter.clock_was_set()).await;
                let message = format!("the clock was set by {moved} ms: rules that end were projected again");
                operations.record(vec![NewEvent { at: now(), kind: EventKind::Daemon, prefix: None, interface: None, message }]).await;
            }
            _ = tick.tick() => {
                let swept = Arc::clone(&filter);
                match tokio::task::spawn_blocking(move || swept.sweep()).await {
                    Ok(Ok(false)) => {}
                    Ok(Ok(true)) => operations.record(vec![xdp::guard_is_over(now())]).await,
                    Ok(Err(error)) => tracing::warn!(%error, "blocks that are over stay in the kernel's table"),
                    Err(error) => tracing::warn!(%error, "the sweep broke off"),
                }
                follow_blocks(&operations).await;
            }
        }
    }
    for ring in rings.into_iter().flatten() {
        let _ = ring.await;
    }
}

async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

async fn changed(machine: &mut Option<watch::Receiver<Arc<Snapshot>>>) -> Option<Arc<Snapshot>> {
    let Some(receiver) = machine else { return std::future::pending().await };
    if receiver.changed().await.is_err() {
        *machine = None;
        return None;
    }
    Some(receiver.borrow_and_update().clone())
}

async fn stepped(steps: &mut Option<clock::Steps>) -> i64 {
    loop {
        let Some(watcher) = steps else { return std::future::pending().await };
        match watcher.stepped().await {
            Ok(moved) => return moved,
            Err(error) => {
                tracing::warn!(%error, "a set clock goes unnoticed from now on");
                *steps = None;
            }
        }
    }
}

/// Reads a ring until the end.
async fn drain(ring: RingBuf<MapData>, mut ending: watch::Receiver<bool>, mut take: impl FnMut(&[u8])) {
    // SAFETY: the ring owns its descriptor and gives the same one as long as it lives.
    let mut ring = match unsafe { AsyncFd::register(ring) } {
        Ok(ring) => ring,
        Err(error) => return tracing::warn!(%error, "the kernel's events are not read"),
    };
    loop {
        tokio::select! {
            () = ended(&mut ending) => return,
            ready = ring.readable_mut() => {
                let Ok(mut ready) = ready else { return };
                while let Some(record) = ready.get_inner_mut().next() {
                    take(&record);
                }
                ready.clear_ready();
            }
        }
    }
}
