//! From a list of rules, or one change of it, to the first packet that is dropped; and what the tables weigh.
//! Through the tables' own write path: the daemon's request and its database are not in these figures.

use std::{fs, os::fd::AsRawFd as _, time::Instant};

use anyhow::{Context as _, Result, ensure};
use aya::{maps::MapInfo, programs::loaded_programs};
use pbx_core::{
    address::Prefix,
    filter::{RuleTables, Until},
    rule::Action,
};
use pbx_xdp::{KernelTables, Options, object::PROGRAM};

use crate::{
    population::{BLOCKED, Blocked, frame_from, scattered, v4, v6},
    programs::{Filter, SEED},
    report::{Report, Spread},
    run::{self, DROP, PASS},
};

/// Changes of which the median is taken.
const CHANGES: usize = 101;

/// Measures all of it.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let entries = Blocked::Addresses.entries()?;
    let half = |ipv4| entries.iter().filter(move |entry| entry.prefix.is_ipv4() == ipv4);
    for (ipv4, family) in [(true, "IPv4"), (false, "IPv6")] {
        let frame = frame_from(scattered(BLOCKED - 1), !ipv4, 443);
        let filter = Filter::load(None, Options::default())?;
        expect(&filter, &frame, PASS)?;
        let wanted: Vec<_> = half(ipv4).copied().collect();
        let start = Instant::now();
        let tables = RuleTables::adopt(KernelTables(filter.loaded.maps.clone()), SEED, wanted, [])?;
        expect(&filter, &frame, DROP)?;
        let what = format!("100,000 {family} addresses compiled into empty tables, to the first drop");
        report.figure(what, start.elapsed().as_secs_f64(), "s", Some(3.0));
        drop(tables);

        let mut filter = Filter::load(None, Options::default())?;
        let start = Instant::now();
        for entry in half(ipv4) {
            filter.tables.set(&entry.prefix, entry.action, Some(entry.until))?;
        }
        expect(&filter, &frame, DROP)?;
        let what = format!("100,000 {family} addresses added one by one, to the first drop");
        report.figure(what, start.elapsed().as_secs_f64(), "s", Some(3.0));
    }

    let mut filter = Filter::load(Some(Blocked::Addresses), Options::default())?;
    for (what, ipv6, len) in
        [("IPv4 address", false, 32), ("IPv4 /26", false, 26), ("IPv4 /8", false, 8), ("IPv6 address", true, 128)]
    {
        let spread = one_change(&mut filter, ipv6, len)?;
        let what = format!("one {what} blocked among 100,000 others, to the first drop");
        report.figure(what, spread.median * 1e3, "ms", Some(5.0));
    }
    report.figure("kernel memory of all maps", memory()? as f64 / f64::from(1 << 20), "MiB", None);
    Ok(())
}

/// Seconds from a change to the first dropped packet.
fn one_change(filter: &mut Filter, ipv6: bool, len: u8) -> Result<Spread> {
    let mut seconds = Vec::with_capacity(CHANGES);
    for number in 0..CHANGES as u32 {
        let bits = scattered(BLOCKED + 1 + number);
        let prefix = Prefix::new(if ipv6 { v6(bits) } else { v4(bits) }, len)?;
        let frame = frame_from(bits, ipv6, 443);
        let start = Instant::now();
        filter.tables.set(&prefix, Action::Block, Some(Until::Forever))?;
        expect(filter, &frame, DROP)?;
        seconds.push(start.elapsed().as_secs_f64());
        filter.tables.set(&prefix, Action::Block, None)?;
        expect(filter, &frame, PASS)?;
    }
    Ok(Spread::of(seconds))
}

fn expect(filter: &Filter, frame: &[u8], verdict: u32) -> Result<()> {
    let seen = run::timed(filter.program.fd(), frame, 1)?.verdict;
    ensure!(seen == verdict, "verdict {seen} where it should be {verdict}");
    Ok(())
}

/// Bytes that the kernel keeps for the maps of the newest filter (`memlock` of each map's file descriptor).
fn memory() -> Result<u64> {
    let newest = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| program.name_as_str() == Some(PROGRAM))
        .max_by_key(|program| program.id())
        .context("the filter is loaded")?;
    let mut bytes = 0;
    for id in newest.map_ids()?.context("the kernel names a program's maps")? {
        let fd = MapInfo::from_id(id)?.fd()?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd_number(&fd)))?;
        let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("fdinfo of a map")?;
        bytes += line.trim().parse::<u64>()?;
    }
    Ok(bytes)
}

fn fd_number(fd: &aya::maps::MapFd) -> i32 {
    use std::os::fd::AsFd as _;
    fd.as_fd().as_raw_fd()
}
