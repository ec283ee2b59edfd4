//! One rtnetlink socket for dumps. Below `snapshot`. The kernel answers a dump while it is asked,
//! so the calls block for microseconds; each is bounded by a timeout. A socket belongs to the
//! network namespace of the thread that opened it, whichever thread uses it later.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// The kernel fills at most 32 KiB at a time in answer to a dump.
const BUFFER: usize = 64 * 1024;
/// A message starts with its length (u32), type (u16), flags (u16), sequence and sender (u32).
const HEADER: usize = 16;
const TIMEOUT_SECONDS: i64 = 5;
/// A table that changes while it is dumped is read again, this often.
const ATTEMPTS: usize = 5;

/// A socket for dumps of the kernel's network tables.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// How a dump ended.
#[derive(Debug, PartialEq)]
enum Part {
    More,
    Done,
}

impl Netlink {
    /// Opens a socket in this thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = open(0)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(TIMEOUT_SECONDS))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Every object that answers `request`, kept by `keep`. A message that cannot be read is
    /// skipped with a warning, so that one odd interface does not hide the others.
    pub(crate) fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        mut keep: impl FnMut(RouteNetlinkMessage, &mut Vec<T>),
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            let mut kept = Vec::new();
            if self.dump_once(request, |message| keep(message, &mut kept))? {
                return Ok(kept);
            }
        }
        Err(io::Error::other("the kernel's network tables changed during every attempt to read them"))
    }

    /// Whether the answer is consistent.
    fn dump_once(
        &mut self,
        request: &RouteNetlinkMessage,
        mut keep: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<bool> {
        self.send(request)?;
        let mut consistent = true;
        loop {
            let length = self.receive()?;
            for message in Messages(&self.buffer[..length]) {
                if sequence_of(message) != self.sequence {
                    continue; // the rest of a dump that was given up
                }
                consistent &= flags_of(message) & NLM_F_DUMP_INTR == 0;
                if read(message, &mut keep)? == Part::Done {
                    return Ok(consistent);
                }
            }
        }
    }

    fn send(&mut self, request: &RouteNetlinkMessage) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.clone()));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.socket.as_raw_fd(), &bytes, &kernel, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<usize> {
        loop {
            let (length, sender) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.buffer)?;
            if sender.is_some_and(|sender| sender.pid() == 0) {
                return Ok(length);
            }
        }
    }
}

/// A socket that is told of changes to `groups` (a mask of the kernel's RTMGRP_ values).
pub(super) fn open(groups: u32) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

fn read(message: &[u8], keep: &mut impl FnMut(RouteNetlinkMessage)) -> io::Result<Part> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
        Ok(message) => match message.payload {
            NetlinkPayload::Done(_) => return Ok(Part::Done),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(inner) => keep(inner),
            _ => {}
        },
        Err(error) => {
            tracing::warn!(%error, "an answer about the network is in no known form; skipped");
        }
    }
    Ok(Part::More)
}

fn flags_of(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[6], message[7]])
}

fn sequence_of(message: &[u8]) -> u32 {
    u32::from_ne_bytes([message[8], message[9], message[10], message[11]])
}

/// The messages of one datagram, each whole, none shorter than a header; ends at a length that the
/// datagram does not have.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_ne_bytes(self.0.get(..4)?.try_into().ok()?) as usize;
        if length < HEADER {
            return None;
        }
        let message = self.0.get(..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32, present: usize) -> Vec<u8> {
        let mut bytes = vec![0; present];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn messages_are_cut_at_their_padded_length() {
        let mut datagram = message(17, 20);
        datagram.extend(message(16, 16));
        let lengths: Vec<_> = Messages(&datagram).map(<[u8]>::len).collect();
        assert_eq!(lengths, [17, 16]);
    }

    #[test]
    fn a_lying_length_ends_the_datagram() {
        assert_eq!(Messages(&message(0, 16)).count(), 0);
        assert_eq!(Messages(&message(15, 16)).count(), 0);
        assert_eq!(Messages(&message(17, 16)).count(), 0);
        assert_eq!(Messages(&message(u32::MAX, 16)).count(), 0);
        assert_eq!(Messages(&[1, 2, 3]).count(), 0);
    }
}
