//! Registrations with digest, ours and Kamailio's, by the same crowd: REGISTER, 401, REGISTER with credentials, 200.
//! First each phone anew, then all of them again; and what memory they take.

use std::{net::SocketAddr, ops::Range, path::Path};

use anyhow::{Result, ensure};
use pbx_tests::phone::crowd::Crowd;

use super::{
    Effort,
    appliance::{Appliance, PASSWORD},
    kamailio::{self, Kamailio},
    process::{cpu_time, resident, settle},
};
use crate::report::{Compared, Report, Spread};

const FIRST: u32 = 100_000;
/// Where all phones are.
const SOURCE: ([u8; 4], u16) = ([127, 3, 0, 1], 6000);

/// Requests that may be unanswered at once, of phones in a crowd.
const AT_ONCE: usize = 50;

/// Measures it.
pub(super) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let appliance = Appliance::start(directory, FIRST..FIRST + effort.phones)?;
    let kamailio = Kamailio::start(directory, kamailio::ADDRESS.parse()?, PASSWORD)?;
    let servers = [(appliance.address, appliance.pid()), (kamailio.address, kamailio.pid())];
    for (server, pid) in servers {
        refuses(server)?;
        settle(pid)?;
    }
    let before = resident(appliance.pid())?;
    let each = effort.phones / effort.rounds as u32;
    let rounds = || (0..effort.rounds as u32).map(|round| FIRST + round * each..FIRST + (round + 1) * each);
    let both = |run: u32, window: usize| {
        let round = |numbers: Range<u32>| servers.map(|server| cost(server, numbers.clone(), run, window));
        rounds().map(round).collect::<Vec<_>>()
    };

    let anew = both(0, AT_ONCE);
    let after = resident(appliance.pid())?;
    let target = Some(100.0);
    compared(&format!("a registration with digest, a phone's first, {AT_ONCE} at once"), target, anew, report)?;
    compared(&format!("a registration with digest, a refresh, {AT_ONCE} at once"), target, both(1, AT_ONCE), report)?;
    compared("a registration with digest, a refresh, one at a time", target, both(2, 1), report)?;

    let registered = each * effort.rounds as u32;
    let counted = appliance.registered()?;
    ensure!(counted == registered as usize, "{registered} phones were answered 200, and {counted} are registered");
    let mib = f64::from(1 << 20);
    report.figure(format!("VmRSS with {registered} registrations"), after / mib, "MiB", target);
    report.figure(format!("growth of VmRSS by {registered} registrations"), (after - before) / mib, "MiB", None);
    let refreshed = resident(appliance.pid())?;
    report.figure(format!("VmRSS with {registered} registrations, refreshed twice"), refreshed / mib, "MiB", target);
    Ok(())
}

/// Whether the server asks for the password at all.
fn refuses(server: SocketAddr) -> Result<()> {
    let password = "Wrong-kestrel-58".to_owned();
    let outcome = Crowd { password, ..crowd(server, FIRST..FIRST + 10, 99, 1) }.register()?;
    ensure!(outcome.refused.len() == 10, "{server} does not refuse a wrong password");
    Ok(())
}

fn crowd(server: SocketAddr, numbers: Range<u32>, run: u32, window: usize) -> Crowd {
    Crowd {
        // Always the same, so that the same contacts register again.
        source: SocketAddr::from(SOURCE),
        server,
        domain: server.ip().to_string(),
        numbers: numbers.collect(),
        password: PASSWORD.to_owned(),
        window,
        answers: true,
        run,
    }
}

fn compared(case: &str, target: Option<f64>, rounds: Vec<[Result<f64>; 2]>, report: &mut Report) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for [our, their] in rounds {
        ours.push(our?);
        theirs.push(their?);
    }
    report.spread(case, Spread::of(ours.iter().map(|cost| cost / 1000.0)), "us", target);
    report.compared.push(Compared::of(case, &ours, "Kamailio", &theirs));
    Ok(())
}

/// Nanoseconds of CPU for each registration.
fn cost((server, pid): (SocketAddr, u32), numbers: Range<u32>, run: u32, window: usize) -> Result<f64> {
    let crowd = crowd(server, numbers, run, window);
    let before = cpu_time(pid)?;
    let outcome = crowd.register()?;
    settle(pid)?;
    let taken = cpu_time(pid)? - before;
    ensure!(
        outcome.registered == crowd.numbers.len(),
        "{} of {} registered at {server}; refused {:?}, without an answer {:?}",
        outcome.registered,
        crowd.numbers.len(),
        outcome.refused.first(),
        outcome.silent.first()
    );
    Ok(taken.as_nanos() as f64 / outcome.registered as f64)
}
