//! Media: headers of RTP and RTCP, the latch and the quality of a stream, fed with packets at any times.

use std::{net::SocketAddr, time::Duration};

use pbx_core::{
    media::{
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

/// How long a port is silent before another one is believed.
const SILENCE: Duration = Duration::from_millis(500);

/// Packets that come one after the other. Each begins with what the network says of it: milliseconds since the one
/// before (two bytes), the sender (one byte: which of some ports and addresses), a description anew (one byte: 0 is
/// none), the length (one byte).
pub fn packets(mut bytes: &[u8]) {
    let described = |which: u8| SocketAddr::from(([192, 0, 2, 1 + (which >> 2 & 1)], 4000 + u16::from(which & 3)));
    let (mut latch, mut quality, mut outgoing) =
        (Latch::new(described(0), 1), Quality::default(), Outgoing::new(7, Moment::ZERO));
    let (mut now, mut epoch, mut taken, mut last) = (Moment::ZERO, 1, 0_u64, Moment::ZERO);
    while let Some((&[high, low, sender, anew, length], rest)) = bytes.split_first_chunk::<5>() {
        let (packet, rest) = rest.split_at(usize::from(length).min(rest.len()));
        bytes = rest;
        now += Duration::from_millis(u64::from(u16::from_be_bytes([high, low])));
        if anew != 0 {
            epoch += u32::from(anew >> 7);
            latch.describe(described(anew), epoch);
        }
        let from = described(sender);
        let sign = match Header::parse(packet) {
            Ok(header) => {
                header_holds(packet, &header);
                Some((Sign { ssrc: header.ssrc, sequence: Some(header.sequence) }, Some(header)))
            }
            Err(_) => rtcp::sender(packet).map(|ssrc| (Sign { ssrc, sequence: None }, None)),
        };
        let Some((sign, header)) = sign else { continue };
        let before = latch.latched();
        let heard = latch.hear(from, sign, now, SILENCE);
        match heard {
            Heard::Taken => assert_eq!(before, Some(from)),
            Heard::Refused => assert_eq!(latch.latched(), before, "what is refused moves nothing"),
            Heard::Latched { before: was } => {
                assert_eq!((was, latch.latched(), latch.destination()), (before, Some(from), from));
                // While somebody speaks, only a new description moves the latch.
                let silent = now.since(last) >= SILENCE;
                assert!(before.is_none() || silent || epoch > 1, "{before:?} -> {from}");
            }
        }
        if heard != Heard::Refused {
            last = now;
            if let Some(header) = header {
                taken += 1;
                let before = quality.lost();
                quality.hear(&header, [8000, 48_000, 0][usize::from(anew) % 3], now);
                // Whatever comes, a packet makes no more missing than there are numbers.
                assert!(quality.lost() <= before + (1 << 16), "{} missing after {before}", quality.lost());
                let _ = quality.jitter();
                outgoing.pass(&header, now);
            }
        }
        if outgoing.press(char::from(sender), Duration::from_millis(u64::from(low)), (anew & 0x7f, 8000), now)
            && let Some(at) = outgoing.next()
        {
            let event = outgoing.due(at.max(now));
            assert!(event.is_some_and(|event| Header::parse(&event).is_ok()));
        }
    }
    assert!(taken == 0 || latch.latched().is_some());
}

/// A header lies in its packet, and is written again as it was read.
fn header_holds(packet: &[u8], header: &Header) {
    assert!(header.payload.start >= rtp::HEADER && header.payload.end <= packet.len());
    assert!(header.payload.start <= header.payload.end);
    let written = header.write();
    assert_eq!(written[1..], packet[1..rtp::HEADER]);
    assert_eq!(rtp::is_rtcp(packet), rtp::RTCP_TYPES.contains(&header.payload_type));
    let mut changed = packet.to_vec();
    rtp::set_payload_type(&mut changed, 5);
    rtp::set_sequence(&mut changed, 6);
    let again = Header::parse(&changed).map(|again| (again.payload_type, again.sequence, again.marker, again.payload));
    assert_eq!(again, Ok((5, 6, header.marker, header.payload.clone())));
}
