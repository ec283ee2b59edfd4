//! How calls end, in every order in which that can happen.

use std::time::Duration;

use pbx_core::call::{Disposition, EndedBy};

use crate::{handset::USUAL, world::World};

const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

#[test]
fn a_caller_gives_up_before_the_phone_has_said_anything() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    alice.cancel(&mut world);
    assert_eq!(world.expect(&alice, "200").method, "CANCEL");
    alice.answered(&mut world, "487");
    // A CANCEL overtakes no INVITE (RFC 3261 §9.1).
    world.expect_nothing(&bob);
    bob.reply(&mut world, &invite, "180", "", "");
    let cancel = bob.stops(&mut world, &invite);
    assert_eq!(cancel.find("reason"), None);
    assert_eq!(cancel.header("via"), invite.header("via"));
    let record = world.record();
    assert_eq!((record.disposition, record.status, record.cause), (Disposition::Cancelled, 487, 16));
    assert_eq!((record.ended_by, record.ringing, record.billed), (Some(EndedBy::Caller), None, Duration::ZERO));
    world.check_nothing_left();
}

#[test]
fn a_caller_gives_up_while_it_rings() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    world.expect(&alice, "180");
    alice.cancel(&mut world);
    assert_eq!(world.expect(&alice, "200").method, "CANCEL");
    alice.answered(&mut world, "487");
    bob.stops(&mut world, &invite);
    let record = world.record();
    assert_eq!((record.disposition, record.ended_by), (Disposition::Cancelled, Some(EndedBy::Caller)));
    assert!(record.ringing.is_some() && record.answered.is_none());
    world.check_nothing_left();
}

#[test]
fn a_cancelled_phone_that_says_nothing_more_is_forgotten() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.rings(&mut world);
    world.expect(&alice, "180");
    alice.cancel(&mut world);
    world.expect(&alice, "200");
    alice.answered(&mut world, "487");
    world.check_nothing_left();
}

#[test]
fn an_answer_that_meets_the_cancel_is_acknowledged_and_ended() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    world.expect(&alice, "180");
    alice.cancel(&mut world);
    world.expect(&alice, "200");
    let cancel = world.expect(&bob, "CANCEL");
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    bob.reply(&mut world, &cancel, "200", "", "");
    world.expect(&bob, "ACK");
    bob.released(&mut world);
    alice.answered(&mut world, "487");
    world.expect_nothing(&alice);
    let record = world.record();
    assert_eq!((record.disposition, record.answered), (Disposition::Cancelled, None));
    world.check_nothing_left();
}

#[test]
fn a_cancel_that_comes_after_the_answer_ends_nothing() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.take(&mut world);
    alice.cancel(&mut world);
    alice.answered(&mut world, "200");
    assert_eq!(world.expect(&alice, "200").method, "CANCEL");
    world.expect_nothing(&bob);
    // It hangs up then.
    alice.hang_up(&mut world);
    bob.released(&mut world);
    assert_eq!(world.record().disposition, Disposition::Answered);
    world.check_nothing_left();
}

#[test]
fn a_caller_that_hangs_up_before_the_answer_has_its_invite_answered_too() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    let ringing = world.expect(&alice, "180");
    alice.dialog.as_mut().unwrap().remote = ringing.header("to").to_owned();
    alice.request(&mut world, "BYE", "", "");
    assert_eq!(world.expect(&alice, "200").method, "BYE");
    alice.answered(&mut world, "487");
    bob.stops(&mut world, &invite);
    assert_eq!(world.record().disposition, Disposition::Cancelled);
    world.check_nothing_left();
}

#[test]
fn a_callee_hangs_up_and_the_caller_is_told_once_it_has_acknowledged() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.take(&mut world);
    bob.hang_up(&mut world);
    assert_eq!(world.record().ended_by, Some(EndedBy::Callee));
    // RFC 3261 §15: no BYE before the ACK.
    alice.answered(&mut world, "200");
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn both_hang_up_at_once() {
    let (mut world, mut alice, mut bob) = World::talking();
    alice.hang_up(&mut world);
    let bye = world.expect(&bob, "BYE");
    bob.hang_up(&mut world);
    bob.reply(&mut world, &bye, "200", "", "");
    assert_eq!(world.record().ended_by, Some(EndedBy::Caller));
    world.check_nothing_left();
}

#[test]
fn an_answer_is_repeated_until_it_is_acknowledged() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.take(&mut world);
    world.expect(&alice, "180");
    let first = world.expect(&alice, "200");
    world.wait(Duration::from_millis(1600));
    assert_eq!(world.expect(&alice, "200"), first);
    assert_eq!(world.expect(&alice, "200"), first);
    world.expect_nothing(&alice);
    alice.acknowledge(&mut world, &first, "");
    world.wait(Duration::from_secs(60));
    world.expect_nothing(&alice);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn an_ack_that_was_lost_is_sent_again() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    let ack = world.expect(&bob, "ACK");
    assert_eq!((ack.uri(), ack.header("cseq")), ("sip:101@203.0.113.2:5062", "1 ACK"));
    for _ in 0..3 {
        bob.reply(&mut world, &invite, "200", &sdp, "");
        assert_eq!(world.expect(&bob, "ACK"), ack);
    }
    alice.answered(&mut world, "200");
    world.expect_nothing(&alice);
    bob.hang_up(&mut world);
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_call_that_the_caller_never_acknowledges_ends() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.take(&mut world);
    world.wait(Duration::from_millis(31_900));
    world.expect_nothing(&bob);
    world.wait(Duration::from_millis(200));
    bob.released(&mut world);
    let mut last = None;
    while let Some(got) = world.read(&alice) {
        last = Some(got.what);
    }
    assert_eq!(last.as_deref(), Some("BYE"));
    let record = world.record();
    assert_eq!((record.ended_by, record.disposition), (Some(EndedBy::System), Disposition::Answered));
    assert!(record.why.contains("acknowledged"), "{}", record.why);
    world.check_nothing_left();
}

#[test]
fn a_callee_that_hung_up_and_a_caller_that_never_acknowledges_leave_nothing() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.take(&mut world);
    bob.hang_up(&mut world);
    world.wait(Duration::from_secs(33));
    let mut last = None;
    while let Some(got) = world.read(&alice) {
        last = Some(got.what);
    }
    assert_eq!(last.as_deref(), Some("BYE"));
    world.check_nothing_left();
}

#[test]
fn phones_that_say_nothing_to_a_bye_are_forgotten() {
    let (mut world, mut alice, _) = World::talking();
    alice.hang_up(&mut world);
    world.check_nothing_left();
}

#[test]
fn the_phone_declines_while_another_one_was_quicker() {
    let (mut world, mut alice, mut bob) = World::two();
    let mut desk = world.phone("101", "203.0.113.3:5062");
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let here = bob.rings(&mut world);
    let there = desk.rings(&mut world);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &here, "200", &sdp, "");
    world.expect(&bob, "ACK");
    let cancel = world.expect(&desk, "CANCEL");
    assert_eq!(cancel.header("reason"), ELSEWHERE);
    // It took the call in the same moment.
    let sdp = desk.sdp(USUAL, "sendrecv");
    desk.reply(&mut world, &there, "200", &sdp, "");
    world.expect(&desk, "ACK");
    assert_eq!(desk.released(&mut world).header("reason"), ELSEWHERE);
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn an_administrator_ends_a_call_in_every_state() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    let hang_up = |world: &mut World| {
        let id = world.record().id;
        let sent = world.scene.hang_up(id).expect("a call");
        world.post(sent);
        assert!(world.scene.hang_up(id).is_none());
    };
    hang_up(&mut world);
    alice.answered(&mut world, "480");
    bob.stops(&mut world, &invite);
    let record = world.record();
    assert_eq!((record.disposition, record.ended_by), (Disposition::Failed, Some(EndedBy::Administrator)));
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.take(&mut world);
    alice.answered(&mut world, "200");
    hang_up(&mut world);
    alice.released(&mut world);
    bob.released(&mut world);
    assert_eq!(world.record().ended_by, Some(EndedBy::Administrator));
    world.check_nothing_left();
}
