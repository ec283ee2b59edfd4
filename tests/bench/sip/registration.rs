//! Registrations with digest, ours and Kamailio's, by the same crowd: REGISTER, 401, REGISTER with credentials, 200.
//! First each phone anew, then all of them again; and what memory they take.

use std::{net::SocketAddr, path::Path};

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

/// Measures it.
pub(super) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let appliance = Appliance::start(directory, FIRST..FIRST + effort.phones)?;
    let kamailio = Kamailio::start(directory, kamailio::ADDRESS.parse()?, PASSWORD)?;
    let servers = [(appliance.address, appliance.pid()), (kamailio.address, kamailio.pid())];
    for (_, pid) in servers {
        settle(pid)?;
    }
    let before = resident(appliance.pid())?;
    let each = effort.phones / effort.rounds as u32;
    let rounds = || (0..effort.rounds as u32).map(|round| FIRST + round * each..FIRST + (round + 1) * each);

    let anew = rounds().map(|numbers| servers.map(|(server, pid)| cost(server, pid, numbers.clone())));
    let anew: Vec<[Result<f64>; 2]> = anew.collect();
    let after = resident(appliance.pid())?;
    compared("a registration with digest, the phone's first", Some(100.0), anew, report)?;

    let again = rounds().map(|numbers| servers.map(|(server, pid)| cost(server, pid, numbers.clone())));
    compared("a registration with digest, a refresh", Some(100.0), again.collect(), report)?;

    let registered = each * effort.rounds as u32;
    let mib = f64::from(1 << 20);
    report.figure(format!("VmRSS with {registered} registrations"), after / mib, "MiB", Some(100.0));
    report.figure(format!("growth of VmRSS by {registered} registrations"), (after - before) / mib, "MiB", None);
    Ok(())
}

fn compared(case: &str, target: Option<f64>, rounds: Vec<[Result<f64>; 2]>, report: &mut Report) -> Result<()> {
    let rounds = rounds.into_iter().map(|[ours, peer]| Ok([ours?, peer?])).collect::<Result<Vec<[f64; 2]>>>()?;
    let ours = Spread::of(rounds.iter().map(|[ours, _]| *ours)).median;
    report.figure(case, ours / 1000.0, "us", target);
    report.compared.push(Compared {
        case: case.to_owned(),
        peer: "Kamailio".to_owned(),
        ours_ns: ours,
        peer_ns: Spread::of(rounds.iter().map(|[_, peer]| *peer)).median,
        ratio: Spread::of(rounds.iter().map(|[ours, peer]| ours / peer)),
        target: None,
    });
    Ok(())
}

/// Nanoseconds of CPU for each registration.
fn cost(server: SocketAddr, pid: u32, numbers: std::ops::Range<u32>) -> Result<f64> {
    let crowd = Crowd {
        source: "127.0.0.1:0".parse()?,
        server,
        domain: server.ip().to_string(),
        numbers: numbers.clone().collect(),
        password: PASSWORD.to_owned(),
        window: 50,
        answers: true,
    };
    let before = cpu_time(pid)?;
    let outcome = crowd.register()?;
    settle(pid)?;
    let taken = cpu_time(pid)? - before;
    ensure!(
        outcome.registered == numbers.len(),
        "{} of {} registered at {server}; refused {:?}, without an answer {:?}",
        outcome.registered,
        numbers.len(),
        outcome.refused.first(),
        outcome.silent.first()
    );
    Ok(taken.as_nanos() as f64 / outcome.registered as f64)
}
