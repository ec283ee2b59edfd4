//! Media as the core sees it: who may send what to which port, and where it goes from there. The core decides; a relay,
//! which has the sockets, carries out its [`Command`]s and says how much went through.
//!
//! A *leg* is one phone's side of a call: a pair of local ports that only this phone may send to. Two legs that are each
//! other's peers are a conversation.

pub mod credit;
pub mod digits;
pub mod dtmf;
pub mod formats;
pub mod latch;
pub mod quality;
pub mod session;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use self::{
    formats::{candidate, common, event, payloads, usual},
    session::{Session, Us},
};

/// A leg; never used twice while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);

/// Two neighbouring local UDP ports: RTP at the even one, RTCP at the odd one above (RFC 3550 §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The even port.
    pub rtp: u16,
}

impl Pair {
    /// The odd port.
    pub const fn rtcp(self) -> u16 {
        self.rtp + 1
    }
}

/// Something for the relay to do. It is asked for nothing in return but [`Stats`] when a leg ends, and pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes a leg, or makes it as described here.
    Set(Leg),
    /// Ends a leg: its ports are free after a while, and what went through it is told.
    Close(LegId),
    /// Sends a digit to the phone of this leg as a telephone event (RFC 4733); without effect if it takes none.
    Digit {
        /// The leg.
        leg: LegId,
        /// 0-9, `*`, `#`, A-D.
        digit: char,
        /// How long the key was pressed.
        duration: Duration,
    },
    /// Make ready so many more pairs: bound, and in nobody else's use.
    Wanted(usize),
}

/// All that there is to know about a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Which.
    pub id: LegId,
    /// All legs that may ever be peers have the same number here, and belong to one thread.
    pub group: u64,
    /// Its local ports.
    pub pair: Pair,
    /// The own address that packets to the phone leave from.
    pub local: IpAddr,
    /// The phone, as far as it has said anything.
    pub remote: Option<Remote>,
    /// Where its packets go; none: nowhere.
    pub peer: Option<LegId>,
}

/// How a phone sends and receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it wants RTP. Only from this *address*, any port, may it begin to send.
    pub rtp: SocketAddr,
    /// Where it wants RTCP; the same as `rtp` when both share a port (RFC 5761).
    pub rtcp: SocketAddr,
    /// Where its signalling comes from: media may go there although nothing was heard from it ([`credit`]).
    pub signalling: IpAddr,
    /// RTP and RTCP share a port.
    pub mux: bool,
    /// Grows each time that the phone may be somewhere else: another address is believed again, once.
    pub epoch: u32,
    /// Whether what it sends is passed on.
    pub sends: bool,
    /// Whether it is sent what its peer sends.
    pub receives: bool,
    /// What it may send, by payload type; nothing else is passed on.
    pub formats: Vec<Payload>,
    /// The payload type and clock of telephone events that it takes.
    pub event: Option<(u8, u32)>,
}

/// A payload type that a phone may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// As the phone sends it.
    pub from: u8,
    /// As its peer wants it.
    pub to: u8,
    /// Clock rate in Hz (RFC 3551): jitter is counted in it.
    pub rate: u32,
}

/// What went through a leg: from its phone, but for the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// RTP packets that were taken.
    pub packets: u64,
    /// Bytes of them, RTP headers included.
    pub bytes: u64,
    /// RTP packets that are missing (RFC 3550 §6.4.1, never below 0).
    pub lost: u64,
    /// Interarrival jitter at the end (RFC 3550 §6.4.1), in microseconds.
    pub jitter: u64,
    /// Packets that were not taken: from elsewhere, of another payload type, no RTP.
    pub refused: u64,
    /// RTP packets sent to its phone.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
}
