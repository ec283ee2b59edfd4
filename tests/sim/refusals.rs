//! What the appliance does not do, and how it says so to those it knows.

use std::time::Duration;

use crate::{
    phone::Phone,
    scene::{Scene, udp},
};

/// What every `Allow` has.
const ALLOWED: &str = "REGISTER, OPTIONS, INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, REFER";

fn registered(scene: &mut Scene) -> Phone {
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    assert_eq!(phone.register(scene).status, 200);
    phone.challenge = None;
    phone
}

fn to(uri: &str, tag: &str) -> String {
    format!("<{uri}>;tag={tag}")
}

#[test]
fn a_register_for_somebody_elses_extension_is_forbidden() {
    let mut scene = Scene::new();
    let mut phone = registered(&mut scene);
    let before = scene.state();
    let register = |phone: &mut Phone, to: &str| phone.request("REGISTER", "sip:one.example", to, "");
    let first = register(&mut phone, "<sip:101@one.example>");
    let answer = scene.ask(phone.flow, first).unwrap();
    assert_eq!(answer.status, 401, "whom it is for does not show before the password");
    phone.take_challenge(&answer);
    for to in ["<sip:101@one.example>", "<sip:100@two.example>", "<sip:one.example>", "<sip:1000@one.example>"] {
        let request = register(&mut phone, to);
        assert_eq!(scene.ask(phone.flow, request).unwrap().status, 403, "{to}");
    }
    assert_eq!(scene.state(), before);
    // Escaped it is the same number (RFC 3261 §19.1.4).
    let request = register(&mut phone, "<sip:%3100@one.example>");
    assert_eq!(scene.ask(phone.flow, request).unwrap().status, 200);
    // From may be a third party's (RFC 3261 §10.2): nobody reads it.
    let request = register(&mut phone, "<sip:100@one.example>").replace("From: <sip:100@", "From: <sip:secretary@");
    assert_eq!(scene.ask(phone.flow, request).unwrap().status, 200);
}

#[test]
fn what_is_not_carried_out_yet_is_refused_after_the_password() {
    for method in ["SUBSCRIBE", "MESSAGE", "REFER", "PUBLISH"] {
        let mut scene = Scene::new();
        let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
        let request = phone.outside(method, "101");
        let answer = scene.ask(phone.flow, request).unwrap();
        assert_eq!(answer.status, 407, "{method}");
        phone.take_challenge(&answer);
        let request = phone.outside(method, "101");
        let answer = scene.ask(phone.flow, request).unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some(ALLOWED)), "{method}");
        // Right credentials, and somebody else's name.
        let request = phone.outside(method, "101").replace("From: <sip:100@", "From: <sip:102@");
        assert_eq!(scene.ask(phone.flow, request).unwrap().status, 403, "{method}");
    }
}

#[test]
fn every_refusal_of_a_method_lists_the_same_ones() {
    let mut scene = Scene::new();
    let mut phone = registered(&mut scene);
    let request = phone.outside("NONSENSE", "101");
    let answer = scene.ask(phone.flow, request).unwrap();
    assert_eq!((answer.status, answer.header("allow")), (501, Some(ALLOWED)));
}

#[test]
fn the_refusal_of_a_call_comes_again_until_it_is_acknowledged() {
    let mut scene = Scene::new();
    let mut phone = registered(&mut scene);
    let request = phone.outside("INVITE", "555");
    let answer = scene.ask(phone.flow, request).unwrap();
    phone.take_challenge(&answer);
    let request = phone.outside("INVITE", "555");
    let answer = scene.ask(phone.flow, &request).unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(scene.ask(phone.flow, &request), Some(answer.clone()));
    let again = scene.advance(Duration::from_millis(1600));
    assert_eq!(again.iter().map(|sent| sent.answer()).collect::<Vec<_>>(), [answer.clone(), answer.clone()]);
    let to = answer.header("to").unwrap();
    let ack = request.replace("INVITE", "ACK").replace("To: <sip:555@one.example>", &format!("To: {to}"));
    assert_eq!(scene.ask(phone.flow, &ack), None);
    assert_eq!(scene.ask(phone.flow, &ack), None);
    assert!(scene.advance(Duration::from_secs(60)).is_empty());
}

#[test]
fn an_ack_of_a_challenge_is_absorbed_in_silence() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let request = phone.outside("INVITE", "101");
    let answer = scene.ask(phone.flow, &request).unwrap();
    let to = answer.header("to").unwrap();
    let ack = request.replace("INVITE", "ACK").replace("To: <sip:101@one.example>", &format!("To: {to}"));
    assert!(scene.receive(phone.flow, ack).is_empty());
    assert!(scene.advance(Duration::from_secs(60)).is_empty(), "a challenge without state is not repeated");
}

fn cancel(request: &str) -> String {
    let without = request.lines().filter(|line| !line.starts_with("Proxy-Authorization")).collect::<Vec<_>>();
    without.join("\r\n").replace("INVITE", "CANCEL") + "\r\n\r\n"
}

#[test]
fn a_cancel_of_nothing_is_told_so_to_those_who_are_known_and_others_hear_nothing() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let request = phone.outside("INVITE", "101");
    // Even after it was challenged: of that nobody knows any more.
    scene.ask(phone.flow, &request).unwrap();
    assert_eq!(scene.ask(phone.flow, cancel(&request)), None);
    phone.register(&mut scene);
    assert_eq!(scene.ask(phone.flow, cancel(&request)).unwrap().status, 481);
}

#[test]
fn a_cancel_of_a_call_that_was_refused_is_accepted_and_changes_nothing() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let request = phone.outside("INVITE", "101");
    let answer = scene.ask(phone.flow, request).unwrap();
    phone.take_challenge(&answer);
    let request = phone.outside("INVITE", "101");
    let refused = scene.ask(phone.flow, &request).unwrap();
    let answer = scene.ask(phone.flow, cancel(&request)).unwrap();
    // RFC 3261 §9.2: 200, for there is such a transaction, with the tag of the INVITE's answer.
    assert_eq!((answer.status, answer.to_tag()), (200, refused.to_tag()));
    assert_eq!(scene.ask(phone.flow, cancel(&request)), Some(answer));
    // From another address the same CANCEL cancels nothing.
    assert_eq!(scene.ask(udp("198.51.100.66:5060"), cancel(&request)), None);
}

#[test]
fn options_are_answered_to_those_who_are_known() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let request = phone.request("OPTIONS", "sip:one.example", "<sip:one.example>", "");
    assert_eq!(scene.ask(phone.flow, request), None);
    assert_eq!(scene.why["options_of_strangers"], 1);
    phone.register(&mut scene);
    let request = phone.request("OPTIONS", "sip:one.example", "<sip:one.example>", "");
    let answer = scene.ask(phone.flow, request).unwrap();
    assert_eq!((answer.status, answer.header("allow")), (200, Some(ALLOWED)));
    assert_eq!(answer.header("supported"), Some("path, outbound"));
    assert!(answer.to_tag().is_some());
    // Who is somebody does not show.
    let of = |scene: &mut Scene, phone: &mut Phone, number| {
        let request = phone.request("OPTIONS", "sip:x@one.example", &format!("<sip:{number}@one.example>"), "");
        scene.ask(phone.flow, request).unwrap().status
    };
    assert_eq!(of(&mut scene, &mut phone, "101"), of(&mut scene, &mut phone, "555"));
}

#[test]
fn requests_of_a_dialog_that_is_not_are_told_so_to_those_who_are_known() {
    for method in ["BYE", "INVITE", "INFO", "UPDATE", "PRACK", "NOTIFY", "REFER", "MESSAGE", "SUBSCRIBE", "OPTIONS"] {
        let mut scene = Scene::new();
        let mut phone = registered(&mut scene);
        let request = phone.request(method, "sip:192.0.2.1", &to("sip:101@one.example", "gone"), "");
        let answer = scene.ask(phone.flow, &request).unwrap();
        assert_eq!((answer.status, answer.to_tag()), (481, Some("gone")), "{method}");
        assert_eq!(scene.ask(phone.flow, &request), Some(answer), "{method}");
        // Nobody who wrote the phone's address on a datagram makes us send it ten of ours.
        assert!(scene.advance(Duration::from_secs(60)).is_empty(), "{method}");
        assert_eq!(scene.ask(udp("198.51.100.66:5060"), &request), None, "{method}");
        assert!(scene.advance(Duration::from_secs(60)).is_empty(), "{method}");
    }
}

#[test]
fn requests_of_no_dialog_that_need_one_are_told_so_to_those_who_are_known() {
    let mut scene = Scene::new();
    let mut phone = registered(&mut scene);
    for method in ["BYE", "INFO", "UPDATE", "PRACK", "NOTIFY"] {
        let request = phone.outside(method, "101");
        assert_eq!(scene.ask(phone.flow, &request).unwrap().status, 481, "{method}");
        assert_eq!(scene.ask(udp("198.51.100.66:5060"), &request), None, "{method}");
    }
}

fn statuses(request: &str, changes: &[(&str, &str, u16)]) {
    for (from, to, status) in changes {
        let mut scene = Scene::new();
        let text = request.replace(from, to);
        assert_ne!(text, request, "{from}");
        let sent = scene.receive(udp("198.51.100.7:5060"), &text);
        let first = sent.first().map(|sent| String::from_utf8_lossy(&sent.bytes[8..11]).parse().unwrap());
        assert_eq!((sent.len() < 2, first.unwrap_or(0)), (true, *status), "{to}");
    }
}

#[test]
fn a_message_with_a_fault_gets_the_status_that_the_rfc_names() {
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let request = phone.registration("");
    statuses(
        &request,
        &[
            ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 505),
            ("1 REGISTER", "1 INVITE", 400),
            ("REGISTER", "NONSENSE", 501),
            ("REGISTER sip:", "REGISTER tel:", 416),
            ("CSeq: 1", "CSeq: -1", 400),
            ("CSeq: 1", "CSeq: 4294967296", 400),
            ("Content-Length: 0", "Content-Length: 10", 400),
            ("Content-Length: 0", "Require: magic\r\nContent-Length: 0", 420),
            ("Max-Forwards: 70", "Max-Forwards: 0", 401),
            ("Max-Forwards: 70", "Max-Forwards: x", 400),
            ("To: <sip:100@", "To: <tel:100@", 400),
            ("From: <sip:100@one.example>;tag=f100\r\n", "", 400),
            ("Via", "Vai", 0),
        ],
    );
}
