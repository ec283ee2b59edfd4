//! The table that counts: neighbours in it do not hurt each other, and a spoofed flood does not flush it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use pbx_core::{
    filter::{host::HostTables, settings::project},
    settings::Settings,
};
use pbx_ebpf::{
    abi::{MAPPED, rate, stats::Reason},
    hash::{self, Seed},
};

use super::sip;
use crate::{
    dice::Dice,
    pair::{INTERFACE, SECOND, with_pair},
};

const SEED: Seed = Seed(7, 11);

fn host(settings: &[(&str, &str)]) -> Arc<HostTables> {
    let mut all = Settings::default();
    for (key, text) in settings.iter().chain(&[("filter.mode", "enforce")]) {
        all.set(key, text).expect("a good setting");
    }
    let host = HostTables::new(SEED);
    host.settings(&project(&all, &[], &[]), INTERFACE);
    Arc::new(host)
}

/// A datagram to the SIP port whose source is written into it before each use.
fn datagram() -> Vec<u8> {
    sip("0.0.0.0").build()
}

fn from(frame: &mut [u8], source: u32) -> &[u8] {
    frame[26..30].copy_from_slice(&source.to_be_bytes());
    frame
}

/// Sources that share a set of the table.
fn neighbours(seed: Seed, n: usize) -> Vec<u32> {
    let set = |addr: u32| hash::rate(0, MAPPED | u64::from(addr), rate::LEVELS, seed);
    let wanted = set(0x0a00_0001);
    (0x0a00_0001u32..).filter(|addr| set(*addr) == wanted).take(n).collect()
}

/// Each sends its limit in a second, in any order, four times.
fn all_keep_their_limit(sources: impl Fn(Seed) -> Vec<IpAddr> + Sync) {
    with_pair(|pair| {
        pair.set("guard.level1.packets", "10");
        let sources = sources(pair.seed);
        let mut dice = Dice::new(3);
        for _ in 0..4 {
            let mut left: Vec<IpAddr> = sources.iter().flat_map(|addr| [*addr; 10]).collect();
            while !left.is_empty() {
                let addr = left.swap_remove(dice.below(left.len() as u64) as usize);
                assert_eq!(pair.says(&sip(&addr.to_string())), Reason::Counted);
                pair.now += 1_000_000;
            }
            pair.now += SECOND;
        }
    });
}

#[test]
fn forty_neighbours_in_a_set_of_four_never_get_one_another_blocked() {
    all_keep_their_limit(|seed| neighbours(seed, 40).into_iter().map(|addr| Ipv4Addr::from(addr).into()).collect());
}

#[test]
fn forty_neighbours_on_the_link_in_a_set_of_two_never_get_one_another_blocked() {
    const LINK_LOCAL: u64 = 0xfe80 << 48;
    all_keep_their_limit(|seed| {
        let set = |lo: u64| hash::rate(LINK_LOCAL, lo, rate::LEVELS, seed);
        let wanted = set(1);
        let shared = (1u64..).filter(|lo| set(*lo) == wanted).take(40);
        shared.map(|lo| Ipv6Addr::from_bits(u128::from(LINK_LOCAL) << 64 | u128::from(lo)).into()).collect()
    });
}

#[test]
fn an_address_and_a_network_with_the_same_key_are_two_sources() {
    let of = |hi, lo| rate::narrow(hi, lo, rate::LEVELS);
    let address = MAPPED | 0x0a00_0001;
    let [(one, kind), (other, other_kind)] = [of(0, address), of(address, 0)];
    assert_eq!(one, other);
    assert_ne!(kind, other_kind);
}

#[test]
fn the_loudest_of_a_set_is_caught_among_neighbours_that_evict_one_another() {
    with_pair(|pair| {
        pair.set("guard.level1.packets", "10");
        let sources = neighbours(pair.seed, 60);
        let (loud, others) = sources.split_first().expect("sixty");
        let frame = |addr: &u32| sip(&Ipv4Addr::from(*addr).to_string());
        let mut caught = None;
        for (packet, other) in others.iter().cycle().take(400).enumerate() {
            pair.now += 2_000_000;
            assert_eq!(pair.says(&frame(other)), Reason::Counted);
            if pair.says(&frame(loud)).drops() {
                caught = Some(packet);
                break;
            }
        }
        println!("caught at its packet {}", caught.expect("caught") + 1);
    });
}

#[test]
fn two_threads_on_one_set_never_block_a_source_that_keeps_its_limit() {
    let host = host(&[("guard.level1.packets", "10"), ("guard.new_sources", "10000000")]);
    let sources = neighbours(SEED, 24);
    let rounds = 3000;
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (host, sources, barrier) = (host.clone(), sources.clone(), &barrier);
            scope.spawn(move || {
                let (mut dice, mut frame) = (Dice::new(thread + 1), datagram());
                for round in 0..rounds {
                    // Both threads together send ten packets of each source in a window.
                    let now = (10 + round * 2) * SECOND;
                    barrier.wait();
                    let mut left: Vec<u32> = sources.iter().flat_map(|addr| [*addr; 5]).collect();
                    while !left.is_empty() {
                        let addr = left.swap_remove(dice.below(left.len() as u64) as usize);
                        let judged = host.judge(from(&mut frame, addr), INTERFACE, now).reason;
                        assert_eq!(judged, Reason::Counted, "round {round}, {}", Ipv4Addr::from(addr));
                    }
                }
            });
        }
    });
    assert!(host.automatic().is_empty());
    println!("{} packets", 2 * rounds * 24 * 5);
}

#[test]
fn two_threads_let_a_source_have_its_limit_and_no_more() {
    for round in 0..20 {
        let host = host(&[("guard.level1.packets", "500")]);
        let passed = AtomicU64::new(0);
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut frame = datagram();
                    barrier.wait();
                    for _ in 0..400 {
                        let reason = host.judge(from(&mut frame, 0x0a00_0001), INTERFACE, SECOND).reason;
                        passed.fetch_add(u64::from(!reason.drops()), Relaxed);
                    }
                });
            }
        });
        // Two first packets at once may take two slots; the second is then never counted again.
        let passed = passed.into_inner();
        assert!((500..=510).contains(&passed), "round {round}: {passed} passed");
    }
}

/// `packets` of one second, each of another of 2^24 sources, and among 65,536 of them one of a source that is
/// over its limit.
fn flood(packets: u32, limit: &str, new_sources: &str) {
    let host = host(&[("guard.level1.packets", limit), ("guard.new_sources", new_sources)]);
    let (began, loud) = (Instant::now(), 0xc0a8_0001);
    let (mut frame, mut sent, mut caught) = (datagram(), 0, None);
    for i in 0..packets {
        let now = 100 * SECOND + u64::from(i) * SECOND / u64::from(packets);
        // An odd factor: every source of the /8 once.
        let spoofed = 0x0a00_0000 | i.wrapping_mul(0x009e_3771) & 0x00ff_ffff;
        let reason = host.judge(from(&mut frame, spoofed), INTERFACE, now).reason;
        assert_eq!(reason, Reason::Counted, "{} sent one packet", Ipv4Addr::from(spoofed));
        if i % 65_536 == 31_337 {
            sent += 1;
            let reason = host.judge(from(&mut frame, loud), INTERFACE, now).reason;
            if reason.drops() && caught.is_none() {
                caught = Some((sent, reason));
            }
        }
    }
    let (packet, reason) = caught.unwrap_or_else(|| panic!("not caught after {sent} packets"));
    println!("{packets} packets in {:?}; caught at packet {packet} of {sent}: {reason:?}", began.elapsed());
}

#[test]
fn a_65536th_of_a_flood_from_two_million_sources_is_caught() {
    flood(1 << 21, "20", "10000000");
}

#[test]
fn a_65536th_of_a_flood_is_policed_while_the_guard_is_on() {
    flood(1 << 21, "20", "20000");
}

#[test]
fn a_65536th_of_a_flood_from_sixteen_million_sources_is_caught() {
    flood(1 << 24, "200", "10000000");
}
