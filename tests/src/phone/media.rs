//! RTP of the phones of the harness: a socket that sends a tone and records what comes, and many of them at once, a
//! packet each every 20 ms from one thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{message::Sdp, tone};
use crate::sandbox::Namespace;

/// Time between two packets.
pub const PACKET: Duration = Duration::from_millis(20);
/// Samples of a packet.
const SAMPLES: usize = 160;
/// Bytes before the samples (RFC 3550 §5.1).
const HEADER: usize = 12;
/// The longest that a packet on its way may take.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// One phone's RTP.
#[derive(Debug)]
pub struct Media {
    socket: UdpSocket,
    local: SocketAddr,
    /// The tone that it plays, Hz.
    pub frequency: u32,
    /// The source of what it sends.
    pub ssrc: u32,
    /// The number of its next packet.
    pub sequence: u16,
    /// The payload type of what it sends.
    pub payload_type: u8,
    sample: u64,
    /// Packets that it has sent.
    pub sent: u64,
    /// What came.
    pub taken: Taken,
}

/// What came to a [`Media`].
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Packets.
    pub packets: u64,
    /// The samples of PCMU in them, in the order in which they came.
    pub samples: Vec<i16>,
    /// Where they came from.
    pub sources: BTreeSet<SocketAddr>,
    /// How many had which SSRC.
    pub streams: BTreeMap<u32, u64>,
    /// Bytes of the longest, its header included.
    pub longest: usize,
    /// The payload types of them.
    pub payload_types: BTreeSet<u8>,
    /// Telephone events: payloads of type 101.
    pub events: Vec<[u8; 4]>,
}

impl Taken {
    /// Whether a tone of this frequency was heard.
    pub fn has(&self, frequency: u32) -> bool {
        tone::has(&self.samples, frequency)
    }
}

impl Media {
    /// A socket on a free even port of this address of the namespace, whose neighbour above is free too.
    pub fn open(network: &Namespace, address: std::net::IpAddr, frequency: u32) -> Result<Self> {
        network.enter(|| {
            for _ in 0..1000 {
                let socket = UdpSocket::bind((address, 0)).with_context(|| format!("bind {address}"))?;
                if socket.local_addr()?.port() % 2 == 0 {
                    return Self::of(socket, frequency);
                }
            }
            anyhow::bail!("no even port of {address} is free")
        })
    }

    /// A socket on this address and port of the namespace.
    pub fn open_at(network: &Namespace, local: SocketAddr, frequency: u32) -> Result<Self> {
        network.enter(|| Self::of(UdpSocket::bind(local).with_context(|| format!("bind {local}"))?, frequency))
    }

    fn of(socket: UdpSocket, frequency: u32) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let ssrc = u32::from(local.port()) << 16 | frequency;
        let (sequence, payload_type, sample, sent) = (1000, 0, 0, 0);
        Ok(Self { socket, local, frequency, ssrc, sequence, payload_type, sample, sent, taken: Taken::default() })
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// An offer or answer that leads here.
    pub fn sdp(&self) -> Sdp {
        Sdp::new(self.local)
    }

    /// Goes on where another phone's stream is: its SSRC, numbers and time, as somebody who sees them would.
    pub fn imitate(&mut self, other: &Self) {
        (self.ssrc, self.sequence, self.sample) = (other.ssrc, other.sequence, other.sample);
    }

    /// Sends the next packet of its tone.
    pub fn send(&mut self, to: SocketAddr) -> Result<()> {
        let samples = tone::sine(self.frequency, self.sample, SAMPLES);
        let payload: Vec<u8> = samples.into_iter().map(tone::to_pcmu).collect();
        self.send_payload(to, &payload)
    }

    /// Sends a packet with this payload.
    pub fn send_payload(&mut self, to: SocketAddr, payload: &[u8]) -> Result<()> {
        let mut packet = Vec::with_capacity(HEADER + payload.len());
        packet.extend_from_slice(&[0x80, self.payload_type]);
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&(self.sample as u32).to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sample += SAMPLES as u64;
        self.send_bytes(to, &packet)?;
        self.sent += 1;
        Ok(())
    }

    /// Sends any bytes.
    pub fn send_bytes(&self, to: SocketAddr, bytes: &[u8]) -> Result<()> {
        match self.socket.send_to(bytes, to) {
            // Says only that an earlier packet found nobody.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => other.map(|_| ()).with_context(|| format!("send {} bytes to {to}", bytes.len())),
        }
    }

    /// Takes all that has come; how many packets.
    pub fn take(&mut self) -> Result<u64> {
        let mut buffer = [0; 16_384];
        let before = self.taken.packets;
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.taken.add(&buffer[..length], from),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.taken.packets - before),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error).context("receive RTP"),
            }
        }
    }

    /// Forgets what came so far; that.
    pub fn forget(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }
}

impl Taken {
    fn add(&mut self, packet: &[u8], from: SocketAddr) {
        self.packets += 1;
        self.longest = self.longest.max(packet.len());
        self.sources.insert(from);
        let Some((header, payload)) = packet.split_at_checked(HEADER) else { return };
        let payload_type = header[1] & 0x7f;
        self.payload_types.insert(payload_type);
        *self.streams.entry(u32::from_be_bytes([header[8], header[9], header[10], header[11]])).or_default() += 1;
        match payload_type {
            0 => self.samples.extend(payload.iter().map(|byte| tone::of_pcmu(*byte))),
            101 => self.events.extend(payload.first_chunk::<4>()),
            _ => {}
        }
    }
}

/// Lets each of these play to its address for so long, and record what comes. A packet that is late is sent at once.
pub fn play(streams: &mut [(&mut Media, SocketAddr)], time: Duration) -> Result<()> {
    let begin = Instant::now();
    for turn in 0.. {
        let due = PACKET * turn;
        if due >= time {
            return Ok(());
        }
        for (media, to) in streams.iter_mut() {
            media.send(*to)?;
        }
        // Not a wait for anything to happen: the pace of a phone.
        while begin.elapsed() < due + PACKET {
            for (media, _) in streams.iter_mut() {
                media.take()?;
            }
            thread::sleep((due + PACKET).saturating_sub(begin.elapsed()).min(PACKET / 4));
        }
        ensure!(begin.elapsed() < time * 4 + ON_ITS_WAY, "this machine is too slow for {} streams", streams.len());
    }
    Ok(())
}

/// Takes what is still on its way, until each has so many packets in all or nothing comes for long; packets that are
/// missing.
pub fn wait_packets(streams: &mut [(&mut Media, u64)]) -> Result<u64> {
    let mut last = Instant::now();
    loop {
        let mut missing = 0;
        for (media, count) in streams.iter_mut() {
            if media.take()? > 0 {
                last = Instant::now();
            }
            missing += count.saturating_sub(media.taken.packets);
        }
        if missing == 0 || last.elapsed() > ON_ITS_WAY {
            return Ok(missing);
        }
        thread::sleep(PACKET / 4);
    }
}
