//! The sockets of media: a pair of neighbouring ports, of both families at once where the machine has both, and how
//! packets leave from them.

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket,
        sockopt::{Ipv6V6Only, RcvBuf, RxqOvfl},
    },
};
use pbx_core::media::Pair;

use crate::net::{
    control::{self, Control},
    receiving::Receiving,
    udp::socket::fragment,
};

/// What the kernel keeps of a port's packets until they are read (bytes): a second of video, many of audio.
const RECEIVE_BUFFER: usize = 256 << 10;
/// Packets that are sent at once at most.
pub(super) const MOST_SENT: usize = 32;

/// One bound port.
#[derive(Debug)]
pub(super) struct Port {
    fd: OwnedFd,
    /// It speaks IPv4 by mapped addresses.
    dual: bool,
}

/// Both ports of a pair.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) pair: Pair,
    pub(super) rtp: Port,
    pub(super) rtcp: Port,
}

impl Ports {
    /// Binds both. `AddrInUse`: one of them is somebody else's.
    pub(super) fn bind(pair: Pair) -> io::Result<Self> {
        Ok(Self { pair, rtp: Port::bind(pair.rtp)?, rtcp: Port::bind(pair.rtcp())? })
    }

    /// Throws away what has come so far.
    pub(super) fn drain(&self, buffer: &mut Receiving) {
        for port in [&self.rtp, &self.rtcp] {
            // More than the kernel keeps is more than there was.
            for _ in 0..64 {
                match buffer.receive(port) {
                    Ok(received) if received > 0 => {}
                    _ => break,
                }
            }
        }
    }
}

impl Port {
    fn bind(port: u16) -> io::Result<Self> {
        match Self::bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {}
            bound => return Ok(bound?),
        }
        Ok(Self::bind_to((Ipv4Addr::UNSPECIFIED, port).into())?)
    }

    fn bind_to(address: SocketAddr) -> nix::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Datagram, flags, SockProtocol::Udp)?;
        if address.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &false)?;
        }
        fragment(&fd)?;
        setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER)?;
        setsockopt(&fd, RxqOvfl, &1)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        Ok(Self { fd, dual: address.is_ipv6() })
    }

    /// Sends packets to one place, without waiting; says how many went, and how many bytes these had.
    pub(super) fn send<'a>(&self, target: &Target, packets: impl IntoIterator<Item = &'a [u8]>) -> (usize, u64) {
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MOST_SENT];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MOST_SENT];
        let mut count = 0;
        for (index, packet) in packets.into_iter().take(MOST_SENT).enumerate() {
            // The kernel only reads what it sends.
            let vector = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
            let vector = vectors[index].write(vector);
            // SAFETY: all zero is a valid header without anything.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = ptr::from_ref(&target.name).cast_mut().cast();
            header.msg_hdr.msg_namelen = target.name_length;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            if target.control_length > 0 {
                header.msg_hdr.msg_control = ptr::from_ref(&target.control).cast_mut().cast();
                header.msg_hdr.msg_controllen = target.control_length as _;
            }
            headers[index].write(header);
            count = index + 1;
        }
        let (mut next, mut sent, mut bytes) = (0, 0, 0);
        while next < count {
            let rest = (count - next) as libc::c_uint;
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the headers from `next` to `count` are written, and point to what lives until the end of this
            // function, to `target`, or to the packets.
            let went = unsafe { libc::sendmmsg(self.as_raw_fd(), headers[next].as_mut_ptr(), rest, flags as _) };
            match usize::try_from(went) {
                Ok(went) => {
                    // SAFETY: written above, and read again by the kernel, which said how much of each it took.
                    let gone =
                        headers[next..next + went].iter().map(|header| unsafe { header.assume_init_ref().msg_len });
                    bytes += gone.map(u64::from).sum::<u64>();
                    sent += went;
                    next += went;
                }
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // One that can not go is no reason to keep the others back.
                Err(_) => next += 1,
            }
        }
        (sent, bytes)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Port {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Where packets go, and from which of our addresses, as the kernel reads it.
#[derive(Clone, Copy)]
pub(super) struct Target {
    name: libc::sockaddr_storage,
    name_length: libc::socklen_t,
    control: Control,
    control_length: usize,
}

impl Target {
    /// To `to`, through `port`, with the source `local`, unless that is unspecified or of the other family.
    pub(super) fn new(port: &Port, local: IpAddr, to: SocketAddr) -> Self {
        let to = canonical(to);
        let wire = match to {
            SocketAddr::V4(v4) if port.dual => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            other => other,
        };
        // SAFETY: all zero is a valid address of no family.
        let mut name = unsafe { mem::zeroed() };
        let name_length = control::name(&mut name, &wire);
        let mut control = Control::EMPTY;
        let local = local.to_canonical();
        let chosen = !local.is_unspecified() && local.is_ipv4() == to.is_ipv4();
        let control_length = if chosen { control::write(&mut control, &SocketAddr::new(local, 0)) } else { 0 };
        Self { name, name_length, control, control_length }
    }
}

/// An address as everything but the kernel has it: IPv4 as such, not mapped.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}
