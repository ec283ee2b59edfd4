//! The addresses by which peers beyond the router reach this machine: written down by an administrator, or, for a family
//! that has none written, looked up by name or asked of a STUN server. Kept fresh in the background; readers never wait.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use pbx_core::{
    settings::{ExternalAddress, Lookup},
    wire::stun::{
        TransactionId,
        discovery::{Discovery, Outcome},
    },
};
use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

use super::Clock;

/// How often a name or a STUN server is asked again.
const AGAIN: Duration = Duration::from_secs(180);
/// How long until the next try, when an answer did not come.
const RETRY: Duration = Duration::from_secs(20);
/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Over IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Over IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The address of the same family as `local`.
    pub fn beside(&self, local: IpAddr) -> Option<IpAddr> {
        match local {
            IpAddr::V4(_) => self.v4.map(IpAddr::from),
            IpAddr::V6(_) => self.v6.map(IpAddr::from),
        }
    }

    /// These, and for a family that has none here those of `other`.
    fn or(self, other: Self) -> Self {
        Self { v4: self.v4.or(other.v4), v6: self.v6.or(other.v6) }
    }

    fn of(all: impl Iterator<Item = IpAddr>) -> Self {
        let mut found = Self::default();
        for address in all {
            match address.to_canonical() {
                IpAddr::V4(four) => found.v4 = found.v4.or(Some(four)),
                IpAddr::V6(six) => found.v6 = found.v6.or(Some(six)),
            }
        }
        found
    }
}

/// The external addresses, kept fresh. Dropping it ends the search; readers keep what was found last.
pub struct External {
    found: Arc<ArcSwap<Addresses>>,
    source: watch::Sender<ExternalAddress>,
    task: JoinHandle<()>,
}

impl External {
    /// Starts to look, on the runtime that this is called in.
    pub fn start(source: ExternalAddress, clock: Clock) -> Self {
        let found = Arc::new(ArcSwap::from_pointee(written(&source)));
        let source = watch::Sender::new(source);
        let task = tokio::spawn(keep(Arc::clone(&found), source.subscribe(), clock));
        Self { found, source, task }
    }

    /// Looks elsewhere from now on. What was looked up stays until something else is.
    pub fn look(&self, source: ExternalAddress) {
        let before = **self.found.load();
        let addresses = if searched(&source).is_some() { written(&source).or(before) } else { written(&source) };
        self.found.store(Arc::new(addresses));
        self.source.send_if_modified(|now| {
            let changed = *now != source;
            *now = source;
            changed
        });
    }

    /// What was found last, for readers on any thread.
    pub fn found(&self) -> &Arc<ArcSwap<Addresses>> {
        &self.found
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(found: Arc<ArcSwap<Addresses>>, mut sources: watch::Receiver<ExternalAddress>, clock: Clock) {
    loop {
        let source = sources.borrow_and_update().clone();
        let looked = tokio::select! {
            biased;
            changed = sources.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            looked = look(&source, clock) => looked,
        };
        let pause = match looked {
            Ok(addresses) => {
                if **found.load() != addresses {
                    tracing::info!(v4 = ?addresses.v4, v6 = ?addresses.v6, "external addresses");
                    found.store(Arc::new(addresses));
                }
                AGAIN
            }
            Err(error) => {
                tracing::info!(%error, ?source, "the external address can not be found now; the last one stays");
                RETRY
            }
        };
        let forever = searched(&source).is_none();
        tokio::select! {
            changed = sources.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause), if !forever => (),
        }
    }
}

/// The addresses that were written down.
fn written(source: &ExternalAddress) -> Addresses {
    Addresses { v4: source.v4, v6: source.v6 }
}

/// Who is asked, if there is a family to ask for.
fn searched(source: &ExternalAddress) -> Option<&Lookup> {
    source.lookup.as_ref().filter(|_| source.v4.is_none() || source.v6.is_none())
}

async fn look(source: &ExternalAddress, clock: Clock) -> io::Result<Addresses> {
    let Some(lookup) = searched(source) else { return Ok(written(source)) };
    Ok(written(source).or(ask_all(lookup, clock).await?))
}

async fn ask_all(lookup: &Lookup, clock: Clock) -> io::Result<Addresses> {
    match lookup {
        Lookup::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = Addresses::of(found.map(|address| address.ip()));
            if addresses == Addresses::default() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(addresses)
        }
        Lookup::Stun { host, port } => {
            let servers: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await?.collect();
            let first = |four| servers.iter().find(|server| server.is_ipv4() == four).copied();
            // One answer is enough: a machine without one of the families can not ask over it.
            let (four, six) = tokio::join!(ask(first(true), clock), ask(first(false), clock));
            let mapped = [&four, &six].into_iter().filter_map(|answer| answer.as_ref().ok());
            let addresses = Addresses::of(mapped.map(SocketAddr::ip));
            if addresses == Addresses::default() {
                return Err(four.or(six).err().unwrap_or_else(|| io::ErrorKind::NotFound.into()));
            }
            Ok(addresses)
        }
    }
}

/// Asks one server for the address that it sees.
async fn ask(server: Option<SocketAddr>, clock: Clock) -> io::Result<SocketAddr> {
    let server = server.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the server has no such address"))?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // What comes from somebody else is not even seen.
    socket.connect(server).await?;
    let mut discovery = Discovery::new(transaction_id()?, clock.now());
    let mut datagram = [0; 1500];
    loop {
        if let Some(request) = discovery.poll_transmit(clock.now()) {
            socket.send(&request).await?;
        }
        match discovery.outcome() {
            Some(Outcome::Mapped(address)) => return Ok(address),
            Some(Outcome::Refused(code)) => return Err(io::Error::other(format!("the STUN server refused: {code}"))),
            Some(Outcome::Unusable) => return Err(io::Error::other("the STUN server's answer is of no use")),
            Some(Outcome::TimedOut) => return Err(io::ErrorKind::TimedOut.into()),
            None => (),
        }
        let deadline = discovery.next_deadline().unwrap_or_else(|| clock.now());
        let until = tokio::time::Instant::from_std(clock.instant(deadline));
        if let Ok(received) = tokio::time::timeout_at(until, socket.recv(&mut datagram)).await {
            discovery.handle_answer(&datagram[..received?]);
        }
    }
}

fn transaction_id() -> io::Result<TransactionId> {
    let mut id = TransactionId::default();
    let filled = super::tls::provider().secure_random.fill(&mut id);
    filled.map(|()| id).map_err(|_| io::Error::other("the machine gives no random bytes"))
}

#[cfg(test)]
mod tests {
    use pbx_core::wire::stun;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_not_asked_for_and_the_rest_is() {
        let clock = Clock::start();
        let written = "203.0.113.7,2001:db8::7,no-such-name.invalid".parse().unwrap();
        let found = look(&written, clock).await.unwrap();
        assert_eq!((found.v4, found.v6), (written.v4, written.v6), "there is no family left to ask for");
        let found = look(&"203.0.113.7,localhost".parse().unwrap(), clock).await.unwrap();
        assert_eq!(found.v4, written.v4);
    }

    #[test]
    fn the_address_beside_a_local_one_is_of_its_family() {
        let addresses = Addresses::of(["::ffff:192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()].into_iter());
        assert_eq!(addresses.beside("10.0.0.1".parse().unwrap()), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(addresses.beside("::1".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn a_name_and_a_stun_server_are_asked_and_a_change_applies_at_once() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut datagram = [0; 1500];
            loop {
                let (length, from) = server.recv_from(&mut datagram).await.unwrap();
                let answer = stun::answer(&datagram[..length], from).unwrap();
                server.send_to(answer.as_ref(), from).await.unwrap();
            }
        });
        let clock = Clock::start();
        let external = External::start("192.0.2.7".parse().unwrap(), clock);
        let of = |lookup: Lookup| ExternalAddress { lookup: Some(lookup), ..ExternalAddress::default() };
        assert_eq!(external.found().load().v4, Some(Ipv4Addr::new(192, 0, 2, 7)));
        let until = async |wanted: Ipv4Addr| {
            while external.found().load().v4 != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        external.look(of(Lookup::Stun { host: "127.0.0.1".into(), port }));
        tokio::time::timeout(Duration::from_secs(10), until(Ipv4Addr::LOCALHOST)).await.unwrap();
        external.look("192.0.2.8".parse().unwrap());
        assert_eq!(external.found().load().v4, Some(Ipv4Addr::new(192, 0, 2, 8)));
        external.look("localhost".parse().unwrap());
        tokio::time::timeout(Duration::from_secs(10), until(Ipv4Addr::LOCALHOST)).await.unwrap();
    }
}
