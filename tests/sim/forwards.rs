//! Forwarding, do not disturb, and phones that do not answer.

use pbx_core::{
    call::{Disposition, LegKind},
    directory::Forwarding,
};

use crate::handset::{USUAL, World};

/// An extension is forwarded from now on.
fn forward(world: &mut World, number: &str, change: impl Fn(&mut Forwarding)) {
    world.scene.change_extensions(|all| {
        all.iter_mut()
            .filter(|one| one.number == number && one.tenant.0 == 1)
            .for_each(|one| change(&mut one.forwarding));
    });
}

#[test]
fn all_calls_busy_calls_and_unanswered_calls_go_elsewhere() {
    for case in ["always", "busy", "no answer", "offline", "silent"] {
        let (mut world, mut alice, mut bob) = World::two();
        let mut carol = world.phone("102", "203.0.113.7:5064");
        let number = if case == "offline" { "150" } else { "101" };
        forward(&mut world, number, |forwarding| {
            let to = Some("102".to_owned());
            match case {
                "always" => forwarding.always = to,
                "busy" => forwarding.busy = to,
                "no answer" => (forwarding.no_answer, forwarding.no_answer_seconds) = (to, 20),
                _ => forwarding.offline = to,
            }
        });
        let sdp = alice.sdp(USUAL, "sendrecv");
        alice.call(&mut world, number, &sdp);
        match case {
            "busy" => {
                let invite = bob.rung(&mut world);
                bob.reply(&mut world, &invite, "486", "", "");
                world.expect(&bob, "ACK");
            }
            "no answer" => {
                let invite = bob.rings(&mut world);
                world.wait(std::time::Duration::from_secs(20));
                bob.stops(&mut world, &invite);
            }
            "silent" => {
                world.expect(&bob, "INVITE");
                world.wait(std::time::Duration::from_secs(32));
                while world.read(&bob).is_some() {}
            }
            _ => {}
        }
        let invite = carol.take(&mut world);
        assert!(invite.header("from").contains("sip:100@"), "{invite:?}");
        world.expect_nothing(&bob);
        alice.answered(&mut world, "200");
        alice.hang_up(&mut world);
        carol.released(&mut world);
        let record = world.record();
        assert_eq!((&*record.dialled, &*record.callee_number), (number, "102"), "{case}");
        assert_eq!(record.legs.last().map(|leg| leg.kind), Some(LegKind::Forward));
        assert_eq!(record.disposition, Disposition::Answered);
        world.check_nothing_left();
    }
}

#[test]
fn who_does_not_want_to_be_disturbed_does_not_ring() {
    let (mut world, mut alice, bob) = World::two();
    forward(&mut world, "101", |forwarding| forwarding.do_not_disturb = true);
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    alice.answered(&mut world, "480");
    world.expect_nothing(&bob);
    assert!(world.record().why.contains("disturbed"), "{}", world.record().why);
    world.check_nothing_left();
}

#[test]
fn forwards_that_go_in_circles_end() {
    let (mut world, mut alice, _) = World::two();
    for number in ["101", "102"] {
        let to = if number == "101" { "102" } else { "101" };
        forward(&mut world, number, |forwarding| forwarding.always = Some(to.to_owned()));
    }
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    alice.answered(&mut world, "482");
    assert_eq!((world.record().status, world.record().cause), (482, 25));
    world.check_nothing_left();
}

#[test]
fn five_forwards_are_followed_and_no_more() {
    for (length, found) in [(5, true), (6, false)] {
        let mut world = World::new();
        let mut alice = world.phone("100", "198.51.100.1:5060");
        for at in 0..length {
            let to = (111 + at).to_string();
            forward(&mut world, &(110 + at).to_string(), |forwarding| forwarding.always = Some(to.clone()));
        }
        let mut last = world.phone(&(110 + length).to_string(), "203.0.113.7:5064");
        let sdp = alice.sdp(USUAL, "sendrecv");
        alice.call(&mut world, "110", &sdp);
        if found {
            last.take(&mut world);
            alice.answered(&mut world, "200");
            alice.hang_up(&mut world);
            last.released(&mut world);
        } else {
            alice.answered(&mut world, "482");
            world.expect_nothing(&last);
        }
        world.check_nothing_left();
    }
}

#[test]
fn a_phone_sends_the_caller_elsewhere() {
    let (mut world, mut alice, mut bob) = World::two();
    let mut carol = world.phone("102", "203.0.113.7:5064");
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rung(&mut world);
    bob.phone.contact = "<sip:102@anywhere.example>".to_owned();
    bob.reply(&mut world, &invite, "302", "", "");
    world.expect(&bob, "ACK");
    carol.take(&mut world);
    alice.answered(&mut world, "200");
    alice.hang_up(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
    // To itself, for ever.
    let (mut world, mut alice, mut bob) = World::two();
    bob.phone.contact = "<sip:101@anywhere.example>".to_owned();
    alice.call(&mut world, "101", &sdp);
    for _ in 0..6 {
        let invite = bob.rung(&mut world);
        bob.reply(&mut world, &invite, "302", "", "");
        world.expect(&bob, "ACK");
    }
    alice.answered(&mut world, "482");
    world.check_nothing_left();
}

#[test]
fn nobody_answers_in_time() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let invite = bob.rings(&mut world);
    let ring_time = world.scene.settings.calls.ring_time.get();
    world.wait(ring_time);
    bob.stops(&mut world, &invite);
    alice.answered(&mut world, "480");
    let record = world.record();
    assert_eq!((record.disposition, record.cause), (Disposition::NoAnswer, 18));
    assert_eq!(record.ended.unwrap().as_millis() - record.started.as_millis(), ring_time.as_millis() as i64);
    world.check_nothing_left();
}

#[test]
fn a_phone_that_is_not_there_is_given_up_after_64_t1() {
    let (mut world, mut alice, bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    world.expect(&bob, "INVITE");
    world.wait(std::time::Duration::from_secs(32));
    alice.answered(&mut world, "480");
    assert_eq!(world.record().disposition, Disposition::Failed);
    world.check_nothing_left();
}
