//! A phone of our own that calls and is called, on a [`Line`]: every message is the test's to see and to change. It does
//! one thing at a time, in the order of the test; what comes meanwhile waits. After message and line.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    digest,
    line::{Heard, Line},
    message::{Message, Sdp, uri},
};

/// The longest that anything a phone waits for may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// A request by UDP that has no answer is sent again after so long (RFC 3261 §17.1.1.2).
const T1: Duration = Duration::from_millis(500);
/// Answers and ACKs that are kept to be sent again.
const KEPT: usize = 64;

/// A phone with one account.
#[derive(Debug)]
pub struct Handset {
    line: Line,
    number: String,
    /// None: it calls another phone of ours, which asks for no proof.
    password: Option<String>,
    /// What came and was not waited for yet.
    inbox: VecDeque<Message>,
    /// What answers a message that comes again: its name, and the answer.
    answers: VecDeque<(String, Vec<u8>)>,
    made: u32,
}

/// A call of a [`Handset`]: its dialog, or what becomes one.
#[derive(Clone, Debug)]
pub struct Call {
    /// The Call-ID.
    pub id: String,
    /// From or To of this phone, with its tag.
    local: String,
    /// From or To of the other side, with its tag when that is known.
    remote: String,
    /// Where requests go to.
    target: String,
    route: Vec<String>,
    /// The last CSeq of this phone.
    sequence: u32,
    /// The last INVITE, sent or received.
    pub invite: Message,
    /// Of the descriptions that this phone sent.
    version: u32,
}

impl Call {
    /// What a Replaces header says of this call (RFC 3891), seen from the phone that gets it: in a Refer-To, escaped.
    pub fn replaces(&self) -> String {
        let escaped = |text: &str| text.replace('@', "%40").replace(':', "%3A").replace('=', "%3D").replace(';', "%3B");
        let tags = format!(";to-tag={};from-tag={}", tag(&self.remote), tag(&self.local));
        escaped(&(self.id.clone() + &tags))
    }

    /// The next description of this phone.
    fn body(&mut self, sdp: &Sdp) -> String {
        self.version += 1;
        sdp.text(self.version)
    }

    /// Learns the other side from an answer or a request of it.
    fn learn(&mut self, message: &Message) {
        let theirs = if message.status().is_some() { "To" } else { "From" };
        if !tag(message.header(theirs)).is_empty() {
            self.remote = message.header(theirs).to_owned();
        }
        if let Some(contact) = message.contact() {
            self.target = contact.to_owned();
        }
        let route = message.all("Record-Route").flat_map(|value| value.split(',')).map(|one| one.trim().to_owned());
        let route: Vec<String> = route.collect();
        if !route.is_empty() {
            self.route = if message.status().is_some() { route.into_iter().rev().collect() } else { route };
        }
    }
}

impl Handset {
    /// The phone of this account.
    pub fn new(line: Line, number: &str, password: &str) -> Self {
        Self::made(line, number, Some(password.to_owned()))
    }

    /// A phone that speaks to another phone directly.
    pub fn peer(line: Line, number: &str) -> Self {
        Self::made(line, number, None)
    }

    fn made(line: Line, number: &str, password: Option<String>) -> Self {
        Self { line, number: number.to_owned(), password, inbox: VecDeque::new(), answers: VecDeque::new(), made: 0 }
    }

    /// Its socket.
    pub fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    /// Its number.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// Has another password from now on.
    pub fn set_password(&mut self, password: &str) {
        self.password = Some(password.to_owned());
    }

    /// Registers; an error if that is refused.
    pub fn register(&mut self) -> Result<()> {
        let password = self.password.clone().context("a phone without an account")?;
        let status = self.line.register(&self.number, &password)?;
        ensure!(status == 200, "{} was answered {status} to its REGISTER", self.number);
        Ok(())
    }

    /// Calls this number: the INVITE is sent, and was not refused for want of a proof.
    pub fn call(&mut self, number: &str, sdp: &Sdp) -> Result<Call> {
        self.call_with(number, "", &sdp.text(1))
    }

    /// As [`call`](Self::call), with whole header lines and a body of the test's.
    pub fn call_with(&mut self, number: &str, more: &str, body: &str) -> Result<Call> {
        self.made += 1;
        let (local, server) = (self.line.local(), self.line.server());
        let target = match self.password {
            Some(_) => format!("sip:{number}@{}", server.ip()),
            None => format!("sip:{number}@{server}"),
        };
        let mut call = Call {
            id: format!("call-{}-{}-{local}", self.number, self.made),
            local: format!("<sip:{}@{}>;tag=t{}", self.number, server.ip(), self.made),
            remote: format!("<{target}>"),
            target,
            route: Vec::new(),
            sequence: 0,
            invite: Message { start: String::new(), headers: Vec::new(), body: String::new() },
            version: 1,
        };
        self.invite(&mut call, more, body)?;
        Ok(call)
    }

    /// Waits until the other side rings (180 or 183); the answer.
    pub fn wait_ringing(&mut self, call: &mut Call) -> Result<Message> {
        self.wait_answer(call, "180", |status| (180..=183).contains(&status))
    }

    /// Waits for 200 and acknowledges it; the answer.
    pub fn wait_answered(&mut self, call: &mut Call) -> Result<Message> {
        let answer = self.wait_answer(call, "200", |status| (200..300).contains(&status))?;
        let ack = self.bytes(call, "ACK", answer.sequence(), "", "");
        self.keep(name(&answer), ack.clone());
        self.line.send(&ack)?;
        Ok(answer)
    }

    /// Waits until the call is refused, and acknowledges that; the answer.
    pub fn wait_refused(&mut self, call: &mut Call) -> Result<Message> {
        let answer = self.wait_answer(call, "a refusal", |status| status >= 300)?;
        self.acknowledge(call, &answer)?;
        Ok(answer)
    }

    /// Takes back a call that nobody has answered; the refusal, 487 if nothing else came first.
    pub fn cancel(&mut self, call: &mut Call) -> Result<Message> {
        let sequence = call.invite.sequence();
        let cancel = self.same_branch(call, "CANCEL");
        self.transact(&cancel, |message| {
            message.header("Call-ID") == call.id && message.of_method() == "CANCEL" && message.sequence() == sequence
        })?;
        self.wait_refused(call)
    }

    /// Waits for a call, and says that it is trying.
    pub fn incoming(&mut self) -> Result<Call> {
        self.incoming_within(DEADLINE)?.context("nobody calls")
    }

    /// Waits so long for a call; none: nobody calls.
    pub fn incoming_within(&mut self, time: Duration) -> Result<Option<Call>> {
        let is_new = |message: &Message| message.method() == Some("INVITE") && tag(message.header("To")).is_empty();
        let Some(invite) = self.wait(time, is_new)? else { return Ok(None) };
        self.made += 1;
        let mut call = Call {
            id: invite.header("Call-ID").to_owned(),
            local: format!("{};tag=t{}", invite.header("To"), self.made),
            remote: String::new(),
            target: String::new(),
            route: Vec::new(),
            sequence: 0,
            invite: invite.clone(),
            version: 0,
        };
        call.learn(&invite);
        self.respond(&invite, "100 Trying", "", "")?;
        Ok(Some(call))
    }

    /// Says that it rings.
    pub fn ring(&mut self, call: &Call) -> Result<()> {
        self.respond_in(call, "180 Ringing", "")
    }

    /// Answers the call.
    pub fn answer(&mut self, call: &mut Call, sdp: &Sdp) -> Result<()> {
        let body = call.body(sdp);
        self.answer_with(call, &body)
    }

    /// As [`answer`](Self::answer), with a body of the test's.
    pub fn answer_with(&mut self, call: &Call, body: &str) -> Result<()> {
        self.respond_in(call, "200 OK", body)
    }

    /// Declines the call, such as with `486 Busy Here`, and waits for the ACK.
    pub fn refuse(&mut self, call: &Call, status: &str) -> Result<()> {
        self.respond_in(call, status, "")?;
        self.wait_ack(call).map(|_| ())
    }

    /// Offers another description in the call (a hold, for example); the answer, acknowledged.
    pub fn offer(&mut self, call: &mut Call, sdp: &Sdp) -> Result<Message> {
        let body = call.body(sdp);
        self.invite(call, "", &body)?;
        self.wait_answered(call)
    }

    /// Answers whatever comes within the call, descriptions with one in the mirrored direction, until it is told to stop or
    /// the other side ends the call; the requests.
    pub fn attend(&mut self, call: &mut Call, sdp: &Sdp, stop: &AtomicBool) -> Result<Vec<Message>> {
        let mut requests = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let id = call.id.clone();
            let is_request = |message: &Message| message.method().is_some() && message.header("Call-ID") == id;
            let Some(request) = self.wait(T1 / 10, is_request)? else { continue };
            let method = request.method().unwrap_or_default().to_owned();
            let direction = Sdp::parse(&request.body).map_or("sendrecv", |offer| offer.mirrored());
            match method.as_str() {
                "ACK" => {}
                "INVITE" | "UPDATE" => {
                    call.learn(&request);
                    let body = if method == "INVITE" || !request.body.is_empty() {
                        call.body(&sdp.direction(direction))
                    } else {
                        String::new()
                    };
                    if method == "INVITE" {
                        call.invite = request.clone();
                    }
                    self.respond(&request, "200 OK", "", &body)?;
                }
                _ => self.respond(&request, "200 OK", "", "")?,
            }
            requests.push(request);
            if method == "BYE" {
                break;
            }
        }
        Ok(requests)
    }

    /// Ends the call; the status of the answer.
    pub fn bye(&mut self, call: &mut Call) -> Result<u16> {
        let answer = self.request(call, "BYE", "", "")?;
        answer.status().context("a status")
    }

    /// Waits until the other side ends the call; its BYE.
    pub fn wait_bye(&mut self, call: &Call) -> Result<Message> {
        self.wait_request(call, "BYE")
    }

    /// Waits until the call, which nobody has answered, is taken back; its CANCEL.
    pub fn wait_cancel(&mut self, call: &Call) -> Result<Message> {
        let cancel = self.wait_request(call, "CANCEL")?;
        self.refuse(call, "487 Request Terminated")?;
        Ok(cancel)
    }

    /// Sends a request within the call with a body of this type, as [`request`](Self::request).
    pub fn request_of(&mut self, call: &mut Call, method: &str, kind: &str, body: &str) -> Result<Message> {
        self.request(call, method, &format!("Content-Type: {kind}\r\n"), body)
    }

    /// Sends a request within the call, proves who it is from if it is asked to, once, and waits for the final answer.
    pub fn request(&mut self, call: &mut Call, method: &str, more: &str, body: &str) -> Result<Message> {
        let first = self.request_once(call, method, more, body)?;
        if !matches!(first.status(), Some(401 | 407)) {
            return Ok(first);
        }
        let proof = self.proof(&first, method, &call.target)?;
        self.request_once(call, method, &(more.to_owned() + &proof), body)
    }

    fn request_once(&mut self, call: &mut Call, method: &str, more: &str, body: &str) -> Result<Message> {
        call.sequence += 1;
        let sequence = call.sequence;
        let bytes = self.bytes(call, method, sequence, more, body);
        self.transact(&bytes, |message| is_answer(message, &call.id, sequence, method))
    }

    /// Waits for a request within the call and answers it with 200.
    pub fn wait_request(&mut self, call: &Call, method: &str) -> Result<Message> {
        let waited = self.wait(DEADLINE, |message| {
            message.method() == Some(method) && message.header("Call-ID") == call.id.as_str()
        })?;
        let request = waited.with_context(|| format!("no {method} comes to {}", self.number))?;
        self.respond(&request, "200 OK", "", "")?;
        Ok(request)
    }

    /// Asks the appliance to connect the other side with another number (RFC 3515), or with `sip:…?Replaces=…`; the
    /// answer.
    pub fn refer(&mut self, call: &mut Call, target: &str) -> Result<Message> {
        let server = self.line.server().ip();
        let target = if target.contains(':') { target.to_owned() } else { format!("sip:{target}@{server}") };
        let by = format!("<sip:{}@{server}>", self.number);
        self.request(call, "REFER", &format!("Refer-To: <{target}>\r\nReferred-By: {by}\r\n"), "")
    }

    /// Waits until a NOTIFY tells the final status of what was asked for with [`refer`](Self::refer); that.
    pub fn wait_referred(&mut self, call: &Call) -> Result<u16> {
        loop {
            let notify = self.wait_request(call, "NOTIFY")?;
            let status = notify.body.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
            let status: u16 = status.with_context(|| format!("no status in {notify}"))?;
            if status >= 200 {
                return Ok(status);
            }
        }
    }

    /// Sends the INVITE of a call, a first or another one, until it is not asked for a proof any more.
    fn invite(&mut self, call: &mut Call, more: &str, body: &str) -> Result<()> {
        let mut more = more.to_owned();
        for _ in 0..2 {
            call.sequence += 1;
            let bytes = self.bytes(call, "INVITE", call.sequence, &more, body);
            call.invite = Message::parse(&String::from_utf8_lossy(&bytes))?;
            if self.password.is_none() {
                return self.line.send(&bytes);
            }
            let (id, sequence) = (call.id.clone(), call.sequence);
            let answer = self.transact(&bytes, |message| {
                message.header("Call-ID") == id && message.sequence() == sequence && message.status().is_some()
            })?;
            if !matches!(answer.status(), Some(401 | 407)) {
                self.inbox.push_front(answer);
                return Ok(());
            }
            self.acknowledge(call, &answer)?;
            let uri = call.invite.start.split(' ').nth(1).unwrap_or_default().to_owned();
            more += &self.proof(&answer, "INVITE", &uri)?;
        }
        bail!("INVITE is challenged again and again")
    }

    fn wait_answer(&mut self, call: &mut Call, what: &str, enough: impl Fn(u16) -> bool) -> Result<Message> {
        let begin = Instant::now();
        loop {
            let (id, sequence) = (call.id.clone(), call.invite.sequence());
            let left = DEADLINE.saturating_sub(begin.elapsed());
            let waited = self.wait(left, |message| {
                message.status().is_some()
                    && message.of_method() == "INVITE"
                    && message.header("Call-ID") == id
                    && message.sequence() == sequence
            })?;
            let answer = waited.with_context(|| format!("{} waits for {what} and hears nothing", self.number))?;
            let status = answer.status().unwrap_or_default();
            if status < 300 {
                call.learn(&answer);
            }
            if enough(status) {
                return Ok(answer);
            }
            ensure!(status < 200, "{} waits for {what} and hears\n{answer}", self.number);
        }
    }

    /// Waits until its answer to the last INVITE is acknowledged; the ACK.
    pub fn wait_ack(&mut self, call: &Call) -> Result<Message> {
        let sequence = call.invite.sequence();
        let is_ack = |message: &Message| {
            message.method() == Some("ACK")
                && message.header("Call-ID") == call.id.as_str()
                && message.sequence() == sequence
        };
        let waited = self.wait(DEADLINE, is_ack)?;
        waited.with_context(|| format!("no ACK comes to {}", self.number))
    }

    /// The ACK of a refusal, which belongs to the transaction (RFC 3261 §17.1.1.3).
    fn acknowledge(&mut self, call: &Call, refusal: &Message) -> Result<()> {
        let mut ack = Message::parse(&String::from_utf8_lossy(&self.same_branch(call, "ACK")))?;
        for (name, value) in &mut ack.headers {
            if name == "To" {
                *value = refusal.header("To").to_owned();
            }
        }
        let ack = written(&ack);
        self.keep(name(refusal), ack.clone());
        self.line.send(&ack)
    }

    /// A request that is about the last INVITE: the same URI, branch and number.
    fn same_branch(&self, call: &Call, method: &str) -> Vec<u8> {
        let invite = &call.invite;
        let mut request = Message {
            start: invite.start.replacen("INVITE", method, 1),
            headers: vec![("Via".to_owned(), invite.header("Via").to_owned())],
            body: String::new(),
        };
        for name in ["Max-Forwards", "Route", "From", "To", "Call-ID"] {
            request.headers.extend(invite.all(name).map(|value| (name.to_owned(), value.to_owned())));
        }
        request.headers.push(("CSeq".to_owned(), format!("{} {method}", invite.sequence())));
        request.headers.push(("Content-Length".to_owned(), "0".to_owned()));
        written(&request)
    }

    fn proof(&self, challenge: &Message, method: &str, uri: &str) -> Result<String> {
        let password = self.password.as_deref().context("a challenge to a phone without an account")?;
        let (asked, answer) = match challenge.status() {
            Some(407) => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => ("WWW-Authenticate", "Authorization"),
        };
        let credentials = digest::credentials(challenge.all(asked), method, uri, &self.number, password)?;
        Ok(format!("{answer}: {credentials}\r\n"))
    }

    /// A request of a call as it is sent.
    fn bytes(&self, call: &Call, method: &str, sequence: u32, more: &str, body: &str) -> Vec<u8> {
        let (line, id) = (&self.line, &call.id);
        let (local, protocol, parameter) = (line.local(), line.protocol(), line.parameter());
        let routes: String = call.route.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let named = body.is_empty() || more.contains("Content-Type: ");
        let kind = if named { "" } else { "Content-Type: application/sdp\r\n" };
        let unique = format!("{}-{}-{sequence}-{method}", local.port(), self.made);
        format!(
            "{method} {} SIP/2.0\r\n\
             Via: SIP/2.0/{protocol} {local};branch=z9hG4bK-{unique};rport\r\n\
             Max-Forwards: 70\r\n\
             {routes}From: {}\r\n\
             To: {}\r\n\
             Call-ID: {id}\r\n\
             CSeq: {sequence} {method}\r\n\
             Contact: <sip:{}@{local}{parameter}>\r\n\
             User-Agent: handset\r\n\
             {more}{kind}Content-Length: {}\r\n\r\n{body}",
            call.target,
            call.local,
            call.remote,
            self.number,
            body.len(),
        )
        .into_bytes()
    }

    /// Answers the INVITE of a call.
    fn respond_in(&mut self, call: &Call, status: &str, body: &str) -> Result<()> {
        let invite = call.invite.clone();
        self.respond(&invite, status, tag(&call.local), body)
    }

    /// Answers a request, by this tag of ours if it has none.
    pub fn respond(&mut self, request: &Message, status: &str, own_tag: &str, body: &str) -> Result<()> {
        let vias: String = request.all("Via").map(|via| format!("Via: {via}\r\n")).collect();
        let routes: String = request.all("Record-Route").map(|route| format!("Record-Route: {route}\r\n")).collect();
        let mut to = request.header("To").to_owned();
        if tag(&to).is_empty() && !own_tag.is_empty() {
            to += &format!(";tag={own_tag}");
        }
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let (line, number) = (&self.line, &self.number);
        let answer = format!(
            "SIP/2.0 {status}\r\n{vias}{routes}From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:{number}@{}{}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            request.header("From"),
            request.header("Call-ID"),
            request.header("CSeq"),
            line.local(),
            line.parameter(),
            body.len(),
        )
        .into_bytes();
        self.keep(name(request), answer.clone());
        self.line.send(&answer)
    }

    /// Sends a request, by UDP again and again, until a message comes that is waited for.
    fn transact(&mut self, bytes: &[u8], enough: impl Fn(&Message) -> bool) -> Result<Message> {
        let begin = Instant::now();
        loop {
            self.line.send(bytes)?;
            let patience = if self.line.protocol() == "UDP" { T1 } else { DEADLINE };
            if let Some(message) = self.wait(patience, &enough)? {
                return Ok(message);
            }
            ensure!(begin.elapsed() < DEADLINE, "no answer to\n{}", String::from_utf8_lossy(bytes));
        }
    }

    /// Waits for a message; others are kept for later. None within the time.
    pub fn wait(&mut self, time: Duration, enough: impl Fn(&Message) -> bool) -> Result<Option<Message>> {
        if let Some(place) = self.inbox.iter().position(&enough) {
            return Ok(self.inbox.remove(place));
        }
        let begin = Instant::now();
        while let Some(heard) = self.line.hear(time.saturating_sub(begin.elapsed()))? {
            let Heard::Message(text) = heard else { bail!("the line of {} has ended", self.number) };
            let message = Message::parse(&text)?;
            let again = name(&message);
            if let Some((_, answer)) = self.answers.iter().rev().find(|(name, _)| *name == again) {
                let answer = answer.clone();
                self.line.send(&answer)?;
            } else if message.method() == Some("OPTIONS") {
                self.respond(&message, "200 OK", "options", "")?;
            } else if enough(&message) {
                return Ok(Some(message));
            } else {
                self.inbox.push_back(message);
            }
        }
        Ok(None)
    }

    fn keep(&mut self, name: String, answer: Vec<u8>) {
        self.answers.push_back((name, answer));
        if self.answers.len() > KEPT {
            self.answers.pop_front();
        }
    }
}

/// What is the same in a message that comes again, and differs in all others.
fn name(message: &Message) -> String {
    let kind = match message.status() {
        Some(_) => message.start.as_str(),
        None => message.method().unwrap_or_default(),
    };
    let branch = message.header("Via").split("branch=").nth(1).unwrap_or_default();
    let branch = branch.split(';').next().unwrap_or_default();
    format!("{kind} {} {} {branch} {}", message.header("Call-ID"), message.header("CSeq"), tag(message.header("To")))
}

/// Whether a message is the final answer to a request.
fn is_answer(message: &Message, call_id: &str, sequence: u32, method: &str) -> bool {
    message.status().is_some_and(|status| status >= 200)
        && message.header("Call-ID") == call_id
        && message.sequence() == sequence
        && message.of_method() == method
}

/// The tag of a From or To; empty: none.
fn tag(value: &str) -> &str {
    let after = value.split_once('>').map_or("", |(_, after)| after);
    after.split(';').find_map(|parameter| parameter.trim().strip_prefix("tag=")).unwrap_or_default()
}

fn written(message: &Message) -> Vec<u8> {
    let headers: String = message.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{}\r\n{headers}\r\n{}", message.start, message.body).into_bytes()
}

/// The number in the URI of a From, To or Contact.
pub fn number_of(value: &str) -> &str {
    uri(value).and_then(|uri| uri.strip_prefix("sip:")?.split('@').next()).unwrap_or_default()
}
