//! An hour of calls: what the daemon's memory does. Minute by minute the same calls, so that what is kept for a while is
//! the same each time; the first sixth of the time is for what fills up once.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use pbx_tests::{
    phone::sipp::{self, Answering, Run},
    sandbox::Namespace,
};

use super::{
    appliance::{Appliance, PASSWORD},
    calls::{CALLEE, CALLEES, CALLER, CALLERS, PHONES},
    process::resident,
};
use crate::report::Report;

/// Calls that begin in a second; each lasts for [`TALK`].
const RATE: u32 = 50;
const TALK: Duration = Duration::from_secs(2);

/// Measures it for so many minutes.
pub(super) fn measure(directory: &Path, minutes: usize, report: &mut Report) -> Result<()> {
    let network = Namespace::current()?;
    let appliance = Appliance::start(directory, (CALLERS..CALLERS + PHONES).chain(CALLEES..CALLEES + PHONES))?;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let mut sizes = vec![resident(appliance.pid())?];
    for minute in 1..=minutes {
        let folder = directory.join(format!("minute-{minute}"));
        let phones = (CALLEES..CALLEES + PHONES).map(|number| (number, PASSWORD.to_owned()));
        let registered = sipp::register(&network, &folder, CALLEE.into(), appliance.address, phones, 200)?;
        ensure!(registered.failed == 0, "{} phones did not register", registered.failed);
        let _answering = Answering::start(&network, &folder, CALLEE.into())?;
        let count = RATE as usize * 60;
        let server = appliance.address;
        let run =
            Run { network: &network, directory: &folder, source: CALLER.into(), server, rate: RATE, at_once: 2000 };
        let rows = (0..PHONES).map(|index| (CALLERS + index, PASSWORD.to_owned(), CALLEES + index));
        let counted = sipp::call(&run, rows, count, TALK)?;
        ensure!(counted.failed == 0, "{counted:?} in minute {minute}: {}", run.complaints());
        sizes.push(resident(appliance.pid())?);
        eprintln!("minute {minute} of {minutes}: VmRSS {:.2} MiB", mib(sizes[minute]));
        std::fs::remove_dir_all(&folder)?;
    }
    let warm = (minutes / 6).max(1);
    let per_minute = RATE * 60;
    report.figure("VmRSS before the first call", mib(sizes[0]), "MiB", None);
    report.figure(format!("VmRSS after {warm} min of {per_minute} calls each"), mib(sizes[warm]), "MiB", None);
    let growth = mib(sizes[minutes] - sizes[warm]);
    report.figure(format!("growth of VmRSS from there to minute {minutes}"), growth, "MiB", Some(1.0));
    let most = sizes[warm..].iter().copied().fold(0.0, f64::max);
    report.figure("the most VmRSS at the end of a minute", mib(most), "MiB", None);
    Ok(())
}
