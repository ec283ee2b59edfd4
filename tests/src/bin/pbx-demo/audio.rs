//! The call's audio: both phones send a packet each every 20 ms as long as the demo lasts, and note when each one came.
//! What is lost and how the way varies can be asked of any span of time afterwards.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use nix::libc;
use pbx_tests::stamp;

/// Time between two packets.
const PACKET: Duration = Duration::from_millis(20);
/// A packet that is longer on its way is lost: no jitter buffer waits for it.
pub(crate) const LATE: Duration = Duration::from_millis(200);
/// First bytes of every payload; audio of somebody else has others.
const MARK: [u8; 8] = *b"demotone";
/// Payload of 20 ms of PCMU (bytes).
const PAYLOAD: usize = 160;
/// RTP's header (RFC 3550 §5.1).
const HEADER: usize = 12;
/// The phones have machines of their own; here they share one with those who attack.
const PRIORITY: i32 = -10;

/// The audio of a call, until it is dropped.
pub(crate) struct Audio {
    ways: [Arc<Way>; 2],
    sequence: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// From one phone to the other.
#[derive(Default)]
struct Way {
    /// Of each packet, when it was sent and when it came (nanoseconds of the wall clock; 0: not yet).
    packets: Mutex<Vec<(u64, u64)>>,
    /// Packets that the other phone has not sent.
    foreign: AtomicU64,
}

/// How a call sounded in a span of time, both ways together.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Sound {
    /// Packets that the phones sent.
    pub(crate) sent: u64,
    /// Of these, how many did not come, or too late to be played.
    pub(crate) lost: u64,
    /// The highest interarrival jitter (RFC 3550 §6.4.1), in milliseconds.
    pub(crate) jitter_ms: f64,
}

impl Sound {
    /// What was lost, in percent.
    pub(crate) fn loss(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost as f64 * 100.0 / self.sent as f64 }
    }
}

/// The wall clock, which the kernel stamps packets by (nanoseconds).
pub(crate) fn now() -> u64 {
    nanoseconds(SystemTime::now())
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Audio {
    /// Begins to speak, from each of these sockets to where its phone was told to.
    pub(crate) fn start(phones: [(UdpSocket, SocketAddr); 2]) -> Result<Self> {
        let ways = [Arc::new(Way::default()), Arc::new(Way::default())];
        let (stop, sequence) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU16::new(0)));
        let mut threads = Vec::new();
        for (index, (socket, _)) in phones.iter().enumerate() {
            let socket = socket.try_clone().context("a socket of the call")?;
            socket.set_nonblocking(false)?;
            socket.set_read_timeout(Some(PACKET * 5))?;
            // The first phone hears what the second one says.
            let (way, stop) = (Arc::clone(&ways[1 - index]), Arc::clone(&stop));
            threads.push(thread::spawn(move || listen(&socket, &way, &stop)));
        }
        let speaking = (ways.clone(), Arc::clone(&sequence), Arc::clone(&stop));
        threads.push(thread::spawn(move || speak(&phones, &speaking.0, &speaking.1, &speaking.2)));
        Ok(Self { ways, sequence, stop, threads })
    }

    /// How it sounded between two moments of [`now`], of what was sent then.
    pub(crate) fn between(&self, from: u64, to: u64) -> Sound {
        let mut sound = Sound::default();
        for way in &self.ways {
            let packets = way.packets.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut jitter, mut before): (f64, Option<f64>) = (0.0, None);
            for (sent, came) in packets.iter().filter(|(sent, _)| (from..to).contains(sent)) {
                sound.sent += 1;
                if *came == 0 || came.saturating_sub(*sent) > LATE.as_nanos() as u64 {
                    sound.lost += 1;
                    continue;
                }
                let transit = came.saturating_sub(*sent) as f64 / 1e6;
                if let Some(before) = before.replace(transit) {
                    jitter += ((transit - before).abs() - jitter) / 16.0;
                    sound.jitter_ms = sound.jitter_ms.max(jitter);
                }
            }
        }
        sound
    }

    /// Packets that either phone heard and the other has not sent.
    pub(crate) fn foreign(&self) -> u64 {
        self.ways.iter().map(|way| way.foreign.load(Relaxed)).sum()
    }

    /// The number of the packet that is sent next, which somebody who sees them knows.
    pub(crate) fn sequence(&self) -> u16 {
        self.sequence.load(Relaxed)
    }
}

impl Drop for Audio {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The source of what a phone says.
pub(crate) fn ssrc(phone: usize) -> u32 {
    0x6000_0000 + phone as u32
}

fn speak(phones: &[(UdpSocket, SocketAddr); 2], ways: &[Arc<Way>; 2], sequence: &AtomicU16, stop: &AtomicBool) {
    prefer();
    let begin = Instant::now();
    for turn in 0u32.. {
        // The pace of a phone.
        thread::sleep((begin + PACKET * turn).saturating_duration_since(Instant::now()));
        if stop.load(Relaxed) {
            return;
        }
        for (index, ((socket, to), way)) in phones.iter().zip(ways).enumerate() {
            let packet = packet(turn, ssrc(index));
            way.packets.lock().unwrap_or_else(PoisonError::into_inner).push((now(), 0));
            // Whether it arrives is what is measured.
            let _ = socket.send_to(&packet, to);
        }
        sequence.store(turn as u16 + 1, Relaxed);
    }
}

fn packet(number: u32, ssrc: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + PAYLOAD);
    packet.extend_from_slice(&[0x80, 0]);
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&number.wrapping_mul(PAYLOAD as u32).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&MARK);
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(HEADER + PAYLOAD, 0xd5);
    packet
}

fn listen(socket: &UdpSocket, way: &Way, stop: &AtomicBool) {
    prefer();
    // The first question makes the kernel note when packets come.
    stamp::last(socket);
    let mut buffer = [0; 2048];
    while !stop.load(Relaxed) {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => continue,
        };
        let came = stamp::last(socket).map_or_else(now, nanoseconds);
        match number(&buffer[..length]) {
            Some(number) => {
                let mut packets = way.packets.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((_, noted @ 0)) = packets.get_mut(number as usize) {
                    *noted = came;
                }
            }
            None => {
                way.foreign.fetch_add(1, Relaxed);
            }
        }
    }
}

fn number(packet: &[u8]) -> Option<u32> {
    let rest = packet.get(HEADER..)?.strip_prefix(&MARK)?;
    Some(u32::from_be_bytes(*rest.first_chunk()?))
}

/// Lets the calling thread go first. Without the right to, the figures only get worse.
fn prefer() {
    // SAFETY: a system call on numbers; 0 is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, PRIORITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_tells_its_number_and_others_are_foreign() {
        assert_eq!(number(&packet(70_000, 1)), Some(70_000));
        assert_eq!(number(&[0x80; 172]), None);
        assert_eq!(number(&[0x80; 3]), None);
    }

    #[test]
    fn what_comes_late_is_lost_and_a_steady_way_has_no_jitter() {
        let way = Way::default();
        let late = LATE.as_nanos() as u64 + 1;
        *way.packets.lock().unwrap() =
            vec![(10, 1_000_010), (20, 1_000_020), (30, 0), (40, 40 + late), (50, 1_000_050), (60, 1_000_060)];
        let (stop, sequence) = Default::default();
        let audio = Audio { ways: [Arc::new(way), Arc::default()], sequence, stop, threads: Vec::new() };
        let sound = audio.between(20, 60);
        assert_eq!((sound.sent, sound.lost, sound.jitter_ms), (4, 2, 0.0));
        assert_eq!(sound.loss(), 50.0);
    }
}
