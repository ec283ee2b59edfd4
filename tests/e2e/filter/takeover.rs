//! A new program in place of a running one, under flood: nothing of a blocked source passes between. Pins of
//! another layout, pins that were never filled, a reboot.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, MapData};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pbx_ebpf::abi::{Source, automatic, header};
use pbx_tests::daemon::{DEADLINE, Daemon, find};
use pbx_tests::flood::{Plan, Sender};
use pbx_xdp::Words;
use pbx_xdp::maps::{BlockValue, SourceKey};

use super::{Site, attach, on_site, program};

/// Packets a second of a flood that goes on over restarts.
const FLOOD: u32 = 20_000;

/// A flood over level 2 by IPv4 and a manual block by IPv6, both running.
struct Flood {
    automatic: Sender,
    manual: Sender,
}

impl Flood {
    fn start(site: &Site) -> Result<Self> {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v6()))?;
        let automatic = site.send(bad, bad.v4(), 1, Plan::steady(FLOOD, DEADLINE * 4))?;
        let manual = site.send(bad, bad.v6(), 2, Plan::steady(1000, DEADLINE * 4))?;
        site.pbx.wait("block list", |list| {
            find(list, &bad.v4().to_string()).is_some_and(|block| block.to_string().contains("level2"))
        })?;
        Ok(Self { automatic, manual })
    }

    /// Asserts that a second's worth more of it was sent and nothing arrived but what level 1 lets pass.
    fn assert_blocked(&self, site: &Site) -> Result<()> {
        let bad = &site.lab.bad;
        site.assert_silent(&self.automatic, bad.v4(), u64::from(FLOOD) / 2)?;
        let seen = site.receiver.seen();
        let (automatic, manual) = (seen.of(bad.v4(), 1).count(), seen.of(bad.v6(), 2).count());
        ensure!((automatic, manual) == (500, 0), "arrived: {automatic} by IPv4, {manual} by IPv6");
        Ok(())
    }

    /// Ends it; how many packets were sent while blocked.
    fn end(self, site: &Site) -> Result<u64> {
        self.assert_blocked(site)?;
        Ok(self.automatic.stop()? - 500 + self.manual.stop()?)
    }
}

#[test]
fn the_program_is_swapped_five_times_under_flood_and_nothing_leaks() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let flood = Flood::start(site)?;
        let mut daemon = daemon;
        let mut programs = vec![program(bad.interface)?];
        for round in 0..5 {
            if round % 2 == 0 {
                daemon.stop()?
            } else {
                daemon.kill()?
            }
            flood.assert_blocked(site)?;
            daemon = site.pbx.start()?;
            programs.push(program(bad.interface)?);
        }
        let sent = flood.end(site)?;
        assert!(sent > 50_000, "{sent} were sent");
        assert!(programs.iter().all(Option::is_some), "{programs:?}");
        programs.sort_unstable();
        programs.dedup();
        assert_eq!(programs.len(), 6, "each start has a program of its own: {programs:?}");
        daemon.stop()
    });
}

/// The version directories among the pins.
fn versions(site: &Site) -> Result<Vec<PathBuf>> {
    let pins = site.sandbox.bpffs().join("pbx");
    let entries = fs::read_dir(&pins)?.collect::<Result<Vec<_>, _>>()?;
    let name = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('v'));
    Ok(entries.into_iter().map(|entry| entry.path()).filter(name).collect())
}

fn the_version(site: &Site) -> Result<PathBuf> {
    let versions = versions(site)?;
    ensure!(versions.len() == 1, "version directories: {versions:?}");
    versions.into_iter().next().context("there is one")
}

fn restarted(site: &Site, daemon: Daemon, between: impl FnOnce() -> Result<()>) -> Result<Daemon> {
    daemon.stop()?;
    between()?;
    site.pbx.start()
}

#[test]
fn a_running_filter_of_another_layout_is_replaced_under_flood_and_nothing_leaks() {
    on_site(|site, daemon| {
        let flood = Flood::start(site)?;
        let ours = the_version(site)?;
        let daemon = restarted(site, daemon, || {
            fs::rename(&ours, ours.with_file_name("v0-0123456789abcdef")).context("make it another layout's")
        })?;
        flood.end(site)?;
        assert_eq!(versions(site)?, [ours]);
        site.pbx.wait_blocked(site.lab.bad.v4())?;
        daemon.stop()
    });
}

#[test]
fn a_start_that_is_killed_between_two_interfaces_is_finished_by_the_next() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let flood = Flood::start(site)?;
        let ours = the_version(site)?;
        daemon.stop()?;
        fs::rename(&ours, ours.with_file_name("v0-0123456789abcdef"))?;
        let before = program(good.interface)?;
        let mut broken = site.pbx.serve().stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let begin = Instant::now();
        while program(good.interface)? == before {
            ensure!(begin.elapsed() < DEADLINE, "the program is never replaced");
        }
        broken.kill()?;
        broken.wait()?;
        flood.assert_blocked(site)?;

        let daemon = site.pbx.start()?;
        flood.end(site)?;
        assert_eq!(versions(site)?, [ours]);
        assert!(program(bad.interface)?.is_some());
        site.pbx.pbx("doctor")?;
        daemon.stop()
    });
}

#[test]
fn the_blocks_of_another_layout_are_copied_and_its_directory_is_deleted() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let ours = the_version(site)?;
        let [copied, other] = ["v0-0000000000000001", "v0-0000000000000002"].map(|name| ours.with_file_name(name));
        let daemon = restarted(site, daemon, || {
            fs::create_dir(&copied)?;
            let mut blocks = HashMap::<MapData, SourceKey, BlockValue>::create(16, 0)?;
            let source = Source { hi: 0, lo: 0xffff_0000_0000 | u64::from(bad.v4().to_bits()) };
            let forever = automatic::Block { expires: u64::MAX / 2, level: 2, ..automatic::Block::default() };
            blocks.insert(SourceKey(source), BlockValue(forever), 0)?;
            blocks.pin(copied.join(automatic::NAME))?;
            // One whose blocks have another shape: nothing to take, and no reason to stop.
            fs::create_dir(&other)?;
            HashMap::<MapData, u64, u64>::create(16, 0)?.pin(other.join(automatic::NAME))?;
            Ok(())
        })?;
        assert_eq!(versions(site)?, [ours]);
        site.pbx.wait_blocked(bad.v4())?;
        site.burst(bad, bad.v4(), 1, 100)?;
        assert_eq!(site.receiver.seen().of(bad.v4(), 1).count(), 0);
        daemon.stop()
    });
}

#[test]
fn maps_that_were_never_filled_are_made_anew() {
    on_site(|site, daemon| {
        let flood = Flood::start(site)?;
        let ours = the_version(site)?;
        let daemon = restarted(site, daemon, || {
            // Its magic number is written last: without it, the start that made them broke off.
            let map = MapData::from_pin(ours.join(header::NAME))?;
            Words::map(map.fd().as_fd(), header::Header::WORDS)?.store(0, 0);
            Ok(())
        })?;
        flood.end(site)?;
        assert!(site.pbx.shown("doctor")?.contains("the kernel's tables are what the rules say"));
        daemon.stop()
    });
}

#[test]
fn blocks_of_both_kinds_are_back_after_a_reboot() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let flood = Flood::start(site)?;
        let daemon = restarted(site, daemon, || {
            // With its bpffs go the pins, the links and the program.
            umount2(&site.sandbox.bpffs(), MntFlags::MNT_DETACH)?;
            mount(Some("bpf"), &site.sandbox.bpffs(), Some("bpf"), MsFlags::empty(), Some("mode=0700"))?;
            site.wait_heard(&flood.automatic, bad.v4())?;
            site.wait_heard(&flood.manual, bad.v6())
        })?;
        let status = site.pbx.pbx("status")?;
        assert_eq!(attach(&status, bad.interface), Some("native"), "{status:#}");
        site.assert_silent(&flood.automatic, bad.v4(), 2000)?;
        site.assert_silent(&flood.manual, bad.v6(), 200)?;
        let block = site.pbx.wait_blocked(bad.v4())?;
        assert!(block.to_string().contains("level2"), "{block:#}");
        daemon.stop()
    });
}
