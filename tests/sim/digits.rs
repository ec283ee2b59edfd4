//! Digits that come by INFO.

use crate::handset::{Got, Handset, USUAL, World};

/// A phone presses a key by INFO; the answer.
fn press(world: &mut World, phone: &mut Handset, kind: &'static str, body: &str) -> Got {
    let sdp = std::mem::replace(&mut phone.body_type, kind);
    phone.request(world, "INFO", body, "");
    phone.body_type = sdp;
    world.read(phone).expect("an answer")
}

#[test]
fn a_digit_goes_on_as_an_event_where_those_are_taken() {
    let (mut world, mut alice, mut bob) = World::talking();
    let far = world.scene.pbx.calls().next().unwrap().legs[1].media;
    for (kind, body) in [("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"), ("application/dtmf", "#")] {
        assert_eq!(press(&mut world, &mut alice, kind, body).what, "200");
    }
    assert_eq!(world.scene.media.digits, [(far, '5'), (far, '#')]);
    world.expect_nothing(&bob);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_digit_goes_on_as_it_came_where_events_are_not_taken() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    let sdp = bob.sdp("0", "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    alice.answered(&mut world, "200");
    assert_eq!(press(&mut world, &mut alice, "application/dtmf-relay", "Signal=9\r\nDuration=100\r\n").what, "200");
    let info = world.expect(&bob, "INFO");
    assert_eq!(info.header("content-type"), "application/dtmf-relay");
    assert!(info.body.contains("Signal=9"), "{}", info.body);
    bob.reply(&mut world, &info, "200", "", "");
    assert!(world.scene.media.digits.is_empty());
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn what_is_no_digit_is_not_passed_on() {
    let (mut world, mut alice, mut bob) = World::talking();
    for (kind, body) in [
        ("application/dtmf-relay", "Signal=99\r\nDuration=160\r\n"),
        ("application/media_control+xml", "<x/>"),
        ("text/plain", "5"),
    ] {
        assert_eq!(press(&mut world, &mut alice, kind, body).what, "415", "{kind}");
    }
    assert_eq!(press(&mut world, &mut alice, "text/plain", "").what, "200");
    assert!(world.scene.media.digits.is_empty());
    world.expect_nothing(&bob);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}
