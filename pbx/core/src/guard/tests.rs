//! The guard as a whole, in virtual time.

use super::*;

struct Scene {
    guard: Guard,
    now: Moment,
    wall: Timestamp,
}

fn enforcing() -> Settings {
    let mut settings = Settings::default();
    settings.set("filter.mode", "enforce").unwrap();
    settings
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const ATTACKER: &str = "203.0.113.66";
const GATEWAY: &str = "203.0.113.1";

impl Scene {
    fn new() -> Self {
        Self::with(&enforcing())
    }

    fn with(settings: &Settings) -> Self {
        let local = vec![crate::address::parse("192.168.0.0/16").unwrap().prefix];
        let guard = Guard::new(settings, Networks { local, machine: vec![addr(GATEWAY)], ..Networks::default() });
        Self { guard, now: Moment::ZERO + DAY, wall: Timestamp::from_millis(1_800_000_000_000) }
    }

    fn pass(&mut self, seconds: f64) {
        let span = Duration::from_secs_f64(seconds);
        let whole = span.as_secs();
        for _ in 0..whole {
            self.step(Duration::from_secs(1));
            self.guard.sweep(self.now, self.wall);
        }
        self.step(span - Duration::from_secs(whole));
    }

    fn step(&mut self, span: Duration) {
        self.now += span;
        self.wall = self.wall.saturating_add(span);
    }

    fn sign(&mut self, source: &str, known: bool, what: What) {
        let message = Some(Box::from(&b"REGISTER sip:example.com SIP/2.0\r\n"[..]));
        let sign = Sign { source: addr(source), sure: true, known, what, message };
        self.guard.sign(sign, self.now, self.wall);
    }

    fn challenged(&mut self, source: &str, call: u64, target: u64) {
        self.sign(source, false, What::Challenged { call, target, points: 0 });
    }

    fn rejected(&mut self, source: &str, known: bool, account: u64) {
        let what =
            What::Rejected { account: Account::new(account, b"101"), user_known: true, answers: true, target: account };
        self.sign(source, known, what);
    }

    fn succeeded(&mut self, source: &str, account: u64) {
        self.sign(source, true, What::Succeeded { account, target: account });
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.guard.poll_output()).collect()
    }

    fn blocks(&mut self) -> Vec<Block> {
        let blocks = self.outputs().into_iter().filter_map(|output| match output {
            Output::Block(block) => Some(*block),
            _ => None,
        });
        blocks.collect()
    }
}

#[test]
fn fifty_wrong_passwords_in_ten_seconds_block_and_the_evidence_says_why() {
    let mut scene = Scene::new();
    for account in 0..49 {
        scene.rejected(ATTACKER, false, account);
        scene.pass(0.1);
    }
    assert_eq!(scene.outputs(), []);
    scene.rejected(ATTACKER, false, 49);
    let [block] = &scene.blocks()[..] else { panic!() };
    assert_eq!(block.prefix.to_string(), ATTACKER);
    assert_eq!((block.detector, block.count, block.enforced, block.sure), (Detector::Authentication, 50, true, true));
    assert_eq!((block.rule.key, block.rule.limit), ("guard.authentication.failures", 50));
    assert_eq!((block.time, block.before, block.messages.len()), (Duration::from_secs(3600), 0, MESSAGES));
    assert!(block.first < block.last);
}

#[test]
fn a_detector_in_monitor_says_what_it_would_have_blocked_and_makes_nobody_an_offender() {
    let mut settings = enforcing();
    settings.set("guard.authentication.enforcement", "monitor").unwrap();
    settings.set("guard.accounts.enforcement", "off").unwrap();
    let mut scene = Scene::with(&settings);
    for _ in 0..200 {
        scene.rejected(ATTACKER, false, 1);
    }
    let outputs = scene.outputs();
    let [Output::Block(block), Output::Alarm(Alarm::Account { count: 100, .. })] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert!(!block.enforced);
    // In a new installation everything monitors.
    let mut scene = Scene::with(&Settings::default());
    (0..50).for_each(|account| scene.rejected(ATTACKER, false, account));
    assert!(scene.blocks().iter().all(|block| !block.enforced));
}

#[test]
fn a_guess_a_second_at_one_account_is_blocked_and_a_success_of_another_takes_nothing_back() {
    let mut scene = Scene::new();
    for _ in 0..19 {
        scene.rejected(ATTACKER, false, 1);
        scene.succeeded(ATTACKER, 2);
        scene.pass(1.0);
    }
    assert_eq!(scene.outputs(), []);
    scene.rejected(ATTACKER, false, 1);
    let [block] = &scene.blocks()[..] else { panic!() };
    assert_eq!((block.detector, block.count), (Detector::Accounts, 20));
}

#[test]
fn a_success_takes_back_what_failed_for_the_same_account() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        (0..19).for_each(|_| scene.rejected(ATTACKER, false, 1));
        scene.succeeded(ATTACKER, 1);
        scene.pass(0.1);
    }
    assert_eq!(scene.blocks(), []);
}

#[test]
fn behind_a_known_source_the_pair_that_hammers_is_blocked_and_the_address_never() {
    let mut scene = Scene::new();
    for _ in 0..30 {
        scene.rejected("198.51.100.1", true, 1);
        scene.succeeded("198.51.100.1", 2);
        scene.pass(1.0);
    }
    let outputs = scene.outputs();
    let [Output::Pair(pair)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((pair.source, pair.account.hash, pair.count, pair.enforced), (addr("198.51.100.1"), 1, 20, true));
    assert_eq!(scene.guard.pairs().count(), 1);
    scene.guard.forget(&Prefix::host(addr("198.51.100.1")));
    assert_eq!(scene.guard.pairs().count(), 0);
}

#[test]
fn a_phone_with_a_wrong_password_behind_a_known_source_is_never_blocked() {
    let mut scene = Scene::new();
    for _ in 0..500 {
        scene.rejected("198.51.100.1", true, 1);
        scene.pass(30.0);
    }
    let outputs = scene.outputs();
    assert!(outputs.iter().all(|output| matches!(output, Output::Alarm(_))), "{outputs:?}");
    assert_eq!(outputs.len(), 1);
}

#[test]
fn a_scan_of_numbers_is_blocked_at_full_speed_and_at_one_a_second() {
    for (pause, within) in [(0.006, 6.0), (1.0, 16.0)] {
        let mut scene = Scene::new();
        let begin = scene.now;
        for number in 0..1000 {
            scene.challenged(ATTACKER, number, number);
            scene.pass(pause);
            scene.guard.sweep(scene.now, scene.wall);
            let blocks = scene.blocks();
            if let [block] = &blocks[..] {
                assert!(matches!(block.detector, Detector::Enumeration | Detector::Challenges), "{block:?}");
                break;
            }
            assert!(blocks.is_empty());
        }
        assert!(scene.now.since(begin).as_secs_f64() < within, "{:?}", scene.now.since(begin));
    }
}

#[test]
fn numbers_that_do_not_exist_are_counted_with_a_password_too() {
    let mut scene = Scene::new();
    for number in 0..10 {
        let account = Account::new(number, b"900");
        scene.sign(ATTACKER, false, What::Rejected { account, user_known: false, answers: true, target: number });
    }
    assert_eq!(scene.blocks()[0].detector, Detector::Enumeration);
}

#[test]
fn forty_phones_behind_one_address_that_register_together_are_no_attack() {
    let mut scene = Scene::new();
    for phone in 0..40 {
        scene.challenged("198.51.100.9", phone, phone);
    }
    scene.pass(0.3);
    for phone in 0..40 {
        scene.succeeded("198.51.100.9", phone);
    }
    scene.pass(120.0);
    assert_eq!(scene.outputs(), []);
}

#[test]
fn new_phones_in_a_local_network_raise_an_alarm_and_are_not_blocked() {
    let mut scene = Scene::new();
    for round in 0..5 {
        for phone in 0..20 {
            scene.challenged("192.168.1.9", round * 100 + phone, phone);
        }
        scene.pass(60.0);
    }
    let outputs = scene.outputs();
    let [Output::Alarm(Alarm::Spared { detector: Detector::Enumeration, exempt: Exempt::Local, .. })] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
}

#[test]
fn the_machine_and_its_gateway_are_told_of_and_never_blocked() {
    let mut scene = Scene::new();
    for guess in 0..200 {
        scene.rejected(GATEWAY, false, guess);
    }
    let outputs = scene.outputs();
    assert!(matches!(outputs[..], [Output::Alarm(Alarm::Spared { exempt: Exempt::Machine, .. })]), "{outputs:?}");
}

#[test]
fn requests_that_are_sent_again_are_one_and_answered_challenges_count_nothing() {
    let mut scene = Scene::new();
    for _ in 0..500 {
        scene.challenged(ATTACKER, 1, 1);
    }
    scene.sign(ATTACKER, false, What::Answered { target: 1 });
    for call in 10..109 {
        scene.challenged(ATTACKER, call, 1);
    }
    assert_eq!(scene.blocks(), []);
    scene.challenged(ATTACKER, 500, 1);
    assert_eq!(scene.blocks()[0].detector, Detector::Challenges);
}

#[test]
fn what_anybody_may_have_sent_blocks_for_a_minute_only() {
    let mut scene = Scene::new();
    for _ in 0..50 {
        let (source, what) = (addr(ATTACKER), What::Malformed { points: 0 });
        scene.guard.sign(Sign { source, sure: false, known: false, what, message: None }, scene.now, scene.wall);
    }
    let [block] = &scene.blocks()[..] else { panic!() };
    assert_eq!((block.sure, block.time), (false, Duration::from_secs(60)));
}

#[test]
fn ipv6_is_judged_by_its_network_and_by_the_address_where_somebody_known_lives() {
    let mut scene = Scene::new();
    let agent = |scene: &mut Scene, source: &str| {
        scene.sign(source, false, What::Agent);
        scene.blocks().first().map(|block| block.prefix.to_string())
    };
    assert_eq!(agent(&mut scene, "2001:db8:1::7").as_deref(), Some("2001:db8:1::/64"));
    scene.guard.known(addr("2001:db8:2::1"), true);
    assert_eq!(agent(&mut scene, "2001:db8:2::7").as_deref(), Some("2001:db8:2::7"));
    scene.guard.known(addr("2001:db8:2::1"), false);
    assert_eq!(agent(&mut scene, "2001:db8:2::8").as_deref(), Some("2001:db8:2::/64"));
}

#[test]
fn many_blocked_addresses_of_a_network_suggest_a_block_of_it_and_make_it_when_that_is_switched_on() {
    for (enforcement, made) in [("monitor", Some(false)), ("enforce", Some(true)), ("off", None)] {
        let mut settings = enforcing();
        settings.set("guard.spread.enforcement", enforcement).unwrap();
        let mut scene = Scene::with(&settings);
        (1..=20).for_each(|last| scene.sign(&format!("203.0.113.{last}"), false, What::Agent));
        let told: Vec<bool> = scene
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Spread { network, sources: 8, enforced, .. } => {
                    assert_eq!(network.to_string(), "203.0.113.0/24");
                    Some(enforced)
                }
                _ => None,
            })
            .collect();
        assert_eq!(told, made.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn whoever_is_let_go_begins_at_nothing() {
    let mut scene = Scene::new();
    (0..19).for_each(|_| scene.rejected(ATTACKER, false, 1));
    assert_eq!(scene.guard.forget(&Prefix::host(addr(ATTACKER))), 1);
    (0..19).for_each(|_| scene.rejected(ATTACKER, false, 1));
    assert_eq!(scene.blocks(), []);
    scene.rejected(ATTACKER, false, 1);
    assert_eq!(scene.blocks().len(), 1);
    scene.guard.forget(&Prefix::host(addr(ATTACKER)));
    assert!(matches!(scene.outputs()[..], [Output::NoOffence(_)]));
}

#[test]
fn a_block_that_the_filter_made_is_kept_and_made_longer_for_a_repeat_offender() {
    let mut scene = Scene::new();
    let source = Prefix::host(addr(ATTACKER));
    let hour = Duration::from_secs(3600);
    let mut times = Vec::new();
    for _ in 0..3 {
        scene.guard.blocked_by_filter(source, Detector::Level2, true, scene.now, scene.wall);
        let block = scene.blocks().remove(0);
        times.push((block.time / 3600, block.by_filter));
        scene.step(hour * 200);
    }
    let seconds = Duration::from_secs;
    assert_eq!(times, [(seconds(1), true), (seconds(6), false), (seconds(24), false)]);
}

#[test]
fn a_flood_of_forged_sources_takes_a_bounded_place_and_hides_nobody() {
    let mut scene = Scene::new();
    (0..15).for_each(|_| scene.rejected(ATTACKER, false, 1));
    for number in 0..300_000u32 {
        let source = std::net::Ipv4Addr::from(0x0b00_0000 + number).into();
        let what = What::Challenged { call: number.into(), target: 1, points: 0 };
        scene.guard.sign(Sign { source, sure: false, known: false, what, message: None }, scene.now, scene.wall);
    }
    assert_eq!(scene.guard.watched().sources, SOURCES);
    assert_eq!(scene.guard.watched().evicted, 300_001 - SOURCES as u64);
    (0..5).for_each(|_| scene.rejected(ATTACKER, false, 1));
    assert_eq!(scene.blocks().len(), 1);
}

#[test]
fn a_failed_sign_in_closes_the_web_alone() {
    let mut scene = Scene::new();
    (0..5).for_each(|_| scene.sign(ATTACKER, false, What::SignInFailed));
    let [block] = &scene.blocks()[..] else { panic!() };
    assert_eq!((block.detector, block.web_only), (Detector::Web, true));
}

#[test]
fn points_of_odd_requests_add_up() {
    let mut scene = Scene::new();
    (1..5).for_each(|call| scene.sign(ATTACKER, false, What::Points { call, points: 4 }));
    (0..9).for_each(|_| scene.sign(ATTACKER, false, What::Points { call: 1, points: 4 }));
    assert_eq!(scene.blocks(), []);
    scene.sign(ATTACKER, false, What::Malformed { points: 4 });
    assert_eq!(scene.blocks()[0].detector, Detector::Scanner);
}

#[test]
fn a_detector_that_begins_to_enforce_blocks_whom_it_has_only_told_of() {
    let mut monitoring = enforcing();
    monitoring.set("guard.authentication.enforcement", "monitor").unwrap();
    monitoring.set("guard.accounts.enforcement", "off").unwrap();
    let mut scene = Scene::with(&monitoring);
    (0..50).for_each(|account| scene.rejected(ATTACKER, false, account));
    assert!(!scene.blocks()[0].enforced);
    (0..60).for_each(|account| scene.rejected(ATTACKER, false, account));
    assert_eq!(scene.blocks(), []);
    let mut settings = enforcing();
    settings.set("guard.accounts.enforcement", "off").unwrap();
    assert_eq!(scene.guard.set(&settings, Networks::default()), []);
    scene.rejected(ATTACKER, false, 1);
    assert!(matches!(&scene.blocks()[..], [block] if block.enforced));
}

#[test]
fn pairs_end_when_their_detector_does_something_else() {
    let mut scene = Scene::new();
    (0..20).for_each(|_| scene.rejected("198.51.100.1", true, 1));
    assert_eq!(scene.guard.set(&enforcing(), Networks::default()), []);
    let mut settings = enforcing();
    settings.set("guard.accounts.enforcement", "monitor").unwrap();
    let ended = scene.guard.set(&settings, Networks::default());
    assert_eq!((ended.len(), scene.guard.pairs().count()), (1, 0));
}

#[test]
fn counters_tell_what_each_detector_counts_of_a_source() {
    let mut scene = Scene::new();
    (0..7).for_each(|_| scene.rejected(ATTACKER, false, 1));
    scene.rejected(ATTACKER, false, 2);
    let (mut counters, offence) = scene.guard.counters(addr(ATTACKER), scene.now);
    counters.sort();
    assert_eq!(counters, [(Detector::Authentication, 8), (Detector::Accounts, 7)]);
    assert_eq!(offence, None);
    assert_eq!(scene.guard.counters(addr("192.0.2.200"), scene.now), (Vec::new(), None));
}

#[test]
fn what_somebody_forges_in_the_name_of_an_office_holds_no_account_of_it() {
    let mut scene = Scene::new();
    for _ in 0..60 {
        let account = Account::new(1, b"101");
        let what = What::Rejected { account, user_known: true, answers: false, target: 1 };
        let sign = Sign { source: addr("198.51.100.1"), sure: false, known: true, what, message: None };
        scene.guard.sign(sign, scene.now, scene.wall);
        scene.pass(1.0);
    }
    assert_eq!(scene.guard.pairs().count(), 0);
}

#[test]
fn one_real_mistake_after_forged_ones_is_not_taken_for_all_of_them() {
    let mut scene = Scene::new();
    let reject = |scene: &mut Scene, sure| {
        let account = Account::new(1, b"101");
        let what = What::Rejected { account, user_known: true, answers: sure, target: 1 };
        scene.guard.sign(
            Sign { source: addr(ATTACKER), sure, known: false, what, message: None },
            scene.now,
            scene.wall,
        );
    };
    (0..19).for_each(|_| reject(&mut scene, false));
    reject(&mut scene, true);
    let [block] = &scene.blocks()[..] else { panic!() };
    assert_eq!((block.sure, block.time), (false, Duration::from_secs(60)));
    // And it begins at nothing after that.
    reject(&mut scene, true);
    assert_eq!(scene.blocks(), []);
}

#[test]
fn going_round_many_accounts_hides_none_of_them() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        for account in 0..24 {
            scene.rejected(ATTACKER, false, account);
            scene.pass(1.0);
        }
    }
    assert!(scene.blocks().iter().any(|block| block.detector == Detector::Accounts));
}

#[test]
fn forty_phones_of_a_new_office_whose_answers_are_slow_are_no_attack() {
    let mut scene = Scene::new();
    for _ in 0..4 {
        (0..40).for_each(|phone| scene.challenged("198.51.100.9", phone, phone));
        scene.pass(0.9);
    }
    (0..40).for_each(|phone| scene.succeeded("198.51.100.9", phone));
    scene.pass(60.0);
    assert_eq!(scene.outputs(), []);
}
