//! What the fuzzers run: each function takes any bytes and panics if a promise is broken. The ordinary tests
//! replay the committed corpora through the same functions.

// The fuzzers include this file by its path, so the paths of its parts are written out.
#[path = "fuzz/differential.rs"]
pub mod differential;
#[path = "fuzz/rtp.rs"]
pub mod rtp;
#[path = "fuzz/sdp.rs"]
pub mod sdp;
#[path = "fuzz/sdp_differential.rs"]
pub mod sdp_differential;
#[path = "fuzz/sip.rs"]
pub mod sip;
#[path = "fuzz/wire.rs"]
pub mod wire;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use pbx_core::{
    address::{self, Prefix},
    filter::{
        Entry, RuleTables, Until,
        host::{Bytes, HostTables},
        settings::{Projected, project},
    },
    rule::{self, Action},
    settings::{Enforcement, Settings},
    time::Timestamp,
};
use pbx_ebpf::{
    abi::stats::Reason,
    hash::Seed,
    packet::{self, Parsed},
};

/// The seed of the tables that frames are judged by.
pub const SEED: Seed = Seed(0x5eed, 0xfeed);
/// When the frames arrive (ns).
pub const NOW: u64 = 1_000_000_000_000;

/// The rules that frames are judged by.
pub fn entries() -> Vec<Entry> {
    let entry = |addr: IpAddr, len, action, until| Entry {
        prefix: Prefix::new(addr, len).unwrap_or_else(|_| Prefix::host(addr)),
        action,
        until,
    };
    let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let v6 = |text: &str| text.parse::<Ipv6Addr>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6);
    vec![
        entry(v4(10, 0, 0, 0), 8, Action::Block, Until::Forever),
        entry(v4(10, 1, 0, 0), 16, Action::Allow, Until::at(NOW + 1)),
        entry(v4(10, 1, 2, 3), 32, Action::Block, Until::at(NOW / 2)),
        entry(v4(192, 0, 2, 128), 25, Action::Block, Until::Forever),
        entry(v6("2001:db8::"), 32, Action::Block, Until::Forever),
        entry(v6("2001:db8:1::"), 48, Action::Allow, Until::Forever),
        entry(v6("2001:db8:1::1"), 128, Action::Block, Until::at(NOW * 2)),
        entry(v6("::"), 3, Action::Block, Until::at(NOW * 2)),
    ]
}

/// The settings that frames are judged by.
pub fn settings() -> Projected {
    let mut settings = Settings::default();
    settings.filter.mode = Enforcement::Enforce;
    settings.guard.media.enforcement = Enforcement::Enforce;
    project(&settings, &[], &[])
}

static TABLES: LazyLock<HostTables> = LazyLock::new(|| {
    let tables = HostTables::new(SEED);
    tables.settings(&settings(), 1);
    let own = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
    // A handful of rules always has room.
    drop(RuleTables::adopt(&tables, SEED, entries(), own));
    tables
});

/// A frame is judged, whatever it is, and by nothing but what it says.
pub fn packet(frame: &[u8]) -> Reason {
    let parsed = packet::parse(&Bytes(frame));
    let judged = TABLES.judge(frame, 1, NOW);
    match parsed {
        Parsed::Malformed => assert_eq!(judged.reason, Reason::Malformed),
        Parsed::NotIp => assert_eq!(judged.reason, Reason::NotIp),
        Parsed::ManyTags => assert_eq!(judged.reason, Reason::ManyTags),
        Parsed::Ip(ip) => {
            assert_eq!((judged.hi, judged.lo), (ip.hi, ip.lo));
            assert!(!matches!(judged.reason, Reason::Malformed | Reason::NotIp | Reason::ManyTags));
            // A frame that is cut short is never taken for the whole one's upper layer.
            if let Parsed::Ip(cut) = packet::parse(&Bytes(&frame[..frame.len().saturating_sub(1)])) {
                assert_eq!(cut, ip, "only padding may be missing");
            }
        }
    }
    judged.reason
}

/// The text of an import is understood or refused, and what is understood is printed and read again the same.
pub fn rules(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let now = Timestamp::from_millis(1_800_000_000_000);
    let Ok(import) = rule::parse_import(text, now) else { return };
    let printed = rule::export(import.rules.iter().map(rule::NewRule::parts));
    match rule::parse_import(&printed, now) {
        Ok(again) => assert_eq!(again.rules, import.rules),
        Err(error) => panic!("{printed:?} is not read again: {error}"),
    }
}

/// An address or range that is understood prints as itself and covers its first and last address.
pub fn addresses(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(typed) = address::parse(text) else { return };
    let prefix = typed.prefix;
    let again = address::parse(&prefix.to_string()).map(|typed| (typed.prefix, typed.host_bits_cleared));
    assert_eq!(again, Ok((prefix, false)));
    assert!(prefix.contains(prefix.first()) && prefix.covers(&prefix));
    // The last address of ::/80 is written like an IPv4 one, and counts as that.
    assert!(prefix.contains(prefix.last()) || prefix.last().to_canonical().is_ipv4() != prefix.is_ipv4());
}
