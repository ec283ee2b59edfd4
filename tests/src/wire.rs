//! The system calls of the harness that std and nix have no name for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Datagrams that one system call carries.
pub(crate) const BATCH: usize = 32;

/// Size of the largest datagram that is received whole.
pub(crate) const DATAGRAM: usize = 2048;

/// Switches off the transmit checksum offload of `interface` in the namespace of the calling thread, so that
/// frames on its wire carry real checksums (`ETHTOOL_STXCSUM`).
pub(crate) fn checksum_in_software(interface: &str) -> io::Result<()> {
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    let mut value = EthtoolValue { command: ETHTOOL_STXCSUM, data: 0 };
    // SAFETY: all zeros is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names an interface and points to a value that lives past the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a packet socket receives.
#[derive(Clone, Copy)]
pub(crate) enum Receives {
    Nothing,
    Everything,
}

/// A raw packet socket on `interface` of the calling thread's namespace, for whole frames.
pub(crate) fn packet_socket(interface: &str, receives: Receives) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe {
        let raw = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    // SAFETY: all zeros is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    address.sll_protocol = match receives {
        Receives::Nothing => 0,
        Receives::Everything => (libc::ETH_P_ALL as u16).to_be(),
    };
    // SAFETY: the address and its length belong together.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32) };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Asks for a receive or send buffer beyond the system's limit (`SO_RCVBUFFORCE`, `SO_SNDBUFFORCE`).
pub(crate) fn force_buffer(socket: impl AsFd, option: libc::c_int, bytes: i32) -> io::Result<()> {
    // SAFETY: the value is an int of the length given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const bytes).cast(),
            size_of::<i32>() as u32,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends up to [`BATCH`] messages on a connected or bound socket; how many were taken.
pub(crate) fn send_batch(socket: impl AsFd, messages: &[Vec<u8>]) -> io::Result<usize> {
    let count = messages.len().min(BATCH);
    // SAFETY: all zeros is a valid `iovec` and `mmsghdr`.
    let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { std::mem::zeroed() };
    for ((message, part), header) in messages.iter().zip(&mut parts).zip(&mut headers) {
        *part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: `count` headers point to parts and messages that live past the call; sending only reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count as u32, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Buffers for [`Batch::receive`].
pub(crate) struct Batch {
    buffers: Box<[[u8; DATAGRAM]; BATCH]>,
    sources: [libc::sockaddr_storage; BATCH],
}

impl Batch {
    pub(crate) fn new() -> Self {
        // SAFETY: all zeros is a valid `sockaddr_storage`.
        Self { buffers: Box::new([[0; DATAGRAM]; BATCH]), sources: unsafe { std::mem::zeroed() } }
    }

    /// What is there, without waiting: calls `each` with the bytes and, if it is an IP socket, the source; how many that were.
    pub(crate) fn receive(
        &mut self,
        socket: impl AsFd,
        mut each: impl FnMut(Option<std::net::IpAddr>, &[u8]),
    ) -> io::Result<usize> {
        // SAFETY: all zeros is a valid `iovec` and `mmsghdr`.
        let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { std::mem::zeroed() };
        for (index, header) in headers.iter_mut().enumerate() {
            parts[index] = libc::iovec { iov_base: self.buffers[index].as_mut_ptr().cast(), iov_len: DATAGRAM };
            header.msg_hdr.msg_iov = &mut parts[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut self.sources[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
        }
        // SAFETY: every header points to a buffer and an address of ours with their sizes.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for (index, header) in headers[..got].iter().enumerate() {
            each(address(&self.sources[index]), &self.buffers[index][..(header.msg_len as usize).min(DATAGRAM)]);
        }
        Ok(got)
    }
}

fn address(storage: &libc::sockaddr_storage) -> Option<std::net::IpAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET6 => {
            // SAFETY: the family says what the storage holds, and it is large enough for it.
            let v6: &libc::sockaddr_in6 = unsafe { &*(&raw const *storage).cast() };
            Some(std::net::Ipv6Addr::from(v6.sin6_addr.s6_addr).to_canonical())
        }
        libc::AF_INET => {
            // SAFETY: as above.
            let v4: &libc::sockaddr_in = unsafe { &*(&raw const *storage).cast() };
            Some(std::net::Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
        }
        _ => None,
    }
}
