//! `pbx-bench guard`: what the guard's bookkeeping costs a message, what it takes up, and how long it is from the last
//! wrong password that counts to the first packet that the kernel drops.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pbx_core::{
    guard::{Account, Guard, Networks, Sign, What},
    moment::Moment,
    settings::Settings,
    time::Timestamp,
};
use pbx_tests::{
    daemon::Installation,
    lab::Lab,
    phone::{Heard, Line, authorization},
    sandbox::Sandbox,
    site::{UDP, server},
};

use crate::{
    report::{Report, Spread},
    sip::{process, timed},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Attackers that are blocked, one after the other.
    pub(crate) rounds: usize,
    /// Signs of a round.
    pub(crate) signs: u32,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 21, signs: 200_000 };
    pub(crate) const QUICK: Self = Self { rounds: 7, signs: 50_000 };
}

/// Forged sources of the flood.
const FORGED: u32 = 1_000_000;
/// Wrong passwords that block.
const LIMIT: u32 = 50;
/// Between two packets that look whether anybody is blocked.
const STEP: Duration = Duration::from_micros(200);

/// Measures everything.
pub(crate) fn measure(sandbox: &Sandbox, effort: Effort, report: &mut Report) -> Result<()> {
    timed::pinned(|| bookkeeping(effort, report))?;
    latency(sandbox, effort, report)
}

fn settings() -> Result<Settings> {
    let mut settings = Settings::default();
    settings.set("filter.mode", "enforce")?;
    // What is measured is counting, not blocking.
    for key in ["authentication.failures", "accounts.failures", "accounts.alarm", "challenges.requests"] {
        settings.set(&format!("guard.{key}"), "100000")?;
    }
    Ok(settings)
}

fn bookkeeping(effort: Effort, report: &mut Report) -> Result<()> {
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
    (0..FORGED).for_each(|source| sign(&mut flooded, source, false));
    let grown = process::resident(std::process::id())? - before;
    report.figure("memory of the guard with 1,000,000 forged sources", grown / f64::from(1 << 20), "MiB", None);
    Ok(())
}

/// From the last wrong password that counts to the first packet of its source that is not answered any more.
fn latency(sandbox: &Sandbox, effort: Effort, report: &mut Report) -> Result<()> {
    let lab = Lab::build(sandbox)?;
    let pbx = Installation::new(sandbox, &lab.interfaces())?;
    let daemon = pbx.start()?;
    pbx.pbx("firewall mode enforce")?;
    pbx.pbx(
        "guard set network.local_networks=192.168.0.0/16 sip.challenges.source=1000000 sip.challenges.total=1000000 \
         guard.accounts.failures=100000 guard.accounts.alarm=100000 guard.challenges.requests=100000 \
         guard.level1.packets=100000 guard.level2.packets=200000 guard.spread.enforcement=off",
    )?;
    let attackers = &lab.bad;
    let mut taken = Vec::new();
    for round in 0..effort.rounds {
        let source = Ipv4Addr::new(10, 77, 2, 100 + u8::try_from(round)?);
        attackers.add_address(source.into())?;
        let mut line = Line::udp(&attackers.network, source.into(), server(attackers, UDP))?;
        let mut request = line.request("150");
        let Heard::Message(challenge) = line.ask(&request)? else { anyhow::bail!("no challenge") };
        let contact = request.more.clone();
        let domain = line.server().ip().to_string();
        for guess in 0..LIMIT - 1 {
            request.cseq = format!("{} REGISTER", guess + 2);
            request.call_id = format!("{round}-{guess}");
            request.more = contact.clone() + &authorization("150", &format!("guess {guess}"), &domain, &challenge)?;
            let status = line.ask(&request)?.status();
            ensure!(status == Some(401), "guess {guess} is answered {status:?}");
        }
        request.call_id = format!("{round}-last");
        request.more = contact.clone() + &authorization("150", "the last guess", &domain, &challenge)?;
        let last = line.bytes(&request);
        // Prepared, so that nothing but sending is between them.
        request.more = contact;
        let probes: Vec<Vec<u8>> = (0..500)
            .map(|probe| {
                request.call_id = format!("{round}-probe-{probe:03}");
                line.bytes(&request)
            })
            .collect();
        taken.push(first_drop(&mut line, &last, &probes, round)?);
    }
    report.spread("from the 50th wrong password to the first drop in XDP", Spread::of(taken), "ms", Some(5.0));
    daemon.stop()
}

fn first_drop(line: &mut Line, last: &[u8], probes: &[Vec<u8>], round: usize) -> Result<f64> {
    let begin = Instant::now();
    line.send(last)?;
    let mut sent = Vec::with_capacity(probes.len());
    for probe in probes {
        sent.push(begin.elapsed());
        line.send(probe)?;
        let next = *sent.last().context("sent")? + STEP;
        while begin.elapsed() < next {
            std::hint::spin_loop();
        }
    }
    let mut answered = vec![false; probes.len()];
    while let Some(Heard::Message(answer)) = line.hear(Duration::from_millis(200))? {
        let key = format!("{round}-probe-");
        let at = answer.find(&key).and_then(|at| answer.get(at + key.len()..at + key.len() + 3)?.parse::<usize>().ok());
        if let Some(answered) = at.and_then(|at| answered.get_mut(at)) {
            *answered = true;
        }
    }
    let first = answered.iter().rposition(|answered| *answered).map_or(0, |at| at + 1);
    let first = sent.get(first).context("nobody was blocked within 100 ms")?;
    Ok(first.as_secs_f64() * 1000.0)
}
