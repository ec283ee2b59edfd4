//! Datagrams by the batch: recvmmsg(2) into memory that is kept, sendmmsg(2) from where the messages lie. The only
//! place that gives the kernel pointers.

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    ptr,
};

use nix::libc;
use pbx_core::transport::Flow;

use super::{
    super::{Counters, Dropped},
    control::{self, Control, Told},
    socket::Socket,
};

/// Datagrams in a batch.
pub(super) const BATCH: usize = 32;

/// Longer than any datagram (65,507 bytes over IPv4, 65,527 over IPv6), so none is ever cut. Memory for the largest is
/// there for each of a batch, but the kernel provides the pages behind it only when such a datagram comes: usual ones
/// touch one page each, and 2 MiB are the most that somebody can make a worker use.
const SLOT: usize = 65_536;

/// Where a worker receives. Stays in its thread.
pub(super) struct Receiving {
    bytes: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    /// Pointed to by the headers, and pointing to the bytes.
    _vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    received: usize,
}

/// A datagram as it was received.
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) remote: Option<SocketAddr>,
    pub(super) told: Told,
}

impl Receiving {
    pub(super) fn new() -> Self {
        let mut bytes = vec![0; BATCH * SLOT].into_boxed_slice();
        // SAFETY: all zero is a valid address of no family.
        let mut names = vec![unsafe { mem::zeroed::<libc::sockaddr_storage>() }; BATCH].into_boxed_slice();
        let mut controls = vec![Control::EMPTY; BATCH].into_boxed_slice();
        let start = bytes.as_mut_ptr();
        let mut vectors: Box<[_]> = (0..BATCH)
            .map(|index| {
                // SAFETY: within the allocation.
                let slot = unsafe { start.add(index * SLOT) };
                libc::iovec { iov_base: slot.cast(), iov_len: SLOT }
            })
            .collect();
        let (names_at, controls_at, vectors_at) = (names.as_mut_ptr(), controls.as_mut_ptr(), vectors.as_mut_ptr());
        let headers = (0..BATCH)
            .map(|index| {
                // SAFETY: all zero is a valid header without anything.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                // SAFETY: each of the three has BATCH elements. They lie on the heap and stay there when `self` moves.
                unsafe {
                    header.msg_hdr.msg_name = names_at.add(index).cast();
                    header.msg_hdr.msg_control = controls_at.add(index).cast();
                    header.msg_hdr.msg_iov = vectors_at.add(index);
                }
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self { bytes, names, controls, _vectors: vectors, headers, received: BATCH }
    }

    /// Takes what is there, without waiting: up to a batch. `WouldBlock`: nothing.
    pub(super) fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        for header in &mut self.headers[..self.received] {
            header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as _;
            header.msg_hdr.msg_controllen = mem::size_of::<Control>() as _;
        }
        self.received = 0;
        let (headers, count) = (self.headers.as_mut_ptr(), BATCH as libc::c_uint);
        // SAFETY: every header points to memory of `self` with the length that it says; nobody else has it now.
        let got =
            unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, count, libc::MSG_DONTWAIT as _, ptr::null_mut()) };
        let Ok(got) = usize::try_from(got) else {
            return Err(io::Error::last_os_error());
        };
        self.received = got;
        Ok(got)
    }

    /// What the last [`receive`](Self::receive) took.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.received).map(|index| {
            let header = &self.headers[index];
            debug_assert!(self.controls.len() == BATCH && header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0);
            let length = (header.msg_len as usize).min(SLOT);
            Datagram {
                bytes: &self.bytes[index * SLOT..][..length],
                remote: control::address(&self.names[index]),
                // SAFETY: the kernel wrote the control messages of all headers up to `received`.
                told: unsafe { control::read(&header.msg_hdr) },
            }
        })
    }
}

/// A batch to send through one socket. Lives on the stack; the messages stay where they are.
pub(super) struct Sending<'a> {
    messages: [MaybeUninit<(&'a Flow, &'a [u8])>; BATCH],
    count: usize,
}

impl<'a> Sending<'a> {
    pub(super) fn new() -> Self {
        Self { messages: [const { MaybeUninit::uninit() }; BATCH], count: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Adds a message; the batch is not full.
    pub(super) fn add(&mut self, flow: &'a Flow, bytes: &'a [u8]) {
        self.messages[self.count].write((flow, bytes));
        self.count += 1;
    }

    /// Sends all of it without waiting, and counts what became of each.
    pub(super) fn send(self, socket: &Socket, counters: &Counters) {
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        for index in 0..self.count {
            // SAFETY: `add` wrote all below `count`.
            let (flow, bytes) = unsafe { self.messages[index].assume_init() };
            // SAFETY: all zero is a valid address of no family.
            let name = names[index].write(unsafe { mem::zeroed() });
            let name_length = control::name(name, &flow.remote);
            let control = controls[index].write(Control::EMPTY);
            // An unspecified source leaves the choice to the kernel.
            let control_length =
                if flow.local.ip().is_unspecified() { 0 } else { control::write(control, &flow.local) };
            // The kernel only reads what it sends.
            let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let vector = vectors[index].write(vector);
            // SAFETY: all zero is a valid header without anything.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = name_length;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = control_length as _;
            headers[index].write(header);
        }
        let mut next = 0;
        let mut sent = 0;
        while next < self.count {
            let rest = (self.count - next) as libc::c_uint;
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
            // SAFETY: the headers from `next` to `count` are written, and point to what lives until the end of this
            // function, or as long as 'a.
            let went = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers[next].as_mut_ptr(), rest, flags) };
            if let Ok(went) = usize::try_from(went) {
                sent += went;
                next += went;
                continue;
            }
            match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => (),
                io::ErrorKind::WouldBlock => {
                    counters.add_dropped(Dropped::SendBuffer, self.count - next);
                    break;
                }
                // One that can not go is no reason to keep the others back.
                _ => {
                    counters.add_dropped(Dropped::Unreachable, 1);
                    next += 1;
                }
            }
        }
        if sent > 0 {
            counters.add_sent(sent);
        }
    }
}

/// The flow's local address of a datagram.
pub(super) fn local((address, scope): (IpAddr, u32), port: u16) -> SocketAddr {
    match address {
        IpAddr::V4(address) => SocketAddr::from((address, port)),
        IpAddr::V6(address) => std::net::SocketAddrV6::new(address, port, 0, scope).into(),
    }
}
