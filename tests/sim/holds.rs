//! Hold and resume, and other offers within a call.

use std::time::Duration;

use crate::{
    handset::{Got, Handset, USUAL, inner},
    world::World,
};

/// A phone offers something, the other one answers with `answer`; what each was told.
fn offer(world: &mut World, from: &mut Handset, to: &mut Handset, sdp: &str, answer: &str) -> (Got, Got) {
    from.request(world, "INVITE", sdp, "");
    let offered = world.expect(to, "INVITE");
    let sdp = to.sdp(USUAL, answer);
    to.reply(world, &offered, "200", &sdp, "");
    world.expect(to, "ACK");
    let answered = from.answered(world, "200");
    (offered, answered)
}

/// What the relay passes on of a phone's leg: what it sends, and what it receives.
fn passes(world: &World, port: u16) -> (bool, bool) {
    let remote = world.scene.media.at(port).unwrap().remote.clone().unwrap();
    (remote.sends, remote.receives)
}

fn finish(world: &mut World, alice: &mut Handset, bob: &mut Handset) {
    alice.hang_up(world);
    bob.released(world);
    world.expect_nothing(alice);
    world.expect_nothing(bob);
    world.check_nothing_left();
}

#[test]
fn a_phone_holds_and_the_other_is_told_and_resumes() {
    for (way, reverse) in [("sendonly", "recvonly"), ("inactive", "inactive")] {
        let (mut world, mut alice, mut bob) = World::talking();
        for _ in 0..2 {
            let sdp = bob.sdp(USUAL, way);
            let (offered, answered) = offer(&mut world, &mut bob, &mut alice, &sdp, reverse);
            assert!(offered.has_line(&format!("a={way}")), "{}", offered.body);
            assert!(answered.has_line(&format!("a={reverse}")), "{}", answered.body);
            assert_eq!(passes(&world, answered.port()), (way == "sendonly", false));
            assert_eq!(passes(&world, offered.port()), (false, way == "sendonly"));
            let states: Vec<&str> = world.scene.pbx.calls().next().unwrap().legs.iter().map(|leg| leg.state).collect();
            assert_eq!(states, ["held", "held"]);
            let sdp = bob.sdp(USUAL, "sendrecv");
            let (offered, answered) = offer(&mut world, &mut bob, &mut alice, &sdp, "sendrecv");
            assert!(offered.has_line("a=sendrecv") && answered.has_line("a=sendrecv"));
            assert_eq!(passes(&world, answered.port()), (true, true));
            assert_eq!(passes(&world, offered.port()), (true, true));
        }
        finish(&mut world, &mut alice, &mut bob);
    }
}

#[test]
fn a_hold_as_old_phones_write_it_is_one() {
    let (mut world, mut alice, mut bob) = World::talking();
    let sdp = alice.sdp(USUAL, "sendrecv").replace("c=IN IP4 198.51.100.1", "c=IN IP4 0.0.0.0");
    let (offered, answered) = offer(&mut world, &mut alice, &mut bob, &sdp, "recvonly");
    assert!(offered.has_line("a=sendonly") || offered.has_line("a=inactive"), "{}", offered.body);
    assert!(!passes(&world, answered.port()).1);
    let sdp = alice.sdp(USUAL, "sendrecv");
    offer(&mut world, &mut alice, &mut bob, &sdp, "sendrecv");
    assert_eq!(passes(&world, answered.port()), (true, true));
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn who_only_moves_is_answered_here() {
    let (mut world, mut alice, mut bob) = World::talking();
    alice.media = 4444;
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.request(&mut world, "INVITE", &sdp, "");
    world.expect_nothing(&bob);
    let ok = alice.answered(&mut world, "200");
    assert_eq!(world.hears(ok.port()).unwrap().0.to_string(), "198.51.100.1:4444");
    let epoch = world.scene.media.at(ok.port()).unwrap().remote.as_ref().unwrap().epoch;
    assert!(epoch > 0);
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn an_update_holds_as_well() {
    let (mut world, mut alice, mut bob) = World::talking();
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "UPDATE", &sdp, "");
    let offered = world.expect(&bob, "INVITE");
    assert!(offered.has_line("a=sendonly"));
    world.expect_nothing(&alice);
    let sdp = bob.sdp(USUAL, "recvonly");
    bob.reply(&mut world, &offered, "200", &sdp, "");
    world.expect(&bob, "ACK");
    let ok = world.expect(&alice, "200");
    assert!(ok.method == "UPDATE" && ok.has_line("a=recvonly"), "{ok:?}");
    // Without a description it is a sign of life.
    alice.request(&mut world, "UPDATE", "", "");
    assert_eq!(world.expect(&alice, "200").body, "");
    world.expect_nothing(&bob);
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn an_update_that_waits_too_long_is_taken_by_nobody_and_the_other_phone_is_told_how_it_is() {
    let (mut world, mut alice, mut bob) = World::talking();
    let before = world.scene.media.legs.clone();
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "UPDATE", &sdp, "");
    let offered = world.expect(&bob, "INVITE");
    // It asks its user, for longer than alice waits.
    bob.reply(&mut world, &offered, "100", "", "");
    world.wait(Duration::from_secs(40));
    world.expect_nothing(&alice);
    let sdp = bob.sdp(USUAL, "recvonly");
    bob.reply(&mut world, &offered, "200", &sdp, "");
    world.expect(&bob, "ACK");
    let again = world.expect(&bob, "INVITE");
    assert!(again.has_line("a=sendrecv"), "{}", again.body);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &again, "200", &sdp, "");
    world.expect(&bob, "ACK");
    world.expect_nothing(&alice);
    let passed = |world: &World| {
        let legs = world.scene.media.legs.values();
        legs.map(|leg| leg.remote.as_ref().map(|remote| (remote.sends, remote.receives))).collect::<Vec<_>>()
    };
    let of_before = before.values().map(|leg| leg.remote.as_ref().map(|remote| (remote.sends, remote.receives)));
    assert_eq!(passed(&world), of_before.collect::<Vec<_>>());
    // And alice may offer again.
    let sdp = alice.sdp(USUAL, "sendonly");
    offer(&mut world, &mut alice, &mut bob, &sdp, "recvonly");
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn an_offer_moves_the_target_and_the_signs_of_life_only_when_it_is_taken() {
    let (mut world, mut alice, mut bob) = World::talking();
    let (old, new) = (alice.phone.contact.clone(), "<sip:100@198.51.100.1:4711>".to_owned());
    alice.phone.contact.clone_from(&new);
    let video = alice.sdp(USUAL, "sendrecv").replace("m=audio", "m=video");
    alice.request(&mut world, "INVITE", &video, "Session-Expires: 7200\r\nSupported: timer\r\n");
    alice.answered(&mut world, "488");
    alice.phone.contact.clone_from(&old);
    // The sign of life is asked for when it was due, and where the phone was.
    world.wait(Duration::from_secs(899));
    assert!(!world.has_mail(&alice));
    world.wait(Duration::from_secs(1));
    for phone in [&mut alice, &mut bob] {
        let refresh = world.expect(phone, "INVITE");
        assert_eq!(refresh.uri(), inner(&phone.phone.contact));
        let sdp = phone.sdp(USUAL, "sendrecv");
        phone.reply(&mut world, &refresh, "200", &sdp, "");
        world.expect(phone, "ACK");
    }
    alice.phone.contact.clone_from(&new);
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.request(&mut world, "INVITE", &sdp, "");
    alice.answered(&mut world, "200");
    bob.hang_up(&mut world);
    assert_eq!(alice.released(&mut world).uri(), inner(&new));
    world.check_nothing_left();
}

#[test]
fn an_offer_that_the_other_phone_refuses_leaves_the_call_as_it_was() {
    for (refusal, told) in [("488", "488"), ("491", "491"), ("500", "500"), ("603", "500"), ("415", "488")] {
        let (mut world, mut alice, mut bob) = World::talking();
        let before = world.scene.media.legs.clone();
        let sdp = alice.sdp("0 8 9 101", "sendonly");
        alice.request(&mut world, "INVITE", &sdp, "");
        let offered = world.expect(&bob, "INVITE");
        bob.reply(&mut world, &offered, refusal, "", "");
        world.expect(&bob, "ACK");
        alice.answered(&mut world, told);
        assert_eq!(world.scene.media.legs, before, "{refusal}");
        // The next one may be taken.
        let sdp = alice.sdp(USUAL, "sendonly");
        offer(&mut world, &mut alice, &mut bob, &sdp, "recvonly");
        finish(&mut world, &mut alice, &mut bob);
    }
}

#[test]
fn an_offer_that_the_other_phone_never_answers_ends_the_call() {
    let (mut world, mut alice, bob) = World::talking();
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "INVITE", &sdp, "");
    world.expect(&bob, "INVITE");
    world.wait(Duration::from_secs(33));
    world.expect(&alice, "100");
    alice.answered(&mut world, "487");
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_phone_that_answers_an_offer_with_100_and_nothing_else_leaves_nothing() {
    let (mut world, mut alice, mut bob) = World::talking();
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "INVITE", &sdp, "");
    let offered = world.expect(&bob, "INVITE");
    bob.reply(&mut world, &offered, "100", "", "");
    world.wait(Duration::from_secs(60));
    world.expect(&alice, "100");
    alice.hang_up_in_an_offer(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn both_offer_at_once_and_both_are_asked_to_wait() {
    let (mut world, mut alice, mut bob) = World::talking();
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "INVITE", &sdp, "");
    let offered = world.expect(&bob, "INVITE");
    let sdp = bob.sdp(USUAL, "sendonly");
    bob.request(&mut world, "INVITE", &sdp, "");
    bob.answered(&mut world, "491");
    bob.reply(&mut world, &offered, "491", "", "");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "491");
    // After a while one of them is quicker.
    let sdp = alice.sdp(USUAL, "sendonly");
    offer(&mut world, &mut alice, &mut bob, &sdp, "recvonly");
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn a_second_offer_before_the_first_is_answered_waits() {
    let (mut world, mut alice, mut bob) = World::talking();
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "INVITE", &sdp, "");
    let first = alice.dialog.clone().unwrap().invite;
    let offered = world.expect(&bob, "INVITE");
    alice.request(&mut world, "UPDATE", &sdp, "");
    let refused = world.expect(&alice, "500");
    assert!(refused.method == "UPDATE" && refused.find("retry-after").is_some());
    alice.dialog.as_mut().unwrap().invite = first;
    let sdp = bob.sdp(USUAL, "recvonly");
    bob.reply(&mut world, &offered, "200", &sdp, "");
    world.expect(&bob, "ACK");
    alice.answered_numbered(&mut world, "200");
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn an_invite_without_a_description_is_offered_one_and_answers_in_its_ack() {
    let (mut world, mut alice, mut bob) = World::talking();
    alice.media = 4448;
    alice.request(&mut world, "INVITE", "", "");
    world.expect_nothing(&bob);
    let sdp = alice.sdp(USUAL, "sendrecv");
    let ok = alice.answered_with(&mut world, "200", &sdp);
    assert!(ok.has_line("a=sendrecv") && ok.body.contains("telephone-event"), "{}", ok.body);
    assert_eq!(world.hears(ok.port()).unwrap().0.to_string(), "198.51.100.1:4448");
    world.expect_nothing(&bob);
    // And with an answer that holds, the other phone is told.
    alice.request(&mut world, "INVITE", "", "");
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.answered_with(&mut world, "200", &sdp);
    let offered = world.expect(&bob, "INVITE");
    assert!(offered.has_line("a=sendonly"), "{}", offered.body);
    let sdp = bob.sdp(USUAL, "recvonly");
    bob.reply(&mut world, &offered, "200", &sdp, "");
    world.expect(&bob, "ACK");
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn an_ack_without_the_answer_that_it_owes_ends_the_call() {
    let (mut world, mut alice, mut bob) = World::talking();
    alice.request(&mut world, "INVITE", "", "");
    alice.answered(&mut world, "200");
    alice.released(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn what_cannot_be_taken_of_an_offer_is_refused_and_the_call_goes_on() {
    let (mut world, mut alice, mut bob) = World::talking();
    let good = alice.sdp(USUAL, "sendrecv");
    for (sdp, status) in [
        ("v=1\r\nnonsense".to_owned(), "400"),
        (good.replace("m=audio", "m=video"), "488"),
        (good.clone() + &"m=video 5000 RTP/AVP 96\r\n".repeat(500), "488"),
        (good.replace("RTP/AVP", "RTP/SAVP"), "488"),
    ] {
        alice.request(&mut world, "INVITE", &sdp, "");
        alice.answered(&mut world, status);
        world.expect_nothing(&bob);
    }
    let text = alice.request_with("INVITE", &good, "").replace("application/sdp", "text/plain");
    alice.dialog.as_mut().unwrap().invite = Some(Got::of(&text));
    let flow = alice.flow;
    world.say(flow, &text);
    alice.answered(&mut world, "415");
    finish(&mut world, &mut alice, &mut bob);
}

#[test]
fn who_holds_and_hangs_up_lets_the_offer_go() {
    let (mut world, mut alice, mut bob) = World::talking();
    let sdp = alice.sdp(USUAL, "sendonly");
    alice.request(&mut world, "INVITE", &sdp, "");
    let offered = world.expect(&bob, "INVITE");
    alice.hang_up_in_an_offer(&mut world);
    bob.released(&mut world);
    bob.reply(&mut world, &offered, "487", "", "");
    world.expect(&bob, "ACK");
    world.check_nothing_left();
    // And when it is the other one that hangs up.
    let (mut world, mut alice, mut bob) = World::talking();
    alice.request(&mut world, "INVITE", &sdp, "");
    let offered = world.expect(&bob, "INVITE");
    bob.request(&mut world, "BYE", "", "");
    assert_eq!(world.expect(&bob, "200").method, "BYE");
    bob.reply(&mut world, &offered, "487", "", "");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "500");
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_hold_that_is_taken_back_is_ended_and_the_other_phone_is_told_how_it_is() {
    let (mut world, mut alice, mut bob) = World::talking();
    let held = bob.sdp(USUAL, "sendonly");
    bob.request(&mut world, "INVITE", &held, "");
    let offered = world.expect(&alice, "INVITE");
    bob.cancel(&mut world);
    let mut got: Vec<String> = Vec::new();
    while let Some(one) = world.read(&bob) {
        got.push(format!("{} {}", one.what, one.method));
        if one.what == "487" {
            bob.acknowledge(&mut world, &one, "");
        }
    }
    assert!(got.contains(&"200 CANCEL".to_owned()) && got.contains(&"487 INVITE".to_owned()), "{got:?}");
    // It took the offer all the same, and is asked to talk again.
    let answer = alice.sdp(USUAL, "recvonly");
    alice.reply(&mut world, &offered, "200", &answer, "");
    world.expect(&alice, "ACK");
    let again = world.expect(&alice, "INVITE");
    assert!(again.has_line("a=sendrecv"), "{}", again.body);
    let answer = alice.sdp(USUAL, "sendrecv");
    alice.reply(&mut world, &again, "200", &answer, "");
    world.expect(&alice, "ACK");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}
