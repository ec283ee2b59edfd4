//! The packet filter end to end: the real daemon between two neighbours, judged by the numbers that arrive.

mod damage;
mod deny;
mod detectors;
mod evidence;
mod feeds;
mod interfaces;
mod media;
mod modes;
mod privileges;
mod rates;
mod refusals;
mod rules;
mod survival;
mod takeover;
mod tap;
mod views;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result};
use pbx_tests::daemon::{DEADLINE, Daemon, Installation};
use pbx_tests::flood::{Plan, Receiver, Sender};
use pbx_tests::lab::{Lab, Neighbour};
use pbx_tests::sandbox::Sandbox;

/// A protected port on which the daemon does not listen.
const SIP: u16 = 5065;

/// What every test here works on.
struct Site<'a> {
    sandbox: &'a Sandbox,
    lab: Lab,
    pbx: Installation,
    /// On the protected port, both families.
    receiver: Receiver,
}

/// Runs `test` beside a daemon that enforces on both links.
fn on_site(test: impl FnOnce(&Site, Daemon) -> Result<()> + Send) {
    before_start(|site| {
        let daemon = site.pbx.start()?;
        site.pbx.pbx("firewall mode enforce")?;
        test(site, daemon)
    });
}

/// Runs `test` in a lab with an installation that was never started.
fn before_start(test: impl FnOnce(&Site) -> Result<()> + Send) {
    Sandbox::run(|sandbox| {
        let run = || {
            let lab = Lab::build(sandbox)?;
            let pbx = Installation::new(sandbox, &lab.interfaces())?;
            test(&Site { sandbox, lab, pbx, receiver: Receiver::listen(SIP)? })
        };
        run().unwrap_or_else(|error| panic!("{error:?}"));
    });
}

impl Site<'_> {
    /// Starts numbered datagrams from `source`, an address of `neighbour`, to the protected port.
    fn send(&self, neighbour: &Neighbour, source: impl Into<IpAddr>, stream: u32, plan: Plan) -> Result<Sender> {
        let source = source.into();
        let destination: IpAddr = match source {
            IpAddr::V4(_) => neighbour.appliance_v4().into(),
            IpAddr::V6(_) => neighbour.appliance_v6().into(),
        };
        Sender::udp(&neighbour.network, SocketAddr::new(source, 0), (destination, SIP).into(), stream, plan)
    }

    /// Sends `count` at once, and waits until the filter on that link has counted all of them, one way or another.
    fn burst(&self, neighbour: &Neighbour, source: impl Into<IpAddr>, stream: u32, count: u64) -> Result<()> {
        let before = self.judged(neighbour)?;
        self.send(neighbour, source, stream, Plan::burst(count))?.finish()?;
        self.wait_judged(neighbour, before + count)
    }

    /// Packets that the filter of a link has judged for reasons that SIP from outside can have.
    fn judged(&self, neighbour: &Neighbour) -> Result<u64> {
        Ok(judged(&self.pbx.pbx("firewall stats")?, neighbour.interface))
    }

    fn wait_judged(&self, neighbour: &Neighbour, count: u64) -> Result<()> {
        self.pbx.wait("firewall stats", |stats| judged(stats, neighbour.interface) >= count)?;
        Ok(())
    }

    /// Asserts that nothing of a running stream arrives from now on: waits until `more` of it were sent.
    fn assert_silent(&self, sender: &Sender, source: impl Into<IpAddr>, more: u64) -> Result<()> {
        let source = source.into();
        // A batch may be on its way that the sender has not counted yet.
        let from = sender.sent() + 64;
        sender.wait_sent(from + more, DEADLINE)?;
        let late = self.receiver.seen().of(source, sender.stream()).count_from(from);
        anyhow::ensure!(late == 0, "{late} datagrams of {source} arrived that were sent after the block");
        Ok(())
    }

    /// Sends a few datagrams that no rate minds, and asserts that all arrive.
    fn assert_heard(&self, neighbour: &Neighbour, source: impl Into<IpAddr>, stream: u32) -> Result<()> {
        let source = source.into();
        self.burst(neighbour, source, stream, 10)?;
        self.receiver.wait(DEADLINE, |seen| seen.of(source, stream).count() == 10)?;
        Ok(())
    }

    /// Waits until a running stream arrives again.
    fn wait_heard(&self, sender: &Sender, source: impl Into<IpAddr>) -> Result<()> {
        let (source, from) = (source.into(), sender.sent());
        self.receiver
            .wait(DEADLINE, |seen| seen.of(source, sender.stream()).last() >= Some(from))
            .with_context(|| format!("{source} is not heard"))?;
        Ok(())
    }
}

/// Id of the XDP program on an interface, as `ip` tells it.
fn program(interface: &str) -> Result<Option<u64>> {
    let output = Command::new("ip").args(["-json", "-details", "link", "show", "dev", interface]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("the JSON of ip")?;
    Ok(links.pointer("/0/xdp/prog/id").and_then(serde_json::Value::as_u64))
}

/// One interface in the answer of `pbx status`.
fn interface<'a>(status: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    status.pointer("/filter/interfaces")?.as_array()?.iter().find(|entry| entry["name"] == name)
}

/// How one interface is attached, in the answer of `pbx status`.
fn attach<'a>(status: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    interface(status, name)?["attach"].as_str()
}

/// Sum of the counters of `interface`, without what neighbour discovery and the like make by themselves.
fn judged(stats: &serde_json::Value, interface: &str) -> u64 {
    const ESSENTIAL: [&str; 5] = ["not-ip", "neighbour-discovery", "multicast-listener", "dhcp", "own-address"];
    let items = stats.get("items").unwrap_or(stats).as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons = items
        .iter()
        .filter(|item| item["interface"] == interface)
        .filter_map(|item| item["reasons"].as_array())
        .flatten();
    reasons
        .filter(|reason| !ESSENTIAL.contains(&reason["reason"].as_str().unwrap_or_default()))
        .filter_map(|reason| reason["packets"].as_u64())
        .sum()
}
