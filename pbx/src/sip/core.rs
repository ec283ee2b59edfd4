//! The core thread: owns the state machine, feeds it what waits in the queues, and carries out what it says. Runs no
//! digest, TLS, regular expression or SQL; waits for nobody but its queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, PoisonError,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError},
    },
    time::Duration,
};

use pbx_core::{
    auth::Header,
    call::CallId,
    directory::{Directory, TenantId},
    gate,
    moment::Moment,
    overload::Class,
    pbx::{Input, Output, Pbx, PingError, Pinged},
    registrar::BindingId,
    settings::{Prefixes, Settings},
    transport::{ConnectionId, Flow, TransportId, nat::Reach},
    wire::sip::Message,
};
use tokio::sync::mpsc;

use super::{keeper::Pending, shared::Shared};
use crate::{
    media::Relay,
    net::{Outbox, Transports, external::Addresses},
    signalling::Load,
    trace::Direction,
};

/// How often the load is measured while there is work ...
const BUSY: Duration = Duration::from_millis(100);
/// ... and while there is none.
const IDLE: Duration = Duration::from_secs(1);
/// Messages that are sent at once at most.
const BATCH: usize = 256;

/// Something that an operation wants done on the core thread.
pub(super) type Command = Box<dyn FnOnce(&mut Core) + Send>;

/// A challenge that has to be signed, which the core thread does not do.
pub(super) struct Renewal {
    pub(super) flow: Flow,
    pub(super) message: Box<Message<Box<[u8]>>>,
    pub(super) header: Header,
    pub(super) tenant: TenantId,
}

/// The state machine and all that it reaches.
pub(super) struct Core {
    pub(super) pbx: Pbx,
    shared: Arc<Shared>,
    sockets: Arc<Transports>,
    outbox: Outbox,
    relay: Arc<Relay>,
    /// For the keeper, when it has the time.
    pending: Pending,
    keeper: mpsc::Sender<Pending>,
    challenger: SyncSender<Renewal>,
    found: Arc<arc_swap::ArcSwap<Addresses>>,
    reached: Reached,
    /// Who waits for which ping.
    pings: BTreeMap<u64, SyncSender<Pinged>>,
    next_ping: u64,
    next_measure: Moment,
    next_memory: Moment,
    memory: u64,
    ended: bool,
}

/// What peers reach us by was made of.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) settings: Prefixes,
    found: Option<Addresses>,
    ports: BTreeMap<TransportId, u16>,
}

impl Core {
    pub(super) fn new(
        pbx: Pbx,
        (shared, sockets, relay): (Arc<Shared>, Arc<Transports>, Arc<Relay>),
        (keeper, challenger): (mpsc::Sender<Pending>, SyncSender<Renewal>),
        found: Arc<arc_swap::ArcSwap<Addresses>>,
    ) -> Self {
        let now = shared.clock.now();
        Self {
            pbx,
            shared,
            sockets,
            outbox: Outbox::new(),
            relay,
            pending: Pending::default(),
            keeper,
            challenger,
            found,
            reached: Reached::default(),
            pings: BTreeMap::new(),
            next_ping: 0,
            next_measure: now,
            next_memory: now,
            memory: 0,
            ended: false,
        }
    }

    /// Runs until it is told to [end](Self::end), then hands over what is still to be kept.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let shared = Arc::clone(&self.shared);
        while !self.ended {
            let now = shared.clock.now();
            let next = self.pbx.next_timeout().min(self.next_measure);
            // The keeper takes what is pending when it is ready, and does not say when: looked for again soon.
            let next = if self.pending.is_empty() { next } else { next.min(now + BUSY / 4) };
            if shared.queues.is_empty() {
                shared.queues.wait(Some(next.since(now)));
            }
            let (now, wall) = (shared.clock.now(), super::wall());
            let taken = shared.queues.drain(|_, _, input| {
                self.handle(input, now, wall);
            });
            if taken > 0 {
                self.next_measure = self.next_measure.min(now + BUSY);
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => {
                        command(&mut self);
                        self.carry_out();
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.ended = true;
                        break;
                    }
                }
            }
            if shared.queues.len(gate::Class::Known) == 0 {
                self.end_connections();
            }
            let now = shared.clock.now();
            if now >= self.pbx.next_timeout() {
                self.pbx.handle_timeout(now, wall);
                self.carry_out();
            }
            if now >= self.next_measure {
                self.measure(now, taken > 0);
            }
            self.send();
            self.hand_over();
        }
        // Blocks: the keeper waits for it.
        let _ = self.keeper.blocking_send(std::mem::take(&mut self.pending));
    }

    /// Ends the thread after this round.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    fn handle(&mut self, input: Input, now: Moment, wall: pbx_core::time::Timestamp) {
        let connection = match &input {
            Input::Received(received) => received.flow.connection,
            Input::ConnectionClosed(connection) => Some(*connection),
            _ => None,
        };
        self.pbx.handle(input, now, wall);
        if let Some(connection) = connection {
            self.note_connection(connection);
        }
        self.carry_out();
    }

    /// A connection over which somebody is registered may be silent.
    fn note_connection(&self, connection: ConnectionId) {
        let is_registered = self.pbx.is_registered(connection);
        let mut registered = self.registered();
        if is_registered {
            registered.insert(connection)
        } else {
            registered.remove(&connection)
        };
    }

    fn registered(&self) -> std::sync::MutexGuard<'_, BTreeSet<ConnectionId>> {
        self.shared.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that ended while their queue was full; it is empty now.
    fn end_connections(&mut self) {
        let closed = std::mem::take(&mut *self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner));
        let (now, wall) = (self.shared.clock.now(), super::wall());
        closed.into_iter().for_each(|connection| self.handle(Input::ConnectionClosed(connection), now, wall));
    }

    /// Does what the state machine says.
    pub(super) fn carry_out(&mut self) {
        while let Some(output) = self.pbx.poll_output() {
            match output {
                Output::Send { flow, bytes, owner: _ } => {
                    self.shared.trace.show(Direction::Sent, &flow, &bytes, super::wall);
                    self.outbox.push(flow, &bytes);
                    if self.outbox.len() >= BATCH {
                        self.send();
                    }
                }
                Output::Challenge { flow, message, header, tenant } => {
                    self.shared.nonce_reused(&flow, &message);
                    let renewal = Renewal { flow, message, header, tenant };
                    if let Err(TrySendError::Full(renewal) | TrySendError::Disconnected(renewal)) =
                        self.challenger.try_send(renewal)
                        && let Some(of) = self.shared.transport(renewal.flow.transport)
                    {
                        of.shed.fetch_add(1, Relaxed);
                        let mut out = Vec::new();
                        self.shared.turn_away(&renewal.flow, &renewal.message, gate::Class::Known, &mut out);
                        if !out.is_empty() {
                            self.shared.trace.show(Direction::Sent, &renewal.flow, &out, super::wall);
                            self.outbox.push(renewal.flow, &out);
                        }
                    }
                }
                Output::Store(stored) => self.pending.store(stored),
                Output::Filter { key, known } => self.pending.filter(key, known),
                Output::Pinged { number, outcome } => {
                    if let Some(waits) = self.pings.remove(&number) {
                        // Whoever asked may have lost patience.
                        let _ = waits.try_send(outcome);
                    }
                }
                Output::Media(command) => self.relay.command(command),
                Output::Event(event) => self.pending.event(event, super::wall()),
            }
        }
    }

    fn send(&mut self) {
        if !self.outbox.is_empty() {
            self.sockets.send_all(&mut self.outbox);
        }
    }

    fn hand_over(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        // Not ready: what is pending goes on growing together, an entry for each thing that changed.
        if let Ok(place) = self.keeper.try_reserve() {
            self.shared.handed.fetch_add(self.pending.unsaved(), Relaxed);
            place.send(std::mem::take(&mut self.pending));
        }
    }

    fn measure(&mut self, now: Moment, busy: bool) {
        self.shared.last_round.store(now.as_micros(), Relaxed);
        if now >= self.next_memory {
            self.next_memory = now + IDLE;
            self.memory = memory_in_use().unwrap_or(self.memory);
            // Registrations that ended by themselves.
            let stay = |connection: &ConnectionId| self.pbx.is_registered(*connection);
            self.registered().retain(stay);
            self.follow_reach();
        }
        let queues = &self.shared.queues;
        let [in_dialog, known, unknown_delay] = gate::Class::ALL.map(|class| queues.waited(class, now));
        let queue_delay = in_dialog.max(known);
        let measured = Input::Measured { queue_delay, unknown_delay, memory: self.memory };
        self.pbx.handle(measured, now, super::wall());
        let level = self.pbx.overload().0;
        let before = self.shared.level.swap(level.number(), Relaxed);
        if before != level.number() {
            tracing::warn!(
                level = level.number(),
                before,
                ?queue_delay,
                ?unknown_delay,
                memory = self.memory,
                "overload"
            );
        }
        self.next_measure = now + if busy || level.number() > 0 { BUSY } else { IDLE };
        self.carry_out();
    }

    /// Tells the state machine how peers reach us, when that has changed.
    fn follow_reach(&mut self) {
        let found = **self.found.load();
        if self.reached.found != Some(found) {
            self.reached.found = Some(found);
            self.set_reach();
        }
    }

    /// A transport is closed, or listens elsewhere.
    pub(super) fn close_transport(&mut self, id: TransportId) {
        self.pbx.handle(Input::TransportClosed(id), self.shared.clock.now(), super::wall());
    }

    pub(super) fn set_directory(&mut self, directory: Arc<Directory>) {
        self.pbx.set_directory(directory, self.shared.clock.now(), |_| false);
    }

    pub(super) fn set_settings(&mut self, settings: &Settings) {
        self.pbx.set_settings(settings, self.shared.clock.now());
        self.set_local_networks(settings.network.local_networks.clone());
    }

    /// What the relay has to say.
    pub(super) fn take(&mut self, input: Input) {
        self.pbx.handle(input, self.shared.clock.now(), super::wall());
    }

    /// Ends a call; whether there was one.
    pub(super) fn hang_up(&mut self, id: CallId) -> bool {
        self.pbx.hang_up(id, (self.shared.clock.now(), super::wall()))
    }

    /// Ends every call.
    pub(super) fn hang_up_all(&mut self) {
        self.pbx.hang_up_all((self.shared.clock.now(), super::wall()));
    }

    /// Ends a registration; whether it was there.
    pub(super) fn drop_binding(&mut self, id: BindingId) -> bool {
        self.pbx.drop_binding(id, self.shared.clock.now())
    }

    /// Asks a phone whether it is there; `waits` is told how it took it.
    pub(super) fn ping(&mut self, id: BindingId, waits: SyncSender<Pinged>) -> Result<(), PingError> {
        let number = self.next_ping;
        self.next_ping += 1;
        self.pbx.ping(id, number, self.shared.clock.now())?;
        self.pings.insert(number, waits);
        Ok(())
    }

    /// The local networks are these from now on.
    pub(super) fn set_local_networks(&mut self, networks: Prefixes) {
        self.reached.settings = networks;
        self.set_reach();
    }

    /// Ports beyond the router have changed.
    pub(super) fn set_external_ports(&mut self) {
        let transports = self.shared.transports.load();
        let port = |(id, of): (&_, &Arc<super::shared::OfTransport>)| Some((*id, of.transport.external_port?));
        self.reached.ports = transports.iter().filter_map(port).collect();
        drop(transports);
        self.set_reach();
    }

    fn set_reach(&mut self) {
        let found = **self.found.load();
        self.pbx.set_reach(Reach {
            local_networks: self.reached.settings.clone(),
            external_v4: found.v4,
            external_v6: found.v6,
            external_ports: self.reached.ports.clone(),
        });
    }

    /// How much there is to do, as far as the core thread knows.
    pub(super) fn load(&self) -> Load {
        let (level, counts) = self.pbx.overload();
        let (calls, calls_without_port) = self.pbx.call_counts();
        let shed = Class::ALL.into_iter().zip(counts.shed).filter(|(_, count)| *count > 0);
        let queue_delay = self.shared.queues.longest_wait(self.shared.clock.now());
        Load {
            level: level.number(),
            queue_delay_ms: u64::try_from(queue_delay.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: self.memory,
            memory_limit_bytes: self.pbx.memory_limit(),
            registrations: self.pbx.bindings().count() as u64,
            known_sources: self.pbx.known_keys().count() as u64,
            calls: calls as u64,
            calls_without_port,
            media: self.relay.status(),
            handled: counts.admitted.iter().sum(),
            shed: shed.map(|(class, count)| (class.name().to_owned(), count)).collect(),
            unsaved: self.pending.unsaved(),
            ..Load::default()
        }
    }
}

/// Memory that is the process's alone, in bytes; maps shared with the kernel are no concern of its limit.
fn memory_in_use() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = text.split(' ').skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(resident.saturating_sub(shared) * page_size())
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, i64::unsigned_abs)
}
