//! Enforcement that outlives the daemon, the takeover by the next one, and what may go wrong around it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::process::Command;

use anyhow::{Context, Result};
use pbx_tests::daemon::{DEADLINE, find};
use pbx_tests::flood::{Plan, Sender, payload};
use pbx_tests::frames::Frame;
use serde_json::Value;

use super::{SIP, Site, on_site};

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
fn an_interface_that_vanishes_and_returns_is_filtered_again() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        bad.disconnect()?;
        site.pbx.wait("status", |status| attach(status, bad.interface).is_some_and(|attach| attach == "waiting"))?;
        bad.connect()?;
        site.pbx.wait("status", |status| attach(status, bad.interface).is_some_and(|attach| attach == "native"))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        let other = site.send(bad, bad.v6(), 2, Plan::steady(400, DEADLINE))?;
        site.wait_heard(&other, bad.v6())?;
        daemon.stop()
    });
}

/// The state of one interface in the answer of `pbx status`.
fn attach<'a>(status: &'a Value, interface: &str) -> Option<&'a str> {
    let interfaces = status.pointer("/filter/interfaces").or_else(|| status.get("interfaces"))?.as_array()?;
    interfaces.iter().find(|entry| entry["name"] == interface)?["attach"].as_str()
}

#[test]
fn a_second_daemon_says_that_there_is_one_and_changes_nothing() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let error = site.pbx.start().err().context("the second daemon started")?;
        assert!(error.to_string().contains("another pbx"), "{error:#}");
        site.pbx.wait_blocked(bad.v4())?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

/// A user id without a name, a login or anything else.
const UNIT_USER: u32 = 47_011;

#[test]
fn the_capabilities_of_the_unit_are_enough() {
    on_site(|site, daemon| {
        daemon.stop()?;
        hand_over(site)?;
        let serve = site.pbx.serve();
        let mut command = Command::new("setpriv");
        let capabilities = "-all,+bpf,+net_admin,+perfmon,+net_bind_service";
        command
            .args([
                &format!("--reuid={UNIT_USER}"),
                &format!("--regid={UNIT_USER}"),
                "--clear-groups",
                "--no-new-privs",
            ])
            .args([
                &format!("--inh-caps={capabilities}"),
                &format!("--ambient-caps={capabilities}"),
                &format!("--bounding-set={capabilities}"),
            ])
            // Changing the user resets the signal that ends it with its parent.
            .args(["--pdeathsig", "KILL"])
            .arg(serve.get_program())
            .args(serve.get_args());
        let daemon = site.pbx.start_as(command)?;
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

/// Gives everything that the unit's user needs to it, as systemd does with its directories.
fn hand_over(site: &Site) -> Result<()> {
    fn give(path: &std::path::Path) -> Result<()> {
        chown(path, Some(UNIT_USER), Some(UNIT_USER)).with_context(|| format!("hand over {}", path.display()))?;
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                give(&entry?.path())?;
            }
        }
        Ok(())
    }
    give(site.sandbox.directory())
}
