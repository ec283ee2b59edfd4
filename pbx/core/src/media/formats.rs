//! Formats of two phones held against each other: what an answer says, what a packet of one is to the other, where
//! media may come from. Nothing is transcoded: a codec that only one of them has is of no use.

use std::net::{IpAddr, SocketAddr};

use super::Payload;
use crate::wire::sdp::{Codec, Format};

/// The formats of an answer to `offered`: those that `wanted` has too (by codec), numbered as in `offered`, in the
/// order of `wanted`, with the parameters of `wanted`. Empty when nothing but telephone events and comfort noise is
/// left: they stand beside a codec.
pub fn common(offered: &[Format], wanted: &[Format]) -> Vec<Format> {
    let mut free: Vec<&Format> = offered.iter().collect();
    let both = wanted.iter().filter_map(|wanted| {
        let offered = free.remove(closest(&free, wanted)?);
        Some(Format { payload_type: offered.payload_type, codec: offered.codec.clone(), fmtp: wanted.fmtp.clone() })
    });
    let both: Vec<Format> = both.collect();
    if both.iter().any(|format| format.codec.is_speech()) { both } else { Vec::new() }
}

/// What a phone that may send `sends` (numbers of our description to it) can be passed on as to one that takes `takes`
/// (numbers of its own description).
pub fn payloads(sends: &[Format], takes: &[Format]) -> Vec<Payload> {
    let takes: Vec<&Format> = takes.iter().collect();
    let passed = sends.iter().filter_map(|format| {
        let to = takes[closest(&takes, format)?].payload_type;
        Some(Payload { from: format.payload_type, to, rate: format.codec.rate })
    });
    passed.collect()
}

/// Where in `list` the same codec is, with the same parameters if possible: one codec may stand there twice, with
/// different ones.
fn closest(list: &[&Format], wanted: &Format) -> Option<usize> {
    let is_same = |format: &&Format| format.codec.is_same(&wanted.codec);
    let alike = list.iter().position(|format| is_same(format) && format.fmtp == wanted.fmtp);
    alike.or_else(|| list.iter().position(is_same))
}

/// The telephone events of a list: payload type and clock rate. Those with the clock of the first codec, which they
/// share their timestamps with (RFC 4733 §2.1); from a phone that has none of them, the first it has.
pub fn event(takes: &[Format]) -> Option<(u8, u32)> {
    let rate = takes.iter().find(|format| format.codec.is_speech()).map(|format| format.codec.rate);
    let events = takes.iter().filter(|format| format.codec.is_event());
    let fitting = events.clone().find(|format| Some(format.codec.rate) == rate);
    fitting.or_else(|| events.clone().next()).map(|format| (format.payload_type, format.codec.rate))
}

/// What we offer to a phone whose peer has said nothing yet: what about every phone has. Opus is not among them: the
/// peer may turn out not to have it.
pub fn usual() -> Vec<Format> {
    let format = |payload_type, name, fmtp: Option<&str>| Format {
        payload_type,
        codec: Codec::new(name, 8_000),
        fmtp: fmtp.map(Into::into),
    };
    vec![
        format(9, "G722", None),
        format(8, "PCMA", None),
        format(0, "PCMU", None),
        format(101, "telephone-event", Some("0-16")),
    ]
}

/// Where a phone's media may come from: the address that it described if that is public or is the source of its
/// signalling, else the source. The port stays as it was described.
pub fn candidate(described: SocketAddr, signalling: IpAddr) -> SocketAddr {
    let (ip, source) = (described.ip().to_canonical(), signalling.to_canonical());
    let believed = if ip == source || is_public(ip) { ip } else { source };
    SocketAddr::new(believed, described.port())
}

/// Whether an address may be some phone's anywhere in the Internet. Those of documentation count as such.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            !(ip.is_private() || is_shared || ip.is_loopback() || ip.is_link_local())
                // "This network", groups, and what is reserved, broadcast among it, are no host's.
                && (1..224).contains(&first)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unique_local()
                || ip.is_unspecified()
                || ip.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests;
