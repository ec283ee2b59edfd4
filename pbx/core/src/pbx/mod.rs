//! The whole of signalling as one state machine: what came in goes in, what is to be done comes out, and time is an
//! argument. One thread owns it. It runs no digest, no TLS and no SQL, and knows no socket.

mod answer;
mod calls;
mod input;
mod output;
mod ping;
mod register;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::Hasher as _,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use siphasher::sip::SipHasher13;

use self::calls::Calls;
pub use self::{
    input::{Input, Received},
    output::{Event, Output, Stored},
    ping::{PingError, Pinged},
};
use crate::{
    auth::{Header, Replay, Reuse},
    directory::{Directory, ExtensionId, TenantId},
    gate::{ALLOWED, Credential, Tags, answer_flow},
    known::{Known, KnownChange, KnownSet, Success},
    moment::Moment,
    overload::{self, Overload},
    registrar::{BindingChange, BindingId, Registrar, StoredBinding},
    settings::{CallSettings, Settings},
    time::Timestamp,
    transaction::{
        self, Bytes, ClientId, Fields2543, Holder, Keys, Layer, Limits, Owner, Request, Response, ServerId, ServerKey,
    },
    transport::{
        ConnectionId, Flow, Protocol, TransportId,
        keepalive::{DATAGRAM, KeepAlives},
        nat::Reach,
    },
    wire::sip::{Message, Method, Name, Reply, StartLine},
};

/// Bytes of a binding beside its texts, as overload counts them.
const BINDING_BYTES: u64 = 1024;
/// How often successes that are too old are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// Secrets that the caller drew.
#[derive(Clone, Copy)]
pub struct Seeds {
    /// Of transaction keys.
    pub transactions: [u8; 16],
    /// Of the table of known sources.
    pub known: [u64; 2],
    /// Of tags, which the gate must share.
    pub tags: Tags,
    /// Of everything else that nobody should guess.
    pub random: [u64; 2],
}

/// What an earlier run left in the store.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Registrations.
    pub bindings: Vec<StoredBinding>,
    /// Passwords that were right.
    pub successes: Vec<Success>,
    /// The transports that there are, and the ports that they listen on: what was registered elsewhere can not be
    /// reached until the phone returns.
    pub transports: BTreeMap<TransportId, (Protocol, u16)>,
}

/// Signalling.
pub struct Pbx {
    layer: Layer,
    keys: Keys,
    tags: Tags,
    random: Random,
    registrar: Registrar,
    known: Known,
    keepalives: KeepAlives,
    replay: Replay,
    overload: Overload,
    directory: Arc<Directory>,
    memory_limit: u64,
    emergency: BTreeSet<String>,
    reach: Reach,
    pings: BTreeMap<ClientId, ping::Ping>,
    calls: Calls,
    call_settings: CallSettings,
    /// The wall's time, as it was last told.
    wall: Timestamp,
    next_sweep: Moment,
    outputs: VecDeque<Output>,
    /// Messages are written here before they are shared.
    scratch: Vec<u8>,
}

/// Numbers that nobody can guess, from a seed.
struct Random {
    seed: [u64; 2],
    count: u64,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.count += 1;
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], self.seed[1]);
        hasher.write_u64(self.count);
        hasher.finish()
    }
}

/// A request on its way through the core.
struct Incoming<'a> {
    flow: Flow,
    message: &'a Message<Box<[u8]>>,
    now: Moment,
    wall: Timestamp,
}

impl Pbx {
    /// Signalling with what an earlier run left.
    pub fn new(
        seeds: Seeds,
        directory: Arc<Directory>,
        settings: &Settings,
        restored: Restored,
        (now, wall): (Moment, Timestamp),
    ) -> Self {
        let sip = &settings.sip;
        let mut pbx = Self {
            layer: Layer::new(transactions(settings)),
            keys: Keys::new(seeds.transactions),
            tags: seeds.tags,
            random: Random { seed: seeds.random, count: 0 },
            registrar: Registrar::new(sip.into(), wall),
            known: Known::new(seeds.known),
            keepalives: KeepAlives::new(sip.keepalive.get()),
            replay: Replay::new(Replay::DEFAULT_NONCES),
            overload: Overload::new(),
            directory,
            memory_limit: megabytes(settings),
            emergency: sip.emergency_numbers.iter().map(str::to_owned).collect(),
            reach: Reach::default(),
            pings: BTreeMap::new(),
            calls: Calls::new(wall),
            call_settings: settings.calls.clone(),
            wall,
            next_sweep: now + SWEEP,
            outputs: VecDeque::new(),
            scratch: Vec::new(),
        };
        pbx.known.restore(restored.successes, wall);
        let listens = |binding: &StoredBinding| {
            restored.transports.get(&binding.transport) == Some(&(binding.protocol, binding.local.port()))
        };
        let changes = pbx.registrar.restore(restored.bindings, listens, (now, wall));
        let bindings: Vec<BindingId> = pbx.registrar.bindings().map(|binding| binding.stored().id).collect();
        for id in bindings {
            if let Some(binding) = pbx.registrar.binding(id) {
                pbx.known.bound(binding.stored(), binding.flow().is_some());
                pbx.keepalives.follow(binding, now);
            }
        }
        pbx.changed(changes, now);
        // Extensions that went while nobody ran.
        pbx.set_directory(Arc::clone(&pbx.directory), now, |_| false);
        pbx.tell_known();
        pbx.want_pairs();
        pbx
    }

    /// The known addresses, for the receive workers.
    pub fn known_set(&self) -> Arc<KnownSet> {
        self.known.set()
    }

    /// Takes something in. Drain [`poll_output`](Self::poll_output) afterwards.
    pub fn handle(&mut self, input: Input, now: Moment, wall: Timestamp) {
        self.wall = wall;
        match input {
            Input::Received(received) => self.receive(received, now, wall),
            Input::ConnectionClosed(connection) => {
                self.layer.connection_closed(connection);
                let changes = self.registrar.connection_closed(connection);
                self.changed(changes, now);
            }
            Input::TransportClosed(transport) => self.transport_closed(transport, now),
            Input::Pairs(pairs) => self.pairs_ready(pairs),
            Input::LegEnded { leg, stats } => self.leg_ended(leg, stats),
            Input::SendFailed(owner) => self.layer.transport_failed(owner),
            Input::Measured { queue_delay, unknown_delay, memory } => {
                let load = overload::Load {
                    queue_delay,
                    unknown_delay,
                    memory_used: memory.max(self.memory_used()),
                    memory_limit: self.memory_limit,
                };
                self.overload.observe(load, now);
            }
        }
        self.settle((now, wall));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment, wall: Timestamp) {
        self.wall = wall;
        self.layer.handle_timeout(now);
        self.calls_timeout((now, wall));
        while let Some(change) = self.registrar.expire(now) {
            self.changed([change], now);
        }
        while let Some(flow) = self.keepalives.due(now) {
            self.outputs.push_back(Output::Send { flow, bytes: DATAGRAM.into(), owner: None });
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.known.expire(wall);
        }
        self.settle((now, wall));
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_timeout(&self) -> Moment {
        let calls = self.calls.next_timeout();
        let next = [self.layer.next_timeout(), self.registrar.next_timeout(), self.keepalives.next_timeout(), calls];
        next.into_iter().flatten().chain([self.next_sweep]).min().unwrap_or(Moment::NEVER)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes over the whole directory. Registrations of extensions that are gone, disabled or have another password
    /// end, and so does what their passwords made known; `gone` says of which others.
    pub fn set_directory(&mut self, directory: Arc<Directory>, now: Moment, gone: impl Fn(ExtensionId) -> bool) {
        let before = std::mem::replace(&mut self.directory, Arc::clone(&directory));
        let may_stay = |id: ExtensionId| {
            let Some(extension) = directory.extension_by_id(id).filter(|extension| extension.enabled) else {
                return false;
            };
            !gone(id) && before.extension_by_id(id).is_none_or(|before| before.ha1 == extension.ha1)
        };
        let changes = self.registrar.revoke(may_stay);
        self.known.revoke(may_stay);
        self.changed(changes, now);
        self.settle((now, self.wall));
    }

    /// Takes over the whole settings.
    pub fn set_settings(&mut self, settings: &Settings, now: Moment) {
        let sip = &settings.sip;
        self.layer.set_limits(transactions(settings));
        self.registrar.set_limits(sip.into());
        self.keepalives.set_interval(sip.keepalive.get(), now);
        self.memory_limit = megabytes(settings);
        self.call_settings = settings.calls.clone();
        self.emergency = sip.emergency_numbers.iter().map(str::to_owned).collect();
    }

    /// Takes over how peers reach the appliance.
    pub fn set_reach(&mut self, reach: Reach) {
        self.reach = reach;
    }

    /// All registrations, oldest first.
    pub fn bindings(&self) -> impl Iterator<Item = &crate::registrar::Binding> {
        self.registrar.bindings()
    }

    /// The registrations of an extension, oldest first.
    pub fn bindings_of(&self, extension: ExtensionId) -> impl Iterator<Item = &crate::registrar::Binding> {
        self.registrar.of(extension)
    }

    /// How many registrations each extension has that has any.
    pub fn registered_counts(&self) -> impl Iterator<Item = (ExtensionId, usize)> {
        self.registrar.counts()
    }

    /// Whether somebody is registered over a connection.
    pub fn is_registered(&self, connection: ConnectionId) -> bool {
        self.registrar.is_registered(connection)
    }

    /// An administrator ends a registration; whether it was there.
    pub fn drop_binding(&mut self, id: BindingId, now: Moment) -> bool {
        let change = self.registrar.drop_binding(id);
        let was_there = change.is_some();
        self.changed(change, now);
        self.settle((now, self.wall));
        was_there
    }

    /// Who proved a password from an address, and when last.
    pub fn successes(&self, addr: IpAddr) -> impl Iterator<Item = Success> {
        self.known.successes(addr)
    }

    /// The sources that the filter should know: what a table that was lost is filled with.
    pub fn known_keys(&self) -> impl Iterator<Item = crate::known::Key> {
        self.known.told()
    }

    /// How bad it is, and what was handled and turned away.
    pub fn overload(&self) -> (overload::Level, overload::Counts) {
        (self.overload.level(), self.overload.counts())
    }

    /// Bytes that the daemon may use.
    pub const fn memory_limit(&self) -> u64 {
        self.memory_limit
    }

    fn memory_used(&self) -> u64 {
        self.layer.usage().bytes as u64 + self.registrar.len() as u64 * BINDING_BYTES + self.calls.memory_used()
    }

    fn receive(&mut self, received: Received, now: Moment, wall: Timestamp) {
        let Received { flow, message, credential, known } = received;
        let StartLine::Request { method, .. } = message.start_line() else {
            return self.response(&message, (now, wall));
        };
        let Some(key) = self.key(method, &message, &flow) else { return };
        let trying = || trying(&message, &flow);
        match self.layer.receive_request(key, answer_flow(&flow, &message), now, trying) {
            Request::New(id) => {
                let incoming = Incoming { flow, message: &message, now, wall };
                self.request(id, &incoming, method, credential, known);
            }
            Request::Cancel { id, invite } => {
                let incoming = Incoming { flow, message: &message, now, wall };
                match invite {
                    // One that has its final answer is ended by nothing (RFC 3261 §9.2).
                    Some(invite) => {
                        self.answer(id, &incoming, 200);
                        self.cancelled(invite, (now, wall));
                    }
                    None => self.refuse(id, &incoming, known),
                }
            }
            Request::Ack(_) => self.acknowledged(&message, &flow, (now, wall)),
            Request::Acknowledged(_) | Request::Absorbed => {}
            Request::Full => {
                // The transactions' own limit is reached, so nothing is kept to answer with.
                let class = self.class(&message, method, credential, known);
                self.overload.no_room(class);
            }
        }
    }

    fn request(
        &mut self,
        id: ServerId,
        incoming: &Incoming<'_>,
        method: Method<'_>,
        credential: Option<Credential>,
        known: bool,
    ) {
        let message = incoming.message;
        let random = self.random.next() as u8;
        let class = self.class(message, method, credential, known);
        if is_within(message, method) {
            return match self.overload.judge(class, random) {
                // Nothing is kept to answer with: anybody can write a known address on a datagram.
                overload::Verdict::Shed(how) => self.shed(id, incoming, how, false),
                _ => self.within(id, incoming, method, credential, known),
            };
        }
        // Before anything is kept to answer with, and before its nonce is used up: what is sent again finds room later.
        if credential.is_some_and(|credential| !self.layer.hold_for(id, Holder(credential.extension.0))) {
            self.overload.no_room(class);
            return self.layer.forget(id);
        }
        if let overload::Verdict::Shed(how) = self.overload.judge(class, random) {
            return self.shed(id, incoming, how, credential.is_some());
        }
        let Some(credential) = credential else { return self.refuse(id, incoming, known) };
        // It was judged by a directory that may have been replaced while it waited, or comes here before that one does.
        let holds = self.holds(&credential);
        // Whose proof does not hold any more is asked again, and judged as the one that it is then: on a stream nobody
        // would send the request again.
        let Credential { nonce_id, issued, nc, .. } = credential;
        if !holds || self.replay.check(nonce_id, issued, nc) == Reuse::Replayed {
            return self.challenge(id, incoming, method, credential.tenant);
        }
        self.known.succeeded(incoming.flow.remote.ip().to_canonical(), credential.extension, incoming.wall);
        match method {
            Method::Register => self.register(id, incoming, credential.extension),
            Method::Invite => self.invite(id, incoming, credential),
            _ => {
                let mut out = self.buffer();
                let tag = self.tags.of(message);
                Reply::start(&mut out, message, 405, incoming.flow.remote, Some(&tag)).allow(ALLOWED).finish();
                self.respond(id, 405, out, incoming.now);
            }
        }
    }

    /// Whether what was proved is still the extension's secret.
    fn holds(&self, credential: &Credential) -> bool {
        let extension = self.directory.extension_by_id(credential.extension);
        extension.is_some_and(|one| one.enabled && self.tags.secret(&one.ha1) == credential.secret)
    }

    /// Asks the sender of a request for another proof. Without a transaction: the same request again is the same
    /// challenge again.
    fn challenge(&mut self, id: ServerId, incoming: &Incoming<'_>, method: Method<'_>, tenant: TenantId) {
        self.layer.forget(id);
        let header = if method == Method::Register { Header::Www } else { Header::Proxy };
        let message = Box::new(incoming.message.borrowed().into_owned());
        self.outputs.push_back(Output::Challenge { flow: incoming.flow, message, header, tenant });
    }

    /// What a request is to the policy of overload.
    fn class<B: AsRef<[u8]>>(
        &self,
        message: &Message<B>,
        method: Method<'_>,
        credential: Option<Credential>,
        known: bool,
    ) -> overload::Class {
        let within = is_within(message, method);
        let Some(credential) = credential else {
            return if known && within { overload::Class::InDialog } else { overload::Class::Unauthenticated };
        };
        match method {
            _ if within => overload::Class::InDialog,
            Method::Register if self.registrar.of(credential.extension).next().is_some() => overload::Class::Refresh,
            Method::Register => overload::Class::NewRegistration,
            Method::Invite if self.is_emergency(message) => overload::Class::Emergency,
            _ => overload::Class::NewCall,
        }
    }

    fn is_emergency<B: AsRef<[u8]>>(&self, message: &Message<B>) -> bool {
        let user = message.request_uri().ok().and_then(|uri| uri.user);
        user.and_then(|user| std::str::from_utf8(user).ok()).is_some_and(|user| self.emergency.contains(user))
    }

    fn response(&mut self, message: &Message<Box<[u8]>>, at: (Moment, Timestamp)) {
        let (Ok(via), Ok(cseq), Some(code)) = (message.via(), message.cseq(), message.code()) else { return };
        let Some(branch) = via.branch() else { return };
        let key = self.keys.client(cseq.method.text(), branch);
        let ack = |invite: &[u8]| calls::ack_of(invite, message);
        if let Response::New(client) = self.layer.receive_response(key, code, at.0, ack)
            && !self.call_response(client, message, code, at)
        {
            self.ping_answered(client, code, at.0);
        }
    }

    fn key<B: AsRef<[u8]>>(&self, method: Method<'_>, message: &Message<B>, flow: &Flow) -> Option<ServerKey> {
        let via = message.via().ok()?;
        let source = Some(flow.remote.ip().to_canonical());
        match via.branch() {
            Some(branch) if via.has_cookie() => Some(self.keys.server(method.text(), branch, via.sent_by, source)),
            _ => {
                let StartLine::Request { uri, .. } = message.start_line() else { return None };
                let from = message.from().ok()?;
                let fields = Fields2543 {
                    request_uri: uri,
                    from_tag: from.tag().unwrap_or_default(),
                    call_id: message.value(Name::CallId)?,
                    cseq: message.cseq().ok()?.number,
                    via: via.raw,
                };
                Some(self.keys.server_2543(method.text(), &fields, source))
            }
        }
    }

    fn transport_closed(&mut self, transport: TransportId, now: Moment) {
        let changes = self.registrar.transport_closed(transport);
        self.changed(changes, now);
    }

    /// Tells everybody what became of bindings.
    fn changed(&mut self, changes: impl IntoIterator<Item = BindingChange>, now: Moment) {
        for change in changes {
            self.known.binding_changed(&change);
            let id = change.binding().id;
            match self.registrar.binding(id) {
                Some(binding) => self.keepalives.follow(binding, now),
                None => self.keepalives.stop(id),
            }
            if let BindingChange::Refreshed(binding) = &change {
                self.phone_moved(binding);
            }
            match change {
                BindingChange::Added(binding) => {
                    self.outputs.push_back(Output::Store(Stored::Binding(binding.clone())));
                    self.outputs.push_back(Output::Event(Event::Registered(binding)));
                }
                BindingChange::Refreshed(binding) => {
                    self.outputs.push_back(Output::Store(Stored::Binding(binding)));
                }
                BindingChange::Unreachable(_) => {}
                BindingChange::Removed(binding, why) => {
                    self.outputs.push_back(Output::Store(Stored::NoBinding(binding.id)));
                    self.outputs.push_back(Output::Event(Event::Unregistered(binding, why)));
                }
            }
        }
    }

    /// Brings out what the parts have to say.
    fn settle(&mut self, at: (Moment, Timestamp)) {
        while let Some(output) = self.layer.poll() {
            match output {
                crate::transaction::Output::Send { flow, bytes, owner } => {
                    self.outputs.push_back(Output::Send { flow, bytes, owner: Some(owner) });
                }
                crate::transaction::Output::Event(event) => {
                    let is_call = match event {
                        transaction::Event::TimedOut(client) => self.call_unanswered(client, 408, at),
                        transaction::Event::TransportFailed(Owner::Client(client)) => {
                            self.call_unanswered(client, 503, at)
                        }
                        // Whoever sent it waits no more: an offer that is answered now would be taken by nobody.
                        transaction::Event::NotAnswered(server) => {
                            self.withdrawn(server, at.0);
                            true
                        }
                        // Nobody waits for the outcome of an answer.
                        _ => true,
                    };
                    if !is_call {
                        self.ping_ended(event);
                    }
                }
            }
        }
        self.tell_known();
        self.want_pairs();
    }

    fn tell_known(&mut self) {
        while let Some(change) = self.known.poll_change() {
            self.outputs.push_back(match change {
                KnownChange::Set(key) => Output::Filter { key, known: true },
                KnownChange::Remove(key) => Output::Filter { key, known: false },
                KnownChange::Write(success) => Output::Store(Stored::Success(success)),
                KnownChange::Forget { addr, extension } => Output::Store(Stored::NoSuccess { addr, extension }),
            });
        }
    }
}

/// Whether a request belongs to a dialog.
fn is_within<B: AsRef<[u8]>>(message: &Message<B>, method: Method<'_>) -> bool {
    method != Method::Register && message.to().is_ok_and(|to| to.tag().is_some())
}

/// The 100 that an INVITE is answered with when its user is slow.
fn trying<B: AsRef<[u8]>>(invite: &Message<B>, flow: &Flow) -> Bytes {
    let mut out = Vec::with_capacity(512);
    Reply::start(&mut out, invite, 100, flow.remote, None).finish();
    out.into()
}

/// `sip.memory` in bytes.
fn megabytes(settings: &Settings) -> u64 {
    u64::from(settings.sip.memory.get()) << 20
}

/// What transactions may keep: a quarter of all.
fn transactions(settings: &Settings) -> Limits {
    Limits { transactions: 262_144, bytes: usize::try_from(megabytes(settings) / 4).unwrap_or(usize::MAX) }
}
