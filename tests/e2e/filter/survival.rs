//! Enforcement that outlives the daemon, and what the next one finds.

use std::net::Ipv4Addr;

use pbx_tests::daemon::{DEADLINE, find};
use pbx_tests::flood::{Plan, Sender, payload};
use pbx_tests::frames::Frame;

use super::{SIP, on_site, program};

#[test]
fn a_daemon_killed_in_mid_flood_lets_nothing_of_a_blocked_source_through() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let flood = site.send(bad, bad.v4(), 1, Plan::steady(10_000, DEADLINE * 2))?;
        site.pbx.wait_blocked(bad.v4())?;
        site.pbx.pbx(&format!("block add {} --reason test", bad.v6()))?;
        let manual = site.send(bad, bad.v6(), 2, Plan::steady(1000, DEADLINE * 2))?;
        site.assert_silent(&flood, bad.v4(), 1000)?;

        daemon.kill()?;
        site.assert_silent(&flood, bad.v4(), 10_000)?;
        let again = site.pbx.start()?;
        site.assert_silent(&flood, bad.v4(), 10_000)?;
        site.pbx.wait_blocked(bad.v4())?;
        site.pbx.wait_blocked(bad.v6())?;
        again.stop()?;
        site.assert_silent(&flood, bad.v4(), 10_000)?;

        assert_eq!(site.receiver.seen().of(bad.v6(), 2).count(), 0);
        manual.stop()?;
        flood.stop()?;
        assert_eq!(site.receiver.seen().of(bad.v4(), 1).count(), 500);
        Ok(())
    });
}

#[test]
fn a_block_ends_on_time_without_a_daemon() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx("guard set guard.level1.block_time 2s")?;
        site.pbx.pbx(&format!("block add {} --for 2s", bad.v6()))?;
        daemon.kill()?;
        site.send(bad, bad.v4(), 1, Plan::burst(1500))?.finish()?;
        for source in [bad.v4().into(), std::net::IpAddr::from(bad.v6())] {
            let slow = site.send(bad, source, 2, Plan::steady(100, DEADLINE))?;
            site.wait_heard(&slow, source)?;
            slow.stop()?;
        }
        assert_eq!(site.receiver.seen().of(bad.v4(), 1).count(), 500);
        Ok(())
    });
}

#[test]
fn a_thousand_blocks_made_while_no_daemon_ran_are_adopted() {
    const SOURCES: u64 = 1000;
    on_site(|site, daemon| {
        site.pbx.pbx("guard set guard.level1.packets 5")?;
        site.pbx.pbx("guard set guard.level1.block_time 1h")?;
        daemon.kill()?;
        let bad = &site.lab.bad;
        let (from, to, destination) = (bad.mac(), bad.appliance_mac(), bad.appliance_v4());
        let source = |index: u64| Ipv4Addr::new(198, 51, (100 + index / 250) as u8, (index % 250) as u8);
        // Ten of each source in a row, so that each is over its limit within one second.
        let flood = Sender::frames(&bad.network, 1, Plan::burst(SOURCES * 10), move |number| {
            Frame::udp((source(number / 10), 5060), (destination, SIP))
                .payload(&payload(1, number))
                .link(from, to)
                .build()
        })?;
        flood.finish()?;
        let seen = site.receiver.wait(DEADLINE, |seen| (0..SOURCES).all(|index| seen.from(source(index)) >= 5))?;
        assert!((0..SOURCES).all(|index| seen.from(source(index)) == 5));

        let again = site.pbx.start()?;
        let list = site.pbx.pbx("block list --limit 2000")?;
        let missing = (0..SOURCES).filter(|index| find(&list, &source(*index).to_string()).is_none()).count();
        assert_eq!(missing, 0, "of {SOURCES} blocks");
        again.stop()
    });
}

#[test]
fn a_clean_stop_leaves_the_filter_and_a_stop_with_detach_takes_it_off() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE * 2))?;
        daemon.stop()?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        assert!(program(bad.interface)?.is_some());

        let mut serve = site.pbx.serve();
        serve.arg("--detach");
        let daemon = site.pbx.start_as(serve)?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()?;
        site.wait_heard(&stream, bad.v4())?;
        assert_eq!(program(bad.interface)?, None);
        Ok(())
    });
}
