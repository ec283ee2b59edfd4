//! Changes that take themselves back.

use std::time::Duration;

use super::{super::*, *};

fn within(span: &str, pairs: &[(&str, &str)]) -> SetSettings {
    let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SetSettings { values, confirm_within: Some(span.into()), ..SetSettings::default() }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Bench {
    async fn change(&self, span: &str) -> SettingsAnswer {
        let request = within(span, &[("guard.authentication.failures", "10")]);
        self.operations.set_settings(&admin(), request).await.unwrap()
    }

    fn failures(&self) -> u32 {
        self.operations.current_settings().0.guard.authentication.failures.get()
    }

    async fn audited(&self, what: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let rows = self.store().audit_rows(100).await.unwrap();
        rows.into_iter().filter(|row| row.what == what).map(|row| (row.actor, row.before, row.after)).collect()
    }
}

#[tokio::test]
async fn a_change_that_nobody_confirms_is_taken_back_when_its_time_is_over() {
    let bench = Bench::new().await;
    let answer = bench.change("2m").await;
    assert_eq!(answer.pending.unwrap().until, bench.now().saturating_add(seconds(120)));
    bench.advance(seconds(119));
    bench.operations.roll_back_if_due().await;
    assert_eq!(bench.failures(), 10);
    let status = bench.operations.status().await.unwrap();
    assert_eq!(status.pending.unwrap().changes[0].key, "guard.authentication.failures");
    assert!(status.warnings.iter().any(|one| one.contains("is taken back in 1s unless")), "{:?}", status.warnings);
    bench.advance(seconds(1));
    bench.operations.roll_back_if_due().await;
    assert_eq!((bench.failures(), bench.operations.pending_change()), (50, None));
    assert!(bench.store().settings().await.unwrap().values.is_empty());
    assert_eq!(bench.store().settings_pending().await.unwrap(), None);
    assert_eq!(bench.filter.called(), ["settings 1", "settings 2"]);
    let json = |text: &str| Some(format!("\"{text}\""));
    assert_eq!(bench.audited("setting.set").await, [("root".into(), json("50"), json("10"))]);
    assert_eq!(bench.audited("setting.rollback").await, [("pbx".into(), json("10"), json("50"))]);
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert_eq!(events[0].message, "pbx set back guard.authentication.failures from 10 to 50");
}

#[tokio::test]
async fn a_change_that_is_confirmed_stays() {
    let bench = Bench::new().await;
    bench.change("10s").await;
    assert_eq!(bench.operations.confirm_settings(&viewer()).await.unwrap_err().kind(), Kind::Denied);
    bench.operations.confirm_settings(&admin()).await.unwrap();
    bench.advance(seconds(3600));
    bench.operations.roll_back_if_due().await;
    assert_eq!((bench.failures(), bench.operations.pending_change()), (10, None));
    let value = |text: &str| Some(format!("{{\"guard.authentication.failures\":\"{text}\"}}"));
    assert_eq!(bench.audited("settings.confirm").await, [("root".into(), value("50"), value("10"))]);
    assert_eq!(bench.operations.confirm_settings(&admin()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(bench.operations.roll_settings_back(&admin()).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn what_waits_survives_a_crash_and_is_taken_back_by_the_next_daemon() {
    let bench = Bench::new().await;
    bench.change("2m").await;
    let (bench, state) = bench.restarted().await;
    assert!(state.settings_pending.is_some());
    assert_eq!(bench.failures(), 10);
    bench.advance(seconds(60));
    bench.operations.roll_back_if_due().await;
    assert_eq!(bench.failures(), 10, "it waits on");
    bench.advance(seconds(60));
    bench.operations.roll_back_if_due().await;
    assert_eq!(bench.failures(), 50);
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_nobody_wait_longer() {
    let bench = Bench::new().await;
    bench.advance(seconds(3600));
    bench.change("2m").await;
    // The clock of the next daemon begins an hour earlier.
    let (bench, _) = bench.restarted().await;
    bench.operations.roll_back_if_due().await;
    assert_eq!(bench.failures(), 50);
}

#[tokio::test]
async fn it_can_be_taken_back_at_once() {
    let bench = Bench::new().await;
    let request = within("1h", &[("filter.mode", "enforce"), ("guard.level1.packets", "100")]);
    bench.operations.set_settings(&admin(), request).await.unwrap();
    let answer = bench.operations.roll_settings_back(&admin()).await.unwrap();
    assert_eq!(answer.changes.len(), 2);
    let (settings, revision) = bench.operations.current_settings();
    assert_eq!((settings, revision), (pbx_core::settings::Settings::default(), 2));
}

#[tokio::test]
async fn while_a_change_waits_another_is_refused_unless_it_is_forced_and_then_confirms_it() {
    let bench = Bench::new().await;
    bench.change("2m").await;
    let other = within("1m", &[("guard.level1.packets", "300")]);
    let refused = bench.operations.set_settings(&admin(), other.clone()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code.as_str()), (Kind::Refused, "PENDING"));
    assert!(refused.message.contains("guard.authentication.failures by root waits"), "{refused}");
    assert!(refused.message.contains("`pbx guard confirm`"), "{refused}");
    assert!(bench.operations.reset_settings(&admin(), None, How::default()).await.is_err());
    assert!(bench.operations.apply_profile(&admin(), "strict", How::default()).await.is_err());
    let forced = SetSettings { force: true, ..other };
    let answer = bench.operations.set_settings(&admin(), forced).await.unwrap();
    assert!(answer.notes[0].contains("is confirmed by this one"), "{:?}", answer.notes);
    assert_eq!(bench.audited("settings.confirm").await.len(), 1);
    bench.advance(seconds(61));
    bench.operations.roll_back_if_due().await;
    let (settings, _) = bench.operations.current_settings();
    assert_eq!((bench.failures(), settings.guard.level1.packets.get()), (10, 500));
}

#[tokio::test]
async fn what_the_filter_does_not_take_back_is_told_once_and_tried_again() {
    let bench = Bench::new().await;
    bench.change("10s").await;
    bench.filter.fail(true);
    for _ in 0..40 {
        bench.advance(seconds(1));
        bench.operations.roll_back_if_due().await;
    }
    assert_eq!(bench.failures(), 10);
    assert!(bench.store().settings_pending().await.unwrap().is_some());
    let told =
        |events: Vec<Event>| events.into_iter().filter(|one| one.message.contains("cannot be set back yet")).count();
    assert_eq!(told(bench.operations.events(&ListOptions::default(), None).await.unwrap().items), 1);
    let warnings = bench.operations.status().await.unwrap().warnings;
    assert!(warnings.iter().any(|one| one.contains("cannot be taken back yet")), "{warnings:?}");
    bench.filter.fail(false);
    bench.advance(seconds(10));
    bench.operations.roll_back_if_due().await;
    assert_eq!((bench.failures(), bench.operations.pending_change()), (50, None));
}

#[tokio::test]
async fn a_change_that_the_filter_refuses_leaves_what_waited_before_waiting() {
    let bench = Bench::new().await;
    bench.change("2m").await;
    let before = bench.operations.pending_change();
    bench.filter.fail(true);
    let forced = SetSettings { force: true, ..within("1m", &[("guard.level1.packets", "300")]) };
    assert!(bench.operations.set_settings(&admin(), forced).await.is_err());
    assert_eq!(bench.operations.pending_change(), before);
    let stored = bench.store().settings_pending().await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<PendingChange>(&stored).ok(), before);
}

#[tokio::test]
async fn a_time_to_confirm_in_is_ten_seconds_to_an_hour_and_a_wrong_one_changes_nothing() {
    let bench = Bench::new().await;
    for (span, says) in [("5s", "5s is out of range (10s to 1h)"), ("2h", "2h is out of range"), ("soon", "soon")] {
        let request = within(span, &[("guard.authentication.failures", "10")]);
        let error = bench.operations.set_settings(&admin(), request).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.message.starts_with("confirm_within: ") && error.message.contains(says), "{error}");
    }
    assert_eq!((bench.failures(), bench.operations.current_settings().1), (50, 0));
    let dry = SetSettings { dry_run: true, ..within("2m", &[("guard.authentication.failures", "10")]) };
    assert_eq!(bench.operations.set_settings(&admin(), dry).await.unwrap().pending, None);
    assert_eq!(bench.operations.pending_change(), None);
    let unchanged = within("2m", &[("guard.authentication.failures", "50")]);
    assert_eq!(bench.operations.set_settings(&admin(), unchanged).await.unwrap().pending, None);
}
