use super::*;
use proptest::prelude::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_way_to_type_a_range_is_understood() {
    for (text, means) in [
        ("103.224.182.210", "103.224.182.210"),
        ("  103.224.182.210\t", "103.224.182.210"),
        ("103.224.182.210/32", "103.224.182.210"),
        ("41.202.0.0/16", "41.202.0.0/16"),
        ("41.202.0.0 255.255.0.0", "41.202.0.0/16"),
        ("41.202.0.0 \t 255.255.0.0", "41.202.0.0/16"),
        ("41.202.0.0/255.255.0.0", "41.202.0.0/16"),
        ("10.0.0.1 255.255.255.255", "10.0.0.1"),
        ("0.0.0.0 0.0.0.0", "0.0.0.0/0"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8:0:0::/64", "2001:db8::/64"),
        ("::1/128", "::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ] {
        let typed = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(typed.prefix.to_string(), means, "{text}");
        assert!(!typed.host_bits_cleared, "{text}");
    }
}

#[test]
fn host_bits_are_cleared_and_said_so() {
    for (text, means) in [
        ("10.0.0.5/24", "10.0.0.0/24"),
        ("10.0.0.5 255.255.255.0", "10.0.0.0/24"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
    ] {
        let typed = parse(text).unwrap();
        assert_eq!((typed.prefix, typed.host_bits_cleared), (prefix(means), true), "{text}");
        let error = text.parse::<Prefix>().unwrap_err().to_string();
        assert_eq!(error, format!("{text} has bits set behind its length: write {means}"));
    }
}

#[test]
fn bad_input_is_refused_with_what_is_wrong_and_what_to_write() {
    for (text, says) in [
        ("103.224.182.210.0", "103.224.182.210.0 has five numbers where an IPv4 address has four"),
        ("10.0.0", "10.0.0 has three numbers where an IPv4 address has four"),
        ("10.0.0/24", "10.0.0 has three numbers where an IPv4 address has four"),
        ("1.2.3.4.5.6.7", "1.2.3.4.5.6.7 has 7 numbers where an IPv4 address has four"),
        ("10.0.0.300", "300 in 10.0.0.300 is too large: each number of an IPv4 address is 0 to 255"),
        (
            "10.0.0.99999999999999999999",
            "99999999999999999999 in 10.0.0.99999999999999999999 is too large: each number of an IPv4 address is 0 to 255",
        ),
        ("010.0.0.1", "010 in 010.0.0.1 could be decimal or octal: write it without leading zeros"),
        ("10.0.0.00", "00 in 10.0.0.00 could be decimal or octal: write it without leading zeros"),
        ("10.0.0.1/33", "/33 is not a length of an IPv4 range: it is 0 to 32"),
        ("10.0.0.1/-1", "/-1 is not a length of an IPv4 range: it is 0 to 32"),
        ("10.0.0.1/+8", "/+8 is not a length of an IPv4 range: it is 0 to 32"),
        ("10.0.0.1/08", "/08 is not a length of an IPv4 range: it is 0 to 32"),
        ("10.0.0.1/", "/ is not a length of an IPv4 range: it is 0 to 32"),
        ("10.0.0.1/8/8", "/8/8 is not a length of an IPv4 range: it is 0 to 32"),
        ("10.0.0.1/256", "/256 is not a length of an IPv4 range: it is 0 to 32"),
        ("::1/129", "/129 is not a length of an IPv6 range: it is 0 to 128"),
        ("10.0.0.0 255.0.255.0", "255.0.255.0 is not a mask: its one bits have to come first, as in 255.255.0.0"),
        ("10.0.0.0/255.0.255.0", "255.0.255.0 is not a mask: its one bits have to come first, as in 255.255.0.0"),
        ("10.0.0.0 255.255.255", "255.255.255 is not a mask: its one bits have to come first, as in 255.255.0.0"),
        ("10.0.0.0 24", "24 is not a mask: its one bits have to come first, as in 255.255.0.0"),
        ("10.0.0.0 0.0.0.255", "0.0.0.255 is a wildcard, not a mask: write 255.255.255.0"),
        (
            "2001:db8:: 255.255.0.0",
            "an IPv6 range has a length, not a mask: write 2001:db8::/64 instead of 255.255.0.0",
        ),
        ("10.0.0.1 255.255.255.0 x", "\"x\" is one word too many in \"10.0.0.1 255.255.255.0 x\""),
        ("10.0.0.0/8 255.0.0.0", "\"255.0.0.0\" is one word too many in \"10.0.0.0/8 255.0.0.0\""),
        ("fe80::1%eth0", "fe80::1%eth0 names an interface (eth0): rules know none, write the address without %eth0"),
        ("", "an address is missing: write one as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64"),
        (" \t\r\n", "an address is missing: write one as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64"),
        (&"x".repeat(200), "200 bytes are too many for an address (at most 100)"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), says);
    }
}

#[test]
fn what_no_rule_above_explains_is_no_address() {
    for text in [
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "localhost",
        "example.org",
        "1.2.3.",
        ".1.2.3",
        "1..2.3",
        ".",
        "/24",
        "[::1]",
        "10.0.0.1:5060",
        "10.0.0.0 / 8",
        "10.0.0.1-10.0.0.9",
        "10.0.0.*",
        "2001:db8:::1",
        "1:2:3:4:5:6:7:8:9",
        "12345::",
        "::ffff:1.2.3.256",
        "::ffff:010.2.3.4",
        "１０.0.0.1",
        "10.0.0.1\u{0}",
        "-1.0.0.0",
        "\u{202e}10.0.0.1",
        "::g",
    ] {
        let error = parse(text).expect_err(text);
        assert!(!error.to_string().is_empty());
        assert!(!matches!(error, AddressError::Empty), "{text}");
    }
    assert_eq!(
        parse("0x7f.1").unwrap_err().to_string(),
        "\"0x7f.1\" is not an address: write it as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64"
    );
}

#[test]
fn an_error_never_repeats_control_characters_raw() {
    for text in ["\x1b[31mred", "10.0.0.1/\x1b[31m", "10.0.0.0 \x1b[31m", "a%\x1b[31m", "10.0.0.1\u{0}"] {
        let error = parse(text).expect_err(text).to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn where_one_address_is_asked_for_a_range_is_refused() {
    assert_eq!(parse_host("192.0.2.1"), Ok("192.0.2.1".parse().unwrap()));
    assert_eq!(parse_host("::ffff:192.0.2.1"), Ok("192.0.2.1".parse().unwrap()));
    assert_eq!(parse_host("192.0.2.1/24").unwrap_err().to_string(), "192.0.2.1/24 is a range: give one address");
}

#[test]
fn a_range_knows_its_ends_and_its_size() {
    for (text, first, last, count) in [
        ("41.202.0.0/16", "41.202.0.0", "41.202.255.255", 65_536),
        ("192.0.2.1", "192.0.2.1", "192.0.2.1", 1),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255", 1 << 32),
        ("2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", 1 << 64),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", u128::MAX),
        ("::/1", "::", "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1 << 127),
    ] {
        let prefix = prefix(text);
        assert_eq!((prefix.first().to_string(), prefix.last().to_string()), (first.to_owned(), last.to_owned()));
        assert_eq!(prefix.count(), count, "{text}");
        assert_eq!(prefix.is_everything(), text.ends_with("/0"));
    }
    assert_eq!(prefix("41.202.0.0/16").mask(), Some("255.255.0.0".parse().unwrap()));
    assert_eq!(prefix("::/64").mask(), None);
}

#[test]
fn the_families_are_kept_apart_and_mapped_addresses_are_ipv4() {
    let everything = prefix("0.0.0.0/0");
    assert!(everything.contains("::ffff:192.0.2.1".parse().unwrap()));
    assert!(!everything.contains("::1".parse().unwrap()));
    assert!(!prefix("::/0").contains("192.0.2.1".parse().unwrap()));
    assert!(!prefix("::/0").overlaps(&everything));
    assert!(Prefix::host("::ffff:192.0.2.1".parse().unwrap()).is_ipv4());
    assert!(!Prefix::new("::ffff:192.0.2.1".parse().unwrap(), 95).unwrap().is_ipv4());
}

#[test]
fn it_is_a_string_in_json() {
    let range = prefix("2001:db8::/64");
    let json = serde_json::to_string(&range).unwrap();
    assert_eq!(json, "\"2001:db8::/64\"");
    assert_eq!(serde_json::from_str::<Prefix>(&json).unwrap(), range);
    let error = serde_json::from_str::<Prefix>("\"10.0.0.1/24\"").unwrap_err().to_string();
    assert!(error.starts_with("10.0.0.1/24 has bits set behind its length: write 10.0.0.0/24"), "{error}");
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(bits, len)| (IpAddr::from(Ipv4Addr::from_bits(bits)), len));
    let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(bits, len)| (IpAddr::from(Ipv6Addr::from_bits(bits)), len));
    prop_oneof![v4, v6].prop_map(|(addr, len)| Prefix::new(addr, len).unwrap())
}

proptest! {
    #[test]
    fn a_printed_prefix_is_read_back(prefix in any_prefix()) {
        prop_assert_eq!(parse(&prefix.to_string()), Ok(Typed { prefix, host_bits_cleared: false }));
    }

    #[test]
    fn a_typed_mask_means_what_the_length_means(addr: u32, len in 0..=32_u8) {
        let (addr, mask) = (Ipv4Addr::from_bits(addr), Ipv4Addr::from_bits(mask_v4(len)));
        let cidr = parse(&format!("{addr}/{len}"));
        prop_assert_eq!(&parse(&format!("{addr} {mask}")), &cidr);
        prop_assert_eq!(&parse(&format!("{addr}/{mask}")), &cidr);
        prop_assert_eq!(cidr.unwrap().prefix.mask(), Some(mask));
    }

    #[test]
    fn any_other_mask_is_refused(addr: u32, mask: u32) {
        prop_assume!(mask.leading_ones() + mask.trailing_zeros() < 32);
        let text = format!("{} {}", Ipv4Addr::from_bits(addr), Ipv4Addr::from_bits(mask));
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,120}|[0-9a-f:./% ]{0,60}|\\PC{0,9}[/ ]\\PC{0,9}") {
        if let Ok(typed) = parse(&text) {
            prop_assert_eq!(parse(&typed.prefix.to_string()).unwrap().prefix, typed.prefix);
        }
    }

    #[test]
    fn a_range_contains_exactly_what_is_between_its_ends(prefix in any_prefix(), addr: u128) {
        let addr = if prefix.is_ipv4() { IpAddr::from(Ipv4Addr::from_bits(addr as u32)) } else { Ipv6Addr::from_bits(addr).into() };
        let between = prefix.first() <= addr.to_canonical() && addr.to_canonical() <= prefix.last();
        prop_assert_eq!(prefix.contains(addr), between);
        prop_assert!(prefix.contains(prefix.first()) && prefix.contains(prefix.last()));
    }

    #[test]
    fn ranges_overlap_when_one_covers_an_end_of_the_other(one in any_prefix(), len in 0..=128_u8) {
        let other = Prefix::new(one.last(), len.min(max_len(one.addr()))).unwrap();
        prop_assert!(one.overlaps(&other) && other.overlaps(&one));
        prop_assert_eq!(one.covers(&other), one.len() <= other.len());
        prop_assert_eq!(one.covers(&other), one.contains(other.first()) && one.contains(other.last()));
    }
}
