//! The sockets of a UDP transport: how they are bound and what they are told.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket,
        sockopt::{
            Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, RcvBuf, RcvBufForce, ReusePort, RxqOvfl, SndBuf,
            SndBufForce,
        },
    },
};

use super::Options;

/// One socket, of one family: mapped addresses never come out of it.
pub(super) struct Socket {
    fd: OwnedFd,
    address: IpAddr,
}

impl Socket {
    /// Whether messages with this source leave from here.
    pub(super) fn sends_from(&self, local: IpAddr) -> bool {
        if self.address.is_unspecified() { self.address.is_ipv4() == local.is_ipv4() } else { self.address == local }
    }

    /// Binds it. The first one at an address is bound before it shares its port, so that it does not join somebody
    /// else's group; the others join it.
    fn bind(address: SocketAddr, options: &Options, first: bool) -> nix::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Datagram, flags, SockProtocol::Udp)?;
        if address.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &true)?;
            setsockopt(&fd, Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&fd, Ipv4PacketInfo, &true)?;
            fragment(&fd)?;
        }
        if setsockopt(&fd, RcvBufForce, &options.receive_buffer).is_err() {
            setsockopt(&fd, RcvBuf, &options.receive_buffer)?;
        }
        if setsockopt(&fd, SndBufForce, &options.send_buffer).is_err() {
            setsockopt(&fd, SndBuf, &options.send_buffer)?;
        }
        setsockopt(&fd, RxqOvfl, &1)?;
        if !first {
            setsockopt(&fd, ReusePort, &true)?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        if first {
            setsockopt(&fd, ReusePort, &true)?;
        }
        Ok(Self { fd, address: address.ip() })
    }

    fn port(&self) -> nix::Result<u16> {
        let name: SockaddrStorage = getsockname(self.fd.as_raw_fd())?;
        let port = name.as_sockaddr_in().map(|name| name.port());
        port.or_else(|| name.as_sockaddr_in6().map(|name| name.port())).ok_or(Errno::EAFNOSUPPORT)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Opens the sockets of all workers and says on which port.
pub(super) fn open(options: &Options) -> io::Result<(u16, Vec<Vec<Socket>>)> {
    // A free port that one family chose may be taken in the other: then another one is tried.
    let attempts = if options.port == 0 { 16 } else { 1 };
    let mut result = Err(io::Error::from(Errno::EADDRINUSE));
    for _ in 0..attempts {
        result = open_at(options);
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    result
}

fn open_at(options: &Options) -> io::Result<(u16, Vec<Vec<Socket>>)> {
    let mut port = options.port;
    let mut sockets: Vec<Vec<Socket>> = (0..options.workers.max(1)).map(|_| Vec::new()).collect();
    let mut missing = None;
    for address in &options.addresses {
        let first = match Socket::bind(SocketAddr::new(*address, port), options, true) {
            Ok(first) => first,
            Err(errno @ (Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) => {
                missing = Some(errno);
                continue;
            }
            Err(errno) => return Err(errno.into()),
        };
        port = first.port()?;
        sockets[0].push(first);
        for others in &mut sockets[1..] {
            others.push(Socket::bind(SocketAddr::new(*address, port), options, false)?);
        }
    }
    match missing {
        Some(errno) if sockets[0].is_empty() => Err(errno.into()),
        _ => Ok((port, sockets)),
    }
}

/// Lets IPv4 datagrams over the path's size be fragmented on the way, as SIP over UDP has always been.
pub(crate) fn fragment(fd: &OwnedFd) -> nix::Result<()> {
    let value = libc::IP_PMTUDISC_DONT;
    let length = size_of_val(&value) as libc::socklen_t;
    let value = std::ptr::from_ref(&value).cast();
    // SAFETY: the value is read during the call only, and its length is given.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, length) };
    Errno::result(result).map(drop)
}
