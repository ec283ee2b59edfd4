//! Provisional answers that are acknowledged (RFC 3262).

use std::time::Duration;

use crate::handset::{Got, Handset, USUAL, World};

fn prack(world: &mut World, phone: &mut Handset, got: &Got, rseq: &str) {
    let dialog = phone.dialog.as_mut().unwrap();
    dialog.remote = got.header("to").to_owned();
    let number = got.header("cseq").split(' ').next().unwrap();
    let more = format!("RAck: {rseq} {number} INVITE\r\n");
    phone.request(world, "PRACK", "", &more);
}

/// 100 calls 101 and wants reliable answers; 101 rings.
fn ringing() -> (World, Handset, Handset, Got, Got) {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call_with(&mut world, "101", &sdp, "Require: 100rel\r\n");
    let invite = bob.rings(&mut world);
    let ringing = world.expect(&alice, "180");
    assert_eq!((ringing.header("require"), ringing.header("rseq")), ("100rel", "1"));
    (world, alice, bob, invite, ringing)
}

#[test]
fn a_caller_that_wants_it_is_told_until_it_says_that_it_knows() {
    let (mut world, mut alice, mut bob, invite, ringing) = ringing();
    world.wait(Duration::from_millis(1600));
    assert_eq!(world.expect(&alice, "180"), ringing);
    assert_eq!(world.expect(&alice, "180"), ringing);
    prack(&mut world, &mut alice, &ringing, "2");
    world.expect(&alice, "481");
    prack(&mut world, &mut alice, &ringing, "1");
    world.expect(&alice, "200");
    world.wait(Duration::from_secs(40));
    world.expect_nothing(&alice);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    alice.dialog.as_mut().unwrap().cseq = 2;
    alice.answered(&mut world, "200");
    alice.dialog.as_mut().unwrap().cseq = 4;
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_caller_that_never_says_so_is_given_up() {
    let (mut world, mut alice, mut bob, invite, _) = ringing();
    world.wait(Duration::from_secs(32));
    alice.answered(&mut world, "504");
    bob.stops(&mut world, &invite);
    world.check_nothing_left();
}

#[test]
fn the_final_answer_may_be_quicker_than_its_word() {
    let (mut world, mut alice, mut bob, invite, ringing) = ringing();
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    let ok = world.expect(&alice, "200");
    prack(&mut world, &mut alice, &ringing, "1");
    assert_eq!(world.expect(&alice, "200").method, "PRACK");
    let last = alice.dialog.as_ref().unwrap().cseq;
    alice.dialog.as_mut().unwrap().cseq = 2;
    alice.acknowledge(&mut world, &ok, "");
    alice.dialog.as_mut().unwrap().cseq = last;
    world.wait(Duration::from_secs(40));
    world.expect_nothing(&alice);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn what_a_phone_says_reliably_is_acknowledged_once() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    let reliable = |rseq: u32| format!("Require: 100rel\r\nRSeq: {rseq}\r\n");
    bob.reply(&mut world, &invite, "180", "", &reliable(7));
    let prack = world.expect(&bob, "PRACK");
    assert_eq!(prack.header("rack"), "7 1 INVITE");
    assert_eq!(prack.uri(), "sip:101@203.0.113.2:5062");
    bob.reply(&mut world, &prack, "200", "", "");
    world.expect(&alice, "180");
    // Again, and one that is not its turn.
    bob.reply(&mut world, &invite, "180", "", &reliable(7));
    bob.reply(&mut world, &invite, "183", "", &reliable(9));
    world.expect_nothing(&bob);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "183", &sdp, &reliable(8));
    let prack = world.expect(&bob, "PRACK");
    assert_eq!((prack.header("rack"), prack.header("cseq")), ("8 1 INVITE", "3 PRACK"));
    bob.reply(&mut world, &prack, "200", "", "");
    world.expect(&alice, "183");
    // The answer was in it.
    bob.reply(&mut world, &invite, "200", "", "");
    let ack = world.expect(&bob, "ACK");
    assert_eq!(ack.header("cseq"), "1 ACK");
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_phone_that_insists_on_it_is_called_again() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    assert!(!invite.header("supported").contains("100rel"));
    bob.reply(&mut world, &invite, "421", "", "Require: 100rel\r\n");
    world.expect(&bob, "ACK");
    let again = bob.rung(&mut world);
    assert!(again.header("supported").contains("100rel") && again.tag("to").is_none(), "{again:?}");
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &again, "200", &sdp, "");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}
