//! Messages sent by the batch: sendmmsg(2) from where they lie.

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
    super::{
        Counters, Dropped,
        control::{self, Control},
        receiving::BATCH,
    },
    socket::Socket,
};

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
