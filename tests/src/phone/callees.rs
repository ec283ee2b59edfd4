//! Phones that answer every call at one address by UDP: 180 and 200 at once, the 200 again until it is acknowledged,
//! and 200 to the BYE. They register nowhere.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::message::Message;
use crate::sandbox::Namespace;

/// A 200 that is not acknowledged is sent again after so long, then after twice that (RFC 3261 §13.3.1.4).
const T1: Duration = Duration::from_millis(500);
/// And is given up after so long (64 times T1).
const GIVEN_UP: Duration = Duration::from_secs(32);

/// They answer until this is dropped.
#[derive(Debug)]
pub struct Callees {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Waiting {
    answer: String,
    to: SocketAddr,
    begin: Instant,
    again: Instant,
    pause: Duration,
}

impl Callees {
    /// Listens; what comes from now on is answered.
    pub fn start(network: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = network.enter(|| UdpSocket::bind(address).with_context(|| format!("listen on UDP {address}")))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || answer(&socket, address, &stop)
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Callees {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread shows as calls that nobody answers.
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, local: SocketAddr, stop: &AtomicBool) {
    let mut waiting: HashMap<String, Waiting> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Relaxed) {
        let now = Instant::now();
        waiting.retain(|_, one| {
            if now >= one.again {
                one.pause *= 2;
                one.again = now + one.pause;
                let _ = socket.send_to(one.answer.as_bytes(), one.to);
            }
            one.begin.elapsed() < GIVEN_UP
        });
        // Nothing, or an ICMP error to an earlier answer.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(request) = std::str::from_utf8(&buffer[..length]).ok().and_then(|text| Message::parse(text).ok())
        else {
            continue;
        };
        let id = request.header("Call-ID").to_owned();
        match request.method() {
            Some("INVITE") => {
                let _ = socket.send_to(response(&request, "180 Ringing", local).as_bytes(), from);
                let answer = response(&request, "200 OK", local);
                let _ = socket.send_to(answer.as_bytes(), from);
                let now = Instant::now();
                waiting.insert(id, Waiting { answer, to: from, begin: now, again: now + T1, pause: T1 });
            }
            Some("ACK") => drop(waiting.remove(&id)),
            Some(_) => {
                waiting.remove(&id);
                let _ = socket.send_to(response(&request, "200 OK", local).as_bytes(), from);
            }
            None => {}
        }
    }
}

fn response(request: &Message, status: &str, local: SocketAddr) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route"] {
        text.extend(request.all(name).map(|value| format!("{name}: {value}\r\n")));
    }
    let (id, to) = (request.header("Call-ID"), request.header("To"));
    let tag = if to.contains(";tag=") { String::new() } else { format!(";tag=to-{}", id.len()) };
    text += &format!(
        "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {id}\r\nCSeq: {}\r\nContact: <sip:callee@{local}>\r\n",
        request.header("From"),
        request.header("CSeq"),
    );
    if status.starts_with("200") && request.method() == Some("INVITE") {
        let media = local.ip();
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 {media}\r\ns=-\r\nc=IN IP4 {media}\r\nt=0 0\r\nm=audio 32000 RTP/AVP 0 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        );
        text += &format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    } else {
        text += "Content-Length: 0\r\n\r\n";
    }
    text
}
