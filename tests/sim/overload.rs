//! More than can be done: what is turned away first, and how it is told.

use std::time::Duration;

use pbx_core::gate::Class;

use crate::{
    phone::{Answer, Phone, request},
    scene::{Scene, udp},
};

/// Phones with fresh challenges: overload begins when they are about to use them.
struct Crowd {
    scene: Scene,
    /// Is registered.
    desk: Phone,
    /// Never was.
    guest: Phone,
}

fn crowd() -> Crowd {
    let mut scene = Scene::new();
    let mut desk = Phone::new("100", udp("198.51.100.7:5060"));
    let mut guest = Phone::new("101", udp("198.51.100.8:5060"));
    desk.register(&mut scene);
    let answer = scene.ask(guest.flow, guest.registration("")).unwrap();
    guest.take_challenge(&answer);
    Crowd { scene, desk, guest }
}

impl Crowd {
    fn load(&mut self, delay: u64) -> u8 {
        self.scene.load(delay)
    }

    fn call(&mut self, target: &str) -> Answer {
        let mut request = self.desk.outside("INVITE", target);
        if !request.contains("Proxy-Authorization") {
            let answer = self.scene.ask(self.desk.flow, &request).unwrap();
            self.desk.take_challenge(&answer);
            request = self.desk.outside("INVITE", target);
        }
        self.scene.ask(self.desk.flow, request).unwrap()
    }

    fn refresh(&mut self) -> Answer {
        let request = self.desk.registration("");
        self.scene.ask(self.desk.flow, request).unwrap()
    }

    fn first(&mut self) -> Answer {
        let request = self.guest.registration("");
        self.scene.ask(self.guest.flow, request).unwrap()
    }

    fn bye(&mut self) -> Answer {
        let request = self.desk.request("BYE", "sip:192.0.2.1", "<sip:101@one.example>;tag=x", "");
        self.scene.ask(self.desk.flow, request).unwrap()
    }

    fn options(&mut self) -> Answer {
        let request = self.desk.request("OPTIONS", "sip:192.0.2.1", "<sip:192.0.2.1>", "");
        self.scene.ask(self.desk.flow, request).unwrap()
    }
}

fn later(answer: &Answer) -> u32 {
    assert_eq!(answer.status, 503);
    answer.header("retry-after").expect("a time to come again").parse().unwrap()
}

fn at_once(answer: &Answer) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, None));
}

#[test]
fn calls_are_turned_away_before_registrations_and_emergencies_last() {
    let mut crowd = crowd();
    // 200 ms: nothing that was proved is turned away.
    assert_eq!(crowd.load(250), 1);
    assert_eq!(crowd.call("555").status, 404);
    assert_eq!((crowd.refresh().status, crowd.bye().status), (200, 481));
    // 300 ms: calls.
    assert_eq!(crowd.load(350), 2);
    at_once(&crowd.call("555"));
    assert_eq!((crowd.call("112").status, crowd.refresh().status, crowd.bye().status), (480, 200, 481));
    // 400 ms: who was not there before.
    assert_eq!(crowd.load(450), 3);
    assert!((10..=60).contains(&later(&crowd.first())));
    assert_eq!(crowd.scene.bound("101"), 0);
    assert_eq!((crowd.call("112").status, crowd.refresh().status, crowd.bye().status), (480, 200, 481));
    // 600 ms: refreshes.
    assert_eq!(crowd.load(700), 4);
    let writes = crowd.scene.store.writes;
    assert!((10..=60).contains(&later(&crowd.refresh())));
    assert_eq!(crowd.scene.store.writes, writes);
    assert_eq!((crowd.call("112").status, crowd.bye().status), (480, 481));
    // 1 s: dialogs.
    assert_eq!(crowd.load(1200), 5);
    at_once(&crowd.bye());
    assert_eq!(crowd.call("112").status, 480);
    // 2 s: everything.
    assert_eq!(crowd.load(2500), 6);
    at_once(&crowd.call("112"));
    // The binding lives on all the while.
    assert_eq!(crowd.scene.reachable("100").len(), 1);
    assert_eq!(crowd.options().status, 200, "the gate answers this without the core");
}

#[test]
fn when_it_is_over_everything_is_served_again_step_by_step() {
    let mut crowd = crowd();
    crowd.load(700);
    at_once(&crowd.call("555"));
    let mut levels = vec![];
    for _ in 0..50 {
        crowd.scene.advance(Duration::from_millis(100));
        levels.push(crowd.load(0));
    }
    assert!(levels.is_sorted_by(|one, next| one >= next), "{levels:?}");
    assert_eq!((levels[8], levels[49]), (4, 0));
    assert_eq!(crowd.call("555").status, 404);
    assert_eq!((crowd.first().status, crowd.refresh().status), (200, 200));
}

#[test]
fn a_registration_that_was_turned_away_can_be_sent_again_with_the_same_challenge() {
    let mut crowd = crowd();
    crowd.load(450);
    later(&crowd.first());
    crowd.scene.advance(Duration::from_secs(1));
    for _ in 0..50 {
        crowd.scene.advance(Duration::from_millis(100));
        crowd.load(0);
    }
    assert_eq!(crowd.first().status, 200);
}

#[test]
fn times_to_come_again_are_spread() {
    let mut crowd = crowd();
    crowd.load(700);
    let times: std::collections::BTreeSet<u32> = (0..200).map(|_| later(&crowd.refresh())).collect();
    assert!(times.len() > 30, "{times:?}");
    assert!(times.iter().all(|time| (10..=60).contains(time)));
}

#[test]
fn a_phone_that_sends_again_hears_the_same_refusal() {
    let mut crowd = crowd();
    crowd.load(700);
    let request = crowd.desk.registration("");
    let first = crowd.scene.ask(crowd.desk.flow, &request).unwrap();
    assert_eq!(crowd.scene.ask(crowd.desk.flow, &request).unwrap(), first);
}

#[test]
fn what_a_known_source_asks_of_dialogs_that_are_not_takes_no_memory() {
    let mut crowd = crowd();
    crowd.scene.advance(Duration::from_secs(60));
    let idle = crowd.scene.pbx.next_timeout();
    for _ in 0..2000 {
        assert_eq!(crowd.bye().status, 481);
    }
    crowd.load(1200);
    for _ in 0..2000 {
        at_once(&crowd.bye());
    }
    assert_eq!(crowd.scene.pbx.next_timeout(), idle);
}

#[test]
fn a_phone_that_asks_without_end_fills_its_share_of_memory_and_no_more() {
    for method in ["INVITE", "REGISTER"] {
        let mut scene = Scene::with(|settings| settings.set("sip.memory", "64").unwrap());
        let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
        let ask = |phone: &mut Phone| match method {
            "REGISTER" => phone.registration(""),
            _ => phone.outside(method, "555"),
        };
        let answer = scene.ask(phone.flow, ask(&mut phone)).unwrap();
        phone.take_challenge(&answer);
        let mut served = 0;
        let unanswered = loop {
            let request = ask(&mut phone);
            match scene.receive(phone.flow, &request).len() {
                0 => break request,
                _ => served += 1,
            }
        };
        assert!((500..5000).contains(&served), "{method}: {served}");
        let (level, counts) = scene.pbx.overload();
        assert_eq!((level.number(), counts.shed.iter().sum::<u64>()), (0, 1), "{method}");
        // Everybody else is served meanwhile.
        assert_eq!(Phone::new("101", udp("198.51.100.8:5060")).register(&mut scene).status, 200);
        // And so is the phone in the end, with the same proof.
        scene.advance(Duration::from_secs(33));
        assert!((200..500).contains(&scene.ask(phone.flow, &unanswered).unwrap().status));
    }
}

#[test]
fn memory_that_is_changed_while_the_daemon_runs_counts_at_once() {
    let mut scene = Scene::with(|settings| settings.set("sip.memory", "64").unwrap());
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.register(&mut scene);
    let fill = |scene: &mut Scene, phone: &mut Phone| {
        let ask = |_: &usize| {
            let request = phone.registration("");
            scene.ask(phone.flow, request).is_some()
        };
        (0..10_000).take_while(ask).count()
    };
    let before = fill(&mut scene, &mut phone);
    scene.change_settings(|settings| settings.set("sip.memory", "128").unwrap());
    let more = fill(&mut scene, &mut phone);
    assert!((before * 9 / 10..before * 11 / 10).contains(&more), "{before} {more}");
}

#[test]
fn in_an_overload_strangers_are_not_challenged_and_those_who_are_known_are() {
    let mut crowd = crowd();
    crowd.load(250);
    let mut stranger = Phone::new("102", udp("198.51.100.66:5060"));
    let request = stranger.registration("");
    assert_eq!(crowd.scene.ask(stranger.flow, request), None);
    assert_eq!(crowd.scene.why["overload"], 1);
    crowd.desk.challenge = None;
    assert_eq!(crowd.refresh().status, 401);
    // Who has a challenge already comes in.
    assert_eq!(crowd.first().status, 200);
}

#[test]
fn however_much_strangers_send_those_who_are_known_are_served() {
    let mut crowd = crowd();
    assert_eq!(crowd.scene.measure(0, 60_000, 0), 1);
    assert_eq!((crowd.call("555").status, crowd.bye().status), (404, 481));
    assert_eq!((crowd.first().status, crowd.refresh().status), (200, 200));
    // What they send without a proof does not even wait any more.
    let source = udp("198.51.100.66:5060");
    let to = "<sip:100@one.example>;tag=x";
    for method in ["ACK", "CANCEL", "BYE", "INFO", "NOTIFY", "PRACK", "UPDATE", "OPTIONS", "INVITE", "SUBSCRIBE"] {
        let text = request(method, "sip:100@one.example", "<sip:100@one.example>", to, 1);
        assert!(!crowd.scene.passes(source, text.as_bytes()), "{method}");
    }
    let text = request("ACK", "sip:100@one.example", "<sip:100@one.example>", to, 1);
    let response = text.replacen("ACK sip:100@one.example SIP/2.0", "SIP/2.0 200 OK", 1);
    assert!(!crowd.scene.passes(source, response.as_bytes()));
    assert!(crowd.scene.passes(crowd.desk.flow, response.as_bytes()), "known sources' do");
    assert_eq!(crowd.scene.why["overload"], 11);
    crowd.scene.measure(0, 0, 0);
    crowd.scene.advance(Duration::from_secs(1));
    assert_eq!(crowd.scene.measure(0, 0, 0), 0);
    assert!(crowd.scene.passes(source, response.as_bytes()));
}

#[test]
fn what_follows_an_ack_in_its_dialog_does_not_overtake_it() {
    let mut crowd = crowd();
    let to = "<sip:100@one.example>;tag=x";
    for method in ["ACK", "INVITE", "BYE"] {
        let text = request(method, "sip:100@one.example", "<sip:100@one.example>", to, 1);
        assert_eq!(crowd.scene.class(crowd.desk.flow, text.as_bytes()), Class::InDialog, "{method}");
    }
}

#[test]
fn memory_in_use_turns_away_as_delay_does() {
    let mut crowd = crowd();
    let limit = u64::from(crowd.scene.settings.sip.memory.get()) << 20;
    assert_eq!(crowd.scene.measure(0, 0, limit * 85 / 100), 2);
    at_once(&crowd.call("555"));
    assert_eq!(crowd.refresh().status, 200);
}
