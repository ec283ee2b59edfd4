//! More than can be done: what is turned away first, and how it is told.

use std::time::Duration;

use pbx_core::pbx::Input;

use crate::{
    phone::{Answer, Phone},
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
        self.scene.give(Input::Measured { queue_delay: Duration::from_millis(delay), memory: 0 });
        self.scene.pbx.overload().0.number()
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
    assert_eq!(crowd.call("101").status, 405);
    assert_eq!((crowd.refresh().status, crowd.bye().status), (200, 481));
    // 300 ms: calls.
    assert_eq!(crowd.load(350), 2);
    at_once(&crowd.call("101"));
    assert_eq!((crowd.call("112").status, crowd.refresh().status, crowd.bye().status), (405, 200, 481));
    // 400 ms: who was not there before.
    assert_eq!(crowd.load(450), 3);
    assert!((10..=60).contains(&later(&crowd.first())));
    assert_eq!(crowd.scene.bound("101"), 0);
    assert_eq!((crowd.call("112").status, crowd.refresh().status, crowd.bye().status), (405, 200, 481));
    // 600 ms: refreshes.
    assert_eq!(crowd.load(700), 4);
    let writes = crowd.scene.store.writes;
    assert!((10..=60).contains(&later(&crowd.refresh())));
    assert_eq!(crowd.scene.store.writes, writes);
    assert_eq!((crowd.call("112").status, crowd.bye().status), (405, 481));
    // 1 s: dialogs.
    assert_eq!(crowd.load(1200), 5);
    at_once(&crowd.bye());
    assert_eq!(crowd.call("112").status, 405);
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
    at_once(&crowd.call("101"));
    let mut levels = vec![];
    for _ in 0..50 {
        crowd.scene.advance(Duration::from_millis(100));
        levels.push(crowd.load(0));
    }
    assert!(levels.is_sorted_by(|one, next| one >= next), "{levels:?}");
    assert_eq!((levels[8], levels[49]), (4, 0));
    assert_eq!(crowd.call("101").status, 405);
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
fn a_phone_that_calls_without_end_fills_its_share_of_memory_and_no_more() {
    let mut scene = Scene::with(|settings| settings.set("sip.memory", "64").unwrap());
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let answer = scene.ask(phone.flow, phone.outside("INVITE", "101")).unwrap();
    phone.take_challenge(&answer);
    let mut served = 0;
    loop {
        let request = phone.outside("INVITE", "101");
        match scene.receive(phone.flow, &request).len() {
            0 => break,
            _ => served += 1,
        }
    }
    assert!((1000..100_000).contains(&served), "{served}");
    assert_eq!(scene.pbx.overload().0.number(), 0);
    // Strangers are challenged still: that takes none.
    assert!(
        scene.ask(udp("198.51.100.66:5060"), Phone::new("101", udp("198.51.100.66:5060")).registration("")).is_some()
    );
    scene.advance(Duration::from_secs(33));
    assert_eq!(Phone::new("101", udp("198.51.100.8:5060")).register(&mut scene).status, 200);
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
fn memory_in_use_turns_away_as_delay_does() {
    let mut crowd = crowd();
    let limit = u64::from(crowd.scene.settings.sip.memory.get()) << 20;
    crowd.scene.give(Input::Measured { queue_delay: Duration::ZERO, memory: limit * 85 / 100 });
    assert_eq!(crowd.scene.pbx.overload().0.number(), 2);
    at_once(&crowd.call("101"));
    assert_eq!(crowd.refresh().status, 200);
}
