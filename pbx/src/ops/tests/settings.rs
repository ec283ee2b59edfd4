use super::{super::*, *};

fn set(pairs: &[(&str, &str)]) -> SetSettings {
    let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SetSettings { values, ..SetSettings::default() }
}

#[tokio::test]
async fn settings_are_taken_over_together_and_survive_a_restart() {
    let bench = Bench::new().await;
    let request = set(&[("guard.level1.packets", "3000"), ("guard.level2.packets", "4000")]);
    let answer = bench.operations.set_settings(&admin(), request).await.unwrap();
    assert_eq!((answer.revision, answer.changes.len()), (1, 2));
    assert_eq!(bench.filter.called(), ["settings 1"]);
    let again = bench.operations.set_settings(&admin(), set(&[("guard.level1.packets", "3000")])).await.unwrap();
    assert_eq!((again.revision, again.changes.len()), (1, 0));
    let (bench, _) = bench.restarted().await;
    let (settings, revision) = bench.operations.current_settings();
    assert_eq!((settings.guard.level1.packets.get(), revision), (3000, 1));
    let reset = bench.operations.reset_settings(&admin(), None, How::default()).await.unwrap();
    assert_eq!((reset.revision, reset.changes.len()), (2, 2));
    assert!(bench.store().settings().await.unwrap().values.is_empty());
}

#[tokio::test]
async fn wrong_settings_change_nothing_and_the_error_names_key_and_range() {
    let bench = Bench::new().await;
    for (pairs, word) in [
        (&[("guard.level1.packets", "0")][..], "from 1 to 1000000"),
        (&[("guard.level2.packets", "500")][..], "guard.level1.packets (500)"),
        (&[("guard.level1.packet", "5")][..], "did you mean guard.level1.packets"),
        (&[("guard.level1.packets", "700"), ("filter.mode", "fast")][..], "filter.mode"),
        (&[("guard.agents.list", "/(unclosed/")][..], "guard.agents.list: \"/(unclosed/\""),
        (&[("guard.agents.list", "/(unclosed/")][..], "unclosed group"),
        (&[("guard.agents.list", "/((a{100}){100}){100}/")][..], "too costly"),
        (&[("guard.authentication.failures", "0")][..], "guard.authentication.failures: \"0\""),
        (&[("guard.enumeration.targets", "33")][..], "from 2 to 32"),
    ] {
        let error = bench.operations.set_settings(&admin(), set(pairs)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.message.contains(word), "{error}");
    }
    let reset = bench.operations.reset_settings(&admin(), Some(vec!["guard.nothing".into()]), How::default()).await;
    assert_eq!(reset.unwrap_err().kind(), Kind::Usage);
    assert_eq!(bench.operations.current_settings().1, 0);
    assert!(bench.filter.called().is_empty());
}

#[tokio::test]
async fn when_the_filter_fails_the_old_settings_stand() {
    let bench = Bench::new().await;
    bench.filter.fail(true);
    let error = bench.operations.set_settings(&admin(), set(&[("guard.level1.packets", "100")])).await.unwrap_err();
    assert_eq!(error.code, "FILTER_FAILED");
    assert_eq!(bench.operations.current_settings().0.guard.level1.packets.get(), 500);
    assert!(bench.store().settings().await.unwrap().values.is_empty());
}

#[tokio::test]
async fn the_first_enforcement_lets_whoever_is_connected_over_ssh_in_and_only_the_first() {
    let bench = Bench::new().await;
    let enforce = set(&[("filter.mode", "enforce")]);
    let dry = bench.operations.set_settings(&admin(), SetSettings { dry_run: true, ..enforce.clone() }).await.unwrap();
    assert!(dry.notes[0].contains("203.0.113.50, connected over ssh, would be put"), "{:?}", dry.notes);
    assert!(bench.stored().await.is_empty());
    let answer = bench.operations.set_settings(&admin(), enforce.clone()).await.unwrap();
    assert!(answer.notes[0].contains("`pbx allow remove 203.0.113.50`"), "{:?}", answer.notes);
    assert_eq!(bench.stored().await, ["allow 203.0.113.50"]);
    // The rule is there before the filter drops anything.
    assert_eq!(bench.filter.called(), ["apply", "settings 1"]);
    bench
        .operations
        .remove_rule_of(&admin(), "203.0.113.50", pbx_core::rule::Action::Allow, How::default())
        .await
        .unwrap();
    bench.operations.set_settings(&admin(), set(&[("filter.mode", "monitor")])).await.unwrap();
    let second = bench.operations.set_settings(&admin(), enforce).await.unwrap();
    assert!(second.notes.is_empty() && bench.stored().await.is_empty());
}

#[tokio::test]
async fn an_enforcement_without_ssh_says_that_nobody_was_let_in() {
    let bench = Bench::new().await;
    bench.surroundings.lock().unwrap().peers.clear();
    let answer = bench.operations.set_settings(&admin(), set(&[("filter.mode", "enforce")])).await.unwrap();
    assert!(answer.notes[0].contains("nobody is connected over ssh"), "{:?}", answer.notes);
}

#[tokio::test]
async fn a_profile_is_taken_over_and_an_unknown_one_is_not_found() {
    let bench = Bench::new().await;
    let answer = bench.operations.apply_profile(&admin(), "portsip", How::default()).await.unwrap();
    assert!(answer.changes.iter().any(|change| change.key == "guard.level1.packets" && change.after == "2000"));
    let error = bench.operations.apply_profile(&admin(), "lenient", How::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.message.contains("portsip"), "{error}");
}

#[tokio::test]
async fn what_differs_from_a_new_installation_and_from_a_profile_is_told() {
    let bench = Bench::new().await;
    assert!(bench.operations.settings_diff(None).unwrap().items.is_empty());
    let request = set(&[("guard.level1.packets", "400"), ("calls.ring_time", "30s")]);
    bench.operations.set_settings(&admin(), request).await.unwrap();
    let keys = |profile: Option<&str>| -> Vec<String> {
        let items = bench.operations.settings_diff(profile).unwrap().items;
        items.into_iter().map(|one| format!("{} {} {}", one.key, one.value, one.there)).collect()
    };
    assert_eq!(keys(None), ["guard.level1.packets 400 500", "calls.ring_time 30s 1m"]);
    // A profile says nothing of calls.
    assert_eq!(keys(Some("default")), ["guard.level1.packets 400 500"]);
    assert!(keys(Some("portsip")).contains(&"guard.level1.packets 400 2000".to_owned()));
    assert_eq!(bench.operations.settings_diff(Some("lax")).unwrap_err().kind(), Kind::NotFound);
    bench.operations.apply_profile(&admin(), "strict", How::default()).await.unwrap();
    assert!(keys(Some("strict")).is_empty());
}

#[tokio::test]
async fn every_change_of_a_setting_is_in_the_audit_with_before_and_after() {
    let bench = Bench::new().await;
    bench.operations.set_settings(&admin(), set(&[("guard.spread.sources", "9")])).await.unwrap();
    bench.operations.apply_profile(&admin(), "strict", How::default()).await.unwrap();
    bench.operations.reset_settings(&admin(), Some(vec!["guard.spread.sources".into()]), How::default()).await.unwrap();
    let rows = bench.store().audit_rows(100).await.unwrap();
    let of = |row: &crate::store::AuditRow| (row.before.clone().unwrap(), row.after.clone().unwrap());
    let spread: Vec<_> = rows.iter().filter(|row| row.object == "guard.spread.sources").map(of).collect();
    let pair = |before: &str, after: &str| (format!("\"{before}\""), format!("\"{after}\""));
    assert_eq!(spread, [pair("5", "8"), pair("9", "5"), pair("8", "9")]);
    assert!(rows.iter().all(|row| row.actor == "root" && row.what == "setting.set"));
    let changed = bench.operations.settings_diff(None).unwrap().items.len();
    assert_eq!(rows.len(), changed + 3);
}

#[tokio::test]
async fn a_stored_setting_of_another_version_falls_back_to_its_default_and_is_told() {
    let bench = Bench::new().await;
    let values = [("guard.gone", "5"), ("guard.level1.packets", "0"), ("guard.known.budget", "20")]
        .map(|(k, v)| (k.to_owned(), Some(v.to_owned())));
    let change =
        crate::store::SettingsChange { values: &values, audit: &[], events: &[], enforced: false, pending: None };
    bench.store().change_settings(change).await.unwrap();
    let (bench, state) = bench.restarted().await;
    assert_eq!(state.refused_settings.len(), 2);
    let (settings, _) = bench.operations.current_settings();
    assert_eq!((settings.guard.level1.packets.get(), settings.guard.known.budget.get()), (500, 20));
    bench.operations.started(None, &state.refused_settings).await.unwrap();
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn an_emergency_number_that_extensions_have_or_begin_with_is_refused_and_names_them() {
    let bench = Bench::new().await;
    bench.fill().await;
    for number in ["1021", "103", "104", "105", "200"] {
        let extension = AddExtension { extension_number: number.into(), ..AddExtension::default() };
        bench.operations.add_extension(&admin(), extension).await.unwrap();
    }
    for (numbers, says) in [
        ("112,10", "101 of default (10), 1021 of default (10), 103 of default (10) and 2 more; leave"),
        ("112,200", "200 of default (200); leave"),
    ] {
        let error =
            bench.operations.set_settings(&admin(), set(&[("sip.emergency_numbers", numbers)])).await.unwrap_err();
        assert!(error.message.starts_with("sip.emergency_numbers: ") && error.message.contains(says), "{error}");
        assert_eq!(error.kind(), Kind::Usage);
    }
    assert_eq!(bench.operations.current_settings().1, 0);
    bench.operations.set_settings(&admin(), set(&[("sip.emergency_numbers", "112,2001")])).await.unwrap();
}
