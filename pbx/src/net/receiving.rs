//! Datagrams received by the batch: recvmmsg(2) into memory that is kept.

use std::{io, mem, net::SocketAddr, os::fd::AsRawFd, ptr};

use nix::libc;

use super::control::{self, Control, Told};

/// Datagrams in a batch.
pub(crate) const BATCH: usize = 32;

/// Longer than any datagram (65,507 bytes over IPv4, 65,527 over IPv6), so none is ever cut. Memory for the largest is
/// there for each of a batch, but the kernel provides the pages behind it only when such a datagram comes: usual ones
/// touch one page each, and 2 MiB are the most that somebody can make a worker use.
const SLOT: usize = 65_536;

/// Where a worker receives. Stays in its thread.
pub(crate) struct Receiving {
    bytes: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    /// Pointed to by the headers, and pointing to the bytes.
    _vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    received: usize,
}

/// A datagram as it was received.
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) told: Told,
}

impl Receiving {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
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

    /// The bytes of one of those that the last [`receive`](Self::receive) took.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        let length = (self.headers[index].msg_len as usize).min(SLOT);
        &self.bytes[index * SLOT..][..length]
    }

    /// The same, to be changed in place.
    pub(crate) fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        let length = (self.headers[index].msg_len as usize).min(SLOT);
        &mut self.bytes[index * SLOT..][..length]
    }

    /// One of those that the last [`receive`](Self::receive) took.
    pub(crate) fn datagram(&self, index: usize) -> Datagram<'_> {
        assert!(index < self.received, "only what was received has control messages");
        let header = &self.headers[index];
        debug_assert!(self.controls.len() == BATCH && header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0);
        let length = (header.msg_len as usize).min(SLOT);
        Datagram {
            bytes: &self.bytes[index * SLOT..][..length],
            remote: control::address(&self.names[index]),
            // SAFETY: the kernel wrote the control messages of all headers up to `received`.
            told: unsafe { control::read(&header.msg_hdr) },
        }
    }

    /// What the last [`receive`](Self::receive) took.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.received).map(|index| self.datagram(index))
    }
}
