use super::*;
use proptest::prelude::*;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_795_412_400_000);

fn one(line: &str) -> NewRule {
    let mut rules = parse_import(line, NOW).unwrap_or_else(|error| panic!("{line}: {error}")).rules;
    assert_eq!(rules.len(), 1, "{line}");
    rules.remove(0)
}

fn fault(text: &str) -> String {
    parse_import(text, NOW).expect_err(text).to_string()
}

#[test]
fn a_line_says_who_what_how_long_and_why() {
    let rule = one("41.202.0.0 255.255.0.0 allow for 2h # My Remote office");
    assert_eq!(rule.prefix.to_string(), "41.202.0.0/16");
    assert_eq!(rule.action, Action::Allow);
    assert_eq!(rule.expires_at, Some(NOW.saturating_add(Duration::from_secs(7200))));
    assert_eq!(rule.description, "My Remote office");
}

#[test]
fn everything_but_the_address_may_be_left_out() {
    for (line, action, end, description) in [
        ("192.0.2.1", Action::Block, None, ""),
        ("  192.0.2.1\t", Action::Block, None, ""),
        ("192.0.2.1#note", Action::Block, None, "note"),
        ("192.0.2.1 # a # b", Action::Block, None, "a # b"),
        ("192.0.2.1 ALLOW", Action::Allow, None, ""),
        ("192.0.2.1 DENY", Action::Block, None, ""),
        ("192.0.2.1 for 1d12h", Action::Block, Some("2026-11-24T17:40:00Z"), ""),
        ("192.0.2.1 block until 2027-01-01T00:00:00+01:00 # é", Action::Block, Some("2026-12-31T23:00:00Z"), "é"),
        ("\u{feff}192.0.2.1", Action::Block, None, ""),
    ] {
        let rule = one(line);
        assert_eq!((rule.action, rule.description.as_str()), (action, description), "{line}");
        assert_eq!(rule.expires_at.map(|end| end.to_string()).as_deref(), end, "{line}");
    }
}

#[test]
fn blank_lines_remarks_and_line_ends_of_other_systems_are_fine() {
    let text = "# a list\r\n\r\n192.0.2.1 block\r\n   # more\r\n\t\r\n2001:db8::/64 allow # é\r\n192.0.2.2";
    let import = parse_import(text, NOW).unwrap();
    let ranges: Vec<_> = import.rules.iter().map(|rule| rule.prefix.to_string()).collect();
    assert_eq!(ranges, ["192.0.2.1", "2001:db8::/64", "192.0.2.2"]);
    assert_eq!(parse_import("", NOW), Ok(Import::default()));
}

#[test]
fn a_bad_line_is_named_with_what_is_wrong() {
    for (line, says) in [
        ("103.224.182.210.0 block", "103.224.182.210.0 has five numbers where an IPv4 address has four"),
        ("block", "\"block\" is not an address: write it as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64"),
        (
            "192.0.2.1 255.0.255.0 block",
            "255.0.255.0 is not a mask: its one bits have to come first, as in 255.255.0.0",
        ),
        ("192.0.2.1 24 block", "24 is not a mask: its one bits have to come first, as in 255.255.0.0"),
        (
            "192.0.2.1 drop",
            "\"drop\" does not belong here: write `address [allow|block] [for 2h | until TIME] [# description]`",
        ),
        (
            "192.0.2.1 block for 2h please",
            "\"please\" does not belong here: write `address [allow|block] [for 2h | until TIME] [# description]`",
        ),
        ("192.0.2.1 for", "\"for\" is followed by nothing: write it as `for 2h` or `until 2026-11-23T05:40:00Z`"),
        ("192.0.2.1 until", "\"until\" is followed by nothing: write it as `for 2h` or `until 2026-11-23T05:40:00Z`"),
        ("192.0.2.1 for 2", "2 has no unit: write 2s for seconds, 2m for minutes, 2h for hours or 2d for days"),
        ("192.0.2.1 until tomorrow", "\"tomorrow\" is not a time: write it as 2026-11-23T05:40:00Z"),
        (
            "192.0.2.1 until 2026-11-23T05:40:00Z",
            "its end 2026-11-23T05:40:00Z is not in the future (it is 2026-11-23T05:40:00Z now): give a later end, or none for a permanent rule",
        ),
        (
            "192.0.2.1 for 0s",
            "its end 2026-11-23T05:40:00Z is not in the future (it is 2026-11-23T05:40:00Z now): give a later end, or none for a permanent rule",
        ),
        ("192.0.2.1 # a\x1b[31m", "the description contains '\\u{1b}': it has to be one line of plain text"),
    ] {
        assert_eq!(fault(line), format!("line 1: {says}"));
    }
    assert_eq!(
        fault(&format!("192.0.2.1 # {}", "x".repeat(256))),
        "line 1: the description has 256 characters: 255 are the most"
    );
    assert_eq!(fault(&"x".repeat(5000)), "line 1: has 5000 bytes: 2048 are the most");
}

#[test]
fn one_bad_line_among_a_thousand_is_line_517() {
    let mut lines: Vec<String> = (0..1000).map(|n| format!("10.0.{}.{} block", n / 250, n % 250)).collect();
    lines[516] = "10.0.0.300 block".to_owned();
    assert_eq!(
        fault(&lines.join("\n")),
        "line 517: 300 in 10.0.0.300 is too large: each number of an IPv4 address is 0 to 255"
    );
}

#[test]
fn twenty_bad_lines_are_told_and_the_others_counted() {
    let error = parse_import(&"nonsense\n".repeat(22), NOW).unwrap_err();
    assert_eq!((error.bad.len(), error.total), (20, 22));
    let text = error.to_string();
    assert_eq!(text.lines().count(), 21);
    assert!(text.ends_with("\nand 2 more bad lines"), "{text}");
}

#[test]
fn more_lines_than_there_can_be_rules_are_refused() {
    assert!(parse_import(&"\n".repeat(MAX_LINES), NOW).is_ok());
    let error = fault(&"\n".repeat(MAX_LINES + 1000));
    assert_eq!(error, "line 700001: is one line too many: 700000 are the most");
}

#[test]
fn a_range_named_twice_lives_as_long_as_the_longer_line_says() {
    let text = "192.0.2.0/24 for 1h\n192.0.2.0/24 for 2h # office\n192.0.2.9/24 for 1m # other\n192.0.2.0/24 allow\n";
    let import = parse_import(text, NOW).unwrap();
    assert_eq!((import.rules.len(), import.merged), (2, 2));
    assert_eq!(import.rules[0].expires_at, Some(NOW.saturating_add(Duration::from_secs(7200))));
    assert_eq!(import.rules[0].description, "office");
    assert_eq!(import.rules[1].action, Action::Allow);
    let import = parse_import("192.0.2.1 for 1h\n192.0.2.1\n192.0.2.1 for 1h", NOW).unwrap();
    assert_eq!(import.rules[0].expires_at, None);
}

#[test]
fn cleared_host_bits_are_remarked() {
    let import = parse_import("# x\n10.0.0.5/24 block\n", NOW).unwrap();
    assert_eq!(import.rules[0].prefix.to_string(), "10.0.0.0/24");
    assert_eq!(import.remarks[0].to_string(), "line 2: has bits set behind its length: taken as 10.0.0.0/24");
    let import = parse_import(&"10.0.0.5/24\n".repeat(100), NOW).unwrap();
    assert_eq!(import.remarks.len(), MAX_REPORTED);
}

#[test]
fn the_longest_line_that_export_writes_can_be_imported() {
    let prefix = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127".parse().unwrap();
    let rule = NewRule::new(prefix, Action::Block, Some(Timestamp::MAX), &"\u{1f4de}".repeat(255), NOW).unwrap();
    let text = export([rule.parts()]);
    assert!(text.len() < LONGEST_LINE, "{}", text.len());
    assert_eq!(one(&text), rule);
}

fn any_rule() -> impl Strategy<Value = NewRule> {
    let addr = prop_oneof![
        any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
        any::<[u8; 16]>().prop_map(std::net::IpAddr::from)
    ];
    let action = prop_oneof![Just(Action::Allow), Just(Action::Block)];
    let end = prop::option::of(NOW.as_millis() + 1..=Timestamp::MAX.as_millis());
    (addr, 0..=128_u8, action, end, "[^\\p{Cc}\\u{2028}-\\u{202e}\\u{2066}-\\u{2069}]{0,255}").prop_map(
        |(addr, len, action, end, description)| {
            let len = if addr.is_ipv4() { len.min(32) } else { len };
            let prefix = Prefix::new(addr, len).unwrap();
            NewRule::new(prefix, action, end.map(Timestamp::from_millis), &description, NOW).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn what_is_exported_is_imported_as_it_was(mut rules in prop::collection::vec(any_rule(), 0..20)) {
        let mut seen = std::collections::HashSet::new();
        rules.retain(|rule| seen.insert((rule.prefix, rule.action)));
        let text = export(rules.iter().map(NewRule::parts));
        let import = parse_import(&text, NOW).unwrap();
        prop_assert_eq!(import, Import { rules, merged: 0, remarks: vec![] });
    }

    #[test]
    fn no_text_makes_the_import_panic(
        text in "(?s).{0,200}|([0-9./ ]{0,20}( allow| block| for| until|#| \\PC{0,9}|\n| 2h){0,6}\n?){0,9}"
    ) {
        if let Ok(import) = parse_import(&text, NOW) {
            let again = parse_import(&export(import.rules.iter().map(NewRule::parts)), NOW).unwrap();
            prop_assert_eq!(again.rules, import.rules);
        }
    }
}
