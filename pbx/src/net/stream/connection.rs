//! One connection from its first byte to its end: reads what comes, cuts it into messages, hands them up, writes what
//! waits, and keeps the time limits. A connection on which nothing happens holds no buffer of its own.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pbx_core::{
    moment::Moment,
    transport::Flow,
    wire::stream::{Expired, Frame, Framer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Sleep,
};

use super::{
    super::{Dropped, Heard, Outbox},
    Limits, Shared,
    outgoing::{Outgoing, Taken},
    places::Place,
};

/// What is read at once (bytes): a TLS record.
const READ: usize = 16 << 10;
/// Reads that one connection may do before others get their turn.
const READS: usize = 8;
/// As long as more than this waits to be sent (bytes), nothing more is read: who asks shall read the answers.
const UNREAD: usize = 64 << 10;
/// How long answers may still come when the peer has said its last, and how long a close may take.
const LAST: Duration = Duration::from_secs(2);
/// How often a connection that is held open is asked whether it still is.
const HELD: Duration = Duration::from_secs(60);

thread_local! {
    /// Where every connection of a thread reads, and writes its answers; only between two waits.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch { read: vec![0; READ].into(), answers: Outbox::new() });
}

struct Scratch {
    read: Box<[u8]>,
    answers: Outbox,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer is gone.
    Peer,
    /// It is closed in good order: what waits is sent first.
    Orderly(Option<Dropped>),
    /// It is closed at once.
    Abrupt(Dropped),
}

/// Takes a connection into the books, and serves it until it is over. Whatever happens, the receiver hears of its end.
pub(super) fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    stream: S,
    flow: Flow,
    place: Place,
    limits: &Limits,
) -> impl Future<Output = ()> + use<S> {
    let mut connection = Connection::new(shared, stream, flow, place, limits);
    // The connection stays where it is in the future: it is most of the memory that an idle one takes.
    async move {
        if !connection.entry.announce() {
            return;
        }
        let mut closed = connection.entry.shared.closed.subscribe();
        let end = tokio::select! {
            biased;
            end = poll_fn(|cx| connection.poll(cx)) => end,
            _ = closed.wait_for(|closed| *closed) => End::Orderly(None),
        };
        let counters = &connection.entry.shared.counters;
        match end {
            End::Peer => (),
            End::Abrupt(reason) => counters.add_dropped(reason, 1),
            End::Orderly(reason) => {
                if let Some(reason) = reason {
                    counters.add_dropped(reason, 1);
                }
                // Nobody waits for a peer that does not want to know.
                let _ = tokio::time::timeout(LAST, connection.say_goodbye()).await;
            }
        }
    }
}

/// A connection in the books. Dropping it takes it out, even when its task is dropped.
struct Entry {
    shared: Arc<Shared>,
    flow: Flow,
    announced: bool,
    place: Place,
}

impl Entry {
    /// Tells the receiver. `false`: it failed.
    fn announce(&mut self) -> bool {
        self.announced = true;
        let told = catch_unwind(AssertUnwindSafe(|| self.shared.receiver.connected(&self.flow)));
        if told.is_err() {
            self.shared.failed(&self.flow);
        }
        told.is_ok()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.counters.closed();
        let Some(id) = self.flow.connection else { return };
        self.shared.table().remove(&id);
        if self.announced && catch_unwind(AssertUnwindSafe(|| self.shared.receiver.closed(id))).is_err() {
            self.shared.failed(&self.flow);
        }
    }
}

struct Connection<S> {
    stream: S,
    entry: Entry,
    framer: Framer,
    outgoing: Arc<Outgoing>,
    /// What is being written, from `written` on.
    writing: Vec<u8>,
    written: usize,
    /// TLS may hold a record back.
    flushing: bool,
    /// Since when the peer takes nothing of what waits.
    waits_since: Option<Moment>,
    unread: Duration,
    /// When the peer said that it says no more.
    last_said: Option<Moment>,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(shared: Arc<Shared>, stream: S, flow: Flow, place: Place, limits: &Limits) -> Self {
        let outgoing = Arc::new(Outgoing::new(limits.outgoing));
        if let Some(id) = flow.connection {
            shared.table().insert(id, Arc::clone(&outgoing));
        }
        shared.counters.opened();
        Self {
            stream,
            framer: Framer::new(limits.frames, shared.clock.now()),
            entry: Entry { shared, flow, announced: false, place },
            outgoing,
            writing: Vec::new(),
            written: 0,
            flushing: false,
            waits_since: None,
            unread: limits.unread,
            last_said: None,
            timer: Box::pin(tokio::time::sleep(limits.frames.first_message)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = self.entry.shared.clock.now();
        let turn = SCRATCH.with_borrow_mut(|scratch| {
            let read = self.poll_read(cx, scratch, now);
            scratch.answers.clear();
            read
        });
        if let Poll::Ready(end) = turn {
            return Poll::Ready(end);
        }
        let full = self.is_full();
        match self.poll_write(cx, now) {
            Poll::Ready(Err(end)) => return Poll::Ready(end),
            Poll::Ready(Ok(())) | Poll::Pending => (),
        }
        if full && !self.is_full() {
            // Reading had stopped for what is written now.
            cx.waker().wake_by_ref();
        }
        self.poll_time(cx)
    }

    /// Reads and hands up until nothing more is there.
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, now: Moment) -> Poll<End> {
        if self.last_said.is_some() {
            return Poll::Pending;
        }
        for _ in 0..READS {
            if self.is_full() {
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(&mut scratch.read);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => {
                    self.last_said = Some(now);
                    return Poll::Pending;
                }
                // TLS without a farewell: nobody will read what is sent.
                Err(_) => return Poll::Ready(End::Peer),
                Ok(()) => {
                    let length = buffer.filled().len();
                    if !self.entry.shared.receiver.goes_on(&self.entry.flow, length) {
                        return Poll::Ready(End::Abrupt(Dropped::Filtered));
                    }
                    if let Some(end) = self.take(&scratch.read[..length], &mut scratch.answers, now) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Cuts what came into frames and hands them up.
    fn take(&mut self, mut input: &[u8], answers: &mut Outbox, now: Moment) -> Option<End> {
        let Entry { shared, flow, .. } = &self.entry;
        loop {
            let handed = match self.framer.next(&mut input, now) {
                Ok(None) => return self.hold(),
                Ok(Some(Frame::Ping)) => {
                    shared.counters.add_received(1);
                    // RFC 5626 §3.5.1: one line end for two.
                    answers.push(*flow, b"\r\n");
                    Ok(Heard::Ignored)
                }
                Ok(Some(Frame::Message { bytes, .. })) => {
                    shared.counters.add_received(1);
                    catch_unwind(AssertUnwindSafe(|| shared.receiver.receive(flow, bytes, answers)))
                }
                Err(refused) => {
                    let told = || shared.receiver.refused(flow, refused.error, refused.head, answers);
                    if catch_unwind(AssertUnwindSafe(told)).is_err() {
                        shared.failed(flow);
                    }
                    self.answer(answers);
                    return Some(End::Orderly(Some(Dropped::Unframed)));
                }
            };
            match handed {
                Ok(Heard::Taken) => self.framer.heard(now),
                Ok(Heard::Ignored) => (),
                Err(_) => {
                    shared.failed(flow);
                    return Some(End::Abrupt(Dropped::Failed));
                }
            }
            self.answer(answers);
        }
    }

    /// Takes what an unfinished message holds into the books of all connections.
    fn hold(&mut self) -> Option<End> {
        let Entry { shared, flow, place, .. } = &mut self.entry;
        let registered = || flow.connection.is_some_and(|id| shared.receiver.is_registered(id));
        let may = place.hold(self.framer.held_bytes(), registered);
        (!may).then_some(End::Abrupt(Dropped::HeldMemory))
    }

    fn answer(&self, answers: &mut Outbox) {
        for (flow, bytes) in answers.iter() {
            if flow.connection == self.entry.flow.connection {
                self.entry.shared.push(&self.outgoing, bytes);
            } else {
                self.entry.shared.send(flow, bytes);
            }
        }
        answers.clear();
    }

    /// Whether more waits to be sent than a peer that still asks should leave unread.
    fn is_full(&self) -> bool {
        self.writing.len() - self.written + self.outgoing.len() > UNREAD
    }

    /// Writes what waits. Ready when all is with the kernel.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Moment) -> Poll<Result<(), End>> {
        loop {
            match self.outgoing.take(&mut self.writing, cx.waker()) {
                Taken::Bytes => (),
                Taken::Overflowed => return Poll::Ready(Err(End::Abrupt(Dropped::Unread))),
                Taken::Close => return Poll::Ready(Err(End::Orderly(None))),
            }
            if self.writing.is_empty() && !self.flushing {
                self.waits_since = None;
                return Poll::Ready(Ok(()));
            }
            self.waits_since.get_or_insert(now);
            if self.writing.is_empty() {
                if ready!(Pin::new(&mut self.stream).poll_flush(cx)).is_err() {
                    return Poll::Ready(Err(End::Peer));
                }
                self.flushing = false;
                continue;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.writing[self.written..])) {
                Ok(0) | Err(_) => return Poll::Ready(Err(End::Peer)),
                Ok(count) => self.written += count,
            }
            self.waits_since = None;
            self.flushing = true;
            if self.written == self.writing.len() {
                (self.writing, self.written) = (Vec::new(), 0);
            }
        }
    }

    /// Ends the connection when its time is over, or sets the timer for when it will be.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let now = self.entry.shared.clock.now();
            let unread = self.waits_since.map_or(Moment::NEVER, |since| since + self.unread);
            let last = self.last_said.map_or(Moment::NEVER, |since| since + LAST);
            if now >= unread {
                return Poll::Ready(End::Abrupt(Dropped::Unread));
            }
            if now >= last {
                return Poll::Ready(End::Orderly(None));
            }
            self.framer.hold(false);
            if self.framer.handle_timeout(now).is_some() {
                // Only asked when it matters.
                self.framer
                    .hold(self.entry.flow.connection.is_some_and(|id| self.entry.shared.receiver.is_registered(id)));
            }
            match self.framer.handle_timeout(now) {
                Some(Expired::Slow) => return Poll::Ready(End::Abrupt(Dropped::Slow)),
                Some(Expired::Silent | Expired::Idle) => return Poll::Ready(End::Orderly(Some(Dropped::Idle))),
                None => (),
            }
            let deadline = self.framer.next_deadline().unwrap_or(now + HELD).min(unread).min(last);
            let instant = tokio::time::Instant::from_std(self.entry.shared.clock.instant(deadline));
            if self.timer.deadline() != instant {
                self.timer.as_mut().reset(instant);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Sends what waits, says that no more comes, and lets the peer read it: a close with unread input would take the
    /// last answer back.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        let writing = std::mem::take(&mut self.writing);
        self.stream.write_all(&writing[self.written..]).await?;
        let mut rest = Vec::new();
        if self.outgoing.take(&mut rest, std::task::Waker::noop()) != Taken::Overflowed {
            self.stream.write_all(&rest).await?;
        }
        self.stream.shutdown().await?;
        if self.last_said.is_none() {
            let mut ignored = Vec::with_capacity(1024);
            for _ in 0..1024 {
                ignored.clear();
                if self.stream.read_buf(&mut ignored).await? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}
