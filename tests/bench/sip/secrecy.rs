//! Whether the time of an answer tells who exists: users that exist and users that do not answer challenges with a
//! wrong password, one request at a time, in an order that nothing foresees.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use pbx_tests::phone::crowd::Crowd;

use super::{Effort, appliance::Appliance};
use crate::report::{Report, Spread};

const KNOWN: u32 = 100_000;
const UNKNOWN: u32 = 500_000;
/// A round asks all of them.
const MOST_ROUNDS: usize = 5;

/// Measures it.
pub(super) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let appliance = Appliance::start(directory, KNOWN..KNOWN + effort.phones)?;
    let mut crowd = Crowd {
        source: "127.8.0.1:0".parse()?,
        server: appliance.address,
        domain: appliance.address.ip().to_string(),
        numbers: shuffled((KNOWN..KNOWN + effort.phones).chain(UNKNOWN..UNKNOWN + effort.phones).collect()),
        password: "Wrong-kestrel-58".to_owned(),
        window: 1,
        answers: true,
        run: 0,
    };
    let numbers = crowd.numbers.clone();
    crowd.numbers.truncate(1000);
    crowd.register()?;
    crowd.numbers = numbers;
    let mut differences = Vec::new();
    let mut medians = [Vec::new(), Vec::new()];
    let rounds = effort.rounds.min(MOST_ROUNDS);
    let refused = || Ok::<_, anyhow::Error>([appliance.refused("wrong_password")?, appliance.refused("wrong_user")?]);
    let before = refused()?;
    for _ in 0..rounds {
        crowd.run += 1;
        let outcome = crowd.register()?;
        ensure!(
            outcome.refused.len() == crowd.numbers.len() && outcome.refused.iter().all(|(_, status)| *status == 401),
            "{} of {} wrong passwords were answered 401, {} not at all",
            outcome.refused.len(),
            crowd.numbers.len(),
            outcome.silent.len()
        );
        let (unknown, known): (Vec<_>, Vec<_>) = outcome.times.iter().partition(|(number, _)| *number >= UNKNOWN);
        let [known, unknown] = [known, unknown].map(|times| median(&times));
        medians[0].push(known);
        medians[1].push(unknown);
        differences.push((known - unknown).abs() * 100.0 / known.min(unknown));
    }
    let count = u64::from(effort.phones);
    let after = refused()?;
    let counted = [after[0] - before[0], after[1] - before[1]];
    let expected = count * rounds as u64;
    ensure!(
        counted == [expected; 2],
        "the daemon judged {counted:?} passwords of users that exist and that do not as wrong, not {expected} each"
    );
    let [known, unknown] = medians.map(Spread::of);
    report.spread(format!("answer to a wrong password, {count} users that exist, median"), known, "us", None);
    report.spread(format!("answer to a wrong password, {count} users that do not, median"), unknown, "us", None);
    report.spread("those two medians of a round apart by", Spread::of(differences), "%", Some(5.0));
    Ok(())
}

/// In microseconds.
fn median(times: &[(u32, Duration)]) -> f64 {
    Spread::of(times.iter().map(|(_, time)| time.as_nanos() as f64 / 1000.0)).median
}

/// In an order that is the same each time.
fn shuffled(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_by_key(|number| number.wrapping_mul(0x85eb_ca6b).rotate_left(13).wrapping_mul(0xc2b2_ae35));
    numbers
}
