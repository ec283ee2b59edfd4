//! Addresses and routes as rtnetlink tells of them. Part of a `Snapshot`. Of the routes it keeps
//! the default ones and those to connected networks: a router's million others tell nothing here.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia};
use pbx_core::address::Prefix;
use serde::Serialize;

use super::netlink::Netlink;

/// The table of the machine's own addresses, RT_TABLE_LOCAL.
const TABLE_LOCAL: u32 = 255;

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The index of the interface that has it.
    pub interface: u32,
    /// The address itself.
    pub addr: IpAddr,
    /// The network that it puts on the link; of a point-to-point link the other end.
    pub network: Prefix,
}

/// One next hop of a route; a route over several is several of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Where it leads; the whole family for a default route.
    pub destination: Prefix,
    /// The router; none when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The index of the interface that it goes out by.
    pub interface: u32,
    /// The kernel's number of the routing table; 254 is the main one.
    pub table: u32,
}

impl Route {
    /// It leads everywhere.
    pub fn is_default(&self) -> bool {
        self.destination.len() == 0
    }
}

/// All addresses in the namespace of `netlink`.
pub(super) fn addresses(netlink: &mut Netlink) -> io::Result<Vec<Address>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink.dump(&request, |message, addresses| {
        if let RouteNetlinkMessage::NewAddress(message) = message {
            addresses.extend(address(&message));
        }
    })
}

/// The default and connected routes of both families, in all tables but the local one.
pub(super) fn routes(netlink: &mut Netlink) -> io::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        routes.extend(netlink.dump(&RouteNetlinkMessage::GetRoute(request), |message, kept| {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                kept.extend(hops(&message).filter(|r: &Route| r.is_default() || r.gateway.is_none()));
            }
        })?);
    }
    Ok(routes)
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut on_link = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Address(addr) => on_link = Some(*addr),
            _ => {}
        }
    }
    let on_link = on_link.or(local)?;
    Some(Address {
        interface: message.header.index,
        addr: local.unwrap_or(on_link),
        network: Prefix::new(on_link, message.header.prefix_len).ok()?,
    })
}

fn hops(message: &RouteMessage) -> impl Iterator<Item = Route> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let mut hops = vec![hop(&message.attributes, None)];
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => destination = (*addr).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(addr)) => destination = (*addr).into(),
            RouteAttribute::MultiPath(several) => {
                hops.extend(several.iter().map(|h| hop(&h.attributes, Some(h.interface_index))));
            }
            _ => {}
        }
    }
    let usable =
        header.kind == RouteType::Unicast && table != TABLE_LOCAL && !header.flags.contains(RouteFlags::Cloned);
    let destination = Prefix::new(destination, header.destination_prefix_length).ok();
    hops.into_iter().filter(move |_| usable).filter_map(move |(gateway, interface)| {
        Some(Route { destination: destination?, gateway, interface: interface?, table })
    })
}

/// The gateway and the interface among the attributes of a route or of one of its next hops.
fn hop(attributes: &[RouteAttribute], interface: Option<u32>) -> (Option<IpAddr>, Option<u32>) {
    let mut hop = (None, interface);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => hop.1 = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) | RouteAttribute::Via(RouteVia::Inet(addr)) => {
                hop.0 = Some((*addr).into())
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(addr)) | RouteAttribute::Via(RouteVia::Inet6(addr)) => {
                hop.0 = Some((*addr).into())
            }
            _ => {}
        }
    }
    hop
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> Vec<Route> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = 254;
        message.header.kind = kind;
        message.attributes = attributes;
        hops(&message).collect()
    }

    #[test]
    fn a_default_route_over_two_gateways_is_two_routes() {
        let hop = |index, last| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            let gateway = RouteAddress::Inet([192, 0, 2, last].into());
            hop.attributes = vec![RouteAttribute::Gateway(gateway)];
            hop
        };
        let found = route(RouteType::Unicast, vec![RouteAttribute::MultiPath(vec![hop(2, 1), hop(3, 254)])]);
        let found: Vec<_> = found.iter().map(|r| (r.interface, r.gateway)).collect();
        let expected = [(2, "192.0.2.1"), (3, "192.0.2.254")];
        assert_eq!(found, expected.map(|(i, addr)| (i, Some(addr.parse().unwrap()))));
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_gateway() {
        let via = RouteVia::Inet6("fe80::1".parse().unwrap());
        let found = route(RouteType::Unicast, vec![RouteAttribute::Oif(4), RouteAttribute::Via(via)]);
        assert_eq!(found[0].gateway, Some("fe80::1".parse().unwrap()));
        assert!(found[0].is_default());
    }

    #[test]
    fn a_route_that_leads_nowhere_and_the_local_table_are_left_out() {
        assert_eq!(route(RouteType::BlackHole, vec![RouteAttribute::Oif(4)]), []);
        let local = vec![RouteAttribute::Oif(4), RouteAttribute::Table(TABLE_LOCAL)];
        assert_eq!(route(RouteType::Unicast, local), []);
    }
}
