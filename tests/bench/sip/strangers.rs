//! Strangers: REGISTERs without credentials, each of another user, from many addresses of the loopback, so many at a
//! time. Counts the challenges that come back.

use std::{
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// Addresses, and requests that may be under way at once.
pub(crate) const SOURCES: usize = 64;

/// Who asks.
pub(crate) struct Strangers {
    sockets: Vec<(SocketAddr, UdpSocket)>,
    server: SocketAddr,
    asked: u64,
}

impl Strangers {
    pub(crate) fn new(server: SocketAddr) -> Result<Self> {
        let socket = |index: usize| -> Result<_> {
            let address = Ipv4Addr::new(127, 9, 0, 1 + index as u8);
            let socket = UdpSocket::bind((address, 0)).with_context(|| format!("bind {address}"))?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            Ok((socket.local_addr()?, socket))
        };
        Ok(Self { sockets: (0..SOURCES).map(socket).collect::<Result<_>>()?, server, asked: 0 })
    }

    /// Sends so many requests, `at_once` (1 to [`SOURCES`]) together and the next when those are answered; how many
    /// were answered.
    pub(crate) fn ask(&mut self, count: u32, at_once: usize) -> Result<u32> {
        let mut message = Vec::with_capacity(1024);
        let mut buffer = [0; 2048];
        let mut answered = 0;
        let mut left = count as usize;
        while left > 0 {
            let asking = &self.sockets[..at_once.min(left)];
            for (local, socket) in asking {
                self.asked += 1;
                message.clear();
                write_request(&mut message, *local, self.server, self.asked)?;
                socket.send(&message)?;
            }
            for (_, socket) in asking {
                match socket.recv(&mut buffer) {
                    Ok(_) => {
                        ensure!(buffer.starts_with(b"SIP/2.0 401 "), "{}", String::from_utf8_lossy(&buffer[..64]));
                        answered += 1;
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => return Err(error).context("receive"),
                }
            }
            left -= asking.len();
        }
        ensure!(answered > 0, "not one of {count} requests was answered");
        Ok(answered)
    }
}

/// A REGISTER without credentials, of a user and a call that `number` names.
pub(super) fn write_request(out: &mut Vec<u8>, local: SocketAddr, server: SocketAddr, number: u64) -> Result<()> {
    let user = 200_000 + number % 100_000;
    write!(
        out,
        "REGISTER sip:{server} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};branch=z9hG4bK-{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{user}@{server}>;tag=s{number}\r\n\
         To: <sip:{user}@{server}>\r\n\
         Call-ID: {number}@{local}\r\n\
         CSeq: 1 REGISTER\r\n\
         Contact: <sip:{user}@{local}>\r\n\
         Expires: 300\r\n\
         User-Agent: stranger\r\n\
         Content-Length: 0\r\n\r\n"
    )?;
    Ok(())
}
