//! What comes in the middle of a call that nobody has answered yet, and connections that break then.

use pbx_core::{call::Disposition, pbx::Input, transport::ConnectionId};

use crate::{handset::USUAL, scene::tcp, world::World};

#[test]
fn requests_within_a_call_that_rings_wait_or_are_refused_and_it_goes_on() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    let ringing = world.expect(&alice, "180");
    let first = alice.dialog.clone();
    alice.dialog.as_mut().unwrap().remote = ringing.header("to").to_owned();
    for phone in [&mut alice, &mut bob] {
        let sdp = phone.sdp(USUAL, "sendonly");
        for (method, body, status) in [
            ("UPDATE", &*sdp, "500"),
            ("REFER", "", "491"),
            ("PRACK", "", "481"),
            ("INFO", "", "200"),
            ("OPTIONS", "", "200"),
        ] {
            phone.request(&mut world, method, body, "");
            assert_eq!(world.expect(phone, status).method, method);
        }
    }
    // A phone that is called declines, and does not hang up: it still rings.
    bob.request(&mut world, "BYE", "", "");
    world.expect(&bob, "200");
    world.expect_nothing(&alice);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    let cseq = alice.dialog.as_ref().unwrap().cseq;
    alice.dialog = first;
    alice.answered(&mut world, "200");
    alice.dialog.as_mut().unwrap().cseq = cseq;
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_phone_whose_connection_breaks_while_it_rings_is_given_up() {
    let mut world = World::new();
    let mut alice = world.phone("100", "198.51.100.1:5060");
    let mut bob = world.phone_over("101", tcp("203.0.113.2:40000", 1));
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.rings(&mut world);
    world.expect(&alice, "180");
    world.scene.give(Input::ConnectionClosed(ConnectionId(1)));
    world.wait(std::time::Duration::ZERO);
    alice.answered(&mut world, "480");
    assert_eq!(world.record().disposition, Disposition::NoAnswer);
    world.check_nothing_left();
}

#[test]
fn a_caller_whose_connection_breaks_while_it_rings_leaves_nothing() {
    let mut world = World::new();
    let mut alice = world.phone_over("100", tcp("198.51.100.1:40000", 1));
    let mut bob = world.phone("101", "203.0.113.2:5062");
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    world.scene.give(Input::ConnectionClosed(ConnectionId(1)));
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    world.wait(std::time::Duration::from_secs(32));
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_daemon_that_was_killed_knows_none_of_its_calls() {
    let (mut world, mut alice, _) = World::talking();
    world.scene.restart(std::time::Duration::from_secs(1));
    alice.request(&mut world, "BYE", "", "");
    world.expect(&alice, "481");
    assert!(world.scene.media.legs.is_empty());
    assert_eq!(world.scene.pbx.call_usage(), [0; 7]);
}
