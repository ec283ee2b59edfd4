//! Frames without which a network does not work: ARP, neighbour discovery, MLD, DHCP.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Frame, Mac, ethertype, protocol};

impl Frame {
    /// An ARP request for `target` (RFC 826).
    pub fn arp_request(sender: Mac, source: Ipv4Addr, target: Ipv4Addr) -> Self {
        let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
        body.extend(sender);
        body.extend(source.octets());
        body.extend([0; 6]);
        body.extend(target.octets());
        Self::other(ethertype::ARP, &body).link(sender, [0xff; 6])
    }

    /// A neighbour solicitation for `target` (RFC 4861 §4.3), to its solicited-node group.
    pub fn neighbour_solicitation(sender: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Self {
        let [.., a, b, c] = target.octets();
        let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
        let mut body = vec![0; 4];
        body.extend(target.octets());
        body.extend([1, 1]);
        body.extend(sender);
        Self::icmpv6(source, group, 135, &body).hop_limit(255).link(sender, [0x33, 0x33, 0xff, a, b, c])
    }

    /// A neighbour advertisement of `target`, solicited, to `destination` (RFC 4861 §4.4).
    pub fn neighbour_advertisement(sender: Mac, target: Ipv6Addr, destination: Ipv6Addr) -> Self {
        let mut body = vec![0x60, 0, 0, 0];
        body.extend(target.octets());
        body.extend([2, 1]);
        body.extend(sender);
        Self::icmpv6(target, destination, 136, &body).hop_limit(255)
    }

    /// An MLDv2 report (RFC 3810 §5.2) without records: hop limit 1, router alert, to ff02::16.
    pub fn mld_report(source: Ipv6Addr) -> Self {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
        Self::icmpv6(source, group, 143, &[0; 4])
            .extension(protocol::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
            .hop_limit(1)
            .link(super::SENDER, [0x33, 0x33, 0, 0, 0, 0x16])
    }

    /// The outline of a DHCP offer (RFC 2131 §2) from a server to the client's port 68.
    pub fn dhcp_offer(server: Ipv4Addr) -> Self {
        let mut message = vec![2, 1, 6, 0];
        message.resize(236, 0);
        message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 2, 255]);
        Self::udp((server, 67), (Ipv4Addr::BROADCAST, 68)).payload(&message).link(super::SENDER, [0xff; 6])
    }

    /// The outline of a DHCPv6 reply (RFC 8415 §8) to the client's port 546.
    pub fn dhcpv6_reply(server: Ipv6Addr, client: Ipv6Addr) -> Self {
        Self::udp((server, 547), (client, 546)).payload(&[7, 0, 0, 1])
    }
}
