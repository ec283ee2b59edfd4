//! How peers beyond the router reach the appliance.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{
    Kind, Value, ValueError,
    sets::{comma_separated, items},
};

/// The port of a STUN server that is written without one (RFC 8489 §8.1).
const STUN_PORT: u16 = 3478;

/// At most one address of each family, and at most one place to ask for the families without.
///
/// Written as a list: `203.0.113.7`, `203.0.113.7,2001:db8::7`, `pbx.example.com`,
/// `203.0.113.7,stun:stun.example.com:3478`. Nothing: there is no such router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ExternalAddress {
    /// The IPv4 address that was written.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address that was written.
    pub v6: Option<Ipv6Addr>,
    /// Who knows the address of a family that has none written.
    pub lookup: Option<Lookup>,
}

/// Who knows an external address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The domain name system, by A and AAAA.
    Name(String),
    /// A STUN server (RFC 8489).
    Stun {
        /// Its name or address, an IPv6 one without brackets.
        host: String,
        /// Its UDP port.
        port: u16,
    },
}

impl ExternalAddress {
    /// Whether nothing is set.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Value for ExternalAddress {
    const KIND: Kind = Kind::ExternalAddress;
}

impl fmt::Display for ExternalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.v4.map(|addr| addr.to_string());
        let v6 = self.v6.map(|addr| addr.to_string());
        let lookup = self.lookup.as_ref().map(Lookup::to_string);
        comma_separated(f, &[v4, v6, lookup].into_iter().flatten().collect::<Vec<_>>())
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Stun { host, port } => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "stun:{open}{host}{close}")?;
                if *port == STUN_PORT { Ok(()) } else { write!(f, ":{port}") }
            }
        }
    }
}

impl FromStr for ExternalAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut external = Self::default();
        for item in items(text, 3)? {
            let second = match item.parse::<IpAddr>().map(|addr| addr.to_canonical()) {
                Ok(addr) if !can_be_reached(addr) => {
                    return Err(ValueError::Item(format!("nobody reaches the appliance by {addr}")));
                }
                Ok(IpAddr::V4(addr)) => external.v4.replace(addr).is_some(),
                Ok(IpAddr::V6(addr)) => external.v6.replace(addr).is_some(),
                Err(_) => external.lookup.replace(lookup(item)?).is_some(),
            };
            if second {
                let item: String = item.chars().take(60).collect();
                return Err(ValueError::Item(format!("{item} is the second of its kind")));
            }
        }
        Ok(external)
    }
}

fn can_be_reached(addr: IpAddr) -> bool {
    let link_local = match addr {
        IpAddr::V4(addr) => addr.is_link_local() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    };
    !(link_local || addr.is_unspecified() || addr.is_loopback() || addr.is_multicast())
}

fn lookup(text: &str) -> Result<Lookup, ValueError> {
    let neither = || {
        let text: String = text.chars().take(60).collect();
        ValueError::Item(format!("{text:?} is no address, name or stun:HOST[:PORT]"))
    };
    let Some(server) = text.strip_prefix("stun:") else {
        return if is_name(text) { Ok(Lookup::Name(text.to_ascii_lowercase())) } else { Err(neither()) };
    };
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => {
            host.parse::<Ipv6Addr>().map_err(|_| neither())?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(neither)?) })
        }
        None => {
            let (host, port) = server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port)));
            if host.parse::<Ipv4Addr>().is_err() && !is_name(host) {
                return Err(neither());
            }
            (host, port)
        }
    };
    let port = match port {
        None => STUN_PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or_else(neither)?
        }
        Some(_) => return Err(neither()),
    };
    Ok(Lookup::Stun { host: host.to_ascii_lowercase(), port })
}

/// A host name (RFC 1123 §2.1). One whose last label is digits is a misspelt address.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}
