//! Phones that are somewhere else in the middle of a call, and others that say to be them.

use crate::{
    handset::{Got, Handset, USUAL, World},
    phone::{Answer, Phone},
    scene::{tcp, udp},
};

/// A request of a phone's dialog from another address; the answer, if there is one.
fn from_elsewhere(
    world: &mut World,
    phone: &mut Handset,
    method: &str,
    remote: &str,
    proof: Option<&mut Phone>,
) -> Option<Got> {
    let mut elsewhere = phone.clone();
    elsewhere.flow = udp(remote);
    let mut text = phone.request_with(method, "", "");
    if let Some(proof) = proof {
        let target = phone.dialog.as_ref().unwrap().target.clone();
        let credentials = proof.credentials(method, &target).unwrap();
        text = text.replace("Content-Length", &format!("{credentials}Content-Length"));
    }
    world.say(elsewhere.flow, &text);
    world.read(&elsewhere)
}

fn challenged(got: &Got, phone: &mut Phone) {
    assert_eq!(got.what, "407", "{got:?}");
    phone.take_challenge(&Answer::read(got.text().as_bytes()));
}

#[test]
fn a_request_from_elsewhere_is_believed_with_a_proof_and_the_leg_has_moved() {
    let (mut world, mut alice, mut bob) = World::talking();
    let seen = world.scene.pbx.calls().next().unwrap().legs[0].clone();
    let port = seen.pair.unwrap().rtp;
    let epoch = |world: &World| world.scene.media.at(port).unwrap().remote.as_ref().unwrap().epoch;
    let before = epoch(&world);
    let remote = "198.51.100.77:5090";
    let got = from_elsewhere(&mut world, &mut alice, "UPDATE", remote, None).unwrap();
    let mut proof = alice.phone.clone();
    challenged(&got, &mut proof);
    assert_eq!(epoch(&world), before, "a word is no proof");
    let got = from_elsewhere(&mut world, &mut alice, "UPDATE", remote, Some(&mut proof)).unwrap();
    assert_eq!((&*got.what, &*got.method), ("200", "UPDATE"));
    assert!(epoch(&world) > before);
    assert_eq!(world.scene.pbx.calls().next().unwrap().legs[0].remote.to_string(), remote);
    // From now on that is where it is told things.
    bob.hang_up(&mut world);
    alice.flow = udp(remote);
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn the_proof_of_another_extension_moves_nothing() {
    let (mut world, mut alice, mut bob) = World::talking();
    let remote = "198.51.100.77:5090";
    let mut mallory = Phone::new("102", udp(remote));
    let got = from_elsewhere(&mut world, &mut alice, "BYE", remote, None).unwrap();
    challenged(&got, &mut mallory);
    let got = from_elsewhere(&mut world, &mut alice, "BYE", remote, Some(&mut mallory)).unwrap();
    assert_ne!(got.what, "200", "{got:?}");
    assert_eq!(world.scene.pbx.call_counts().0, 1);
    world.expect_nothing(&bob);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_bye_for_a_dialog_of_others_ends_nothing() {
    let (mut world, mut alice, mut bob) = World::talking();
    let carol = world.phone("102", "203.0.113.7:5064");
    let mut guess = alice.clone();
    guess.dialog.as_mut().unwrap().remote = "<sip:101@one.example>;tag=0123456789abcdef".to_owned();
    // From a known source and from a stranger.
    let got = from_elsewhere(&mut world, &mut guess, "BYE", "203.0.113.7:5064", None).unwrap();
    assert_eq!(got.what, "481");
    assert_eq!(from_elsewhere(&mut world, &mut guess, "BYE", "192.0.2.99:5064", None), None);
    // Our tag alone is not enough, nor is the peer's.
    let mut guess = alice.clone();
    guess.dialog.as_mut().unwrap().call_id = "other".to_owned();
    let got = from_elsewhere(&mut world, &mut guess, "BYE", "198.51.100.1:5060", None).unwrap();
    assert_eq!(got.what, "481");
    assert_eq!(world.scene.pbx.call_counts().0, 1);
    world.expect_nothing(&carol);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_phone_that_registers_from_elsewhere_takes_its_legs_with_it() {
    let (mut world, mut alice, mut bob) = World::talking();
    let contact = bob.phone.contact.clone();
    let remote = "203.0.113.99:6000";
    bob.phone.flow = udp(remote);
    bob.phone.contact = contact;
    assert_eq!(bob.phone.register(&mut world.scene).status, 200);
    assert_eq!(world.scene.bound("101"), 1);
    alice.hang_up(&mut world);
    bob.flow = udp(remote);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_phone_whose_connection_breaks_comes_back_over_another_one() {
    let mut world = World::new();
    let mut alice = world.phone_over("100", tcp("198.51.100.1:40000", 1));
    let mut bob = world.phone("101", "203.0.113.2:5062");
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    bob.take(&mut world);
    alice.answered(&mut world, "200");
    world.scene.give(pbx_core::pbx::Input::ConnectionClosed(pbx_core::transport::ConnectionId(1)));
    let flow = tcp("198.51.100.1:40001", 2);
    alice.phone.flow = flow;
    assert_eq!(alice.phone.register(&mut world.scene).status, 200);
    alice.flow = flow;
    bob.hang_up(&mut world);
    alice.released(&mut world);
    world.check_nothing_left();
}
