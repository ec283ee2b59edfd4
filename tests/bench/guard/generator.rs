//! Floods: whole SIP requests that a kernel program makes and redirects into the veth, as fast as it takes them, from
//! one source or from many. What the other end does with a packet in the kernel it does on the same CPU.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::{
    frames::Frame,
    lab::{NEIGHBOUR_INTERFACE, Neighbour},
    sandbox::Namespace,
};

use crate::{programs, run};

/// Whose requests they seem to be: nobody else's address, and routed to the neighbour.
pub(super) const NETWORK: &str = "198.18.0.0/15";
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
/// Of another flood of the same run, so that what the first one did is not met again.
const ALONE: Ipv4Addr = Ipv4Addr::new(198, 19, 200, 9);
/// Frames of a test run: so many that its beginning and end, some 20 ms, are little beside it.
const AT_ONCE: u32 = 131_072;
/// Bytes of a request up to its number; the kernel program (`driver/src/drive.rs`) knows it, too.
const BEFORE_NUMBER: usize = 41;

/// A flood on its way; it ends when this is dropped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Begins it: from a neighbour to a server behind the appliance's end of the link, so many packets a second (at
    /// least 50,000) or as many as it can. Returns when it is on its way.
    pub(super) fn start(neighbour: &Neighbour, server: SocketAddr, sources: u32, rate: Option<u32>) -> Result<Self> {
        let first = if sources == 1 { ALONE } else { FIRST };
        let frame = frame(neighbour, first, server)?;
        let network: Namespace = neighbour.network.enter(Namespace::current)?;
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (stop, made) = (stop.clone(), made.clone());
            move || network.enter(|| send(&frame, (first, sources), rate, &stop, &made))
        });
        let flood = Self { stop, made, thread: Some(thread) };
        let begin = Instant::now();
        while flood.made.load(Relaxed) == 0 && flood.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            ensure!(begin.elapsed() < Duration::from_secs(20), "the flood does not begin");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(flood)
    }

    /// Ends it, with what was wrong.
    pub(super) fn stop(mut self) -> Result<()> {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().context("it runs")?;
        thread.join().map_err(|_| anyhow::anyhow!("the flood broke off"))?.context("flood")
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Only `stop` says what went wrong.
            let _ = thread.join();
        }
    }
}

fn send(
    frame: &[u8],
    (first, sources): (Ipv4Addr, u32),
    rate: Option<u32>,
    stop: &AtomicBool,
    made: &AtomicU64,
) -> Result<()> {
    run::pin()?;
    let output = nix::net::if_::if_nametoindex(NEIGHBOUR_INTERFACE)?;
    let (_loaded, program) =
        programs::flooder(output, first.into(), sources, rate.map_or(0, |rate| 1_000_000_000 / u64::from(rate)))?;
    // The first is short, so that whoever waits for it knows soon.
    run::live(program.fd(), frame, 64)?;
    made.fetch_add(64, Relaxed);
    let at_once = rate.map_or(AT_ONCE, |rate| rate.min(AT_ONCE));
    while !stop.load(Relaxed) {
        run::live(program.fd(), frame, at_once)?;
        made.fetch_add(at_once.into(), Relaxed);
    }
    Ok(())
}

/// A REGISTER without credentials.
fn frame(neighbour: &Neighbour, source: Ipv4Addr, server: SocketAddr) -> Result<Vec<u8>> {
    let host = server.ip();
    let request = format!(
        "REGISTER sip:{host} SIP/2.0\r\n\
         Call-ID: ________@{source}\r\n\
         Via: SIP/2.0/UDP {source}:5060;branch=z9hG4bK-flood;rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:300000@{host}>;tag=flood\r\n\
         To: <sip:300000@{host}>\r\n\
         CSeq: 1 REGISTER\r\n\
         Contact: <sip:300000@{source}:5060>\r\n\
         Expires: 300\r\n\
         User-Agent: stranger\r\n\
         Content-Length: 0\r\n\r\n"
    );
    ensure!(request.find('_') == Some(BEFORE_NUMBER), "the number of a request is not where the kernel writes it");
    let mut frame = Frame::udp(SocketAddr::from((source, 5060)), server)
        .payload(request.as_bytes())
        .link(neighbour.mac(), neighbour.appliance_mac())
        .build();
    // Ethernet, IPv4 without options, UDP: no checksum (RFC 768), because each request is another one.
    frame[40..42].fill(0);
    Ok(frame)
}
