//! Phones behind proxies that want to stay on the way.

use crate::handset::{USUAL, World};

#[test]
fn requests_to_a_caller_go_back_through_its_proxies() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    let hops = "<sip:near.example;lr>, <sip:far.example;lr>";
    alice.call_with(&mut world, "101", &sdp, &format!("Record-Route: {hops}\r\n"));
    let invite = bob.rings(&mut world);
    assert_eq!(invite.find("record-route"), None, "the other side's way is its own");
    assert_eq!(world.expect(&alice, "180").header("record-route"), hops);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    assert_eq!(alice.answered(&mut world, "200").header("record-route"), hops);
    bob.hang_up(&mut world);
    let bye = alice.released(&mut world);
    assert_eq!((bye.header("route"), bye.uri()), (hops, "sip:100@198.51.100.1:5060"));
    world.check_nothing_left();
}

#[test]
fn requests_to_a_callee_go_the_way_that_its_answer_came() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    let sdp = bob.sdp(USUAL, "sendrecv");
    let hops = "Record-Route: <sip:next-to-it.example;lr>\r\nRecord-Route: <sip:next-to-us.example;lr>\r\n";
    bob.reply(&mut world, &invite, "200", &sdp, hops);
    let route = "<sip:next-to-us.example;lr>, <sip:next-to-it.example;lr>";
    assert_eq!(world.expect(&bob, "ACK").header("route"), route);
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    assert_eq!(bob.released(&mut world).header("route"), route);
    world.check_nothing_left();
}

#[test]
fn a_proxy_that_rings_two_phones_gets_both_answers_acknowledged_and_one_ended() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    let sdp = bob.sdp(USUAL, "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    let first = world.expect(&bob, "ACK");
    // The other phone was as quick (RFC 3261 §13.2.2.4).
    let mut other = bob.second_line();
    other.dialog = bob.dialog.clone();
    other.dialog.as_mut().unwrap().local = "<sip:101@one.example>;tag=other".to_owned();
    other.phone.contact = "<sip:101@203.0.113.2:5999>".to_owned();
    other.reply(&mut world, &invite, "200", &sdp, "");
    let ack = world.expect(&other, "ACK");
    assert_eq!((ack.tag("to"), ack.uri()), (Some("other"), "sip:101@203.0.113.2:5999"));
    let bye = world.expect(&other, "BYE");
    assert_eq!((bye.tag("to"), bye.uri()), (Some("other"), "sip:101@203.0.113.2:5999"));
    other.reply(&mut world, &bye, "200", "", "");
    assert_ne!(first.tag("to"), ack.tag("to"));
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}
