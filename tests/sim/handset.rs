//! Phones that call: a world of them around the appliance, each with a letter box, and the dialogs that they keep by
//! themselves. They write their messages as text and read what comes line by line.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use pbx_core::{
    call::{Disposition, Record},
    settings::Settings,
    transport::Flow,
};

use crate::{
    phone::{Answer, Phone},
    scene::{APPLIANCE, DOMAIN, Scene, Sent, udp},
};

/// A message as a phone reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    /// `INVITE`, or `200`.
    pub(crate) what: String,
    /// The method of a request, or of the request that is answered.
    pub(crate) method: String,
    pub(crate) first: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Got {
    /// A message as text.
    pub(crate) fn of(text: &str) -> Self {
        Self::read(text.as_bytes())
    }

    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an end");
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header line: {line}"));
                (name.to_lowercase(), value.to_owned())
            })
            .collect();
        let mut words = first.split(' ');
        let (one, two) = (words.next().unwrap(), words.next().unwrap());
        let what = if one == "SIP/2.0" { two } else { one }.to_owned();
        let got = Self { what, method: String::new(), first: first.clone(), headers, body: body.to_owned() };
        let method = got.header("cseq").split(' ').nth(1).unwrap().to_owned();
        assert_eq!(got.header("content-length"), body.len().to_string(), "{text}");
        Self { method, ..got }
    }

    /// The value of a header that must be there, once.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(known, _)| known == name);
        let value = all.next().map(|(_, value)| value.as_str());
        // Hops alone may be many.
        assert!(all.next().is_none() || name == "via", "{name} twice in {self:?}");
        value
    }

    /// The URI of a request.
    pub(crate) fn uri(&self) -> &str {
        self.first.split(' ').nth(1).unwrap()
    }

    pub(crate) fn tag(&self, name: &str) -> Option<&str> {
        self.header(name).split(";tag=").nth(1)
    }

    /// A challenge as [`Answer`] reads it.
    pub(crate) fn text(&self) -> String {
        format!("{}\r\n{}\r\n\r\n", self.first, lines(self))
    }

    /// The port in its description.
    pub(crate) fn port(&self) -> u16 {
        let line = self.body.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("a media line");
        line.split(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn has_line(&self, line: &str) -> bool {
        self.body.lines().any(|one| one == line)
    }
}

/// The appliance and everybody's letter box.
pub(crate) struct World {
    pub(crate) scene: Scene,
    boxes: BTreeMap<SocketAddr, VecDeque<Got>>,
    /// Messages for which this says no are lost on their way, in either direction.
    pub(crate) delivers: Box<dyn FnMut() -> bool>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self { scene: Scene::with(change), boxes: BTreeMap::new(), delivers: Box::new(|| true) }
    }

    /// A phone of the default tenant that has registered.
    pub(crate) fn phone(&mut self, number: &str, remote: &str) -> Handset {
        self.phone_over(number, udp(remote))
    }

    pub(crate) fn phone_over(&mut self, number: &str, flow: Flow) -> Handset {
        let mut phone = Phone::new(number, flow);
        assert_eq!(phone.register(&mut self.scene).status, 200);
        Handset { flow, phone, media: 4000, dialog: None, max_forwards: 70, body_type: "application/sdp", said: 0 }
    }

    /// A phone says something.
    pub(crate) fn say(&mut self, flow: Flow, text: &str) {
        if (self.delivers)() {
            let sent = self.scene.receive(flow, text);
            self.post(sent);
        }
    }

    /// Time goes on.
    pub(crate) fn wait(&mut self, span: Duration) {
        let sent = self.scene.advance(span);
        self.post(sent);
    }

    /// A call between two phones of the default tenant that talk: 100 called 101.
    pub(crate) fn talking() -> (Self, Handset, Handset) {
        let (mut world, mut alice, mut bob) = Self::two();
        let sdp = alice.sdp(USUAL, "sendrecv");
        alice.call(&mut world, "101", &sdp);
        bob.take(&mut world);
        alice.answered(&mut world, "200");
        (world, alice, bob)
    }

    /// A world with 100 and 101 registered.
    pub(crate) fn two() -> (Self, Handset, Handset) {
        let mut world = Self::new();
        let alice = world.phone("100", "198.51.100.1:5060");
        let bob = world.phone("101", "203.0.113.2:5062");
        (world, alice, bob)
    }

    /// Nobody hears anything more, and nothing is left of any call.
    pub(crate) fn check_nothing_left(&mut self) {
        for _ in 0..600 {
            self.wait(Duration::from_secs(1));
        }
        assert_eq!(self.scene.pbx.call_counts().0, 0);
        assert_eq!(self.scene.pbx.call_usage(), [0; 7]);
        assert!(self.scene.media.legs.is_empty(), "{:?}", self.scene.media.legs);
        for record in self.scene.store.calls.values() {
            assert!(record.ended.is_some() && record.disposition != Disposition::Open, "{record:?}");
            assert!(record.legs.iter().all(|leg| leg.ended.is_some()), "{record:?}");
        }
    }

    /// What was sent by other ways goes into the letter boxes.
    pub(crate) fn post(&mut self, sent: Vec<Sent>) {
        for Sent { flow, bytes, .. } in sent {
            // Keep-alives are no messages.
            if bytes.len() > 4 && (self.delivers)() {
                self.boxes.entry(flow.remote).or_default().push_back(Got::read(&bytes));
            }
        }
    }

    /// The next message for a phone, if there is one.
    pub(crate) fn read(&mut self, to: &Handset) -> Option<Got> {
        self.boxes.get_mut(&to.flow.remote)?.pop_front()
    }

    /// Whether there is one.
    pub(crate) fn has_mail(&self, to: &Handset) -> bool {
        self.boxes.get(&to.flow.remote).is_some_and(|mail| !mail.is_empty())
    }

    /// The next message for a phone, which must be this one.
    pub(crate) fn expect(&mut self, to: &Handset, what: &str) -> Got {
        let got = self.read(to).unwrap_or_else(|| panic!("{} got no {what}", to.phone.number));
        assert_eq!(got.what, what, "{} got {got:?}", to.phone.number);
        got
    }

    /// A phone's letter box is empty.
    pub(crate) fn expect_nothing(&mut self, to: &Handset) {
        assert_eq!(self.read(to), None, "for {}", to.phone.number);
    }

    /// The only record, or the one that began last.
    pub(crate) fn record(&self) -> &Record {
        self.scene.store.calls.values().next_back().expect("a record")
    }

    /// The two addresses that hear each other by way of a phone's leg: its own, and its peer's.
    pub(crate) fn hears(&self, port: u16) -> Option<(SocketAddr, SocketAddr)> {
        let leg = self.scene.media.at(port)?;
        let peer = self.scene.media.legs.get(&leg.peer?)?;
        Some((leg.remote.as_ref()?.rtp, peer.remote.as_ref()?.rtp))
    }
}

/// What a phone knows of its call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialog {
    pub(crate) call_id: String,
    /// From of its requests.
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) target: String,
    pub(crate) cseq: u32,
    /// The INVITE that it answers, or that it sent.
    pub(crate) invite: Option<Got>,
}

/// A phone that calls and is called.
#[derive(Clone)]
pub(crate) struct Handset {
    pub(crate) phone: Phone,
    pub(crate) flow: Flow,
    /// Its RTP port.
    pub(crate) media: u16,
    pub(crate) dialog: Option<Dialog>,
    pub(crate) max_forwards: u8,
    /// Content-Type of its bodies.
    pub(crate) body_type: &'static str,
    said: u32,
}

/// PCMU, PCMA and events.
pub(crate) const USUAL: &str = "0 8 101";

impl Handset {
    /// Its description: where, formats such as `0 8 101`, and a direction.
    pub(crate) fn sdp(&self, formats: &str, way: &str) -> String {
        let ip = self.flow.remote.ip();
        let mut text = format!(
            "v=0\r\no=phone 1 {} IN IP4 {ip}\r\ns=secret words\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} RTP/AVP {formats}\r\n",
            self.said, self.media
        );
        for format in formats.split(' ') {
            text += match format {
                "0" => "a=rtpmap:0 PCMU/8000\r\n",
                "8" => "a=rtpmap:8 PCMA/8000\r\n",
                "9" => "a=rtpmap:9 G722/8000\r\n",
                "96" => "a=rtpmap:96 opus/48000/2\r\n",
                "97" => "a=rtpmap:97 iLBC/8000\r\n",
                "101" => "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n",
                "110" => "a=rtpmap:110 telephone-event/8000\r\na=fmtp:110 0-16\r\n",
                other => panic!("{other}"),
            };
        }
        text + &format!("a={way}\r\n")
    }

    fn body(&self, body: &str) -> String {
        match body {
            "" => "Content-Length: 0\r\n\r\n".to_owned(),
            body => format!("Content-Type: {}\r\nContent-Length: {}\r\n\r\n{body}", self.body_type, body.len()),
        }
    }

    fn via(&mut self) -> String {
        self.said += 1;
        let (phone, said) = (&self.phone, self.said);
        let port = self.flow.remote.port();
        format!(
            "SIP/2.0/{} {};rport;branch=z9hG4bKh{}p{port}x{said}",
            self.flow.protocol, self.flow.remote, phone.number
        )
    }

    /// The same phone, for a call beside the one that it is in.
    pub(crate) fn second_line(&self) -> Self {
        Self { dialog: None, said: self.said + 1000, media: self.media + 100, ..self.clone() }
    }

    /// Calls a number; the challenge is answered. What comes then is in its letter box.
    pub(crate) fn call(&mut self, world: &mut World, number: &str, body: &str) {
        self.call_with(world, number, body, "");
    }

    /// The same with more header lines.
    pub(crate) fn call_with(&mut self, world: &mut World, number: &str, body: &str, more: &str) {
        self.said += 1;
        let call_id = format!("c{}-{}", self.said, self.phone.number);
        let local = format!("\"Not {}\" <sip:{}@{DOMAIN}>;tag=t{}", self.phone.number, self.phone.number, self.said);
        self.dialog = Some(Dialog {
            call_id,
            local,
            remote: format!("<sip:{number}@{DOMAIN}>"),
            target: format!("sip:{number}@{DOMAIN}"),
            cseq: 0,
            invite: None,
        });
        self.phone.challenge = None;
        self.send_invite(world, body, more);
        let Some(challenge) = world.read(self) else { return };
        assert_eq!(challenge.what, "407", "{challenge:?}");
        let ack = self.ack_of(&challenge);
        world.say(self.flow, &ack);
        self.phone.take_challenge(&Answer::read(challenge.text().as_bytes()));
        self.send_invite(world, body, more);
    }

    fn send_invite(&mut self, world: &mut World, body: &str, more: &str) {
        let text = self.request_with("INVITE", body, more);
        self.dialog.as_mut().unwrap().invite = Some(Got::read(text.as_bytes()));
        world.say(self.flow, &text);
    }

    /// A request of its dialog, with credentials if it was ever challenged.
    pub(crate) fn request_with(&mut self, method: &str, body: &str, more: &str) -> String {
        let via = self.via();
        let (contact, max_forwards) = (self.phone.contact.clone(), self.max_forwards);
        let Dialog { call_id, local, remote, target, cseq, .. } = self.dialog.as_mut().expect("a dialog");
        if method != "ACK" {
            *cseq += 1;
        }
        let head = format!(
            "{method} {target} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: {max_forwards}\r\nFrom: {local}\r\nTo: {remote}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: {contact}\r\n{more}"
        );
        let target = target.clone();
        let credentials = match method {
            "INVITE" => self.phone.credentials(method, &target).unwrap_or_default(),
            _ => String::new(),
        };
        head + &credentials + &self.body(body)
    }

    /// Sends one.
    pub(crate) fn request(&mut self, world: &mut World, method: &str, body: &str, more: &str) {
        let text = self.request_with(method, body, more);
        if method == "INVITE" {
            self.dialog.as_mut().unwrap().invite = Some(Got::read(text.as_bytes()));
        }
        world.say(self.flow, &text);
    }

    /// The ACK of a failure, in the INVITE's transaction.
    fn ack_of(&self, answer: &Got) -> String {
        let dialog = self.dialog.as_ref().unwrap();
        let invite = dialog.invite.as_ref().unwrap();
        let number = invite.header("cseq").split(' ').next().unwrap();
        format!(
            "ACK {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} ACK\r\n\
             Content-Length: 0\r\n\r\n",
            invite.uri(),
            invite.header("via"),
            dialog.local,
            answer.header("to"),
            dialog.call_id,
        )
    }

    /// Gives up a call that nobody answered.
    pub(crate) fn cancel(&mut self, world: &mut World) {
        let dialog = self.dialog.as_ref().unwrap();
        let invite = dialog.invite.as_ref().unwrap();
        let number = invite.header("cseq").split(' ').next().unwrap();
        let text = format!(
            "CANCEL {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} CANCEL\r\n\
             Content-Length: 0\r\n\r\n",
            invite.uri(),
            invite.header("via"),
            dialog.local,
            invite.header("to"),
            dialog.call_id,
        );
        world.say(self.flow, &text);
    }

    /// Waits for the final answer to its INVITE, and acknowledges it; provisional ones are passed over.
    pub(crate) fn answered(&mut self, world: &mut World, status: &str) -> Got {
        self.answered_with(world, status, "")
    }

    /// The same with a body in the ACK.
    pub(crate) fn answered_with(&mut self, world: &mut World, status: &str, body: &str) -> Got {
        loop {
            let got = world.read(self).unwrap_or_else(|| panic!("{} got no {status}", self.phone.number));
            if got.method == "INVITE" && got.what.starts_with('1') {
                continue;
            }
            assert_eq!((&*got.what, &*got.method), (status, "INVITE"), "{got:?}");
            self.acknowledge(world, &got, body);
            return got;
        }
    }

    pub(crate) fn acknowledge(&mut self, world: &mut World, got: &Got, body: &str) {
        if !got.what.starts_with('2') {
            let ack = self.ack_of(got);
            return world.say(self.flow, &ack);
        }
        let dialog = self.dialog.as_mut().unwrap();
        dialog.remote = got.header("to").to_owned();
        dialog.target = inner(got.header("contact"));
        let ack = self.request_with("ACK", body, "");
        world.say(self.flow, &ack);
    }

    /// The same for an INVITE that is not its last request.
    pub(crate) fn answered_numbered(&mut self, world: &mut World, status: &str) -> Got {
        let dialog = self.dialog.as_mut().unwrap();
        let number = dialog.invite.as_ref().unwrap().header("cseq").split(' ').next().unwrap().parse().unwrap();
        let last = std::mem::replace(&mut dialog.cseq, number);
        let got = self.answered(world, status);
        self.dialog.as_mut().unwrap().cseq = last;
        got
    }

    /// Is called: takes the INVITE out of its letter box.
    pub(crate) fn rung(&mut self, world: &mut World) -> Got {
        let invite = world.expect(self, "INVITE");
        self.said += 1;
        let local = format!("{};tag=r{}{}", invite.header("to"), self.phone.number, self.said);
        self.dialog = Some(Dialog {
            call_id: invite.header("call-id").to_owned(),
            local,
            remote: invite.header("from").to_owned(),
            target: inner(invite.header("contact")),
            cseq: 0,
            invite: Some(invite.clone()),
        });
        invite
    }

    /// Answers a request.
    pub(crate) fn reply(&mut self, world: &mut World, to: &Got, status: &str, body: &str, more: &str) {
        let tagged = match (to.tag("to"), &self.dialog) {
            (None, Some(dialog)) if status != "100" => dialog.local.clone(),
            _ => to.header("to").to_owned(),
        };
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: {}\r\nFrom: {}\r\nTo: {tagged}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {}\r\n{more}{}",
            to.header("via"),
            to.header("from"),
            to.header("call-id"),
            to.header("cseq"),
            self.phone.contact,
            self.body(body),
        );
        world.say(self.flow, &text);
    }

    /// Rings and takes the call; the ACK is taken out of its letter box.
    pub(crate) fn take(&mut self, world: &mut World) -> Got {
        let invite = self.rung(world);
        self.reply(world, &invite, "180", "", "");
        let sdp = self.sdp(USUAL, "sendrecv");
        self.reply(world, &invite, "200", &sdp, "");
        world.expect(self, "ACK");
        invite
    }

    /// Hears nothing but that it rings, and takes nothing out of its letter box then.
    pub(crate) fn rings(&mut self, world: &mut World) -> Got {
        let invite = self.rung(world);
        self.reply(world, &invite, "180", "", "");
        invite
    }

    /// Stops ringing: the CANCEL, and 487 for the INVITE.
    pub(crate) fn stops(&mut self, world: &mut World, invite: &Got) -> Got {
        let cancel = world.expect(self, "CANCEL");
        self.reply(world, &cancel, "200", "", "");
        self.reply(world, invite, "487", "", "");
        world.expect(self, "ACK");
        cancel
    }

    /// Is hung up on.
    pub(crate) fn released(&mut self, world: &mut World) -> Got {
        let bye = world.expect(self, "BYE");
        self.reply(world, &bye, "200", "", "");
        bye
    }

    /// Hangs up while its INVITE within the call is not answered.
    pub(crate) fn hang_up_in_an_offer(&mut self, world: &mut World) {
        self.request(world, "BYE", "", "");
        let mut got = [world.read(self).unwrap(), world.read(self).unwrap()];
        got.sort_by(|one, other| one.what.cmp(&other.what));
        let [ok, refused] = got;
        assert_eq!((&*ok.what, &*ok.method, &*refused.what), ("200", "BYE", "487"));
        self.acknowledge(world, &refused, "");
    }

    /// Hangs up.
    pub(crate) fn hang_up(&mut self, world: &mut World) {
        self.request(world, "BYE", "", "");
        assert_eq!(world.expect(self, "200").method, "BYE");
    }
}

/// The headers as lines.
fn lines(got: &Got) -> String {
    let lines: Vec<String> = got.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    lines.join("\r\n")
}

/// The URI between brackets.
pub(crate) fn inner(address: &str) -> String {
    address.split(['<', '>']).nth(1).expect("brackets").to_owned()
}

/// Who is at the other end says nothing that the appliance must keep to itself.
pub(crate) fn hides(got: &Got, other: &Handset) {
    let text = format!("{}\r\n{}\r\n\r\n{}", got.first, lines(got), got.body);
    for secret in [other.flow.remote.to_string(), other.flow.remote.ip().to_string(), "secret words".to_owned()] {
        assert!(!text.contains(&secret), "{secret} in {text}");
    }
    if let Some(dialog) = &other.dialog {
        assert!(!text.contains(&dialog.call_id), "{text}");
    }
    assert!(text.contains(&APPLIANCE.split(':').next().unwrap().to_owned()), "{text}");
}
