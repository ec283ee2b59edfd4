//! Session timers: phones that refresh, phones that are refreshed, and phones that fall silent.

use std::time::Duration;

use pbx_core::call::EndedBy;

use crate::handset::{Handset, USUAL, World};

const TIMER: &str = "Supported: timer\r\n";

/// A call whose caller and callee say this in INVITE and 200.
fn talking(caller: &str, callee: &str) -> (World, Handset, Handset) {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call_with(&mut world, "101", &sdp, caller);
    let invite = bob.rung(&mut world);
    assert_eq!((invite.header("session-expires"), invite.header("min-se")), ("1800", "90"));
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, callee);
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "200");
    (world, alice, bob)
}

/// A phone gives a sign of life by UPDATE.
fn refreshes(world: &mut World, phone: &mut Handset) {
    phone.request(world, "UPDATE", "", "Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n");
    let ok = world.expect(phone, "200");
    assert_eq!(ok.header("session-expires"), "1800;refresher=uac");
}

/// It is asked for one.
fn is_refreshed(world: &mut World, phone: &mut Handset, by: &str) {
    let refresh = world.expect(phone, by);
    assert_eq!(refresh.header("session-expires"), "1800;refresher=uac");
    let body = if by == "INVITE" { phone.sdp(USUAL, "sendrecv") } else { String::new() };
    phone.reply(world, &refresh, "200", &body, "");
    if by == "INVITE" {
        world.expect(phone, "ACK");
    }
}

#[test]
fn phones_that_refresh_keep_the_call() {
    let (mut world, mut alice, mut bob) =
        talking(TIMER, "Supported: timer\r\nSession-Expires: 1800;refresher=uas\r\nRequire: timer\r\n");
    for _ in 0..5 {
        world.wait(Duration::from_secs(900));
        refreshes(&mut world, &mut alice);
        refreshes(&mut world, &mut bob);
    }
    alice.hang_up(&mut world);
    bob.released(&mut world);
    assert_eq!(world.record().billed, Duration::from_secs(4500));
    world.check_nothing_left();
}

#[test]
fn phones_that_know_no_timers_are_asked_by_update_or_invite() {
    let (mut world, mut alice, mut bob) = talking("Allow: INVITE, UPDATE\r\n", "");
    for _ in 0..3 {
        world.wait(Duration::from_secs(900));
        is_refreshed(&mut world, &mut alice, "UPDATE");
        is_refreshed(&mut world, &mut bob, "INVITE");
        world.expect_nothing(&alice);
        world.expect_nothing(&bob);
    }
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_phone_that_refreshes_no_more_ends_the_call() {
    let (mut world, mut alice, mut bob) = talking(TIMER, "Allow: UPDATE\r\n");
    world.wait(Duration::from_secs(900));
    is_refreshed(&mut world, &mut bob, "UPDATE");
    world.wait(Duration::from_secs(868));
    alice.released(&mut world);
    bob.released(&mut world);
    let record = world.record();
    assert_eq!((record.ended_by, record.billed), (Some(EndedBy::System), Duration::from_secs(1768)));
    assert!(record.why.contains("calls.session_time"), "{}", record.why);
    world.check_nothing_left();
}

#[test]
fn a_phone_that_does_not_answer_a_refresh_ends_the_call_and_one_that_forgot_it_at_once() {
    let (mut world, mut alice, bob) = talking(TIMER, "Allow: UPDATE\r\n");
    world.wait(Duration::from_secs(899));
    refreshes(&mut world, &mut alice);
    world.wait(Duration::from_secs(33));
    world.expect(&bob, "UPDATE");
    alice.released(&mut world);
    world.check_nothing_left();
    let (mut world, mut alice, mut bob) = talking(TIMER, "Allow: UPDATE\r\n");
    world.wait(Duration::from_secs(900));
    let refresh = world.expect(&bob, "UPDATE");
    bob.reply(&mut world, &refresh, "481", "", "");
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_refused_refresh_is_a_sign_of_life_and_tried_otherwise() {
    let (mut world, mut alice, mut bob) = talking("Allow: UPDATE\r\n", "Allow: UPDATE\r\n");
    for round in 0..3 {
        world.wait(Duration::from_secs(900));
        is_refreshed(&mut world, &mut alice, "UPDATE");
        match round {
            0 => {
                let refresh = world.expect(&bob, "UPDATE");
                bob.reply(&mut world, &refresh, "405", "", "");
            }
            _ => is_refreshed(&mut world, &mut bob, "INVITE"),
        }
    }
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_refresh_that_meets_another_offer_is_sent_again() {
    let (mut world, mut alice, mut bob) = talking(TIMER, "Allow: UPDATE\r\n");
    world.wait(Duration::from_secs(899));
    refreshes(&mut world, &mut alice);
    world.wait(Duration::from_secs(1));
    let refresh = world.expect(&bob, "UPDATE");
    bob.reply(&mut world, &refresh, "491", "", "");
    world.expect_nothing(&bob);
    let mut waited = Duration::ZERO;
    while !world.has_mail(&bob) {
        waited += Duration::from_millis(100);
        world.wait(Duration::from_millis(100));
    }
    // RFC 3261 §14.1: who owns the Call-ID waits 2.1 to 4 s.
    assert!((2100..=4000).contains(&waited.as_millis()), "{waited:?}");
    is_refreshed(&mut world, &mut bob, "UPDATE");
    world.wait(Duration::from_secs(60));
    world.expect_nothing(&bob);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn intervals_that_are_too_short_are_told_so_both_ways() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call_with(&mut world, "101", &sdp, "Supported: timer\r\nSession-Expires: 60\r\n");
    assert_eq!(alice.answered(&mut world, "422").header("min-se"), "90");
    alice.call_with(&mut world, "101", &sdp, "Supported: timer\r\nSession-Expires: 90\r\n");
    let invite = bob.rung(&mut world);
    bob.reply(&mut world, &invite, "422", "", "Min-SE: 3600\r\n");
    world.expect(&bob, "ACK");
    bob.dialog = None;
    let again = bob.rung(&mut world);
    assert_eq!((again.header("session-expires"), again.header("cseq")), ("3600", "2 INVITE"));
    assert_eq!(again.header("call-id"), invite.header("call-id"));
    // Once, and no more.
    bob.reply(&mut world, &again, "422", "", "Min-SE: 7200\r\n");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "422");
    world.check_nothing_left();
}

#[test]
fn a_short_interval_that_a_phone_asks_for_is_kept() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call_with(&mut world, "101", &sdp, "Supported: timer\r\nSession-Expires: 90;refresher=uas\r\n");
    bob.take(&mut world);
    assert_eq!(alice.answered(&mut world, "200").header("session-expires"), "90;refresher=uas");
    world.wait(Duration::from_secs(45));
    let refresh = world.expect(&alice, "INVITE");
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.reply(&mut world, &refresh, "200", &sdp, "");
    world.expect(&alice, "ACK");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}
