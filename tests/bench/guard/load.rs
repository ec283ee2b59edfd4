//! The row "flood": 50 calls a second with digest through a veth link, and beside them, on another, nothing, a source
//! that sends as fast as the veth can, or 10,000 spoofed ones that do.
//!
//! ```text
//!   phones ──── lan-good   server   lan-bad ──── generator
//! ```
//!
//! The server and the phones have all CPUs but the last, in all conditions; the generator has the last one, where the
//! kernel also judges and queues its packets.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::{
    lab::Lab,
    phone::{
        callees::Callees,
        callers::{Callers, Row},
        sipp,
    },
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
/// A rate that all sides reach, in packets a second.
const SAME: u32 = 100_000;
/// Conditions: sources, and their packets in a second, if not as many as the veth takes.
const CASES: [(&str, u32, Option<u32>); 4] = [
    ("nothing", 0, None),
    ("one source, unbounded", 1, None),
    ("10,000, at 100,000/s", 10_000, Some(SAME)),
    ("10,000, unbounded", 10_000, None),
];

/// What one condition was like in one round.
struct Measured {
    calls: usize,
    successful: usize,
    /// Set-up times in ms; infinite for those that were not set up.
    times: Vec<f64>,
    /// Packets of the flood in a second.
    flood: f64,
    /// Datagrams that waited at a full socket and were lost, in a second.
    lost: f64,
    /// Datagrams that were read, in a second, those of the calls included.
    read: f64,
}

/// Measures it.
pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    // Asked before anybody is pinned.
    let _ = run::cpu();
    let mut rounds: Vec<Vec<Vec<Measured>>> = Vec::new();
    for _ in 0..effort.loads {
        let mut round = Vec::new();
        for side in Side::ALL {
            let measured = Sandbox::run(|sandbox| one_side(sandbox, side, effort.calls));
            round.push(measured.with_context(|| format!("against {}", side.name()))?);
        }
        rounds.push(round);
    }
    for (case, (name, ..)) in CASES.into_iter().enumerate() {
        for (index, side) in Side::ALL.into_iter().enumerate() {
            let of = |case: usize| rounds.iter().map(move |round| &round[index][case]);
            let mut times: Vec<f64> = of(case).flat_map(|measured| &measured.times).copied().collect();
            times.sort_by(f64::total_cmp);
            let ratios = of(case).zip(of(0)).map(|(busy, quiet)| median(busy) / median(quiet));
            report.sides.push(report::Side {
                who: side.name(),
                case: name.to_owned(),
                flood: Spread::of(of(case).map(|measured| measured.flood)),
                read: Spread::of(of(case).map(|measured| measured.read)).median,
                lost: Spread::of(of(case).map(|measured| measured.lost)).median,
                calls: of(case).map(|measured| measured.calls).sum(),
                successful: of(case).map(|measured| measured.successful).sum(),
                median_ms: percentile(&times, 0.5),
                p95_ms: percentile(&times, 0.95),
                of_quiet: Spread::of(ratios),
                target: (side == Side::Ours && case > 0).then_some(TARGET),
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
    let _callees = Callees::start(&lab.good.network, callee)?;
    // The first calls of all are nobody's figures: afterwards the callers are known, and caches are warm.
    let warm = load(&lab, &server, 6100, PHONES as usize)?;
    ensure!(warm.successful == PHONES as usize, "only {} of {PHONES} first calls went through", warm.successful);
    CASES
        .into_iter()
        .enumerate()
        .map(|(case, (_, sources, rate))| {
            process::settle(server.pid())?;
            // A socket of its own: nothing of an earlier condition comes in here.
            let port = 6101 + case as u16;
            if sources == 0 {
                return load(&lab, &server, port, calls);
            }
            let flood = Flood::start(&lab.bad, server.address, sources, rate)?;
            let (begin, before) = (Instant::now(), Counters::read(&lab)?);
            let measured = load(&lab, &server, port, calls);
            let (after, taken) = (Counters::read(&lab)?, begin.elapsed().as_secs_f64());
            flood.stop()?;
            let rate = |of: fn(&Counters) -> u64| (of(&after) - of(&before)) as f64 / taken;
            Ok(Measured { flood: rate(|c| c.received), lost: rate(|c| c.lost), read: rate(|c| c.read), ..measured? })
        })
        .collect()
}

/// What the kernel counted so far.
struct Counters {
    /// Packets that came in on the flooded link, those that XDP dropped included.
    received: u64,
    /// Datagrams that were read, by whomever in the server's namespace.
    read: u64,
    /// Datagrams for which a socket had no room.
    lost: u64,
}

impl Counters {
    fn read(lab: &Lab) -> Result<Self> {
        let file = format!("/sys/class/net/{}/statistics/rx_packets", lab.bad.interface);
        let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        let received = text.trim().parse().context("a number of packets")?;
        let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(str::split_whitespace);
        let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
        let columns: Vec<(&str, &str)> = names.zip(values).collect();
        let column = |name: &str| -> Result<u64> {
            let (_, value) =
                columns.iter().find(|(column, _)| *column == name).with_context(|| format!("no {name}"))?;
            value.parse().with_context(|| name.to_owned())
        };
        Ok(Self { received, read: column("InDatagrams")?, lost: column("RcvbufErrors")? })
    }
}

/// So many calls.
fn load(lab: &Lab, server: &Running, port: u16, calls: usize) -> Result<Measured> {
    let callers = Callers {
        network: &lab.good.network,
        source: (IpAddr::from(CALLER), port).into(),
        server: server.address,
        rate: RATE,
        patience: PATIENCE,
    };
    let rows: Vec<Row> = (0..PHONES).map(|index| (CALLERS + index, PASSWORD.to_owned(), CALLEES + index)).collect();
    let called = callers.call(&rows, calls)?;
    if !called.complaints.is_empty() {
        eprintln!("unexpected: {}", called.complaints.join(", "));
    }
    let mut times: Vec<f64> = called.setups.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
    times.resize(calls, f64::INFINITY);
    times.sort_by(f64::total_cmp);
    Ok(Measured { calls, successful: called.successful, times, flood: 0.0, lost: 0.0, read: 0.0 })
}
