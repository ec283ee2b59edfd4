//! The packet filter at work, for a person to watch: a lab in network namespaces where a neighbour floods, or a
//! real interface. Started by `cargo xtask demo`; leaves nothing behind, however it ends.

mod display;
mod workplace;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pbx_tests::daemon::{Daemon, Installation};
use pbx_tests::flood::{Plan, Receiver, Sender};
use pbx_tests::interrupt::Interrupt;
use pbx_tests::lab::{Lab, Neighbour};
use pbx_tests::sandbox::Sandbox;

use display::Display;
use workplace::Workplace;

/// Watch the packet filter at work.
///
/// Without --interface: an appliance, a good and a bad neighbour in network namespaces of their own.
#[derive(Debug, Parser)]
#[command(name = "pbx-lab")]
struct Arguments {
    /// Filter this real interface instead of the lab's.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// With --interface: drop packets. Without it the filter only counts what it would drop.
    #[arg(long, requires = "interface")]
    enforce: bool,
    /// End after so many seconds instead of on Ctrl-C.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// The port that both neighbours send to: protected like those of SIP, and none that the daemon listens on, so that
/// what arrives can be counted here.
const PORT: u16 = 5065;
/// Packets a second of the good neighbour, far below level 1.
const GOOD_RATE: u32 = 50;
/// Packets a second of the bad neighbour, far above level 2.
const BAD_RATE: u32 = 20_000;
/// How long the good neighbour is alone, so that the difference can be seen.
const PEACE: Duration = Duration::from_secs(3);
/// Without --seconds the lab stays; even then its floods have an end.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let interrupt = Interrupt::install()?;
    let workplace = Workplace::open()?;
    let end = Instant::now() + arguments.seconds.map_or(LONGEST, Duration::from_secs);
    match &arguments.interface {
        None => Sandbox::run_in(workplace.path(), |sandbox| in_the_lab(sandbox, &interrupt, end)),
        Some(interface) => Sandbox::run_on_host_network(workplace.path(), |sandbox| {
            on_interface(sandbox, interface, arguments.enforce, &interrupt, end)
        }),
    }
}

fn in_the_lab(sandbox: &Sandbox, interrupt: &Interrupt, end: Instant) -> Result<()> {
    let lab = Lab::build(sandbox)?;
    let pbx = Installation::new(sandbox, &lab.interfaces())?;
    let receiver = Receiver::listen(PORT)?;
    let daemon = pbx.start()?;
    pbx.pbx("firewall mode enforce")?;

    println!("The lab: an appliance whose packet filter runs on {} and {}.", lab.good.interface, lab.bad.interface);
    println!("  good neighbour {}  sends {GOOD_RATE} packets a second to UDP {PORT}", lab.good.v4());
    println!(
        "  bad neighbour  {}  floods UDP {PORT} with {BAD_RATE} a second, from second {} on",
        lab.bad.v4(),
        PEACE.as_secs()
    );
    println!();

    let mut display = Display::new(&pbx);
    let good = send(&lab.good, GOOD_RATE)?;
    let flood_at = Instant::now() + PEACE;
    let mut bad = None;
    let mut told = false;
    while !interrupt.wait(display.next_second().min(end)) && Instant::now() < end {
        if bad.is_none() && Instant::now() >= flood_at {
            bad = Some(send(&lab.bad, BAD_RATE)?);
            display.say("the bad neighbour begins to flood");
        }
        display.second(Some([
            (good.sent(), receiver.count_from(lab.good.v4())),
            (bad.as_ref().map_or(0, Sender::sent), receiver.count_from(lab.bad.v4())),
        ]))?;
        if !told && (display.blocks_seen() > 0 || Instant::now() > flood_at + Duration::from_secs(10)) {
            told = true;
            commands(&mut display, &pbx, &lab.bad.v4().to_string());
        }
    }
    display.finish();
    let bad_sent = bad.map(Sender::stop).transpose()?.unwrap_or(0);
    let good_sent = good.stop()?;
    println!("good neighbour: sent {good_sent}, arrived {}", receiver.count_from(lab.good.v4()));
    println!("bad neighbour:  sent {bad_sent}, arrived {}", receiver.count_from(lab.bad.v4()));
    stop(daemon)?;
    // Long enough for any machine to have sent what level 1 allows.
    ensure!(
        display.blocks_seen() > 0 || Instant::now() < flood_at + Duration::from_secs(5),
        "the bad neighbour was never blocked: the packet filter does not work here"
    );
    Ok(())
}

fn on_interface(sandbox: &Sandbox, interface: &str, enforce: bool, interrupt: &Interrupt, end: Instant) -> Result<()> {
    nix::net::if_::if_nametoindex(interface)
        .with_context(|| format!("there is no interface {interface}: see `ip link`"))?;
    let pbx = Installation::new(sandbox, &[interface])?;
    let mut daemon = pbx.start()?;
    // A real driver may want the generic mode, and the daemon says so: shown, but no failure.
    let complaints = daemon.alarms();
    daemon.expect("");
    if enforce {
        pbx.pbx("firewall mode enforce")?;
        println!("The packet filter runs on {interface} and drops (mode enforce).");
    } else {
        println!("The packet filter runs on {interface} and only counts (mode monitor; --enforce lets it drop).");
    }
    for line in complaints {
        println!("  {line}");
    }
    println!();
    let mut display = Display::new(&pbx);
    commands(&mut display, &pbx, "ADDRESS");
    while !interrupt.wait(display.next_second().min(end)) && Instant::now() < end {
        display.second(None)?;
    }
    display.finish();
    stop(daemon)?;
    println!("The filter is off {interface} again.");
    Ok(())
}

fn send(neighbour: &Neighbour, rate: u32) -> Result<Sender> {
    let source = SocketAddr::from((neighbour.v4(), 0));
    Sender::udp(&neighbour.network, source, (neighbour.appliance_v4(), PORT).into(), 0, Plan::steady(rate, LONGEST))
}

fn commands(display: &mut Display, pbx: &Installation, address: &str) {
    let command = format!("{} --socket {}", pbx.binary().display(), pbx.socket().display());
    display.say("try in another terminal, as root:");
    for words in [
        "status",
        "block list",
        "top",
        &format!("explain {address}"),
        &format!("block remove {address}"),
        "firewall stats",
    ] {
        display.say(&format!("  {command} {words}"));
    }
    display.say("Ctrl-C ends it");
}

fn stop(daemon: Daemon) -> Result<()> {
    let alarms = daemon.alarms();
    daemon.stop().context("stop the daemon")?;
    ensure!(alarms.is_empty(), "the daemon complained:\n{}", alarms.join("\n"));
    Ok(())
}
