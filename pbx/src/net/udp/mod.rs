//! UDP transports: a group of sockets of both families on one port, and a thread for each that receives in batches,
//! lets the receiver above answer what needs no state, and sends these answers in batches. Anybody else sends through
//! the same sockets without waiting: what the kernel does not take at once is shed and counted.
mod batch;
pub(crate) mod socket;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pbx_core::transport::{Flow, TransportId};

use self::socket::Socket;
use super::{Counters, Dropped, Receiver};

/// How a UDP transport is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The addresses that it listens at; those of a family that the machine does not have are left out as long as
    /// another one remains.
    pub addresses: Vec<IpAddr>,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Receiving threads.
    pub workers: usize,
    /// The kernel's receive buffer of each socket, in bytes.
    pub receive_buffer: usize,
    /// The kernel's send buffer of each socket, in bytes.
    pub send_buffer: usize,
}

impl Options {
    /// All addresses of the machine, a thread for each processor up to four, 4 MiB to receive and 1 MiB to send.
    pub fn new(port: u16) -> Self {
        Self {
            addresses: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            port,
            workers: std::thread::available_parallelism().map_or(1, usize::from).min(4),
            receive_buffer: 4 << 20,
            send_buffer: 1 << 20,
        }
    }
}

/// An open UDP transport. Dropping it closes it.
pub struct Udp {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads of a transport share.
struct Shared {
    id: TransportId,
    port: u16,
    receiver: Arc<dyn Receiver>,
    counters: Arc<Counters>,
    /// The sockets of each worker, one for each address.
    sockets: Vec<Vec<Socket>>,
    /// Readable as soon as the transport is to close.
    stop: EventFd,
}

impl Udp {
    /// Opens the sockets and starts to receive. A port that another socket has is an error of kind `AddrInUse`, also
    /// when that one would share it.
    pub fn open(
        id: TransportId,
        options: &Options,
        receiver: Arc<dyn Receiver>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let (port, sockets) = socket::open(options)?;
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared { id, port, receiver, counters, sockets, stop });
        let opened = Self { shared, workers: Mutex::default() };
        for index in 0..opened.shared.sockets.len() {
            let shared = Arc::clone(&opened.shared);
            let thread = std::thread::Builder::new().name(format!("udp-{port}-{index}"));
            // On an error the drop of `opened` ends the threads that there are.
            let worker = thread.spawn(move || worker::run(&shared, index))?;
            opened.workers().push(worker);
        }
        Ok(opened)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// Sends these messages, in order, from the local addresses of their flows. Never waits.
    pub fn send<'a>(&self, messages: impl Iterator<Item = (&'a Flow, &'a [u8])>) {
        send(&self.shared, 0, messages);
    }

    /// Stops to receive. Waits for the threads that do, each of which ends after the datagrams that it has at hand.
    /// The port is free when the transport is dropped, too.
    pub fn close(&self) {
        if let Err(error) = self.shared.stop.write(1) {
            tracing::error!(%error, port = self.shared.port, "the threads of a UDP transport can not be told to end");
            return;
        }
        let workers = std::mem::take(&mut *self.workers());
        // The last one to let go of a transport may be one of its threads.
        let others = workers.into_iter().filter(|worker| worker.thread().id() != std::thread::current().id());
        for worker in others {
            // A thread that panicked outside of the receiver has said so itself.
            let _ = worker.join();
        }
    }

    fn workers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.close();
    }
}

/// Sends through the sockets of one worker; messages of one family follow each other, or batches are small.
fn send<'a>(shared: &Shared, worker: usize, messages: impl Iterator<Item = (&'a Flow, &'a [u8])>) {
    let mut messages = messages.peekable();
    while let Some((flow, _)) = messages.peek() {
        let local = flow.local.ip();
        let Some(socket) = shared.sockets[worker].iter().find(|socket| socket.sends_from(local)) else {
            shared.counters.add_dropped(Dropped::Unreachable, 1);
            messages.next();
            continue;
        };
        let mut batch = batch::Sending::new();
        while let Some((flow, bytes)) =
            messages.next_if(|(flow, _)| !batch.is_full() && socket.sends_from(flow.local.ip()))
        {
            batch.add(flow, bytes);
        }
        batch.send(socket, &shared.counters);
    }
}
