//! Thresholds, order, answers, and that the level does not flap.

use super::*;

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn queue(millis: u64) -> Load {
    let queue_delay = Duration::from_millis(millis);
    Load { queue_delay, unknown_delay: Duration::ZERO, memory_used: 0, memory_limit: 1000 }
}

fn memory(permille: u64) -> Load {
    Load { memory_used: permille, ..queue(0) }
}

fn level(load: Load) -> u8 {
    Overload::new().observe(load, at(0)).number()
}

#[test]
fn a_level_is_reached_at_its_threshold_and_not_before() {
    let levels = |loads: &[Load]| loads.iter().copied().map(level).collect::<Vec<_>>();
    let delays = [0, 199, 200, 299, 300, 399, 400, 599, 600, 999, 1000, 1999, 2000, 100_000];
    assert_eq!(levels(&delays.map(queue)), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    let used = [0, 799, 800, 839, 840, 879, 880, 919, 920, 959, 960, 999, 1000, 5000];
    assert_eq!(levels(&used.map(memory)), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    assert_eq!(level(Load { queue_delay: Duration::from_millis(400), ..memory(800) }), 3);
}

#[test]
fn no_limit_means_that_any_use_is_too_much_and_large_numbers_do_not_overflow() {
    assert_eq!(level(Load { memory_used: 1, memory_limit: 0, ..queue(0) }), 6);
    assert_eq!(level(Load { memory_used: 0, memory_limit: 0, ..queue(0) }), 0);
    let most = Load {
        queue_delay: Duration::MAX,
        unknown_delay: Duration::MAX,
        memory_used: u64::MAX,
        memory_limit: u64::MAX,
    };
    assert_eq!(level(most), 6);
}

#[test]
fn however_long_strangers_wait_only_strangers_are_turned_away() {
    let strangers = |millis| Load { unknown_delay: Duration::from_millis(millis), ..queue(0) };
    assert_eq!([0, 199, 200, 300, 2000, 1_000_000].map(|millis| level(strangers(millis))), [0, 0, 1, 1, 1, 1]);
    // They keep the level from falling to 0, and from no other step.
    let mut overload = Overload::new();
    assert_eq!(overload.observe(queue(700), at(0)).number(), 4);
    let levels: Vec<_> = (1..=100).map(|step| overload.observe(strangers(5000), at(step * 100)).number()).collect();
    assert_eq!((levels[0], levels[99]), (4, 1));
    let levels: Vec<_> = (101..=120).map(|step| overload.observe(strangers(100), at(step * 100)).number()).collect();
    assert_eq!((levels[0], levels[19]), (1, 0));
}

#[test]
fn classes_are_turned_away_in_their_order_and_emergency_last() {
    for number in 0..=6 {
        for (position, class) in Class::ALL.into_iter().enumerate() {
            let is_shed = matches!(verdict(Level(number), class, 0), Verdict::Shed(_));
            assert_eq!(is_shed, position < usize::from(number), "{class:?} at level {number}");
        }
    }
}

#[test]
fn each_class_is_turned_away_in_its_own_way() {
    let answers = Class::ALL.map(|class| verdict(Level(6), class, 0));
    let expected = [
        Answer::Silence,
        Answer::Unavailable,
        Answer::RetryAfter(10),
        Answer::RetryAfter(10),
        Answer::Unavailable,
        Answer::Unavailable,
    ];
    assert_eq!(answers, expected.map(Verdict::Shed));
}

#[test]
fn retry_after_takes_every_value_from_10_to_60_seconds() {
    let values: std::collections::BTreeSet<_> = (0..=u8::MAX)
        .map(|random| match verdict(Level(3), Class::NewRegistration, random) {
            Verdict::Shed(Answer::RetryAfter(seconds)) => seconds,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(values.into_iter().eq(10..=60));
}

#[test]
fn the_level_falls_one_step_after_each_second_of_calm() {
    let mut overload = Overload::new();
    assert_eq!(overload.observe(queue(2000), at(0)).number(), 6);
    let mut seen = Vec::new();
    for millis in (0..=8000).step_by(250) {
        seen.push(overload.observe(queue(0), at(millis)).number());
    }
    // Calm begins at 0 and again with the measurement after each fall.
    let fell: Vec<_> = seen.windows(2).enumerate().filter(|(_, pair)| pair[0] != pair[1]).collect();
    assert_eq!(fell.iter().map(|(_, pair)| pair[1]).collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0]);
    assert!(fell.windows(2).all(|pair| pair[1].0 - pair[0].0 == 5));
}

#[test]
fn a_load_around_a_threshold_does_not_make_the_level_flap() {
    let mut overload = Overload::new();
    overload.observe(queue(200), at(0));
    for tenth in 1..600 {
        let load = if tenth % 2 == 0 { queue(190) } else { queue(150) };
        assert_eq!(overload.observe(load, at(tenth * 100)).number(), 1);
    }
    for tenth in 600..700 {
        overload.observe(queue(149), at(tenth * 100));
    }
    assert_eq!(overload.level(), Level::NONE);
    overload.observe(memory(800), at(70_000));
    for tenth in 0..100 {
        assert_eq!(overload.observe(memory(750), at(71_000 + tenth * 100)).number(), 1);
    }
    overload.observe(memory(749), at(90_000));
    assert_eq!(overload.observe(memory(749), at(91_000)), Level::NONE);
}

#[test]
fn one_moment_that_is_not_calm_begins_the_second_anew() {
    let mut overload = Overload::new();
    overload.observe(queue(200), at(0));
    overload.observe(queue(0), at(100));
    overload.observe(queue(160), at(1000));
    overload.observe(queue(0), at(1050));
    assert_eq!(overload.observe(queue(0), at(2049)).number(), 1);
    assert_eq!(overload.observe(queue(0), at(2050)).number(), 0);
}

#[test]
fn what_is_handled_and_turned_away_is_counted_by_class() {
    let mut overload = Overload::new();
    for class in Class::ALL {
        assert_eq!(overload.judge(class, 0), Verdict::Admit);
    }
    overload.observe(queue(300), at(0));
    for class in Class::ALL {
        let _ = overload.judge(class, 0);
    }
    assert_eq!(overload.counts().admitted, [1, 1, 2, 2, 2, 2]);
    assert_eq!(overload.counts().shed, [1, 1, 0, 0, 0, 0]);
}

#[test]
fn a_level_passes_through_a_number_and_none_is_above_6() {
    for number in 0..=6 {
        assert_eq!(Level::from_number(number).number(), number);
    }
    assert_eq!(Level::from_number(u8::MAX).number(), 6);
}
