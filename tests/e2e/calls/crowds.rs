//! Many calls at once, from few addresses, under an enforcing filter that allows nobody.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use pbx_tests::{
    phone::{media, sipp},
    site::{Site, UDP, on_site, server},
};
use serde_json::Value;

use super::{Side, connect, sound, wait_no_calls};

const SOURCES: u8 = 20;

#[test]
fn sipp_calls_from_twenty_addresses_and_no_call_fails() {
    on_site(|site, daemon| {
        call_from_everywhere(site, 20, Duration::from_secs(5))?;
        daemon.stop()
    });
}

#[test]
#[ignore = "takes a minute, and a build with optimisation: cargo test --release"]
fn two_hundred_calls_a_second_from_twenty_addresses_for_thirty_seconds_and_no_call_fails() {
    on_site(|site, daemon| {
        call_from_everywhere(site, 200, Duration::from_secs(30))?;
        daemon.stop()
    });
}

/// So many calls a second in all, each by an extension of its own.
fn call_from_everywhere(site: &Site, rate: u32, time: Duration) -> Result<()> {
    let phones = extensions(site, 20_000, 400)?;
    let (callers, callees) = phones.split_at(phones.len() / 2);
    let (good, bad) = (&site.lab.good, &site.lab.bad);
    let sources: Vec<IpAddr> = (0..SOURCES).map(|index| Ipv4Addr::new(10, 77, 2, 100 + index).into()).collect();
    sources.iter().try_for_each(|source| bad.add_address(*source))?;
    assert_eq!(site.pbx.pbx("allow list")?["items"].as_array().map(Vec::len), Some(0));
    assert_eq!(site.pbx.pbx("status")?.pointer("/filter/mode"), Some(&"enforce".into()));

    let answers = site.sandbox.directory().join("sipp-answers");
    let source = (good.v4(), 5080).into();
    let registered = sipp::register(&good.network, &answers, source, server(good, UDP), callees.to_vec(), 100)?;
    assert_eq!((registered.successful, registered.failed), (callees.len() as u64, 0));
    let answering = sipp::Answering::start(&good.network, &answers, source)?;

    let count = (rate / u32::from(SOURCES)) as usize * time.as_secs() as usize;
    let counted: Result<Vec<sipp::Counted>> = thread::scope(|scope| {
        let each = callers.len() / usize::from(SOURCES);
        let running = sources.iter().zip(callers.chunks(each)).zip(callees.chunks(each)).map(|((source, from), to)| {
            let directory = site.sandbox.directory().join(format!("sipp-{source}"));
            let calls: Vec<_> =
                from.iter().zip(to).map(|((number, password), (whom, _))| (*number, password.clone(), *whom)).collect();
            scope.spawn(move || {
                let run = sipp::Run {
                    network: &bad.network,
                    directory: &directory,
                    source: (*source, 5080).into(),
                    server: server(bad, UDP),
                    rate: rate / u32::from(SOURCES),
                    at_once: 1000,
                };
                let counted = sipp::call(&run, calls, count, Duration::from_secs(1))?;
                ensure!(counted.failed == 0, "{counted:?} {}", run.complaints());
                Ok(counted)
            })
        });
        let running: Vec<_> = running.collect();
        running.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("sipp panicked"))?).collect()
    });
    let counted = counted?;
    let all = count as u64 * u64::from(SOURCES);
    assert_eq!(counted.iter().map(|one| one.successful).sum::<u64>(), all, "{counted:?}");
    drop(answering);
    wait_no_calls(site)?;
    let answered = site.pbx.wait("cdr list --limit 1 --disposition answered", |list| list["count"] == all)?;
    assert_eq!(answered["count"], all);
    assert_eq!(site.pbx.pbx("block list")?["items"].as_array().map(Vec::len), Some(0));
    Ok(())
}

/// Imports extensions; number and password of each.
fn extensions(site: &Site, first: u32, count: u32) -> Result<Vec<(u32, String)>> {
    let list = site.sandbox.directory().join("extensions.csv");
    let rows: String = (first..first + count).map(|number| format!("{number},Phone {number}\n")).collect();
    std::fs::write(&list, format!("number,name\n{rows}"))?;
    let imported = site.pbx.pbx(&format!("ext import {}", list.display()))?;
    let made = imported["passwords"].as_array().context("passwords")?;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    made.iter().map(|one| Ok((text(one, "extension_number").parse()?, text(one, "extension_password")))).collect()
}

#[test]
fn fifty_calls_with_media_lose_no_packet() {
    on_site(|site, daemon| {
        media_at_once(site, 50, Duration::from_secs(5))?;
        daemon.stop()
    });
}

#[test]
#[ignore = "takes minutes, and a build with optimisation: cargo test --release"]
fn five_hundred_calls_with_media_lose_no_packet_in_a_minute() {
    on_site(|site, daemon| {
        media_at_once(site, 500, Duration::from_secs(60))?;
        daemon.stop()
    });
}

/// So many calls in progress, all of which talk for so long.
fn media_at_once(site: &Site, count: u32, time: Duration) -> Result<()> {
    let (good, bad) = (&site.lab.good, &site.lab.bad);
    let mut sides = Vec::new();
    for index in 0..count {
        let (caller, callee) =
            (site.handset(good, &(30_000 + index).to_string())?, site.handset(bad, &(40_000 + index).to_string())?);
        let (one, two) = connect(caller, callee, sound(good, 440)?, sound(bad, 700)?)?;
        sides.extend([one, two]);
    }
    let listed = site.pbx.pbx("call list --limit 1")?;
    assert_eq!(listed["count"], count, "{listed:#}");
    let mut streams: Vec<_> = sides.iter_mut().map(|side| (&mut side.media, side.to)).collect();
    media::play(&mut streams, time)?;
    let packets = (time.as_millis() / media::PACKET.as_millis()) as u64;
    let mut streams: Vec<_> = sides.iter_mut().map(|side| (&mut side.media, packets)).collect();
    let missing = media::wait_packets(&mut streams)?;
    ensure!(missing == 0, "{missing} of {} packets are missing", packets * u64::from(count) * 2);
    ensure!(overflows()? == 0, "receive queues of the appliance have overflowed {} times", overflows()?);
    for pair in sides.chunks_mut(2) {
        let [one, two] = pair else { unreachable!("made in pairs") };
        super::hang_up(one, two)?;
    }
    wait_no_calls(site)?;
    site.pbx.wait("cdr list --limit 1 --disposition answered", |list| list["count"] == count)?;
    check_sides(&sides, packets)
}

fn check_sides(sides: &[Side], packets: u64) -> Result<()> {
    for side in sides {
        let taken = &side.media.taken;
        ensure!(taken.packets == packets && taken.sources.len() == 1, "{:?} {:?}", taken.packets, taken.sources);
    }
    Ok(())
}

/// Datagrams that sockets of the appliance had no room for (the last column of `/proc/net/udp`).
fn overflows() -> Result<u64> {
    let mut sum = 0;
    for file in ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"] {
        let table = std::fs::read_to_string(file)?;
        sum +=
            table.lines().skip(1).filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}
