//! What a sign costs the guard, and what it takes up when a million sources are forged.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::Result;
use pbx_core::{
    guard::{Account, Guard, Networks, Sign, What},
    moment::Moment,
    settings::Settings,
    time::Timestamp,
};

use super::Effort;
use crate::{
    report::{Report, Spread},
    sip::{process, timed},
};

/// Forged sources of the flood; memory is looked at after a fifth of them, too, because it is not to grow any more.
const FORGED: u32 = 1_000_000;

fn settings() -> Result<Settings> {
    let mut settings = Settings::default();
    settings.set("filter.mode", "enforce")?;
    // What is measured is counting, not blocking.
    for key in ["authentication.failures", "accounts.failures", "accounts.alarm", "challenges.requests"] {
        settings.set(&format!("guard.{key}"), "100000")?;
    }
    Ok(settings)
}

/// Measures it on the calling thread, which is pinned.
pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let message: Box<[u8]> = vec![b'x'; 600].into();
    let wall = Timestamp::from_millis(1_800_000_000_000);
    let mut guard = Guard::new(&settings()?, Networks::default());
    let mut number = 0u32;
    let mut sign = |guard: &mut Guard, source: u32, rejected: bool| {
        number += 1;
        let target = u64::from(number % 7);
        let what = if rejected {
            What::Rejected { account: Account::new(target, b"150"), user_known: true, answers: true, target }
        } else {
            What::Challenged { call: number.into(), target, points: 0 }
        };
        let source = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + source));
        let sign = Sign { source, sure: false, known: false, what, message: Some(message.clone()) };
        guard.sign(black_box(sign), Moment::from_micros(1_000_000_000 + u64::from(number)), wall);
        while guard.poll_output().is_some() {}
    };
    for (case, sources, rejected) in [
        ("counting an unanswered challenge, one source", 1, false),
        ("counting a wrong password, 1,000 sources", 1000, true),
        ("counting an unanswered challenge, sources that never come again", u32::MAX, false),
    ] {
        let mut next = 0u32;
        let mut rounds = Vec::new();
        for _ in 0..effort.rounds {
            let cost = timed::timed(effort.signs, || {
                next = (next + 1) % sources;
                sign(&mut guard, next, rejected);
            })?;
            rounds.push(cost.nanoseconds);
        }
        report.spread(case, Spread::of(rounds), "ns", Some(2000.0));
    }
    let before = process::resident(std::process::id())?;
    let mut flooded = Guard::new(&settings()?, Networks::default());
    let mut forged = 0;
    for number in [FORGED / 5, FORGED] {
        (forged..number).for_each(|source| sign(&mut flooded, source, false));
        forged = number;
        let grown = (process::resident(std::process::id())? - before) / f64::from(1 << 20);
        report.figure(format!("memory of the guard with {number} forged sources"), grown, "MiB", None);
    }
    Ok(())
}
