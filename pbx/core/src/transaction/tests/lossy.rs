//! Two layers and a link between them that loses, repeats and reorders: whatever it does, every transaction ends, its
//! user sees one outcome, no request reaches the other user twice, and nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Below T1 less what a first message may be faster than the last: then timers L and J are long enough for all copies.
const LONGEST_DELAY: u64 = 450;
/// A caller waits so long for somebody to answer.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
struct Link {
    seed: u64,
    lost_percent: u64,
    repeated_percent: u64,
    delay: u64,
}

fn link() -> impl Strategy<Value = Link> {
    (any::<u64>(), 0..=100u64, 0..=40u64, 0..=LONGEST_DELAY)
        .prop_map(|(seed, lost_percent, repeated_percent, delay)| Link { seed, lost_percent, repeated_percent, delay })
}

/// What the link delivers and the users do, at its time.
#[derive(Clone, Debug)]
enum Happening {
    ToServer(Bytes),
    ToClient(Bytes),
    Call { method: &'static str, number: u64 },
    Answer { id: ServerId, code: u16, of: String },
    GiveUp(ClientId, u64),
}

struct World {
    link: Link,
    now: Moment,
    order: u64,
    ahead: BTreeMap<(Moment, u64), Happening>,
    client: Layer,
    server: Layer,
    methods: BTreeMap<ClientId, &'static str>,
    outcomes: BTreeMap<ClientId, Vec<String>>,
    requested: BTreeMap<ServerId, String>,
    seen: BTreeSet<String>,
    answered: BTreeMap<ServerId, u32>,
}

impl World {
    fn new(link: Link) -> Self {
        Self {
            link,
            now: Moment::ZERO,
            order: 0,
            ahead: BTreeMap::new(),
            client: Layer::new(LIMITS),
            server: Layer::new(LIMITS),
            methods: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            requested: BTreeMap::new(),
            seen: BTreeSet::new(),
            answered: BTreeMap::new(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.link.seed = self.link.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.link.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn after(&mut self, millis: u64, happening: Happening) {
        self.order += 1;
        self.ahead.insert((self.now + Duration::from_millis(millis), self.order), happening);
    }

    fn transmit(&mut self, happening: &Happening) {
        let copies = 1 + u64::from(self.random(100) < self.link.repeated_percent);
        for _ in 0..copies {
            if self.random(100) >= self.link.lost_percent {
                let delay = self.random(self.link.delay + 1);
                self.after(delay, happening.clone());
            }
        }
    }

    fn run(&mut self) {
        loop {
            self.drain();
            let timers = [self.client.next_timeout(), self.server.next_timeout()].into_iter().flatten().min();
            let happening = self.ahead.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timers.into_iter().chain(happening).min() else { break };
            self.now = self.now.max(next);
            if happening == Some(next) {
                let (_, happening) = self.ahead.pop_first().expect("there is one");
                self.happen(happening);
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send { bytes, .. } => self.transmit(&Happening::ToServer(bytes)),
                Output::Event(Event::TimedOut(id)) => self.outcomes.entry(id).or_default().push("timed out".into()),
                Output::Event(other) => panic!("{other:?}"),
            }
        }
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send { bytes, .. } => self.transmit(&Happening::ToClient(bytes)),
                Output::Event(Event::NotAnswered(id)) => *self.answered.entry(id).or_default() += 1,
                Output::Event(Event::NotAcknowledged(id)) => assert!(self.requested[&id].starts_with("INVITE")),
                Output::Event(other) => panic!("{other:?}"),
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Call { method, number } => self.call(method, number),
            Happening::ToServer(bytes) => self.request(&text(&bytes)),
            Happening::Answer { id, code, of } => self.answer(id, code, &of),
            Happening::ToClient(bytes) => self.response(&text(&bytes)),
            Happening::GiveUp(id, number) => {
                let _ = self.client.cancel(id, bytes(&format!("CANCEL {number}")), self.now);
            }
        }
    }

    fn call(&mut self, method: &'static str, number: u64) {
        let (key, request) = (client_key(method, &number.to_string()), bytes(&format!("{method} {number}")));
        let id = self.client.send_request(key, flow(Protocol::Udp), request, self.now).unwrap();
        self.methods.insert(id, method);
        self.outcomes.insert(id, Vec::new());
        if method == "INVITE" {
            if self.random(3) == 0 {
                let early = self.random(5000);
                self.after(early, Happening::GiveUp(id, number));
            }
            self.after(u64::try_from(PATIENCE.as_millis()).unwrap(), Happening::GiveUp(id, number));
        }
    }

    fn request(&mut self, request: &str) {
        let (method, number) = request.split_once(' ').expect("method and number");
        let trying = || bytes(&format!("100 {request}"));
        let received = self.server.receive_request(server_key(method, number), flow(Protocol::Udp), self.now, trying);
        match received {
            Request::New(id) => {
                assert!(self.seen.insert(request.to_owned()), "{request} reached the user twice");
                self.requested.insert(id, request.to_owned());
                if self.random(2) == 0 {
                    let soon = self.random(3000);
                    self.after(soon, Happening::Answer { id, code: 180, of: request.to_owned() });
                }
                let code = [200, 302, 404, 486, 503, 603][usize::try_from(self.random(6)).unwrap()];
                let longest = [1, 500, 5000, 40_000][usize::try_from(self.random(4)).unwrap()];
                let later = self.random(longest);
                self.after(later, Happening::Answer { id, code, of: request.to_owned() });
            }
            Request::Cancel { id, invite } => {
                assert!(self.seen.insert(request.to_owned()), "{request} reached the user twice");
                self.requested.insert(id, request.to_owned());
                self.answer(id, if invite.is_some() { 200 } else { 481 }, request);
                if let Some(invite) = invite {
                    let of = self.requested[&invite].clone();
                    self.answer(invite, 487, &of);
                }
            }
            Request::Acknowledged(id) => assert!(self.requested[&id].starts_with("INVITE")),
            Request::Ack(_) | Request::Absorbed => {}
            Request::Full => panic!("there is room"),
        }
    }

    fn answer(&mut self, id: ServerId, code: u16, of: &str) {
        let answered = self.server.respond(id, code, bytes(&format!("{code} {of}")), self.now);
        if code >= 200 && answered.is_ok() {
            *self.answered.entry(id).or_default() += 1;
        }
    }

    fn response(&mut self, response: &str) {
        let mut words = response.split(' ');
        let mut word = || words.next().expect("code, method and number");
        let (code, method, number) = (word().parse().unwrap(), word(), word());
        let build_ack = |invite: &[u8]| bytes(&text(invite).replace("INVITE", "ACK"));
        let key = client_key(method, number);
        if let Response::New(id) = self.client.receive_response(key, code, self.now, build_ack)
            && code >= 200
        {
            self.outcomes.get_mut(&id).expect("a CANCEL is silent").push(code.to_string());
        }
    }
}

proptest! {
    #[test]
    fn every_transaction_ends_with_one_outcome_and_nothing_is_left(link in link()) {
        let mut world = World::new(link);
        for number in 0..12 {
            let method = ["INVITE", "REGISTER", "OPTIONS"][usize::try_from(world.random(3)).unwrap()];
            let start = world.random(2000);
            world.after(start, Happening::Call { method, number });
        }
        world.run();
        prop_assert_eq!(world.outcomes.len(), 12);
        for (id, outcomes) in &world.outcomes {
            let accepted_again = world.methods[id] == "INVITE" && outcomes.iter().all(|outcome| outcome == "200");
            prop_assert!(outcomes.len() == 1 || accepted_again && !outcomes.is_empty(), "{:?}", outcomes);
        }
        for (id, request) in &world.requested {
            prop_assert_eq!(world.answered.get(id), Some(&1), "{}", request);
        }
        for layer in [&world.client, &world.server] {
            prop_assert_eq!((layer.usage(), layer.counts()), (Usage::default(), [0; 4]));
        }
    }
}

#[test]
fn over_a_good_link_every_answer_arrives() {
    let mut world = World::new(Link { seed: 1, lost_percent: 0, repeated_percent: 0, delay: 20 });
    for number in 0..100 {
        world.after(number, Happening::Call { method: "REGISTER", number });
    }
    world.run();
    let late = world.outcomes.values().filter(|outcomes| **outcomes == ["timed out"]).count();
    assert!(late < 20, "only those whose user takes more than 32 s: {late}");
    assert_eq!(world.seen.len(), 100);
}

#[test]
fn over_a_link_that_loses_half_registrations_still_get_through() {
    let mut world = World::new(Link { seed: 2, lost_percent: 50, repeated_percent: 10, delay: 100 });
    for number in 0..200 {
        world.after(number, Happening::Call { method: "REGISTER", number });
    }
    world.run();
    let answered = world.outcomes.values().filter(|outcomes| **outcomes != ["timed out"]).count();
    assert!(answered > 170, "{answered} of 200");
}
