//! Media ports: closed in the kernel unless a call holds them, and never at the expense of the machine's own
//! connections.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pbx::{
    config::{Attach, Interfaces, Xdp},
    filter::{Filter, MediaChange, MediaHeld},
    host::Snapshot,
    xdp::{self, Start, XdpFilter},
};
use pbx_core::{media::Pair, settings::Settings};
use pbx_tests::{
    daemon::DEADLINE,
    lab::Lab,
    sandbox::{Namespace, Sandbox, reserve_ports},
};

use super::before_start;

const HELD: Pair = Pair { rtp: 45_000 };
/// Nobody's.
const CLOSED: u16 = 45_002;
const LOOKUPS: u16 = 10_000;

/// The filter itself, enforcing on both links.
fn filter(sandbox: &Sandbox, lab: &Lab) -> Result<XdpFilter> {
    let mut settings = Settings::default();
    settings.set("filter.mode", "enforce")?;
    let interfaces = Interfaces::Named(lab.interfaces().map(str::to_owned).to_vec());
    let config = Xdp { interfaces, attach: Attach::Auto, pin_dir: sandbox.bpffs().join("pbx") };
    let start =
        Start { config: &config, rules: &[], settings: &settings, transports: &[], revision: 1, automatic: &[] };
    Ok(xdp::take_over(start, &Snapshot::read()?)?.0)
}

fn dropped(filter: &XdpFilter) -> Result<u64> {
    let counts = filter.counters()?;
    let reasons = counts.iter().flat_map(|interface| &interface.reasons);
    Ok(reasons.filter(|count| count.reason == "media-port").map(|count| count.packets).sum())
}

fn listen(address: IpAddr, port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address, port))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket)
}

/// A resolver that answers everything with what it was asked.
fn resolver(network: &Namespace, address: IpAddr, ends: &Arc<AtomicBool>) -> Result<thread::JoinHandle<()>> {
    let socket = network.enter(|| Ok(UdpSocket::bind((address, 53))?))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let ends = Arc::clone(ends);
    Ok(thread::spawn(move || {
        let mut query = [0; 512];
        while !ends.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(&query[..length], from);
            }
        }
    }))
}

/// Asks so many questions, each from a port of its own; the answers that did not come.
fn lost(resolver: SocketAddr) -> Result<usize> {
    let mut lost = 0;
    for number in 0..LOOKUPS {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let port = socket.local_addr()?.port();
        ensure!(!(45_000..65_000).contains(&port), "a question left from port {port}, which is reserved for calls");
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(resolver)?;
        socket.send(&number.to_be_bytes())?;
        let mut answer = [0; 2];
        lost += usize::from(socket.recv(&mut answer).is_err() || answer != number.to_be_bytes());
    }
    Ok(lost)
}

#[test]
fn a_media_port_that_no_call_holds_is_closed_and_look_ups_lose_nothing() {
    let test = |sandbox: &Sandbox| -> Result<()> {
        let lab = Lab::build(sandbox)?;
        let filter = filter(sandbox, &lab)?;
        let us = IpAddr::from(lab.bad.appliance_v4());
        let (held, closed) = (listen(us, HELD.rtp)?, listen(us, CLOSED)?);
        let phone = lab.bad.network.enter(|| Ok(UdpSocket::bind((lab.bad.v4(), 0))?))?;

        let send = |port: u16, text: &str| phone.send_to(text.as_bytes(), (us, port));
        send(HELD.rtp, "before the call")?;
        let leg = MediaHeld { pair: HELD, from: [None, None] };
        filter.media(&MediaChange::Change { held: vec![leg], gone: vec![] })?;
        send(CLOSED, "nobody's")?;
        send(HELD.rtp, "in the call")?;
        let mut text = [0; 64];
        let length = held.recv(&mut text).context("nothing came to the held port")?;
        ensure!(&text[..length] == b"in the call", "{:?} came first", String::from_utf8_lossy(&text[..length]));
        ensure!(dropped(&filter)? == 2, "{} packets were counted as dropped", dropped(&filter)?);

        // A flow passes by itself, and the port closes with its leg.
        let flow = MediaHeld { pair: HELD, from: [Some(lab.bad.v4().into()), None] };
        filter.media(&MediaChange::Change { held: vec![flow], gone: vec![] })?;
        send(HELD.rtp, "as a flow")?;
        held.recv(&mut text).context("nothing came of a flow")?;
        filter.media(&MediaChange::Change { held: vec![], gone: vec![HELD] })?;
        send(HELD.rtp, "after the call")?;
        let deadline = Instant::now() + DEADLINE;
        while dropped(&filter)? < 3 {
            ensure!(Instant::now() < deadline, "what came after the call was not dropped");
            thread::yield_now();
        }
        closed.set_nonblocking(true)?;
        ensure!(closed.recv(&mut text).is_err(), "something came to a closed port");

        let ends = Arc::new(AtomicBool::new(false));
        let server = IpAddr::from(lab.good.v4());
        let answering = resolver(&lab.good.network, server, &ends)?;
        let lost = lost((server, 53).into());
        ends.store(true, Ordering::Relaxed);
        ensure!(answering.join().is_ok(), "the resolver broke off");
        ensure!(lost? == 0, "look-ups were lost");
        ensure!(dropped(&filter)? == 3, "an answer was taken for media");
        filter.leave()
    };
    Sandbox::run(|sandbox| test(sandbox).unwrap_or_else(|error| panic!("{error:#}")));
}

#[test]
fn the_media_rule_is_off_and_says_so_until_the_machine_reserves_the_ports() {
    before_start(|site| {
        reserve_ports("")?;
        let daemon = site.pbx.start()?;
        site.pbx.pbx("firewall mode enforce")?;
        let status = site.pbx.pbx("status")?;
        let not_enforced = status["filter"]["not_enforced"].to_string();
        let command = "sysctl -w net.ipv4.ip_local_reserved_ports=45000-64999";
        ensure!(not_enforced.contains(command), "{status:#}");
        let doctor = site.pbx.try_pbx("doctor")?.said();
        ensure!(doctor.contains(command), "{doctor}");
        site.pbx.try_pbx("guard set guard.media.enforcement=enforce")?.refused(2, &[command])?;

        // Somebody does as it says: it is noticed.
        reserve_ports("8000,45000-64999")?;
        site.pbx.wait("status", |status| !status["filter"]["not_enforced"].to_string().contains("media ports"))?;
        site.pbx.pbx("guard set guard.media.enforcement=enforce")?;
        let events = site.pbx.pbx("events --limit 1000")?.to_string();
        ensure!(events.contains("are dropped from now on"), "{events}");
        daemon.stop()
    });
}
