//! Attackers and offices before the gate and the guard: who is blocked, and who never is.

use std::{net::IpAddr, time::Duration};

use pbx_core::{
    guard::{Alarm, Block, Detector, Output},
    transport::Flow,
};

use crate::{
    phone::{Phone, request},
    scene::{DOMAIN, Scene, udp},
};

const ATTACKER: &str = "203.0.113.66:5080";
const OFFICE: &str = "198.51.100.1";

fn enforcing() -> Scene {
    Scene::with(|settings| settings.set("filter.mode", "enforce").unwrap())
}

impl Scene {
    /// Seconds pass, and the guard looks each.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.sweep_guard();
        }
    }

    fn blocks(&self) -> Vec<&Block> {
        let blocks = self.decided.iter().filter_map(|output| match output {
            Output::Block(block) => Some(&**block),
            _ => None,
        });
        blocks.collect()
    }

    fn blocked_by(&self) -> Vec<Detector> {
        self.blocks().iter().map(|block| block.detector).collect()
    }
}

fn office(port: u16) -> Flow {
    udp(&format!("{OFFICE}:{port}"))
}

/// A REGISTER without credentials for a number, as svwar sends it with another User-Agent.
fn probe(scene: &mut Scene, number: u32) {
    let (uri, who) = (format!("sip:{DOMAIN}"), format!("<sip:{number}@{DOMAIN}>"));
    scene.receive(udp(ATTACKER), request("REGISTER", &uri, &who, &who, number));
}

#[test]
fn svwar_with_its_user_agent_changed_is_blocked_at_full_speed_and_at_one_request_a_second() {
    let mut fast = enforcing();
    for number in 0..200 {
        probe(&mut fast, number);
        fast.now += Duration::from_millis(6);
    }
    fast.pass(5);
    let block = fast.blocks()[0];
    assert!(matches!(block.detector, Detector::Enumeration | Detector::Challenges), "{block:?}");

    let mut slow = enforcing();
    for number in 0..16 {
        probe(&mut slow, number);
        slow.pass(1);
    }
    assert_eq!(slow.blocked_by(), [Detector::Enumeration]);
    assert!(!slow.blocks()[0].sure, "anybody could have sent it");
}

#[test]
fn svcrack_at_one_try_a_second_is_blocked() {
    let mut scene = enforcing();
    let mut cracker = Phone::new("150", udp(ATTACKER));
    for guess in 0..40 {
        cracker.password = format!("guess {guess}");
        if cracker.challenge.is_none() {
            let first = cracker.registration("");
            let answer = scene.ask(cracker.flow, first).unwrap();
            cracker.take_challenge(&answer);
        }
        let request = cracker.registration("");
        let answer = scene.ask(cracker.flow, request).unwrap();
        cracker.take_challenge(&answer);
        scene.pass(1);
        if !scene.blocks().is_empty() {
            break;
        }
    }
    let block = scene.blocks()[0];
    assert_eq!((block.detector, block.count), (Detector::Accounts, 20));
    assert!(block.sure, "the nonces were sent to that address");
    assert_eq!(block.time, Duration::from_secs(3600));
}

#[test]
fn svcrack_interleaved_with_successes_of_its_own_account_is_not_heard_for_the_other() {
    let mut scene = enforcing();
    let mut own = Phone::new("101", udp(ATTACKER));
    let mut cracker = Phone::new("150", udp("203.0.113.66:5081"));
    cracker.password = "guess".into();
    assert_eq!(own.register(&mut scene).status, 200);
    for _ in 0..40 {
        let guess = cracker.registration("");
        if let Some(answer) = scene.ask(cracker.flow, guess) {
            cracker.take_challenge(&answer);
        }
        assert_eq!(own.register(&mut scene).status, 200);
        scene.pass(1);
    }
    let pairs: Vec<_> = scene.decided.iter().filter(|output| matches!(output, Output::Pair(_))).collect();
    let [Output::Pair(pair)] = pairs[..] else { panic!("{pairs:?}") };
    assert_eq!((&*pair.account.name, pair.count), ("150", 20));
    // Not even the right password is heard from there now; the account itself goes on elsewhere.
    cracker.password = crate::scene::password("150");
    let right = cracker.registration("");
    assert!(scene.ask(cracker.flow, right).is_none());
    assert_eq!(Phone::new("150", udp("192.0.2.200:5060")).register(&mut scene).status, 200);
    assert!(scene.blocks().is_empty());
}

#[test]
fn a_phone_with_a_wrong_password_behind_an_office_is_challenged_once_a_second_and_the_others_go_on() {
    let mut scene = enforcing();
    let mut good = Phone::behind("101", "10.0.0.1:5060", office(2001));
    assert_eq!(good.register(&mut scene).status, 200);
    let mut wrong = Phone::behind("102", "10.0.0.2:5060", office(2002));
    wrong.password = "mistyped".into();
    let first = wrong.registration("");
    let answer = scene.ask(wrong.flow, first).unwrap();
    wrong.take_challenge(&answer);
    let mut answered = 0;
    for _ in 0..10 {
        let again = wrong.registration("");
        answered += usize::from(scene.ask(wrong.flow, again).is_some());
        scene.now += Duration::from_millis(250);
    }
    assert_eq!(answered, 3, "once a second");
    assert_eq!(good.register(&mut scene).status, 200);
    assert_eq!(Phone::behind("103", "10.0.0.3:5060", office(2003)).register(&mut scene).status, 200);
    // The password is put right: it is heard with its next try a second later.
    scene.pass(1);
    wrong.password = crate::scene::password("102");
    assert_eq!(wrong.register(&mut scene).status, 200);
    assert!(scene.blocks().is_empty());
}

#[test]
fn after_a_power_cut_forty_phones_behind_one_address_reregister_and_nobody_is_blocked() {
    for known_before in [true, false] {
        let mut scene = enforcing();
        let mut phones: Vec<Phone> = (0..40u16)
            .map(|phone| {
                Phone::behind(&(100 + phone).to_string(), &format!("10.0.0.{phone}:5060"), office(2000 + phone))
            })
            .collect();
        if known_before {
            for phone in &mut phones {
                assert_eq!(phone.register(&mut scene).status, 200);
            }
        }
        scene.pass(4000);
        // All at once, with what they remember of before: the first requests of all, then the answers of all.
        let firsts: Vec<_> = phones
            .iter_mut()
            .map(|phone| {
                let first = phone.registration("");
                scene.ask(phone.flow, first).unwrap()
            })
            .collect();
        scene.now += Duration::from_millis(300);
        for (phone, answer) in phones.iter_mut().zip(firsts) {
            assert_eq!(answer.status, 401);
            phone.take_challenge(&answer);
            let second = phone.registration("");
            assert_eq!(scene.ask(phone.flow, second).unwrap().status, 200);
        }
        scene.pass(120);
        assert!(scene.decided.is_empty(), "{:?}", scene.decided);
    }
}

#[test]
fn nobody_can_lock_an_account_from_outside() {
    let mut scene = enforcing();
    for source in 0..60 {
        let mut cracker = Phone::new("150", udp(&format!("203.0.113.{source}:5060")));
        cracker.password = "guess".into();
        for _ in 0..2 {
            cracker.register(&mut scene);
        }
    }
    let alarms = scene.decided.iter().filter(|output| matches!(output, Output::Alarm(Alarm::Account { .. })));
    assert_eq!(alarms.count(), 1);
    assert_eq!(Phone::new("150", udp("192.0.2.200:5060")).register(&mut scene).status, 200);
}

#[test]
fn a_forbidden_user_agent_is_dropped_without_an_answer_and_its_sender_blocked() {
    let mut scene = enforcing();
    let mut scanner = Phone::new("101", udp(ATTACKER));
    scanner.more = "User-Agent: Friendly-Scanner\r\n".into();
    let first = scanner.registration("");
    assert!(scene.ask(scanner.flow, first).is_none());
    assert_eq!(scene.why["forbidden_agent"], 1);
    let block = scene.blocks()[0];
    assert_eq!((block.detector, block.time, block.sure), (Detector::Agents, Duration::from_secs(60), false));
    assert!(String::from_utf8_lossy(&block.messages[0].bytes).contains("Friendly-Scanner"));
    // Of a known source the message is dropped, and nobody is blocked.
    let mut scene = enforcing();
    let mut phone = Phone::new("101", office(2001));
    assert_eq!(phone.register(&mut scene).status, 200);
    phone.more = "User-Agent: sipsak 0.9\r\n".into();
    let again = phone.registration("");
    assert!(scene.ask(phone.flow, again).is_none());
    assert!(matches!(scene.decided[..], [Output::Alarm(Alarm::Spared { detector: Detector::Agents, .. })]));
}

#[test]
fn a_scan_from_a_foreign_domain_scores_and_telephones_do_not() {
    let mut scene = enforcing();
    for number in 0..4 {
        let who = "\"sip\" <sip:100@1.1.1.1>";
        scene.receive(udp(ATTACKER), request("OPTIONS", "sip:100@192.0.2.1", who, who, number));
    }
    assert_eq!(scene.blocked_by(), [Detector::Scanner]);
}

#[test]
fn a_phone_that_was_given_the_address_instead_of_the_domain_scores_nothing() {
    let mut scene = enforcing();
    for number in 100..140 {
        let mut phone = Phone::new(&number.to_string(), udp(&format!("203.0.113.9:{number}0")));
        phone.domain = "192.0.2.1".into();
        assert_eq!(phone.register(&mut scene).status, 200);
    }
    assert!(scene.decided.is_empty(), "{:?}", scene.decided);
}

#[test]
fn broken_messages_block_for_a_minute_because_anybody_may_have_sent_them() {
    let mut scene = enforcing();
    for number in 0..50 {
        scene.receive(udp(ATTACKER), format!("REGISTER sip:{DOMAIN} SIP/2.0\r\nCSeq: {number}\r\n\r\n"));
    }
    let block = scene.blocks()[0];
    assert_eq!((block.detector, block.time), (Detector::Scanner, Duration::from_secs(60)));
    let detectors = scene.blocked_by();
    assert!(detectors.contains(&Detector::Malformed), "{detectors:?}");
}

#[test]
fn whose_address_somebody_writes_into_forged_guesses_is_blocked_for_a_minute_at_most() {
    // The attacker has nonces of its own and sends guesses with them in the name of somebody who never registered here.
    let mut scene = enforcing();
    let mut attacker = Phone::new("150", udp(ATTACKER));
    attacker.password = "guess".into();
    let first = attacker.registration("");
    let answer = scene.ask(attacker.flow, first).unwrap();
    attacker.take_challenge(&answer);
    let victim = udp("198.51.100.200:5060");
    for _ in 0..50 {
        let guess = attacker.registration("");
        scene.receive(victim, guess);
    }
    let victim: IpAddr = "198.51.100.200".parse().unwrap();
    for block in scene.blocks() {
        assert!(block.prefix.contains(victim) && !block.sure);
        assert!(block.time <= Duration::from_secs(120), "{block:?}");
    }
}
