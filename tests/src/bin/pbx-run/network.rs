//! Which interfaces a try-out filters, and by which addresses phones reach this machine. Pure: of a snapshot.

use std::net::IpAddr;

use pbx::host::{
    Snapshot, Wanted, choose,
    links::{Kind, Link},
};

/// The kernel's number of the main routing table.
const TABLE_MAIN: u32 = 254;

/// The interfaces by which packets of the default route enter the machine; an error says why there is none.
pub(crate) fn default_interfaces(snapshot: &Snapshot) -> Result<Vec<String>, String> {
    let mut only_default = snapshot.clone();
    only_default.addresses.clear();
    only_default.routes.retain(|route| route.is_default() && route.table == TABLE_MAIN);
    if only_default.routes.is_empty() {
        return Err("this machine has no default route (--interface NAME names an interface)".to_owned());
    }
    let choice = choose(&only_default, &Wanted::Auto);
    if choice.attach.is_empty() {
        let carries = |index: u32| only_default.routes.iter().any(|route| route.interface == index);
        let why = choice.skip.iter().find(|skipped| carries(skipped.index));
        let why = why.map_or(String::new(), |skipped| format!(": {}, {}", skipped.name, skipped.reason));
        return Err(format!("no interface of the default route can be filtered{why}"));
    }
    Ok(choice.attach.into_iter().map(|named| named.name).collect())
}

/// The addresses of this machine that a phone can be told, the likeliest first: of the interface that was named, then
/// of the default route, IPv4 before IPv6. Never empty.
pub(crate) fn addresses(snapshot: &Snapshot, named: Option<&str>) -> Vec<IpAddr> {
    let is_default = |link: &Link| {
        snapshot
            .routes
            .iter()
            .any(|route| route.is_default() && route.table == TABLE_MAIN && route.interface == link.index)
    };
    let mut ranked: Vec<_> = snapshot
        .addresses
        .iter()
        .filter(|address| can_be_told(address.addr))
        .filter_map(|address| Some((snapshot.link(address.interface)?, address.addr)))
        .filter(|(link, _)| link.up && link.kind != Kind::Loopback)
        .map(|(link, addr)| ((named != Some(&link.name), !is_default(link), addr.is_ipv6(), link.index), addr))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut addresses: Vec<IpAddr> = ranked.into_iter().map(|(_, addr)| addr).collect();
    if addresses.is_empty() {
        addresses.push([127, 0, 0, 1].into());
    }
    addresses
}

/// A link-local address needs the name of the phone's own interface with it.
fn can_be_told(addr: IpAddr) -> bool {
    let link_local = match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    };
    !link_local && !addr.is_loopback() && !addr.is_multicast() && !addr.is_unspecified()
}

#[cfg(test)]
mod tests {
    use pbx::host::routes::{Address, Route};

    use super::*;

    fn link(index: u32, name: &str, kind: Kind, master: Option<u32>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind,
            up: true,
            running: true,
            mtu: 1500,
            ethernet: true,
            master,
            parent: None,
            rx_queues: 1,
            tx_queues: 1,
            xdp: None,
        }
    }

    fn address(interface: u32, cidr: &str) -> Address {
        let (addr, _) = cidr.split_once('/').unwrap();
        let network = pbx_core::address::Prefix::new(addr.parse().unwrap(), 24).unwrap();
        Address { interface, addr: addr.parse().unwrap(), network }
    }

    fn default_route(interface: u32, table: u32) -> Route {
        let everywhere = pbx_core::address::Prefix::new([0, 0, 0, 0].into(), 0).unwrap();
        Route { destination: everywhere, gateway: Some([192, 0, 2, 1].into()), interface, table }
    }

    /// A host with a card, a second network, and containers.
    fn host() -> Snapshot {
        Snapshot {
            links: vec![
                link(1, "lo", Kind::Loopback, None),
                link(2, "lan0", Kind::Physical, None),
                link(3, "eth0", Kind::Physical, None),
                link(4, "docker0", Kind::Bridge, None),
            ],
            addresses: vec![
                address(1, "127.0.0.1/8"),
                address(2, "10.0.0.1/24"),
                address(3, "2001:db8::5/64"),
                address(3, "fe80::1/64"),
                address(3, "192.0.2.5/24"),
                address(4, "172.17.0.1/24"),
            ],
            routes: vec![default_route(3, TABLE_MAIN), default_route(2, 100)],
            resolvers: Vec::new(),
        }
    }

    #[test]
    fn the_filter_goes_where_the_default_route_enters() {
        assert_eq!(default_interfaces(&host()).unwrap(), ["eth0"]);
        let mut bonded = host();
        bonded.links.push(link(5, "br0", Kind::Bridge, None));
        bonded.links[2].master = Some(5);
        bonded.routes = vec![default_route(5, TABLE_MAIN)];
        assert_eq!(default_interfaces(&bonded).unwrap(), ["eth0"], "below the bridge");
    }

    #[test]
    fn a_machine_where_nothing_can_be_filtered_is_told_why() {
        let mut alone = host();
        alone.routes.clear();
        assert!(default_interfaces(&alone).unwrap_err().contains("--interface"));
        let mut tunnel = host();
        tunnel.links[2].kind = Kind::Wireguard;
        let why = default_interfaces(&tunnel).unwrap_err();
        assert!(why.contains("eth0") && why.contains("tunnel"), "{why}");
    }

    #[test]
    fn a_phone_is_told_the_likeliest_address_first() {
        let told = |named| addresses(&host(), named).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(told(None), ["192.0.2.5", "2001:db8::5", "10.0.0.1", "172.17.0.1"]);
        assert_eq!(told(Some("lan0"))[0], "10.0.0.1");
        assert_eq!(addresses(&Snapshot::default(), None), [IpAddr::from([127, 0, 0, 1])]);
    }
}
