//! Phones that register as they should (RFC 3261 §10, RFC 3327, RFC 5626).

use std::time::Duration;

use crate::{
    phone::{Phone, Scheme},
    scene::{Scene, tcp, tls, udp},
};

#[test]
fn a_phone_registers_with_each_algorithm_and_without_counts() {
    for (scheme, qop) in [(Scheme::Md5, true), (Scheme::Sha256, true), (Scheme::Md5, false), (Scheme::Sha256, false)] {
        let mut scene = Scene::new();
        let mut phone = Phone { scheme, qop, ..Phone::new("100", udp("198.51.100.7:5060")) };
        let answer = phone.register(&mut scene);
        assert_eq!(answer.status, 200, "{scheme:?} {qop}: {}", answer.text);
        assert_eq!(scene.reachable("100"), [phone.flow.remote]);
    }
}

#[test]
fn a_challenge_offers_the_transports_algorithms_in_their_order_with_one_nonce() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let answer = scene.ask(phone.flow, phone.registration("")).unwrap();
    assert_eq!(answer.status, 401);
    let challenges = answer.challenges();
    assert_eq!(challenges.iter().map(|one| one.scheme).collect::<Vec<_>>(), [Scheme::Md5, Scheme::Sha256]);
    assert_eq!(challenges[0].nonce, challenges[1].nonce);
    assert!(!challenges[0].stale && answer.to_tag().is_some());
    scene.algorithms.remove(0);
    let mut old = Phone::new("101", udp("198.51.100.8:5060"));
    let answer = old.register(&mut scene);
    assert_eq!(answer.status, 200);
    // What is not offered is not accepted either.
    old.challenge.as_mut().unwrap().scheme = Scheme::Md5;
    let answer = scene.ask(old.flow, old.registration("")).unwrap();
    assert_eq!((answer.status, answer.is_stale()), (401, false));
}

#[test]
fn a_phone_that_answers_both_challenges_is_judged_by_the_one_that_is_offered() {
    let mut scene = Scene::new();
    scene.algorithms.remove(0);
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let answer = scene.ask(phone.flow, phone.registration("")).unwrap();
    phone.take_challenge(&answer);
    phone.challenge.as_mut().unwrap().scheme = Scheme::Md5;
    let md5 = phone.credentials("REGISTER", "sip:one.example").unwrap();
    phone.challenge.as_mut().unwrap().scheme = Scheme::Sha256;
    let both = phone.registration(&md5);
    assert_eq!(scene.ask(phone.flow, both).unwrap().status, 200);
}

#[test]
fn the_answer_lists_all_contacts_with_the_time_they_have_left() {
    let mut scene = Scene::new();
    let mut desk = Phone::new("100", udp("198.51.100.7:5060"));
    desk.contact = "\"Desk\" <sip:100@198.51.100.7;line=1>;q=0.5;expires=600".into();
    let answer = desk.register(&mut scene);
    assert_eq!(answer.all("contact"), ["<sip:100@198.51.100.7;line=1>;expires=600;q=0.500"]);
    assert_eq!(answer.header("date"), Some("Mon, 23 Nov 2026 12:00:05 GMT"));
    scene.advance(Duration::from_secs(100));
    let mut mobile = Phone::new("100", tls("203.0.113.9:40000", 1));
    let answer = mobile.register(&mut scene);
    assert_eq!(
        answer.all("contact"),
        ["<sip:100@198.51.100.7;line=1>;expires=500;q=0.500", "<sip:100@203.0.113.9:40000>;expires=300"]
    );
    // Who asks and brings nothing is told the same.
    mobile.contact.clear();
    let asked = mobile.register(&mut scene);
    assert_eq!((asked.status, asked.all("contact")), (200, answer.all("contact")));
    assert_eq!(scene.bound("100"), 2);
    let writes = scene.store.writes;
    assert_eq!(writes, 2, "a question writes nothing");
}

#[test]
fn a_time_is_kept_within_the_bounds_and_one_too_short_is_refused_with_the_shortest() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    for (asked, given) in [("100000", "3600"), ("4294967296", "3600"), ("90", "90"), ("x", "3600")] {
        let answer = phone.register_with(&mut scene, &format!("Expires: {asked}\r\n"));
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text);
        assert!(answer.all("contact")[0].ends_with(&format!(";expires={given}")), "{asked}: {}", answer.text);
    }
    let answer = phone.register_with(&mut scene, "Expires: 89\r\n");
    assert_eq!((answer.status, answer.header("min-expires")), (423, Some("90")));
    assert_eq!(answer.reason, "Interval Too Brief");
    assert!(answer.all("contact").is_empty());
    // The parameter of the contact goes before the header.
    phone.contact.push_str(";expires=120");
    let answer = phone.register_with(&mut scene, "Expires: 89\r\n");
    assert!(answer.all("contact")[0].ends_with(";expires=120"), "{}", answer.text);
}

#[test]
fn several_contacts_in_one_request_are_taken_whole_or_not_at_all() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.contact = "<sip:100@198.51.100.7>, <sip:100@198.51.100.7:5070>;expires=60".into();
    assert_eq!(phone.register(&mut scene).status, 423);
    assert_eq!(scene.bound("100"), 0);
    phone.contact = "<sip:100@198.51.100.7>, <sip:100@198.51.100.7:5070>;expires=600".into();
    phone.more = "m: <sip:100@198.51.100.7:5080>\r\n".into();
    let answer = phone.register(&mut scene);
    assert_eq!((answer.status, answer.all("contact").len()), (200, 3));
    assert_eq!(scene.bound("100"), 3);
}

#[test]
fn contacts_are_taken_back_one_by_one_and_all_at_once() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.register(&mut scene);
    let mut second = Phone::new("100", udp("198.51.100.8:5060"));
    second.register(&mut scene);
    let answer = second.register_with(&mut scene, "Expires: 0\r\n");
    assert_eq!((answer.status, answer.all("contact").len()), (200, 1));
    assert_eq!(scene.reachable("100"), [phone.flow.remote]);
    second.register(&mut scene);
    second.contact = "*".into();
    for wrong in ["", "Expires: 60\r\n", "Expires: 0\r\nContact: <sip:100@198.51.100.8>\r\n", "Expires: x\r\n"] {
        let answer = second.register_with(&mut scene, wrong);
        assert_eq!((answer.status, scene.bound("100")), (400, 2), "{wrong}: {}", answer.text);
    }
    let answer = second.register_with(&mut scene, "Expires: 0\r\n");
    assert_eq!((answer.status, answer.all("contact").len()), (200, 0));
    assert_eq!((scene.bound("100"), scene.store.bindings.len()), (0, 0));
    assert!(!scene.filter_knows("198.51.100.8", Some(5060)));
    // The password was right here: for that the address stays known.
    assert!(scene.filter_knows("198.51.100.8", None));
}

#[test]
fn two_stars_are_none() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.register(&mut scene);
    phone.contact = "*, *".into();
    assert_eq!(phone.register_with(&mut scene, "Expires: 0\r\n").status, 400);
    assert_eq!(scene.bound("100"), 1);
}

#[test]
fn more_contacts_than_an_extension_may_have_are_refused() {
    let mut scene = Scene::new();
    let most = scene.settings.sip.contacts.get() as usize;
    for device in 0..most {
        let mut phone = Phone::new("100", udp(&format!("198.51.100.{}:5060", device + 1)));
        assert_eq!(phone.register(&mut scene).status, 200);
    }
    let mut phone = Phone::new("100", udp("198.51.100.200:5060"));
    let answer = phone.register(&mut scene);
    assert_eq!((answer.status, answer.reason.as_str()), (403, "Too Many Contacts"));
    assert_eq!(scene.bound("100"), most);
    // Nobody else notices.
    assert_eq!(Phone::new("101", udp("198.51.100.200:5060")).register(&mut scene).status, 200);
}

#[test]
fn ten_thousand_contacts_in_one_request_are_refused_before_and_after_the_password() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let mut lines = String::new();
    for _ in 0..100 {
        lines.push_str("m: ");
        let contacts: Vec<&str> = (0..100).map(|_| "sip:a").collect();
        lines.push_str(&contacts.join(","));
        lines.push_str("\r\n");
    }
    phone.contact.clear();
    let answer = phone.register_with(&mut scene, &lines);
    assert!(matches!(answer.status, 400 | 403), "{}", answer.text);
    let many: Vec<String> = (0..101).map(|at| format!("<sip:{at}@h>")).collect();
    let answer = phone.register_with(&mut scene, &format!("Contact: {}\r\n", many.join(",")));
    assert_eq!((answer.status, answer.reason.as_str()), (403, "Too Many Contacts"));
    assert_eq!(scene.bound("100"), 0);
}

#[test]
fn contacts_that_are_no_sip_uris_are_refused() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    for contact in ["<tel:+4930>", "<mailto:a@b>", "<sip:>", "<sip:100@ho st>", "<sip:100@[::1>", "<sip:a@h>;tag=\""] {
        phone.contact = contact.into();
        let answer = phone.register(&mut scene);
        assert_eq!(answer.status, 400, "{contact}: {}", answer.text);
        phone.challenge = None;
    }
    assert_eq!(scene.bound("100"), 0);
}

#[test]
fn a_path_is_kept_and_given_back_to_a_phone_that_knows_it() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    let path = "Path: <sip:edge.example;lr>, <sip:inner.example;lr>\r\nPath: <sip:last.example;lr>\r\n";
    let answer = phone.register_with(&mut scene, &format!("Supported: path\r\nRequire: path\r\n{path}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.all("path"), ["<sip:edge.example;lr>, <sip:inner.example;lr>", "<sip:last.example;lr>"]);
    let kept = scene.store.bindings.values().next().unwrap().path.clone().unwrap();
    assert_eq!(&*kept, "<sip:edge.example;lr>,<sip:inner.example;lr>,<sip:last.example;lr>");
    // A phone that does not know it is not told (RFC 3327 §5.3).
    let answer = phone.register_with(&mut scene, path);
    assert_eq!((answer.status, answer.all("path").len()), (200, 0));
    let answer = phone.register_with(&mut scene, "Require: path, gruu\r\n");
    assert_eq!((answer.status, answer.header("unsupported")), (420, Some("gruu")));
}

const INSTANCE: &str = "\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"";

fn outbound(connection: u64, reg_id: u32) -> Phone {
    let remote = format!("203.0.113.9:{}", 40000 + connection);
    let mut phone = Phone::new("100", tls(&remote, connection));
    phone.contact = format!("<sip:100@192.168.1.9:5061;transport=tls;ob>;reg-id={reg_id};+sip.instance={INSTANCE}");
    phone.more = "Supported: path, outbound\r\n".into();
    phone
}

#[test]
fn a_phone_with_outbound_keeps_one_binding_for_each_flow() {
    let mut scene = Scene::new();
    let answer = outbound(1, 1).register(&mut scene);
    assert_eq!((answer.status, answer.header("require")), (200, Some("outbound")));
    let contact = format!(";+sip.instance={INSTANCE};reg-id=1");
    assert!(answer.all("contact")[0].ends_with(&contact), "{}", answer.text);
    // The phone returns by another connection with the same reg-id: the binding moves.
    let mut again = outbound(2, 1);
    again.contact = again.contact.replace("192.168.1.9", "192.168.1.10");
    assert_eq!(again.register(&mut scene).status, 200);
    assert_eq!(scene.reachable("100"), [again.flow.remote]);
    // What becomes of the connection that it left does not matter any more.
    scene.give(pbx_core::pbx::Input::ConnectionClosed(pbx_core::transport::ConnectionId(1)));
    assert_eq!(scene.reachable("100"), [again.flow.remote]);
    let second = outbound(3, 2).register(&mut scene);
    assert_eq!((second.all("contact").len(), scene.bound("100")), (2, 2));
}

#[test]
fn outbound_means_nothing_to_a_phone_that_does_not_say_so_or_has_no_instance() {
    let mut scene = Scene::new();
    let mut phone = outbound(1, 1);
    phone.more.clear();
    let answer = phone.register(&mut scene);
    assert_eq!((answer.status, answer.header("require")), (200, None));
    assert!(!answer.text.contains("reg-id"), "{}", answer.text);
    let mut phone = Phone::new("101", tcp("203.0.113.9:40001", 2));
    phone.contact.push_str(";reg-id=1");
    phone.more = "Supported: outbound\r\n".into();
    assert_eq!(phone.register(&mut scene).header("require"), None);
}

#[test]
fn outbound_through_a_proxy_that_does_not_keep_flows_is_refused() {
    let mut scene = Scene::new();
    let mut phone = outbound(1, 1);
    let answer = phone.register_with(&mut scene, "Path: <sip:edge.example;lr>\r\n");
    assert_eq!((answer.status, answer.reason.as_str()), (439, "First Hop Lacks Outbound Support"));
    let answer = phone.register_with(&mut scene, "Path: <sip:far.example;lr;ob>,<sip:edge.example;lr>\r\n");
    assert_eq!(answer.status, 439, "the last proxy is the one beside the phone");
    let answer = phone.register_with(&mut scene, "Path: <sip:edge.example;lr;ob>\r\n");
    assert_eq!(answer.status, 200);
}

#[test]
fn behind_a_proxy_that_keeps_no_path_outbound_is_not_used_and_the_proxy_gets_no_keep_alives() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("203.0.113.5:5060"));
    phone.contact = format!("<sip:100@192.168.1.9:5060;ob>;reg-id=1;+sip.instance={INSTANCE}");
    phone.more = "Supported: path, outbound\r\nVia: SIP/2.0/UDP 192.168.1.9:5060;branch=z9hG4bK1\r\n".into();
    let answer = phone.register(&mut scene);
    assert_eq!((answer.status, answer.header("require")), (200, None), "{}", answer.text);
    assert!(!answer.text.contains("reg-id"), "{}", answer.text);
    let vias = answer.all("via");
    assert_eq!((vias.len(), vias[1]), (2, "SIP/2.0/UDP 192.168.1.9:5060;branch=z9hG4bK1"));
    assert!(scene.advance(Duration::from_secs(60)).is_empty());
}

#[test]
fn phones_register_over_streams_and_over_ipv6() {
    let mut scene = Scene::new();
    for (number, flow) in
        [("100", tcp("203.0.113.9:40000", 1)), ("101", tls("203.0.113.9:40001", 2)), ("102", udp("[2001:db8::9]:5060"))]
    {
        let mut phone = Phone::new(number, flow);
        let answer = phone.register(&mut scene);
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(scene.reachable(number), [flow.remote]);
    }
    assert!(scene.filter_knows("2001:db8::9", Some(5060)));
}

#[test]
fn an_instance_with_a_backslash_cannot_leave_its_quotes() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.contact.push_str(r#";+sip.instance="<a\"b\\>""#);
    let answer = phone.register(&mut scene);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.all("contact")[0].ends_with(r#";+sip.instance="<a\"b\\>""#), "{}", answer.text);
    let mut phone = Phone::new("101", udp("198.51.100.7:5060"));
    phone.contact.push_str(";+sip.instance=a\\");
    let answer = phone.register(&mut scene);
    assert!(!answer.text.contains("\\\""), "{}", answer.text);
}

#[test]
fn answers_go_where_the_via_says_and_carry_where_the_request_came_from() {
    let mut scene = Scene::new();
    let mut phone = Phone::behind("100", "192.168.1.9:5070", udp("198.51.100.7:61000"));
    let sent = scene.receive(phone.flow, phone.registration(""));
    assert_eq!(sent[0].flow, phone.flow);
    assert!(sent[0].answer().header("via").unwrap().contains(";received=198.51.100.7;rport=61000"));
    phone.take_challenge(&sent[0].answer());
    let sent = scene.receive(phone.flow, phone.registration(""));
    assert_eq!((sent[0].flow, sent[0].answer().status), (phone.flow, 200));
    // Without rport it goes to the port of the Via, at the address that it came from, never at one that it names.
    phone.via_parameters = ";maddr=203.0.113.99;received=203.0.113.99".into();
    let sent = scene.receive(phone.flow, phone.registration(""));
    assert_eq!(sent[0].flow.remote, "198.51.100.7:5070".parse().unwrap());
    assert!(!sent[0].answer().text.contains("received=203"), "{}", sent[0].answer().text);
    // By a connection it goes back over it, whatever the Via says.
    let mut phone = Phone::behind("101", "192.168.1.9:5070", tcp("198.51.100.7:61001", 1));
    phone.via_parameters.clear();
    let sent = scene.receive(phone.flow, phone.registration(""));
    assert_eq!(sent[0].flow, phone.flow);
}

#[test]
fn a_binding_ends_when_its_time_is_over_and_not_before() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.register_with(&mut scene, "Expires: 90\r\n");
    scene.advance(Duration::from_millis(89_999));
    assert_eq!(scene.bound("100"), 1);
    scene.advance(Duration::from_millis(1));
    assert_eq!((scene.bound("100"), scene.store.bindings.len()), (0, 0));
    assert_eq!(scene.ended, [pbx_core::registrar::Ended::Expired]);
    assert!(!scene.filter_knows("198.51.100.7", Some(5060)));
}
