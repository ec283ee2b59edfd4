//! The addresses by which peers beyond the router reach this machine: written down by an administrator, looked up by
//! name, or asked of a STUN server. Kept fresh in the background; readers never wait.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use pbx_core::wire::stun::{
    TransactionId,
    discovery::{Discovery, Outcome},
};
use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

use super::Clock;

/// How often a name or a STUN server is asked again.
const AGAIN: Duration = Duration::from_secs(180);
/// How long until the next try, when an answer did not come.
const RETRY: Duration = Duration::from_secs(20);
/// The port of STUN servers (RFC 8489 §14).
const STUN_PORT: u16 = 3478;

/// Where the addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// There is no router, or its address does not matter.
    None,
    /// Written down; of each family one at most.
    Addresses(Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// A name, looked up every three minutes.
    Name(String),
    /// A STUN server, host and port, asked every three minutes. By a socket of its own: the address is right, the port
    /// is that of the transport's setting.
    Stun(String, u16),
}

/// What the text of a setting can not mean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no external address: give an IPv4 address, an IPv6 address or both separated by a comma, a host name, \
     or \"stun:host\" with an optional \":port\""
)]
pub struct NoSource(String);

impl FromStr for Source {
    type Err = NoSource;

    fn from_str(text: &str) -> Result<Self, NoSource> {
        let wrong = || NoSource(text.chars().take(80).collect());
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::None);
        }
        if let Some(server) = text.strip_prefix("stun:") {
            let (host, port) = match server.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                    (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?)
                }
                _ => (server, STUN_PORT),
            };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let is_host = is_name(host) || host.parse::<IpAddr>().is_ok();
            return is_host.then(|| Self::Stun(host.to_owned(), port)).ok_or_else(wrong);
        }
        let addresses: Result<Vec<IpAddr>, _> = text.split(',').map(|part| part.trim().parse::<IpAddr>()).collect();
        match addresses.as_deref() {
            Ok([IpAddr::V4(four)]) => Ok(Self::Addresses(Some(*four), None)),
            Ok([IpAddr::V6(six)]) => Ok(Self::Addresses(None, Some(*six))),
            Ok([IpAddr::V4(four), IpAddr::V6(six)] | [IpAddr::V6(six), IpAddr::V4(four)]) => {
                Ok(Self::Addresses(Some(*four), Some(*six)))
            }
            Err(_) if is_name(text) => Ok(Self::Name(text.to_owned())),
            Ok(_) | Err(_) => Err(wrong()),
        }
    }
}

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
    source: watch::Sender<Source>,
    task: JoinHandle<()>,
}

impl External {
    /// Starts to look, on the runtime that this is called in.
    pub fn start(source: Source, clock: Clock) -> Self {
        let found = Arc::new(ArcSwap::from_pointee(written(&source).unwrap_or_default()));
        let source = watch::Sender::new(source);
        let task = tokio::spawn(keep(Arc::clone(&found), source.subscribe(), clock));
        Self { found, source, task }
    }

    /// Looks elsewhere from now on. What was found stays until something else is.
    pub fn look(&self, source: Source) {
        if let Some(addresses) = written(&source) {
            self.found.store(Arc::new(addresses));
        }
        self.source.send_replace(source);
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

async fn keep(found: Arc<ArcSwap<Addresses>>, mut sources: watch::Receiver<Source>, clock: Clock) {
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
        let forever = written(&source).is_some();
        tokio::select! {
            changed = sources.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause), if !forever => (),
        }
    }
}

/// The addresses of a source that needs no search.
fn written(source: &Source) -> Option<Addresses> {
    match source {
        Source::None => Some(Addresses::default()),
        Source::Addresses(v4, v6) => Some(Addresses { v4: *v4, v6: *v6 }),
        Source::Name(_) | Source::Stun(..) => None,
    }
}

async fn look(source: &Source, clock: Clock) -> io::Result<Addresses> {
    match source {
        Source::None | Source::Addresses(..) => Ok(written(source).unwrap_or_default()),
        Source::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = Addresses::of(found.map(|address| address.ip()));
            if addresses == Addresses::default() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(addresses)
        }
        Source::Stun(host, port) => {
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

/// Whether this can be the name of a host (RFC 1123 §2.1).
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    let last_is_number = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use pbx_core::wire::stun;

    use super::*;

    #[test]
    fn every_way_to_write_a_source_is_read() {
        let read = |text: &str| text.parse::<Source>();
        let (four, six) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(read(""), Ok(Source::None));
        assert_eq!(read(" 192.0.2.1 "), Ok(Source::Addresses(Some(four), None)));
        assert_eq!(read("2001:db8::1"), Ok(Source::Addresses(None, Some(six))));
        assert_eq!(read("2001:db8::1, 192.0.2.1"), Ok(Source::Addresses(Some(four), Some(six))));
        assert_eq!(read("pbx.example.com"), Ok(Source::Name("pbx.example.com".into())));
        assert_eq!(read("stun:stun.example.com"), Ok(Source::Stun("stun.example.com".into(), 3478)));
        assert_eq!(read("stun:192.0.2.1:19302"), Ok(Source::Stun("192.0.2.1".into(), 19302)));
        assert_eq!(read("stun:[2001:db8::1]:3479"), Ok(Source::Stun("2001:db8::1".into(), 3479)));
        assert_eq!(read("stun:2001:db8::1"), Ok(Source::Stun("2001:db8::1".into(), 3478)));
        for wrong in
            ["192.0.2.256", "192.0.2.1,192.0.2.2", "a b", "stun:", "stun:host:0", "-a.example", "a..b", "192.0.2.1,x"]
        {
            assert!(read(wrong).unwrap_err().to_string().contains("stun:host"), "{wrong}");
        }
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
        assert_eq!(external.found().load().v4, Some(Ipv4Addr::new(192, 0, 2, 7)));
        let until = async |wanted: Ipv4Addr| {
            while external.found().load().v4 != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        external.look(Source::Stun("127.0.0.1".into(), port));
        tokio::time::timeout(Duration::from_secs(10), until(Ipv4Addr::LOCALHOST)).await.unwrap();
        external.look("192.0.2.8".parse().unwrap());
        assert_eq!(external.found().load().v4, Some(Ipv4Addr::new(192, 0, 2, 8)));
        external.look("localhost".parse().unwrap());
        tokio::time::timeout(Duration::from_secs(10), until(Ipv4Addr::LOCALHOST)).await.unwrap();
    }
}
