//! The thread that receives for a UDP transport: waits, takes a batch, hands each datagram up, sends the answers.

use std::{
    io,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pbx_core::transport::{Flow, Protocol};

use super::{
    super::{
        Dropped, Outbox,
        receiving::{BATCH, Datagram, Receiving},
    },
    Shared, batch, send,
    socket::Socket,
};

/// Batches that one socket may fill before the worker looks at the others, and at whether the transport closes.
const ROUNDS: usize = 8;

/// Receives until the transport closes.
pub(super) fn run(shared: &Shared, index: usize) {
    let sockets = &shared.sockets[index];
    let mut worker =
        Worker { shared, index, batch: Receiving::new(), answers: Outbox::new(), overflow: vec![0; sockets.len()] };
    let waits = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut waiting: Vec<_> = sockets.iter().map(|socket| waits(socket.as_fd())).collect();
    waiting.push(waits(shared.stop.as_fd()));
    loop {
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => (),
            Err(errno) => {
                tracing::error!(port = shared.port, %errno, "a UDP transport can not wait for datagrams");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let ready = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
        if waiting.last().is_some_and(ready) {
            return;
        }
        for (at, socket) in sockets.iter().enumerate().filter(|(at, _)| ready(&waiting[*at])) {
            worker.take(at, socket);
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    index: usize,
    batch: Receiving,
    answers: Outbox,
    /// What each socket had dropped when it said so last.
    overflow: Vec<u32>,
}

impl Worker<'_> {
    /// Takes what waits at one socket, up to some batches.
    fn take(&mut self, at: usize, socket: &Socket) {
        for _ in 0..ROUNDS {
            let received = match self.batch.receive(socket) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(port = self.shared.port, %error, "a UDP socket gave an error");
                    std::thread::sleep(Duration::from_millis(1));
                    return;
                }
            };
            self.shared.counters.add_received(received);
            for datagram in self.batch.datagrams() {
                if let Some(ever) = datagram.told.overflow {
                    let more = ever.wrapping_sub(std::mem::replace(&mut self.overflow[at], ever));
                    self.shared.counters.add_dropped(Dropped::ReceiveBuffer, more as usize);
                }
                hand_up(self.shared, &datagram, &mut self.answers);
            }
            if !self.answers.is_empty() {
                self.answers.group();
                send(self.shared, self.index, self.answers.iter());
                self.answers.clear();
            }
            if received < BATCH {
                return;
            }
        }
    }
}

fn hand_up(shared: &Shared, datagram: &Datagram<'_>, answers: &mut Outbox) {
    if datagram.bytes.is_empty() {
        // Some phones keep their way through a router open with these.
        return;
    }
    let (Some(remote), Some(local)) = (datagram.remote.filter(|remote| remote.port() != 0), datagram.told.local) else {
        shared.counters.add_dropped(Dropped::Unanswerable, 1);
        return;
    };
    let local = batch::local(local, shared.port);
    let flow = Flow { transport: shared.id, protocol: Protocol::Udp, local, remote, connection: None };
    let handed = catch_unwind(AssertUnwindSafe(|| {
        if shared.receiver.admits(&flow, datagram.bytes.len()) {
            // A datagram has no connection to keep.
            let _ = shared.receiver.receive(&flow, datagram.bytes, answers);
        } else {
            shared.counters.add_dropped(Dropped::Filtered, 1);
        }
    }));
    if handed.is_err() {
        shared.counters.add_dropped(Dropped::Failed, 1);
        tracing::error!(%remote, "a datagram was lost to a fault of this program");
    }
}
