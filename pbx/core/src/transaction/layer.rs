//! All transactions together: finds the one of a message, runs their timers, and keeps to its limits.

mod client;
mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{
    Bytes, ClientId, Event, Output, Owner, ServerId,
    client_invite::ClientInvite,
    client_other::ClientOther,
    key::{BuildHalf, Place},
    server_invite::ServerInvite,
    server_other::ServerOther,
    step::{Step, Tell},
};
use crate::{
    moment::Moment,
    slab::{Slab, SlotKey},
    timer::{TimerKey, Timers},
    transport::{ConnectionId, Flow},
};

/// How much may be kept. At a limit nothing new begins; what goes on goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions; with their CANCELs at most twice as many.
    pub transactions: usize,
    /// Bytes, as [`Usage::bytes`] counts them.
    pub bytes: usize,
}

impl Limits {
    /// What one holder may have of each limit: this part of it, lest one phone take the place of all.
    pub const SHARE: usize = 16;
}

/// Whose requests share one part of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder(pub u32);

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Transactions that have not ended.
    pub transactions: usize,
    /// The messages that they keep to send them again, and [`Usage::ENTRY`] for each transaction.
    pub bytes: usize,
}

impl Usage {
    /// Bytes that a transaction takes beside its messages: itself, its places in the map and among the timers.
    pub const ENTRY: usize = size_of::<Entry>() + 2 * size_of::<(Place, SlotKey)>() + 64;
}

/// The transaction layer. Give it what came in and the time, then [`Layer::poll`] until there is nothing more, and
/// come back at [`Layer::next_timeout`].
///
/// Every transaction ends by itself but two kinds, whose users must end them: an INVITE that came in and has no final
/// answer ([`Layer::respond`]), and one of ours that has only provisional ones ([`Layer::cancel`],
/// [`Layer::give_up`]).
#[derive(Debug)]
pub struct Layer {
    limits: Limits,
    held: usize,
    /// What is kept for each holder that has something.
    shares: BTreeMap<Holder, Usage>,
    entries: Slab<Entry>,
    places: HashMap<Place, SlotKey, BuildHalf>,
    timers: Timers<SlotKey>,
    /// Clients on streams, which fail when their stream does.
    connections: BTreeSet<(ConnectionId, SlotKey)>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    flow: Flow,
    machine: Machine,
    timer: Option<(TimerKey, Moment)>,
    held: usize,
    holder: Option<Holder>,
    voice: Voice,
}

#[derive(Debug)]
enum Machine {
    ServerInvite(ServerInvite),
    ServerOther(ServerOther),
    ClientInvite(ClientInvite),
    ClientOther(ClientOther),
}

/// What the user still hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    All,
    /// A server transaction whose user knows that an answer could not be sent.
    FailureTold,
    /// A CANCEL, which the layer sent for the user.
    Silent,
}

impl Layer {
    /// Nothing going on.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: 0,
            shares: BTreeMap::new(),
            entries: Slab::new(),
            places: HashMap::default(),
            timers: Timers::new(),
            connections: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do. Drain it after every call that changes something.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Layer::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Moment) {
        // Once for each timer and no more, also should the clock stand at the end of time.
        for _ in 0..self.timers.len() {
            let Some((_, id)) = self.timers.pop_due(now) else { break };
            let Some(entry) = self.entries.get_mut(id) else { continue };
            entry.timer = None;
            let step = entry.machine.handle_timeout(now);
            self.carry_out(id, step);
            self.settle(id);
        }
    }

    /// How much is kept now.
    pub fn usage(&self) -> Usage {
        let transactions = self.entries.len();
        Usage { transactions, bytes: self.held + transactions * Usage::ENTRY }
    }

    /// Other limits, for what begins from now on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What was sent for `owner` did not arrive, or could not be sent.
    pub fn transport_failed(&mut self, owner: Owner) {
        let (Owner::Server(ServerId(id)) | Owner::Client(ClientId(id))) = owner;
        let Some(entry) = self.entries.get_mut(id) else { return };
        let step = match &mut entry.machine {
            Machine::ServerInvite(_) | Machine::ServerOther(_) if entry.voice == Voice::All => {
                entry.voice = Voice::FailureTold;
                Step::tell(Tell::TransportFailed)
            }
            Machine::ServerInvite(_) | Machine::ServerOther(_) => Step::default(),
            Machine::ClientInvite(machine) => machine.fail(),
            Machine::ClientOther(machine) => machine.fail(),
        };
        self.carry_out(id, step);
        self.settle(id);
    }

    /// A stream has ended: the client transactions that wait for an answer on it fail.
    pub fn connection_closed(&mut self, connection: ConnectionId) {
        let clients = self.connections.range((connection, SlotKey::FIRST)..=(connection, SlotKey::LAST));
        for (_, id) in clients.copied().collect::<Vec<_>>() {
            self.transport_failed(Owner::Client(ClientId(id)));
        }
    }

    /// Transactions, and what is kept for them: places, timers, connections.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 4] {
        [self.entries.len(), self.places.len(), self.timers.len(), self.connections.len()]
    }

    /// What all holders have together.
    #[cfg(test)]
    pub(super) fn shared(&self) -> Usage {
        self.shares.values().fold(Usage::default(), |sum, share| Usage {
            transactions: sum.transactions + share.transactions,
            bytes: sum.bytes + share.bytes,
        })
    }

    fn is_full(&self) -> bool {
        let Usage { transactions, bytes } = self.usage();
        transactions >= self.limits.transactions || bytes >= self.limits.bytes
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.usage().bytes.saturating_add(bytes) <= self.limits.bytes
    }

    fn begin(&mut self, place: Place, flow: Flow, machine: Machine, voice: Voice) -> SlotKey {
        let is_client = matches!(machine, Machine::ClientInvite(_) | Machine::ClientOther(_));
        let id = self.entries.insert(Entry { place, flow, machine, timer: None, held: 0, holder: None, voice });
        self.places.insert(place, id);
        if let Some(connection) = flow.connection.filter(|_| is_client) {
            self.connections.insert((connection, id));
        }
        self.settle(id);
        id
    }

    fn send(&mut self, id: SlotKey, bytes: Bytes) {
        let Some(entry) = self.entries.get(id) else { return };
        let owner = entry.machine.owner(id);
        self.outputs.push_back(Output::Send { flow: entry.flow, bytes, owner });
    }

    fn carry_out(&mut self, id: SlotKey, Step { send, tell }: Step) {
        if let Some(bytes) = send {
            self.send(id, bytes);
        }
        let Some(entry) = self.entries.get(id).filter(|entry| entry.voice != Voice::Silent) else { return };
        let event = match (tell, entry.machine.owner(id)) {
            (Some(Tell::TransportFailed), owner) => Event::TransportFailed(owner),
            (Some(Tell::NotAcknowledged), Owner::Server(id)) => Event::NotAcknowledged(id),
            (Some(Tell::NotAnswered), Owner::Server(id)) => Event::NotAnswered(id),
            (Some(Tell::TimedOut), Owner::Client(id)) => Event::TimedOut(id),
            _ => return,
        };
        self.outputs.push_back(Output::Event(event));
    }

    /// After each step: the timer is at the machine's deadline, what it holds is counted, and it is gone if it ended.
    fn settle(&mut self, id: SlotKey) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let held = entry.machine.held();
        self.held = self.held + held - entry.held;
        if let Some(share) = entry.holder.and_then(|holder| self.shares.get_mut(&holder)) {
            share.bytes = share.bytes + held - entry.held;
        }
        entry.held = held;
        match (entry.timer, entry.machine.deadline()) {
            (Some((_, set)), Some(at)) if set == at => {}
            (Some((timer, _)), Some(at)) => {
                self.timers.reset(timer, at);
                entry.timer = Some((timer, at));
            }
            (None, Some(at)) => entry.timer = Some((self.timers.set(at, id), at)),
            (Some((timer, _)), None) => {
                self.timers.cancel(timer);
                entry.timer = None;
            }
            (None, None) => {}
        }
        if entry.machine.has_ended() {
            self.take_out(id);
        }
    }

    /// Nothing is left of a transaction, wherever it is in its course.
    fn take_out(&mut self, id: SlotKey) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.held -= entry.held;
        self.places.remove(&entry.place);
        if let Some((timer, _)) = entry.timer {
            self.timers.cancel(timer);
        }
        if let Some(connection) = entry.flow.connection {
            self.connections.remove(&(connection, id));
        }
        if let Some(holder) = entry.holder
            && let Some(share) = self.shares.get_mut(&holder)
        {
            share.transactions -= 1;
            share.bytes -= Usage::ENTRY + entry.held;
            if share.transactions == 0 {
                self.shares.remove(&holder);
            }
        }
    }
}

impl Machine {
    const fn owner(&self, id: SlotKey) -> Owner {
        match self {
            Self::ServerInvite(_) | Self::ServerOther(_) => Owner::Server(ServerId(id)),
            Self::ClientInvite(_) | Self::ClientOther(_) => Owner::Client(ClientId(id)),
        }
    }

    fn handle_timeout(&mut self, now: Moment) -> Step {
        match self {
            Self::ServerInvite(machine) => machine.handle_timeout(now),
            Self::ServerOther(machine) => machine.handle_timeout(now),
            Self::ClientInvite(machine) => machine.handle_timeout(now),
            Self::ClientOther(machine) => machine.handle_timeout(now),
        }
    }

    fn deadline(&self) -> Option<Moment> {
        match self {
            Self::ServerInvite(machine) => machine.deadline(),
            Self::ServerOther(machine) => machine.deadline(),
            Self::ClientInvite(machine) => machine.deadline(),
            Self::ClientOther(machine) => machine.deadline(),
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::ServerInvite(machine) => machine.held(),
            Self::ServerOther(machine) => machine.held(),
            Self::ClientInvite(machine) => machine.held(),
            Self::ClientOther(machine) => machine.held(),
        }
    }

    const fn has_ended(&self) -> bool {
        matches!(
            self,
            Self::ServerInvite(ServerInvite::Terminated)
                | Self::ServerOther(ServerOther::Terminated)
                | Self::ClientInvite(ClientInvite::Terminated)
                | Self::ClientOther(ClientOther::Terminated)
        )
    }
}
