//! How SIP messages travel: protocols, the transports that an administrator made, and flows. Opens nothing.

pub mod keepalive;
pub mod nat;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// What carries messages (RFC 3261 §18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams in the clear.
    Tcp,
    /// TLS over TCP, versions 1.2 and 1.3.
    Tls,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// The token in a Via (RFC 3261 §20.42), and the name in the API.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// Whether what is sent arrives, or the sender learns that it did not (RFC 3261 §17).
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The port that a URI without one means (RFC 3261 §19.1.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// The name is none of a protocol's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no protocol: write UDP, TCP or TLS")]
pub struct NoSuchProtocol(String);

impl FromStr for Protocol {
    type Err = NoSuchProtocol;

    fn from_str(text: &str) -> Result<Self, NoSuchProtocol> {
        let named = |protocol: &Self| protocol.token().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(named).ok_or_else(|| NoSuchProtocol(text.chars().take(20).collect()))
    }
}

/// A transport as the store numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransportId(pub u32);

/// A connection of a stream transport; never used twice while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Where a message came from, and where what answers it goes: the two ends and what lies between (RFC 5626 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport.
    pub transport: TransportId,
    /// Its protocol.
    pub protocol: Protocol,
    /// The address that the message was sent to, and that answers leave from.
    pub local: SocketAddr,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The connection, of a stream.
    pub connection: Option<ConnectionId>,
}

/// A source as limits count it: one number for all addresses that share a limit. Of a stranger that is an IPv4 address
/// or the /64 of an IPv6 one, which costs nothing to fill with addresses; a known one is counted by itself.
pub fn counted(source: IpAddr, known: bool) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) if known => addr.to_bits(),
        IpAddr::V6(addr) => addr.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_read_as_it_is_printed() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            assert_eq!(protocol.token().to_lowercase().parse(), Ok(protocol));
        }
        assert!("WSS".parse::<Protocol>().unwrap_err().to_string().contains("UDP, TCP or TLS"));
    }

    #[test]
    fn strangers_are_counted_by_their_network_and_known_addresses_each_by_itself() {
        let of = |source: &str, known| counted(source.parse().unwrap(), known);
        for known in [false, true] {
            assert_eq!(of("192.0.2.1", known), of("::ffff:192.0.2.1", known));
            assert_ne!(of("192.0.2.1", known), of("192.0.2.2", known));
            assert_ne!(of("2001:db8::1", known), of("2001:db8:0:1::1", known));
        }
        assert_eq!(of("2001:db8::1", false), of("2001:db8::2:0:0:1", false));
        assert_ne!(of("2001:db8::1", true), of("2001:db8::2", true));
    }
}
