//! What a block could hurt on this machine, in the terms of the lock-out rules. Composes
//! `snapshot` and `connections`; judges nothing (`pbx_core::lockout` does).

use std::io;

use pbx_core::lockout::Surroundings;

use super::connections::{self, Connections};
use super::snapshot::Snapshot;

/// Reads the machine now. `own_ports` are the TCP ports on which the daemon listens. Blocks for
/// milliseconds; an error means that a block cannot be judged safely.
pub fn surroundings(own_ports: &[u16]) -> io::Result<Surroundings> {
    Ok(compose(&Snapshot::read()?, connections::connections(own_ports)?))
}

/// The same of a snapshot that is already there; each value once, in the snapshot's order.
pub fn compose(snapshot: &Snapshot, connections: Connections) -> Surroundings {
    let Connections { peers, ssh_ports } = connections;
    let on_link = snapshot.routes.iter().filter(|route| route.gateway.is_none());
    let on_link = on_link.filter(|route| !route.is_default()).map(|route| route.destination);
    let networks = snapshot.addresses.iter().map(|address| address.network).chain(on_link);
    let default_routes = snapshot.routes.iter().filter(|route| route.is_default());
    Surroundings {
        own: each_once(snapshot.addresses.iter().map(|address| address.addr)),
        connected: each_once(networks.filter(|network| !network.is_host())),
        gateways: each_once(default_routes.filter_map(|route| route.gateway)),
        resolvers: snapshot.resolvers.clone(),
        peers,
        ssh_ports,
    }
}

fn each_once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::namespace::{in_new_namespace, ip};
    use super::*;

    fn addresses<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
        texts.map(|text| text.parse().unwrap()).to_vec()
    }

    #[test]
    fn own_addresses_networks_and_gateways_are_told_once_each() {
        in_new_namespace(|| {
            ip("link add e0 type veth peer name e1");
            ip("link set e1 addrgenmode none up");
            ip("link set e0 addrgenmode none up");
            ip("addr add 192.0.2.2/24 dev e0");
            ip("addr add 192.0.2.3/24 dev e0");
            ip("addr add 198.51.100.1 peer 198.51.100.9/32 dev e0");
            ip("addr add 2001:db8::2/64 dev e0 nodad");
            ip("route add 10.9.0.0/16 dev e0");
            ip("route add blackhole 10.8.0.0/16");
            ip("route add default via 192.0.2.1");
            ip("route add default via 192.0.2.1 table 100");
            ip("-6 route add default via 2001:db8::1");
            let found = surroundings(&[]).unwrap();
            let own = addresses(["192.0.2.2", "198.51.100.1", "192.0.2.3", "2001:db8::2"]);
            assert!(own.iter().all(|addr| found.own.contains(addr)), "{found:?}");
            assert_eq!(found.own.len(), own.len());
            assert_eq!(found.gateways, addresses(["192.0.2.1", "2001:db8::1"]));
            let mut connected: Vec<_> = found.connected.iter().map(ToString::to_string).collect();
            connected.retain(|network| !network.starts_with("fe80") && !network.starts_with("ff00"));
            connected.sort();
            assert_eq!(connected, ["10.9.0.0/16", "192.0.2.0/24", "2001:db8::/64"]);
        });
    }
}
