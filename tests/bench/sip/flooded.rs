//! Requests within a call while strangers flood: how long they wait for their answers. The flood is REGISTERs without
//! credentials from 10,000 addresses in turn, each with so few a second that no rate of the filter is reached: what
//! protects the call is the order in which the daemon takes things.

use std::{
    io::IoSlice,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg},
};
use pbx_tests::{
    phone::{Handset, Line, media::Media},
    sandbox::{self, Namespace},
};

use super::{
    Effort,
    appliance::{Appliance, PASSWORD},
    strangers::write_request,
};
use crate::report::Report;

const CALLER: u32 = 230_000;
const CALLEE: u32 = 230_001;
/// Where the flood seems to come from: all of them are addresses of this machine, so that it can be answered.
const SPOOFED: &str = "10.99.0.0/16";
const SOURCES: u64 = 10_000;
/// Requests of the flood in a second.
const RATE: u32 = 20_000;
/// Between two requests of the call.
const PAUSE: Duration = Duration::from_millis(5);

/// Measures it.
pub(super) fn measure(directory: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    sandbox::ip(&format!("route add local {SPOOFED} dev lo"))?;
    let network = Namespace::current()?;
    let appliance = Appliance::start_as_set(directory, [CALLER, CALLEE])?;
    let phone = |address: [u8; 4], number: u32| -> Result<Handset> {
        let line = Line::udp(&network, IpAddr::from(address), appliance.address)?;
        let mut phone = Handset::new(line, &number.to_string(), PASSWORD);
        phone.register()?;
        Ok(phone)
    };
    let (mut caller, mut callee) = (phone([127, 5, 0, 1], CALLER)?, phone([127, 5, 0, 2], CALLEE)?);
    let sound = |address: [u8; 4]| Media::open(&network, address.into(), 440).map(|media| media.sdp());
    let mut call = caller.call(&CALLEE.to_string(), &sound([127, 5, 0, 1])?)?;
    let mut taken = callee.incoming()?;
    callee.answer(&mut taken, &sound([127, 5, 0, 2])?)?;
    caller.wait_answered(&mut call)?;
    callee.wait_ack(&taken)?;

    let requests = if effort.rounds >= Effort::FULL.rounds { 4000 } else { 1000 };
    let mut ask = || -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(requests);
        for _ in 0..requests {
            let begin = Instant::now();
            let answer = caller.request(&mut call, "OPTIONS", "", "")?;
            ensure!(answer.status() == Some(200), "{answer}");
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
            thread::sleep(PAUSE);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    };
    let quiet = ask()?;
    let before = appliance.turned_away()?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let server = appliance.address;
    let (busy, begin) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(server, &stop, &sent));
        while sent.load(Relaxed) < u64::from(RATE) && !flooding.is_finished() {
            thread::sleep(Duration::from_millis(10));
        }
        let begin = (Instant::now(), sent.load(Relaxed));
        let busy = ask();
        let rate = (sent.load(Relaxed) - begin.1) as f64 / begin.0.elapsed().as_secs_f64();
        stop.store(true, Relaxed);
        flooding.join().map_err(|_| anyhow::anyhow!("the flood broke off"))??;
        anyhow::Ok((busy?, rate))
    })?;
    let turned_away = appliance.turned_away()? - before;
    let all = sent.load(Relaxed);
    ensure!(turned_away > all / 2, "of {all} requests of the flood the daemon saw {turned_away}");
    let percentile = |times: &[f64], of: f64| times[((times.len() - 1) as f64 * of) as usize];
    let case = format!("OPTIONS within a call while {SOURCES} spoofed sources flood");
    report.figure("OPTIONS within a call, no flood: p99", percentile(&quiet, 0.99), "ms", None);
    report.figure(format!("{case}: median"), percentile(&busy, 0.5), "ms", None);
    report.figure(format!("{case}: p99"), percentile(&busy, 0.99), "ms", Some(20.0));
    report.figure(format!("{case}: the longest of {requests}"), percentile(&busy, 1.0), "ms", None);
    report.figure("of which flood: requests sent in a second", begin, "requests", None);
    report.figure("of which the daemon read", turned_away as f64 * 100.0 / all as f64, "%", None);
    let status = caller.bye(&mut call)?;
    ensure!(status == 200, "the call was gone: its BYE was answered {status}");
    Ok(())
}

/// Sends until it is told to stop.
fn flood(server: SocketAddr, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let port = socket.local_addr()?.port();
    let SocketAddr::V4(to) = server else { anyhow::bail!("{server} is not IPv4") };
    let (mut message, begin, mut number) = (Vec::with_capacity(1024), Instant::now(), 0_u64);
    while !stop.load(Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * f64::from(RATE)) as u64;
        while number < due {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 0, 1)) + (number % SOURCES) as u32);
            message.clear();
            write_request(&mut message, (source, port).into(), server, number)?;
            let from = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let (parts, control) = ([IoSlice::new(&message)], [ControlMessage::Ipv4PacketInfo(&from)]);
            let to = SockaddrIn::from(to);
            sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to)).context("send the flood")?;
            number += 1;
            sent.store(number, Relaxed);
        }
        thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}
