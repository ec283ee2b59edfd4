//! Machines, and what is filtered on each.

use pbx_core::address::Prefix;

use super::super::routes::{Address, Route};
use super::*;

/// A machine in short: `name kind [on PARENT] [in MASTER] [default] [net ADDR/LEN] [to ADDR/LEN]…`, a line each.
fn machine(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let index_of = |name: &str| {
        let at = lines.iter().position(|line| line.split(' ').next() == Some(name));
        at.map(|at| at as u32 + 1)
    };
    for (index, line) in (1..).zip(&lines) {
        let mut words = line.split(' ');
        let name = words.next().unwrap().to_owned();
        let kind = kind(words.next().unwrap());
        let l3 = matches!(kind, Kind::Wireguard | Kind::Ppp) || kind == Kind::Other("l3".into());
        let mut link = Link {
            index,
            name,
            kind,
            up: true,
            running: true,
            mtu: 1500,
            ethernet: !l3,
            master: None,
            parent: None,
            rx_queues: 1,
            tx_queues: 1,
            xdp: None,
        };
        while let Some(word) = words.next() {
            match word {
                "on" => link.parent = index_of(words.next().unwrap()),
                "in" => link.master = index_of(words.next().unwrap()),
                "default" => snapshot.routes.push(default_route(index)),
                "to" => {
                    let destination = address(index, words.next().unwrap()).network;
                    let route = Route { destination, gateway: None, ..default_route(index) };
                    snapshot.routes.push(route);
                }
                "net" => snapshot.addresses.push(address(index, words.next().unwrap())),
                other => panic!("{other}"),
            }
        }
        snapshot.links.push(link);
    }
    snapshot
}

fn kind(word: &str) -> Kind {
    match word {
        "phys" => Kind::Physical,
        "veth" => Kind::Veth,
        "vlan" => Kind::Vlan,
        "bond" => Kind::Bond,
        "bridge" => Kind::Bridge,
        "tap" => Kind::Tun,
        "wg" => Kind::Wireguard,
        "ppp" => Kind::Ppp,
        "dummy" => Kind::Dummy,
        "lo" => Kind::Loopback,
        other => Kind::Other(other.to_owned()),
    }
}

fn default_route(interface: u32) -> Route {
    let destination = Prefix::new([0, 0, 0, 0].into(), 0).unwrap();
    Route { destination, gateway: Some([192, 0, 2, 1].into()), interface, table: 254 }
}

fn address(interface: u32, text: &str) -> Address {
    let (addr, len) = text.split_once('/').unwrap();
    let addr = addr.parse().unwrap();
    Address { interface, addr, network: Prefix::new(addr, len.parse().unwrap()).unwrap() }
}

fn names(named: &[Named]) -> Vec<&str> {
    named.iter().map(|named| named.name.as_str()).collect()
}

fn reason<'a>(named: &'a [Named], name: &str) -> &'a str {
    &named.iter().find(|named| named.name == name).unwrap().reason
}

#[track_caller]
fn automatic(text: &str, expected: &[&str]) {
    let choice = choose(&machine(text), &Wanted::Auto);
    assert_eq!(names(&choice.attach), expected, "{choice:#?}");
}

#[test]
fn the_interfaces_of_the_default_route_and_of_connected_networks_are_filtered() {
    automatic(
        "lo lo net 127.0.0.1/8
         eth0 phys default net 192.0.2.2/24
         eth1 phys net 10.0.0.1/24
         eth2 phys
         eth3 phys net fe80::1/64
         eth4 phys net 169.254.1.1/16 to fe80::/64 to ff00::/8 to 169.254.0.0/16
         eth5 phys to 10.5.0.0/16",
        &["eth0", "eth1", "eth5"],
    );
}

#[test]
fn a_vlan_is_filtered_on_the_interface_below_it() {
    automatic("eth0 phys\neth0.10 vlan on eth0 default net 192.0.2.2/24", &["eth0"]);
    automatic(
        "eth0 phys in bond0\neth1 phys in bond0\nbond0 bond\nv bridge\nbond0.5 vlan on bond0 in v\n\
         v.7 vlan on v default",
        &["bond0"],
    );
}

#[test]
fn a_vlan_whose_parent_is_in_another_namespace_is_filtered_itself() {
    automatic("eth0.10 vlan default", &["eth0.10"]);
}

#[test]
fn a_bond_is_filtered_itself_and_not_its_ports() {
    automatic("eth0 phys in bond0\neth1 phys in bond0\nbond0 bond default", &["bond0"]);
}

#[test]
fn a_bridge_is_filtered_on_its_ports_that_face_the_outside() {
    automatic(
        "eth0 phys in br0
         br0 bridge default net 192.0.2.2/24
         tap0 tap in br0
         veth0 veth in br0
         eth1 phys in br0",
        &["eth0", "eth1"],
    );
}

#[test]
fn internal_bridges_and_the_ends_of_containers_are_not_filtered() {
    automatic(
        "eth0 phys default net 192.0.2.2/24
         docker0 bridge net 172.17.0.1/16
         veth1 veth in docker0
         virbr0 bridge net 192.168.122.1/24
         vnet0 tap in virbr0
         cali1 veth net 169.254.1.1/32
         lxd1 veth net 10.9.0.1/30
         dummy0 dummy net 10.8.0.1/32",
        &["eth0"],
    );
}

#[test]
fn tunnels_and_loopback_are_never_filtered() {
    let tunnels = "lo lo default net 192.0.2.7/32
         wg0 wg default net 10.1.0.1/24
         ppp0 ppp default net 10.2.0.1/32
         tap0 tap net 10.3.0.1/24
         sit0 l3 net 2001:db8::1/64
         eth0 phys";
    automatic(tunnels, &[]);
    let all = ["lo", "wg0", "ppp0", "sit0", "tap0"].map(String::from);
    let choice = choose(&machine(tunnels), &Wanted::List(all.to_vec()));
    assert_eq!(names(&choice.attach), ["tap0"], "a tap by its name: a person knows better");
}

#[test]
fn in_a_container_a_veth_is_the_way_out() {
    automatic("lo lo\neth0 veth default net 172.17.0.2/16", &["eth0"]);
    automatic("lo lo\neth0 veth net 172.17.0.2/16\neth1 veth net 10.0.0.2/24", &["eth0", "eth1"]);
    automatic("lo lo\neth0 veth", &["eth0"]);
    automatic("lo lo\neth0 veth\neth1 veth", &[]);
    automatic("lo lo\nbr0 bridge net 10.0.0.1/24\nup0 veth in br0", &["up0"]);
}

#[test]
fn a_macvlan_is_covered_by_the_filtered_interface_below_it() {
    automatic("eth0 phys default\nmv0 macvlan on eth0 net 10.0.0.5/24", &["eth0"]);
    automatic("mv0 macvlan default net 10.0.0.5/24", &["mv0"]);
}

#[test]
fn a_configured_list_is_followed_and_what_is_missing_is_told() {
    let there = machine("eth0 phys default\neth1 phys\nbr0 bridge\neth0.5 vlan on eth0");
    let names_wanted = ["eth1", "eth7", "eth0", "eth7", "eth0.5"].map(String::from);
    let choice = choose(&there, &Wanted::List(names_wanted.to_vec()));
    assert_eq!(names(&choice.attach), ["eth0", "eth1"]);
    assert_eq!(choice.missing, ["eth7"]);
    assert_eq!(reason(&choice.skip, "br0"), "the configuration does not name it");
    assert!(reason(&choice.skip, "eth0.5").contains("filtered already"));
}

#[test]
fn a_bond_named_together_with_one_of_its_two_ports_stays() {
    let there = machine("eth0 phys in bond0\neth1 phys in bond0\nbond0 bond default");
    let names_wanted = ["eth0", "bond0"].map(String::from);
    let choice = choose(&there, &Wanted::List(names_wanted.to_vec()));
    assert_eq!(names(&choice.attach), ["eth0", "bond0"], "eth1 would be open otherwise");
}

#[test]
fn a_reason_names_the_interface_above() {
    let choice = choose(&machine("eth0 phys\neth0.9 vlan on eth0 default"), &Wanted::Auto);
    let expected = "it is below eth0.9, which carries the default route";
    assert_eq!(reason(&choice.attach, "eth0"), expected);
    assert_eq!(reason(&choice.skip, "eth0.9"), "the interfaces below it are filtered");
}

#[test]
fn every_interface_is_either_filtered_or_explained() {
    let there =
        machine("lo lo\neth0 phys in br0\nbr0 bridge default\nwg0 wg\nd bridge\na vlan on b\nb vlan on a default");
    let choice = choose(&there, &Wanted::Auto);
    assert_eq!(choice.attach.len() + choice.skip.len(), there.links.len(), "{choice:#?}");
}
