use super::*;
use proptest::prelude::*;

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn surroundings() -> Surroundings {
    let peer = |text, service: &str, port| Peer { addr: addr(text), service: service.to_owned(), port };
    Surroundings {
        own: vec![addr("10.0.0.5"), addr("2001:db8::5")],
        connected: vec!["10.0.0.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
        gateways: vec![addr("10.0.0.1")],
        resolvers: vec![addr("9.9.9.9"), addr("::ffff:10.0.0.53")],
        peers: vec![peer("203.0.113.7", "ssh", 22), peer("203.0.113.7", "ssh", 22), peer("203.0.113.9", "pbx", 8887)],
        ssh_ports: vec![22],
    }
}

fn judge(prefix: &str, forced: bool) -> Result<(), String> {
    check_block(&prefix.parse().unwrap(), &surroundings(), forced).map_err(|refusal| refusal.to_string())
}

#[test]
fn what_the_machine_lives_by_is_refused_whatever_is_forced() {
    for (prefix, says) in [
        ("10.0.0.5", "10.0.0.5 can't be blocked: it is 10.0.0.5, an address of this machine"),
        ("2001:db8::5", "2001:db8::5 can't be blocked: it is 2001:db8::5, an address of this machine"),
        ("10.0.0.1", "10.0.0.1 can't be blocked: it is 10.0.0.1, its gateway"),
        ("9.9.9.9", "9.9.9.9 can't be blocked: it is 9.9.9.9, its DNS server"),
        ("10.0.0.53", "10.0.0.53 can't be blocked: it is 10.0.0.53, its DNS server"),
        ("127.0.0.1", "127.0.0.1 can't be blocked: it is loopback, where the machine talks to itself"),
        ("::1", "::1 can't be blocked: it is loopback, where the machine talks to itself"),
        (
            "fe80::1",
            "fe80::1 can't be blocked: it is link-local addresses, from which routers and neighbour discovery speak",
        ),
        (
            "0.0.0.0/8",
            "0.0.0.0/8 can't be blocked: it covers the unspecified address, from which a host asks for its first address; block smaller ranges beside it",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.0/8 can't be blocked: it covers 10.0.0.5, an address of this machine; 10.0.0.1, its gateway; 10.0.0.53, its DNS server; block smaller ranges beside it",
        ),
        (
            "0.0.0.0/1",
            "0.0.0.0/1 can't be blocked: it covers 10.0.0.5, an address of this machine; 10.0.0.1, its gateway; 9.9.9.9, its DNS server; and 3 more; block smaller ranges beside it",
        ),
    ] {
        for forced in [false, true] {
            assert_eq!(judge(prefix, forced), Err(says.to_owned()));
        }
    }
    for prefix in [
        "127.0.0.0/8",
        "127.9.9.9",
        "169.254.169.254",
        "169.0.0.0/8",
        "fe80::/64",
        "8000::/1",
        "::",
        "0.0.0.0",
        "128.0.0.0/1",
        "::/8",
        "::/127",
    ] {
        let refusal = check_block(&prefix.parse().unwrap(), &surroundings(), true).expect_err(prefix);
        assert!(matches!(refusal, Refusal::Hard { .. }), "{prefix}");
    }
}

#[test]
fn established_connections_are_cut_only_when_forced() {
    assert_eq!(
        judge("203.0.113.0/24", false),
        Err("203.0.113.0/24 would cut established connections: 203.0.113.7 (ssh, port 22); \
             203.0.113.9 (pbx, port 8887); nothing was changed, --force blocks it all the same"
            .to_owned())
    );
    assert_eq!(judge("203.0.113.0/24", true), Ok(()));
}

#[test]
fn every_address_of_a_family_is_blocked_only_when_forced_and_then_although_it_covers_the_machine() {
    assert_eq!(
        judge("0.0.0.0/0", false),
        Err("0.0.0.0/0 is every IPv4 address, and blocking it would cut established connections: \
             203.0.113.7 (ssh, port 22); 203.0.113.9 (pbx, port 8887); nothing was changed, --force blocks it all the same"
            .to_owned())
    );
    assert_eq!(
        judge("::/0", false),
        Err("::/0 is every IPv6 address; nothing was changed, --force blocks it all the same".to_owned())
    );
    assert_eq!(judge("0.0.0.0/0", true), Ok(()));
    assert_eq!(judge("::/0", true), Ok(()));
}

#[test]
fn strangers_neighbours_and_multicast_may_be_blocked() {
    for prefix in [
        "198.51.100.1",
        "10.0.0.6",
        "10.0.0.128/25",
        "2001:db8::6",
        "224.0.0.0/4",
        "255.255.255.255",
        "ff00::/8",
        "2001:db8:1::/48",
    ] {
        assert_eq!(judge(prefix, false), Ok(()), "{prefix}");
    }
}

#[test]
fn mapped_addresses_in_the_surroundings_are_ipv4() {
    let mapped = Surroundings { own: vec![addr("::ffff:192.0.2.5")], ..Surroundings::default() };
    let refusal = check_block(&"192.0.2.5".parse().unwrap(), &mapped, true).unwrap_err();
    assert!(matches!(refusal, Refusal::Hard { covers, .. } if covers == [Vital::Own(addr("192.0.2.5"))]));
}

#[test]
fn of_a_list_the_hopeless_blocks_are_told_first_and_not_all() {
    let list: Vec<Prefix> =
        ["198.51.100.1", "203.0.113.7", "10.0.0.0/8", "::/0"].map(|text| text.parse().unwrap()).into();
    let prefixes = |forced| -> Vec<String> {
        check_blocks(&list, &surroundings(), forced)
            .iter()
            .map(|refusal| match refusal {
                Refusal::Hard { prefix, .. } => format!("hard {prefix}"),
                Refusal::NeedsForce { prefix, .. } => format!("soft {prefix}"),
            })
            .collect()
    };
    assert_eq!(prefixes(false), ["hard 10.0.0.0/8", "soft 203.0.113.7", "soft ::/0"]);
    assert_eq!(prefixes(true), ["hard 10.0.0.0/8"]);
    let many: Vec<Prefix> = (0..100).map(|n| Prefix::host(addr(&format!("127.0.0.{n}")))).collect();
    assert_eq!(check_blocks(&many, &surroundings(), true).len(), MAX_REPORTED);
}

proptest! {
    #[test]
    fn a_list_is_judged_as_its_parts_are(
        bits in prop::collection::vec((any::<u32>(), 0..=32_u8), 0..20),
        near in prop::collection::vec((0..=5_u32, 20..=32_u8), 0..20),
        forced: bool,
    ) {
        let near = near.into_iter().map(|(low, len)| (u32::from(Ipv4Addr::new(10, 0, 0, 0)) + low, len));
        let list: Vec<Prefix> =
            bits.into_iter().chain(near).map(|(bits, len)| Prefix::new(Ipv4Addr::from_bits(bits).into(), len).unwrap()).collect();
        let mut single: Vec<Refusal> =
            list.iter().filter_map(|prefix| check_block(prefix, &surroundings(), forced).err()).collect();
        single.sort_by_key(|refusal| matches!(refusal, Refusal::NeedsForce { .. }));
        single.truncate(MAX_REPORTED);
        prop_assert_eq!(check_blocks(&list, &surroundings(), forced), single);
    }
}
