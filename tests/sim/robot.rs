//! Phones that live by themselves: they repeat what was lost, answer what they are asked, and keep count of what they
//! were told. Over links that lose messages, or not.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use pbx_core::{call::Disposition, moment::Moment, settings::Settings, transport::Flow};

use crate::{
    handset::{Got, inner},
    phone::{Answer, Phone},
    scene::{DOMAIN, Scene, udp},
};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// A message that is sent until something is heard.
#[derive(Clone)]
struct Repeated {
    text: String,
    next: Moment,
    interval: Duration,
    until: Moment,
    /// A provisional answer came: the INVITE is not repeated any more, and waited for.
    is_heard: bool,
}

impl Repeated {
    fn new(text: &str, now: Moment) -> Self {
        Self { text: text.to_owned(), next: now + T1, interval: T1, until: now + T1 * 64, is_heard: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Calling,
    Ringing,
    Talking,
    Over,
}

/// A call as one phone sees it.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) stage: Stage,
    call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    /// The INVITE that waits for an answer of the phone's, or the one that it sent.
    invite: Option<Got>,
    /// A final answer that waits for its ACK.
    answer: Option<(String, Repeated)>,
    /// The ACK of the last 2xx.
    ack: Option<(String, String)>,
    holds: bool,
    gives_up: bool,
}

/// A phone.
pub(crate) struct Robot {
    pub(crate) phone: Phone,
    pub(crate) lines: Vec<Line>,
    said: u32,
    pending: BTreeMap<(String, String), Repeated>,
    replies: BTreeMap<(String, String), String>,
    acks: BTreeMap<String, String>,
    /// The final answers to each INVITE that it sent, by branch.
    pub(crate) finals: BTreeMap<String, BTreeSet<String>>,
    /// INVITEs whose answers it does not care for any more.
    pub(crate) forgotten: BTreeSet<String>,
    /// Answers at once.
    pub(crate) is_eager: bool,
    out: VecDeque<String>,
}

fn branch(got: &Got) -> String {
    let via = got.header("via");
    via.split("branch=").nth(1).expect("a branch").split([';', ',']).next().unwrap().to_owned()
}

fn number(got: &Got) -> String {
    got.header("cseq").split(' ').next().unwrap().to_owned()
}

impl Robot {
    fn new(number: &str, flow: Flow) -> Self {
        Self {
            phone: Phone::new(number, flow),
            lines: Vec::new(),
            said: 0,
            pending: BTreeMap::new(),
            replies: BTreeMap::new(),
            acks: BTreeMap::new(),
            finals: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            is_eager: false,
            out: VecDeque::new(),
        }
    }

    /// It was unplugged: what it knew is gone, and its numbers go on.
    pub(crate) fn restart(&mut self) {
        self.forgotten.extend(self.finals.keys().cloned());
        self.lines.clear();
        self.pending.clear();
        self.replies.clear();
        self.acks.clear();
    }

    fn sdp(&self, way: &str) -> String {
        let ip = self.phone.flow.remote.ip();
        format!(
            "v=0\r\no=- 1 {} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 101\r\n\
             a=rtpmap:101 telephone-event/8000\r\na={way}\r\n",
            self.said
        )
    }

    /// The last line in a stage.
    pub(crate) fn line(&self, stage: Stage) -> Option<usize> {
        self.lines.iter().rposition(|line| line.stage == stage)
    }

    /// How many calls it talks in.
    pub(crate) fn talks(&self) -> usize {
        self.lines.iter().filter(|line| line.stage == Stage::Talking).count()
    }

    /// Sends a request of a line.
    fn request(&mut self, at: usize, method: &str, body: &str, more: &str, now: Moment) {
        self.said += 1;
        let branch = format!("z9hG4bKr{}p{}x{}", self.phone.number, self.phone.flow.remote.port(), self.said);
        let remote = self.phone.flow.remote;
        let contact = self.phone.contact.clone();
        let Line { call_id, local, remote: to, target, cseq, .. } = &mut self.lines[at];
        *cseq += 1;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let head = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {remote};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: {local}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: {contact}\r\n{more}{kind}"
        );
        let target = target.clone();
        let credentials = self.phone.credentials(method, &target).unwrap_or_default();
        let text = head + &credentials + &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        if method == "INVITE" {
            self.lines[at].invite = Some(Got::of(&text));
            self.finals.entry(branch.clone()).or_default();
        }
        self.pending.insert((branch, method.to_owned()), Repeated::new(&text, now));
        self.out.push_back(text);
    }

    /// The ACK or CANCEL of an INVITE, in its transaction.
    fn of_invite(method: &str, invite: &Got, to: &str) -> String {
        format!(
            "{method} {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n\
             Content-Length: 0\r\n\r\n",
            invite.uri(),
            invite.header("via"),
            invite.header("from"),
            invite.header("call-id"),
            number(invite),
        )
    }

    pub(crate) fn call(&mut self, callee: &str, now: Moment) {
        self.said += 1;
        let own = &self.phone.number;
        self.lines.push(Line {
            stage: Stage::Calling,
            call_id: format!("r{own}-{}-{}", self.phone.flow.remote.port(), self.said),
            local: format!("<sip:{own}@{DOMAIN}>;tag=r{}", self.said),
            remote: format!("<sip:{callee}@{DOMAIN}>"),
            target: format!("sip:{callee}@{DOMAIN}"),
            cseq: 0,
            invite: None,
            answer: None,
            ack: None,
            holds: false,
            gives_up: false,
        });
        let sdp = self.sdp("sendrecv");
        self.request(self.lines.len() - 1, "INVITE", &sdp, "", now);
    }

    /// Takes what rings, or does not.
    pub(crate) fn answer(&mut self, status: &str, now: Moment) {
        let Some(at) = self.line(Stage::Ringing) else { return };
        let invite = self.lines[at].invite.clone().expect("an INVITE");
        let body = if status == "200" { self.sdp("sendrecv") } else { String::new() };
        self.lines[at].stage = if status == "200" { Stage::Talking } else { Stage::Over };
        self.finally(at, &invite, status, &body, now);
    }

    pub(crate) fn cancel(&mut self, now: Moment) {
        let Some(at) = self.line(Stage::Calling) else { return };
        let invite = self.lines[at].invite.clone().expect("an INVITE");
        if std::mem::replace(&mut self.lines[at].gives_up, true) {
            return;
        }
        let text = Self::of_invite("CANCEL", &invite, invite.header("to"));
        self.pending.insert((branch(&invite), "CANCEL".to_owned()), Repeated::new(&text, now));
        self.out.push_back(text);
    }

    pub(crate) fn bye(&mut self, now: Moment) {
        let Some(at) = self.line(Stage::Talking) else { return };
        self.lines[at].stage = Stage::Over;
        self.request(at, "BYE", "", "", now);
    }

    pub(crate) fn hold(&mut self, now: Moment) {
        let Some(at) = self.line(Stage::Talking).filter(|_| !self.is_offering()) else { return };
        let line = &mut self.lines[at];
        line.holds = !line.holds;
        let way = if line.holds { "sendonly" } else { "sendrecv" };
        let sdp = self.sdp(way);
        self.request(at, "INVITE", &sdp, "", now);
    }

    pub(crate) fn refer(&mut self, to: &str, now: Moment) {
        let Some(at) = self.line(Stage::Talking) else { return };
        self.request(at, "REFER", "", &format!("Refer-To: <sip:{to}@{DOMAIN}>\r\n"), now);
    }

    /// Transfers one of two calls to the other one.
    pub(crate) fn refer_attended(&mut self, now: Moment) {
        let talking: Vec<usize> = (0..self.lines.len()).filter(|at| self.lines[*at].stage == Stage::Talking).collect();
        let [.., one, other] = talking[..] else { return };
        let Line { call_id, local, remote, .. } = &self.lines[other];
        let tag = |text: &str| text.split(";tag=").nth(1).unwrap().to_owned();
        let replaces = format!("{call_id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}", tag(remote), tag(local));
        let more = format!("Refer-To: <sip:100@{DOMAIN}?Replaces={replaces}>\r\n");
        self.request(one, "REFER", "", &more, now);
    }

    fn is_offering(&self) -> bool {
        self.pending.keys().any(|(_, method)| method == "INVITE")
    }

    fn reply(&mut self, to: &Got, status: &str, body: &str) -> String {
        let at = self.lines.iter().position(|line| line.call_id == to.header("call-id"));
        let tagged = match (to.tag("to"), at) {
            (None, Some(at)) => self.lines[at].local.clone(),
            _ => to.header("to").to_owned(),
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: {}\r\nFrom: {}\r\nTo: {tagged}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {}\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            to.header("via"),
            to.header("from"),
            to.header("call-id"),
            to.header("cseq"),
            self.phone.contact,
            body.len()
        );
        self.replies.insert((branch(to), to.method.clone()), text.clone());
        self.out.push_back(text.clone());
        text
    }

    /// A final answer to an INVITE, until it is acknowledged.
    fn finally(&mut self, at: usize, invite: &Got, status: &str, body: &str, now: Moment) {
        let text = self.reply(invite, status, body);
        self.lines[at].answer = Some((number(invite), Repeated::new(&text, now)));
    }

    /// A message came.
    fn receive(&mut self, got: &Got, now: Moment) {
        if got.what.parse::<u16>().is_ok() {
            return self.answered(got, now);
        }
        let key = (branch(got), got.method.clone());
        if let Some(reply) = self.replies.get(&key) {
            return self.out.push_back(reply.clone());
        }
        let at = self.lines.iter().position(|line| line.call_id == got.header("call-id"));
        match (&*got.what, at) {
            ("ACK", Some(at)) => {
                if self.lines[at].answer.as_ref().is_some_and(|(cseq, _)| *cseq == number(got)) {
                    self.lines[at].answer = None;
                }
            }
            ("ACK", None) => {}
            ("INVITE", None) if got.tag("to").is_none() => {
                self.said += 1;
                self.lines.push(Line {
                    stage: Stage::Ringing,
                    call_id: got.header("call-id").to_owned(),
                    local: format!("{};tag=r{}", got.header("to"), self.said),
                    remote: got.header("from").to_owned(),
                    target: inner(got.header("contact")),
                    cseq: 0,
                    invite: Some(got.clone()),
                    answer: None,
                    ack: None,
                    holds: false,
                    gives_up: false,
                });
                self.reply(got, "180", "");
                if self.is_eager {
                    self.answer("200", now);
                }
            }
            ("INVITE", Some(at)) if self.lines[at].stage == Stage::Talking => {
                if self.is_offering() {
                    return self.finally(at, got, "491", "", now);
                }
                let ways = [("a=sendonly", "recvonly"), ("a=recvonly", "sendonly"), ("a=inactive", "inactive")];
                let way = ways.iter().find(|(offered, _)| got.has_line(offered)).map_or("sendrecv", |(_, way)| way);
                let sdp = self.sdp(way);
                self.finally(at, got, "200", &sdp, now);
            }
            ("CANCEL", Some(at)) => {
                self.reply(got, "200", "");
                if self.lines[at].stage == Stage::Ringing {
                    self.lines[at].stage = Stage::Over;
                    let invite = self.lines[at].invite.clone().expect("an INVITE");
                    self.finally(at, &invite, "487", "", now);
                }
            }
            ("BYE", Some(at)) => {
                self.lines[at].stage = Stage::Over;
                self.lines[at].answer = None;
                self.reply(got, "200", "");
            }
            ("INVITE" | "BYE" | "CANCEL", _) | (_, None) => drop(self.reply(got, "481", "")),
            _ => drop(self.reply(got, "200", "")),
        }
    }

    /// A response came.
    fn answered(&mut self, got: &Got, now: Moment) {
        let key = (branch(got), got.method.clone());
        let at = self.lines.iter().position(|line| line.call_id == got.header("call-id"));
        if got.what.starts_with('1') {
            if let Some(pending) = self.pending.get_mut(&key) {
                pending.is_heard = true;
            }
            return;
        }
        let is_new = self.pending.remove(&key).is_some();
        let Some(at) = at else { return };
        if got.method != "INVITE" {
            if is_new && got.what == "407" && got.method != "CANCEL" {
                self.phone.take_challenge(&Answer::read(got.text().as_bytes()));
                let method = got.method.clone();
                self.request(at, &method, "", "", now);
            }
            return;
        }
        self.finals.entry(key.0.clone()).or_default().insert(got.what.clone());
        if got.what.starts_with('2') {
            return self.succeeded(at, got, is_new, now);
        }
        if !is_new {
            if let Some(ack) = self.acks.get(&key.0) {
                self.out.push_back(ack.clone());
            }
            return;
        }
        let invite = self.lines[at].invite.clone().expect("an INVITE");
        let ack = Self::of_invite("ACK", &invite, got.header("to"));
        self.acks.insert(key.0, ack.clone());
        self.out.push_back(ack);
        match (&*got.what, self.lines[at].stage) {
            ("407", stage) => {
                self.phone.take_challenge(&Answer::read(got.text().as_bytes()));
                let sdp = self.sdp("sendrecv");
                if stage == Stage::Calling && self.lines[at].gives_up {
                    self.lines[at].stage = Stage::Over;
                } else {
                    self.request(at, "INVITE", &sdp, "", now);
                }
            }
            (_, Stage::Calling) => self.lines[at].stage = Stage::Over,
            _ => {}
        }
    }

    fn succeeded(&mut self, at: usize, got: &Got, is_new: bool, now: Moment) {
        let line = &mut self.lines[at];
        if !is_new {
            if let Some((_, ack)) = line.ack.as_ref().filter(|(cseq, _)| *cseq == number(got)) {
                self.out.push_back(ack.clone());
            }
            return;
        }
        line.remote = got.header("to").to_owned();
        line.target = inner(got.header("contact"));
        self.said += 1;
        let remote = self.phone.flow.remote;
        let ack = format!(
            "ACK {} SIP/2.0\r\nVia: SIP/2.0/UDP {remote};rport;branch=z9hG4bKa{}x{}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
            line.target,
            self.phone.number,
            self.said,
            line.local,
            line.remote,
            line.call_id,
            number(got)
        );
        line.ack = Some((number(got), ack.clone()));
        self.out.push_back(ack);
        if line.stage == Stage::Calling {
            line.stage = Stage::Talking;
            if line.gives_up {
                self.bye(now);
            }
        }
    }

    /// Time has passed: what was not heard is said again.
    fn tick(&mut self, now: Moment) {
        let answers = self.lines.iter_mut().filter_map(|line| line.answer.as_mut().map(|(_, repeated)| repeated));
        for repeated in answers.chain(self.pending.values_mut()).filter(|one| !one.is_heard && now >= one.next) {
            repeated.interval = (repeated.interval * 2).min(T2);
            repeated.next = now + repeated.interval;
            self.out.push_back(repeated.text.clone());
        }
        let over = |line: &mut Line| {
            if line.answer.as_ref().is_some_and(|(_, repeated)| now >= repeated.until) {
                line.answer = None;
                line.stage = Stage::Over;
            }
        };
        self.lines.iter_mut().for_each(over);
        let lost: Vec<(String, String)> = self
            .pending
            .iter()
            .filter(|(_, one)| now >= one.until && !one.is_heard)
            .map(|(key, _)| key.clone())
            .collect();
        for key in lost {
            if key.1 == "INVITE" {
                self.forgotten.insert(key.0.clone());
            }
            if let Some(at) =
                self.lines.iter().position(|line| line.invite.as_ref().is_some_and(|one| branch(one) == key.0))
                && self.lines[at].stage == Stage::Calling
            {
                self.lines[at].stage = Stage::Over;
            }
            self.pending.remove(&key);
        }
    }
}

/// The appliance and its robots.
pub(crate) struct Floor {
    pub(crate) scene: Scene,
    pub(crate) robots: Vec<Robot>,
    /// Messages for which this says no are lost on their way, in either direction.
    pub(crate) delivers: Box<dyn FnMut() -> bool>,
}

impl Floor {
    /// Phones 100, 101 and so on, which have registered.
    pub(crate) fn new(count: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let numbers: Vec<String> = (0..count).map(|at| (100 + at).to_string()).collect();
        Self::with(&numbers.iter().map(String::as_str).collect::<Vec<_>>(), change)
    }

    /// Phones of these extensions, which have registered.
    pub(crate) fn with(numbers: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let mut floor = Self { scene: Scene::with(change), robots: Vec::new(), delivers: Box::new(|| true) };
        for (at, number) in numbers.iter().enumerate() {
            let flow = udp(&format!("203.0.113.{}:5060", at + 1));
            let mut robot = Robot::new(number, flow);
            assert_eq!(robot.phone.register(&mut floor.scene).status, 200);
            robot.phone.challenge = None;
            floor.robots.push(robot);
        }
        floor
    }

    /// A phone does something, and what follows at once follows.
    pub(crate) fn act(&mut self, at: usize, what: impl FnOnce(&mut Robot, Moment)) {
        what(&mut self.robots[at], self.scene.now);
        self.exchange(Vec::new());
    }

    /// Messages go to and fro until nobody has anything to say.
    fn exchange(&mut self, mut sent: Vec<crate::scene::Sent>) {
        loop {
            for message in sent {
                let to = self.robots.iter().position(|one| one.phone.flow.remote == message.flow.remote);
                let Some(to) = to.filter(|_| message.bytes.len() > 4 && (self.delivers)()) else { continue };
                let now = self.scene.now;
                self.robots[to].receive(&Got::read(&message.bytes), now);
            }
            let Some(at) = self.robots.iter().position(|one| !one.out.is_empty()) else { return };
            let text = self.robots[at].out.pop_front().expect("a message");
            let flow = self.robots[at].phone.flow;
            sent = if (self.delivers)() { self.scene.receive(flow, text) } else { Vec::new() };
        }
    }

    /// An administrator ends the oldest call.
    pub(crate) fn hang_up_one(&mut self) {
        let Some(id) = self.scene.pbx.calls().map(|call| call.id).next() else { return };
        let sent = self.scene.hang_up(id).expect("a call");
        self.exchange(sent);
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        let end = self.scene.now + span;
        while self.scene.now < end {
            let sent = self.scene.advance(Duration::from_millis(100));
            let now = self.scene.now;
            self.robots.iter_mut().for_each(|one| one.tick(now));
            self.exchange(sent);
        }
    }

    /// A phone is somewhere else now, and registers from there.
    pub(crate) fn move_to(&mut self, at: usize, port: u16) {
        let robot = &mut self.robots[at];
        // Answers go where their requests came from.
        let waits = robot.finals.iter().filter(|(_, statuses)| statuses.is_empty()).map(|(branch, _)| branch.clone());
        robot.forgotten.extend(waits);
        let remote = format!("{}:{port}", robot.phone.flow.remote.ip());
        robot.phone.flow = udp(&remote);
        robot.phone.challenge = None;
        robot.phone.register(&mut self.scene);
        self.robots[at].phone.challenge = None;
    }

    /// All hang up or are gone; nothing is left.
    pub(crate) fn check_end(&mut self) {
        // Nothing rings any more then.
        self.wait(Duration::from_secs(120));
        for at in 0..self.robots.len() {
            while self.robots[at].line(Stage::Talking).is_some() {
                self.act(at, Robot::bye);
            }
        }
        self.wait(Duration::from_secs(600));
        let pbx = &self.scene.pbx;
        assert_eq!((pbx.call_counts().0, pbx.call_usage()), (0, [0; 7]));
        assert!(self.scene.media.legs.is_empty(), "{:?}", self.scene.media.legs);
        for record in self.scene.store.calls.values() {
            assert!(record.ended.is_some() && record.disposition != Disposition::Open, "{record:?}");
            assert!(record.legs.iter().all(|leg| leg.ended.is_some()), "{record:?}");
        }
        for robot in &self.robots {
            for (branch, statuses) in &robot.finals {
                assert!(statuses.len() < 2, "{branch}: {statuses:?}");
                assert!(statuses.len() == 1 || robot.forgotten.contains(branch), "{branch} has no final answer");
            }
        }
    }
}
