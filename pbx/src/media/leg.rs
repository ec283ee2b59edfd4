//! One leg in its worker: judges what comes to its two ports, and knows where what goes to its phone goes. After the
//! socket, before the peer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pbx_core::{
    media::{
        Leg, Payload, Remote,
        credit::{Credit, is_doubtful},
        digits::Outgoing,
        latch::{Heard, Latch, Sign},
        quality::Quality,
    },
    moment::Moment,
    wire::{
        rtcp,
        rtp::{self, Header},
    },
};

use super::{
    live::{Counts, Live},
    socket::{Port, Ports, Target},
};

/// Bytes of the longest RTP or RTCP packet that is passed on: more is no speech.
const LONGEST: usize = 2048;

/// One of a leg's two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Rtp = 0,
    Rtcp = 1,
}

/// A leg's media.
pub(super) struct Line {
    pub(super) leg: Leg,
    pub(super) ports: Ports,
    pub(super) live: Arc<Live>,
    pub(super) outgoing: Outgoing,
    quality: Quality,
    sides: [Option<Way>; 2],
    credit: Credit,
    /// Some of what was for its phone was withheld, and that was said.
    withholds: bool,
    /// What the kernel had dropped at each port, when it said so last.
    pub(super) overflow: [u32; 2],
}

/// How the phone is reached from one port.
struct Way {
    latch: Latch,
    target: Target,
    /// Nothing shows that the phone is there.
    doubtful: bool,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It goes on with this payload type.
    Rtp(Header, u8),
    /// It goes on as it is.
    Rtcp,
    /// It was what it should be, and goes nowhere.
    Kept,
    /// It is not from the phone, or nothing that it may send.
    Refused,
}

impl Line {
    pub(super) fn new(leg: Leg, ports: Ports, live: Arc<Live>, random: u64, now: Moment) -> Self {
        let outgoing = Outgoing::new(random, now);
        let mut line = Self {
            leg: Leg { remote: None, ..leg.clone() },
            ports,
            live,
            outgoing,
            quality: Quality::default(),
            sides: [None, None],
            credit: Credit::default(),
            withholds: false,
            overflow: [0; 2],
        };
        line.set(leg);
        line
    }

    /// Makes it as described. A pair never changes.
    pub(super) fn set(&mut self, leg: Leg) {
        for side in [Side::Rtp, Side::Rtcp] {
            let Some(remote) = &leg.remote else { break };
            let described = if side == Side::Rtp { remote.rtp } else { remote.rtcp };
            match &mut self.sides[side as usize] {
                Some(way) => way.latch.describe(described, remote.epoch),
                none => {
                    let latch = Latch::new(described, remote.epoch);
                    let target = Target::new(self.ports.of(side), leg.local, described);
                    *none = Some(Way { latch, target, doubtful: true });
                }
            }
        }
        if leg.remote.as_ref().is_none_or(|remote| remote.event.is_none()) {
            self.outgoing.silence();
        }
        self.leg = leg;
        self.aim();
    }

    /// Judges what came to one port. Whoever the packet is from has no mapped address.
    pub(super) fn judge(
        &mut self,
        side: Side,
        packet: &[u8],
        from: SocketAddr,
        now: Moment,
        silence: Duration,
    ) -> Judged {
        let fits = packet.len() <= LONGEST;
        let judged =
            fits.then(|| self.try_judge(side, packet, from, now, silence)).flatten().unwrap_or(Judged::Refused);
        if judged == Judged::Refused {
            self.live.refused.add(1);
        }
        judged
    }

    fn try_judge(
        &mut self,
        side: Side,
        packet: &[u8],
        from: SocketAddr,
        now: Moment,
        silence: Duration,
    ) -> Option<Judged> {
        let remote = self.leg.remote.as_ref()?;
        if side == Side::Rtcp || remote.mux && rtp::is_rtcp(packet) {
            let sign = Sign { ssrc: rtcp::sender(packet)?, sequence: None };
            return self.hear(side, from, sign, now, silence).then_some(Judged::Rtcp);
        }
        let header = Header::parse(packet).ok()?;
        let Payload { to, rate, .. } = *remote.formats.iter().find(|one| one.from == header.payload_type)?;
        let sends = remote.sends;
        let sign = Sign { ssrc: header.ssrc, sequence: Some(header.sequence) };
        if !self.hear(side, from, sign, now, silence) {
            return None;
        }
        self.quality.hear(&header, rate, now);
        self.live.packets.add(1);
        self.live.bytes.add(packet.len() as u64);
        self.live.rate(&self.quality);
        Some(if sends { Judged::Rtp(header, to) } else { Judged::Kept })
    }

    /// Sends packets to the phone from this port; says how many went, and their bytes. Where nothing shows that the
    /// phone is there, no more go than its leg has credit for.
    pub(super) fn send<'a>(
        &mut self,
        side: Side,
        packets: impl ExactSizeIterator<Item = &'a [u8]>,
        counts: &Counts,
    ) -> (u64, u64) {
        let asked = packets.len();
        let Some(way) = self.sides[side as usize].as_ref().filter(|_| asked > 0) else { return (0, 0) };
        let count = if way.doubtful { self.credit.draw(asked) } else { asked };
        if count < asked {
            counts.withheld.add((asked - count) as u64);
            if !std::mem::replace(&mut self.withholds, true) {
                let (leg, to) = (self.leg.id.0, way.latch.destination());
                tracing::info!(leg, %to, "a phone is sent nothing more: nothing came from where it says that it is");
            }
        }
        let (sent, bytes) = self.ports.of(side).send(&way.target, packets.take(count));
        if sent < count {
            counts.unsent.add((count - sent) as u64);
        }
        (sent as u64, bytes)
    }

    /// The port from which RTCP to the phone leaves.
    pub(super) fn rtcp_side(&self) -> Side {
        if self.remote().is_some_and(|remote| remote.mux) { Side::Rtp } else { Side::Rtcp }
    }

    pub(super) fn remote(&self) -> Option<&Remote> {
        self.leg.remote.as_ref()
    }

    fn hear(&mut self, side: Side, from: SocketAddr, sign: Sign, now: Moment, silence: Duration) -> bool {
        let Some(way) = &mut self.sides[side as usize] else { return false };
        match way.latch.hear(from, sign, now, silence) {
            Heard::Taken => true,
            Heard::Refused => false,
            Heard::Latched { before } => {
                let leg = self.leg.id.0;
                match before {
                    Some(before) => {
                        tracing::info!(leg, ?side, from = %before, to = %from, "the media of a phone comes from elsewhere");
                    }
                    None => tracing::debug!(leg, ?side, %from, "the media of a phone has begun"),
                }
                if side == Side::Rtp {
                    self.live.latch(from);
                }
                self.aim();
                true
            }
        }
    }

    /// Where the phone is spoken to from each port, and whether anything shows that it is there.
    fn aim(&mut self) {
        let heard: [Option<SocketAddr>; 2] =
            std::array::from_fn(|side| self.sides[side].as_ref().and_then(|way| way.latch.latched()));
        let Some(signalling) = self.leg.remote.as_ref().map(|remote| remote.signalling) else { return };
        for (way, port) in self.sides.iter_mut().zip([&self.ports.rtp, &self.ports.rtcp]) {
            let Some(way) = way else { continue };
            let to = way.latch.destination();
            way.target = Target::new(port, self.leg.local, to);
            way.doubtful = is_doubtful(to.ip(), signalling, heard.into_iter().flatten());
        }
    }
}

impl Ports {
    pub(super) fn of(&self, side: Side) -> &Port {
        match side {
            Side::Rtp => &self.rtp,
            Side::Rtcp => &self.rtcp,
        }
    }
}
