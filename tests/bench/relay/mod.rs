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
    /// Two-way streams at once.
    pub(crate) calls: usize,
    /// How long each round lasts.
    pub(crate) lasts: Duration,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 5, calls: 250, lasts: Duration::from_secs(10) };
    pub(crate) const QUICK: Self = Self { rounds: 2, calls: 250, lasts: Duration::from_secs(3) };
}

/// Microseconds of CPU a packet that were aimed at.
const TARGET: f64 = 5.0;

/// What all figures have in common.
pub(crate) fn conditions(effort: Effort) -> Vec<String> {
    let Effort { rounds, calls, lasts } = effort;
    let mut conditions = vec![format!(
        "{rounds} interleaved rounds of {calls} two-way streams of 50 packets a second and 172 bytes for {} s, on the \
         loopback; CPU time of the whole process of the relay, user space and kernel, divided by the packets that arrived",
        lasts.as_secs()
    )];
    if !Rtpengine::is_installed() {
        conditions
            .push("rtpengine is not installed (`apt-get install --no-install-recommends rtpengine-daemon`)".into());
    }
    conditions
}

/// Measures.
pub(crate) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let mut peers = vec![("tokio", Vec::new())];
    if Rtpengine::is_installed() {
        peers.push(("rtpengine", Vec::new()));
    }
    let (mut ours, mut missing) = (Vec::new(), 0);
    for _ in 0..effort.rounds {
        let (cost, lost) = round(effort, Part::start(Kind::Pbx, effort.calls)?)?;
        ours.push(cost);
        missing += lost;
        for (peer, costs) in &mut peers {
            let (cost, _) = match *peer {
                "tokio" => round(effort, Part::start(Kind::Tokio, effort.calls)?)?,
                _ => round(effort, Rtpengine::start(directory, effort.calls)?)?,
            };
            costs.push(cost);
        }
    }
    for (peer, costs) in &peers {
        report.compared.push(Compared::of("an RTP packet passed on", &ours, *peer, costs));
    }
    report.spread("an RTP packet passed on", Spread::of(ours.iter().map(|ns| ns / 1000.0)), "us of CPU", Some(TARGET));
    report.figure("packets that did not arrive", missing as f64, "packets", Some(0.0));
    Ok(())
}

/// A relay that runs, with a port for each phone.
trait Relays {
    fn pid(&self) -> u32;
    /// Where each phone sends; phones 2n and 2n + 1 are in a call.
    fn ports(&mut self, phones: &Phones) -> Result<Vec<u16>>;
}

/// Nanoseconds of CPU a packet, and packets that did not arrive.
fn round(effort: Effort, mut relay: impl Relays) -> Result<(f64, u64)> {
    let mut phones = Phones::bind(2 * effort.calls)?;
    let ports = relay.ports(&phones)?;
    ensure!(ports.len() == 2 * effort.calls, "{} ports for {} phones", ports.len(), 2 * effort.calls);
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
