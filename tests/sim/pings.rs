//! Asking phones whether they are there, from the address that each reaches the appliance by.

use std::time::Duration;

use pbx_core::{
    pbx::{PingError, Pinged},
    registrar::BindingId,
    transport::{keepalive::DATAGRAM, nat::Reach},
};

use crate::{
    phone::Phone,
    scene::{Scene, TCP, UDP, tcp, udp},
};

fn registered(scene: &mut Scene, phone: &mut Phone) -> BindingId {
    assert_eq!(phone.register(scene).status, 200);
    scene.pbx.bindings().last().unwrap().stored().id
}

/// The answer that a phone gives to a request.
fn answer(request: &str) -> String {
    let copied = ["Via", "From", "To", "Call-ID", "CSeq"];
    let is_copied = |line: &&str| copied.iter().any(|name| line.starts_with(&format!("{name}:")));
    let lines: Vec<&str> = request.split("\r\n").filter(is_copied).collect();
    format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"))
}

#[test]
fn a_phone_is_asked_over_its_flow_and_says_when_it_answered() {
    let mut scene = Scene::new();
    let mut phone = Phone::behind("100", "192.168.1.9:5060", udp("198.51.100.7:50001"));
    let id = registered(&mut scene, &mut phone);
    let sent = scene.ping(id, 7).unwrap();
    assert_eq!(scene.advance(Duration::from_millis(40)).len(), 0);
    let [request] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(request.flow, phone.flow);
    let text = String::from_utf8(request.bytes.clone()).unwrap();
    assert!(text.starts_with("OPTIONS sip:100@192.168.1.9:5060 SIP/2.0\r\n"), "{text}");
    scene.receive(phone.flow, answer(&text));
    let after = Duration::from_millis(40);
    assert_eq!(scene.pinged, [(7, Pinged::Answered { code: 200, after })]);
    // Nothing is left of it.
    let later = scene.advance(Duration::from_secs(40));
    assert!(later.iter().all(|sent| sent.bytes == DATAGRAM), "{later:?}");
    assert_eq!(scene.pinged.len(), 1);
}

#[test]
fn via_and_contact_carry_the_address_that_the_peer_can_reach() {
    let mut scene = Scene::new();
    scene.pbx.set_reach(Reach {
        external_v4: Some("203.0.113.5".parse().unwrap()),
        external_ports: [(TCP, 15063)].into(),
        ..Reach::default()
    });
    for (flow, us) in [
        (udp("198.51.100.7:5060"), "203.0.113.5:5060"),
        (tcp("198.51.100.8:50001", 1), "203.0.113.5:15063"),
        (udp("192.168.1.9:5060"), "192.0.2.1:5060"),
    ] {
        let id = registered(&mut scene, &mut Phone::new("100", flow));
        let sent = scene.ping(id, 1).unwrap();
        let text = String::from_utf8(sent[0].bytes.clone()).unwrap();
        let protocol = flow.protocol.token();
        assert!(text.contains(&format!("Via: SIP/2.0/{protocol} {us};rport;branch=z9hG4bK")), "{text}");
        assert!(text.contains(&format!("Contact: <sip:{us};transport={}>", protocol.to_lowercase())), "{text}");
        assert_eq!(sent[0].flow, flow);
        scene.receive(flow, answer(&text));
    }
    assert_eq!(scene.pinged.len(), 3);
}

#[test]
fn a_silent_phone_is_asked_again_and_again_for_32_seconds() {
    let mut scene = Scene::new();
    let id = registered(&mut scene, &mut Phone::new("100", udp("198.51.100.7:5060")));
    scene.ping(id, 3).unwrap();
    let sent = scene.advance(Duration::from_secs(31));
    assert!(sent.len() > 5 && scene.pinged.is_empty());
    scene.advance(Duration::from_secs(2));
    assert_eq!(scene.pinged, [(3, Pinged::Silent)]);
}

#[test]
fn who_cannot_be_reached_is_not_asked() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", tcp("198.51.100.7:50001", 1));
    let id = registered(&mut scene, &mut phone);
    scene.give(pbx_core::pbx::Input::ConnectionClosed(phone.flow.connection.unwrap()));
    assert_eq!(scene.ping(id, 1).unwrap_err(), PingError::Unreachable);
    assert!(scene.pbx.drop_binding(id, scene.now));
    assert_eq!(scene.ping(id, 1).unwrap_err(), PingError::NotRegistered);
    let id = registered(&mut scene, &mut Phone::new("101", udp("198.51.100.7:5060")));
    scene.give(pbx_core::pbx::Input::TransportClosed(UDP));
    assert_eq!(scene.ping(id, 1).unwrap_err(), PingError::Unreachable);
}

#[test]
fn an_answer_from_nowhere_is_nobodys() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let id = registered(&mut scene, &mut phone);
    let sent = scene.ping(id, 1).unwrap();
    let text = String::from_utf8(sent[0].bytes.clone()).unwrap();
    let guessed = answer(&text).replace("branch=z9hG4bK", "branch=z9hG4bKx");
    assert_eq!(scene.receive(udp("203.0.113.66:5060"), guessed).len(), 0);
    assert!(scene.pinged.is_empty());
}
