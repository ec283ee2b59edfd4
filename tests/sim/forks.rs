//! Several phones of one extension ring.

use pbx_core::call::{Disposition, LegKind};

use crate::{
    handset::{Got, Handset, USUAL},
    world::World,
};

/// 100 calls 101, which has three phones; they have their INVITEs.
fn three(more: &str) -> (World, Handset, [(Handset, Got); 3]) {
    let mut world = World::new();
    let mut alice = world.phone("100", "198.51.100.1:5060");
    let phones = ["203.0.113.2:5062", "203.0.113.3:5062", "203.0.113.4:5062"].map(|remote| world.phone("101", remote));
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call_with(&mut world, "101", &sdp, more);
    let rung = phones.map(|mut phone| {
        let invite = phone.rung(&mut world);
        (phone, invite)
    });
    (world, alice, rung)
}

#[test]
fn all_ring_and_the_first_that_answers_has_the_call() {
    let (mut world, mut alice, [(mut one, first), (mut two, second), (mut three, third)]) = three("");
    for (phone, invite) in [(&mut one, &first), (&mut two, &second), (&mut three, &third)] {
        phone.reply(&mut world, invite, "180", "", "");
    }
    // Once is enough.
    world.expect(&alice, "180");
    world.expect_nothing(&alice);
    let sdp = two.sdp("8 101", "sendrecv");
    two.reply(&mut world, &second, "200", &sdp, "");
    world.expect(&two, "ACK");
    for (phone, invite) in [(&mut one, &first), (&mut three, &third)] {
        let cancel = phone.stops(&mut world, invite);
        assert_eq!(cancel.header("reason"), "SIP;cause=200;text=\"Call completed elsewhere\"");
    }
    let ok = alice.answered(&mut world, "200");
    assert_eq!(world.hears(ok.port()).unwrap().1.to_string(), "203.0.113.3:4000");
    let seen = world.scene.pbx.calls().next().unwrap();
    assert_eq!(seen.legs.len(), 2);
    alice.hang_up(&mut world);
    two.released(&mut world);
    let record = world.record().clone();
    let legs: Vec<(LegKind, u16, bool)> =
        record.legs.iter().map(|leg| (leg.kind, leg.status, leg.answered.is_some())).collect();
    use LegKind::{Branch, Caller};
    assert_eq!(legs, [(Caller, 200, true), (Branch, 487, false), (Branch, 200, true), (Branch, 487, false)]);
    world.check_nothing_left();
}

#[test]
fn whoever_declines_declines_for_all() {
    let (mut world, mut alice, [(mut one, first), (mut two, second), (mut three, third)]) = three("");
    for (phone, invite) in [(&mut one, &first), (&mut three, &third)] {
        phone.reply(&mut world, invite, "180", "", "");
    }
    two.reply(&mut world, &second, "603", "", "");
    world.expect(&two, "ACK");
    one.stops(&mut world, &first);
    three.stops(&mut world, &third);
    alice.answered(&mut world, "603");
    assert_eq!((world.record().disposition, world.record().cause), (Disposition::NoAnswer, 21));
    world.check_nothing_left();
}

#[test]
fn busy_everywhere_is_busy_and_one_that_rings_is_enough() {
    let (mut world, mut alice, mut phones) = three("");
    for (phone, invite) in &mut phones[..2] {
        phone.reply(&mut world, invite, "486", "", "");
        world.expect(phone, "ACK");
        world.expect_nothing(&alice);
    }
    let (phone, invite) = &mut phones[2];
    phone.reply(&mut world, invite, "500", "", "");
    world.expect(phone, "ACK");
    alice.answered(&mut world, "486");
    assert_eq!(world.record().disposition, Disposition::Busy);
    let statuses: Vec<u16> = world.record().legs.iter().map(|leg| leg.status).collect();
    assert_eq!(statuses, [486, 486, 486, 500]);
    world.check_nothing_left();
}

#[test]
fn what_phones_say_of_themselves_is_not_the_callers_to_answer_for() {
    for (status, told) in [("401", "480"), ("404", "404"), ("500", "480"), ("503", "480"), ("488", "488")] {
        let (mut world, mut alice, mut bob) = World::two();
        let sdp = alice.sdp(USUAL, "sendrecv");
        alice.call(&mut world, "101", &sdp);
        let invite = bob.rung(&mut world);
        bob.reply(&mut world, &invite, status, "", "");
        world.expect(&bob, "ACK");
        alice.answered(&mut world, told);
        world.check_nothing_left();
    }
}

#[test]
fn early_media_of_several_phones_is_none() {
    let (mut world, mut alice, [(mut one, first), (mut two, second), (mut three, third)]) = three("");
    let sdp = one.sdp(USUAL, "sendrecv");
    one.reply(&mut world, &first, "183", &sdp, "");
    world.expect_nothing(&alice);
    two.reply(&mut world, &second, "180", &sdp, "");
    assert_eq!(world.expect(&alice, "180").body, "");
    three.reply(&mut world, &third, "180", "", "");
    alice.cancel(&mut world);
    world.expect(&alice, "200");
    alice.answered(&mut world, "487");
    one.stops(&mut world, &first);
    two.stops(&mut world, &second);
    three.stops(&mut world, &third);
    world.check_nothing_left();
}

#[test]
fn early_media_of_one_phone_is_heard() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    let sdp = bob.sdp("8 101", "sendrecv");
    bob.reply(&mut world, &invite, "183", &sdp, "");
    let early = world.expect(&alice, "183");
    assert!(early.body.contains(" RTP/AVP 8 101\r\n"), "{}", early.body);
    assert_eq!(
        world.hears(early.port()),
        Some(("198.51.100.1:4000".parse().unwrap(), "203.0.113.2:4000".parse().unwrap()))
    );
    assert_eq!(world.record().answered, None);
    // 180 after it would take it away again in some phones.
    bob.reply(&mut world, &invite, "180", "", "");
    world.expect_nothing(&alice);
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    let ok = alice.answered(&mut world, "200");
    assert_eq!(ok.body, early.body);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn an_answer_other_than_the_early_one_is_agreed_on_after_the_ack() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    let early = bob.sdp("8 101", "sendrecv");
    bob.reply(&mut world, &invite, "183", &early, "");
    let early = world.expect(&alice, "183");
    let sdp = bob.sdp("0 101", "sendrecv");
    bob.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&bob, "ACK");
    // RFC 3261 §13.2.1: the first answer is the answer.
    let ok = alice.answered(&mut world, "200");
    assert_eq!(ok.body, early.body);
    let again = world.expect(&alice, "INVITE");
    assert!(again.body.contains(" RTP/AVP 0 101\r\n"), "{}", again.body);
    let sdp = alice.sdp("0 101", "sendrecv");
    alice.reply(&mut world, &again, "200", &sdp, "");
    world.expect(&alice, "ACK");
    let leg = world.scene.media.at(again.port()).unwrap().clone();
    assert_eq!(
        leg.remote.unwrap().formats.iter().map(|format| (format.from, format.to)).collect::<Vec<_>>(),
        [(0, 0), (101, 101)]
    );
    alice.hang_up(&mut world);
    assert_eq!(&*world.record().codec, "PCMU/8000");
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn max_breadth_is_divided_and_limits_the_phones_that_ring() {
    let (mut world, mut alice, rung) = three("Max-Breadth: 7\r\n");
    for (_, invite) in &rung {
        assert_eq!(invite.header("max-breadth"), "2");
    }
    alice.cancel(&mut world);
    world.expect(&alice, "200");
    alice.answered(&mut world, "487");
    let mut world = World::new();
    let mut alice = world.phone("100", "198.51.100.1:5060");
    let phones = ["203.0.113.2:5062", "203.0.113.3:5062"].map(|remote| world.phone("101", remote));
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call_with(&mut world, "101", &sdp, "Max-Breadth: 1\r\n");
    let rung: Vec<Got> = phones.iter().filter_map(|phone| world.read(phone)).collect();
    assert_eq!(rung.iter().map(|invite| invite.header("max-breadth")).collect::<Vec<_>>(), ["1"]);
    alice.call_with(&mut world, "101", &sdp, "Max-Breadth: 0\r\n");
    alice.answered(&mut world, "440");
}
