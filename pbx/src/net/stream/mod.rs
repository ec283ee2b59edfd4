//! TCP and TLS transports: listeners of both families on one port, a tokio task for each connection, and places that
//! bound how many there are and what they hold. Handshakes run on the runtime's threads. Anybody may send to a connection without
//! waiting; one that does not read what it is sent is closed.
mod connection;
mod listener;
mod outgoing;
mod places;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pbx_core::transport::{ConnectionId, Flow, Protocol, TransportId};
use tokio::{runtime::Handle, sync::watch};
use tokio_rustls::TlsAcceptor;

use self::outgoing::Outgoing;
pub use self::places::{Limits, Places};
use super::{Clock, Counters, Dropped, Receiver};

/// How long listeners may take to close.
const DEAF: Duration = Duration::from_millis(500);

/// What all stream transports of the daemon share.
#[derive(Clone)]
pub struct Context {
    /// Where their tasks run.
    pub runtime: Handle,
    /// What the receiver's moments are told by.
    pub clock: Clock,
    /// The places for connections.
    pub places: Arc<Places>,
    /// The number of the next connection.
    pub next: Arc<AtomicU64>,
}

/// An open TCP or TLS transport. Dropping it closes it and its connections.
pub struct Stream {
    shared: Arc<Shared>,
    port: u16,
}

/// What the tasks of a transport share.
struct Shared {
    id: TransportId,
    protocol: Protocol,
    tls: Option<TlsAcceptor>,
    receiver: Arc<dyn Receiver>,
    counters: Arc<Counters>,
    runtime: Handle,
    clock: Clock,
    places: Arc<Places>,
    next: Arc<AtomicU64>,
    connections: RwLock<HashMap<ConnectionId, Arc<Outgoing>>>,
    closed: watch::Sender<bool>,
    /// Listeners that are open.
    listening: AtomicUsize,
}

impl Stream {
    /// Listens, and serves who connects. `addresses` of a family that the machine does not have are left out as long
    /// as another one remains; port 0 takes a free one; with `tls` it speaks TLS.
    pub fn open(
        id: TransportId,
        (addresses, port): (&[IpAddr], u16),
        tls: Option<Arc<rustls::ServerConfig>>,
        context: &Context,
        receiver: Arc<dyn Receiver>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let _within = context.runtime.enter();
        let (port, listeners) = listener::open(addresses, port)?;
        let shared = Arc::new(Shared {
            id,
            protocol: if tls.is_some() { Protocol::Tls } else { Protocol::Tcp },
            tls: tls.map(TlsAcceptor::from),
            receiver,
            counters,
            runtime: context.runtime.clone(),
            clock: context.clock,
            places: Arc::clone(&context.places),
            next: Arc::clone(&context.next),
            connections: RwLock::default(),
            closed: watch::Sender::new(false),
            listening: AtomicUsize::new(listeners.len()),
        });
        for listener in listeners {
            context.runtime.spawn(listener::accept(Arc::clone(&shared), listener));
        }
        Ok(Self { shared, port })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Queues a message for the connection of its flow. Never waits.
    pub fn send(&self, flow: &Flow, bytes: &[u8]) {
        self.shared.send(flow, bytes);
    }

    /// Closes a connection, once what waits for it was sent. `false`: it is none of this transport.
    pub fn disconnect(&self, connection: ConnectionId) -> bool {
        let outgoing = self.shared.outgoing(connection);
        outgoing.is_some_and(|outgoing| {
            outgoing.close();
            true
        })
    }

    /// Stops listening and closes all connections, in good order as far as they let it. Waits until the port is free,
    /// for some milliseconds; not to be called by a task.
    pub fn close(&self) {
        self.shared.closed.send_replace(true);
        let deadline = Instant::now() + DEAF;
        while self.shared.listening.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
    }
}

impl Shared {
    fn send(&self, flow: &Flow, bytes: &[u8]) {
        match flow.connection.and_then(|id| self.outgoing(id)) {
            Some(outgoing) => self.push(&outgoing, bytes),
            None => self.counters.add_dropped(Dropped::Gone, 1),
        }
    }

    fn push(&self, outgoing: &Outgoing, bytes: &[u8]) {
        if outgoing.push(bytes) {
            self.counters.add_sent(1);
        } else {
            self.counters.add_dropped(Dropped::SendBuffer, 1);
        }
    }

    fn outgoing(&self, id: ConnectionId) -> Option<Arc<Outgoing>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn table(&self) -> RwLockWriteGuard<'_, HashMap<ConnectionId, Arc<Outgoing>>> {
        self.connections.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> ConnectionId {
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn failed(&self, flow: &Flow) {
        tracing::error!(remote = %flow.remote, protocol = %flow.protocol, "a connection met a fault of this program");
    }
}
