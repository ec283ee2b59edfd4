//! What a network cannot do without passes before everything else; so do the appliance's own addresses.

use pbx_ebpf::abi::stats::Reason::*;
use pbx_tests::frames::{Frame, SENDER, ethertype, protocol};

use super::{Given::*, Row, allow, block, row, row_of, run};

const EVERYTHING: [super::Given; 2] =
    [super::Rule(pbx_core::rule::Action::Block, "0.0.0.0/0"), super::Rule(pbx_core::rule::Action::Block, "::/0")];

fn solicitation(source: &str) -> Frame {
    Frame::neighbour_solicitation(SENDER, source.parse().unwrap(), "2001:db8::1".parse().unwrap())
}

fn icmp(kind: u8, source: &str, hops: u8) -> Frame {
    Frame::icmpv6(source, "ff02::1", kind, &[0; 20]).hop_limit(hops)
}

#[test]
fn essential_traffic_passes_although_everything_is_blocked() {
    let sip = || Frame::udp("192.0.2.1:5060", "192.0.2.2:5060");
    let sip6 = || Frame::udp("[2001:db8::9]:5060", "[2001:db8::2]:5060");
    let arp = Frame::arp_request(SENDER, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let rows = vec![
        row("ARP", &arp, NotIp),
        row("ARP in a VLAN", &arp.clone().vlan(7), NotIp),
        row("ARP in two VLANs", &arp.clone().tag(ethertype::QINQ, 7).vlan(8), NotIp),
        row("an unknown ethertype", &Frame::other(0x88cc, &[1; 46]), NotIp),
        row("an IEEE 802.3 length", &Frame::other(46, &[1; 46]), NotIp),
        row_of("an ethernet header and nothing else", Frame::other(0x88cc, &[]).build(), NotIp),
        row("no tag", &sip(), Manual),
        row("one tag", &sip().vlan(5), Manual),
        row("one 802.1ad tag", &sip().tag(ethertype::QINQ, 5), Manual),
        row("two tags", &sip().tag(ethertype::QINQ, 5).vlan(6), Manual),
        row("two 802.1Q tags", &sip().vlan(5).vlan(6), Manual),
        row("two tags, the outer of the old kind", &sip().tag(0x9100, 5).vlan(6), Manual),
        row("three tags", &sip().tag(ethertype::QINQ, 5).vlan(6).vlan(7), ManyTags),
        row("no tag, IPv6", &sip6(), Manual),
        row("one tag, IPv6", &sip6().vlan(5), Manual),
        row("two tags, IPv6", &sip6().tag(ethertype::QINQ, 5).vlan(6), Manual),
        row("three tags, IPv6", &sip6().vlan(5).vlan(6).vlan(7), ManyTags),
        row("a neighbour solicitation", &solicitation("2001:db8::9"), NeighbourDiscovery),
        row("duplicate address detection", &solicitation("::"), NeighbourDiscovery),
        row("a neighbour solicitation in a VLAN", &solicitation("2001:db8::9").vlan(3), NeighbourDiscovery),
        row("a routed neighbour solicitation", &solicitation("2001:db8::9").hop_limit(254), Manual),
        row(
            "MLD from link-local, with router alert",
            &Frame::mld_report("fe80::1".parse().unwrap()),
            MulticastListener,
        ),
        row("MLD from ::", &Frame::mld_report("::".parse().unwrap()), MulticastListener),
        row("MLD from a global address", &Frame::mld_report("2001:db8::9".parse().unwrap()), Manual),
        row("the last of fe80::/10", &Frame::mld_report("febf:ffff::1".parse().unwrap()), MulticastListener),
        row("the first behind fe80::/10", &Frame::mld_report("fec0::1".parse().unwrap()), Manual),
        row("an echo request", &icmp(128, "fe80::1", 255), Manual),
        row("ICMPv6 132 with hop limit 255 is MLD, not discovery", &icmp(132, "2001:db8::9", 255), Manual),
        row("ICMPv6 138", &icmp(138, "fe80::1", 255), Manual),
        row("a DHCP offer", &Frame::dhcp_offer("192.0.2.1".parse().unwrap()), Dhcp),
        row("a DHCP offer in a VLAN", &Frame::dhcp_offer("192.0.2.1".parse().unwrap()).vlan(9), Dhcp),
        row("DHCP by TCP is none", &Frame::tcp("192.0.2.1:67", "192.0.2.2:68", 2), Manual),
        row("UDP from 68", &Frame::udp("192.0.2.1:68", "192.0.2.2:67"), Manual),
        row("DHCPv6 from link-local", &Frame::udp("[fe80::1]:547", "[fe80::2]:546"), Dhcp),
        row("DHCPv6 from a global address", &Frame::udp("[2001:db8::9]:547", "[2001:db8::2]:546"), Manual),
        row("UDP to 68 over IPv6", &Frame::udp("[fe80::1]:67", "[fe80::2]:68"), Manual),
        row("UDP to 546 over IPv4", &Frame::udp("192.0.2.1:547", "192.0.2.2:546"), Manual),
        row("ICMPv6 in IPv4 is unknown", &Frame::ip("192.0.2.1", "192.0.2.2", protocol::ICMPV6, &[135; 24]), Manual),
    ];
    let discovery = [133, 134, 135, 136, 137].into_iter().flat_map(|kind| {
        [
            row("neighbour discovery with hop limit 255", &icmp(kind, "2001:db8::9", 255), NeighbourDiscovery),
            row("neighbour discovery with hop limit 254", &icmp(kind, "2001:db8::9", 254), Manual),
            row("neighbour discovery with hop limit 0", &icmp(kind, "fe80::9", 0), Manual),
        ]
    });
    let listener = [130, 131, 132, 143].into_iter().flat_map(|kind| {
        [
            row("MLD from link-local", &icmp(kind, "fe80::9", 1), MulticastListener),
            row("MLD from ::", &icmp(kind, "::", 1), MulticastListener),
            row("MLD from elsewhere", &icmp(kind, "2001:db8::9", 1), Manual),
        ]
    });
    let rows: Vec<Row> = rows.into_iter().chain(discovery).chain(listener).map(|r| r.given(EVERYTHING)).collect();
    run(rows);
}

#[test]
fn own_addresses_pass_before_every_rule() {
    let from4 = || Frame::udp("192.0.2.50:9", "192.0.2.2:5060");
    let from6 = || Frame::udp("[2001:db8::50]:9", "[2001:db8::2]:5060");
    run(vec![
        row("an own IPv4 address", &from4(), Own).given([Appliance("192.0.2.50")]),
        row("an own IPv4 address, blocked", &from4(), Own).given([block("192.0.2.50"), Appliance("192.0.2.50")]),
        row("an own IPv4 address, blocked later", &from4(), Own).given([Appliance("192.0.2.50"), block("192.0.2.50")]),
        row("an own IPv4 address in a blocked range", &from4(), Own)
            .given([block("192.0.2.0/24"), Appliance("192.0.2.50")]),
        row("an own IPv4 address in a blocked short range", &from4(), Own)
            .given([Appliance("192.0.2.50"), block("192.0.2.48/28")]),
        row("an own IPv4 address with both rules", &from4(), Own).given([
            block("192.0.2.50"),
            allow("192.0.2.50"),
            Appliance("192.0.2.50"),
        ]),
        row("an own IPv6 address", &from6(), Own).given([Appliance("2001:db8::50")]),
        row("an own IPv6 address, blocked", &from6(), Own).given([block("2001:db8::50"), Appliance("2001:db8::50")]),
        row("an own IPv6 address in a blocked /64", &from6(), Own)
            .given([block("2001:db8::/64"), Appliance("2001:db8::50")]),
        row("an own IPv6 address under ::/0", &from6(), Own).given([Appliance("2001:db8::50"), block("::/0")]),
        row("the neighbour of an own IPv4 address", &Frame::udp("192.0.2.51:9", "192.0.2.2:9"), Passed)
            .given([Appliance("192.0.2.50")]),
        row("the neighbour of an own IPv6 address", &Frame::udp("[2001:db8::51]:9", "[2001:db8::2]:9"), Passed)
            .given([Appliance("2001:db8::50")]),
        row("an address that is not own any more", &from4(), Manual).given([
            Appliance("192.0.2.50"),
            block("192.0.2.50"),
            Appliance("192.0.2.60"),
        ]),
        row("an IPv6 address that is not own any more", &from6(), Manual).given([
            Appliance("2001:db8::50"),
            block("2001:db8::50"),
            Appliance("192.0.2.60"),
        ]),
        row("a malformed frame of an own address", &from4().claimed_length(4000), Malformed)
            .given([Appliance("192.0.2.50")]),
    ]);
}
