//! What somebody learns, and gets, who has no password.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    phone::{Answer, Challenge, Phone, request},
    scene::{DISABLED, Scene, udp},
};

/// Who exists, who is disabled, who does not exist, and names that are none.
const NAMES: [&str; 6] = ["100", DISABLED, "777", "10", "00000000000000000000000000000000", "admin"];

fn guesser(number: &str) -> Phone {
    let mut phone = Phone::new(number, udp("198.51.100.66:5060"));
    phone.password = "guess".into();
    phone.contact = "<sip:x@198.51.100.66>".into();
    phone.call_id = "one-call".into();
    phone
}

/// The answer with the name that was asked for made the same.
fn anonymous(answer: &Answer, number: &str) -> String {
    answer
        .without_nonce_and_tag()
        .replace(&format!(":{number}@"), ":NAME@")
        .replace(&format!("f{number}"), "fNAME")
        .replace(&format!("z9hG4bK{number}p"), "z9hG4bKNAMEp")
}

#[test]
fn known_disabled_and_unknown_users_get_the_same_bytes_but_for_nonce_and_tag() {
    for method in ["REGISTER", "INVITE", "SUBSCRIBE", "MESSAGE", "REFER", "PUBLISH"] {
        let mut scene = Scene::new();
        let mut seen = BTreeSet::new();
        for name in NAMES {
            let mut phone = guesser(name);
            let make = |phone: &mut Phone| match method {
                "REGISTER" => phone.registration(""),
                _ => phone.outside(method, "150"),
            };
            let mut told = Vec::new();
            let first = make(&mut phone);
            let answer = scene.ask(phone.flow, first).unwrap();
            told.push(anonymous(&answer, name));
            phone.take_challenge(&answer);
            // A wrong password, an old nonce with it, a nonce that is not ours, credentials without what is needed.
            let second = make(&mut phone);
            told.push(anonymous(&scene.ask(phone.flow, second).unwrap(), name));
            let nonce = phone.challenge.as_ref().unwrap().nonce.clone();
            for made_up in ["made-up", "", &nonce.replace('A', "B")] {
                phone.challenge.as_mut().unwrap().nonce = made_up.into();
                let request = make(&mut phone);
                told.push(anonymous(&scene.ask(phone.flow, request).unwrap(), name));
            }
            let broken = make(&mut phone).replace("response=\"", "response=\"zz");
            told.push(anonymous(&scene.ask(phone.flow, broken).unwrap(), name));
            seen.insert(told);
        }
        assert_eq!(seen.len(), 1, "{method}: {seen:#?}");
        assert!(scene.store.bindings.is_empty() && scene.store.successes.is_empty() && scene.filter.is_empty());
    }
}

#[test]
fn a_right_password_of_a_disabled_extension_shows_nothing() {
    let mut scene = Scene::new();
    let answers =
        [(DISABLED, crate::scene::password(DISABLED)), ("777", "guess".to_owned())].map(|(name, password)| {
            let mut phone = Phone { password, ..guesser(name) };
            anonymous(&phone.register(&mut scene), name)
        });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(scene.why["wrong_user"], 2);
}

#[test]
fn whom_somebody_calls_does_not_show_who_exists() {
    let mut scene = Scene::new();
    let told = ["101", "777", DISABLED].map(|target| {
        let answer = scene.ask(guesser("100").flow, guesser("100").outside("INVITE", target)).unwrap();
        answer.without_nonce_and_tag().replace(target, "TARGET")
    });
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

#[test]
fn a_name_that_is_not_the_bare_number_is_nobodys() {
    let mut scene = Scene::new();
    for user in ["100@one.example", "%3100", "0100", " 100", "1OO"] {
        let mut phone = Phone::new("100", udp("198.51.100.66:5060"));
        phone.user = user.into();
        assert_eq!(phone.register(&mut scene).status, 401, "{user}");
    }
}

#[test]
fn strangers_get_their_allowance_of_answers_a_second_and_then_silence() {
    let mut scene = Scene::new();
    let mut known = Phone::new("100", udp("198.51.100.7:5060"));
    known.register(&mut scene);
    let flood = |scene: &mut Scene, method: &str, from: &str, number: u32| {
        let text = request(method, "sip:one.example", "<sip:x@one.example>", "<sip:x@one.example>", number);
        scene.receive(udp(from), text).len()
    };
    for method in ["REGISTER", "INVITE", "NONSENSE"] {
        scene.advance(Duration::from_secs(2));
        let answered: usize = (0..1000).map(|number| flood(&mut scene, method, "198.51.100.66:5060", number)).sum();
        assert_eq!(answered, 50, "{method}");
    }
    // An IPv6 network of many addresses is one stranger.
    let answered: usize =
        (0..1000).map(|number| flood(&mut scene, "REGISTER", &format!("[2001:db8::{number:x}]:5060"), number)).sum();
    assert_eq!(answered, 50);
    // All together.
    scene.advance(Duration::from_secs(2));
    let answered: usize = (0..10_000)
        .map(|number| flood(&mut scene, "REGISTER", &format!("10.0.{}.{}:5060", number / 250, number % 250), number))
        .sum();
    assert_eq!(answered, 5000);
    assert!(scene.why["source_over_limit"] > 2800 && scene.why["strangers_over_limit"] == 5000);
    // Who is known is served all the while, and needs no allowance.
    known.challenge = None;
    for _ in 0..100 {
        assert_eq!(known.register(&mut scene).status, 200);
        known.challenge = None;
    }
}

#[test]
fn who_has_the_right_password_is_let_in_although_its_address_asked_too_much() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.66:5060"));
    let answer = scene.ask(phone.flow, phone.registration("")).unwrap();
    phone.take_challenge(&answer);
    for number in 0..100 {
        let text = request("REGISTER", "sip:one.example", "<sip:x@one.example>", "<sip:x@one.example>", number);
        scene.receive(phone.flow, text);
    }
    let request = phone.registration("");
    assert_eq!(scene.ask(phone.flow, request).unwrap().status, 200);
}

#[test]
fn nothing_is_kept_for_strangers_however_much_they_send() {
    let mut scene = Scene::new();
    let before = scene.state();
    let idle = scene.pbx.next_timeout();
    for number in 0..2000 {
        for method in ["REGISTER", "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "NOTIFY"] {
            for to in ["<sip:100@one.example>", "<sip:100@one.example>;tag=x"] {
                let text = request(method, "sip:100@one.example", "<sip:100@one.example>", to, number);
                scene.receive(udp("198.51.100.66:5060"), text);
            }
        }
    }
    assert_eq!(scene.state(), before);
    assert_eq!(scene.pbx.next_timeout(), idle, "no transaction waits");
}

#[test]
fn responses_that_nobody_asked_for_are_dropped() {
    let mut scene = Scene::new();
    for code in [100, 180, 200, 401, 481, 503, 699] {
        let text = request("INVITE", "sip:x", "<sip:100@one.example>", "<sip:100@one.example>;tag=x", 1).replacen(
            "INVITE sip:x SIP/2.0",
            &format!("SIP/2.0 {code} OK"),
            1,
        );
        assert!(scene.receive(udp("198.51.100.66:5060"), text).is_empty());
    }
    assert!(scene.advance(Duration::from_secs(60)).is_empty());
}

#[test]
fn in_an_overload_strangers_still_hear_nothing_beyond_the_gate() {
    let mut scene = Scene::new();
    for delay in [250, 350, 450, 700, 1200, 2500] {
        scene.load(delay);
        for method in ["BYE", "INVITE", "CANCEL", "ACK"] {
            let to = "<sip:100@one.example>;tag=x";
            let text = request(method, "sip:100@one.example", "<sip:100@one.example>", to, delay as u32);
            assert!(scene.receive(udp("198.51.100.66:5060"), text).is_empty(), "{method} at {delay}");
        }
    }
    assert!(scene.advance(Duration::from_secs(60)).is_empty());
}

#[test]
fn a_challenge_is_not_many_times_as_long_as_the_shortest_request() {
    let mut scene = Scene::new();
    let text = "REGISTER sip:a SIP/2.0\r\nv:SIP/2.0/UDP a;branch=z9hG4bK1;rport\r\nf:<sip:a@a>;tag=1\r\nt:<sip:a@a>\r\n\
                i:1\r\nCSeq:1 REGISTER\r\n\r\n";
    let sent = scene.receive(udp("198.51.100.66:5060"), text);
    assert_eq!(sent[0].answer().status, 401);
    assert!(sent[0].bytes.len() < 5 * text.len(), "{} for {}", sent[0].bytes.len(), text.len());
}

#[test]
fn nonces_are_all_different() {
    let mut scene = Scene::new();
    let mut nonces = BTreeSet::new();
    for number in 0..40 {
        let text = request("REGISTER", "sip:one.example", "<sip:x@one.example>", "<sip:x@one.example>", number);
        let answer = scene.ask(udp("198.51.100.66:5060"), text).unwrap();
        let challenges: Vec<Challenge> = answer.challenges();
        nonces.insert(challenges[0].nonce.clone());
    }
    assert_eq!(nonces.len(), 40);
}
