//! Interfaces as rtnetlink tells of them. Part of a `Snapshot`. Knows what an interface is, not
//! whether it should be filtered (`choose`).

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use serde::Serialize;

use super::netlink::Netlink;

/// An interface of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The kernel's number for it; another one when it vanishes and returns.
    pub index: u32,
    /// Its name, as in `ip link`.
    pub name: String,
    /// What sort of interface it is.
    pub kind: Kind,
    /// Set up by the administrator (`ip link set … up`).
    pub up: bool,
    /// Able to carry packets now: up, and with a carrier.
    pub running: bool,
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Its frames have an Ethernet header; without one it is an L3 device.
    pub ethernet: bool,
    /// The bond, bridge or other interface that it is a port of.
    pub master: Option<u32>,
    /// The interface below it (of a VLAN, macvlan or ipvlan), if that is in this namespace.
    pub parent: Option<u32>,
    /// Receive queues that the kernel has allocated.
    pub rx_queues: u32,
    /// Transmit queues that the kernel has allocated.
    pub tx_queues: u32,
    /// The XDP program that it runs.
    pub xdp: Option<XdpProgram>,
}

/// What sort of interface it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ethernet with a driver of its own: a network card, real or of a virtual machine.
    Physical,
    /// One end of a pair, the other mostly in another namespace.
    Veth,
    /// A VLAN; `Link::parent` is what it is on.
    Vlan,
    /// Several ports used as one (`Snapshot::ports_of`).
    Bond,
    /// A switch in software (`Snapshot::ports_of`).
    Bridge,
    /// A tun or tap device: its packets come from a program.
    Tun,
    /// A WireGuard tunnel.
    Wireguard,
    /// A PPP link.
    Ppp,
    /// An interface that leads nowhere.
    Dummy,
    /// The loopback interface.
    Loopback,
    /// Any other, by the kernel's name for its kind.
    Other(String),
}

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct XdpProgram {
    /// As in `bpftool prog show id`; 0 when programs of several modes are attached.
    pub id: u32,
    /// Where it runs.
    pub mode: XdpMode,
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the kernel's stack, after the socket buffer is made.
    Generic,
    /// On the card.
    Hardware,
    /// In several of these at once.
    Several,
}

/// All interfaces of the namespace of `netlink`.
pub(super) fn read(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    let mut request = LinkMessage::default();
    let without_statistics = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    request.attributes.push(without_statistics);
    netlink.dump(&RouteNetlinkMessage::GetLink(request), |message, links| {
        if let RouteNetlinkMessage::NewLink(message) = message {
            links.push(link(message));
        }
    })
}

fn link(message: LinkMessage) -> Link {
    let LinkMessage { header, attributes, .. } = message;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        kind: Kind::Other(String::new()),
        up: header.flags.contains(LinkFlags::Up),
        running: header.flags.contains(LinkFlags::Up | LinkFlags::Running),
        mtu: 0,
        ethernet: matches!(header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        master: None,
        parent: None,
        rx_queues: 1,
        tx_queues: 1,
        xdp: None,
    };
    let mut info = None;
    let mut elsewhere = false;
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.parent = Some(index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::NumRxQueues(count) => link.rx_queues = count,
            LinkAttribute::NumTxQueues(count) => link.tx_queues = count,
            LinkAttribute::Xdp(facts) => link.xdp = program(&facts),
            LinkAttribute::LinkInfo(infos) => info = kind_info(infos),
            _ => {}
        }
    }
    link.kind = kind(info, header.link_layer_type);
    // A veth names its other end there, a device on nothing itself or 0.
    if elsewhere || link.kind == Kind::Veth || matches!(link.parent, Some(0)) {
        link.parent = None;
    }
    link.parent = link.parent.filter(|&parent| parent != link.index);
    link
}

fn kind_info(infos: Vec<LinkInfo>) -> Option<InfoKind> {
    infos.into_iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

fn kind(info: Option<InfoKind>, layer: LinkLayerType) -> Kind {
    match (info, layer) {
        (_, LinkLayerType::Loopback) => Kind::Loopback,
        (_, LinkLayerType::Ppp) => Kind::Ppp,
        (None, LinkLayerType::Ether) => Kind::Physical,
        (None, layer) => Kind::Other(layer.to_string().to_lowercase()),
        (Some(InfoKind::Veth), _) => Kind::Veth,
        (Some(InfoKind::Vlan), _) => Kind::Vlan,
        (Some(InfoKind::Bond), _) => Kind::Bond,
        (Some(InfoKind::Bridge), _) => Kind::Bridge,
        (Some(InfoKind::Tun), _) => Kind::Tun,
        (Some(InfoKind::Wireguard), _) => Kind::Wireguard,
        (Some(InfoKind::Dummy), _) => Kind::Dummy,
        (Some(other), _) => Kind::Other(other.to_string()),
    }
}

fn program(facts: &[LinkXdp]) -> Option<XdpProgram> {
    let mode = facts.iter().find_map(|fact| match fact {
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(XdpMode::Hardware),
        LinkXdp::Attached(XdpAttached::Multiple) => Some(XdpMode::Several),
        _ => None,
    })?;
    let id = facts.iter().find_map(|fact| match fact {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    Some(XdpProgram { id: id.unwrap_or(0), mode })
}

#[cfg(test)]
mod tests {
    use super::super::namespace::{in_new_namespace, ip};
    use super::super::snapshot::Snapshot;
    use super::*;

    #[test]
    fn the_kernels_interfaces_are_read_with_their_kinds_and_ports() {
        in_new_namespace(|| {
            ip("link add e0 mtu 9000 type veth peer name e1");
            ip("link add b0 type bridge");
            ip("link set e1 master b0");
            ip("link set e0 up");
            ip("tuntap add mode tun name t0");
            let now = Snapshot::read().unwrap();
            let kind = |name: &str| &now.link_named(name).unwrap().kind;
            assert_eq!(
                [kind("lo"), kind("e0"), kind("b0"), kind("t0")],
                [&Kind::Loopback, &Kind::Veth, &Kind::Bridge, &Kind::Tun]
            );
            let [e0, e1, b0] = ["e0", "e1", "b0"].map(|name| now.link_named(name).unwrap());
            assert_eq!((e0.mtu, e0.up, e0.running, e0.ethernet), (9000, true, false, true));
            assert_eq!((e0.parent, e0.master), (None, None), "the other end is no parent");
            assert_eq!(now.ports_of(b0.index).collect::<Vec<_>>(), [e1]);
        });
    }

    #[test]
    fn a_kind_follows_from_the_kernels_name_and_the_link_layer() {
        let table = [
            (None, LinkLayerType::Ether, Kind::Physical),
            (None, LinkLayerType::Loopback, Kind::Loopback),
            (None, LinkLayerType::Ppp, Kind::Ppp),
            (Some("ppp"), LinkLayerType::Ppp, Kind::Ppp),
            (Some("veth"), LinkLayerType::Ether, Kind::Veth),
            (Some("tun"), LinkLayerType::Ether, Kind::Tun),
            (Some("tun"), LinkLayerType::None, Kind::Tun),
            (Some("wireguard"), LinkLayerType::None, Kind::Wireguard),
            (Some("bond"), LinkLayerType::Ether, Kind::Bond),
            (Some("openvswitch"), LinkLayerType::Ether, Kind::Other("openvswitch".into())),
        ];
        for (info, layer, expected) in table {
            assert_eq!(kind(info.map(InfoKind::from), layer), expected, "{info:?} {layer:?}");
        }
    }

    #[test]
    fn an_interface_without_a_program_has_none() {
        assert_eq!(program(&[LinkXdp::Attached(XdpAttached::None)]), None);
        let native = [LinkXdp::Attached(XdpAttached::Driver), LinkXdp::ProgId(7)];
        assert_eq!(program(&native), Some(XdpProgram { id: 7, mode: XdpMode::Native }));
    }
}
