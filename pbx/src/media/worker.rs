//! A thread that moves packets: waits for its legs' ports, takes what is there, judges it and sends it on through the
//! port of the peer. Its legs are its own: nothing here takes a lock or waits for anybody.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use pbx_core::{
    media::{Leg, LegId},
    moment::Moment,
    wire::rtp,
};

use super::{
    keeper::{Keeper, Returned},
    leg::{Judged, Line, Side},
    live::{Counts, Live},
    socket::{MOST_SENT, Ports, canonical},
};
use crate::net::{
    Clock,
    receiving::{BATCH, Receiving},
};

/// Orders that a worker may have before it.
const ORDERS: usize = 4096;
/// Ports that are looked at between two looks at the orders.
const EVENTS: usize = 256;
/// Between two looks at the ports, at least: with many calls, a thread that wakes up for every packet spends more on
/// that than on the packets. Nobody hears a millisecond.
const PAUSE: Duration = Duration::from_millis(1);
/// Batches that are taken from a port at a look: more than its buffer holds.
const ROUNDS: usize = 64;
/// What the wake-up has in place of a port.
const WOKEN: u64 = u64::MAX;

/// Something for a worker to do.
pub(super) enum Order {
    /// Makes a leg as described; a new one brings its ports, its counters and a random number.
    Set(Box<Leg>, Option<Box<(Ports, Arc<Live>, u64)>>),
    Close(LegId),
    Digit {
        leg: LegId,
        digit: char,
        duration: Duration,
    },
}

/// How orders reach a worker.
pub(super) struct Door {
    orders: ArrayQueue<Order>,
    wake: EventFd,
    woken: AtomicBool,
    ends: AtomicBool,
}

impl Door {
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { orders: ArrayQueue::new(ORDERS), wake, woken: AtomicBool::new(false), ends: AtomicBool::new(false) })
    }

    /// Gives an order, or gives it back: the worker has too many. Never waits.
    pub(super) fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.push(order)?;
        self.rouse();
        Ok(())
    }

    /// What wakes up when something is ordered, and later by packets.
    pub(super) fn epoll(&self) -> io::Result<Epoll> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&self.wake, EpollEvent::new(EpollFlags::EPOLLIN, WOKEN))?;
        Ok(epoll)
    }

    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.rouse();
    }

    fn rouse(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            // A full counter wakes as well.
            let _ = self.wake.write(1);
        }
    }
}

/// What all workers share.
pub(super) struct Common {
    pub(super) clock: Clock,
    /// Microseconds.
    pub(super) silence: AtomicU64,
    pub(super) counts: Counts,
    pub(super) keeper: Keeper,
}

/// A worker and its legs.
pub(super) struct Worker {
    common: Arc<Common>,
    door: Arc<Door>,
    epoll: Epoll,
    lines: Vec<Option<Box<Line>>>,
    free: Vec<usize>,
    slots: HashMap<LegId, usize>,
    /// Legs to whose phones digits are being sent.
    digits: Vec<usize>,
    buffer: Receiving,
}

impl Worker {
    /// A worker without legs; it stays in its thread.
    pub(super) fn new(common: Arc<Common>, door: Arc<Door>, epoll: Epoll) -> Self {
        Self {
            common,
            door,
            epoll,
            lines: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            digits: Vec::new(),
            buffer: Receiving::new(),
        }
    }

    /// Moves packets until it is told to end; then its legs end.
    pub(super) fn run(mut self) {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut looked = Moment::ZERO;
        loop {
            let early = PAUSE.saturating_sub(self.common.clock.now().since(looked));
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            let ready = match self.epoll.wait(&mut events, self.patience()) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(errno) => {
                    tracing::error!(%errno, "the relay can not wait for packets");
                    std::thread::sleep(Duration::from_millis(100));
                    0
                }
            };
            let now = self.common.clock.now();
            looked = now;
            let silence = Duration::from_micros(self.common.silence.load(Ordering::Relaxed));
            // Orders first: what was ordered before a packet came is in force for it.
            if events[..ready].iter().any(|event| event.data() == WOKEN) && !self.obey(now) {
                break;
            }
            for port in events[..ready].iter().map(EpollEvent::data).filter(|port| *port != WOKEN) {
                let side = if port & 1 == 0 { Side::Rtp } else { Side::Rtcp };
                self.take((port >> 1) as usize, side, now, silence);
            }
            self.send_digits(now);
        }
        while let Some(order) = self.door.orders.pop() {
            self.carry_out(order, self.common.clock.now());
        }
        let legs: Vec<LegId> = self.slots.keys().copied().collect();
        legs.into_iter().for_each(|leg| self.close(leg));
    }

    /// Carries out what was ordered; `false`: it is to end.
    fn obey(&mut self, now: Moment) -> bool {
        let _ = self.door.wake.read();
        // What is ordered from here on wakes again.
        self.door.woken.store(false, Ordering::SeqCst);
        if self.door.ends.load(Ordering::SeqCst) {
            return false;
        }
        // No more than there are: who orders without end must not keep the packets waiting.
        for _ in 0..ORDERS {
            let Some(order) = self.door.orders.pop() else { break };
            self.carry_out(order, now);
        }
        true
    }

    /// Until a digit is due.
    fn patience(&self) -> EpollTimeout {
        let due = self.digits.iter().filter_map(|slot| self.lines[*slot].as_ref()?.outgoing.next()).min();
        let Some(due) = due else { return EpollTimeout::NONE };
        // Rounded up: too early is once more.
        let wait = due.since(self.common.clock.now()) + Duration::from_micros(999);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    /// Moves all that waits at one port: it is said to be ready once only.
    fn take(&mut self, slot: usize, side: Side, now: Moment, silence: Duration) {
        for _ in 0..ROUNDS {
            if self.take_batch(slot, side, now, silence) < BATCH {
                return;
            }
        }
    }

    /// Moves what waits at one port, up to a batch; how many packets that were.
    fn take_batch(&mut self, slot: usize, side: Side, now: Moment, silence: Duration) -> usize {
        let Self { lines, slots, buffer, common, .. } = self;
        let Some(line) = line_at(lines, slot) else { return 0 };
        let Ok(received) = buffer.receive(line.ports.of(side)) else { return 0 };
        let peer = line.leg.peer.and_then(|peer| slots.get(&peer)).copied();
        let (mut rtp, mut rtcp) = (Going::default(), Going::default());
        for index in 0..received {
            let datagram = buffer.datagram(index);
            let Some(line) = line_at(lines, slot) else { return 0 };
            if let Some(ever) = datagram.told.overflow {
                let more = ever.wrapping_sub(std::mem::replace(&mut line.overflow[side as usize], ever));
                common.counts.overflow.add(u64::from(more));
            }
            let Some(from) = datagram.remote else { continue };
            let judged = line.judge(side, datagram.bytes, canonical(from), now, silence);
            let Some(peer) = peer.and_then(|peer| line_at(lines, peer)) else { continue };
            match judged {
                Judged::Rtp(header, payload_type) if peer.remote().is_some_and(|remote| remote.receives) => {
                    let sequence = peer.outgoing.pass(&header, now);
                    let packet = buffer.bytes_mut(index);
                    if payload_type != header.payload_type {
                        rtp::set_payload_type(packet, payload_type);
                    }
                    if sequence != header.sequence {
                        rtp::set_sequence(packet, sequence);
                    }
                    rtp.add(index);
                }
                Judged::Rtcp if peer.remote().is_some() => rtcp.add(index),
                Judged::Rtp(..) | Judged::Rtcp | Judged::Kept | Judged::Refused => {}
            }
        }
        if let Some(peer) = peer.and_then(|peer| line_at(lines, peer)) {
            let (sent, bytes) = peer.send(Side::Rtp, rtp.packets(buffer), &common.counts);
            peer.live.sent.add(sent);
            peer.live.sent_bytes.add(bytes);
            peer.send(peer.rtcp_side(), rtcp.packets(buffer), &common.counts);
        }
        received
    }

    fn send_digits(&mut self, now: Moment) {
        let Self { digits, lines, common, .. } = self;
        digits.retain(|slot| {
            let Some(line) = line_at(lines, *slot) else { return false };
            while let Some(packet) = line.outgoing.due(now) {
                let (sent, bytes) = line.send(Side::Rtp, std::iter::once(&packet[..]), &common.counts);
                line.live.sent.add(sent);
                line.live.sent_bytes.add(bytes);
            }
            line.outgoing.next().is_some()
        });
    }

    fn carry_out(&mut self, order: Order, now: Moment) {
        match order {
            Order::Set(leg, new) => match (self.slots.get(&leg.id), new) {
                (Some(slot), _) => {
                    if let Some(line) = line_at(&mut self.lines, *slot) {
                        line.set(*leg);
                    }
                }
                (None, Some(new)) => {
                    let (ports, live, random) = *new;
                    self.make(*leg, ports, live, random, now);
                }
                (None, None) => {}
            },
            Order::Close(leg) => self.close(leg),
            Order::Digit { leg, digit, duration } => self.press(leg, digit, duration, now),
        }
    }

    fn make(&mut self, leg: Leg, ports: Ports, live: Arc<Live>, random: u64, now: Moment) {
        // What came before is judged like what comes: a phone may be faster than the order that makes its leg. What is
        // not of this call has been drained when the pair had rested.
        let slot = self.free.pop().unwrap_or_else(|| {
            self.lines.push(None);
            self.lines.len() - 1
        });
        for side in [Side::Rtp, Side::Rtcp] {
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, (slot as u64) << 1 | side as u64);
            if let Err(errno) = self.epoll.add(ports.of(side), event) {
                tracing::error!(%errno, port = ports.pair.rtp, "the relay can not listen to a port");
            }
        }
        live.open();
        self.slots.insert(leg.id, slot);
        self.lines[slot] = Some(Box::new(Line::new(leg, ports, live, random, now)));
    }

    fn close(&mut self, leg: LegId) {
        let Some(slot) = self.slots.remove(&leg) else { return };
        let Some(line) = self.lines[slot].take() else { return };
        self.free.push(slot);
        self.digits.retain(|playing| *playing != slot);
        let Line { ports, live, .. } = *line;
        for side in [Side::Rtp, Side::Rtcp] {
            // The port lives on, and would be heard.
            let _ = self.epoll.delete(ports.of(side));
        }
        self.common.keeper.give_back(Returned { leg, stats: live.stats(), ports });
    }

    fn press(&mut self, leg: LegId, digit: char, duration: Duration, now: Moment) {
        let line = self.slots.get(&leg).copied().and_then(|slot| Some((slot, line_at(&mut self.lines, slot)?)));
        let pressed = line.is_some_and(|(slot, line)| {
            let event = line.remote().filter(|remote| remote.receives).and_then(|remote| remote.event);
            let pressed = event.is_some_and(|event| line.outgoing.press(digit, duration, event, now));
            if pressed && !self.digits.contains(&slot) {
                self.digits.push(slot);
            }
            pressed
        });
        if pressed {
            self.send_digits(now);
        } else {
            self.common.counts.digits.add(1);
        }
    }
}

fn line_at(lines: &mut [Option<Box<Line>>], slot: usize) -> Option<&mut Line> {
    lines.get_mut(slot)?.as_deref_mut()
}

/// Packets of a batch that go the same way.
#[derive(Default)]
struct Going {
    indices: [u8; BATCH],
    count: usize,
}

impl Going {
    fn add(&mut self, index: usize) {
        self.indices[self.count] = index as u8;
        self.count += 1;
    }

    fn packets<'a>(&self, buffer: &'a Receiving) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.indices[..self.count].iter().map(|index| buffer.bytes(usize::from(*index)))
    }
}

const _: () = assert!(BATCH <= MOST_SENT && BATCH <= 256);
