//! Routers that translate addresses: whether a peer is behind one, and which own address a peer reaches us by.
//! Told everything; asks no resolver and no STUN server.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Protocol, TransportId};
use crate::settings::Prefixes;

/// How peers reach the appliance. Made anew when the settings, the external address or a transport change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `network.local_networks`.
    pub local_networks: Prefixes,
    /// The external IPv4 address as it was written, looked up or asked for; none: no router translates IPv4.
    pub external_v4: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub external_v6: Option<Ipv6Addr>,
    /// Ports that the router forwards, of transports where they are not the transport's own.
    pub external_ports: BTreeMap<TransportId, u16>,
}

impl Reach {
    /// What Via and Contact say to `remote`: where it reaches the socket `local` (never an unspecified address) of a
    /// transport. The local address within the local networks, and where no router translates; else the external one.
    pub fn advertised(&self, transport: TransportId, local: SocketAddr, remote: IpAddr) -> SocketAddr {
        let remote = remote.to_canonical();
        let external = match remote {
            IpAddr::V4(_) => self.external_v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.external_v6.map(IpAddr::V6),
        };
        match external {
            Some(external) if !self.is_local(remote) => {
                let port = self.external_ports.get(&transport).copied().unwrap_or(local.port());
                SocketAddr::new(external, port)
            }
            _ => SocketAddr::new(local.ip().to_canonical(), local.port()),
        }
    }

    /// Whether `remote` is in a local network. If none are set, those that no router passes on are: private,
    /// shared (RFC 6598), link-local and loopback addresses.
    pub fn is_local(&self, remote: IpAddr) -> bool {
        let remote = remote.to_canonical();
        // A link never leaves the building, whatever else is called local.
        let on_link = match remote {
            IpAddr::V4(addr) => addr.is_loopback() || addr.is_link_local(),
            IpAddr::V6(addr) => addr.is_loopback() || addr.is_unicast_link_local(),
        };
        if on_link || !self.local_networks.is_empty() {
            return on_link || self.local_networks.contains(remote);
        }
        match remote {
            IpAddr::V4(addr) => addr.is_private() || (addr.octets()[0] == 100 && addr.octets()[1] & 0xc0 == 64),
            IpAddr::V6(addr) => addr.is_unique_local(),
        }
    }
}

/// Whether a phone that says it is at `sent_by` (Via) and at `contact` is behind a router, seen where its request came
/// from. A host that is a name says nothing, but `.invalid` (RFC 7118 §5: a phone that does not know its address).
///
/// The port counts on UDP only, and the Via's only: a stream leaves from any port, and a Contact may name another.
pub fn behind_nat(
    protocol: Protocol,
    sent_by: (&str, Option<u16>),
    contact: Option<&str>,
    received: SocketAddr,
) -> bool {
    let (via, port) = sent_by;
    let port_differs = protocol == Protocol::Udp
        && literal(via).is_some()
        && port.unwrap_or(protocol.default_port()) != received.port();
    let host_differs = |host: &str| match literal(host) {
        Some(addr) => addr != received.ip().to_canonical(),
        None => has_suffix(host, ".invalid"),
    };
    port_differs || host_differs(via) || contact.is_some_and(host_differs)
}

/// The address that a host is, with or without brackets.
fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(host).parse::<IpAddr>().ok().map(|addr| addr.to_canonical())
}

fn has_suffix(host: &str, suffix: &str) -> bool {
    let end = host.len().checked_sub(suffix.len()).and_then(|at| host.get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSPORT: TransportId = TransportId(1);

    fn behind_router() -> Reach {
        Reach {
            external_v4: Some(Ipv4Addr::new(203, 0, 113, 7)),
            external_ports: [(TRANSPORT, 15_060)].into(),
            ..Reach::default()
        }
    }

    fn told(reach: &Reach, transport: u32, remote: &str) -> String {
        let local = if remote.contains(':') { "[fd00::1]:5060" } else { "10.0.0.2:5060" };
        reach.advertised(TransportId(transport), local.parse().unwrap(), remote.parse().unwrap()).to_string()
    }

    #[test]
    fn without_an_external_address_everybody_is_told_the_local_one() {
        let reach = Reach { external_ports: [(TRANSPORT, 15_060)].into(), ..Reach::default() };
        assert_eq!(told(&reach, 1, "198.51.100.1"), "10.0.0.2:5060");
        assert_eq!(told(&reach, 1, "2001:db8::1"), "[fd00::1]:5060");
    }

    #[test]
    fn peers_beyond_the_router_are_told_its_address_and_port_and_local_ones_are_not() {
        let reach = behind_router();
        for remote in ["10.9.9.9", "172.31.0.1", "192.168.1.1", "100.127.0.1", "169.254.1.1", "127.0.0.1"] {
            assert_eq!(told(&reach, 1, remote), "10.0.0.2:5060", "{remote}");
        }
        for remote in ["198.51.100.1", "100.128.0.1", "172.32.0.1", "::ffff:198.51.100.1"] {
            let local = "10.0.0.2:5060".parse().unwrap();
            let told = reach.advertised(TRANSPORT, local, remote.parse().unwrap());
            assert_eq!(told.to_string(), "203.0.113.7:15060", "{remote}");
        }
        assert_eq!(told(&reach, 2, "198.51.100.1"), "203.0.113.7:5060");
        // Each family has an external address of its own, or none.
        assert_eq!(told(&reach, 1, "2001:db8::1"), "[fd00::1]:5060");
        let both = Reach { external_v6: "2001:db8::7".parse().ok(), ..reach };
        assert_eq!(told(&both, 1, "2001:db8::1"), "[2001:db8::7]:15060");
        assert_eq!(told(&both, 1, "fd00::9"), "[fd00::1]:5060");
    }

    #[test]
    fn networks_that_are_set_are_the_only_local_ones_but_for_the_link() {
        let reach = Reach { local_networks: "10.0.0.0/24".parse().unwrap(), ..behind_router() };
        assert_eq!(told(&reach, 1, "10.0.0.9"), "10.0.0.2:5060");
        assert_eq!(told(&reach, 1, "10.0.1.9"), "203.0.113.7:15060");
        assert_eq!(told(&reach, 1, "127.0.0.1"), "10.0.0.2:5060");
        assert!(reach.is_local("fe80::1".parse().unwrap()));
    }

    #[test]
    fn a_phone_whose_addresses_are_not_where_it_came_from_is_behind_a_router() {
        let behind = |protocol, via, port, contact, received: &str| {
            behind_nat(protocol, (via, port), contact, received.parse().unwrap())
        };
        use Protocol::{Tcp, Udp};
        assert!(!behind(Udp, "192.0.2.9", Some(5062), Some("192.0.2.9"), "192.0.2.9:5062"));
        assert!(!behind(Udp, "192.0.2.9", None, None, "192.0.2.9:5060"));
        assert!(behind(Udp, "10.0.0.9", None, Some("10.0.0.9"), "192.0.2.9:5060"));
        assert!(behind(Udp, "192.0.2.9", None, Some("10.0.0.9"), "192.0.2.9:5060"));
        assert!(behind(Udp, "192.0.2.9", Some(5060), None, "192.0.2.9:61000"));
        assert!(!behind(Tcp, "192.0.2.9", Some(5060), Some("192.0.2.9"), "192.0.2.9:61000"));
        assert!(!behind(Udp, "[2001:db8::9]", None, Some("[2001:DB8::9]"), "[2001:db8::9]:5060"));
        assert!(!behind(Udp, "phone.example", Some(5), Some("phone.example"), "192.0.2.9:5060"));
        assert!(behind(Tcp, "df7jal23ls0d.INVALID", None, None, "192.0.2.9:61000"));
        assert!(!behind(Tcp, "é", None, Some(""), "192.0.2.9:61000"));
    }
}
