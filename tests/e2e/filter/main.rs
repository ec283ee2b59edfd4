//! The packet filter end to end: the real daemon between two neighbours, judged by the numbers that arrive.

mod rates;
mod rules;
mod survival;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use pbx_tests::daemon::{DEADLINE, Daemon, Installation};
use pbx_tests::flood::{Plan, Receiver, Sender};
use pbx_tests::lab::{Lab, Neighbour};
use pbx_tests::sandbox::Sandbox;

/// A protected port.
const SIP: u16 = 5060;

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
    Sandbox::run(|sandbox| {
        let run = || {
            let lab = Lab::build(sandbox)?;
            let pbx = Installation::new(sandbox, &lab.interfaces())?;
            let site = Site { sandbox, lab, pbx, receiver: Receiver::listen(SIP)? };
            let daemon = site.pbx.start()?;
            site.pbx.pbx("firewall mode enforce")?;
            test(&site, daemon)
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

    /// Waits until a running stream arrives again.
    fn wait_heard(&self, sender: &Sender, source: impl Into<IpAddr>) -> Result<()> {
        let (source, from) = (source.into(), sender.sent());
        self.receiver
            .wait(DEADLINE, |seen| seen.of(source, sender.stream()).last() >= Some(from))
            .with_context(|| format!("{source} is not heard"))?;
        Ok(())
    }
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
