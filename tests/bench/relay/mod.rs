//! `pbx-bench relay`: what it costs to pass an RTP packet on, beside a bare tokio relay and, where it is installed,
//! rtpengine in user space. Each relay is a process of its own; its CPU time is divided by the packets that arrived.

pub(crate) mod part;
mod phones;
mod rtpengine;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::{part::Kind, phones::Phones, rtpengine::Rtpengine};
use crate::{
    report::{Compared, Report, Spread},
    sip::process,
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds, each of ours and the peers.
    pub(crate) rounds: usize,
    /// How long each round lasts.
    pub(crate) lasts: Duration,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 5, lasts: Duration::from_secs(10) };
    pub(crate) const QUICK: Self = Self { rounds: 2, lasts: Duration::from_secs(3) };
}

/// Microseconds of CPU a packet that were aimed at.
const TARGET: f64 = 5.0;

/// What all figures have in common.
pub(crate) fn conditions(effort: Effort) -> Vec<String> {
    let Effort { rounds, lasts } = effort;
    let mut conditions = vec![format!(
        "{rounds} interleaved rounds of 25,000 or 8,000 packets a second of 172 bytes for {} s, on the \
         loopback; CPU time of the whole process of the relay, user space and kernel, divided by the packets that arrived",
        lasts.as_secs()
    )];
    if !Rtpengine::is_installed() {
        conditions
            .push("rtpengine is not installed (`apt-get install --no-install-recommends rtpengine-daemon`)".into());
    }
    conditions
}

/// What is passed on: two-way streams at once, and the time between two packets of each.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    calls: usize,
    step: Duration,
}

/// As phones do it, where every packet comes to a port that was not used for a while; and many packets in one
/// call, which shows what the moving itself costs.
const CASES: [Case; 2] = [
    Case { name: "an RTP packet of one of 250 calls", calls: 250, step: Duration::from_millis(20) },
    Case { name: "an RTP packet of one call with 4,000 a second each way", calls: 1, step: Duration::from_micros(250) },
];

/// Measures.
pub(crate) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    CASES.into_iter().try_for_each(|case| compare(directory, effort, case, report).context(case.name))
}

fn compare(directory: &Path, effort: Effort, case: Case, report: &mut Report) -> Result<()> {
    let mut peers = vec![("tokio", Vec::new())];
    // Of a stream like the other, which no phone makes, it loses most.
    if case.calls > 1 && Rtpengine::is_installed() {
        peers.push(("rtpengine", Vec::new()));
    }
    let (mut ours, mut missing) = (Vec::new(), 0);
    for _ in 0..effort.rounds {
        let (cost, lost) = round(effort, case, Part::start(Kind::Pbx, case.calls)?)?;
        ours.push(cost);
        missing += lost;
        for (peer, costs) in &mut peers {
            let (cost, _) = match *peer {
                "tokio" => round(effort, case, Part::start(Kind::Tokio, case.calls)?)?,
                _ => round(effort, case, Rtpengine::start(directory, case.calls)?)?,
            };
            costs.push(cost);
        }
    }
    for (peer, costs) in &peers {
        report.compared.push(Compared::of(case.name, &ours, *peer, costs));
    }
    report.spread(case.name, Spread::of(ours.iter().map(|ns| ns / 1000.0)), "us of CPU", Some(TARGET));
    report.figure(format!("{}: did not arrive", case.name), missing as f64, "packets", Some(0.0));
    Ok(())
}

/// A relay that runs, with a port for each phone.
trait Relays {
    fn pid(&self) -> u32;
    /// Where each phone sends; phones 2n and 2n + 1 are in a call.
    fn ports(&mut self, phones: &Phones) -> Result<Vec<u16>>;
}

/// Nanoseconds of CPU a packet, and packets that did not arrive.
fn round(effort: Effort, case: Case, mut relay: impl Relays) -> Result<(f64, u64)> {
    let mut phones = Phones::bind(2 * case.calls, case.step)?;
    let ports = relay.ports(&phones)?;
    ensure!(ports.len() == 2 * case.calls, "{} ports for {} phones", ports.len(), 2 * case.calls);
    // Everything is latched and warm before it counts.
    phones.talk(&ports, Duration::from_secs(1))?;
    let before = process::cpu_time(relay.pid())?;
    let (sent, arrived) = phones.talk(&ports, effort.lasts)?;
    let used = process::cpu_time(relay.pid())?.saturating_sub(before);
    ensure!(arrived * 10 > sent * 9, "only {arrived} of {sent} packets arrived");
    Ok((used.as_nanos() as f64 / arrived as f64, sent.saturating_sub(arrived)))
}

/// This program once more, as a relay. Ends with its standard input.
struct Part(Child);

impl Part {
    fn start(kind: Kind, calls: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["relay-part", kind.name(), &calls.to_string(), &phones::FIRST.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the relay does not start")?;
        Ok(Self(child))
    }
}

impl Relays for Part {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn ports(&mut self, _: &Phones) -> Result<Vec<u16>> {
        let output = self.0.stdout.take().context("the relay says nothing")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        line.split_whitespace().map(|port| port.parse().context("a port")).collect()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
