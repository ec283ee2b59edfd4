//! The composition root: opens the store, takes the filter over, binds the socket, wires them, and ends in order.

mod control;
mod follow;
mod parts;
mod tell;

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use pbx_core::{lockout::Surroundings, time::Timestamp};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::interval,
};

use self::parts::Parts;
use crate::{
    api, backup,
    config::Config,
    guard::Watch,
    host::{self, Snapshot, clock},
    net::Clock,
    ops::{Accounts, Environment, FEED_LIMITS, Operations, State},
    secrets::Secrets,
    sip::{self, Sip},
    store::{EventKind, NewEvent, Store},
    web::Web,
    xdp::{place, random_seed},
};

/// Runs the daemon until it is told to end. `detach`: take the filter off when it ends.
pub async fn run(config: Config, detach: bool) -> anyhow::Result<()> {
    start_log();
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    let _lock = lock(&config.data_dir)?;
    if let Some(saved) = backup::before_migration(&config.data_dir, now()).await? {
        tracing::info!(backup = saved.name, "the database is brought to a new layout, and was saved before");
    }
    let store = Store::open(&config.data_dir.join("pbx.db")).await?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(std::path::PathBuf::from);
    // Before there can be new ones.
    let interrupted = store.interrupt_open().await?;
    let secrets = Secrets::open(&store, &config.data_dir, credentials.as_deref()).await?;
    let accounts = Accounts::load(&store, &secrets, now()).await?;
    let state = State::load(&store, now()).await?;
    let snapshot = tokio::task::spawn_blocking(Snapshot::read).await?.context("cannot look at the interfaces")?;

    // Before the filter, so that a daemon that has no socket leaves it alone. Who connects waits.
    let listener =
        api::bind(&config.socket).with_context(|| format!("cannot bind the socket {}", config.socket.display()))?;
    let (filter, told) = control::open(&config.xdp, &state, &snapshot)?;
    let clock = Clock::start();
    let guard = Watch::new(
        &state.settings,
        store.offences(now().saturating_sub(state.settings.guard.repeat.forget.get())).await?,
        place(&snapshot),
        random_seed()?,
        clock,
    );
    let sip = Sip::start(sip::Start {
        directory: accounts.directory(),
        settings: &state.settings,
        bindings: store.bindings(now()).await?,
        known: store.known(now().saturating_sub(pbx_core::known::LIFE)).await?,
        transports: accounts.transports().map(|one| (one.id, (one.protocol, one.port))).collect(),
        secrets: &secrets,
        user_filter: filter.user(),
        guard: Arc::clone(&guard),
        clock,
    })?;
    let (pending, refused) = (state.pending.clone(), state.refused_settings.clone());
    let environment = Environment {
        filter: filter.shared(),
        signalling: sip.clone(),
        guard: Arc::clone(&guard),
        secrets,
        surroundings: surroundings(),
        clock: Arc::new(now),
        web: Web::new(),
        feed_limits: FEED_LIMITS,
        disk: {
            let data_dir = config.data_dir.clone();
            Arc::new(move || host::disk::Disk::of(&data_dir))
        },
    };
    let operations = Operations::new(store.clone(), state, accounts, environment);
    // Without the filter, what an earlier daemon had begun waits for it.
    operations.started(pending.filter(|_| filter.is_held()), &refused).await?;
    operations.roll_back_if_due().await;
    operations.record(told.into_iter().map(|told| told.event(now())).collect()).await;
    if interrupted > 0 {
        operations.record(vec![interrupted_calls(interrupted)]).await;
    }
    follow::follow_blocks(&operations).await;
    store.sweep_bindings(now()).await?;
    operations.start_signalling().await?;

    let (end, ending) = watch::channel(false);
    let web = Arc::new(api::WebCounters::default());
    let router = api::router(operations.clone(), api::system_authority(), Arc::clone(&web), ending.clone());
    let held = Arc::new(OnceLock::new());
    let mut parts = Parts::default();
    if let Some(keeping) = guard.start(operations.clone())? {
        parts.start("what keeps why sources are blocked", keeping);
    }
    if !config.web.listen.is_empty() {
        let (listen, tls) = (config.web.listen.clone(), operations.web_tls().await?);
        parts.start("the web server", api::WebServer::new(listen, tls, router.clone(), web, ending.clone()).run());
    }
    parts.start("the API's server", api::Server::new(listener, router, ending.clone()).run());
    if let Some(keeping) = sip.keep(store.clone(), operations.clone()) {
        parts.start("what keeps registrations and call records", keeping);
    }
    parts.start("the relay of media", sip.relay_broken(ending.clone()));
    parts.start("the sweep of ended rules", follow::sweep_rules(operations.clone(), ending.clone()));
    parts.start("what tells administrators", tell::tell(operations.clone(), tell::PACE, ending.clone()));
    parts.start("what looks after disk and certificates", follow::look_after(operations.clone(), ending.clone()));
    parts.start("what reads the feeds", follow::read_feeds(operations.clone(), ending.clone()));
    let status = filter.in_words();
    if let Some(keeping) = filter.keep(config.xdp.clone(), Arc::clone(&held), operations, ending) {
        parts.start("what keeps the filter", keeping);
    }

    // Who is told that we are ready may end us at once.
    let mut signals = Signals::listen()?;
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
    tracing::info!(socket = %config.socket.display(), "ready");
    let outcome = tokio::select! {
        () = signals.wait_for_end(|| sip.is_alive()) => Ok(()),
        broken = parts.broken() => Err(broken),
    };

    notify(&[sd_notify::NotifyState::Stopping]);
    if outcome.is_ok() {
        drain(&sip, &mut signals).await;
    }
    let _ = end.send(true);
    // Before the parts: what the phones did last is kept by one of them.
    let stopping = Arc::clone(&sip);
    tokio::task::spawn_blocking(move || stopping.stop()).await?;
    guard.end();
    let outcome = outcome.and(parts.end().await);
    // Only on request: a daemon that broke leaves the filter in force for the next one.
    if let (true, Ok(()), Some(filter)) = (detach, &outcome, held.get()) {
        filter.leave()?;
        tracing::info!("the filter is taken off all interfaces");
    }
    store.close().await;
    let _ = std::fs::remove_file(&config.socket);
    outcome
}

/// Lets the calls that go on come to their end, as long as `calls.drain_timeout` allows; nobody begins one. Another
/// signal ends them at once.
async fn drain(sip: &Arc<Sip>, signals: &mut Signals) {
    const LOOK: Duration = Duration::from_millis(200);
    // Told to the service manager again and again: longer than one look, whatever the machine does.
    const MORE: Duration = Duration::from_secs(15);
    let begin = tokio::time::Instant::now();
    let (asked, mut told) = (Arc::clone(sip), 0);
    let Ok(patience) = tokio::task::spawn_blocking(move || asked.drain()).await else { return };
    loop {
        let asked = Arc::clone(sip);
        let Ok(calls) = tokio::task::spawn_blocking(move || asked.calls_now()).await else { return };
        let left = patience.saturating_sub(begin.elapsed());
        if calls == Some(0) || left.is_zero() {
            return;
        }
        if let Some(calls) = calls.filter(|calls| *calls != told) {
            told = calls;
            tracing::info!(calls, seconds = left.as_secs(), "waiting for calls to end; another signal ends them now");
        }
        let more = u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX);
        notify(&[sd_notify::NotifyState::ExtendTimeoutUsec(more), sd_notify::NotifyState::Watchdog]);
        tokio::select! {
            () = tokio::time::sleep(LOOK.min(left)) => {}
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
        }
    }
}

/// The surroundings as they are, or, when they cannot be read, as they were: a lock-out check that sees nobody
/// would let everything through. An error when they have never been read.
fn surroundings() -> Arc<dyn Fn() -> Result<Surroundings, String> + Send + Sync> {
    let last: Mutex<Option<Surroundings>> = Mutex::new(None);
    Arc::new(move || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match host::surroundings(&[]) {
            Ok(surroundings) => *last = Some(surroundings),
            Err(error) if last.is_none() => return Err(error.to_string()),
            Err(error) => tracing::warn!(%error, "the surroundings cannot be read: lock-out checks use the last ones"),
        }
        Ok(last.clone().unwrap_or_default())
    })
}

fn interrupted_calls(count: u64) -> NewEvent {
    let calls = if count == 1 { "1 call".to_owned() } else { format!("{count} calls") };
    let message = format!("the daemon had ended during {calls}: the records say interrupted");
    NewEvent { at: now(), kind: EventKind::Calls, prefix: None, interface: None, message }
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
pub(crate) fn lock(data_dir: &Path) -> anyhow::Result<Flock<File>> {
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

    /// Until it is told to end. Tells the service manager's watchdog that all is well as long as it is.
    async fn wait_for_end(&mut self, is_alive: impl Fn() -> bool) {
        // Half of what the unit's watchdog grants.
        let watchdog = sd_notify::watchdog_enabled().map(|granted| granted / 2);
        let mut alive = interval(watchdog.unwrap_or(Duration::from_secs(3600)));
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tracing::info!("the configuration file is read at a start only; settings change live"),
                _ = alive.tick() => {
                    if watchdog.is_some() && is_alive() {
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
