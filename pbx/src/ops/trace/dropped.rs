//! Packets that the filter dropped, for an administrator who looks on: samples, read as far as they can be.

use std::net::IpAddr;

use pbx_core::{
    address::{self, Prefix},
    time::Timestamp,
};
use pbx_ebpf::{
    abi::stats::Reason,
    packet::{self, Frame, Parsed, Upper, View},
};
use serde::{Deserialize, Serialize};

use super::super::{Context, OpError, Operations};
use crate::{
    filter::Outcome,
    trace::dropped::{Dropped, Follower, TooMany, Wanted},
};

/// Addresses, ranges and reasons that one follower may name.
const MOST_NAMED: usize = 64;
/// Characters of a packet's text.
const TEXT: usize = 60;

/// A dropped packet as the API shows it. The text is as the sender wrote it, control characters and all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedView {
    /// When it came.
    pub time: Timestamp,
    /// Where.
    pub interface: Option<String>,
    /// Why, in the kernel contract's name.
    pub reason: String,
    /// Whether it was dropped, or would have been under enforce.
    pub outcome: Outcome,
    /// `udp`, `tcp`, `icmpv6`, `fragment`, `ip`; nothing: the frame could not be read.
    pub protocol: Option<String>,
    /// Who sent it.
    pub source: Option<IpAddr>,
    /// From which port.
    pub source_port: Option<u16>,
    /// To whom.
    pub destination: Option<IpAddr>,
    /// To which port.
    pub destination_port: Option<u16>,
    /// Bytes of the frame.
    pub length: u32,
    /// It stands for so many packets that were dropped for the reason.
    pub one_of: u64,
    /// The first line of what it carried, as far as it was captured.
    pub text: Option<String>,
    /// The first bytes of the frame, from the Ethernet header on, in hexadecimal.
    pub captured: String,
}

/// Follows from when it was made until it is dropped.
#[derive(Debug)]
pub struct DroppedPackets(Follower);

impl Operations {
    /// Follows the packets that the filter drops from now on: from these addresses or ranges (none named: from all), for
    /// these reasons (none named: for any).
    pub async fn trace_dropped(
        &self,
        context: &Context,
        sources: &[String],
        reasons: &[String],
    ) -> Result<DroppedPackets, OpError> {
        context.may_see_who_calls("dropped packets")?;
        if sources.len() + reasons.len() > MOST_NAMED {
            return Err(OpError::usage(format!("{MOST_NAMED} addresses, ranges and reasons are the most")));
        }
        let parsed = sources.iter().map(|text| match address::parse(text) {
            Ok(typed) => Ok(typed.prefix),
            Err(error) => Err(OpError::usage(format!("ip: {error}"))),
        });
        let sources: Vec<Prefix> = parsed.collect::<Result<_, _>>()?;
        reasons.iter().try_for_each(|reason| is_a_reason(reason))?;
        let wanted = Wanted { sources, reasons: reasons.to_vec() };
        let followed = self.with_filter(move |filter| filter.follow_drops(wanted)).await?;
        followed.map(DroppedPackets).map_err(|error| match error.downcast_ref::<TooMany>() {
            Some(TooMany) => OpError::usage(error.to_string()),
            None => OpError::filter(format!("cannot look at dropped packets: {error:#}")),
        })
    }
}

fn is_a_reason(name: &str) -> Result<(), OpError> {
    let names: Vec<&str> =
        Reason::ALL.into_iter().filter(|one| one.drops() || one.would_drop()).map(Reason::name).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let given: String = name.escape_debug().to_string().chars().take(40).collect();
    Err(OpError::usage(format!("reason: {given:?} drops nothing; there are {}", names.join(", "))))
}

impl DroppedPackets {
    /// The next packet, or how many samples (of any packets) were lost before it; none: the filter is gone.
    pub async fn next(&mut self) -> Option<Result<DroppedView, u64>> {
        Some(self.0.next().await?.map(|dropped| DroppedView::of(&dropped)))
    }
}

impl DroppedView {
    fn of(dropped: &Dropped) -> Self {
        let Dropped { at, ref interface, reason, outcome, source, length, weight, ref bytes } = *dropped;
        let mut view = Self {
            time: at,
            interface: interface.clone(),
            reason: reason.to_owned(),
            outcome,
            protocol: None,
            source,
            source_port: None,
            destination: None,
            destination_port: None,
            length,
            one_of: weight,
            text: None,
            captured: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let Parsed::Ip(ip) = packet::parse(&Captured { bytes, length: length as usize }) else { return view };
        let (name, has_ports) = match ip.upper {
            Upper::Udp => ("udp", true),
            Upper::Syn | Upper::Tcp => ("tcp", true),
            Upper::Icmp6 => ("icmpv6", false),
            Upper::Opaque => ("fragment", false),
            Upper::Other => ("ip", false),
        };
        view.protocol = Some(name.to_owned());
        let Some(header) = network_header(bytes) else { return view };
        view.destination = destination(&bytes[header..], ip.v6);
        if has_ports {
            (view.source_port, view.destination_port) = (Some(ip.sport), Some(ip.dport));
            view.text = payload(&bytes[header..], ip.v6).and_then(text);
        }
        view
    }
}

/// A frame of which only the beginning is there.
struct Captured<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl Frame for Captured<'_> {
    fn view(&self, offset: usize, length: usize) -> Option<View> {
        let bytes = self.bytes.get(offset..offset.checked_add(length)?)?;
        // SAFETY: `bytes` has `length` readable bytes.
        Some(unsafe { View::new(bytes.as_ptr()) })
    }
    fn linear(&self) -> usize {
        self.bytes.len()
    }
    fn total(&self) -> usize {
        self.length
    }
}

/// Where the IP header begins, behind at most two VLAN tags.
fn network_header(frame: &[u8]) -> Option<usize> {
    let mut at = 12;
    for _ in 0..3 {
        match frame.get(at..at + 2)? {
            [0x81, 0x00] | [0x88, 0xa8] => at += 4,
            [0x08, 0x00] | [0x86, 0xdd] => return Some(at + 2),
            _ => return None,
        }
    }
    None
}

fn destination(packet: &[u8], v6: bool) -> Option<IpAddr> {
    if v6 {
        let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
        return Some(IpAddr::from(octets));
    }
    let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    Some(IpAddr::from(octets))
}

/// What a datagram or segment carries; behind extension headers nothing is looked for.
fn payload(packet: &[u8], v6: bool) -> Option<&[u8]> {
    let (protocol, header) =
        if v6 { (*packet.get(6)?, 40) } else { (*packet.get(9)?, usize::from(packet[0] & 15) * 4) };
    let upper = packet.get(header..)?;
    match protocol {
        17 => upper.get(8..),
        6 => upper.get(usize::from(upper.get(12)? >> 4) * 4..),
        _ => None,
    }
}

fn text(payload: &[u8]) -> Option<String> {
    let line = payload.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let text: String = String::from_utf8_lossy(line).chars().take(TEXT).collect();
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(bytes: &[u8], length: u32) -> Dropped {
        Dropped {
            at: Timestamp::EPOCH,
            interface: Some("eth0".to_owned()),
            reason: Reason::Manual.name(),
            outcome: Outcome::Dropped,
            source: "198.51.100.7".parse().ok(),
            length,
            weight: 4,
            bytes: bytes.into(),
        }
    }

    /// REGISTER over UDP, 1,000 bytes of it, cut off behind its first line.
    fn cut_off() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x81, 0x00, 0x00, 0x07, 0x08, 0x00]);
        frame.extend([0x45, 0, 3, 232, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 51, 100, 7, 192, 0, 2, 1]);
        frame.extend([0x13, 0xc6, 0x13, 0xc4, 3, 212, 0, 0]);
        frame.extend(b"REGISTER sip:example.com SIP/2.0\r\nVia: ");
        frame
    }

    #[test]
    fn a_packet_of_which_the_beginning_is_there_is_read_as_far_as_it_goes() {
        let view = DroppedView::of(&dropped(&cut_off(), 1018));
        assert_eq!(view.protocol.as_deref(), Some("udp"));
        assert_eq!((view.source_port, view.destination_port), (Some(5062), Some(5060)));
        assert_eq!(view.destination, "192.0.2.1".parse().ok());
        assert_eq!(view.text.as_deref(), Some("REGISTER sip:example.com SIP/2.0"));
        assert!(view.captured.starts_with("00000000") && view.captured.len() == cut_off().len() * 2);
        for end in 0..cut_off().len() {
            // Whatever is missing, nothing is made up.
            let view = DroppedView::of(&dropped(&cut_off()[..end], 1018));
            assert!(view.destination.is_none() || end >= 38, "{end}: {view:?}");
        }
    }

    #[test]
    fn a_reason_that_drops_nothing_is_refused_with_those_that_do() {
        assert!(is_a_reason("level1").is_ok() && is_a_reason("would-default-deny").is_ok());
        let error = is_a_reason("passed").unwrap_err().message;
        assert!(error.contains("manual-block") && !error.contains("counted"), "{error}");
    }
}
