//! A million REGISTERs without credentials: what an answer costs, and that nothing of them is kept.

use std::path::Path;

use anyhow::{Result, ensure};

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

    let challenged = appliance.refused("challenged")?;
    let (mut costs, mut peers, mut alone, mut answered) = (Vec::new(), Vec::new(), Vec::new(), [0, 0]);
    for _ in 0..effort.rounds {
        let (cost, together) = cost(appliance.pid(), &mut ours, each, SOURCES)?;
        costs.push(cost);
        peers.push(self::cost(kamailio.pid(), &mut theirs, each / FEWER, SOURCES)?.0);
        let (cost, one_by_one) = self::cost(appliance.pid(), &mut ours, each / FEWER, 1)?;
        alone.push(cost);
        answered = [answered[0] + together, answered[1] + one_by_one];
    }
    let growth = resident(appliance.pid())? - before;
    let challenged = appliance.refused("challenged")? - challenged;
    ensure!(
        challenged == u64::from(answered[0] + answered[1]),
        "{answered:?} challenges came, and the daemon counted {challenged}"
    );

    let case = format!("an unauthenticated REGISTER challenged, {SOURCES} at once from as many addresses");
    let us = |costs: &[f64]| Spread::of(costs.iter().map(|cost| cost / 1000.0));
    report.spread(&case, us(&costs), "us", Some(20.0));
    report.spread("an unauthenticated REGISTER challenged, one at a time", us(&alone), "us", None);
    let asked = each * effort.rounds as u32;
    let part = f64::from(answered[0]) * 100.0 / f64::from(asked);
    report.figure(format!("of {asked} such requests, {SOURCES} at once, answered"), part, "%", None);
    let growth = growth / f64::from(1 << 20);
    report.figure(format!("growth of VmRSS over {challenged} such requests"), growth, "MiB", Some(1.0));
    report.compared.push(Compared::of(case, &costs, "Kamailio", &peers));
    Ok(())
}

/// Nanoseconds of CPU for each answer, and how many answers.
fn cost(pid: u32, strangers: &mut Strangers, count: u32, at_once: usize) -> Result<(f64, u32)> {
    let before = cpu_time(pid)?;
    let answered = strangers.ask(count, at_once)?;
    settle(pid)?;
    Ok(((cpu_time(pid)? - before).as_nanos() as f64 / f64::from(answered), answered))
}
