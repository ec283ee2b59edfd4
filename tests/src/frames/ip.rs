//! The IP part of a frame: headers, lengths and checksums, and the lies about them that a test wants told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{checksum, protocol};

/// An IP packet of either family.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) transport: Transport,
    pub(super) hop_limit: u8,
    pub(super) options: Vec<u8>,
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
    pub(super) fragment: Option<(u16, bool)>,
    pub(super) claims: Claims,
}

/// What follows the IP header.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Udp { ports: (u16, u16), payload: Vec<u8> },
    Tcp { ports: (u16, u16), flags: u8, payload: Vec<u8> },
    Icmpv6 { kind: u8, code: u8, body: Vec<u8> },
    Bytes { protocol: u8, payload: Vec<u8> },
}

/// Header fields that say something else than the truth.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    pub(super) version: Option<u8>,
    pub(super) header_words: Option<u8>,
    pub(super) length: Option<u16>,
    pub(super) udp_length: Option<u16>,
    pub(super) tcp_words: Option<u8>,
}

/// Identification of every fragment: they are all of one datagram.
const IDENTIFICATION: u16 = 0x5060;

impl Packet {
    pub(super) fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        Self {
            source,
            destination,
            transport,
            hop_limit: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            claims: Claims::default(),
        }
    }

    pub(super) fn write(&self, frame: &mut Vec<u8>) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.write_v4(source, destination, frame),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.write_v6(source, destination, frame),
            _ => unreachable!("the constructors take one family"),
        }
    }

    fn write_v4(&self, source: Ipv4Addr, destination: Ipv4Addr, frame: &mut Vec<u8>) {
        assert!(self.extensions.is_empty(), "extension headers are of IPv6");
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = 5 + options.len() / 4;
        assert!(words <= 15, "IPv4 has room for 40 bytes of options");
        let segment = self.segment();
        let length = self.claims.length.unwrap_or((words * 4 + segment.len()) as u16);
        let (offset, more) = self.fragment.unwrap_or((0, false));

        let mut header =
            vec![self.claims.version.unwrap_or(4) << 4 | self.claims.header_words.unwrap_or(words as u8), 0];
        header.extend(length.to_be_bytes());
        header.extend(IDENTIFICATION.to_be_bytes());
        header.extend((u16::from(more) << 13 | offset & 0x1fff).to_be_bytes());
        header.extend([self.hop_limit, self.protocol(), 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(options);
        let checksum = checksum::internet(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(header);
        frame.extend(segment);
    }

    fn write_v6(&self, source: Ipv6Addr, destination: Ipv6Addr, frame: &mut Vec<u8>) {
        assert!(self.options.is_empty(), "options are of IPv4");
        let mut chain = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let mut body = (offset << 3 | u16::from(more)).to_be_bytes().to_vec();
            body.extend(u32::from(IDENTIFICATION).to_be_bytes());
            chain.push((protocol::FRAGMENT, body));
        }
        let kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).chain([self.protocol()]).collect();
        let mut after = Vec::new();
        for (index, (kind, body)) in chain.iter().enumerate() {
            after.extend(extension(*kind, kinds[index + 1], body));
        }
        after.extend(self.segment());

        let length = self.claims.length.unwrap_or(after.len() as u16);
        frame.extend([self.claims.version.unwrap_or(6) << 4, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([kinds[0], self.hop_limit]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(after);
    }

    fn protocol(&self) -> u8 {
        match &self.transport {
            Transport::Udp { .. } => protocol::UDP,
            Transport::Tcp { .. } => protocol::TCP,
            Transport::Icmpv6 { .. } => protocol::ICMPV6,
            Transport::Bytes { protocol, .. } => *protocol,
        }
    }

    /// The transport header with its checksum, and what it carries.
    fn segment(&self) -> Vec<u8> {
        let (mut segment, checksum_at) = match &self.transport {
            Transport::Bytes { payload, .. } => return payload.clone(),
            Transport::Udp { ports, payload } => {
                let mut udp = port_pair(*ports);
                udp.extend(self.claims.udp_length.unwrap_or(8 + payload.len() as u16).to_be_bytes());
                udp.extend([0, 0]);
                udp.extend(payload);
                (udp, 6)
            }
            Transport::Tcp { ports, flags, payload } => {
                let mut tcp = port_pair(*ports);
                tcp.extend([0; 8]);
                tcp.extend([self.claims.tcp_words.unwrap_or(5) << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                tcp.extend(payload);
                (tcp, 16)
            }
            Transport::Icmpv6 { kind, code, body } => {
                let mut icmp = vec![*kind, *code, 0, 0];
                icmp.extend(body);
                (icmp, 2)
            }
        };
        let checksum = match checksum::transport(self.source, self.destination, self.protocol(), &segment) {
            // Zero on the wire means "none" in UDP (RFC 768).
            0 if matches!(self.transport, Transport::Udp { .. }) => 0xffff,
            checksum => checksum,
        };
        segment[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        segment
    }
}

fn port_pair((source, destination): (u16, u16)) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// One extension header with its length in the unit of its kind (RFC 8200 §4, RFC 4302 §2.2).
fn extension(kind: u8, next: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend(body);
    header.resize(header.len().next_multiple_of(8), 0);
    header[1] = match kind {
        protocol::FRAGMENT => 0,
        protocol::AUTHENTICATION => (header.len() / 4 - 2) as u8,
        _ => (header.len() / 8 - 1) as u8,
    };
    header
}
