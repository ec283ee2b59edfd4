//! What is written of a call, and when.

use std::time::Duration;

use pbx_core::{
    call::{Disposition, EndedBy},
    media::Stats,
    pbx::Input,
};

use crate::handset::{USUAL, World};

#[test]
fn a_call_is_billed_by_a_clock_that_nobody_sets() {
    let (mut world, mut alice, mut bob) = World::talking();
    world.wait(Duration::from_secs(10));
    world.scene.set_clock_back(Duration::from_secs(3600));
    world.wait(Duration::from_secs(10));
    bob.hang_up(&mut world);
    alice.released(&mut world);
    let record = world.record();
    assert_eq!(record.billed, Duration::from_secs(20));
    assert!(record.ended.unwrap() < record.answered.unwrap(), "what the wall said is written down");
    assert_eq!((record.ended_by, record.cause), (Some(EndedBy::Callee), 16));
    world.check_nothing_left();
}

#[test]
fn times_are_those_of_ringing_answer_and_end() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call(&mut world, "101", &sdp);
    let started = world.scene.wall();
    assert_eq!((world.record().disposition, world.record().started), (Disposition::Open, started));
    let invite = bob.rung(&mut world);
    let steps = [("180", 1_u64), ("200", 2)];
    for (status, seconds) in steps {
        world.wait(Duration::from_secs(seconds));
        let sdp = if status == "200" { bob.sdp(USUAL, "sendrecv") } else { String::new() };
        bob.reply(&mut world, &invite, status, &sdp, "");
    }
    world.expect(&bob, "INVITE");
    while world.has_mail(&bob) {
        world.read(&bob);
    }
    alice.answered(&mut world, "200");
    world.wait(Duration::from_secs(4));
    alice.hang_up(&mut world);
    bob.released(&mut world);
    let record = world.record().clone();
    let after = |time: Option<pbx_core::time::Timestamp>| time.unwrap().as_millis() - started.as_millis();
    assert_eq!((after(record.ringing), after(record.answered), after(record.ended)), (1000, 3000, 7000));
    let [near, far] = &record.legs[..] else { panic!("{record:?}") };
    assert_eq!((near.ringing, after(near.answered), after(near.ended)), (None, 3000, 7000));
    assert_eq!((after(far.ringing), after(far.answered), after(far.ended)), (1000, 3000, 7000));
    assert_eq!((&*near.remote, &*far.remote), ("198.51.100.1:5060", "203.0.113.2:5062"));
    assert_eq!((near.status, far.status, &*near.codec, &*far.codec), (200, 200, "PCMU/8000", "PCMU/8000"));
    world.check_nothing_left();
}

#[test]
fn what_went_through_a_call_is_known_after_its_end_and_not_waited_for_for_ever() {
    for answers in [true, false] {
        let (mut world, mut alice, mut bob) = World::talking();
        world.scene.media.is_silent = true;
        alice.hang_up(&mut world);
        bob.released(&mut world);
        assert!(world.scene.pbx.is_closing());
        // The end is written at once.
        assert_eq!(world.record().disposition, Disposition::Answered);
        assert!(world.record().legs.iter().all(|leg| leg.media.is_none()));
        world.scene.media.is_silent = false;
        if answers {
            world.scene.let_the_relay_answer();
            assert_eq!(world.record().legs[1].media.map(|stats| stats.packets), Some(50));
        } else {
            world.wait(Duration::from_secs(5));
        }
        assert!(!world.scene.pbx.is_closing());
        world.check_nothing_left();
        // What comes too late is no matter.
        let leg = pbx_core::media::LegId(1);
        let before = world.scene.store.calls.clone();
        world.scene.give(Input::LegEnded { leg, stats: Stats::default() });
        assert_eq!(world.scene.store.calls, before);
    }
}

#[test]
fn each_attempt_has_a_row_and_a_number_of_its_own() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    for _ in 0..3 {
        alice.call(&mut world, "101", &sdp);
        let invite = bob.rung(&mut world);
        bob.reply(&mut world, &invite, "486", "", "");
        world.expect(&bob, "ACK");
        alice.answered(&mut world, "486");
    }
    let records: Vec<_> = world.scene.store.calls.values().map(|record| record.disposition).collect();
    assert_eq!(records, [Disposition::Busy; 3]);
    world.check_nothing_left();
}
