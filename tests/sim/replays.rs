//! What comes twice: by chance, by a lossy link, or by somebody who listened.

use std::time::Duration;

use crate::{
    phone::{Phone, Scheme},
    scene::{Scene, udp},
};

/// A phone that has its challenge.
fn challenged(scene: &mut Scene, number: &str) -> Phone {
    let mut phone = Phone::new(number, udp("198.51.100.7:5060"));
    let first = phone.registration("");
    let answer = scene.ask(phone.flow, first).unwrap();
    phone.take_challenge(&answer);
    phone
}

#[test]
fn a_register_that_comes_again_is_absorbed_and_answered_alike() {
    let mut scene = Scene::new();
    let mut phone = challenged(&mut scene, "100");
    let request = phone.registration("");
    let first = scene.ask(phone.flow, &request).unwrap();
    assert_eq!(first.status, 200);
    for wait in [100, 500, 1000, 30_000] {
        scene.advance(Duration::from_millis(wait));
        assert_eq!(scene.ask(phone.flow, &request).unwrap(), first);
    }
    assert_eq!((scene.bound("100"), scene.store.writes), (1, 1));
    // When nobody remembers it any more it is one that was used before.
    scene.advance(Duration::from_secs(60));
    let before = scene.state();
    let answer = scene.ask(phone.flow, &request).unwrap();
    assert_eq!((answer.status, answer.is_stale()), (401, true));
    assert_eq!(scene.state(), before);
}

#[test]
fn a_challenge_to_a_request_that_comes_again_has_the_same_tag() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let request = phone.registration("");
    let first = scene.ask(phone.flow, &request).unwrap();
    let again = scene.ask(phone.flow, &request).unwrap();
    assert_eq!(first.to_tag(), again.to_tag());
    assert_eq!(first.without_nonce_and_tag(), again.without_nonce_and_tag());
    // Either nonce serves.
    phone.take_challenge(&first);
    assert_eq!(phone.register(&mut scene).status, 200);
    phone.take_challenge(&again);
    let request = phone.registration("");
    assert_eq!(scene.ask(phone.flow, request).unwrap().status, 200);
}

#[test]
fn credentials_that_were_used_get_a_new_challenge_and_change_nothing() {
    let mut scene = Scene::new();
    let mut phone = challenged(&mut scene, "100");
    assert_eq!(phone.register(&mut scene).status, 200);
    let before = scene.state();
    // Somebody who listened sends the same credentials from elsewhere, for a contact of his own.
    let mut thief = phone.clone();
    thief.flow = udp("198.51.100.66:5060");
    thief.contact = "<sip:100@198.51.100.66>".into();
    thief.nc -= 1;
    for _ in 0..3 {
        thief.nc = 0;
        let request = thief.registration("").replace("z9hG4bK100p", "z9hG4bKthief");
        let answer = scene.ask(thief.flow, request).unwrap();
        assert_eq!((answer.status, answer.is_stale()), (401, true));
    }
    assert_eq!(scene.state(), before);
    assert!(!scene.knows("198.51.100.66"));
    // The phone itself goes on with its next count.
    let request = phone.registration("");
    assert_eq!(scene.ask(phone.flow, request).unwrap().status, 200);
}

#[test]
fn copied_credentials_are_answered_no_more_often_than_a_stranger_may_be() {
    let mut scene = Scene::new();
    let mut phone = challenged(&mut scene, "100");
    assert_eq!(phone.register(&mut scene).status, 200);
    phone.flow = udp("198.51.100.66:5060");
    let answered = |scene: &mut Scene, phone: &mut Phone, to: &str| {
        let ask = |_: &u32| {
            phone.nc = 0;
            let request = phone.registration("").replace("To: <sip:100@", &format!("To: <sip:{to}@"));
            scene.ask(phone.flow, request).is_some()
        };
        (0..200).filter(ask).count()
    };
    assert_eq!(answered(&mut scene, &mut phone, "100"), 50);
    phone.flow = udp("198.51.100.67:5060");
    assert_eq!(answered(&mut scene, &mut phone, "101"), 50);
}

#[test]
fn a_call_with_credentials_that_were_used_is_challenged_again_and_its_ack_is_absorbed() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let request = phone.outside("INVITE", "555");
    let answer = scene.ask(phone.flow, request).unwrap();
    phone.take_challenge(&answer);
    let request = phone.outside("INVITE", "555");
    assert_eq!(scene.ask(phone.flow, request.replace("z9hG4bK", "z9hG4bKa")).unwrap().status, 404);
    let answer = scene.ask(phone.flow, &request).unwrap();
    assert_eq!((answer.status, answer.is_stale()), (407, true));
    let tag = answer.to_tag().unwrap();
    let ack = request
        .replace("INVITE", "ACK")
        .replace("To: <sip:555@one.example>", &format!("To: <sip:555@one.example>;tag={tag}"));
    assert_eq!(scene.ask(phone.flow, ack), None);
    // The first call's refusal is repeated, the challenge is not.
    assert!(scene.advance(Duration::from_secs(60)).iter().all(|sent| sent.answer().status == 404));
}

#[test]
fn a_nonce_without_counts_serves_once() {
    let mut scene = Scene::new();
    let mut phone = Phone { qop: false, ..challenged(&mut scene, "100") };
    assert_eq!(phone.register(&mut scene).status, 200);
    let request = phone.registration("");
    let answer = scene.ask(phone.flow, request).unwrap();
    assert_eq!((answer.status, answer.is_stale()), (401, true));
    phone.take_challenge(&answer);
    assert_eq!(phone.register(&mut scene).status, 200);
}

#[test]
fn an_old_nonce_is_renewed_without_asking_for_the_password() {
    let mut scene = Scene::new();
    let mut phone = challenged(&mut scene, "100");
    scene.advance(scene.settings.sip.nonce_life.get());
    let request = phone.registration("");
    let answer = scene.ask(phone.flow, request).unwrap();
    assert_eq!((answer.status, answer.is_stale()), (401, true));
    assert_eq!((scene.bound("100"), scene.why["stale_nonce"]), (0, 1));
    phone.take_challenge(&answer);
    assert_eq!(phone.register(&mut scene).status, 200);
}

#[test]
fn a_nonce_of_somebody_else_is_renewed_when_the_password_was_right() {
    let mut scene = Scene::new();
    for scheme in [Scheme::Md5, Scheme::Sha256] {
        let mut phone = Phone { scheme, ..challenged(&mut scene, "100") };
        phone.challenge.as_mut().unwrap().scheme = scheme;
        phone.challenge.as_mut().unwrap().nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093".into();
        let request = phone.registration("");
        let answer = scene.ask(phone.flow, request).unwrap();
        assert_eq!((answer.status, answer.is_stale()), (401, true));
    }
    assert_eq!((scene.bound("100"), scene.why["foreign_nonce"]), (0, 2));
    assert!(scene.store.successes.is_empty(), "a password proved with a nonce of no time proves nothing of now");
}

#[test]
fn a_wrong_password_is_no_stale_nonce_however_old_it_is() {
    let mut scene = Scene::new();
    let mut phone = challenged(&mut scene, "100");
    phone.password = "guess".into();
    for age in [0, 3600] {
        scene.advance(Duration::from_secs(age));
        let request = phone.registration("");
        let answer = scene.ask(phone.flow, request).unwrap();
        assert_eq!((answer.status, answer.is_stale()), (401, false));
    }
    assert_eq!(scene.why["wrong_password"], 2);
}

#[test]
fn a_refresh_with_an_order_that_went_back_is_refused() {
    let mut scene = Scene::new();
    let mut phone = challenged(&mut scene, "100");
    phone.cseq = 100;
    assert_eq!(phone.register(&mut scene).status, 200);
    phone.cseq = 50;
    let answer = phone.register(&mut scene);
    assert_eq!((answer.status, answer.reason.as_str()), (400, "CSeq Out Of Order"));
    // With a Call-ID of its own the phone begins anew, as after it was switched off.
    phone.call_id = "after the night".replace(' ', "-");
    assert_eq!(phone.register(&mut scene).status, 200);
    assert_eq!(scene.bound("100"), 1);
}
