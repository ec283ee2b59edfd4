//! HTTPS for browsers and programs elsewhere: bound, accepted, bounded by source. What it carries is the same router as
//! the unix socket's, behind headers that tell browsers what not to do.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ApiError,
    connection::{Open, Place, ended, serve},
    listener::{ACCEPT_PAUSE, END_TIMEOUT},
};
use crate::ops::OpError;

/// Connections of one source: a browser has six, and an office of people may share an address.
const CONNECTIONS_OF_ONE: usize = 64;
/// Connections of all.
const CONNECTIONS: usize = 1024;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 512;
/// The first pause before an address that could not be bound is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What browsers are told: always encrypted, nothing from elsewhere, in nobody's frame.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
             font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
             frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote(pub(super) IpAddr);

/// How the web server is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebStatus {
    /// Where it should listen.
    pub addresses: Vec<WebAddress>,
    /// Connections that are open.
    pub connections: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Turned away: their source, or all together, had too many.
    pub too_many: u64,
    /// Broke off or took too long before they spoke TLS.
    pub handshakes_failed: u64,
}

/// One address of the web server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebAddress {
    /// Address and port.
    pub address: SocketAddr,
    /// It listens.
    pub listening: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// What the status is made of; shared with those who ask.
#[derive(Debug, Default)]
pub struct WebCounters {
    addresses: Mutex<Vec<WebAddress>>,
    open: Open<IpAddr>,
    accepted: AtomicU64,
    too_many: AtomicU64,
    handshakes_failed: AtomicU64,
}

impl WebCounters {
    /// How it is now.
    pub fn status(&self) -> WebStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = open.values().fold(0, |sum, count| sum + u64::try_from(*count).unwrap_or(u64::MAX));
        drop(open);
        WebStatus {
            addresses: self.addresses().clone(),
            connections,
            accepted: count(&self.accepted),
            too_many: count(&self.too_many),
            handshakes_failed: count(&self.handshakes_failed),
        }
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, Vec<WebAddress>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is new.
    fn found(&self, address: SocketAddr, problem: Option<String>) -> bool {
        let mut addresses = self.addresses();
        let Some(known) = addresses.iter_mut().find(|known| known.address == address) else { return false };
        let new = WebAddress { address, listening: problem.is_none(), problem };
        std::mem::replace(known, new.clone()) != new
    }
}

/// The accepting end.
pub struct WebServer {
    listen: Vec<SocketAddr>,
    tls: TlsAcceptor,
    router: Router,
    counters: Arc<WebCounters>,
    ending: watch::Receiver<bool>,
}

impl WebServer {
    /// A server of `router` on these addresses that ends when `ending` turns true.
    pub fn new(
        listen: Vec<SocketAddr>,
        tls: Arc<ServerConfig>,
        router: Router,
        counters: Arc<WebCounters>,
        ending: watch::Receiver<bool>,
    ) -> Self {
        *counters.addresses() =
            listen.iter().map(|address| WebAddress { address: *address, listening: false, problem: None }).collect();
        Self { listen, tls: tls.into(), router: hardened(router), counters, ending }
    }

    /// Serves until it is told to end. An address that is taken does not end the daemon, whose calls do not need it: it
    /// is tried again.
    pub async fn run(self) {
        let server = Arc::new(self);
        let mut listeners = JoinSet::new();
        for address in server.listen.clone() {
            let server = Arc::clone(&server);
            listeners.spawn(async move { server.listen(address).await });
        }
        let mut ending = server.ending.clone();
        ended(&mut ending).await;
        while listeners.join_next().await.is_some() {}
    }

    async fn listen(&self, address: SocketAddr) {
        let mut ending = self.ending.clone();
        let mut pause = FIRST_PAUSE;
        let listener = loop {
            match bind(address) {
                Ok(listener) => break listener,
                Err(error) => {
                    if self.counters.found(address, Some(error.to_string())) {
                        tracing::error!(%address, %error, "the web server cannot listen; it tries again");
                    }
                }
            }
            tokio::select! {
                () = ended(&mut ending) => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
            }
        };
        self.counters.found(address, None);
        tracing::info!(%address, "the web server listens");
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = ended(&mut ending) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => self.take(stream, remote, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the web server could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIMEOUT, all).await.is_err() {
            tracing::info!("requests of the web server that did not end were cut off");
        }
    }

    fn take(&self, stream: TcpStream, remote: SocketAddr, connections: &mut JoinSet<()>) {
        let remote = Remote(remote.ip().to_canonical());
        let counters = Arc::clone(&self.counters);
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let Some(place) = Place::take(&counters.open, source(remote.0), CONNECTIONS_OF_ONE, CONNECTIONS) else {
            counters.too_many.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (tls, router, ending) = (self.tls.clone(), self.router.clone(), self.ending.clone());
        connections.spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, router, remote, ending).await,
                _ => {
                    counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
}

/// Whose connections count together: an IPv4 address, or an IPv6 network of 64 bits.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// `[::]` is both families where there is IPv6, and IPv4 alone where there is none.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(six) => match TcpSocket::new_v6() {
            Ok(socket) => socket,
            Err(error) if six.ip().is_unspecified() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                return bind((std::net::Ipv4Addr::UNSPECIFIED, six.port()).into());
            }
            Err(error) => return Err(error),
        },
    };
    socket.set_reuseaddr(true)?;
    if let SocketAddr::V6(six) = address {
        // Whatever the system's default is.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only, &!six.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The router as browsers may have it.
fn hardened(router: Router) -> Router {
    router.layer(middleware::from_fn(same_origin)).layer(middleware::map_response(with_headers))
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    // Answers hold what only whoever asked may see.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses what a page of another origin makes a browser send: its cookies would come along.
async fn same_origin(request: Request, next: Next) -> Response {
    if request.method() == Method::GET || request.method() == Method::HEAD || is_own(request.headers(), request.uri()) {
        return next.run(request).await;
    }
    let refusal = OpError::denied("this request was made by a page of another origin").with_code("FOREIGN_ORIGIN");
    ApiError::from(refusal).into_response()
}

/// Whether the page that made a request, if one did, came from here. Programs name no origin.
fn is_own(headers: &HeaderMap, uri: &Uri) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(uri.authority().map(|one| one.as_str()));
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests;
