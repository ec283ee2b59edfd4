//! Many phones in one thread: each sends packets at its pace and counts what it hears.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use pbx_core::wire::rtp::Header;

/// The port of the first phone; the others follow. Below those that sockets without a port of their own get.
pub(crate) const FIRST: u16 = 10_000;
/// How long the last packets may take.
const REST: Duration = Duration::from_millis(200);

/// The phones.
pub(crate) struct Phones {
    sockets: Vec<UdpSocket>,
    /// Between two packets of a phone.
    step: Duration,
    sequence: u16,
}

impl Phones {
    pub(crate) fn bind(count: usize, step: Duration) -> Result<Self> {
        let bind = |index: usize| -> Result<UdpSocket> {
            let socket = UdpSocket::bind(("127.0.0.1", FIRST + index as u16))?;
            socket.set_nonblocking(true)?;
            // What one thread does for all of them is no fault of a relay's.
            setsockopt(&socket, RcvBufForce, &(4 << 20))?;
            Ok(socket)
        };
        Ok(Self { sockets: (0..count).map(bind).collect::<Result<_>>()?, step, sequence: 1 })
    }

    /// The ports, in order.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        (0..self.sockets.len()).map(|index| FIRST + index as u16)
    }

    /// All send to their ports for a while; packets that were sent, and that were heard.
    pub(crate) fn talk(&mut self, ports: &[u16], lasts: Duration) -> Result<(u64, u64)> {
        let (mut sent, mut heard) = (0, 0);
        let begun = Instant::now();
        let rounds = (lasts.as_nanos() / self.step.as_nanos()) as u32;
        let count = self.sockets.len() as u32;
        for round in 0..rounds {
            for (index, socket) in self.sockets.iter().enumerate() {
                let due = self.step * round + self.step * index as u32 / count;
                if let Some(early) =
                    due.checked_sub(begun.elapsed()).filter(|early| *early > Duration::from_micros(200))
                {
                    thread::sleep(early);
                }
                socket.send_to(&packet(self.sequence, index as u32), ("127.0.0.1", ports[index]))?;
                sent += 1;
                heard += drain(socket);
            }
            self.sequence = self.sequence.wrapping_add(1);
        }
        thread::sleep(REST);
        heard += self.sockets.iter().map(drain).sum::<u64>();
        Ok((sent, heard))
    }
}

fn drain(socket: &UdpSocket) -> u64 {
    let mut packet = [0; 2048];
    let mut count = 0;
    while socket.recv(&mut packet).is_ok() {
        count += 1;
    }
    count
}

/// 20 ms of G.711 A-law.
fn packet(sequence: u16, ssrc: u32) -> [u8; 172] {
    let timestamp = u32::from(sequence) * 160;
    let header = Header { marker: false, payload_type: 8, sequence, timestamp, ssrc, payload: 12..172 };
    let mut packet = [0xd5; 172];
    packet[..12].copy_from_slice(&header.write());
    packet
}
