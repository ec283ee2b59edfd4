//! Automatic blocks: the levels under a flood, their ends, families, tags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use pbx_tests::daemon::{DEADLINE, find};
use pbx_tests::flood::{Injector, Plan, Receiver, Sender, payload};
use pbx_tests::frames::Frame;

use super::{SIP, on_site};

#[test]
fn level_1_passes_exactly_its_packets_and_then_none() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        // Above level 1, below level 2, and within one second.
        site.burst(bad, bad.v4(), 1, 1500)?;
        let block = site.pbx.wait_blocked(bad.v4())?;
        assert!(block.to_string().contains("level1"), "{block:#}");
        let arrived = site.receiver.seen().of(bad.v4(), 1);
        assert_eq!((arrived.count(), arrived.first_missing()), (500, 500), "{arrived:?}");

        site.burst(good, good.v4(), 2, 400)?;
        site.receiver.wait(DEADLINE, |seen| seen.of(good.v4(), 2).count() == 400)?;
        daemon.stop()
    });
}

#[test]
fn level_2_follows_in_the_same_flood_and_blocks_longer() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let flood = site.send(bad, bad.v4(), 1, Plan::steady(20_000, DEADLINE))?;
        let list = site.pbx.wait("block list", |list| {
            find(list, &bad.v4().to_string()).is_some_and(|block| block.to_string().contains("level2"))
        })?;
        site.assert_silent(&flood, bad.v4(), 20_000)?;
        flood.stop()?;
        let arrived = site.receiver.seen().of(bad.v4(), 1);
        assert_eq!((arrived.count(), arrived.first_missing()), (500, 500), "{arrived:?} {list:#}");
        daemon.stop()
    });
}

#[test]
fn a_flood_is_blocked_in_both_families_and_by_host_on_the_link() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let beside = Ipv6Addr::from(u128::from(bad.v6()) + 1);
        bad.add_address(beside.into())?;
        for source in [IpAddr::from(bad.v4()), bad.v6().into()] {
            site.burst(bad, source, 1, 1500)?;
            assert_eq!(site.receiver.seen().of(source, 1).count(), 500);
            site.pbx.wait_blocked(source)?;
        }
        site.burst(bad, beside, 2, 400)?;
        site.receiver.wait(DEADLINE, |seen| seen.of(beside, 2).count() == 400)?;
        daemon.stop()
    });
}

#[test]
fn an_ipv6_source_from_elsewhere_is_blocked_with_its_network_of_64_bits() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let (from, to, destination) = (bad.mac(), bad.appliance_mac(), bad.appliance_v6());
        let before = site.judged(bad)?;
        let sender = Sender::frames(&bad.network, 1, Plan::burst(1500), move |number| {
            // Hosts of one network, each far below the level.
            let source = Ipv6Addr::new(0x2001, 0xdb8, 7, 7, 0, 0, 0, (number % 100) as u16);
            Frame::udp((source, 5060), (destination, SIP)).payload(&payload(1, number)).link(from, to).build()
        })?;
        sender.finish()?;
        site.wait_judged(bad, before + 1500)?;
        site.pbx.wait("block list", |list| find(list, "2001:db8:7:7::/64").is_some())?;
        let seen = site.receiver.seen();
        let arrived: u64 = (0..100).map(|host| seen.from(Ipv6Addr::new(0x2001, 0xdb8, 7, 7, 0, 0, 0, host))).sum();
        assert_eq!(arrived, 500);
        daemon.stop()
    });
}

#[test]
fn a_blocked_source_is_found_behind_one_and_two_vlan_tags() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let tap = Receiver::tap(bad.interface)?;
        let injector = Injector::open(&bad.network)?;
        let tagged = |tags: u16, stream: u32| {
            let frame = Frame::udp((bad.v4(), 5060), (bad.appliance_v4(), SIP)).payload(&payload(stream, 0));
            (1..=tags).fold(frame, |frame, tag| frame.vlan(tag)).link(bad.mac(), bad.appliance_mac()).build()
        };
        for tags in 0..=3 {
            injector.send(&tagged(tags, u32::from(tags)))?;
            tap.wait(DEADLINE, |seen| seen.of(bad.v4(), tags.into()).count() == 1)?;
        }
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        for tags in 0..=3 {
            injector.send(&tagged(tags, 10 + u32::from(tags)))?;
        }
        // Three tags are beyond the filter, pass, and are sent last.
        let seen = tap.wait(DEADLINE, |seen| seen.of(bad.v4(), 13).count() == 1)?;
        assert_eq!((10..=12).map(|stream| seen.of(bad.v4(), stream).count()).sum::<u64>(), 0);
        daemon.stop()
    });
}

#[test]
fn a_level_1_block_ends_on_time() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx("guard set guard.level1.block_time 2s")?;
        let begin = Instant::now();
        site.burst(bad, bad.v4(), 1, 501)?;
        // Slow enough to be below the level afterwards.
        let slow = site.send(bad, bad.v4(), 2, Plan::steady(100, DEADLINE))?;
        site.wait_heard(&slow, bad.v4())?;
        let lasted = begin.elapsed();
        assert!((Duration::from_millis(1900)..Duration::from_secs(5)).contains(&lasted), "{lasted:?}");
        slow.stop()?;
        site.pbx.wait("block list", |list| find(list, &bad.v4().to_string()).is_none())?;
        daemon.stop()
    });
}

#[test]
fn many_sources_at_once_are_each_judged_alone() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let (from, to, destination) = (bad.mac(), bad.appliance_mac(), bad.appliance_v4());
        let before = site.judged(bad)?;
        let flood = Sender::frames(&bad.network, 1, Plan::burst(4000), move |number| {
            let source = Ipv4Addr::new(198, 51, 100, (number % 200) as u8);
            Frame::udp((source, 5060), (destination, SIP)).payload(&payload(1, number)).link(from, to).build()
        })?;
        flood.finish()?;
        site.wait_judged(bad, before + 4000)?;
        let seen = site
            .receiver
            .wait(DEADLINE, |seen| (0..200).all(|host| seen.from(Ipv4Addr::new(198, 51, 100, host)) == 20))?;
        assert_eq!(seen.sources(), 200);
        daemon.stop()
    });
}

#[test]
fn too_many_new_sources_are_policed_without_blocks_and_told_once() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx("guard set guard.new_sources=64 guard.level1.packets=5")?;
        let (from, to, destination) = (bad.mac(), bad.appliance_mac(), bad.appliance_v4());
        let spoof = |stream, sources: u64, each: u64| {
            Sender::frames(&bad.network, stream, Plan::burst(sources * each), move |number| {
                let source = Ipv4Addr::from_bits(0xc612_0000 + stream * 0x1_0000 + (number % sources) as u32);
                Frame::udp((source, 5060), (destination, SIP)).payload(&payload(stream, number)).link(from, to).build()
            })
        };
        spoof(0, 20_000, 1)?.finish()?;
        let alarm = |list: &serde_json::Value| list.to_string().matches("new sources in a second").count();
        site.pbx.wait("events --limit 1000", |events| alarm(events) > 0)?;
        let status = site.pbx.pbx("status")?;
        assert_eq!(status.pointer("/filter/guard_active"), Some(&true.into()), "{status:#}");

        // Each of these is over its limit of 5: what is over it is dropped, and nobody is blocked.
        let before = site.judged(bad)?;
        spoof(1, 20, 50)?.finish()?;
        site.wait_judged(bad, before + 1000)?;
        let seen = site.receiver.seen();
        for host in 0..20 {
            let arrived = seen.from(Ipv4Addr::from_bits(0xc613_0000 + host));
            assert_eq!(arrived, 5, "of host {host}");
        }
        let list = site.pbx.pbx("block list")?;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(0), "{list:#}");
        assert_eq!(alarm(&site.pbx.pbx("events --limit 1000")?), 1);
        daemon.stop()
    });
}
