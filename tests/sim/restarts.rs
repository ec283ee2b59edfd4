//! What outlives the daemon, and what ends while it runs because somebody changed something.

use std::{sync::Arc, time::Duration};

use pbx_core::{
    pbx::Input,
    registrar::Ended,
    transport::{ConnectionId, Protocol, TransportId},
};

use crate::{
    phone::Phone,
    scene::{DISABLED, Scene, TCP, UDP, extension, password, tcp, tls, udp},
};

#[test]
fn after_a_restart_udp_phones_are_reachable_and_others_when_they_return() {
    let mut scene = Scene::new();
    let mut desk = Phone::new("100", udp("198.51.100.7:5060"));
    desk.register_with(&mut scene, "Expires: 3600\r\n");
    let mut mobile = Phone::new("101", tcp("203.0.113.9:40000", 1));
    mobile.register_with(&mut scene, "Expires: 3600\r\n");
    let mut brief = Phone::new("102", udp("198.51.100.8:5060"));
    brief.register_with(&mut scene, "Expires: 90\r\n");
    scene.restart(Duration::from_secs(100));
    assert_eq!(scene.reachable("100"), [desk.flow.remote]);
    assert_eq!((scene.reachable("101").len(), scene.bound("101")), (0, 1));
    assert_eq!((scene.bound("102"), scene.store.bindings.len()), (0, 2));
    assert_eq!(scene.ended, [Ended::Expired]);
    assert!(scene.filter_knows("198.51.100.7", Some(5060)) && scene.knows("198.51.100.7"));
    assert!(scene.filter_knows("203.0.113.9", None) && !scene.filter_knows("203.0.113.9", Some(40000)));
    assert!(!scene.filter_knows("198.51.100.8", Some(5060)));
    assert!(scene.knows("198.51.100.8"), "its password was right today");
    // Whose nonce is of the former run is asked for a new proof, not for the password.
    let request = desk.registration("");
    let answer = scene.ask(desk.flow, request).unwrap();
    assert_eq!((answer.status, answer.is_stale(), scene.why["foreign_nonce"]), (401, true, 1));
    desk.take_challenge(&answer);
    let id = *scene.store.bindings.keys().next().unwrap();
    assert_eq!(desk.register(&mut scene).status, 200);
    assert!(scene.store.bindings.contains_key(&id), "it is the same binding");
    mobile.flow = tcp("203.0.113.9:40001", 1);
    assert_eq!(mobile.register(&mut scene).status, 200);
    assert_eq!(scene.reachable("101"), [mobile.flow.remote]);
    assert_eq!(scene.bound("101"), 1);
    scene.restart(Duration::from_secs(3600));
    assert_eq!((scene.bound("100"), scene.bound("101"), scene.store.bindings.len()), (0, 0, 0));
}

#[test]
fn after_a_restart_nobody_is_reachable_where_nobody_listens_any_more() {
    for listens in [None, Some((Protocol::Udp, 5070)), Some((Protocol::Tcp, 5060)), Some((Protocol::Udp, 5060))] {
        let mut scene = Scene::new();
        let mut desk = Phone::behind("100", "10.0.0.9:5060", udp("198.51.100.7:61000"));
        desk.register(&mut scene);
        scene.transports = listens.map(|listens| (UDP, listens)).into_iter().collect();
        scene.restart(Duration::from_secs(1));
        let is_reachable = listens == Some((Protocol::Udp, 5060));
        assert_eq!((scene.reachable("100").len(), scene.bound("100")), (usize::from(is_reachable), 1), "{listens:?}");
        assert_eq!(scene.filter_knows("198.51.100.7", Some(61000)), is_reachable);
        assert_eq!(scene.advance(Duration::from_secs(60)).is_empty(), !is_reachable, "keep-alives");
        scene.check_agreement();
    }
}

#[test]
fn a_register_that_was_answered_before_a_restart_is_taken_once_more_and_changes_nothing() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.register(&mut scene);
    let before = scene.store.bindings.clone();
    scene.restart(Duration::from_millis(300));
    // With the proof that the new run asks for, but the order of the request that was answered.
    phone.cseq -= 2;
    let answer = phone.register(&mut scene);
    assert_eq!((answer.status, answer.all("contact").len()), (200, 1), "{}", answer.text);
    assert_eq!(scene.store.bindings, before);
}

#[test]
fn what_was_forgotten_by_a_restart_does_not_let_a_copy_in() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.register(&mut scene);
    scene.restart(Duration::from_millis(10));
    let before = scene.state();
    phone.nc = 0;
    phone.contact = "<sip:100@198.51.100.66>".into();
    let request = phone.registration("");
    let answer = scene.ask(udp("198.51.100.66:5060"), request).unwrap();
    assert_eq!((answer.status, answer.is_stale()), (401, true));
    assert_eq!(scene.state(), before);
}

#[test]
fn an_extension_that_is_removed_disabled_or_given_another_password_is_gone_at_once() {
    type Change = fn(&mut pbx_core::directory::Extension);
    let disable: Change = |extension| extension.enabled = false;
    let renew: Change = |extension| extension.ha1 = self::extension(1, "100", "a new secret").ha1;
    for change in [None, Some(disable), Some(renew)] {
        let mut scene = Scene::new();
        let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
        let mut other = Phone::new("101", udp("198.51.100.8:5060"));
        phone.register(&mut scene);
        other.register(&mut scene);
        scene.change_extensions(|extensions| match change {
            None => extensions.retain(|extension| extension.number != "100" || extension.tenant.0 != 1),
            Some(change) => extensions.iter_mut().filter(|one| one.number == "100").for_each(change),
        });
        assert_eq!((scene.bound("100"), scene.bound("101")), (0, 1));
        assert_eq!(scene.ended, [Ended::Revoked]);
        assert!(!scene.filter_knows("198.51.100.7", None) && !scene.filter_knows("198.51.100.7", Some(5060)));
        assert!(!scene.knows("198.51.100.7") && scene.knows("198.51.100.8"));
        assert_eq!((scene.store.bindings.len(), scene.store.successes.len()), (1, 1));
        // What it knew opens nothing any more.
        let request = phone.registration("");
        let answer = scene.ask(phone.flow, request).unwrap();
        assert_eq!((answer.status, answer.is_stale()), (401, false));
        assert_eq!(scene.bound("100"), 0);
        // A change of nothing that counts ends nothing.
        scene.change_extensions(|extensions| extensions.iter_mut().for_each(|one| one.name = "Renamed".into()));
        assert_eq!(scene.bound("101"), 1);
    }
}

#[test]
fn an_extension_that_went_while_nobody_ran_is_gone_after_the_restart() {
    let mut scene = Scene::new();
    Phone::new("100", udp("198.51.100.7:5060")).register_with(&mut scene, "Expires: 3600\r\n");
    let stored = scene.store.clone();
    scene.change_extensions(|extensions| extensions.retain(|extension| extension.number != "100"));
    scene.store = stored;
    scene.restart(Duration::from_secs(1));
    assert_eq!(scene.bound("100"), 0);
    assert!(scene.store.bindings.is_empty() && scene.store.successes.is_empty() && scene.filter.is_empty());
}

#[test]
fn a_request_that_was_judged_before_its_extension_went_is_not_carried_out_after() {
    for renew in [false, true] {
        let mut scene = Scene::new();
        let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
        let answer = scene.ask(phone.flow, phone.registration("")).unwrap();
        phone.take_challenge(&answer);
        let request = phone.registration("");
        let waiting = scene.wait_in_queue(phone.flow, request.as_bytes());
        scene.change_extensions(|extensions| {
            let one = extensions.iter_mut().find(|one| one.number == "100").unwrap();
            match renew {
                true => one.ha1 = extension(1, "100", "a new secret").ha1,
                false => one.enabled = false,
            }
        });
        scene.give(waiting);
        assert_eq!(scene.bound("100"), 0, "{renew}");
        assert!(scene.store.successes.is_empty() && scene.filter.is_empty());
        // On a stream nobody would send it again: it is asked for another proof, and what it knows is none any more.
        let asked = scene.advance(Duration::ZERO);
        assert_eq!(asked.len(), 1, "{renew}");
        phone.take_challenge(&asked[0].answer());
        let request = phone.registration("");
        let answer = scene.ask(phone.flow, request).unwrap();
        assert_eq!((answer.status, answer.is_stale()), (401, false), "{renew}");
    }
}

#[test]
fn the_first_register_of_a_new_extension_may_come_before_the_directory_does() {
    let mut scene = Scene::new();
    let before = Arc::clone(&scene.directory);
    scene.change_extensions(|extensions| extensions.push(extension(1, "300", &password("300"))));
    let mut phone = Phone::new("300", tls("198.51.100.7:40000", 1));
    let answer = scene.ask(phone.flow, phone.registration("")).unwrap();
    phone.take_challenge(&answer);
    let request = phone.registration("");
    let waiting = scene.wait_in_queue(phone.flow, request.as_bytes());
    // The gate has the new directory, the core the one before.
    scene.pbx.set_directory(before, scene.now, |_| false);
    scene.give(waiting);
    let asked = scene.advance(Duration::ZERO);
    assert_eq!((asked.len(), asked[0].flow, asked[0].answer().is_stale()), (1, phone.flow, true));
    scene.change_extensions(|_| {});
    phone.take_challenge(&asked[0].answer());
    assert_eq!(phone.register(&mut scene).status, 200);
}

#[test]
fn a_disabled_extension_that_registers_is_refused_and_leaves_nothing() {
    let mut scene = Scene::new();
    let before = scene.state();
    assert_eq!(Phone::new(DISABLED, udp("198.51.100.7:5060")).register(&mut scene).status, 401);
    assert_eq!(scene.state(), before);
}

#[test]
fn a_closed_connection_keeps_the_binding_and_loses_the_way_to_it() {
    let mut scene = Scene::new();
    let mut phone = Phone::new("100", tls("203.0.113.9:40000", 7));
    phone.register(&mut scene);
    assert!(scene.filter_knows("203.0.113.9", Some(40000)));
    scene.give(Input::ConnectionClosed(ConnectionId(7)));
    assert_eq!((scene.reachable("100").len(), scene.bound("100")), (0, 1));
    assert!(!scene.filter_knows("203.0.113.9", Some(40000)) && scene.filter_knows("203.0.113.9", None));
    phone.flow = tls("203.0.113.9:40002", 8);
    phone.register(&mut scene);
    assert_eq!(scene.reachable("100"), [phone.flow.remote]);
    // The time of a phone that never returns ends like any other's.
    scene.give(Input::ConnectionClosed(ConnectionId(8)));
    scene.advance(Duration::from_secs(300));
    assert_eq!(scene.bound("100"), 0);
}

#[test]
fn a_closed_transport_loses_its_phones_and_no_others() {
    let mut scene = Scene::new();
    let mut desk = Phone::behind("100", "10.0.0.9:5060", udp("198.51.100.7:61000"));
    desk.register(&mut scene);
    let mut mobile = Phone::new("101", tcp("203.0.113.9:40000", 1));
    mobile.register(&mut scene);
    scene.give(Input::TransportClosed(UDP));
    assert_eq!((scene.reachable("100").len(), scene.bound("100")), (0, 1));
    assert_eq!(scene.reachable("101").len(), 1);
    assert!(scene.advance(Duration::from_secs(60)).is_empty(), "no keep-alives without a socket");
    desk.register(&mut scene);
    assert_eq!(scene.reachable("100"), [desk.flow.remote]);
    scene.give(Input::TransportClosed(TCP));
    scene.give(Input::TransportClosed(TransportId(99)));
    assert_eq!((scene.reachable("100").len(), scene.reachable("101").len()), (1, 0));
}
