//! Receivers: the record of which numbers arrived, and waiting for it to say something.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{PAYLOAD, parse};
use crate::frames;
use crate::wire::{self, Batch, Receives};

/// Numbers that arrived from one source in one stream.
#[derive(Clone, Default)]
pub struct Arrivals {
    words: Vec<u64>,
    count: u64,
    repeated: u64,
    last: Option<u64>,
}

impl Arrivals {
    fn insert(&mut self, number: u64) {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.count += 1;
        } else {
            self.repeated += 1;
        }
        self.last = self.last.max(Some(number));
    }

    /// How many different numbers arrived.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many arrived twice.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// The highest number that arrived.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Whether this number arrived.
    pub fn contains(&self, number: u64) -> bool {
        self.words.get((number / 64) as usize).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// How many from `number` on arrived.
    pub fn count_from(&self, number: u64) -> u64 {
        (number..=self.last.unwrap_or(0)).filter(|number| self.contains(*number)).count() as u64
    }

    /// The lowest number that is missing.
    pub fn first_missing(&self) -> u64 {
        (0..).find(|number| !self.contains(*number)).expect("the record is finite")
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} arrived, the first missing is {}, the last is {:?}", self.count, self.first_missing(), self.last)
    }
}

/// What a [`Receiver`] saw so far, by source and stream.
#[derive(Clone, Debug, Default)]
pub struct Seen(HashMap<(IpAddr, u32), Arrivals>);

impl Seen {
    /// What arrived from `source` in `stream`.
    pub fn of(&self, source: impl Into<IpAddr>, stream: u32) -> Arrivals {
        self.0.get(&(source.into(), stream)).cloned().unwrap_or_default()
    }

    /// How many arrived from `source` in all streams.
    pub fn from(&self, source: impl Into<IpAddr>) -> u64 {
        let source = source.into();
        self.0.iter().filter(|((from, _), _)| *from == source).map(|(_, arrivals)| arrivals.count).sum()
    }

    /// How many different sources arrived.
    pub fn sources(&self) -> usize {
        let mut sources: Vec<_> = self.0.keys().map(|(source, _)| source).collect();
        sources.sort_unstable();
        sources.dedup();
        sources.len()
    }
}

/// Source, stream and number of what a socket received, if it is numbered.
type Read = fn(Option<IpAddr>, &[u8]) -> Option<(IpAddr, (u32, u64))>;

/// Notes what arrives in the appliance: at a UDP socket of both families, or on an interface after XDP.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    arrived: Condvar,
    stop: AtomicBool,
}

impl Receiver {
    /// Listens on `port` of every address in the namespace of the calling thread.
    pub fn listen(port: u16) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("listen on UDP {port}"))?;
        Self::start(socket.into(), |source, bytes| Some((source?, parse(bytes)?)))
    }

    /// Notes every frame that reaches the stack on `interface` and ends with a numbered payload, whatever its
    /// destination, tags and ports: what XDP let through.
    pub fn tap(interface: &str) -> Result<Self> {
        let socket =
            wire::packet_socket(interface, Receives::Everything).with_context(|| format!("tap {interface}"))?;
        Self::start(socket, |_, frame| {
            let numbered = parse(frame.last_chunk::<PAYLOAD>()?)?;
            Some((frames::source_of(frame)?, numbered))
        })
    }

    fn start(socket: OwnedFd, read: Read) -> Result<Self> {
        wire::force_buffer(&socket, libc::SO_RCVBUFFORCE, 64 << 20).context("a large receive buffer")?;
        let shared = Arc::new(Shared { seen: Mutex::default(), arrived: Condvar::new(), stop: AtomicBool::new(false) });
        let thread = thread::spawn({
            let shared = shared.clone();
            move || receive(&socket, &shared, read)
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A copy of the record as it is now.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// How many arrived from `source` so far, in all streams.
    pub fn count_from(&self, source: impl Into<IpAddr>) -> u64 {
        self.lock().from(source)
    }

    /// Waits until `enough` holds of the record. An error says what was there at the deadline.
    pub fn wait(&self, time: Duration, mut enough: impl FnMut(&Seen) -> bool) -> Result<Seen> {
        let (seen, timeout) = self
            .shared
            .arrived
            .wait_timeout_while(self.lock(), time, |seen| !enough(seen))
            .unwrap_or_else(|poison| poison.into_inner());
        if timeout.timed_out() {
            bail!("after {time:?} only this had arrived: {seen:?}");
        }
        Ok(seen.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread shows as a record that stands still.
            let _ = thread.join();
        }
    }
}

fn receive(socket: &OwnedFd, shared: &Shared, read: Read) {
    let mut batch = Batch::new();
    while !shared.stop.load(Ordering::Acquire) {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, PollTimeout::from(50_u8)).unwrap_or(0) == 0 {
            continue;
        }
        let mut seen = shared.seen.lock().unwrap_or_else(|poison| poison.into_inner());
        let _ = batch.receive(socket, |source, bytes| {
            if let Some((source, (stream, number))) = read(source, bytes) {
                seen.0.entry((source, stream)).or_default().insert(number);
            }
        });
        drop(seen);
        shared.arrived.notify_all();
    }
}
