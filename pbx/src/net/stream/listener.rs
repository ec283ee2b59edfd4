//! Accepts connections of a stream transport: finds each a place or refuses it before a byte was exchanged, lets it
//! shake hands within its time, and starts its task.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
        sockopt::{
            Ipv6V6Only, KeepAlive, Linger, ReuseAddr, TcpKeepCount, TcpKeepIdle, TcpKeepInterval, TcpNoDelay,
            TcpUserTimeout,
        },
    },
};
use pbx_core::transport::Flow;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::Accept;

use super::{
    super::Dropped,
    Shared,
    connection::serve,
    places::{Limits, Place},
};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;
/// How long the daemon waits when it can accept nothing, because all file descriptors are taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens listeners at these addresses and says on which port.
pub(super) fn open(addresses: &[IpAddr], port: u16) -> io::Result<(u16, Vec<TcpListener>)> {
    // A free port that one family chose may be taken in the other: then another one is tried.
    let attempts = if port == 0 { 16 } else { 1 };
    let mut result = Err(io::Error::from(Errno::EADDRINUSE));
    for _ in 0..attempts {
        result = open_at(addresses, port);
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    result
}

fn open_at(addresses: &[IpAddr], mut port: u16) -> io::Result<(u16, Vec<TcpListener>)> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for address in addresses {
        match bound(SocketAddr::new(*address, port)) {
            Ok(socket) => {
                let listener = TcpListener::from_std(socket.into())?;
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(errno @ (Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) => missing = Some(errno),
            Err(errno) => return Err(errno.into()),
        }
    }
    match missing {
        Some(errno) if listeners.is_empty() => Err(errno.into()),
        _ => Ok((port, listeners)),
    }
}

fn bound(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
    if address.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    // Connections of a transport that was just closed may linger on the port.
    setsockopt(&fd, ReuseAddr, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd)
}

/// Accepts until the transport closes.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    // Also when the task is dropped.
    let listening = Listening { listener, _counted: Counted(&shared.listening) };
    let mut closed = shared.closed.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => break,
            accepted = listening.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => receive(&shared, stream, remote),
            Err(error) if is_of_one(&error) => (),
            Err(error) => {
                tracing::warn!(protocol = %shared.protocol, %error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A listener that is counted; its fields go in this order: first the port, then the word that it is free.
struct Listening<'a> {
    listener: TcpListener,
    _counted: Counted<'a>,
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Whether only the connection that was to be accepted failed (accept(2)).
fn is_of_one(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
        || error.raw_os_error().is_some_and(|errno| {
            [libc::EPROTO, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EHOSTDOWN, libc::ENETDOWN, libc::EPERM]
                .contains(&errno)
        })
}

/// Starts the task of a connection, or refuses it.
fn receive(shared: &Arc<Shared>, stream: TcpStream, remote: SocketAddr) {
    let limits = shared.places.limits();
    let Ok(local) = stream.local_addr() else { return };
    let flow = Flow {
        transport: shared.id,
        protocol: shared.protocol,
        local,
        remote: without_label(remote),
        connection: Some(shared.number()),
    };
    let place = match shared.receiver.admits(&flow, 0) {
        true => {
            let known = shared.receiver.is_known(remote.ip());
            shared.places.take((remote.ip(), known), shared.tls.is_some())
        }
        false => Err(Dropped::Filtered),
    };
    let place = match place {
        Ok(place) => place,
        Err(reason) => {
            shared.counters.add_dropped(reason, 1);
            // Closed by a reset: nothing of it stays in the kernel.
            let _ = setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
            return;
        }
    };
    if let Err(error) = prepare(&stream, &limits) {
        tracing::debug!(%remote, %error, "a connection takes no options");
    }
    match &shared.tls {
        None => drop(shared.runtime.spawn(serve(Arc::clone(shared), stream, flow, place, &limits))),
        Some(acceptor) => {
            let accept = acceptor.accept(stream);
            shared.runtime.spawn(shake_hands(Arc::clone(shared), accept, flow, place, limits));
        }
    }
}

/// Shakes hands, and starts the task of the connection: what the handshake needed ends with this one.
async fn shake_hands(shared: Arc<Shared>, accept: Accept<TcpStream>, flow: Flow, mut place: Place, limits: Limits) {
    let mut closed = shared.closed.subscribe();
    // Its turn comes, of its time: at a start all known phones come at once.
    let shake = async {
        place.turn().await;
        accept.await
    };
    let shaken = tokio::select! {
        biased;
        shaken = tokio::time::timeout(limits.handshake, shake) => shaken,
        _ = closed.wait_for(|closed| *closed) => return,
    };
    drop(closed);
    place.shaken();
    match shaken {
        Ok(Ok(stream)) => drop(shared.runtime.spawn(serve(Arc::clone(&shared), stream, flow, place, &limits))),
        Ok(Err(error)) => {
            tracing::debug!(remote = %flow.remote, %error, "a TLS handshake failed");
            shared.counters.add_dropped(Dropped::Handshake, 1);
            let told = || shared.receiver.broke_off(&flow);
            if was_broken_off(&error) && catch_unwind(AssertUnwindSafe(told)).is_err() {
                shared.failed(&flow);
            }
        }
        Err(_) => shared.counters.add_dropped(Dropped::HandshakeTime, 1),
    }
}

/// Whether the peer left in the middle of a handshake or sent what is none. One that rejects our certificate, or speaks
/// only what we do not, is a phone to be set up.
fn was_broken_off(error: &io::Error) -> bool {
    let said = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    !matches!(said, Some(rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_)))
}

/// Messages leave at once, and a peer that is gone without a word is found out.
fn prepare(stream: &TcpStream, limits: &Limits) -> nix::Result<()> {
    setsockopt(stream, TcpNoDelay, &true)?;
    setsockopt(stream, KeepAlive, &true)?;
    setsockopt(stream, TcpKeepIdle, &60)?;
    setsockopt(stream, TcpKeepInterval, &10)?;
    setsockopt(stream, TcpKeepCount, &3)?;
    setsockopt(stream, TcpUserTimeout, &u32::try_from(limits.unread.as_millis()).unwrap_or(u32::MAX))
}

/// The flow label of IPv6 is none of the peer's name.
fn without_label(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => remote,
        SocketAddr::V6(mut remote) => {
            remote.set_flowinfo(0);
            remote.into()
        }
    }
}
