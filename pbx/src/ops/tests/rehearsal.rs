//! What the last day would have been with other settings.

use pbx_core::{
    guard::{Account, Detector, Sign, What},
    rule::Action,
};

use super::{super::*, *};
use crate::filter::Talker;

fn dry(pairs: &[(&str, &str)]) -> SetSettings {
    let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SetSettings { values, dry_run: true, ..SetSettings::default() }
}

impl Bench {
    async fn enforcing() -> Self {
        let bench = Self::new().await;
        let request = SetSettings { dry_run: false, ..dry(&[("filter.mode", "enforce")]) };
        bench.operations.set_settings(&admin(), request).await.unwrap();
        bench
    }

    /// So many wrong passwords, each for another account.
    fn guesses(&self, source: &str, known: bool, times: u64) {
        for account in 0..times {
            let account = Account::new(account, b"101");
            let what = What::Rejected { account, user_known: true, answers: true, target: 1 };
            let sign = Sign { source: source.parse().unwrap(), sure: true, known, what, message: None };
            self.operations.guard().count(sign);
        }
    }

    async fn rehearsed(&self, pairs: &[(&str, &str)]) -> RehearsalView {
        self.operations.set_settings(&admin(), dry(pairs)).await.unwrap().rehearsal.unwrap()
    }
}

fn addresses(sources: &[Rehearsed]) -> Vec<String> {
    sources.iter().map(|one| one.cidr.to_string()).collect()
}

#[tokio::test]
async fn a_dry_run_of_a_threshold_says_who_more_who_less_and_which_of_them_is_registered() {
    let bench = Bench::enforcing().await;
    bench.fill().await;
    bench.guesses("203.0.113.7", false, 50);
    bench.guesses("203.0.113.8", false, 30);
    bench.guesses("198.51.100.77", false, 12);
    bench.guesses("198.51.100.1", true, 45);
    let lower = bench.rehearsed(&[("guard.authentication.failures", "10")]).await;
    assert_eq!(addresses(&lower.more), ["198.51.100.77", "203.0.113.8"], "whoever is registered comes first");
    assert_eq!((lower.more_count, lower.fewer_count, lower.same), (2, 0, 1));
    let phone = &lower.more[0];
    assert_eq!(
        (phone.registered.as_slice(), phone.count, phone.detector),
        (&["101".to_owned()][..], 12, Detector::Authentication)
    );
    assert_eq!((phone.limit_before, phone.limit_after, phone.only_told), (50, 10, false));
    assert!(lower.more[1].registered.is_empty() && lower.since <= lower.until);

    let higher = bench.rehearsed(&[("guard.authentication.failures", "60")]).await;
    assert_eq!((addresses(&higher.fewer), higher.more_count, higher.same), (vec!["203.0.113.7".to_owned()], 0, 0));
    assert!(higher.notes.iter().any(|note| note.contains("upper bound")), "{:?}", higher.notes);
    // Nothing of it was done.
    assert_eq!(bench.operations.current_settings().0.guard.authentication.failures.get(), 50);
}

#[tokio::test]
async fn a_profile_a_reset_and_a_mode_are_rehearsed_too() {
    let bench = Bench::enforcing().await;
    bench.guesses("203.0.113.8", false, 12);
    let strict = bench.operations.apply_profile(&admin(), "strict", DRY).await.unwrap().rehearsal.unwrap();
    assert_eq!((addresses(&strict.more), strict.same), (vec!["203.0.113.8".to_owned()], 0));
    assert!(strict.notes.iter().any(|note| note.contains("guard.repeat.strict")), "{:?}", strict.notes);
    bench.operations.apply_profile(&admin(), "strict", FORCED).await.unwrap();
    let reset = bench.operations.reset_settings(&admin(), None, DRY).await.unwrap().rehearsal.unwrap();
    assert_eq!(addresses(&reset.fewer), ["203.0.113.8"]);
    let monitor = bench.rehearsed(&[("filter.mode", "monitor")]).await;
    assert_eq!(addresses(&monitor.fewer), ["203.0.113.8"]);
}

#[tokio::test]
async fn where_nothing_enforces_a_rehearsal_says_who_would_have_been_told_of() {
    let bench = Bench::new().await;
    bench.guesses("203.0.113.8", false, 12);
    let lower = bench.rehearsed(&[("guard.authentication.failures", "10")]).await;
    assert!(lower.more[0].only_told);
}

#[tokio::test]
async fn a_rehearsal_says_what_it_cannot_know() {
    let bench = Bench::enforcing().await;
    let request = SetSettings { dry_run: false, ..dry(&[("guard.web.enforcement", "off")]) };
    bench.operations.set_settings(&admin(), request).await.unwrap();
    let view = bench.rehearsed(&[("guard.web.enforcement", "enforce"), ("guard.agents.list", "nobody")]).await;
    assert!(view.notes.iter().any(|note| note.contains("says nothing about guard.agents.list")), "{:?}", view.notes);
    assert!(view.notes.iter().any(|note| note.ends_with("nothing was counted: web")), "{:?}", view.notes);
    let others = bench.operations.set_settings(&admin(), dry(&[("calls.ring_time", "30s")])).await.unwrap();
    assert_eq!(others.rehearsal, None);
}

#[tokio::test]
async fn the_loudest_sources_are_known_to_a_rehearsal_of_the_rate_levels() {
    let bench = Bench::enforcing().await;
    // The fake filter has one at 900 packets a second.
    let [Talker { source, packets_per_second: 900, .. }, ..] = &bench.operations.top(3).await.unwrap()[..] else {
        panic!()
    };
    bench.operations.note_rates().await;
    let view = bench.rehearsed(&[("guard.level1.packets", "1000")]).await;
    assert_eq!((&view.fewer[0].cidr, view.fewer[0].count, view.fewer[0].detector), (source, 900, Detector::Level1));
}

#[tokio::test]
async fn a_rule_is_not_rehearsed_and_changes_nothing_of_it() {
    let bench = Bench::enforcing().await;
    bench.guesses("203.0.113.8", false, 12);
    bench.operations.add_rule(&admin(), request("203.0.113.8", Action::Allow)).await.unwrap();
    assert_eq!(bench.rehearsed(&[("guard.authentication.failures", "10")]).await.more_count, 1);
}
