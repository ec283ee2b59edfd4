//! The open transports: made, moved and closed one by one while the others go on, and the one place that sends bytes
//! down a flow of any of them. What was open stays when its change fails.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use pbx_core::{
    time::Timestamp,
    transport::{Flow, Protocol, TransportId},
};
use tokio::runtime::Handle;

use super::{
    Clock, Counters, Outbox, Receiver,
    certificate::{self, Checked, Facts},
    stream::{self, Limits, Places, Stream},
    tls::{self, Presented},
    udp::{self, Udp},
};
use crate::signalling::{Transport, TransportStatus};

/// How long sending threads may hold on to a transport that was closed.
const RELEASE: Duration = Duration::from_millis(200);

/// All open transports. Shared by the receiver's threads, the core thread and the operations.
pub struct Transports {
    receiver: Arc<dyn Receiver>,
    context: stream::Context,
    addresses: Vec<IpAddr>,
    open: ArcSwap<BTreeMap<TransportId, Arc<Open>>>,
    /// Held by whoever changes what is open, with why the last change of a transport failed.
    problems: Mutex<BTreeMap<TransportId, String>>,
}

struct Open {
    protocol: Protocol,
    counters: Arc<Counters>,
    kind: Kind,
}

enum Kind {
    Udp(Udp),
    Stream(Stream, Option<Certificate>),
}

/// The certificate of a TLS transport.
struct Certificate {
    presented: Arc<Presented>,
    facts: ArcSwap<Facts>,
}

impl Transports {
    /// None open yet. Streams run on `runtime`; `clock` tells moments.
    pub fn new(receiver: Arc<dyn Receiver>, runtime: Handle, clock: Clock, limits: Limits) -> Self {
        Self {
            receiver,
            context: stream::Context { runtime, clock, places: Arc::new(Places::new(limits)), next: Arc::default() },
            addresses: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            open: ArcSwap::default(),
            problems: Mutex::default(),
        }
    }

    /// Listens at these addresses instead of all of the machine's. For transports to come.
    pub fn at(mut self, addresses: Vec<IpAddr>) -> Self {
        self.addresses = addresses;
        self
    }

    /// Opens a transport, or changes the open one of this number: on another port or with another protocol the new one
    /// is opened first, then the old one closed with its connections; otherwise everything stays, and a new
    /// certificate is for new handshakes. On an error what was open stays as it was. Port 0 takes a free one. Blocks
    /// for milliseconds.
    pub fn open(&self, transport: &Transport, now: Timestamp) -> anyhow::Result<()> {
        let mut problems = self.problems();
        let result = self.change(transport, now);
        match &result {
            Ok(()) => problems.remove(&transport.id),
            Err(error) => problems.insert(transport.id, format!("{error:#}")),
        };
        result
    }

    /// Closes a transport and its connections. `false`: it was not open. Blocks for milliseconds.
    pub fn close(&self, id: TransportId) -> bool {
        let mut problems = self.problems();
        problems.remove(&id);
        let old = self.put(id, None);
        old.map(release).is_some()
    }

    /// Closes all.
    pub fn close_all(&self) {
        let ids: Vec<_> = self.open.load().keys().copied().collect();
        ids.into_iter().for_each(|id| {
            self.close(id);
        });
    }

    /// How a transport is; none: nobody ever tried to open it. One whose change failed still listens, with a problem.
    pub fn status(&self, id: TransportId) -> Option<TransportStatus> {
        let problem = self.problems().get(&id).cloned();
        let open = self.open.load().get(&id).cloned();
        if open.is_none() && problem.is_none() {
            return None;
        }
        let counters = open.as_ref().map(|open| &*open.counters);
        Some(TransportStatus {
            listening: open.is_some(),
            problem,
            connections: counters.map_or(0, Counters::connections),
            received: counters.map_or(0, Counters::received),
            sent: counters.map_or(0, Counters::sent),
            dropped: counters.map_or_else(Vec::new, Counters::all_dropped),
        })
    }

    /// The port that a transport listens on.
    pub fn port(&self, id: TransportId) -> Option<u16> {
        self.open.load().get(&id).map(|open| open.port())
    }

    /// What the certificate of a TLS transport says.
    pub fn certificate(&self, id: TransportId) -> Option<Arc<Facts>> {
        match &self.open.load().get(&id)?.kind {
            Kind::Stream(_, Some(certificate)) => Some(certificate.facts.load_full()),
            Kind::Stream(_, None) | Kind::Udp(_) => None,
        }
    }

    /// The counters of a transport.
    pub fn counters(&self, id: TransportId) -> Option<Arc<Counters>> {
        self.open.load().get(&id).map(|open| Arc::clone(&open.counters))
    }

    /// The places for connections, whose limits can be changed.
    pub fn places(&self) -> &Places {
        &self.context.places
    }

    /// Sends one message. Never waits; what can not go is counted.
    pub fn send(&self, flow: &Flow, bytes: &[u8]) {
        if let Some(open) = self.open.load().get(&flow.transport) {
            open.send(std::iter::once((flow, bytes)));
        }
    }

    /// Sends all messages and empties the outbox: datagrams by the batch. Those of a transport that is closed by now
    /// are gone. Never waits.
    pub fn send_all(&self, outbox: &mut Outbox) {
        outbox.group();
        let open = self.open.load();
        let mut messages = outbox.iter().peekable();
        while let Some((first, _)) = messages.peek() {
            let id = first.transport;
            let mut of_one = std::iter::from_fn(|| messages.next_if(|(flow, _)| flow.transport == id));
            match open.get(&id) {
                Some(open) => open.send(of_one),
                None => while of_one.next().is_some() {},
            }
        }
        drop(messages);
        outbox.clear();
    }

    /// Closes a connection, once what waits for it was sent. `false`: it is gone.
    pub fn disconnect(&self, flow: &Flow) -> bool {
        let open = self.open.load();
        match (open.get(&flow.transport).map(|open| &open.kind), flow.connection) {
            (Some(Kind::Stream(stream, _)), Some(connection)) => stream.disconnect(connection),
            _ => false,
        }
    }

    fn change(&self, transport: &Transport, now: Timestamp) -> anyhow::Result<()> {
        let Transport { id, protocol, port, external_port: _, algorithms: _, certificate } = transport;
        let checked = match (protocol, certificate) {
            (Protocol::Tls, Some(pair)) => Some(certificate::check(pair, now)?),
            (Protocol::Tls, None) => bail!("a TLS transport needs a certificate and its private key"),
            (Protocol::Udp | Protocol::Tcp, _) => None,
        };
        let old = self.open.load().get(id).cloned();
        let same = old.as_ref().filter(|old| old.protocol == *protocol && old.port() == *port);
        if let Some(same) = same {
            if let (Kind::Stream(_, Some(certificate)), Some(checked)) = (&same.kind, checked) {
                certificate.replace(checked);
            }
            return Ok(());
        }
        let both_streams = old.as_ref().is_some_and(|old| old.protocol.is_reliable() && protocol.is_reliable());
        if both_streams && old.as_ref().is_some_and(|old| old.port() == *port) {
            bail!(
                "port {port} is this transport's own: change its protocol together with its port, or delete it and \
                 create it anew"
            );
        }
        let new = self.listen(*id, *protocol, *port, checked).map_err(|error| explained(error, *protocol, *port))?;
        if let Some(old) = self.put(*id, Some(Arc::new(new))) {
            release(old);
        }
        Ok(())
    }

    fn listen(&self, id: TransportId, protocol: Protocol, port: u16, checked: Option<Checked>) -> anyhow::Result<Open> {
        let counters = Arc::<Counters>::default();
        let receiver = Arc::clone(&self.receiver);
        let kind = match protocol {
            Protocol::Udp => {
                let options = udp::Options { addresses: self.addresses.clone(), ..udp::Options::new(port) };
                Kind::Udp(Udp::open(id, &options, receiver, Arc::clone(&counters))?)
            }
            Protocol::Tcp | Protocol::Tls => {
                let certificate = checked.map(Certificate::new);
                let config = certificate.as_ref().map(|certificate| tls::config(Arc::clone(&certificate.presented)));
                let config = config.transpose().context("TLS can not be set up")?;
                let at = (&*self.addresses, port);
                let counters = Arc::clone(&counters);
                Kind::Stream(Stream::open(id, at, config, &self.context, receiver, counters)?, certificate)
            }
        };
        Ok(Open { protocol, counters, kind })
    }

    /// Puts a transport in its place, or nothing, and says what was there.
    fn put(&self, id: TransportId, new: Option<Arc<Open>>) -> Option<Arc<Open>> {
        let mut all = BTreeMap::clone(&self.open.load());
        let old = match new {
            Some(new) => all.insert(id, new),
            None => all.remove(&id),
        };
        self.open.store(Arc::new(all));
        old
    }

    fn problems(&self) -> MutexGuard<'_, BTreeMap<TransportId, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Transports {
    fn drop(&mut self) {
        self.close_all();
    }
}

impl Open {
    fn port(&self) -> u16 {
        match &self.kind {
            Kind::Udp(udp) => udp.port(),
            Kind::Stream(stream, _) => stream.port(),
        }
    }

    fn send<'a>(&self, messages: impl Iterator<Item = (&'a Flow, &'a [u8])>) {
        match &self.kind {
            Kind::Udp(udp) => udp.send(messages),
            Kind::Stream(stream, _) => messages.for_each(|(flow, bytes)| stream.send(flow, bytes)),
        }
    }
}

impl Certificate {
    fn new(checked: Checked) -> Self {
        Self { presented: Arc::new(Presented::new(checked.certified)), facts: ArcSwap::from_pointee(checked.facts) }
    }

    fn replace(&self, checked: Checked) {
        self.presented.replace(checked.certified);
        self.facts.store(Arc::new(checked.facts));
    }
}

/// Closes a transport that nobody finds any more, and waits for those who had found it before, so that its port is free
/// afterwards.
fn release(old: Arc<Open>) {
    match &old.kind {
        Kind::Udp(udp) => udp.close(),
        Kind::Stream(stream, _) => stream.close(),
    }
    let deadline = Instant::now() + RELEASE;
    while Arc::strong_count(&old) > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Says what an administrator can do about a port that can not be had.
fn explained(error: anyhow::Error, protocol: Protocol, port: u16) -> anyhow::Error {
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::AddrInUse) => {
            let by = if protocol.is_reliable() { "TCP" } else { "UDP" };
            error.context(format!(
                "{by} port {port} is in use by another transport or program: choose another one, or find out who has \
                 it with \"ss -lnp\""
            ))
        }
        Some(io::ErrorKind::PermissionDenied) => {
            error.context(format!("port {port} may not be opened: below 1024 the daemon needs CAP_NET_BIND_SERVICE"))
        }
        _ => error.context(format!("{protocol} port {port} can not be opened")),
    }
}

#[cfg(test)]
mod tests;
