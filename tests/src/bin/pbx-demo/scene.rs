//! One pass: a daemon of its own in a network of its own, two phones in a call, an office, and one act after the other.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pbx_tests::{
    daemon::Installation,
    flood::First,
    interrupt::Interrupt,
    lab::Lab,
    phone::{Call, Handset, Sdp},
    sandbox::Sandbox,
    scanners::Scanners,
    site::Site,
};
use serde::Serialize;

use crate::{
    Interrupted,
    acts::{self, Act},
    audio::{self, Audio, LATE},
    figures::{self, Counted, Row},
    office::Office,
};

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// The quiet before the first act.
    pub(crate) quiet: Duration,
    /// An act.
    pub(crate) act: Duration,
}

impl Effort {
    pub(crate) const FULL: Self = Self { quiet: Duration::from_secs(5), act: Duration::from_secs(7) };
    pub(crate) const QUICK: Self = Self { quiet: Duration::from_secs(3), act: Duration::from_secs(3) };
    /// An attacker that is not blocked by then never is.
    const LONGEST: Duration = Duration::from_secs(25);
}

/// Between two looks at who is blocked.
const LOOK: Duration = Duration::from_millis(250);
/// How long the phones have no power.
const OUTAGE: Duration = Duration::from_millis(1500);

/// What a pass found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pass {
    /// `enforce` or `off`.
    pub(crate) mode: &'static str,
    /// The quiet, then an act each.
    pub(crate) rows: Vec<Row>,
    /// What the hang-up was answered with, if the other phone heard of it.
    pub(crate) hung_up: Option<u16>,
    /// Why there is no answer.
    pub(crate) call_problem: Option<String>,
    /// Warnings and errors of the daemon's log.
    pub(crate) complaints: Vec<String>,
}

/// What an act works on.
pub(crate) struct Scene<'a> {
    pub(crate) site: &'a Site<'a>,
    pub(crate) daemon_pid: u32,
    pub(crate) audio: Audio,
    pub(crate) office: Office,
    /// The scanners as they are.
    pub(crate) shipped: Scanners,
    /// With another User-Agent.
    pub(crate) disguised: Scanners,
    /// Where the appliance hears the first phone.
    pub(crate) heard_at: SocketAddr,
}

/// The two phones in the call.
struct Talk {
    caller: (Handset, Call),
    callee: (Handset, Call),
}

/// Plays all acts with the filter in this mode, in a folder of its own.
pub(crate) fn play(folder: &Path, mode: &'static str, effort: Effort, interrupt: &Interrupt) -> Result<Pass> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    Sandbox::run_in(folder, |sandbox| {
        let lab = Lab::build(sandbox)?;
        let site = Site { pbx: Installation::new(sandbox, &lab.interfaces())?, sandbox, lab };
        acts::prepare(&site)?;
        let mut daemon = site.pbx.start()?;
        // That it turns strangers away under a flood, for want of time, is its task.
        daemon.expect("overload");
        let played = acts(&site, daemon.pid(), mode, effort, interrupt);
        let complaints = daemon.alarms();
        // They are in the report, and none of them a reason to panic.
        daemon.expect("");
        let (rows, hung_up) = played?;
        daemon.stop().context("stop the daemon")?;
        let (hung_up, call_problem) = match hung_up {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Ok(Pass { mode, rows, hung_up, call_problem, complaints })
    })
}

/// Everything that happens beside a daemon: the figures, and how the call ended.
fn acts(
    site: &Site,
    daemon_pid: u32,
    mode: &str,
    effort: Effort,
    interrupt: &Interrupt,
) -> Result<(Vec<Row>, Result<u16>)> {
    let (binary, socket) = (site.pbx.binary().to_owned(), site.pbx.socket().to_owned());
    site.pbx.pbx(&format!("firewall mode {mode}"))?;
    let folder = site.sandbox.directory();
    let (shipped, disguised) = (Scanners::shipped(folder)?, Scanners::disguised(folder)?);
    let (talk, audio, heard_at) = call(site)?;
    let begun = Instant::now();
    let office = Office::open(site)?;
    office.wait_all(begun)?;
    let scene = Scene { site, daemon_pid, audio, office, shipped, disguised, heard_at };
    eprintln!("demo: filter {mode}: two phones talk, ten register behind {}", crate::office::ADDRESS);
    eprintln!("demo: look, as root: {} --socket {} block list", binary.display(), socket.display());

    let mut rows = vec![measured(&scene, None, || wait(interrupt, Instant::now() + effort.quiet).map(|()| None))?];
    for act in Act::ALL {
        let row = measured(&scene, Some(act), || perform(&scene, act, mode, effort, interrupt))?;
        eprintln!("demo: {mode}: {}", crate::table::sentence(&row));
        rows.push(row);
    }
    Ok((rows, talk.hang_up()))
}

/// Lets two phones beside the good neighbour call each other and speak.
fn call(site: &Site) -> Result<(Talk, Audio, SocketAddr)> {
    let good = &site.lab.good;
    let sockets = [open(site)?, open(site)?];
    let (mut caller, mut callee) = (site.handset(good, "200")?, site.handset(good, "201")?);
    let mut made = caller.call("201", &Sdp::new(sockets[0].local_addr()?))?;
    let mut taken = callee.incoming()?;
    let to_callees = taken.invite.media()?;
    callee.answer(&mut taken, &Sdp::new(sockets[1].local_addr()?))?;
    let to_callers = caller.wait_answered(&mut made)?.media()?;
    callee.wait_ack(&taken)?;
    let [first, second] = sockets;
    let audio = Audio::start([(first, to_callers), (second, to_callees)])?;
    Ok((Talk { caller: (caller, made), callee: (callee, taken) }, audio, to_callers))
}

/// A socket on an even port.
fn open(site: &Site) -> Result<UdpSocket> {
    let good = &site.lab.good;
    good.network.enter(|| {
        for _ in 0..1000 {
            let socket = UdpSocket::bind((good.v4(), 0))?;
            if socket.local_addr()?.port() % 2 == 0 {
                return Ok(socket);
            }
        }
        bail!("no even port is free")
    })
}

impl Talk {
    /// Ends the call from the caller's side; the answer, once the callee has heard of it.
    fn hang_up(self) -> Result<u16> {
        let Self { caller: (mut caller, mut made), callee: (mut callee, taken) } = self;
        let status = caller.bye(&mut made)?;
        callee.wait_bye(&taken)?;
        Ok(status)
    }
}

/// Counts before and after.
fn measured(
    scene: &Scene,
    act: Option<Act>,
    perform: impl FnOnce() -> Result<Option<figures::Blocked>>,
) -> Result<Row> {
    let before = Counted::now(scene)?;
    let (from, began) = (audio::now(), Instant::now());
    let blocked = perform()?;
    let (to, ended) = (audio::now(), Instant::now());
    // What was asked for, and what was said, in the act is waited for.
    scene.office.settle(ended);
    std::thread::sleep(LATE);
    let after = Counted::now(scene)?;
    let (call, asked) = (scene.audio.between(from, to), scene.office.between(began, ended));
    figures::row(scene, act, (before, after), call, asked, blocked)
}

/// Plays an act.
fn perform(
    scene: &Scene,
    act: Act,
    mode: &str,
    effort: Effort,
    interrupt: &Interrupt,
) -> Result<Option<figures::Blocked>> {
    let begin = Instant::now();
    let network = &scene.site.lab.bad.network;
    let first = act.attacker().map(|attacker| First::of(network, attacker)).transpose()?;
    let attack = act.start(scene)?;
    if act == Act::PowerCut {
        scene.office.cut();
        wait(interrupt, Instant::now() + OUTAGE)?;
        let back = Instant::now();
        scene.office.power();
        wait(interrupt, begin + effort.act)?;
        // Who fails is counted; this only waits.
        let _ = scene.office.wait_all(back);
        return Ok(None);
    }
    let mut blocked = None;
    loop {
        wait(interrupt, Instant::now() + LOOK)?;
        if blocked.is_none() {
            blocked = figures::blocked(scene, act, first.as_ref())?;
        }
        let waits = blocked.is_none() && act.is_to_be_blocked() && mode == "enforce";
        if begin.elapsed() > if waits { Effort::LONGEST } else { effort.act } {
            break;
        }
    }
    attack.end()?;
    Ok(blocked)
}

fn wait(interrupt: &Interrupt, until: Instant) -> Result<()> {
    ensure!(!interrupt.wait(until), Interrupted);
    Ok(())
}
