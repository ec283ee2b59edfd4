//! Calls by UDP, so many a second from one socket, each with digest: INVITE, 401 or 407, ACK, INVITE with credentials,
//! 200, ACK, BYE, 200. For what SIPp cannot do: it says how long each set-up took to the microsecond.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{digest, message::Message};
use crate::sandbox::Namespace;

/// A request that has no answer is sent again after so long, and then after twice that (RFC 3261 §17.1.1.1).
const T1: Duration = Duration::from_millis(500);

/// Who calls where.
#[derive(Clone, Copy, Debug)]
pub struct Callers<'a> {
    /// Where they are.
    pub network: &'a Namespace,
    /// The address that all of them share; port 0: any.
    pub source: SocketAddr,
    /// The proxy or PBX.
    pub server: SocketAddr,
    /// Calls that begin in a second.
    pub rate: u32,
    /// A call whose caller hears nothing that helps for so long has failed.
    pub patience: Duration,
}

/// What became of calls.
#[derive(Clone, Debug, Default)]
pub struct Called {
    /// Set up and taken down.
    pub successful: usize,
    /// The others.
    pub failed: usize,
    /// Requests that were sent again.
    pub repeated: usize,
    /// From the first INVITE of a call to its 200.
    pub setups: Vec<Duration>,
    /// The first final answers that were not expected.
    pub complaints: Vec<String>,
}

/// A call: who calls, with which password, and whom.
pub type Row = (u32, String, u32);

struct Calling<'a> {
    row: &'a Row,
    id: String,
    begin: Instant,
    sequence: u32,
    /// The request that waits for an answer.
    request: String,
    again: Option<Instant>,
    pause: Duration,
    fails: Instant,
    /// What was sent to acknowledge the 200; from then on the BYE waits.
    acknowledged: Option<String>,
}

impl Callers<'_> {
    /// Makes so many calls, the rows in turn, and waits for the end of all of them.
    pub fn call(&self, rows: &[Row], count: usize) -> Result<Called> {
        let socket = self.network.enter(|| {
            let socket = UdpSocket::bind(self.source).with_context(|| format!("bind {}", self.source))?;
            socket.connect(self.server)?;
            Ok(socket)
        })?;
        let mut run = Running {
            callers: self,
            local: socket.local_addr()?,
            socket,
            calls: HashMap::new(),
            ended: HashMap::new(),
            called: Called::default(),
        };
        let (begin, mut begun) = (Instant::now(), 0);
        let mut buffer = vec![0; 65_536];
        while begun < count || !run.calls.is_empty() {
            while begun < count && begin.elapsed() >= Duration::from_secs(1) * begun as u32 / self.rate {
                run.begin(&rows[begun % rows.len()], begun)?;
                begun += 1;
            }
            run.repeat();
            let next = begin + Duration::from_secs(1) * begun as u32 / self.rate;
            let wait = next.saturating_duration_since(Instant::now());
            run.socket.set_read_timeout(Some(wait.clamp(Duration::from_millis(1), Duration::from_millis(20))))?;
            match run.socket.recv(&mut buffer) {
                Ok(length) => run.heard(std::str::from_utf8(&buffer[..length]).context("no text")?)?,
                Err(error) if is_nothing(error.kind()) => {}
                Err(error) => return Err(error).context("receive"),
            }
        }
        Ok(run.called)
    }
}

fn is_nothing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}

struct Running<'a> {
    callers: &'a Callers<'a>,
    socket: UdpSocket,
    local: SocketAddr,
    calls: HashMap<String, Calling<'a>>,
    /// What acknowledges a 200 that comes again.
    ended: HashMap<String, String>,
    called: Called,
}

impl<'a> Running<'a> {
    fn begin(&mut self, row: &'a Row, number: usize) -> Result<()> {
        let now = Instant::now();
        let mut call = Calling {
            row,
            id: format!("{number}-{}", self.local),
            begin: now,
            sequence: 1,
            request: String::new(),
            again: None,
            pause: T1,
            fails: now + self.callers.patience,
            acknowledged: None,
        };
        let request = self.invite(&call, "");
        self.ask(&mut call, request);
        self.calls.insert(call.id.clone(), call);
        Ok(())
    }

    fn ask(&self, call: &mut Calling<'_>, request: String) {
        let now = Instant::now();
        // What is not sent is sent again.
        let _ = self.socket.send(request.as_bytes());
        (call.request, call.again, call.pause) = (request, Some(now + T1), T1);
        call.fails = now + self.callers.patience;
    }

    fn repeat(&mut self) {
        let now = Instant::now();
        let Self { calls, called, socket, .. } = self;
        calls.retain(|_, call| {
            if now >= call.fails {
                called.failed += 1;
                return false;
            }
            if call.again.is_some_and(|again| now >= again) {
                called.repeated += 1;
                call.pause *= 2;
                call.again = Some(now + call.pause);
                let _ = socket.send(call.request.as_bytes());
            }
            true
        });
    }

    fn heard(&mut self, text: &str) -> Result<()> {
        let answer = Message::parse(text)?;
        let (Some(status), id) = (answer.status(), answer.header("Call-ID")) else { return Ok(()) };
        let of_invite = answer.of_method() == "INVITE";
        let Some(mut call) = self.calls.remove(id) else {
            if let (Some(ack), true, 200) = (self.ended.get(id), of_invite, status) {
                let _ = self.socket.send(ack.as_bytes());
            }
            return Ok(());
        };
        if self.goes_on(&mut call, &answer, status, of_invite)? {
            self.calls.insert(call.id.clone(), call);
        }
        Ok(())
    }

    /// Whether the call is still under way after this answer.
    fn goes_on(&mut self, call: &mut Calling<'_>, answer: &Message, status: u16, of_invite: bool) -> Result<bool> {
        match (&call.acknowledged, status) {
            (Some(ack), 200..) if of_invite => {
                let _ = self.socket.send(ack.as_bytes());
                Ok(true)
            }
            (Some(_), 200..) => {
                self.end(call, answer, status == 200);
                Ok(false)
            }
            (Some(_), _) => Ok(true),
            (None, _) if answer.sequence() != call.sequence => Ok(true),
            (None, ..200) => {
                call.again = None;
                Ok(true)
            }
            (None, 401 | 407) if call.sequence == 1 => {
                self.refuse(call, answer);
                let (number, password, whom) = call.row;
                let (of, header) = match status {
                    401 => ("WWW-Authenticate", "Authorization"),
                    _ => ("Proxy-Authenticate", "Proxy-Authorization"),
                };
                let uri = format!("sip:{whom}@{}", self.callers.server.ip());
                let proof = digest::credentials(answer.all(of), "INVITE", &uri, &number.to_string(), password)?;
                call.sequence = 2;
                let request = self.invite(call, &format!("{header}: {proof}\r\n"));
                self.ask(call, request);
                Ok(true)
            }
            (None, 200) => {
                self.called.setups.push(call.begin.elapsed());
                let ack = self.within(call, answer, "ACK", 2);
                let _ = self.socket.send(ack.as_bytes());
                call.acknowledged = Some(ack);
                let bye = self.within(call, answer, "BYE", 3);
                self.ask(call, bye);
                Ok(true)
            }
            (None, _) => {
                self.refuse(call, answer);
                self.end(call, answer, false);
                Ok(false)
            }
        }
    }

    fn end(&mut self, call: &mut Calling<'_>, answer: &Message, well: bool) {
        if well {
            self.called.successful += 1;
        } else {
            self.called.failed += 1;
            if self.called.complaints.len() < 4 {
                self.called.complaints.push(answer.start.clone());
            }
        }
        self.ended.extend(call.acknowledged.take().map(|ack| (call.id.clone(), ack)));
    }

    fn invite(&self, call: &Calling<'_>, more: &str) -> String {
        let (host, local, media) = (self.callers.server.ip(), self.local, self.local.ip());
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 {media}\r\ns=-\r\nc=IN IP4 {media}\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        );
        let (number, _, whom) = call.row;
        let start = format!("INVITE sip:{whom}@{host} SIP/2.0\r\n");
        let head = self.head(call, &call.sequence.to_string(), &format!("<sip:{whom}@{host}>"), "INVITE");
        format!(
            "{start}{head}Contact: <sip:{number}@{local}>\r\n{more}Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Acknowledges a final answer that is no 200: it belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
    fn refuse(&self, call: &Calling<'_>, answer: &Message) {
        let (host, whom) = (self.callers.server.ip(), call.row.2);
        let head = self.head(call, &call.sequence.to_string(), answer.header("To"), "ACK");
        let ack = format!("ACK sip:{whom}@{host} SIP/2.0\r\n{head}Content-Length: 0\r\n\r\n");
        let _ = self.socket.send(ack.as_bytes());
    }

    /// A request within the dialog that a 200 made.
    fn within(&self, call: &Calling<'_>, answer: &Message, method: &str, branch: u32) -> String {
        let target = answer.contact().unwrap_or_default();
        let head = self.head(call, &format!("{branch}-{method}"), answer.header("To"), method);
        let routes: Vec<&str> = answer.all("Record-Route").collect();
        let routes: String = routes.iter().rev().map(|route| format!("Route: {route}\r\n")).collect();
        format!("{method} {target} SIP/2.0\r\n{head}{routes}Content-Length: 0\r\n\r\n")
    }

    fn head(&self, call: &Calling<'_>, branch: &str, to: &str, method: &str) -> String {
        let Calling { id, row: (number, ..), .. } = call;
        let sequence = if method == "BYE" { 3 } else { call.sequence };
        format!(
            "Via: SIP/2.0/UDP {};branch=z9hG4bK-{id}-{branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{number}@{}>;tag=from-{id}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: {sequence} {method}\r\n\
             User-Agent: callers\r\n",
            self.local,
            self.callers.server.ip(),
        )
    }
}
