//! What the receive workers decide by, and what everybody counts: changed by the operations and the core thread, read
//! for every message without a lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use pbx_core::{
    auth::{Algorithm, Allowance, Keys, Limits},
    directory::{Directory, Tenant},
    gate::{Class, Gate, Points, Tags, Why},
    guard::{Sign, What, agents::Agents},
    known::KnownSet,
    overload::Level,
    pbx::Input,
    settings::{Enforcement, Settings},
    transport::{ConnectionId, Flow, Protocol, TransportId},
    wire::sip::{Message, Method, Reply},
};
use siphasher::sip::SipHasher13;

use crate::{
    guard::Watch,
    net::{Clock, Transports, queues::Queues},
    signalling::Transport,
    trace::Trace,
    xdp::UserFilter,
};

/// When a phone may try again that found no room (seconds).
const RETRY_AFTER: u32 = 5;

/// Shared by receive workers, core thread, keeper and operations.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) queues: Queues<Input>,
    pub(super) trace: Trace,
    pub(super) directory: ArcSwap<Directory>,
    pub(super) policy: ArcSwap<Policy>,
    /// Every transport that is open, or about to be.
    pub(super) transports: ArcSwap<BTreeMap<TransportId, Arc<OfTransport>>>,
    pub(super) known: Arc<KnownSet>,
    pub(super) tags: Tags,
    /// Who is turned away, as [`Level::number`].
    pub(super) level: AtomicU8,
    /// When the core thread last measured its load (microseconds of the clock).
    pub(super) last_round: AtomicU64,
    /// Connections over which somebody registered.
    pub(super) registered: Mutex<BTreeSet<ConnectionId>>,
    /// Entries for the store that the core has handed over and the keeper has not taken yet.
    pub(super) handed: AtomicU64,
    /// Connections that ended while the queue was full.
    pub(super) closed: Mutex<Vec<ConnectionId>>,
    keys: Keys,
    allowance: Allowance,
    nonces: Nonces,
    /// The filter that asks for every datagram, when the kernel's does not.
    user_filter: Option<Arc<UserFilter>>,
    sockets: OnceLock<Weak<Transports>>,
    pub(super) guard: Arc<Watch>,
}

/// Settings, as the gate takes them.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    nonce_life: Duration,
    limits: Limits,
    pub(super) drain_timeout: Duration,
    agents: Agents,
    agents_dropped: bool,
    points: Points,
}

/// What is known of a transport beside its sockets, and what happens to its messages above them.
#[derive(Debug)]
pub(super) struct OfTransport {
    pub(super) transport: Transport,
    refused: [AtomicU64; Why::ALL.len()],
    /// Messages that passed the gate and found the queue full.
    pub(super) shed: AtomicU64,
    /// Datagrams that are neither SIP nor STUN nor a keep-alive.
    pub(super) other: AtomicU64,
}

/// What nothing but the start knows.
pub(super) struct Drawn {
    pub(super) keys: Keys,
    pub(super) allowance: [u64; 2],
    pub(super) nonces: [u64; 2],
    pub(super) tags: Tags,
}

/// Numbers for nonces: different ones, from which nobody learns how many there were.
struct Nonces {
    seed: [u64; 2],
    count: AtomicU64,
}

impl Nonces {
    fn next(&self) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], self.seed[1]);
        hasher.write_u64(self.count.fetch_add(1, Relaxed));
        hasher.finish()
    }
}

impl From<&Settings> for Policy {
    fn from(settings: &Settings) -> Self {
        let sip = &settings.sip;
        let limits = Limits { per_source: sip.challenges.source.get(), in_all: sip.challenges.total.get() };
        let guard = &settings.guard;
        Self {
            nonce_life: sip.nonce_life.get(),
            limits,
            drain_timeout: settings.calls.drain_timeout.get(),
            agents: match guard.agents.enforcement {
                Enforcement::Off => Agents::default(),
                Enforcement::Monitor | Enforcement::Enforce => Agents::new(guard.agents.list.iter()),
            },
            agents_dropped: guard.agents.enforcement.under(settings.filter.mode) == Enforcement::Enforce,
            points: (&guard.scanner).into(),
        }
    }
}

impl OfTransport {
    fn new(transport: Transport) -> Self {
        let refused = std::array::from_fn(|_| AtomicU64::new(0));
        Self { transport, refused, shed: AtomicU64::new(0), other: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, why: Why) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    /// What was refused, or answered without state, by reason; reasons that never counted are left out.
    pub(super) fn refused(&self) -> Vec<(String, u64)> {
        let gate = Why::ALL.into_iter().map(|why| (why.name(), self.refused[why as usize].load(Relaxed)));
        let own = [("queue_full", self.shed.load(Relaxed)), ("not_sip", self.other.load(Relaxed))];
        let counted = gate.chain(own).filter(|(_, count)| *count > 0);
        counted.map(|(name, count)| (name.to_owned(), count)).collect()
    }
}

impl Shared {
    pub(super) fn new(
        clock: Clock,
        drawn: Drawn,
        known: Arc<KnownSet>,
        settings: &Settings,
        user_filter: Option<Arc<UserFilter>>,
        guard: Arc<Watch>,
    ) -> Self {
        Self {
            clock,
            queues: Queues::new(crate::net::queues::Limits::default()),
            trace: Trace::default(),
            directory: ArcSwap::default(),
            policy: ArcSwap::from_pointee(settings.into()),
            transports: ArcSwap::default(),
            known,
            tags: drawn.tags,
            level: AtomicU8::new(0),
            last_round: AtomicU64::new(clock.now().as_micros()),
            registered: Mutex::default(),
            handed: AtomicU64::new(0),
            closed: Mutex::default(),
            keys: drawn.keys,
            allowance: Allowance::new(drawn.allowance),
            nonces: Nonces { seed: drawn.nonces, count: AtomicU64::new(0) },
            user_filter,
            guard,
            sockets: OnceLock::new(),
        }
    }

    /// The sockets, which know us as well.
    pub(super) fn hold_sockets(&self, sockets: &Arc<Transports>) {
        let _ = self.sockets.set(Arc::downgrade(sockets));
    }

    pub(super) fn sockets(&self) -> Option<Arc<Transports>> {
        self.sockets.get().and_then(Weak::upgrade)
    }

    /// What is known of a transport; nothing when it was closed meanwhile.
    pub(super) fn transport(&self, id: TransportId) -> Option<Arc<OfTransport>> {
        self.transports.load().get(&id).cloned()
    }

    /// Puts what is known of a transport in place, or takes it away; what was there. Counters go on.
    pub(super) fn put_transport(&self, id: TransportId, transport: Option<&Transport>) -> Option<Arc<OfTransport>> {
        let mut all = BTreeMap::clone(&self.transports.load());
        let before = all.remove(&id);
        if let Some(transport) = transport {
            let new = OfTransport::new(transport.clone());
            if let Some(before) = &before {
                let counters = new.refused.iter().zip(&before.refused);
                let own = [(&new.shed, &before.shed), (&new.other, &before.other)];
                counters.chain(own).for_each(|(new, before)| new.store(before.load(Relaxed), Relaxed));
            }
            all.insert(id, Arc::new(new));
        }
        self.transports.store(Arc::new(all));
        before
    }

    /// Puts back what [`put_transport`](Self::put_transport) found.
    pub(super) fn restore_transport(&self, id: TransportId, before: Option<Arc<OfTransport>>) {
        let mut all = BTreeMap::clone(&self.transports.load());
        match before {
            Some(before) => drop(all.insert(id, before)),
            None => drop(all.remove(&id)),
        }
        self.transports.store(Arc::new(all));
    }

    /// Calls `with` with the gate as it is now for a message of a transport that offers these algorithms.
    pub(super) fn at_gate<T>(&self, algorithms: &[Algorithm], with: impl FnOnce(&Gate<'_>) -> T) -> T {
        let (directory, policy) = (self.directory.load(), self.policy.load());
        let networks = self.guard.networks();
        with(&Gate {
            directory: &directory,
            keys: &self.keys,
            nonce_life: policy.nonce_life,
            algorithms,
            allowance: &self.allowance,
            limits: policy.limits,
            known: &self.known,
            agents: &policy.agents,
            agents_dropped: policy.agents_dropped,
            pairs: self.guard.held(),
            points: policy.points,
            local: &networks.local,
            level: Level::from_number(self.level.load(Relaxed)),
            tags: self.tags,
            nonce_id: self.nonces.next(),
            now: self.clock.now(),
        })
    }

    /// Writes the challenge that the core asks for; where it goes, if anywhere.
    pub(super) fn challenge(&self, renewal: &super::core::Renewal, out: &mut Vec<u8>) -> Option<Flow> {
        let super::core::Renewal { flow, message, header, tenant } = renewal;
        let of = self.transport(flow.transport)?;
        let tenant: Arc<Tenant> = self.directory.load().tenant(*tenant).cloned()?;
        let message: &Message<Box<[u8]>> = message;
        match self.at_gate(&of.transport.algorithms, |gate| gate.renew(flow, message, *header, &tenant, out)) {
            Ok(()) => Some(pbx_core::gate::answer_flow(flow, message)),
            Err(why) => {
                of.count(why);
                None
            }
        }
    }

    /// Writes the answer to a request for which there is no room, if it came by a stream: there nobody sends it again,
    /// while of a datagram the phone does.
    pub(super) fn turn_away<B: AsRef<[u8]>>(&self, flow: &Flow, message: &Message<B>, class: Class, out: &mut Vec<u8>) {
        let is_answered = flow.protocol.is_reliable() && !matches!(message.method(), None | Some(Method::Ack));
        let may_have = |gate: &Gate<'_>| class != Class::Unknown || gate.may_have_answer(flow).is_ok();
        if is_answered && self.at_gate(&[], may_have) {
            let tag = self.tags.of(message);
            let reply = Reply::start(out, message, 503, flow.remote, Some(&tag));
            reply.header_fmt("Retry-After", format_args!("{RETRY_AFTER}")).finish();
        }
    }

    /// Tells the guard that credentials were used before.
    pub(super) fn nonce_reused<B: AsRef<[u8]>>(&self, flow: &Flow, message: &Message<B>) {
        let (call, points) = (self.tags.call(message), self.policy.load().points.reused_nonce);
        let source = flow.remote.ip().to_canonical();
        let (sure, known) = (flow.protocol != Protocol::Udp, self.known.contains(source));
        self.guard.tell(Sign { source, sure, known, what: What::Points { call, points }, message: None });
    }

    /// Whether the filter lets it in; what the kernel's filter let through is in.
    pub(super) fn admits(&self, flow: &Flow, length: usize) -> bool {
        let (remote, local): (SocketAddr, SocketAddr) = (flow.remote, flow.local);
        self.user_filter.as_ref().is_none_or(|filter| filter.admits(remote, local, flow.protocol, length))
    }

    /// Whether the filter lets a connection go on; that of the kernel would have dropped what came.
    pub(super) fn goes_on(&self, flow: &Flow, length: usize) -> bool {
        self.user_filter.as_ref().is_none_or(|filter| filter.goes_on(flow.remote, flow.local, length))
    }

    /// Whether somebody registered over a connection.
    pub(super) fn is_registered(&self, connection: ConnectionId) -> bool {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).contains(&connection)
    }

    /// What the gate did, of all transports.
    pub(super) fn refused(&self) -> Vec<(String, u64)> {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for of in self.transports.load().values() {
            of.refused().into_iter().for_each(|(name, count)| *sums.entry(name).or_default() += count);
        }
        sums.into_iter().collect()
    }
}
