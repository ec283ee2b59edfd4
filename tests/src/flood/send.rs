//! Senders: a paced or unpaced stream of numbered datagrams or frames, and single frames.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::payload;
use crate::lab::NEIGHBOUR_INTERFACE;
use crate::sandbox::Namespace;
use crate::wire::{self, BATCH, Receives};

/// How much to send. Whatever comes first ends it: `count`, `time`, or [`Sender::stop`].
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Datagrams a second; `None` is as fast as possible.
    pub rate: Option<u32>,
    /// Datagrams at most.
    pub count: u64,
    /// The longest time that it may take.
    pub time: Duration,
}

impl Plan {
    /// `count` datagrams as fast as possible, within ten seconds.
    pub fn burst(count: u64) -> Self {
        Self { rate: None, count, time: Duration::from_secs(10) }
    }

    /// `rate` datagrams a second for at most `time`.
    pub fn steady(rate: u32, time: Duration) -> Self {
        Self { rate: Some(rate), count: u64::MAX, time }
    }
}

/// Numbered datagrams under way, on a thread of their own.
#[derive(Debug)]
pub struct Sender {
    stream: u32,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sender {
    /// Sends UDP from `source` (port 0: any) to `destination` by a socket in `network`.
    pub fn udp(
        network: &Namespace,
        source: SocketAddr,
        destination: SocketAddr,
        stream: u32,
        plan: Plan,
    ) -> Result<Self> {
        let socket = network.enter(|| {
            let socket = UdpSocket::bind(source).with_context(|| format!("bind {source}"))?;
            socket.connect(destination)?;
            Ok(socket)
        })?;
        Ok(Self::start(socket.into(), stream, plan, move |number| payload(stream, number).to_vec()))
    }

    /// Sends whole frames out of the interface of a neighbour; `frame` makes the one of each number and puts
    /// [`payload`]`(stream, number)` into it if it is to be counted.
    pub fn frames(
        network: &Namespace,
        stream: u32,
        plan: Plan,
        frame: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        Ok(Self::start(network.enter(open_raw)?, stream, plan, frame))
    }

    fn start(socket: OwnedFd, stream: u32, plan: Plan, make: impl Fn(u64) -> Vec<u8> + Send + 'static) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (sent, stop) = (sent.clone(), stop.clone());
            move || send(&socket, plan, make, &sent, &stop)
        });
        Self { stream, sent, stop, thread: Some(thread) }
    }

    /// The stream whose numbers these are.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// How many were sent so far; numbers below this are on the wire or were dropped.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Waits until `count` were sent.
    pub fn wait_sent(&self, count: u64, time: Duration) -> Result<()> {
        let start = Instant::now();
        while self.sent() < count {
            if start.elapsed() > time {
                bail!("only {} of {count} were sent after {time:?}", self.sent());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends it; how many were sent.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        self.end()
    }

    /// Waits until the plan is done; how many were sent.
    pub fn finish(mut self) -> Result<u64> {
        self.end()
    }

    fn end(&mut self) -> Result<u64> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.context("send")?,
            Some(Err(_)) => bail!("the sender of stream {} panicked", self.stream),
            None => {}
        }
        Ok(self.sent())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Only `stop` and `finish` can say what went wrong; a test that asks neither does not want to know.
        let _ = self.end();
    }
}

fn send(
    socket: &OwnedFd,
    plan: Plan,
    make: impl Fn(u64) -> Vec<u8>,
    sent: &AtomicU64,
    stop: &AtomicBool,
) -> io::Result<()> {
    let start = Instant::now();
    let mut number = 0;
    let mut messages = Vec::with_capacity(BATCH);
    while number < plan.count && start.elapsed() < plan.time && !stop.load(Ordering::Acquire) {
        let due = match plan.rate {
            None => u64::MAX,
            // The first leaves at once, then one each 1/rate seconds.
            Some(rate) => (start.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1,
        };
        let room = due.saturating_sub(number).min(plan.count - number).min(BATCH as u64);
        if room == 0 {
            let next = Duration::from_secs_f64(number as f64 / f64::from(plan.rate.unwrap_or(u32::MAX)));
            thread::sleep(next.saturating_sub(start.elapsed()).min(Duration::from_millis(20)));
            continue;
        }
        messages.clear();
        messages.extend((number..number + room).map(&make));
        match wire::send_batch(socket, &messages) {
            Ok(taken) => number += taken as u64,
            // An ICMP error to an earlier datagram, or a full queue: this one was not sent yet.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::WouldBlock
                ) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => thread::yield_now(),
            Err(error) => return Err(error),
        }
        sent.store(number, Ordering::Release);
    }
    Ok(())
}

/// Sends single frames out of the interface of a neighbour.
#[derive(Debug)]
pub struct Injector(OwnedFd);

impl Injector {
    /// A raw socket in `network`.
    pub fn open(network: &Namespace) -> Result<Self> {
        Ok(Self(network.enter(open_raw)?))
    }

    /// Sends one frame; it has left when this returns.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        wire::send_batch(&self.0, &[frame.to_vec()]).context("send a frame")?;
        Ok(())
    }
}

fn open_raw() -> Result<OwnedFd> {
    wire::packet_socket(NEIGHBOUR_INTERFACE, Receives::Nothing).context("a raw socket")
}
