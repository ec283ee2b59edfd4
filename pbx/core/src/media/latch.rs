//! Symmetric RTP, strictly: from where one port of a leg is spoken to, and so where what it sends goes. After the check
//! of the packet, before it is passed on.
//!
//! The description says an address; the first valid packet from it, from whatever port, is believed, and from then on
//! only its source. Another port of the same address is believed when the latched one has been silent and the stream
//! is the same; another address when the phone said anew where it is.

use std::{net::SocketAddr, time::Duration};

use crate::moment::Moment;

/// A sequence number continues a stream if it is at most this much ahead of the last one (MAX_DROPOUT of RFC 3550 §A.1).
pub const MAX_AHEAD: u16 = 3000;

/// What a valid packet says of the stream that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// The synchronization source; of RTCP, who reports.
    pub ssrc: u32,
    /// The sequence number; RTCP has none.
    pub sequence: Option<u16>,
}

/// What the latch says to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It comes from where the phone is.
    Taken,
    /// So it does, and from here on only what comes from there.
    Latched {
        /// Where the phone had been; none: it had not sent before.
        before: Option<SocketAddr>,
    },
    /// It comes from elsewhere.
    Refused,
}

/// The latch of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latch {
    described: SocketAddr,
    epoch: u32,
    /// What comes first from the described address is believed, once.
    open: bool,
    latched: Option<Latched>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Latched {
    from: SocketAddr,
    sign: Sign,
    last: Moment,
}

impl Latch {
    /// A latch for a phone that says that it is at `described`, for which nothing came yet.
    pub const fn new(described: SocketAddr, epoch: u32) -> Self {
        Self { described, epoch, open: true, latched: None }
    }

    /// The phone is described anew. Where it was heard is forgotten only when the epoch has grown and the description
    /// has changed, or is of another address than the one heard; and then, when something comes from there.
    pub fn describe(&mut self, described: SocketAddr, epoch: u32) {
        let Some(latched) = &self.latched else {
            (self.described, self.epoch) = (described, epoch);
            return;
        };
        if epoch > self.epoch {
            self.open |= described != self.described || described.ip() != latched.from.ip();
            (self.described, self.epoch) = (described, epoch);
        }
    }

    /// Judges a valid packet that came from `from` at `now`. `silence`: how long nothing came from the latched port
    /// before another one of its address is believed.
    pub fn hear(&mut self, from: SocketAddr, sign: Sign, now: Moment, silence: Duration) -> Heard {
        let before = match &mut self.latched {
            Some(latched) if latched.from == from => {
                // Of packets that overtook each other, the latest counts.
                let late = |was: u16| sign.sequence.is_some_and(|is| is.wrapping_sub(was) >= 1 << 15);
                if sign.ssrc != latched.sign.ssrc || !latched.sign.sequence.is_some_and(late) {
                    latched.sign = Sign { sequence: sign.sequence.or(latched.sign.sequence), ..sign };
                }
                latched.last = latched.last.max(now);
                // It spoke from where it says that it is: nobody else is waited for.
                if from == self.described {
                    self.open = false;
                }
                return Heard::Taken;
            }
            Some(latched) => {
                let opened = self.open && from.ip() == self.described.ip();
                let moved = from.ip() == latched.from.ip() && now.since(latched.last) >= silence;
                if !(opened || moved && latched.sign.continues(sign)) {
                    return Heard::Refused;
                }
                Some(latched.from)
            }
            None if from.ip() == self.described.ip() => None,
            None => return Heard::Refused,
        };
        self.open = false;
        self.latched = Some(Latched { from, sign, last: now });
        Heard::Latched { before }
    }

    /// Where packets to the phone go.
    pub fn destination(&self) -> SocketAddr {
        match &self.latched {
            Some(latched) if !self.open => latched.from,
            _ => self.described,
        }
    }

    /// Where the phone was heard, if it was.
    pub fn latched(&self) -> Option<SocketAddr> {
        self.latched.map(|latched| latched.from)
    }
}

impl Sign {
    /// Whether a packet belongs to the stream that this one was of.
    fn continues(self, next: Self) -> bool {
        let ahead = match (self.sequence, next.sequence) {
            (Some(was), Some(is)) => (1..=MAX_AHEAD).contains(&is.wrapping_sub(was)),
            _ => false,
        };
        self.ssrc == next.ssrc || ahead
    }
}

#[cfg(test)]
mod tests;
