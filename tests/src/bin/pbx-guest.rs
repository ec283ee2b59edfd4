//! What the long test runs under Debian's kernel 6.1: the filter loaded, then the real daemon beside two
//! neighbours, its blocks by hand and by itself in both families, and its death. Speaks on standard output.
//!
//! Emulation is slow, so the levels are low and nothing depends on how fast anything is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use pbx_tests::daemon::{DEADLINE, Daemon, Installation};
use pbx_tests::flood::{Plan, Receiver, Sender};
use pbx_tests::lab::{Lab, Neighbour};
use pbx_tests::sandbox::Sandbox;
use pbx_xdp::{Loaded, Options};
use serde_json::Value;

/// A port that is protected by default, and on which the daemon does not listen.
const SIP: u16 = 5065;
/// Level 1 of the guard, in packets a second. Three times as many are sent at once, and a veth link holds 256
/// packets for a receiver that is slow.
const LEVEL_1: u64 = 50;

fn main() -> ExitCode {
    match load().and_then(|()| Sandbox::run(|sandbox| Site::build(sandbox)?.test())) {
        Ok(()) => {
            println!("GUEST PASS");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("GUEST FAIL: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Loads the program alone, for the verifier's effort to be seen.
fn load() -> Result<()> {
    let mut loaded = Loaded::load(&Options::default())?;
    let info = loaded.program()?.info()?;
    let verified = info.verified_instruction_count().context("the kernel does not count")?;
    println!("loaded: {verified} instructions verified, {} bytes of machine code", info.size_jitted());
    Ok(())
}

/// The appliance and its neighbours.
struct Site {
    lab: Lab,
    pbx: Installation,
    /// On the protected port, both families.
    receiver: Receiver,
}

impl Site {
    fn build(sandbox: &Sandbox) -> Result<Self> {
        let lab = Lab::build(sandbox)?;
        let pbx = Installation::new(sandbox, &lab.interfaces())?;
        Ok(Self { lab, pbx, receiver: Receiver::listen(SIP)? })
    }

    fn test(&self) -> Result<()> {
        let daemon = self.pbx.start()?;
        self.is_attached()?;
        self.pbx.pbx("firewall mode enforce")?;
        self.pbx.pbx(&format!("guard set guard.level1.packets {LEVEL_1}"))?;
        self.blocks_a_flood()?;
        let blocked = Ipv4Addr::new(198, 51, 100, 7);
        self.blocks_by_hand(blocked)?;
        self.enforces_without_the_daemon(daemon, blocked)
    }

    fn is_attached(&self) -> Result<()> {
        let status = self.pbx.pbx("firewall status")?;
        for interface in self.lab.interfaces() {
            let link = items(&status["interfaces"]).find(|link| link["name"] == interface);
            let link = link.with_context(|| format!("no {interface} in {status:#}"))?;
            ensure!(link.to_string().contains("native"), "{interface} is not attached natively: {link:#}");
        }
        println!("attached: natively to {}", self.lab.interfaces().join(", "));
        Ok(())
    }

    /// Exactly the packets of level 1 arrive, and others still do.
    fn blocks_a_flood(&self) -> Result<()> {
        let (good, bad) = (&self.lab.good, &self.lab.bad);
        for source in [IpAddr::from(bad.v4()), bad.v6().into()] {
            self.send(bad, source, 1, 3 * LEVEL_1)?;
            let block = self.pbx.wait_blocked(source)?;
            ensure!(block.to_string().contains("level1"), "{block:#}");
            self.hear(source, 1, LEVEL_1)?;
        }
        self.wait_dropped(&["level1", "automatic-block"], 4 * LEVEL_1)?;
        for source in [IpAddr::from(good.v4()), good.v6().into()] {
            self.send(good, source, 1, LEVEL_1 / 2)?;
            self.hear(source, 1, LEVEL_1 / 2)?;
        }
        println!("blocked: a flood of each family after {LEVEL_1} packets; the other neighbour passes");
        Ok(())
    }

    /// A source passes, then a rule blocks it.
    fn blocks_by_hand(&self, source: Ipv4Addr) -> Result<()> {
        let bad = &self.lab.bad;
        bad.add_address(source.into())?;
        self.send(bad, source, 1, 10)?;
        self.hear(source.into(), 1, 10)?;
        self.pbx.pbx(&format!("block add {source}"))?;
        self.send(bad, source, 2, 10)?;
        self.wait_dropped(&["manual-block"], 10)?;
        ensure!(self.receiver.seen().of(source, 2).count() == 0, "packets of {source} arrived after its block");
        println!("blocked: {source} by a rule");
        Ok(())
    }

    /// The pinned links go on, and the next daemon takes over what they counted.
    fn enforces_without_the_daemon(&self, daemon: Daemon, blocked: Ipv4Addr) -> Result<()> {
        let (good, bad) = (&self.lab.good, &self.lab.bad);
        daemon.kill()?;
        self.send(bad, blocked, 3, 10)?;
        self.send(good, good.v4(), 3, 10)?;
        self.hear(good.v4().into(), 3, 10)?;
        let daemon = self.pbx.start()?;
        self.wait_dropped(&["manual-block"], 20)?;
        ensure!(self.receiver.seen().of(blocked, 3).count() == 0, "packets of {blocked} arrived without a daemon");
        self.pbx.wait_blocked(bad.v4())?;
        println!("blocked: the same after the daemon was killed; the next one adopted the blocks");
        daemon.stop()
    }

    /// Sends numbered datagrams to the protected port, all at once.
    fn send(&self, neighbour: &Neighbour, source: impl Into<IpAddr>, stream: u32, count: u64) -> Result<()> {
        let source = source.into();
        let destination: IpAddr = match source {
            IpAddr::V4(_) => neighbour.appliance_v4().into(),
            IpAddr::V6(_) => neighbour.appliance_v6().into(),
        };
        let (from, to) = (SocketAddr::new(source, 0), SocketAddr::new(destination, SIP));
        Sender::udp(&neighbour.network, from, to, stream, Plan::burst(count))?.finish()?;
        Ok(())
    }

    /// Waits until so many of a stream have arrived; more are a failure.
    fn hear(&self, source: IpAddr, stream: u32, count: u64) -> Result<()> {
        let seen = self.receiver.wait(DEADLINE, |seen| seen.of(source, stream).count() >= count)?;
        let arrived = seen.of(source, stream).count();
        ensure!(arrived == count, "{arrived} datagrams of {source} arrived instead of {count}");
        Ok(())
    }

    /// Waits until so many were dropped for these reasons; more are a failure.
    fn wait_dropped(&self, reasons: &[&str], count: u64) -> Result<()> {
        let stats = self.pbx.wait("firewall stats", |stats| packets(stats, reasons) >= count)?;
        ensure!(packets(&stats, reasons) == count, "{count} packets of {reasons:?} were expected: {stats:#}");
        Ok(())
    }
}

/// Packets of these reasons on all interfaces.
fn packets(stats: &Value, wanted: &[&str]) -> u64 {
    let reasons = items(&stats["items"]).flat_map(|interface| items(&interface["reasons"]));
    let wanted = reasons.filter(|item| item["reason"].as_str().is_some_and(|reason| wanted.contains(&reason)));
    wanted.filter_map(|item| item["packets"].as_u64()).sum()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
