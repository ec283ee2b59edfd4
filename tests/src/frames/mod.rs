//! Ethernet frames made by hand, right by default and wrong where a test asks for it.
//! Knows no sockets: `build` gives the bytes, which a test run or a raw socket carries.
//!
//! ```
//! use pbx_tests::frames::Frame;
//! let invite = Frame::udp("192.0.2.1:5060", "192.0.2.2:5060").payload(b"INVITE").vlan(5).build();
//! assert_eq!(invite[12..14], [0x81, 0x00]);
//! ```

pub mod checksum;
mod essential;
mod ip;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ip::{Packet, Transport};

/// A hardware address.
pub type Mac = [u8; 6];

/// The source of frames that name none.
pub const SENDER: Mac = [0x02, 0, 0, 0, 0, 0x02];
/// The destination of frames that name none.
pub const RECEIVER: Mac = [0x02, 0, 0, 0, 0, 0x01];

/// EtherTypes (IEEE 802 numbers).
pub mod ethertype {
    #![allow(missing_docs)]
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    pub const VLAN: u16 = 0x8100;
    pub const QINQ: u16 = 0x88a8;
}

/// IP protocol and IPv6 extension header numbers (RFC 8200 §4, IANA protocol numbers).
pub mod protocol {
    #![allow(missing_docs)]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT: u8 = 59;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// TCP flags (RFC 9293 §3.1), to be added up.
pub mod tcp {
    #![allow(missing_docs)]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
}

/// One frame under construction. Methods that make no sense for what it carries panic.
#[derive(Clone, Debug)]
pub struct Frame {
    destination: Mac,
    source: Mac,
    tags: Vec<(u16, u16)>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Ip(Packet),
    Other { ethertype: u16, bytes: Vec<u8> },
}

impl Frame {
    /// A UDP datagram between two addresses of one family, as "192.0.2.1:5060" or `[2001:db8::1]:5060`.
    pub fn udp(source: impl Endpoint, destination: impl Endpoint) -> Self {
        let (source, destination) = (source.endpoint(), destination.endpoint());
        let ports = (source.port(), destination.port());
        Self::packet(source.ip(), destination.ip(), Transport::Udp { ports, payload: Vec::new() })
    }

    /// A TCP segment with these `flags` (module [`tcp`]), sequence numbers 0.
    pub fn tcp(source: impl Endpoint, destination: impl Endpoint, flags: u8) -> Self {
        let (source, destination) = (source.endpoint(), destination.endpoint());
        let ports = (source.port(), destination.port());
        Self::packet(source.ip(), destination.ip(), Transport::Tcp { ports, flags, payload: Vec::new() })
    }

    /// An IP packet of any protocol around `payload`, which is sent as it is: later fragments, unknown protocols.
    pub fn ip(source: impl Address, destination: impl Address, protocol: u8, payload: &[u8]) -> Self {
        Self::packet(source.address(), destination.address(), Transport::Bytes { protocol, payload: payload.to_vec() })
    }

    /// An ICMPv6 message; `body` is what follows the checksum (RFC 4443 §2.1).
    pub fn icmpv6(source: impl Address, destination: impl Address, kind: u8, body: &[u8]) -> Self {
        Self::packet(source.address(), destination.address(), Transport::Icmpv6 { kind, code: 0, body: body.to_vec() })
    }

    /// A frame that is not IP, or only pretends to be.
    pub fn other(ethertype: u16, bytes: &[u8]) -> Self {
        Self {
            destination: RECEIVER,
            source: SENDER,
            tags: Vec::new(),
            body: Body::Other { ethertype, bytes: bytes.to_vec() },
        }
    }

    fn packet(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "{source} and {destination} are of one family");
        Self {
            destination: RECEIVER,
            source: SENDER,
            tags: Vec::new(),
            body: Body::Ip(Packet::new(source, destination, transport)),
        }
    }

    /// Hardware addresses, source first.
    pub fn link(mut self, source: Mac, destination: Mac) -> Self {
        (self.source, self.destination) = (source, destination);
        self
    }

    /// One more 802.1Q tag, inside those that are there.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(ethertype::VLAN, id)
    }

    /// One more tag with its own EtherType (802.1ad is 0x88a8), inside those that are there.
    pub fn tag(mut self, ethertype: u16, id: u16) -> Self {
        self.tags.push((ethertype, id));
        self
    }

    /// What the UDP datagram or TCP segment carries.
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        match &mut self.ip_mut().transport {
            Transport::Udp { payload, .. } | Transport::Tcp { payload, .. } | Transport::Bytes { payload, .. } => {
                *payload = bytes.to_vec()
            }
            Transport::Icmpv6 { body, .. } => *body = bytes.to_vec(),
        }
        self
    }

    /// TTL or hop limit; 64 unless told.
    pub fn hop_limit(mut self, hops: u8) -> Self {
        self.ip_mut().hop_limit = hops;
        self
    }

    /// IPv4 options, padded with zeros to whole words (RFC 791 §3.1); at most 40 bytes.
    pub fn options(mut self, bytes: &[u8]) -> Self {
        self.ip_mut().options = bytes.to_vec();
        self
    }

    /// One more IPv6 extension header after those that are there; `body` follows its first two bytes and is padded.
    pub fn extension(mut self, kind: u8, body: &[u8]) -> Self {
        self.ip_mut().extensions.push((kind, body.to_vec()));
        self
    }

    /// Makes it a fragment: `offset` in units of 8 bytes, and whether more follow.
    /// IPv6 gets a fragment header after the other extension headers.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.ip_mut().fragment = Some((offset, more));
        self
    }

    /// The IP version that the first nibble claims.
    pub fn claimed_version(mut self, version: u8) -> Self {
        self.ip_mut().claims.version = Some(version);
        self
    }

    /// The IPv4 header length, in words of 4 bytes, that the header claims.
    pub fn claimed_header_words(mut self, words: u8) -> Self {
        self.ip_mut().claims.header_words = Some(words);
        self
    }

    /// The IPv4 total length or IPv6 payload length that the header claims.
    pub fn claimed_length(mut self, bytes: u16) -> Self {
        self.ip_mut().claims.length = Some(bytes);
        self
    }

    /// The length that the UDP header claims.
    pub fn claimed_udp_length(mut self, bytes: u16) -> Self {
        self.ip_mut().claims.udp_length = Some(bytes);
        self
    }

    /// The data offset, in words of 4 bytes, that the TCP header claims.
    pub fn claimed_tcp_words(mut self, words: u8) -> Self {
        self.ip_mut().claims.tcp_words = Some(words);
        self
    }

    /// The bytes on the wire, without preamble, padding and FCS.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128);
        frame.extend(self.destination);
        frame.extend(self.source);
        for (ethertype, id) in &self.tags {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        match &self.body {
            Body::Ip(packet) => {
                let ethertype = if packet.source.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
                frame.extend(ethertype.to_be_bytes());
                packet.write(&mut frame);
            }
            Body::Other { ethertype, bytes } => {
                frame.extend(ethertype.to_be_bytes());
                frame.extend(bytes);
            }
        }
        frame
    }

    fn ip_mut(&mut self) -> &mut Packet {
        match &mut self.body {
            Body::Ip(packet) => packet,
            Body::Other { ethertype, .. } => panic!("a frame of type {ethertype:#06x} has no IP header"),
        }
    }
}

/// The IP source of a frame with any number of tags, if it is IP and whole enough to have one.
pub fn source_of(frame: &[u8]) -> Option<IpAddr> {
    let mut rest = frame.get(12..)?;
    loop {
        let (ethertype, after) = rest.split_first_chunk::<2>()?;
        match u16::from_be_bytes(*ethertype) {
            ethertype::VLAN | ethertype::QINQ => rest = after.get(2..)?,
            ethertype::IPV4 => return Some(IpAddr::from(*after.get(12..)?.first_chunk::<4>()?)),
            ethertype::IPV6 => return Some(IpAddr::from(*after.get(8..)?.first_chunk::<16>()?)),
            _ => return None,
        }
    }
}

/// What can stand for an address and a port.
pub trait Endpoint {
    /// The address and port meant; panics on text that is none.
    fn endpoint(self) -> SocketAddr;
}

impl Endpoint for SocketAddr {
    fn endpoint(self) -> SocketAddr {
        self
    }
}

impl Endpoint for &str {
    fn endpoint(self) -> SocketAddr {
        self.parse().unwrap_or_else(|_| panic!("{self:?} is not ADDRESS:PORT"))
    }
}

impl<A: Address> Endpoint for (A, u16) {
    fn endpoint(self) -> SocketAddr {
        SocketAddr::new(self.0.address(), self.1)
    }
}

/// What can stand for an address.
pub trait Address {
    /// The address meant; panics on text that is none.
    fn address(self) -> IpAddr;
}

impl Address for IpAddr {
    fn address(self) -> IpAddr {
        self
    }
}

impl Address for Ipv4Addr {
    fn address(self) -> IpAddr {
        self.into()
    }
}

impl Address for Ipv6Addr {
    fn address(self) -> IpAddr {
        self.into()
    }
}

impl Address for &str {
    fn address(self) -> IpAddr {
        self.parse().unwrap_or_else(|_| panic!("{self:?} is not an address"))
    }
}
