use std::net::IpAddr;

use super::*;
use crate::{address::Prefix, lockout::Surroundings};

fn texts(list: &List) -> Vec<String> {
    list.entries.iter().map(|entry| entry.prefix.to_string()).collect()
}

fn refused(text: &[u8]) -> String {
    parse(text, 1000).unwrap_err().to_string()
}

fn range(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn one_entry_a_line_with_comments_blank_lines_and_any_line_ends() {
    let text =
        "\u{feff}; a list\r\n\r\n192.0.2.0/24 ; SBL1\r\n198.51.100.7\t# scans\n\n2001:db8::/32\n  203.0.113.9  \n";
    let list = parse(text.as_bytes(), 4).unwrap();
    assert_eq!(texts(&list), ["192.0.2.0/24", "198.51.100.7", "203.0.113.9", "2001:db8::/32"]);
    assert_eq!((list.entries[0].line, list.entries[0].comment.as_str()), (3, "SBL1"));
    assert_eq!(list.entries[1].comment, "scans");
}

#[test]
fn host_bits_are_cleared_and_repetitions_are_counted() {
    let list = parse(b"192.0.2.77/24\n192.0.2.0/24\n198.51.100.1\n198.51.100.1/32\n", 10).unwrap();
    assert_eq!(texts(&list), ["192.0.2.0/24", "198.51.100.1"]);
    assert_eq!((list.cleared, list.repeated), (1, 2));
}

#[test]
fn a_text_with_a_line_that_means_nothing_is_refused_without_repeating_it() {
    assert_eq!(refused(b"192.0.2.1\nroot:secret:0:0\n"), "is no list: line 2 is neither an address nor a range");
    assert!(refused(b"# x\n192.0.2.300\n").starts_with("is no list: line 2 "));
    assert!(refused(b"192.0.2.1 192.0.2.2\n").starts_with("is no list: line 1 "));
    let long = format!("192.0.2.1 # {}", "x".repeat(LONGEST_LINE));
    assert_eq!(refused(long.as_bytes()), "is no list: line 1 has more than 128 bytes");
    let comment = format!("# {}\n192.0.2.1\n", "x".repeat(LONGEST_LINE));
    assert_eq!(parse(comment.as_bytes(), 1).unwrap().entries.len(), 1);
}

#[test]
fn what_is_not_text_is_refused() {
    assert_eq!(refused(b"192.0.2.1\n\xff\xfe\n"), "is not text: line 2 has bytes that no list has");
    assert_eq!(refused(b"192.0.2.1\n192.0.2.2\0\n"), "is not text: line 2 has bytes that no list has");
    assert!(refused(b"\x1f\x8b\x08\0\0").contains("gzip"));
    assert_eq!(refused(b" \n<!DOCTYPE html>\n"), "is a web page and not a list");
    assert!(refused(b" \n\n").starts_with("is empty"));
    assert_eq!(parse(b"# nobody today\n", 10).unwrap(), List::default());
}

#[test]
fn a_list_with_everything_or_with_a_range_that_is_too_wide_is_refused() {
    for wide in ["0.0.0.0/0", "::/0", "192.0.0.0/7", "2000::/15", "0.0.0.0 0.0.0.0"] {
        let error = refused(format!("198.51.100.1\n{wide}\n").as_bytes());
        assert!(error.starts_with("line 2 would block "), "{error}");
    }
    assert_eq!(parse(b"11.0.0.0/8\n2a00::/16\n", 2).unwrap().entries.len(), 2);
}

#[test]
fn one_entry_more_than_it_may_have_is_refused() {
    let text = b"192.0.2.1\n192.0.2.2\n192.0.2.3\n";
    assert_eq!(parse(text, 3).unwrap().entries.len(), 3);
    assert_eq!(parse(text, 2), Err(FeedError::TooMany { most: 2 }));
    assert_eq!(parse(&vec![b'#'; LARGEST + 1], 2), Err(FeedError::Large));
}

#[test]
fn a_list_with_an_address_of_the_machine_is_refused_and_the_line_named() {
    let surroundings = Surroundings {
        own: vec!["192.0.2.5".parse().unwrap()],
        gateways: vec!["192.0.2.254".parse().unwrap()],
        ..Surroundings::default()
    };
    let check =
        |text: &str| parse(text.as_bytes(), 10).unwrap().check(&surroundings).map_err(|error| error.to_string());
    assert_eq!(check("198.51.100.0/24\n"), Ok(()));
    let own = check("198.51.100.0/24\n192.0.2.0/25\n").unwrap_err();
    assert!(own.starts_with("line 2: 192.0.2.0/25 can't be blocked: it covers 192.0.2.5, an address of this"), "{own}");
    assert!(check("127.0.0.1\n").unwrap_err().contains("loopback"));
    assert!(check("192.0.2.254\n").unwrap_err().contains("gateway"));
    assert!(check("::1\n").unwrap_err().contains("loopback"));
}

#[test]
fn lines_over_somebody_legitimate_are_left_out_and_say_whom() {
    let phone: IpAddr = "203.0.113.9".parse().unwrap();
    let mut spared = Spared::default();
    spared.address(phone, Why::Phone("101".into()));
    spared.address(phone, Why::Known(phone));
    spared.address("::ffff:198.51.100.3".parse().unwrap(), Why::Trunk("carrier".into()));
    spared.allowed(range("192.0.2.0/24"));
    spared.allowed(range("2001:db8::/32"));
    spared.network(range("10.0.0.0/16"));
    spared.released(range("198.18.0.0/15"));
    let text = "203.0.113.0/24\n203.0.113.10\n198.51.100.3\n192.0.2.0/24\n192.0.2.7\n192.0.0.0/16\n2001:db8:1::/48\n\
                10.0.0.0/8\n10.0.7.7\n198.18.0.0/15\n198.18.0.0/16\n";
    let (taken, left_out) = spared.divide(parse(text.as_bytes(), 100).unwrap().entries);
    let taken: Vec<String> = taken.iter().map(|entry| entry.prefix.to_string()).collect();
    // A range around an allowed one is harmless: the longer rule wins.
    assert_eq!(taken, ["10.0.7.7", "192.0.0.0/16", "198.18.0.0/16", "203.0.113.10"]);
    let mut told: Vec<String> = left_out.iter().map(ToString::to_string).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "line 10: 198.18.0.0/15 was removed by hand",
            "line 1: 203.0.113.0/24 covers a registered phone, 101",
            "line 3: 198.51.100.3 covers the trunk carrier",
            "line 4: 192.0.2.0/24 is allowed by the rule 192.0.2.0/24",
            "line 5: 192.0.2.7 is allowed by the rule 192.0.2.0/24",
            "line 7: 2001:db8:1::/48 is allowed by the rule 2001:db8::/32",
            "line 8: 10.0.0.0/8 covers 10.0.0.0/16, a network of this machine",
        ]
    );
}

#[test]
fn pauses_double_after_failures_and_have_an_end() {
    let minutes = |failures| pause(DEFAULT_INTERVAL, failures).as_secs() / 60;
    assert_eq!([0, 1, 2, 3, 7, 8, 33, u32::MAX].map(minutes), [360, 5, 10, 20, 320, 360, 360, 360]);
}

#[test]
fn a_name_is_a_short_plain_word() {
    for good in ["a", "spamhaus-drop", "level1.v4", "0_x"] {
        assert_eq!(good.parse::<FeedName>().unwrap().as_str(), good);
    }
    for bad in ["", "-a", "A", "a b", "a/b", "é", &"x".repeat(33)] {
        assert_eq!(bad.parse::<FeedName>(), Err(NameError), "{bad}");
    }
}
