//! A flood of TLS handshakes: connections that say hello, let the server do its part, and are gone.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, send, setsockopt, socket,
        sockopt::Linger,
    },
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName};

/// Connections at the same time.
const AT_ONCE: usize = 48;
/// A connection that gets no further is given up after so long.
const PATIENCE: Duration = Duration::from_millis(500);

/// One connection on its way to being gone.
struct Attempt {
    socket: OwnedFd,
    begun: Instant,
    greeted: bool,
}

/// Floods from this address of the calling thread's namespace until it is told to stop.
pub(crate) fn flood(source: IpAddr, server: SocketAddr, stop: &AtomicBool) -> Result<()> {
    let hello = hello(server)?;
    let mut attempts: Vec<Attempt> = Vec::with_capacity(AT_ONCE);
    while !stop.load(Relaxed) {
        while attempts.len() < AT_ONCE {
            attempts.push(Attempt { socket: begin(source, server)?, begun: Instant::now(), greeted: false });
        }
        let mut waiting: Vec<PollFd> = attempts
            .iter()
            .map(|one| {
                PollFd::new(one.socket.as_fd(), if one.greeted { PollFlags::POLLIN } else { PollFlags::POLLOUT })
            })
            .collect();
        poll(&mut waiting, PollTimeout::from(20_u8))?;
        let ready: Vec<bool> = waiting.iter().map(|one| one.any() == Some(true)).collect();
        drop(waiting);
        let mut place = 0;
        attempts.retain_mut(|one| {
            let ready = ready[place];
            place += 1;
            let over = match (ready, one.greeted) {
                (true, false) => {
                    one.greeted = true;
                    send(one.socket.as_raw_fd(), &hello, MsgFlags::MSG_NOSIGNAL).is_err()
                }
                // The server has done its part, or closed.
                (true, true) => true,
                (false, _) => one.begun.elapsed() > PATIENCE,
            };
            !over
        });
    }
    Ok(())
}

/// Begins to connect; the connection ends with a reset.
fn begin(source: IpAddr, server: SocketAddr) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0))).context("an address to flood from")?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error).context("connect"),
    }
}

/// What a client says first.
fn hello(server: SocketAddr) -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::from(server.ip()))?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}
