use super::*;
use crate::guard::Detector;
use proptest::prelude::*;
use std::{collections::HashSet, time::Duration};

fn fault(key: &str, text: &str) -> String {
    let mut settings = Settings::default();
    let error = settings.set(key, text).expect_err(text).to_string();
    assert_eq!(settings, Settings::default(), "{key} = {text}");
    error
}

#[test]
fn a_new_installation_has_the_decided_values_and_only_monitors() {
    let settings = Settings::default();
    assert_eq!(settings.check(), Ok(()));
    let FilterSettings { mode, protected_ports, media_ports, sample_rate, web_ports, default_deny } = settings.filter;
    assert_eq!(mode, Enforcement::Monitor);
    let ports: Vec<u16> = protected_ports.iter().collect();
    assert_eq!(ports, [5060, 5061, 5063, 5065, 8885, 8887, 8888, 8889, 10443]);
    assert_eq!(media_ports.ranges(), [PortRange { first: 45_000, last: 64_999 }]);
    assert_eq!(sample_rate.one_in(), 1024);
    assert_eq!(web_ports.iter().collect::<Vec<_>>(), [8885, 8887, 8888, 8889, 10443]);
    assert_eq!(default_deny, Enforcement::Off);
    let GuardSettings { manual, level1, level2, media, scope, known, tcp, fragments, new_sources, .. } = settings.guard;
    assert_eq!(manual.enforcement, Enforcement::Enforce);
    assert_eq!((level1.enforcement, level1.packets.get()), (Enforcement::Enforce, 500));
    assert_eq!(level1.block_time.get(), Duration::from_secs(30));
    assert_eq!((level2.enforcement, level2.packets.get()), (Enforcement::Enforce, 2000));
    assert_eq!(level2.block_time.get(), Duration::from_secs(3600));
    assert_eq!(media.enforcement, Enforcement::Enforce);
    assert_eq!(scope, Scope::Appliance);
    assert_eq!((known.budget.get(), tcp.packets.get(), fragments.packets.get()), (10, 10_000, 2000));
    assert_eq!(new_sources.get(), 20_000);
    let NetworkSettings { local_networks, external_address } = settings.network;
    assert!(local_networks.is_empty() && external_address.is_none());
}

#[test]
fn the_detectors_of_a_new_installation_count_as_it_was_decided() {
    let guard = Settings::default().guard;
    let limits = Detector::ALL.map(|detector| detector.limit(&guard).1);
    assert_eq!(limits, [500, 2000, 50, 20, 100, 10, 50, 1, 20, 10, 5, 8]);
    assert_eq!((guard.period.seconds(), guard.enumeration.period.seconds(), guard.web.period.seconds()), (10, 60, 900));
    assert_eq!(guard.spread.enforcement, Enforcement::Monitor);
    let hours = |nth| guard.block_time(guard.authentication.block_time, nth).as_secs() / 3600;
    assert_eq!([0, 1, 2, 3, 9].map(hours), [1, 6, 24, 168, 168]);
    let days = "2d".parse().unwrap();
    assert_eq!([0, 1, 2, 3].map(|nth| guard.block_time(days, nth).as_secs() / 3600), [48, 48, 48, 168]);
}

#[test]
fn times_of_blocks_that_go_down_are_refused() {
    let mut settings = Settings::default();
    settings.set("guard.repeat.times", "1d,6h").unwrap();
    assert!(settings.check().unwrap_err().to_string().contains("each time must be at least the one before"));
    settings.set("guard.repeat.times", "").unwrap();
    assert_eq!(settings.check(), Ok(()));
}

#[test]
fn a_new_installation_registers_phones_as_it_was_decided() {
    let SipSettings {
        expires: ExpiresSettings { minimum, maximum, default },
        contacts,
        keepalive,
        nonce_life,
        challenges: ChallengeSettings { source, total },
        connections,
        memory,
        emergency_numbers,
    } = Settings::default().sip;
    assert_eq!((minimum.seconds(), default.seconds(), maximum.seconds()), (90, 300, 3600));
    assert_eq!((contacts.get(), keepalive.seconds(), nonce_life.seconds()), (10, 25, 300));
    assert_eq!((source.get(), total.get(), memory.get()), (50, 5000, 512));
    let ConnectionSettings { total, source, idle } = connections;
    assert_eq!((total.get(), source.get(), idle.seconds()), (20_000, 100, 60));
    assert!(emergency_numbers.contains("112") && !emergency_numbers.contains("1"));
    for (number, emergency) in [("112", Some("112")), ("11200", Some("112")), ("000", Some("000")), ("101", None)] {
        assert_eq!(emergency_numbers.begins(number), emergency);
    }
}

#[test]
fn the_external_address_is_one_of_each_family_and_whom_to_ask_for_the_rest() {
    let external = |text: &str| text.parse::<ExternalAddress>().unwrap();
    let both = external("2001:db8::7, ::ffff:203.0.113.7");
    assert_eq!((both.v4, both.v6, both.lookup), ("203.0.113.7".parse().ok(), "2001:db8::7".parse().ok(), None));
    let stun = external("203.0.113.7,stun:[2001:db8::1]:3479");
    assert_eq!(stun.lookup, Some(Lookup::Stun { host: "2001:db8::1".to_owned(), port: 3479 }));
    assert_eq!(external("PBX.example.com").lookup, Some(Lookup::Name("pbx.example.com".to_owned())));
    for (text, printed) in [
        ("stun:STUN.example.com:3478", "stun:stun.example.com"),
        ("stun:192.0.2.1", "stun:192.0.2.1"),
        ("stun:[2001:db8::1],203.0.113.7", "203.0.113.7,stun:[2001:db8::1]"),
    ] {
        assert_eq!(external(text).to_string(), printed);
    }
}

#[test]
fn every_setting_is_defined_once_with_a_default_that_prints_as_it_stands_there() {
    let mut keys = HashSet::new();
    let defaults = Settings::default();
    for definition in definitions() {
        assert!(keys.insert(definition.key), "{}", definition.key);
        let group = definition.key.split_once('.').unwrap().0;
        assert!(
            ["calls", "filter", "guard", "network", "notify", "retention", "sip"].contains(&group),
            "{}",
            definition.key
        );
        assert_eq!(defaults.value(definition.key).as_deref(), Some(definition.default), "{}", definition.key);
        assert!(definition.help.len() > 10 && !definition.help.contains('\n'), "{}", definition.key);
        let is_number = matches!(definition.kind, Kind::Integer { .. } | Kind::PowerOfTwo { .. });
        assert_eq!(!definition.unit.is_empty(), is_number, "{}", definition.key);
    }
}

#[test]
fn every_value_is_read_back_as_it_is_printed() {
    let mut settings = Settings::default();
    for (key, text, printed) in [
        ("filter.mode", "enforce", "enforce"),
        ("filter.protected_ports", " 5061 , 5060,5060-5070,443,444 ", "443,444,5060-5070"),
        ("filter.media_ports", "10000-20000,20001-20002", "10000-20002"),
        ("filter.sample_rate", "0", "0"),
        ("filter.sample_rate", "65536", "65536"),
        ("guard.level1.block_time", "90s", "1m30s"),
        ("guard.level2.block_time", "7d", "7d"),
        ("guard.level1.packets", " 600 ", "600"),
        ("guard.scope", "all", "all"),
        (
            "network.local_networks",
            "10.1.0.0 255.255.0.0, 10.0.0.0/8,2001:db8::/32, 192.168.1.7/24",
            "10.0.0.0/8,192.168.1.0/24,2001:db8::/32",
        ),
        ("network.local_networks", "", ""),
        ("network.external_address", "2001:db8::7,203.0.113.7", "203.0.113.7,2001:db8::7"),
        ("network.external_address", "", ""),
        ("sip.expires.minimum", "120s", "2m"),
        ("sip.expires.maximum", "7d", "7d"),
        ("sip.emergency_numbers", "112, 110,112", "112,110"),
    ] {
        settings.set(key, text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.value(key).as_deref(), Some(printed), "{key} = {text}");
        settings.set(key, printed).unwrap();
        assert_eq!(settings.value(key).as_deref(), Some(printed));
    }
    assert_eq!(settings.value("guard.level3.packets"), None);
}

#[test]
fn a_refused_value_names_the_setting_its_range_and_unit_and_what_was_given() {
    for (key, text, says) in [
        (
            "guard.level1.packets",
            "0",
            "guard.level1.packets: \"0\" is too small; it takes a whole number from 1 to 1000000 packets per second",
        ),
        (
            "guard.level2.packets",
            "1",
            "guard.level2.packets: \"1\" is too small; it takes a whole number from 2 to 1000000 packets per second",
        ),
        (
            "guard.tcp.packets",
            "1000001",
            "guard.tcp.packets: \"1000001\" is too large; it takes a whole number from 1 to 1000000 packets per second",
        ),
        (
            "guard.known.budget",
            "1.5",
            "guard.known.budget: \"1.5\" is not a value of this setting; it takes a whole number from 1 to 1000 times level 1",
        ),
        (
            "guard.new_sources",
            "",
            "guard.new_sources: \"\" is nothing; it takes a whole number from 64 to 10000000 new sources per second",
        ),
        (
            "guard.level1.block_time",
            "0s",
            "guard.level1.block_time: \"0s\" is too small; it takes a time from 1s to 30d, such as 90s or 2h",
        ),
        (
            "guard.level1.block_time",
            "31d",
            "guard.level1.block_time: \"31d\" is too large; it takes a time from 1s to 30d, such as 90s or 2h",
        ),
        (
            "guard.level1.block_time",
            "30",
            "guard.level1.block_time: \"30\" is refused: 30 has no unit: write 30s for seconds, 30m for minutes, 30h for hours or 30d for days; it takes a time from 1s to 30d, such as 90s or 2h",
        ),
        ("filter.mode", "on", "filter.mode: \"on\" is not a value of this setting; it takes enforce, monitor or off"),
        (
            "guard.scope",
            "Appliance",
            "guard.scope: \"Appliance\" is not a value of this setting; it takes appliance or all",
        ),
        (
            "filter.sample_rate",
            "1000",
            "filter.sample_rate: \"1000\" is not a value of this setting; it takes 0 or a power of two up to 65536 dropped packets",
        ),
        (
            "filter.protected_ports",
            "5060,70000",
            "filter.protected_ports: \"5060,70000\" is refused: \"70000\" is neither a port nor a range of ports; it takes up to 256 ports or ranges from 1 to 65535, such as 5060,5061,45000-64999",
        ),
        (
            "sip.expires.minimum",
            "2h",
            "sip.expires.minimum: \"2h\" is too large; it takes a time from 10s to 1h, such as 90s or 2h",
        ),
        (
            "sip.keepalive",
            "20500ms",
            "sip.keepalive: \"20500ms\" is refused: only whole seconds count; it takes a time from 10s to 5m, such as 90s or 2h",
        ),
        (
            "sip.emergency_numbers",
            "112,1",
            "sip.emergency_numbers: \"112,1\" is refused: \"1\" is no number of 2 to 15 digits; it takes up to 32 numbers of 2 to 15 digits, such as 112,911",
        ),
        (
            "network.external_address",
            "203.0.113.300",
            "network.external_address: \"203.0.113.300\" is refused: \"203.0.113.300\" is no address, name or stun:HOST[:PORT]; it takes an IPv4 address, an IPv6 address or both, and a name or a STUN server for a family without one, such as 203.0.113.7,2001:db8::7 or pbx.example.com or stun:stun.example.com, or nothing",
        ),
        (
            "network.local_networks",
            "10.0.0.0/8,10.0.0.300",
            "network.local_networks: \"10.0.0.0/8,10.0.0.300\" is refused: 300 in 10.0.0.300 is too large: each number of an IPv4 address is 0 to 255; it takes up to 32 addresses or ranges, such as 192.0.2.0/24,2001:db8::/64, or nothing",
        ),
    ] {
        assert_eq!(fault(key, text), says);
    }
}

#[test]
fn other_bad_values_are_refused_and_change_nothing() {
    for (key, text) in [
        ("filter.protected_ports", ""),
        ("filter.protected_ports", "0"),
        ("filter.protected_ports", "5060,"),
        ("filter.protected_ports", "6000-5000"),
        ("filter.protected_ports", "5060-"),
        ("filter.protected_ports", "1-2-3"),
        ("filter.protected_ports", "sip"),
        ("filter.protected_ports", "65536"),
        ("filter.sample_rate", "131072"),
        ("filter.sample_rate", "-1"),
        ("guard.level1.packets", "-1"),
        ("guard.level1.packets", "+5"),
        ("guard.level1.packets", "5 pps"),
        ("guard.level1.packets", "99999999999999999999999"),
        ("guard.level1.packets", "٥"),
        ("guard.level1.block_time", ""),
        ("guard.level1.block_time", "999ms"),
        ("network.local_networks", ","),
        ("network.local_networks", "lan"),
        ("network.external_address", "127.0.0.1"),
        ("network.external_address", "0.0.0.0"),
        ("network.external_address", "fe80::1"),
        ("network.external_address", "203.0.113.7,203.0.113.8"),
        ("network.external_address", "a.example,b.example"),
        ("network.external_address", "203.0.113.7,"),
        ("network.external_address", "stun:"),
        ("network.external_address", "stun:host:0"),
        ("network.external_address", "stun:host:70000"),
        ("network.external_address", "stun:[::1"),
        ("network.external_address", "-pbx.example"),
        ("network.external_address", "pbx..example"),
        ("sip.emergency_numbers", ""),
        ("sip.emergency_numbers", "+112"),
        ("sip.contacts", "101"),
        ("sip.nonce_life", "29s"),
        ("sip.memory", "63"),
        ("sip.connections.idle", ""),
    ] {
        fault(key, text);
    }
    let ports = (1..=257).map(|port| (2 * port).to_string()).collect::<Vec<_>>().join(",");
    assert!(fault("filter.protected_ports", &ports).contains("has 257 items, which is too many"));
    let networks = (0..33).map(|n| format!("10.{n}.0.0/16")).collect::<Vec<_>>().join(",");
    assert!(fault("network.local_networks", &networks).contains("has 33 items"));
}

#[test]
fn a_misspelt_key_is_answered_with_the_one_that_was_meant() {
    for (typed, meant) in [
        ("guard.level1.packet", "guard.level1.packets"),
        ("guard.leve1.packets", "guard.level1.packets"),
        ("filter.protected-ports", "filter.protected_ports"),
        ("Filter.Mode", "filter.mode"),
        ("mode", "filter.mode"),
        ("level2.block_time", "guard.level2.block_time"),
        ("new_sources", "guard.new_sources"),
    ] {
        assert_eq!(fault(typed, "1"), format!("there is no setting {typed:?}: did you mean {meant}?"));
    }
    for typed in ["", "x", "packets", "guard", "sip.realm", &"x".repeat(10_000)] {
        assert!(fault(typed, "1").ends_with("`pbx guard list` shows all"), "{typed}");
    }
}

#[test]
fn values_that_do_not_fit_together_are_found() {
    for (changes, says) in [
        (
            &[("guard.level2.packets", "500")][..],
            "guard.level2.packets: 500 packets per second is not above guard.level1.packets (500): raise level 2 or lower level 1",
        ),
        (
            &[("guard.level1.packets", "3000")],
            "guard.level2.packets: 2000 packets per second is not above guard.level1.packets (3000): raise level 2 or lower level 1",
        ),
        (
            &[("guard.level1.block_time", "2h")],
            "guard.level2.block_time: 1h is shorter than guard.level1.block_time (2h): the higher level must not block for less",
        ),
        (
            &[("filter.media_ports", "8000-9000"), ("filter.protected_ports", "5060,8887-8889")],
            "filter.media_ports: 8887-8889 is in filter.protected_ports too: a port is either counted by the rate levels or used for media",
        ),
        (
            &[("network.local_networks", "::/0")],
            "network.local_networks: ::/0 is everything: name the networks that are local",
        ),
        (
            &[("sip.expires.maximum", "60s")],
            "sip.expires.maximum: 1m is shorter than sip.expires.minimum (1m30s): raise the one or lower the other",
        ),
        (
            &[("sip.expires.minimum", "10m")],
            "sip.expires.default: 5m is not between sip.expires.minimum (10m) and sip.expires.maximum (1h)",
        ),
        (
            &[("sip.challenges.total", "40")],
            "sip.challenges.source: 50 is above sip.challenges.total (40): one source would take all of them",
        ),
        (
            &[("sip.connections.total", "99")],
            "sip.connections.source: 100 is above sip.connections.total (99): one source would take all of them",
        ),
    ] {
        let mut settings = Settings::default();
        for (key, value) in changes {
            settings.set(key, value).unwrap();
        }
        assert_eq!(settings.check().unwrap_err().to_string(), says);
    }
    let mut settings = Settings::default();
    settings.set("guard.level2.packets", "501").unwrap();
    settings.set("guard.level2.block_time", "30s").unwrap();
    assert_eq!(settings.check(), Ok(()));
}

#[test]
fn differences_are_told_setting_by_setting() {
    let before = Settings::default();
    let mut after = before.clone();
    after.set("filter.mode", "enforce").unwrap();
    after.set("guard.level1.block_time", "1m").unwrap();
    assert_eq!(before.differences(&before), []);
    assert_eq!(
        before.differences(&after),
        [
            ("filter.mode", "monitor".to_owned(), "enforce".to_owned()),
            ("guard.level1.block_time", "30s".to_owned(), "1m".to_owned()),
        ]
    );
}

fn applied(name: &str, mut settings: Settings) -> Settings {
    for (key, value) in profile(name).unwrap() {
        settings.set(key, value).unwrap();
    }
    settings.check().unwrap();
    settings
}

#[test]
fn the_portsip_profile_cools_off_at_2000_and_blacklists_at_5000() {
    let GuardSettings { level1, level2, .. } = applied("portsip", Settings::default()).guard;
    assert_eq!((level1.packets.get(), level1.block_time.to_string()), (2000, "30s".to_owned()));
    assert_eq!((level2.packets.get(), level2.block_time.to_string()), (5000, "1h".to_owned()));
}

#[test]
fn a_profile_leaves_nothing_of_the_one_before_and_nothing_of_the_site_changed() {
    let mut site = Settings::default();
    for (key, value) in [
        ("filter.mode", "enforce"),
        ("filter.protected_ports", "5060"),
        ("guard.level2.enforcement", "monitor"),
        ("network.local_networks", "10.0.0.0/8"),
    ] {
        site.set(key, value).unwrap();
    }
    for first in profiles() {
        for second in profiles() {
            let both = applied(second.name, applied(first.name, site.clone()));
            assert_eq!(both, applied(second.name, site.clone()), "{} then {}", first.name, second.name);
        }
        assert_eq!(applied("default", applied(first.name, site.clone())), site);
    }
    assert_eq!(profiles().iter().map(|profile| profile.name).collect::<Vec<_>>(), ["default", "portsip", "strict"]);
    assert_eq!(profile("lax"), None);
}

#[test]
fn a_rule_does_no_more_than_the_mode_allows() {
    use Enforcement::{Enforce, Monitor, Off};
    for (rule, mode, does) in
        [(Enforce, Monitor, Monitor), (Monitor, Enforce, Monitor), (Enforce, Off, Off), (Off, Enforce, Off)]
    {
        assert_eq!(rule.under(mode), does);
    }
}

#[test]
fn a_definition_tells_the_portal_what_a_setting_takes() {
    let json = |key| serde_json::to_value(definition(key).unwrap()).unwrap();
    let packets = json("guard.level1.packets");
    assert_eq!(packets["kind"], serde_json::json!({ "type": "integer", "min": 1, "max": 1_000_000 }));
    assert_eq!((packets["unit"].as_str(), packets["default"].as_str()), (Some("packets per second"), Some("500")));
    let time = json("guard.level1.block_time");
    assert_eq!(time["kind"], serde_json::json!({ "type": "duration", "min_seconds": 1, "max_seconds": 2_592_000 }));
}

fn any_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(definitions().iter().map(|definition| definition.key).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn no_text_makes_set_panic_and_what_it_takes_is_read_back(
        key in any_key(), text in "\\PC{0,40}|[0-9,-]{0,20}|[0-9smhd]{0,5}|enforce|off|all|[0-9./,]{0,30}"
    ) {
        let mut settings = Settings::default();
        if settings.set(key, &text).is_ok() {
            let mut again = Settings::default();
            again.set(key, &settings.value(key).unwrap()).unwrap();
            prop_assert_eq!(again, settings);
        } else {
            prop_assert_eq!(settings, Settings::default());
        }
    }

    #[test]
    fn ports_are_the_set_of_what_was_typed(typed in prop::collection::vec((1..=300_u16, 0..=20_u16), 1..30)) {
        let text: Vec<_> = typed.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
        let ports: Ports = text.join(",").parse().unwrap();
        for port in 0..=400 {
            let wanted = typed.iter().any(|(first, more)| (*first..=first + more).contains(&port));
            prop_assert_eq!(ports.contains(port), wanted);
        }
        prop_assert_eq!(ports.to_string().parse(), Ok(ports));
    }
}

#[test]
fn a_profile_decides_when_each_detector_acts_and_for_how_long() {
    let guard = Settings::default().guard;
    for detector in crate::guard::Detector::ALL {
        let (limit, _) = detector.limit(&guard);
        let block_time = format!("guard.{}.block_time", detector.as_str());
        for profile in profiles() {
            let decides = |key: &str| profile.values.iter().any(|(own, _)| *own == key);
            assert!(decides(limit) && decides(&block_time), "{} says nothing of {limit}", profile.name);
        }
    }
}
