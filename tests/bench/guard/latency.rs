//! How long it is from the last wrong password that counts to the first packet that the kernel drops.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::{
    daemon::Installation,
    lab::Lab,
    phone::{Heard, Line, authorization},
    sandbox::Sandbox,
    site::{UDP, server},
};

use super::Effort;
use crate::report::{Report, Spread};

/// Wrong passwords that block.
const LIMIT: u32 = 50;
/// Between two packets that look whether anybody is blocked.
const STEP: Duration = Duration::from_micros(200);

/// From the last wrong password that counts to the first packet of its source that is not answered any more.
pub(super) fn measure(sandbox: &Sandbox, effort: Effort, report: &mut Report) -> Result<()> {
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
        let block = pbx.wait_blocked(source)?.to_string();
        ensure!(block.contains("authentication"), "blocked for something else: {block}");
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
