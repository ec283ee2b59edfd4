//! A flood over veth: what dropping a packet costs the machine, by the filter and by nftables' ingress hook.
//!
//! ```text
//!   neighbour                    appliance
//!   generate ──redirect──> out ─────── in: XDP, or nftables' netdev ingress
//! ```
//!
//! Frames are made by a live test run and dropped in the same thread's softirq, so that one clock sees it all.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use pbx_ebpf::abi::stats::Reason;
use pbx_tests::sandbox::{Namespace, ip};
use pbx_xdp::Options;

use crate::{
    pairs::Effort,
    population::{BLOCKED, Blocked, Sources, scattered, v4},
    programs::{Driver, Filter},
    report::{Compared, Report, Spread},
    run,
};

const IN: &str = "bench-in";
const OUT: &str = "bench-out";

/// Measures it, in the network of the calling thread.
pub(crate) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let neighbour = Namespace::new()?;
    ip(&format!("link add {IN} type veth peer name {OUT} netns {}", neighbour.path().display()))?;
    ip(&format!("link set {IN} up"))?;
    neighbour.ip(&format!("link set {OUT} up"))?;
    let output = neighbour.enter(|| Ok(nix::net::if_::if_nametoindex(OUT)?))?;

    // A veth takes redirected frames only while its peer polls: with an XDP program, or for GRO.
    command("ethtool", &["-K", IN, "gro", "on"], "")?;
    command("nft", &["-f", "-"], &ruleset())?;
    let mut driver = Driver::load(output)?;
    let generate = driver.program("generate")?;
    driver.program("drop_all")?;
    let frame = Sources::BLOCKED.frame(false, 5060);
    let mut filter = Filter::load(Some(Blocked::Addresses), Options::default())?;
    let enforcement = filter.enforcement;
    filter.loaded.maps.write_interface(nix::net::if_::if_nametoindex(IN)?, 2, enforcement);

    let flood = |repeat: u32| -> Result<f64> {
        neighbour.enter(|| {
            run::pin()?;
            let before = softirq_thread()?;
            let outcome = run::live(generate.fd(), &frame, repeat)?;
            Ok(outcome.nanoseconds + (softirq_thread()? - before) / f64::from(repeat))
        })
    };
    let mut rounds = Vec::new();
    let (mut dropped, mut sent) = ([0u64; 2], 0u64);
    for round in 0..=effort.rounds {
        let repeat = if round == 0 { effort.repeat / 4 } else { effort.repeat };
        let link = driver.attach("drop_all", IN)?;
        let floor = flood(repeat)?;
        drop(link);
        let before = counted(&filter)?;
        let link = filter.attach(IN)?;
        let ours = flood(repeat)?;
        drop(link);
        filter.drain();
        dropped[0] += counted(&filter)? - before;
        let before = nft_packets()?;
        let nftables = flood(repeat)?;
        dropped[1] += nft_packets()? - before;
        sent += u64::from(repeat);
        if round > 0 {
            rounds.push((floor, ours, nftables));
        }
    }
    let median = |pick: fn(&(f64, f64, f64)) -> f64| Spread::of(rounds.iter().map(pick)).median;
    report.figure(
        "flood over veth: generator, link and a program that drops at once (floor)",
        median(|r| r.0),
        "ns",
        None,
    );
    report.figure("flood over veth: with pbx, floor included", median(|r| r.1), "ns", None);
    report.figure("flood over veth: with nftables, floor included", median(|r| r.2), "ns", None);
    for (who, dropped) in [("pbx", dropped[0]), ("nftables", dropped[1])] {
        report.figure(
            format!("flood over veth: part of the frames that {who} counted as dropped"),
            dropped as f64 / sent as f64 * 100.0,
            "%",
            None,
        );
    }
    report.compared.push(Compared {
        case: "flood over veth, 100,000 blocked addresses, floor subtracted".to_owned(),
        peer: "nftables ingress".to_owned(),
        ours_ns: median(|r| r.1 - r.0),
        peer_ns: median(|r| r.2 - r.0),
        ratio: Spread::of(rounds.iter().map(|(floor, ours, nftables)| (ours - floor) / (nftables - floor))),
        target: Some(0.35),
    });
    Ok(())
}

/// The same addresses in a set at the netdev ingress hook.
fn ruleset() -> String {
    let addresses: Vec<String> = (0..BLOCKED).map(|number| v4(scattered(number)).to_string()).collect();
    format!(
        "table netdev bench {{\n set blocked {{ type ipv4_addr; elements = {{ {} }} }}\n counter dropped {{ }}\n \
         chain ingress {{ type filter hook ingress device \"{IN}\" priority 0; \
         ip saddr @blocked counter name dropped drop; }}\n}}\n",
        addresses.join(", ")
    )
}

fn nft_packets() -> Result<u64> {
    let text = command("nft", &["list", "counter", "netdev", "bench", "dropped"], "")?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).context("nft names the packets of a counter")?.parse().context("nft's counter")
}

/// Packets that the filter dropped so far.
fn counted(filter: &Filter) -> Result<u64> {
    let counters = filter.loaded.maps.stats.get(&2, 0)?;
    Ok(counters.iter().map(|cpu| cpu.0[Reason::Manual as usize][0]).sum())
}

/// CPU time (ns) of the thread that serves softirqs which found no end in time.
fn softirq_thread() -> Result<f64> {
    let name = format!("ksoftirqd/{}", run::cpu());
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let text = fs::read_to_string(path.join("schedstat"))?;
            return text.split_whitespace().next().context("schedstat")?.parse().context("schedstat");
        }
    }
    // In a process namespace of its own the thread is not to be seen.
    Ok(0.0)
}

/// Runs a program with this on its standard input; what it printed.
pub(crate) fn command(name: &str, words: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(name)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {name}: install it with `apt-get install ethtool nftables`"))?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {}: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
