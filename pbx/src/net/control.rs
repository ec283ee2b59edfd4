//! What the kernel says beside a datagram, and is told beside one: the local address (ip(7) IP_PKTINFO, ipv6(7)
//! IPV6_PKTINFO) and how many datagrams it has dropped (socket(7) SO_RXQ_OVFL). Turns socket addresses of the kernel
//! into ours and back.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ptr,
};

use nix::libc;

/// Room for all control messages of a datagram.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; 128]);

impl Control {
    pub(crate) const EMPTY: Self = Self([0; 128]);
}

/// What the control messages of a received datagram said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Our address that it was sent to, and the interface of a link-local one.
    pub(crate) local: Option<(IpAddr, u32)>,
    /// How many datagrams the socket has dropped ever, if it said so.
    pub(crate) overflow: Option<u32>,
}

/// Reads the control messages of a header that the kernel filled.
///
/// # Safety
/// `header.msg_control` points to `header.msg_controllen` bytes that the kernel wrote, aligned as `cmsghdr`.
pub(crate) unsafe fn read(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: as the caller promised; the macros stay within `msg_controllen`.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: the macros gave a pointer to a whole header.
        let (message, data) = unsafe { (&*next, libc::CMSG_DATA(next)) };
        let holds = |size: usize| message.cmsg_len >= mem::size_of::<libc::cmsghdr>() + size;
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(mem::size_of::<libc::in_pktinfo>()) => {
                // SAFETY: the message holds one, at any alignment.
                let info: libc::in_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                // Of what was sent to a broadcast address, this is ours at the interface.
                let address = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                told.local = Some((address.into(), 0));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if holds(mem::size_of::<libc::in6_pktinfo>()) => {
                // SAFETY: the message holds one, at any alignment.
                let info: libc::in6_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let scope = if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                told.local = Some((address.into(), scope as u32));
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if holds(4) => {
                // SAFETY: the message holds four bytes, at any alignment.
                told.overflow = Some(unsafe { ptr::read_unaligned(data.cast()) });
            }
            _ => (),
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    told
}

/// Writes the control message that makes a datagram leave from `local`, and says how long it is.
pub(crate) fn write(control: &mut Control, local: &SocketAddr) -> usize {
    match local {
        SocketAddr::V4(local) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(local.ip().octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        SocketAddr::V6(local) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: local.ip().octets() },
                ipi6_ifindex: local.scope_id() as _,
            };
            put(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn put<T: Copy>(control: &mut Control, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let size = mem::size_of::<T>() as libc::c_uint;
    // SAFETY: computes lengths only.
    let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize) };
    assert!(space <= mem::size_of::<Control>());
    let header = libc::cmsghdr { cmsg_len: length as _, cmsg_level: level, cmsg_type: kind };
    let at = ptr::from_mut(control).cast::<libc::cmsghdr>();
    // SAFETY: the buffer is aligned for the header and, as asserted, holds it and the value behind it.
    unsafe {
        at.write(header);
        libc::CMSG_DATA(at).cast::<T>().write_unaligned(value);
    }
    space
}

/// The address that the kernel wrote; none: of another family.
pub(crate) fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is, and the storage is larger and aligned for every kind.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            // The flow label is left out: it would make two of one sender.
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Writes an address as the kernel reads it, and says how long it is.
pub(crate) fn name(name: &mut libc::sockaddr_storage, address: &SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as _,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger and aligned for every kind.
            unsafe { ptr::from_mut(name).cast::<libc::sockaddr_in>().write(value) };
            mem::size_of::<libc::sockaddr_in>() as _
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as _,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { ptr::from_mut(name).cast::<libc::sockaddr_in6>().write(value) };
            mem::size_of::<libc::sockaddr_in6>() as _
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_beside_a_datagram_is_read_again() {
        for local in ["192.0.2.1:5060", "[2001:db8::1]:5060", "[fe80::1%3]:5060"] {
            let local: SocketAddr = local.parse().unwrap();
            let mut control = Control::EMPTY;
            let length = write(&mut control, &local);
            // SAFETY: all zero is a valid header.
            let mut header: libc::msghdr = unsafe { mem::zeroed() };
            header.msg_control = ptr::from_mut(&mut control).cast();
            header.msg_controllen = length as _;
            // SAFETY: the control messages were just written.
            let told = unsafe { read(&header) };
            let scope = if let SocketAddr::V6(local) = local { local.scope_id() } else { 0 };
            // The written one of IPv4 has its source where the received one has our address.
            assert_eq!(told, Told { local: Some((local.ip(), scope)), overflow: None });
        }
    }

    #[test]
    fn an_address_of_the_kernel_is_ours_and_back() {
        for text in ["192.0.2.1:5060", "[2001:db8::1]:5061", "[fe80::1%3]:1"] {
            let ours: SocketAddr = text.parse().unwrap();
            // SAFETY: all zero is a valid address.
            let mut kernel = unsafe { mem::zeroed() };
            name(&mut kernel, &ours);
            assert_eq!(address(&kernel), Some(ours));
        }
    }
}
