//! The appliance without its threads and sockets: what a receive worker and the core thread do with a message, one
//! after the other, and what carries out the outputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use pbx_core::{
    auth::{self, Algorithm, Allowance},
    call::{CallId, Record},
    directory::{Directory, Extension, ExtensionId, Forwarding, Ha1, Tenant, TenantId},
    gate::{Class, Gate, Noted, Passed, Points, Tags, Why, answer_flow},
    guard::{self, Guard, Networks, Sign, What, agents::Agents, pairs::Pairs},
    known::{self, KnownSet, Success},
    moment::Moment,
    pbx::{Event, Input, Output, Pbx, PingError, Pinged, Received, Restored, Seeds, Stored},
    registrar::{BindingId, Ended, StoredBinding},
    settings::Settings,
    time::Timestamp,
    transport::{ConnectionId, Flow, Protocol, TransportId},
};

use crate::{
    media::Media,
    phone::{Answer, Scheme, digest},
};

/// Where phones send to.
pub(crate) const APPLIANCE: &str = "192.0.2.1:5060";
/// The transport of each protocol.
pub(crate) const UDP: TransportId = TransportId(1);
pub(crate) const TCP: TransportId = TransportId(2);
pub(crate) const TLS: TransportId = TransportId(3);
/// The default tenant's domain and the other one's.
pub(crate) const DOMAIN: &str = "one.example";
pub(crate) const OTHER: &str = "two.example";
/// Extensions of the default tenant: 100 to 199. This one is disabled.
pub(crate) const DISABLED: &str = "199";

/// Something that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Moment,
    pub(crate) flow: Flow,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn answer(&self) -> Answer {
        Answer::read(&self.bytes)
    }
}

/// What is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) bindings: BTreeMap<BindingId, StoredBinding>,
    pub(crate) successes: BTreeMap<(IpAddr, ExtensionId), Timestamp>,
    pub(crate) calls: BTreeMap<CallId, Record>,
    /// Changes of bindings so far.
    pub(crate) writes: usize,
}

/// The appliance.
pub(crate) struct Scene {
    pub(crate) now: Moment,
    pub(crate) settings: Settings,
    pub(crate) directory: Arc<Directory>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) pbx: Pbx,
    pub(crate) store: Store,
    pub(crate) filter: BTreeSet<known::Key>,
    pub(crate) ended: Vec<Ended>,
    /// What a restart finds to listen on.
    pub(crate) transports: BTreeMap<TransportId, (Protocol, u16)>,
    /// How phones took it that they were asked.
    pub(crate) pinged: Vec<(u64, Pinged)>,
    /// Why messages ended at the gate.
    pub(crate) why: BTreeMap<&'static str, usize>,
    booted: Timestamp,
    keys: auth::Keys,
    allowance: Allowance,
    limits: auth::Limits,
    known: Arc<KnownSet>,
    agents: Agents,
    pairs: Pairs,
    guard: Guard,
    /// What the guard decided.
    pub(crate) decided: Vec<guard::Output>,
    nonces: u64,
    runs: u8,
    /// What the relay was told.
    pub(crate) media: Media,
    sent: Vec<Sent>,
}

fn tenants() -> [Tenant; 2] {
    let tenant = |id, domain: &str, is_default| Tenant {
        id: TenantId(id),
        name: domain.to_owned(),
        domains: vec![domain.to_owned()],
        realm: format!("realm of {domain}"),
        is_default,
    };
    [tenant(1, DOMAIN, true), tenant(2, OTHER, false)]
}

/// The extension as the store would have it.
pub(crate) fn extension(tenant: u32, number: &str, password: &str) -> Extension {
    let realm = &tenants()[tenant as usize - 1].realm;
    let secret = format!("{number}:{realm}:{password}");
    let md5 = digest(Scheme::Md5, &secret);
    let sha256 = digest(Scheme::Sha256, &secret);
    let bytes = |hex: &str| -> Vec<u8> {
        let pairs = (0..hex.len()).step_by(2);
        pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    Extension {
        id: ExtensionId(tenant * 1000 + number.parse::<u32>().unwrap()),
        tenant: TenantId(tenant),
        number: number.to_owned(),
        name: format!("Phone {number}"),
        caller_id: String::new(),
        enabled: number != DISABLED,
        ha1: Ha1 { md5: bytes(&md5).try_into().unwrap(), sha256: bytes(&sha256).try_into().unwrap() },
        forwarding: Forwarding::default(),
    }
}

/// The password that everybody but those who changed it has.
pub(crate) fn password(number: &str) -> String {
    format!("secret of {number}")
}

fn extensions() -> Vec<Extension> {
    let one = (100..200).map(|number| extension(1, &number.to_string(), &password(&number.to_string())));
    // The same number in both tenants, with different passwords.
    let two = [extension(2, "100", "another secret"), extension(2, "500", &password("500"))];
    one.chain(two).collect()
}

/// UDP from this address to the appliance.
pub(crate) fn udp(remote: &str) -> Flow {
    Flow {
        transport: UDP,
        protocol: Protocol::Udp,
        local: APPLIANCE.parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
    }
}

/// A TCP connection.
pub(crate) fn tcp(remote: &str, connection: u64) -> Flow {
    let connection = Some(ConnectionId(connection));
    Flow { transport: TCP, protocol: Protocol::Tcp, connection, ..udp(remote) }
}

/// A TLS connection.
pub(crate) fn tls(remote: &str, connection: u64) -> Flow {
    let connection = Some(ConnectionId(connection));
    Flow { transport: TLS, protocol: Protocol::Tls, connection, ..udp(remote) }
}

/// A new key for each run.
fn keys(run: u8) -> auth::Keys {
    auth::Keys { current: auth::Key::new(&[run; 32]), former: None }
}

fn tags(run: u8) -> Tags {
    Tags::new([u64::from(run), 7])
}

fn begin(
    run: u8,
    directory: &Arc<Directory>,
    settings: &Settings,
    restored: Restored,
    at: (Moment, Timestamp),
) -> (Pbx, Arc<KnownSet>) {
    let seed = u64::from(run);
    let seeds = Seeds { transactions: [run; 16], known: [seed, 2], tags: tags(run), random: [seed, 4] };
    let pbx = Pbx::new(seeds, Arc::clone(directory), settings, restored, at);
    let known = pbx.known_set();
    (pbx, known)
}

impl Scene {
    /// An appliance that just began, with an empty store.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let directory = Arc::new(Directory::new(tenants(), extensions().into_iter().map(Arc::new)));
        let now = Moment::from_micros(5_000_000);
        let booted = "2026-11-23T12:00:00Z".parse().unwrap();
        let (pbx, known) = begin(1, &directory, &settings, Restored::default(), (now, booted));
        let guard = Guard::new(&settings, Networks::default());
        let mut scene = Self {
            now,
            settings,
            directory,
            algorithms: vec![Algorithm::Md5, Algorithm::Sha256],
            pbx,
            store: Store::default(),
            filter: BTreeSet::new(),
            ended: Vec::new(),
            transports: [(UDP, Protocol::Udp), (TCP, Protocol::Tcp), (TLS, Protocol::Tls)]
                .map(|(id, protocol)| (id, (protocol, 5060)))
                .into(),
            pinged: Vec::new(),
            why: BTreeMap::new(),
            booted,
            keys: keys(1),
            allowance: Allowance::new([1, 2]),
            limits: auth::Limits::default(),
            known,
            agents: Agents::new(Settings::default().guard.agents.list.iter()),
            pairs: Pairs::new([8, 9]),
            guard,
            decided: Vec::new(),
            nonces: 0,
            runs: 1,
            media: Media::new(),
            sent: Vec::new(),
        };
        scene.carry_out();
        scene
    }

    /// The wall's time.
    pub(crate) fn wall(&self) -> Timestamp {
        self.booted.saturating_add(self.now.since(Moment::ZERO))
    }

    /// The daemon is killed and started anew after `gone`. Connections are lost.
    pub(crate) fn restart(&mut self, gone: Duration) {
        self.now += gone;
        self.runs += 1;
        let successes = self.store.successes.iter();
        let restored = Restored {
            bindings: self.store.bindings.values().cloned().collect(),
            successes: successes
                .map(|((addr, extension), last)| Success { addr: *addr, extension: *extension, last: *last })
                .collect(),
            transports: self.transports.clone(),
        };
        self.filter.clear();
        self.keys = keys(self.runs);
        let at = (self.now, self.wall());
        self.media = Media::new();
        (self.pbx, self.known) = begin(self.runs, &self.directory, &self.settings, restored, at);
        self.carry_out();
    }

    /// An administrator changes extensions.
    pub(crate) fn change_extensions(&mut self, change: impl FnOnce(&mut Vec<Extension>)) {
        let mut all: Vec<Extension> = self.directory.extensions().map(|extension| (**extension).clone()).collect();
        change(&mut all);
        self.directory = Arc::new(Directory::new(tenants(), all.into_iter().map(Arc::new)));
        self.pbx.set_directory(Arc::clone(&self.directory), self.now, |_| false);
        self.carry_out();
    }

    /// An administrator changes settings.
    pub(crate) fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.pbx.set_settings(&self.settings, self.now);
        self.carry_out();
    }

    /// What the gate says of a message, and what it answers.
    fn judge<'m>(&mut self, flow: &Flow, bytes: &'m [u8]) -> (Passed<'m>, Vec<u8>) {
        self.nonces += 1;
        let mut out = Vec::new();
        let passed = self.gate().pass(flow, bytes, &mut out);
        (passed, out)
    }

    fn gate(&self) -> Gate<'_> {
        Gate {
            directory: &self.directory,
            keys: &self.keys,
            nonce_life: self.settings.sip.nonce_life.get(),
            algorithms: &self.algorithms,
            allowance: &self.allowance,
            limits: self.limits,
            known: &self.known,
            agents: &self.agents,
            agents_dropped: true,
            pairs: &self.pairs,
            points: Points::from(&self.settings.guard.scanner),
            local: &[],
            level: self.pbx.overload().0,
            tags: tags(self.runs),
            nonce_id: self.nonces.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            now: self.now,
        }
    }

    /// A message comes in; what is sent then, to whomever.
    pub(crate) fn receive(&mut self, flow: Flow, message: impl AsRef<[u8]>) -> Vec<Sent> {
        let bytes = message.as_ref();
        let (passed, out) = self.judge(&flow, bytes);
        match passed {
            Passed::Ended { why, answer, noted } => {
                self.note(&flow, bytes, noted);
                assert_eq!(answer.is_some(), !out.is_empty());
                self.sent.extend(answer.map(|flow| Sent { at: self.now, flow, bytes: out }));
                self.count(why);
            }
            Passed::Delivered { message, class, credential, noted } => {
                self.note(&flow, bytes, noted);
                let message = message.into_owned();
                let received = Received { flow, message, credential, known: class != Class::Unknown };
                self.give(Input::Received(received));
            }
        }
        std::mem::take(&mut self.sent)
    }

    /// The guard hears of a message, as of the receive workers.
    fn note(&mut self, flow: &Flow, bytes: &[u8], Noted { what, agent, sure }: Noted) {
        let source = flow.remote.ip();
        for what in agent.then_some(What::Agent).into_iter().chain(what) {
            let sure = sure || flow.protocol != Protocol::Udp;
            let known = self.known.contains(source);
            let sign = Sign { source, sure, known, what, message: Some(bytes.into()) };
            self.guard.sign(sign, self.now, self.wall());
        }
        self.heed_guard();
    }

    fn heed_guard(&mut self) {
        while let Some(decided) = self.guard.poll_output() {
            if let guard::Output::Pair(pair) = &decided {
                self.pairs.hold(pair.source, pair.account.hash, self.now + pair.time);
            }
            self.decided.push(decided);
        }
    }

    /// The guard's look at what only time tells.
    pub(crate) fn sweep_guard(&mut self) {
        self.guard.sweep(self.now, self.wall());
        self.heed_guard();
    }

    /// Whether a message passes the gate; it goes no further.
    pub(crate) fn passes(&mut self, flow: Flow, bytes: &[u8]) -> bool {
        match self.judge(&flow, bytes).0 {
            Passed::Delivered { .. } => true,
            Passed::Ended { why, .. } => {
                self.count(why);
                false
            }
        }
    }

    /// The queue in which a message waits that passes the gate.
    pub(crate) fn class(&mut self, flow: Flow, bytes: &[u8]) -> Class {
        match self.judge(&flow, bytes).0 {
            Passed::Delivered { class, .. } => class,
            Passed::Ended { why, .. } => panic!("it did not pass the gate: {why:?}"),
        }
    }

    /// What passes the gate and waits for the core.
    pub(crate) fn wait_in_queue(&mut self, flow: Flow, bytes: &[u8]) -> Input {
        let (Passed::Delivered { message, class, credential, .. }, _) = self.judge(&flow, bytes) else {
            panic!("it did not pass the gate")
        };
        Input::Received(Received { flow, message: message.into_owned(), credential, known: class != Class::Unknown })
    }

    /// The one answer to a message, if there is one.
    pub(crate) fn ask(&mut self, flow: Flow, message: impl AsRef<[u8]>) -> Option<Answer> {
        let sent = self.receive(flow, message);
        assert!(sent.len() < 2, "{sent:?}");
        sent.first().map(Sent::answer)
    }

    fn count(&mut self, why: Why) {
        *self.why.entry(why.name()).or_default() += 1;
    }

    /// Messages of known sources wait so long, in milliseconds; how bad it is then.
    pub(crate) fn load(&mut self, delay: u64) -> u8 {
        self.measure(delay, 0, 0)
    }

    /// The same with strangers' messages, and bytes of memory in use.
    pub(crate) fn measure(&mut self, delay: u64, unknown_delay: u64, memory: u64) -> u8 {
        let [queue_delay, unknown_delay] = [delay, unknown_delay].map(Duration::from_millis);
        self.give(Input::Measured { queue_delay, unknown_delay, memory });
        self.pbx.overload().0.number()
    }

    /// Something else happens; what is sent then stays for [`advance`](Self::advance).
    pub(crate) fn give(&mut self, input: Input) {
        let wall = self.wall();
        self.pbx.handle(input, self.now, wall);
        self.carry_out();
    }

    /// A phone is asked whether it is there; what is sent then.
    pub(crate) fn ping(&mut self, id: BindingId, number: u64) -> Result<Vec<Sent>, PingError> {
        self.pbx.ping(id, number, self.now)?;
        self.carry_out();
        Ok(std::mem::take(&mut self.sent))
    }

    /// Somebody sets the wall's clock back.
    pub(crate) fn set_clock_back(&mut self, span: Duration) {
        self.booted = self.booted.saturating_sub(span);
    }

    /// The relay says what it kept to itself.
    pub(crate) fn let_the_relay_answer(&mut self) {
        self.carry_out();
    }

    /// An administrator ends a call; what is sent then, if there was one.
    pub(crate) fn hang_up(&mut self, id: CallId) -> Option<Vec<Sent>> {
        let at = (self.now, self.wall());
        let was_there = self.pbx.hang_up(id, at);
        self.carry_out();
        was_there.then(|| std::mem::take(&mut self.sent))
    }

    /// Time goes on; what is sent meanwhile.
    pub(crate) fn advance(&mut self, span: Duration) -> Vec<Sent> {
        let until = self.now + span;
        loop {
            let next = self.pbx.next_timeout();
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            let wall = self.wall();
            self.pbx.handle_timeout(self.now, wall);
            assert!(self.pbx.next_timeout() > self.now, "what was due is done");
            self.carry_out();
        }
        self.now = until;
        std::mem::take(&mut self.sent)
    }

    fn carry_out(&mut self) {
        loop {
            self.carry_out_once();
            // The relay answers at once.
            let Some(input) = self.media.poll() else { break };
            let wall = self.wall();
            self.pbx.handle(input, self.now, wall);
        }
    }

    fn carry_out_once(&mut self) {
        while let Some(output) = self.pbx.poll_output() {
            match output {
                Output::Send { flow, bytes, owner: _ } => {
                    self.sent.push(Sent { at: self.now, flow, bytes: bytes.to_vec() });
                }
                Output::Challenge { flow, message, header, tenant } => {
                    self.nonces += 1;
                    let mut out = Vec::new();
                    let tenant = self.directory.tenant(tenant).expect("a tenant").clone();
                    match self.gate().renew(&flow, &message, header, &tenant, &mut out) {
                        Ok(()) => {
                            let flow = answer_flow(&flow, &message);
                            self.sent.push(Sent { at: self.now, flow, bytes: out });
                        }
                        Err(why) => self.count(why),
                    }
                }
                Output::Store(stored) => self.keep(stored),
                Output::Filter { key, known: true } => assert!(self.filter.insert(key), "{key:?} told twice"),
                Output::Filter { key, known: false } => assert!(self.filter.remove(&key), "{key:?} was not told"),
                Output::Pinged { number, outcome } => self.pinged.push((number, outcome)),
                Output::Media(command) => self.media.take(command),
                Output::Event(Event::Registered(_)) => {}
                Output::Event(Event::Unregistered(_, why)) => self.ended.push(why),
            }
        }
    }

    fn keep(&mut self, stored: Stored) {
        let Store { bindings, successes, calls, writes } = &mut self.store;
        match stored {
            Stored::Binding(binding) => {
                *writes += 1;
                bindings.insert(binding.id, binding);
            }
            Stored::NoBinding(id) => {
                *writes += 1;
                assert!(bindings.remove(&id).is_some(), "{id} was never stored");
            }
            Stored::Success(Success { addr, extension, last }) => {
                successes.insert((addr, extension), last);
            }
            Stored::Call(record) => {
                calls.insert(record.id, *record);
            }
            Stored::NoSuccess { addr, extension } => {
                successes.remove(&(addr, extension));
            }
        }
    }

    /// The contacts of an extension of the default tenant that requests can be sent to, and where they go.
    pub(crate) fn reachable(&self, number: &str) -> Vec<SocketAddr> {
        let id = self.id(number);
        self.pbx.bindings_of(id).filter_map(|binding| Some(binding.flow()?.remote)).collect()
    }

    /// How many contacts an extension of the default tenant has.
    pub(crate) fn bound(&self, number: &str) -> usize {
        let id = self.id(number);
        self.pbx.registered_counts().find(|(one, _)| *one == id).map_or(0, |(_, count)| count)
    }

    fn id(&self, number: &str) -> ExtensionId {
        ExtensionId(1000 + number.parse::<u32>().unwrap())
    }

    /// Whether the receive workers take an address for a known one.
    pub(crate) fn knows(&self, addr: &str) -> bool {
        self.known.contains(addr.parse().unwrap())
    }

    /// The same of the filter, the address as a whole or a port of it.
    pub(crate) fn filter_knows(&self, addr: &str, port: Option<u16>) -> bool {
        self.filter.contains(&known::Key { addr: addr.parse().unwrap(), port })
    }

    /// All that lasts: the store, the bindings, the filter.
    pub(crate) fn state(&self) -> (Store, BTreeSet<known::Key>, Vec<String>) {
        let bindings = self.pbx.bindings().map(|binding| format!("{binding:?}"));
        (self.store.clone(), self.filter.clone(), bindings.collect())
    }

    /// The store has exactly the bindings that live, and the filter exactly the sources that they and passwords make
    /// known.
    pub(crate) fn check_agreement(&self) {
        let live: BTreeMap<_, _> = self.pbx.bindings().map(|one| (one.stored().id, one.stored().clone())).collect();
        assert_eq!(self.store.bindings, live);
        let mut wanted: BTreeSet<known::Key> = BTreeSet::new();
        for binding in self.pbx.bindings() {
            let remote = binding.stored().remote;
            wanted.insert(known::Key { addr: remote.ip(), port: None });
            wanted.extend(binding.flow().map(|flow| known::Key { addr: remote.ip(), port: Some(flow.remote.port()) }));
        }
        wanted.extend(self.store.successes.keys().map(|(addr, _)| known::Key { addr: *addr, port: None }));
        assert_eq!(self.filter, wanted);
        assert!(self.filter.iter().all(|key| self.known.contains(key.addr)));
        assert_eq!(self.pbx.known_keys().collect::<BTreeSet<_>>(), self.filter);
    }
}
