//! Calls with digest, set up and torn down, ours and Kamailio's as a mere proxy, by the same SIPp: INVITE, 407, ACK,
//! INVITE with credentials, 180, 200, ACK, BYE, 200. Then what calls in progress take of memory, and what 200 calls a
//! second take of the core thread.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::{
    phone::sipp::{self, Answering, Run},
    sandbox::Namespace,
};

use super::{
    Effort,
    appliance::{Appliance, PASSWORD},
    kamailio::{self, Kamailio},
    process::{cpu_time, resident, settle},
};
use crate::report::{Compared, Report, Spread};

/// Who calls, and who is called.
pub(super) const CALLERS: u32 = 200_000;
pub(super) const CALLEES: u32 = 210_000;
pub(super) const PHONES: u32 = 50;
/// Where they are.
pub(super) const CALLER: ([u8; 4], u16) = ([127, 4, 0, 1], 6100);
pub(super) const CALLEE: ([u8; 4], u16) = ([127, 4, 0, 2], 6200);
/// Calls that begin in a second.
const RATE: u32 = 200;
/// Calls in progress at once, for the memory that they take.
const IN_PROGRESS: usize = 1000;

/// Measures it.
pub(super) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let network = Namespace::current()?;
    let numbers = (CALLERS..CALLERS + PHONES).chain(CALLEES..CALLEES + PHONES);
    let appliance = Appliance::start(directory, numbers)?;
    let kamailio = Kamailio::start(directory, kamailio::ADDRESS.parse()?, PASSWORD)?;
    let servers = [(appliance.address, appliance.pid()), (kamailio.address, kamailio.pid())];
    for (index, (server, _)) in servers.into_iter().enumerate() {
        let phones = (CALLEES..CALLEES + PHONES).map(|number| (number, PASSWORD.to_owned()));
        let folder = directory.join(format!("sipp-registers-{index}"));
        let registered = sipp::register(&network, &folder, CALLEE.into(), server, phones, RATE)?;
        ensure!(registered.failed == 0, "{} phones did not register at {server}", registered.failed);
    }
    let _answering = Answering::start(&network, &directory.join("sipp-answers"), CALLEE.into())?;

    let count = if effort.rounds >= Effort::FULL.rounds { 1000 } else { 300 };
    let rounds = effort.rounds.min(10);
    let (mut ours, mut theirs, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        for (index, (server, pid)) in servers.into_iter().enumerate() {
            settle(pid)?;
            let folder = directory.join(format!("sipp-calls-{index}-{round}"));
            let core = if index == 0 { Some(thread_time(pid, "pbx-core")?) } else { None };
            let (before, begin) = (cpu_time(pid)?, Instant::now());
            call(&network, &folder, server, count, Duration::ZERO)?;
            let taken = begin.elapsed();
            if let Some(core) = core {
                let share = (thread_time(pid, "pbx-core")? - core).as_secs_f64() / taken.as_secs_f64();
                busy.push(share * f64::from(RATE) / (count as f64 / taken.as_secs_f64()) * 100.0);
            }
            settle(pid)?;
            let cost = (cpu_time(pid)? - before).as_nanos() as f64 / count as f64;
            if index == 0 { ours.push(cost) } else { theirs.push(cost) }
        }
    }
    let case = "a call with digest, set up and torn down";
    report.spread(case, Spread::of(ours.iter().map(|cost| cost / 1000.0)), "us", Some(500.0));
    report.compared.push(Compared::of(case, &ours, "Kamailio", &theirs));
    report.spread("core thread at 200 calls a second", Spread::of(busy), "% of a CPU", Some(50.0));
    memory(&network, directory, &appliance, report)
}

/// Memory with many calls in progress.
fn memory(network: &Namespace, directory: &Path, appliance: &Appliance, report: &mut Report) -> Result<()> {
    let talk = Duration::from_secs(20);
    let folder = directory.join("sipp-in-progress");
    thread::scope(|scope| {
        let calling = scope.spawn(|| call(network, &folder, appliance.address, IN_PROGRESS, talk));
        let begin = Instant::now();
        while appliance.calls()? < IN_PROGRESS {
            ensure!(begin.elapsed() < talk, "only {} calls are in progress", appliance.calls()?);
            thread::sleep(Duration::from_millis(200));
        }
        let mib = resident(appliance.pid())? / f64::from(1 << 20);
        report.figure(format!("VmRSS with {IN_PROGRESS} calls in progress"), mib, "MiB", Some(200.0));
        calling.join().map_err(|_| anyhow::anyhow!("whoever calls broke off"))?
    })
}

fn call(network: &Namespace, directory: &Path, server: SocketAddr, count: usize, talk: Duration) -> Result<()> {
    let run = Run { network, directory, source: CALLER.into(), server, rate: RATE, at_once: 2000 };
    let rows = (0..PHONES).map(|index| (CALLERS + index, PASSWORD.to_owned(), CALLEES + index));
    let counted = sipp::call(&run, rows, count, talk)?;
    ensure!(counted.successful == count as u64 && counted.failed == 0, "{counted:?} at {server}: {}", run.complaints());
    Ok(())
}

/// CPU time of a thread, by its name (`/proc/PID/task/TID/schedstat`, its first number, in nanoseconds).
fn thread_time(pid: u32, name: &str) -> Result<Duration> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        if fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let stat = fs::read_to_string(task.path().join("schedstat"))?;
            let nanos = stat.split_whitespace().next().context("an empty schedstat")?.parse()?;
            return Ok(Duration::from_nanos(nanos));
        }
    }
    anyhow::bail!("process {pid} has no thread {name}")
}
