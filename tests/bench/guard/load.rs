//! The row "flood": 50 calls a second with digest through a veth link, and beside them, on another, nothing, a source
//! that sends as fast as the veth can, or 10,000 spoofed ones that do.
//!
//! ```text
//!   SIPp ──── lan-good   server   lan-bad ──── generator
//! ```
//!
//! The server and SIPp have all CPUs but the last, in all conditions; the generator has the last one, where the kernel
//! also judges and queues its packets.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::{
    lab::Lab,
    phone::sipp::{self, Answering, Run},
    sandbox::{Sandbox, ip},
};

use super::{
    Effort,
    generator::{self, Flood},
    sides::{Running, Side},
};
use crate::{
    report::{self, Report, Spread},
    run,
    sip::{appliance::PASSWORD, process},
};

/// Calls that begin in a second.
pub(super) const RATE: u32 = 50;
/// Who calls, and who is called, each from one address.
const CALLERS: u32 = 200_000;
const CALLEES: u32 = 210_000;
const PHONES: u32 = 50;
const CALLER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 20);
const CALLEE: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 21);
/// Whoever hears nothing for so long gives a call up.
const PATIENCE: Duration = Duration::from_secs(8);
/// The median set-up time that was aimed at, by the quiet one.
const TARGET: f64 = 1.5;
/// Conditions, by the number of sources.
const CASES: [(&str, u32); 3] = [("nothing", 0), ("one source", 1), ("10,000 spoofed sources", 10_000)];

/// What one condition was like in one round.
struct Measured {
    calls: usize,
    successful: usize,
    /// Set-up times in ms; infinite for those that were not set up.
    times: Vec<f64>,
    /// Packets of the flood in a second.
    flood: f64,
}

/// Measures it.
pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    // Asked before anybody is pinned.
    let _ = run::cpu();
    let mut rounds: Vec<[Vec<Measured>; 3]> = Vec::new();
    for _ in 0..effort.loads {
        let mut round = Vec::new();
        for side in Side::ALL {
            let measured = Sandbox::run(|sandbox| one_side(sandbox, side, effort.calls));
            round.push(measured.with_context(|| format!("against {}", side.name()))?);
        }
        rounds.push(round.try_into().map_err(|_| anyhow::anyhow!("three sides"))?);
    }
    for (case, (name, _)) in CASES.into_iter().enumerate() {
        for (index, side) in Side::ALL.into_iter().enumerate() {
            let of = |case: usize| rounds.iter().map(move |round| &round[index][case]);
            let mut times: Vec<f64> = of(case).flat_map(|measured| &measured.times).copied().collect();
            times.sort_by(f64::total_cmp);
            let ratios = of(case).zip(of(0)).map(|(busy, quiet)| median(busy) / median(quiet));
            report.sides.push(report::Side {
                who: side.name(),
                case: name.to_owned(),
                flood: Spread::of(of(case).map(|measured| measured.flood)),
                calls: of(case).map(|measured| measured.calls).sum(),
                successful: of(case).map(|measured| measured.successful).sum(),
                median_ms: percentile(&times, 0.5),
                p95_ms: percentile(&times, 0.95),
                of_quiet: Spread::of(ratios),
                target: (side == Side::Ours).then_some(TARGET),
            });
        }
    }
    Ok(())
}

fn median(measured: &Measured) -> f64 {
    percentile(&measured.times, 0.5)
}

fn percentile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

/// All conditions, one after the other, against one side in a sandbox of its own.
fn one_side(sandbox: &Sandbox, side: Side, calls: usize) -> Result<Vec<Measured>> {
    run::avoid()?;
    let lab = Lab::build(sandbox)?;
    let phones = [IpAddr::from(CALLER), IpAddr::from(CALLEE)];
    for phone in phones {
        lab.good.add_address(phone)?;
    }
    ip(&format!("route add {} via {}", generator::NETWORK, lab.bad.v4()))?;
    let numbers = (CALLERS..CALLERS + PHONES).chain(CALLEES..CALLEES + PHONES);
    let server = side.start(sandbox, &lab, numbers, &phones)?;
    let directory = sandbox.directory();
    let callees = (CALLEES..CALLEES + PHONES).map(|number| (number, PASSWORD.to_owned()));
    let callee = (phones[1], 6200).into();
    let registered =
        sipp::register(&lab.good.network, &directory.join("registers"), callee, server.address, callees, RATE)?;
    ensure!(registered.failed == 0, "{} phones did not register", registered.failed);
    let _answering = Answering::start(&lab.good.network, &directory.join("answers"), callee)?;
    // The first calls of all are nobody's figures: afterwards the callers are known, and caches are warm.
    let warm = load(&lab, &server, &directory.join("warm"), PHONES as usize)?;
    ensure!(warm.successful == PHONES as usize, "only {} of {PHONES} first calls went through", warm.successful);
    CASES
        .into_iter()
        .enumerate()
        .map(|(case, (_, sources))| {
            process::settle(server.pid())?;
            let folder = directory.join(format!("calls-{case}"));
            if sources == 0 {
                return load(&lab, &server, &folder, calls);
            }
            let (begin, before) = (Instant::now(), received(lab.bad.interface)?);
            let flood = Flood::start(&lab.bad, server.address, sources)?;
            let measured = load(&lab, &server, &folder, calls);
            let rate = (received(lab.bad.interface)? - before) as f64 / begin.elapsed().as_secs_f64();
            flood.stop()?;
            Ok(Measured { flood: rate, ..measured? })
        })
        .collect()
}

/// Packets that came in on an interface so far, those that XDP dropped included.
fn received(interface: &str) -> Result<u64> {
    let file = format!("/sys/class/net/{interface}/statistics/rx_packets");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    text.trim().parse().context("a number of packets")
}

/// So many calls.
fn load(lab: &Lab, server: &Running, directory: &Path, calls: usize) -> Result<Measured> {
    let run = Run {
        network: &lab.good.network,
        directory,
        source: (IpAddr::from(CALLER), 6100).into(),
        server: server.address,
        rate: RATE,
        at_once: 2000,
    };
    let rows = (0..PHONES).map(|index| (CALLERS + index, PASSWORD.to_owned(), CALLEES + index));
    let (counted, mut times) = sipp::call_timed(&run, rows, calls, PATIENCE)?;
    ensure!(times.len() <= calls, "{} times of {calls} calls", times.len());
    times.resize(calls, f64::INFINITY);
    times.sort_by(f64::total_cmp);
    Ok(Measured { calls, successful: counted.successful as usize, times, flood: 0.0 })
}
