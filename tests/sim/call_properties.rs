//! What holds of calls, whatever phones do.

use std::time::Duration;

use proptest::{prelude::*, test_runner::RngSeed};

use crate::robot::{Floor, Robot, Stage};

/// Something that a phone does, or that happens.
#[derive(Clone, Debug)]
enum Step {
    Call(usize, u8),
    Answer(usize, &'static str),
    Cancel(usize),
    Bye(usize),
    Hold(usize),
    Refer(usize, u8),
    ReferAttended(usize),
    Move(usize),
    Restart(usize),
    Wait(u64),
    HangUp,
    Lossy(u32),
}

const PHONES: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let phone = || 0..PHONES;
    // The phones, of which the last two are one extension's; one that nobody has registered, one that nobody has.
    let number = || prop_oneof![12 => 100..104_u8, 1 => Just(110), 1 => Just(250)];
    let status = prop_oneof![9 => Just("200"), 1 => Just("486"), 1 => Just("603"), 1 => Just("302"), 1 => Just("500")];
    let step = prop_oneof![
        6 => (phone(), number()).prop_map(|(phone, number)| Step::Call(phone, number)),
        8 => (phone(), status).prop_map(|(phone, status)| Step::Answer(phone, status)),
        2 => phone().prop_map(Step::Cancel),
        3 => phone().prop_map(Step::Bye),
        3 => phone().prop_map(Step::Hold),
        3 => (phone(), number()).prop_map(|(phone, number)| Step::Refer(phone, number)),
        3 => phone().prop_map(Step::ReferAttended),
        1 => phone().prop_map(Step::Move),
        1 => phone().prop_map(Step::Restart),
        3 => (0..5000_u64).prop_map(Step::Wait),
        1 => (0..100_000_u64).prop_map(Step::Wait),
        1 => Just(Step::HangUp),
        1 => (3..20_u32).prop_map(Step::Lossy),
    ];
    proptest::collection::vec(step, 1..60)
}

fn run(steps: Vec<Step>) {
    let mut floor = Floor::with(&["100", "101", "102", "103", "103"], |settings| {
        settings.set("calls.session_time", "90s").unwrap()
    });
    let mut moves = 6000;
    for step in steps {
        // The phone, or the next one that can do it.
        let next = |floor: &Floor, at: usize, stage| {
            let all = (0..PHONES).map(|step| (at + step) % PHONES);
            all.clone().find(|at| floor.robots[*at].line(stage).is_some()).unwrap_or(at)
        };
        let act = |floor: &mut Floor, at, stage, what: fn(&mut Robot, _)| floor.act(next(floor, at, stage), what);
        match step {
            Step::Call(at, number) => floor.act(at, |robot, now| robot.call(&number.to_string(), now)),
            Step::Answer(at, status) => {
                let at = next(&floor, at, Stage::Ringing);
                floor.act(at, |robot, now| robot.answer(status, now));
            }
            Step::Cancel(at) => act(&mut floor, at, Stage::Calling, Robot::cancel),
            Step::Bye(at) => act(&mut floor, at, Stage::Talking, Robot::bye),
            Step::Hold(at) => act(&mut floor, at, Stage::Talking, Robot::hold),
            Step::Refer(at, number) => {
                let at = next(&floor, at, Stage::Talking);
                floor.act(at, |robot, now| robot.refer(&number.to_string(), now));
            }
            Step::ReferAttended(at) => {
                let all = (0..PHONES).map(|step| (at + step) % PHONES);
                let at = all.max_by_key(|at| floor.robots[*at].talks()).unwrap_or(at);
                floor.act(at, Robot::refer_attended);
            }
            Step::Move(at) => {
                moves += 2;
                floor.move_to(at, moves);
            }
            Step::Restart(at) => floor.robots[at].restart(),
            Step::Wait(millis) => floor.wait(Duration::from_millis(millis)),
            Step::HangUp => floor.hang_up_one(),
            Step::Lossy(of) => {
                let mut count = 0;
                floor.delivers = Box::new(move || {
                    count += 1;
                    count % of != 0
                });
            }
        }
    }
    floor.delivers = Box::new(|| true);
    floor.check_end();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(5061),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_phones_do_every_call_ends_once_and_leaves_nothing(steps in steps()) {
        run(steps);
    }
}
