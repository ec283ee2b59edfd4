//! Calls over links that lose messages in both directions.

use std::time::Duration;

use pbx_core::call::Disposition;

use crate::robot::Floor;

/// Loses one message in `of`, by chance.
fn loses(floor: &mut Floor, seed: u64, of: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    floor.delivers = Box::new(move || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        !(state >> 20).is_multiple_of(of)
    });
}

#[test]
fn calls_get_through_and_end_and_leave_nothing() {
    for seed in 1..=20 {
        for of in [10, 4] {
            let mut floor = Floor::new(3, |_| {});
            loses(&mut floor, seed, of);
            floor.robots[1].is_eager = true;
            for round in 0..3 {
                floor.act(0, |robot, now| robot.call("101", now));
                floor.wait(Duration::from_secs(20));
                floor.act(0, |robot, now| robot.hold(now));
                floor.wait(Duration::from_secs(10));
                if round == 2 {
                    floor.act(0, |robot, now| robot.refer("102", now));
                    floor.wait(Duration::from_secs(5));
                    floor.act(2, |robot, now| robot.answer("200", now));
                    floor.wait(Duration::from_secs(20));
                }
                for at in 0..3 {
                    floor.act(at, |robot, now| robot.bye(now));
                }
                floor.wait(Duration::from_secs(40));
            }
            let answered = floor.scene.store.calls.values().filter(|one| one.disposition == Disposition::Answered);
            assert!(answered.count() >= 2, "{seed} {of}");
            floor.check_end();
        }
    }
}

#[test]
fn calls_that_are_given_up_over_a_bad_link_leave_nothing() {
    for seed in 1..=30 {
        let mut floor = Floor::new(2, |_| {});
        loses(&mut floor, seed, 3);
        for _ in 0..3 {
            floor.act(0, |robot, now| robot.call("101", now));
            floor.wait(Duration::from_millis(300 * seed));
            floor.act(0, |robot, now| robot.cancel(now));
            floor.act(1, |robot, now| robot.answer(if seed % 2 == 0 { "200" } else { "486" }, now));
            floor.wait(Duration::from_secs(40));
            floor.act(0, |robot, now| robot.bye(now));
            floor.act(1, |robot, now| robot.bye(now));
            floor.wait(Duration::from_secs(40));
        }
        floor.check_end();
    }
}

#[test]
fn a_line_that_is_cut_in_mid_call_leaves_nothing() {
    for at in [0, 1] {
        let mut floor = Floor::new(2, |settings| settings.set("calls.session_time", "90s").unwrap());
        floor.robots[1].is_eager = true;
        floor.act(0, |robot, now| robot.call("101", now));
        floor.wait(Duration::from_secs(5));
        assert_eq!(floor.scene.pbx.call_counts().0, 1);
        floor.delivers = Box::new(|| false);
        floor.act(at, |robot, now| robot.bye(now));
        floor.check_end();
    }
}
