//! A million REGISTERs without credentials: what an answer costs, and that nothing of them is kept.

use std::path::Path;

use anyhow::Result;

use super::{
    Effort,
    appliance::{Appliance, PASSWORD},
    kamailio::{self, Kamailio},
    process::{cpu_time, resident, settle},
    strangers::{SOURCES, Strangers},
};
use crate::report::{Compared, Report, Spread};

/// Kamailio is asked so many times fewer.
const FEWER: u32 = 5;

/// Measures it.
pub(super) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let appliance = Appliance::start(directory, 200_000..200_100)?;
    let kamailio = Kamailio::start(directory, kamailio::ADDRESS.parse()?, PASSWORD)?;
    let mut ours = Strangers::new(appliance.address)?;
    let mut theirs = Strangers::new(kamailio.address)?;
    let each = effort.strangers / effort.rounds as u32;
    let warm = each / 10;
    ours.ask(warm, SOURCES)?;
    theirs.ask(warm / FEWER, SOURCES)?;
    settle(appliance.pid())?;
    let before = resident(appliance.pid())?;

    let (mut costs, mut peers, mut alone, mut answered) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..effort.rounds {
        let (cost, got) = cost(appliance.pid(), &mut ours, each, SOURCES)?;
        costs.push(cost);
        answered += got;
        peers.push(self::cost(kamailio.pid(), &mut theirs, each / FEWER, SOURCES)?.0);
        alone.push(self::cost(appliance.pid(), &mut ours, each / 10, 1)?.0);
    }
    let growth = resident(appliance.pid())? - before;

    let case = format!("an unauthenticated REGISTER challenged, {SOURCES} at once from as many addresses");
    report.figure(&case, Spread::of(costs.iter().copied()).median / 1000.0, "us", Some(20.0));
    report.figure(
        "an unauthenticated REGISTER challenged, one at a time",
        Spread::of(alone).median / 1000.0,
        "us",
        None,
    );
    let asked = each * effort.rounds as u32;
    report.figure(
        format!("of {asked} such requests answered"),
        f64::from(answered) * 100.0 / f64::from(asked),
        "%",
        None,
    );
    report.figure(format!("growth of VmRSS over {asked} such requests"), growth / f64::from(1 << 20), "MiB", Some(1.0));
    report.compared.push(Compared {
        case,
        peer: "Kamailio".to_owned(),
        ours_ns: Spread::of(costs.iter().copied()).median,
        peer_ns: Spread::of(peers.iter().copied()).median,
        ratio: Spread::of(costs.iter().zip(&peers).map(|(ours, peer)| ours / peer)),
        target: None,
    });
    Ok(())
}

/// Nanoseconds of CPU for each answer, and how many answers.
fn cost(pid: u32, strangers: &mut Strangers, count: u32, at_once: usize) -> Result<(f64, u32)> {
    let before = cpu_time(pid)?;
    let answered = strangers.ask(count, at_once)?;
    settle(pid)?;
    Ok(((cpu_time(pid)? - before).as_nanos() as f64 / f64::from(answered), answered))
}
