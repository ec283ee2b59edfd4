//! How many connections there may be: in all, of one source, and in the middle of a handshake. Shared by all stream
//! transports, so that another port gives nobody more.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::super::Dropped;

/// What connections may use of this machine. Changed at any time; applies to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all stream transports together.
    pub connections: usize,
    /// Of these, from one source: an IPv4 address or an IPv6 /64.
    pub of_source: usize,
    /// TLS handshakes at the same time; beyond that, connections wait in the kernel.
    pub handshakes: usize,
    /// Of these, from one source; beyond that, connections are refused.
    pub handshakes_of_source: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// What may wait to be sent on a connection (bytes); one whose peer lets more gather is closed.
    pub outgoing: usize,
    /// How long a peer may take no byte of what waits for it.
    pub unread: Duration,
    /// What is asked of the messages themselves.
    pub frames: pbx_core::wire::stream::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            of_source: 256,
            handshakes: 512,
            handshakes_of_source: 128,
            handshake: Duration::from_secs(5),
            outgoing: 256 << 10,
            unread: Duration::from_secs(30),
            frames: pbx_core::wire::stream::Limits::DEFAULT,
        }
    }
}

/// The places for connections.
#[derive(Debug)]
pub struct Places(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    limits: Limits,
    connections: usize,
    handshakes: usize,
    sources: HashMap<IpAddr, OfSource>,
}

#[derive(Debug, Default)]
struct OfSource {
    connections: usize,
    handshakes: usize,
}

impl Places {
    /// All free.
    pub fn new(limits: Limits) -> Self {
        Self(Mutex::new(Taken { limits, connections: 0, handshakes: 0, sources: HashMap::new() }))
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.taken().limits
    }

    /// Changes the limits, for connections to come.
    pub fn limit(&self, limits: Limits) {
        self.taken().limits = limits;
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.taken().connections
    }

    /// Whether another handshake may start.
    pub(super) fn has_handshake(&self) -> bool {
        let taken = self.taken();
        taken.handshakes < taken.limits.handshakes
    }

    /// A place for a connection from this address, given back when it is dropped.
    pub(super) fn take(self: &Arc<Self>, remote: IpAddr, handshake: bool) -> Result<Place, Dropped> {
        let source = source(remote);
        let taken = &mut *self.taken();
        if taken.connections >= taken.limits.connections {
            return Err(Dropped::Connections);
        }
        let limits = taken.limits;
        let of_source = taken.sources.entry(source).or_default();
        if of_source.connections >= limits.of_source || handshake && of_source.handshakes >= limits.handshakes_of_source
        {
            // It has some, or a limit is 0 and the entry is to go.
            if of_source.connections == 0 {
                taken.sources.remove(&source);
            }
            return Err(Dropped::ConnectionsOfSource);
        }
        of_source.connections += 1;
        of_source.handshakes += usize::from(handshake);
        taken.connections += 1;
        taken.handshakes += usize::from(handshake);
        Ok(Place { places: Arc::clone(self), source, handshake })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: IpAddr,
    handshake: bool,
}

impl Place {
    /// The handshake is over.
    pub(super) fn shaken(&mut self) {
        if std::mem::take(&mut self.handshake) {
            let mut taken = self.places.taken();
            taken.handshakes -= 1;
            if let Some(of_source) = taken.sources.get_mut(&self.source) {
                of_source.handshakes -= 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shaken();
        let mut taken = self.places.taken();
        taken.connections -= 1;
        if let Some(of_source) = taken.sources.get_mut(&self.source) {
            of_source.connections -= 1;
            if of_source.connections == 0 {
                taken.sources.remove(&self.source);
            }
        }
    }
}

/// Who is counted together.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        let limits =
            Limits { connections: 4, of_source: 2, handshakes: 2, handshakes_of_source: 1, ..Limits::default() };
        Arc::new(Places::new(limits))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_its_places_and_all_together_have_theirs() {
        let places = places();
        let mut held: Vec<_> = (0..2).map(|_| places.take(ip("192.0.2.1"), false).unwrap()).collect();
        assert_eq!(places.take(ip("192.0.2.1"), false).unwrap_err(), Dropped::ConnectionsOfSource);
        held.push(places.take(ip("2001:db8::1"), false).unwrap());
        held.push(places.take(ip("2001:db8::2"), false).unwrap());
        assert_eq!(places.take(ip("192.0.2.2"), false).unwrap_err(), Dropped::Connections);
        held.pop();
        assert!(places.take(ip("192.0.2.2"), false).is_ok());
        held.clear();
        assert_eq!(places.connections(), 0);
        assert!(places.taken().sources.is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn an_ipv6_source_is_a_network_of_64_bits() {
        let places = places();
        let _held =
            [places.take(ip("2001:db8::1"), false).unwrap(), places.take(ip("2001:db8::2:0:0:1"), false).unwrap()];
        assert_eq!(places.take(ip("2001:db8::ffff"), false).unwrap_err(), Dropped::ConnectionsOfSource);
        assert!(places.take(ip("2001:db8:0:1::1"), false).is_ok());
    }

    #[test]
    fn handshakes_have_places_of_their_own_until_they_are_over() {
        let places = places();
        let mut first = places.take(ip("192.0.2.1"), true).unwrap();
        assert_eq!(places.take(ip("192.0.2.1"), true).unwrap_err(), Dropped::ConnectionsOfSource);
        first.shaken();
        let _second = places.take(ip("192.0.2.1"), true).unwrap();
        assert!(places.has_handshake());
        let third = places.take(ip("192.0.2.2"), true).unwrap();
        assert!(!places.has_handshake());
        drop(third);
        assert!(places.has_handshake());
    }
}
