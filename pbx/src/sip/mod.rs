//! Signalling in the daemon: sockets, receive workers, core thread and keeper, put together. What they decide is
//! decided in `pbx_core`; here is who runs it, and what passes between them.

mod core;
mod front;
mod keeper;
mod shared;
mod view;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use pbx_core::{
    auth::{Key, Keys},
    call::CallId,
    directory::{Directory, ExtensionId},
    gate::Tags,
    known::Success,
    moment::Moment,
    pbx::{Input, Pbx, PingError, Pinged, Restored, Seeds},
    registrar::StoredBinding,
    settings::Settings,
    time::Timestamp,
    transport::{Protocol, TransportId},
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};

use self::{
    core::{Command, Core, Renewal},
    front::Front,
    keeper::{Keeper, Pending},
    shared::{Drawn, Shared},
};
use crate::{
    guard::Watch,
    host::clock,
    media::{self, Relay},
    net::{Clock, Outbox, Transports, certificate, external::External, stream},
    ops::Operations,
    secrets::Secrets,
    signalling::{Call, CertificatePair, Load, Registration, Signalling, Transport, TransportStatus},
    store::{Store, StoredKnown},
    trace::{Direction, Trace},
    xdp::UserFilter,
};

/// Commands that may wait for the core thread; who has one more waits.
const COMMANDS: usize = 64;
/// Challenges that may wait to be signed.
const RENEWALS: usize = 1024;
/// How long an operation waits for the core thread.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an operation waits for a phone: longer than the transaction does.
const PING_PATIENCE: Duration = Duration::from_secs(35);
/// The pause before a command is put into a full queue again.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How long the relay may take, at the end, to say what went through the last calls.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Threads that TCP and TLS run on.
const STREAM_THREADS: usize = 2;

/// What signalling starts with.
pub struct Start<'a> {
    /// Who exists.
    pub directory: Arc<Directory>,
    /// The settings.
    pub settings: &'a Settings,
    /// Registrations of an earlier run.
    pub bindings: Vec<StoredBinding>,
    /// Passwords that were right, in earlier runs.
    pub known: Vec<StoredKnown>,
    /// The transports that will be opened: registrations of others can not be reached.
    pub transports: BTreeMap<TransportId, (Protocol, u16)>,
    /// Where secrets are drawn.
    pub secrets: &'a Secrets,
    /// The filter that asks for every datagram, when the kernel's does not.
    pub user_filter: Option<Arc<UserFilter>>,
    /// What counts attacks; on the clock of signalling.
    pub guard: Arc<Watch>,
    /// Where monotonic time comes from.
    pub clock: Clock,
}

/// Signalling that runs.
pub struct Sip {
    shared: Arc<Shared>,
    sockets: Arc<Transports>,
    relay: Arc<Relay>,
    commands: SyncSender<Command>,
    external: External,
    /// Registrations, successes and call records that the keeper has and the store has not taken yet.
    unsaved: AtomicU64,
    streams: Mutex<Option<Runtime>>,
    core: Mutex<Option<thread::JoinHandle<()>>>,
    handed: Mutex<Option<mpsc::Receiver<Pending>>>,
}

/// Now, as people tell it.
fn wall() -> Timestamp {
    Timestamp::from_millis(clock::wall_ms())
}

impl Sip {
    /// Starts all threads; no transport is open yet. On a tokio runtime.
    ///
    /// # Errors
    ///
    /// The machine gives no random numbers or no threads.
    pub fn start(start: Start<'_>) -> anyhow::Result<Arc<Self>> {
        raise_open_files();
        let Start { directory, settings, bindings, known, transports, secrets, user_filter, guard, clock } = start;
        let words = || secrets.random::<16>().map(|bytes| halves(&bytes));
        let tags = Tags::new(words()?);
        let seeds = Seeds { transactions: secrets.random()?, known: words()?, tags, random: words()? };
        let drawn = Drawn {
            keys: Keys { current: Key::new(&secrets.random()?), former: None },
            allowance: words()?,
            nonces: words()?,
            tags,
        };
        let success =
            |known: StoredKnown| Success { addr: known.address, extension: known.extension, last: known.last_success };
        let restored = Restored { bindings, successes: known.into_iter().map(success).collect(), transports };
        let pbx = Pbx::new(seeds, Arc::clone(&directory), settings, restored, (clock.now(), wall()));
        let shared = Arc::new(Shared::new(clock, drawn, pbx.known_set(), settings, user_filter, guard));
        shared.directory.store(directory);

        let streams = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(STREAM_THREADS)
            .thread_name("pbx-streams")
            .enable_all()
            .build()
            .context("cannot start the threads of TCP and TLS")?;
        let front = Arc::new(Front(Arc::clone(&shared)));
        let limits = limits(stream::Limits::default(), settings);
        let sockets = Arc::new(Transports::new(front, streams.handle().clone(), clock, limits));
        shared.hold_sockets(&sockets);
        let external = External::start(settings.network.external_address.clone(), clock);

        let (challenger, renewals) = sync_channel(RENEWALS);
        let (keeper, handed) = mpsc::channel(1);
        let (commands, commanded) = sync_channel(COMMANDS);
        let options = media::Options::new(settings, [words()?, words()?], clock);
        let relay = Arc::new(Relay::start(options, told_by_relay(commands.clone(), &shared))?);
        let (both, found) = ((Arc::clone(&shared), Arc::clone(&sockets)), Arc::clone(external.found()));
        let all = (Arc::clone(&shared), Arc::clone(&sockets), Arc::clone(&relay));
        let mut core = Core::new(pbx, all, (keeper, challenger), found);
        core.set_local_networks(settings.network.local_networks.clone());
        core.carry_out();
        thread::Builder::new()
            .name("pbx-challenger".to_owned())
            .spawn(move || challenge(&both, &renewals))
            .context("cannot start the challenger")?;
        let core = thread::Builder::new()
            .name("pbx-core".to_owned())
            .spawn(move || core.run(&commanded))
            .context("cannot start the core thread")?;
        Ok(Arc::new(Self {
            shared,
            sockets,
            relay,
            commands,
            external,
            unsaved: AtomicU64::new(0),
            streams: Mutex::new(Some(streams)),
            core: Mutex::new(Some(core)),
            handed: Mutex::new(Some(handed)),
        }))
    }

    /// What keeps registrations and call records, and tells the filter who is known: a part of the daemon that ends when signalling
    /// does. Nothing the second time.
    pub fn keep(self: &Arc<Self>, store: Store, operations: Operations) -> Option<impl Future<Output = ()> + use<>> {
        let handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let current = operations.clone();
        if let Err(error) = self.relay.guard(move || current.filter()) {
            tracing::error!("{error:#}: the filter may drop what phones say");
        }
        Some(Keeper { sip: Arc::clone(self), store, operations, handed }.run())
    }

    /// Takes no more calls from now on; how long those that go on may last.
    pub fn drain(&self) -> Duration {
        self.tell("that no more calls are taken", |core| core.pbx.drain());
        self.shared.policy.load().drain_timeout
    }

    /// How many calls go on; not known when signalling does not answer.
    pub fn calls_now(&self) -> Option<usize> {
        self.call(|core| core.pbx.call_counts().0).ok()
    }

    /// Ends all calls, closes all transports and ends all threads, when what had come in is handled. Blocks.
    pub fn stop(&self) {
        self.tell("the end of all calls", Core::hang_up_all);
        // What the relay says of them comes back by the same way, and the phones are told before the sockets close.
        let deadline = Instant::now() + LAST_WORDS;
        while self.call(|core| core.pbx.is_closing()).unwrap_or(false) && Instant::now() < deadline {
            thread::sleep(FULL_PAUSE);
        }
        self.sockets.close_all();
        let _ = self.call(|core| core.end());
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner).take();
        if core.is_some_and(|core| core.join().is_err()) {
            tracing::error!("the core thread had broken off");
        }
        self.relay.stop();
        self.end_streams();
    }

    /// A runtime that is dropped in the usual way waits for its tasks, which one that is dropped on another runtime's
    /// thread must not.
    fn end_streams(&self) {
        if let Some(streams) = self.streams.lock().unwrap_or_else(PoisonError::into_inner).take() {
            streams.shutdown_background();
        }
    }

    /// Runs something on the core thread and waits for what it says. Blocks.
    fn call<T: Send + 'static>(&self, call: impl FnOnce(&mut Core) -> T + Send + 'static) -> anyhow::Result<T> {
        let (answer, answered) = sync_channel(1);
        let command: Command = Box::new(move |core| {
            // Whoever asked may have lost patience.
            let _ = answer.send(call(core));
        });
        self.command(command)?;
        answered.recv_timeout(PATIENCE).map_err(|_| anyhow!("signalling does not answer"))
    }

    /// Puts a command into the queue of the core thread, which may be full for a while.
    fn command(&self, mut command: Command) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.commands.try_send(command) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return Err(anyhow!("signalling has ended")),
                Err(TrySendError::Full(_)) if Instant::now() >= deadline => {
                    return Err(anyhow!("signalling does not answer"));
                }
                Err(TrySendError::Full(back)) => command = back,
            }
            thread::sleep(FULL_PAUSE);
        }
        self.shared.queues.wake();
        Ok(())
    }

    /// Waits until a thread of the relay breaks off, or until `ending` says so: a part of the daemon.
    pub fn relay_broken(&self, mut ending: watch::Receiver<bool>) -> impl Future<Output = ()> + use<> {
        let broken = self.relay.broken();
        async move {
            tokio::select! {
                () = broken => {}
                _ = ending.wait_for(|ends| *ends) => {}
            }
        }
    }

    /// Whether the core thread does its rounds, and all threads of the relay are there.
    pub fn is_alive(&self) -> bool {
        if self.relay.is_broken() {
            return false;
        }
        let last = Moment::from_micros(self.shared.last_round.load(Relaxed));
        self.shared.clock.now().since(last) < PATIENCE
    }

    /// [`Self::call`] for tasks.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let sip = Arc::clone(self);
        tokio::task::spawn_blocking(move || sip.call(call)).await?
    }

    /// The number of an extension, for people.
    fn number(&self, id: ExtensionId) -> String {
        let directory = self.shared.directory.load();
        directory.extension_by_id(id).map_or_else(|| "an extension that is gone".to_owned(), |one| one.number.clone())
    }
}

impl Signalling for Sip {
    fn self_signed(&self) -> anyhow::Result<CertificatePair> {
        certificate::of_this_machine()
    }

    fn check_certificate(&self, pair: &CertificatePair) -> anyhow::Result<Vec<String>> {
        Ok(certificate::check(pair, wall())?.warnings)
    }

    fn open(&self, transport: &Transport) -> anyhow::Result<()> {
        let id = transport.id;
        // Before the first message comes in.
        let before = self.shared.put_transport(id, Some(transport));
        let listened = before.as_ref().map(|before| (before.transport.protocol, before.transport.port));
        if let Err(error) = self.sockets.open(transport, wall()) {
            self.shared.restore_transport(id, before);
            return Err(error);
        }
        let moved = listened.is_some_and(|listened| listened != (transport.protocol, transport.port));
        // It is open, whatever the core says to it.
        self.tell("a transport that was opened", move |core| {
            if moved {
                core.close_transport(id);
            }
            core.set_external_ports();
        });
        Ok(())
    }

    fn close(&self, id: TransportId) -> anyhow::Result<()> {
        self.sockets.close(id);
        self.shared.put_transport(id, None);
        self.tell("a transport that was closed", move |core| {
            core.close_transport(id);
            core.set_external_ports();
        });
        Ok(())
    }

    fn transport(&self, id: TransportId) -> Option<TransportStatus> {
        let mut status = self.sockets.status(id)?;
        status.dropped.extend(self.shared.transport(id).map(|of| of.refused()).unwrap_or_default());
        Some(status)
    }

    fn directory(&self, directory: Arc<Directory>) {
        self.shared.directory.store(Arc::clone(&directory));
        self.tell("the directory", move |core| core.set_directory(directory));
    }

    fn settings(&self, settings: &Settings) {
        self.shared.policy.store(Arc::new(settings.into()));
        let places = self.sockets.places();
        places.limit(limits(places.limits(), settings));
        self.external.look(settings.network.external_address.clone());
        self.relay.settings(settings);
        let settings = settings.clone();
        self.tell("the settings", move |core| core.set_settings(&settings));
    }

    fn registrations(&self) -> anyhow::Result<Vec<Registration>> {
        let bindings = self.call(|core| core.pbx.bindings().map(view::Seen::of).collect::<Vec<_>>())?;
        Ok(bindings.into_iter().map(Registration::from).collect())
    }

    fn registrations_of(&self, extension: ExtensionId) -> anyhow::Result<Vec<Registration>> {
        let of = move |core: &mut Core| core.pbx.bindings_of(extension).map(view::Seen::of).collect::<Vec<_>>();
        Ok(self.call(of)?.into_iter().map(Registration::from).collect())
    }

    fn registered(&self) -> anyhow::Result<Vec<(ExtensionId, usize)>> {
        self.call(|core| core.pbx.registered_counts().collect())
    }

    fn drop_registration(&self, id: &str) -> anyhow::Result<bool> {
        let Some(id) = view::id(id) else { return Ok(false) };
        self.call(move |core| core.drop_binding(id))
    }

    fn ping(&self, id: &str) -> anyhow::Result<Pinged> {
        let id = view::id(id).ok_or(PingError::NotRegistered)?;
        let (waits, answer) = sync_channel(1);
        self.call(move |core| core.ping(id, waits))??;
        answer.recv_timeout(PING_PATIENCE).map_err(|_| anyhow!("signalling does not answer"))
    }

    fn calls(&self) -> anyhow::Result<Vec<Call>> {
        let seen = self.call(|core| core.pbx.calls().collect::<Vec<_>>())?;
        Ok(seen.into_iter().map(|call| view::call(call, &self.relay)).collect())
    }

    fn call(&self, id: &str) -> anyhow::Result<Option<Call>> {
        let Ok(id) = id.parse::<CallId>() else { return Ok(None) };
        let seen = Sip::call(self, move |core| core.pbx.call(id))?;
        Ok(seen.map(|call| view::call(call, &self.relay)))
    }

    fn hang_up(&self, id: &str) -> anyhow::Result<bool> {
        let Ok(id) = id.parse::<CallId>() else { return Ok(false) };
        Sip::call(self, move |core| core.hang_up(id))
    }

    fn trace(&self) -> Trace {
        self.shared.trace.clone()
    }

    fn load(&self) -> anyhow::Result<Load> {
        let load = self.call(|core| core.load())?;
        // In the order in which entries travel: core, keeper's door, keeper.
        let unsaved = load.unsaved + self.shared.handed.load(Acquire) + self.unsaved.load(Acquire);
        Ok(Load { refused: self.shared.refused(), unsaved, ..load })
    }

    fn known(&self, address: IpAddr) -> anyhow::Result<Vec<(ExtensionId, Timestamp)>> {
        let address = address.to_canonical();
        self.call(move |core| core.pbx.successes(address).map(|one| (one.extension, one.last)).collect())
    }
}

impl Drop for Sip {
    fn drop(&mut self) {
        self.end_streams();
    }
}

impl Sip {
    fn tell(&self, what: &str, call: impl FnOnce(&mut Core) + Send + 'static) {
        if let Err(error) = self.call(call) {
            tracing::error!(%error, "{what} did not reach signalling");
        }
    }
}

/// The way from the relay to the core: by the queue of commands, in which its thread waits.
fn told_by_relay(commands: SyncSender<Command>, shared: &Arc<Shared>) -> Box<dyn Fn(Input) + Send + Sync> {
    let shared = Arc::clone(shared);
    Box::new(move |input| {
        // Signalling has ended: nobody wants to know.
        if commands.send(Box::new(move |core| core.take(input))).is_ok() {
            shared.queues.wake();
        }
    })
}

/// Signs the challenges that the core asks for, until it ends.
fn challenge((shared, sockets): &(Arc<Shared>, Arc<Transports>), renewals: &Receiver<Renewal>) {
    let mut outbox = Outbox::new();
    let mut out = Vec::new();
    while let Ok(renewal) = renewals.recv() {
        for renewal in std::iter::once(renewal).chain(renewals.try_iter().take(RENEWALS)) {
            out.clear();
            if let Some(flow) = shared.challenge(&renewal, &mut out) {
                shared.trace.show(Direction::Sent, &flow, &out, wall);
                outbox.push(flow, &out);
            }
        }
        sockets.send_all(&mut outbox);
    }
}

/// What connections may use, by the settings.
fn limits(before: stream::Limits, settings: &Settings) -> stream::Limits {
    let connections = &settings.sip.connections;
    let frames = pbx_core::wire::stream::Limits::DEFAULT;
    stream::Limits {
        connections: connections.total.get() as usize,
        of_source: connections.source.get() as usize,
        // An eighth of all memory; overload begins at four fifths of it.
        held: (settings.sip.memory.get() as usize) << 17,
        frames: pbx_core::wire::stream::Limits {
            idle: connections.idle.get(),
            first_message: frames.first_message.min(connections.idle.get()),
            ..before.frames
        },
        ..before
    }
}

/// 128 bits as two words.
fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    let bits = u128::from_le_bytes(*bytes);
    [bits as u64, (bits >> 64) as u64]
}

/// A connection is an open file: as many as the machine allows.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(now, most)| {
        // A unit that sets the limit may forbid the call.
        if now == most { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, most, most) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files, and so of connections, stays low");
    }
}
