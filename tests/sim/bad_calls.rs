//! Calls that are refused, and why; what is malformed, impossible or not allowed.

use std::time::Duration;

use pbx_core::call::{Disposition, EndedBy};

use crate::{
    handset::{Got, Handset, USUAL},
    phone::Phone,
    scene::{APPLIANCE, udp},
    world::World,
};

/// 100 calls a number and is refused; the record says so, and nothing is left.
fn refused(world: &mut World, alice: &mut Handset, number: &str, sdp: &str, more: &str, status: &str) -> Got {
    let before = world.scene.store.calls.len();
    alice.call_with(world, number, sdp, more);
    let got = alice.answered(world, status);
    assert_eq!(world.scene.store.calls.len(), before + 1, "one row an attempt");
    let record = world.record();
    assert_eq!((record.status.to_string(), record.ended_by), (status.to_owned(), Some(EndedBy::System)));
    assert!(record.ended.is_some() && record.answered.is_none() && !record.why.is_empty(), "{record:?}");
    assert_eq!(world.scene.pbx.call_counts().0, 0);
    got
}

#[test]
fn offers_that_cannot_be_taken_are_refused_before_anybody_rings() {
    let (mut world, mut alice, bob) = World::two();
    let good = alice.sdp(USUAL, "sendrecv");
    for (sdp, status) in [
        ("v=0\r\nnonsense".to_owned(), "400"),
        (good.replace("v=0", "v=7"), "400"),
        (good.replace("c=IN IP4 198.51.100.1", "c=IN"), "400"),
        (good.replace("m=audio", "m=video"), "488"),
        (good.replace("RTP/AVP", "RTP/SAVPF"), "488"),
        (good.clone() + &"m=video 5000 RTP/AVP 96\r\n".repeat(500), "488"),
    ] {
        refused(&mut world, &mut alice, "101", &sdp, "", status);
    }
    world.expect_nothing(&bob);
    assert_eq!(world.scene.media.freed, 0);
    world.check_nothing_left();
}

#[test]
fn a_body_that_is_no_description_is_refused() {
    let (mut world, mut alice, bob) = World::two();
    alice.body_type = "text/plain";
    let got = refused(&mut world, &mut alice, "101", "hello", "", "415");
    assert_eq!(got.header("accept"), "application/sdp");
    world.expect_nothing(&bob);
}

#[test]
fn phones_without_a_common_codec_do_not_talk() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp("0 101", "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    assert!(invite.body.contains(" RTP/AVP 0 101\r\n"), "{}", invite.body);
    bob.reply(&mut world, &invite, "488", "", "");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "488");
    assert_eq!((world.record().cause, world.record().disposition), (65, Disposition::Failed));
    world.check_nothing_left();
}

#[test]
fn an_answer_that_contradicts_the_offer_ends_the_phone_that_gave_it() {
    for case in ["codec", "lines", "refused", "none", "malformed"] {
        let (mut world, mut alice, mut bob) = World::two();
        let sdp = alice.sdp("0 101", "sendrecv");
        alice.call(&mut world, "101", &sdp);
        let invite = bob.rings(&mut world);
        let answer = match case {
            "codec" => bob.sdp("8 101", "sendrecv"),
            "lines" => bob.sdp("0 101", "sendrecv") + "m=video 5000 RTP/AVP 96\r\n",
            "refused" => bob.sdp("0 101", "sendrecv").replace("m=audio 4000", "m=audio 0"),
            "none" => String::new(),
            _ => "v=0\r\nnonsense".to_owned(),
        };
        bob.reply(&mut world, &invite, "200", &answer, "");
        world.expect(&bob, "ACK");
        bob.released(&mut world);
        alice.answered(&mut world, "488");
        let record = world.record();
        assert_eq!((record.status, record.disposition, record.answered), (488, Disposition::Failed, None), "{case}");
        world.check_nothing_left();
    }
}

#[test]
fn an_answer_that_nobody_can_be_told_is_no_answer() {
    // The caller offers nothing, and says in its ACK what the phone does not speak.
    let (mut world, mut alice, mut bob) = World::two();
    alice.call(&mut world, "101", "");
    let invite = bob.rung(&mut world);
    assert!(invite.body.contains("PCMU/8000") && invite.body.contains("PCMA/8000"), "{}", invite.body);
    let sdp = bob.sdp("0 101", "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    let sdp = alice.sdp("8 101", "sendrecv");
    let ok = alice.answered_with(&mut world, "200", &sdp);
    assert!(ok.body.contains(" RTP/AVP 0 101\r\n"), "{}", ok.body);
    alice.released(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_caller_that_offers_nothing_answers_in_its_ack() {
    let (mut world, mut alice, mut bob) = World::two();
    alice.call(&mut world, "101", "");
    bob.take(&mut world);
    let sdp = alice.sdp(USUAL, "sendrecv");
    let ok = alice.answered_with(&mut world, "200", &sdp);
    assert_eq!(
        world.hears(ok.port()),
        Some(("198.51.100.1:4000".parse().unwrap(), "203.0.113.2:4000".parse().unwrap()))
    );
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
    let (mut world, mut alice, mut bob) = World::two();
    alice.call(&mut world, "101", "");
    bob.take(&mut world);
    alice.answered(&mut world, "200");
    alice.released(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn numbers_that_lead_nowhere() {
    let (mut world, mut alice, _) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    for (number, status, why) in [
        ("555", "404", "nobody has"),
        // Disabled, and of another tenant.
        ("199", "404", "nobody has"),
        ("500", "404", "nobody has"),
        // Nobody is registered.
        ("150", "480", "no phone"),
        ("100", "486", "itself"),
    ] {
        refused(&mut world, &mut alice, number, &sdp, "", status);
        assert!(world.record().why.contains(why), "{number}: {}", world.record().why);
        assert_eq!(&*world.record().dialled, number);
    }
    assert_eq!(world.scene.media.freed, 0, "nobody was told of the ports");
    world.check_nothing_left();
}

#[test]
fn hops_and_loops_end() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.max_forwards = 0;
    refused(&mut world, &mut alice, "101", &sdp, "", "483");
    alice.max_forwards = 1;
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    assert_eq!(invite.header("max-forwards"), "0");
    // Bob's phone is a proxy that sends it back as a call of its own: what it was asked still waits.
    let via = format!("Via: {}\r\n", invite.header("via"));
    let sdp = bob.sdp(USUAL, "sendrecv");
    let mut back = bob.second_line();
    back.call_with(&mut world, "100", &sdp, &via);
    back.answered(&mut world, "482");
    alice.cancel(&mut world);
    world.expect(&alice, "200");
    alice.answered(&mut world, "487");
}

#[test]
fn when_no_port_is_free_calls_are_refused_and_counted() {
    let (mut world, mut alice, mut bob) = World::two();
    world.scene.media.left = 0;
    let sdp = alice.sdp(USUAL, "sendrecv");
    // The relay has none beside those that are ready, and none of these comes back.
    for _ in 0..128 {
        alice.call(&mut world, "101", &sdp);
        let invite = bob.rings(&mut world);
        world.expect(&alice, "180");
        alice.cancel(&mut world);
        world.expect(&alice, "200");
        alice.answered(&mut world, "487");
        bob.stops(&mut world, &invite);
    }
    let got = refused(&mut world, &mut alice, "101", &sdp, "", "503");
    assert!(got.find("retry-after").is_some());
    assert!(world.record().why.contains("filter.media_ports"), "{}", world.record().why);
    assert_eq!(world.scene.pbx.call_counts(), (0, 1));
    world.check_nothing_left();
}

#[test]
fn while_the_daemon_drains_no_call_begins_and_those_that_are_go_on() {
    let (mut world, mut alice, mut bob) = World::talking();
    world.scene.pbx.drain();
    let mut second = alice.second_line();
    let sdp = second.sdp(USUAL, "sendrecv");
    second.call(&mut world, "101", &sdp);
    let got = second.answered(&mut world, "503");
    assert!(got.find("retry-after").is_some());
    assert!(world.scene.pbx.is_closing());
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "INVITE", &sdp, "");
    let offered = world.expect(&bob, "INVITE");
    let sdp = bob.sdp(USUAL, "recvonly");
    bob.reply(&mut world, &offered, "200", &sdp, "");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    assert!(!world.scene.pbx.is_closing());
    world.check_nothing_left();
}

#[test]
fn an_extension_has_so_many_calls_and_no_more() {
    let mut world = World::with(|settings| settings.set("calls.per_extension", "2").unwrap());
    let mut alice = world.phone("100", "198.51.100.1:5060");
    let mut phones = ["101", "102", "103"].map(|number| world.phone(number, &format!("203.0.113.2:5{number}")));
    let mut lines = [alice.second_line(), alice.clone()];
    for (line, phone) in lines.iter_mut().zip(&mut phones) {
        let sdp = line.sdp(USUAL, "sendrecv");
        line.call(&mut world, &phone.phone.number.clone(), &sdp);
        phone.take(&mut world);
        line.answered(&mut world, "200");
    }
    let mut third = lines[0].second_line();
    let sdp = third.sdp(USUAL, "sendrecv");
    third.call(&mut world, "103", &sdp);
    third.answered(&mut world, "486");
    assert!(world.record().why.contains("calls.per_extension"));
    world.expect_nothing(&phones[2]);
    for (line, phone) in lines.iter_mut().zip(&mut phones) {
        line.hang_up(&mut world);
        phone.released(&mut world);
    }
    alice = third;
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "103", &sdp);
    phones[2].take(&mut world);
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    phones[2].released(&mut world);
    world.check_nothing_left();
}

#[test]
fn who_proves_nothing_leaves_no_record() {
    let (mut world, _, bob) = World::two();
    let mut phone = Phone::new("100", udp("198.51.100.66:5060"));
    let request = phone.outside("INVITE", "101");
    let answer = world.scene.ask(phone.flow, request).unwrap();
    phone.take_challenge(&answer);
    phone.password = "guess".into();
    for _ in 0..5 {
        let request = phone.outside("INVITE", "101");
        world.scene.ask(phone.flow, request);
    }
    world.wait(Duration::from_secs(1));
    world.expect_nothing(&bob);
    assert!(world.scene.store.calls.is_empty());
}

#[test]
fn whoever_is_called_by_many_may_call_all_the_same() {
    let mut world = World::with(|settings| settings.set("calls.per_extension", "1").unwrap());
    let mut callee = world.phone("101", "203.0.113.2:5062");
    let mut other = world.phone("102", "203.0.113.2:5064");
    let callers = [("100", "198.51.100.1:5060"), ("103", "198.51.100.1:5062")];
    let mut callers = callers.map(|(number, remote)| world.phone(number, remote));
    for caller in &mut callers {
        let sdp = caller.sdp(USUAL, "sendrecv");
        caller.call(&mut world, "101", &sdp);
        world.expect(&callee, "INVITE");
    }
    let sdp = callee.sdp(USUAL, "sendrecv");
    callee.call(&mut world, "102", &sdp);
    other.take(&mut world);
    callee.answered(&mut world, "200");
}

#[test]
fn a_phone_that_describes_the_appliances_own_ports_is_sent_nothing() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    // The ports that it was told itself: what is sent there would go round.
    let ours = APPLIANCE.split(':').next().unwrap();
    let ip = bob.flow.remote.ip().to_string();
    bob.media = invite.port();
    let loops = bob.sdp(USUAL, "sendrecv").replace(&ip, ours);
    bob.reply(&mut world, &invite, "200", &loops, "");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "200");
    let leg = world.scene.media.at(invite.port()).expect("a leg");
    assert!(leg.remote.is_none(), "{leg:?}");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}
