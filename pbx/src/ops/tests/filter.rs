use super::{super::*, *};

#[tokio::test]
async fn the_status_says_what_somebody_should_do() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    bench.allow("198.51.100.2").await;
    bench.block_automatically("203.0.113.7");
    let status = bench.operations.status().await.unwrap();
    assert_eq!((status.block_rules, status.allow_rules, status.automatic_blocks), (1, 1, 1));
    assert!(
        status.warnings.iter().any(|warning| warning.contains("pbx firewall mode enforce")),
        "{:?}",
        status.warnings
    );
    let values = [("filter.mode".to_owned(), "enforce".to_owned())].into();
    bench.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap();
    let status = bench.operations.status().await.unwrap();
    assert!(status.warnings.is_empty(), "{:?}", status.warnings);
    assert_eq!(status.settings_revision, status.filter.settings_revision);
}

#[tokio::test]
async fn blocks_that_the_store_did_not_take_are_counted() {
    let bench = Bench::new().await;
    bench.block_automatically("203.0.113.7");
    bench.store().close().await;
    bench.operations.follow_automatic().await.unwrap_err();
    let status = bench.operations.status().await.unwrap();
    assert_eq!(status.unsaved_blocks, 1);
    assert!(status.warnings.iter().any(|warning| warning.contains("not stored yet")), "{:?}", status.warnings);
}

#[tokio::test]
async fn the_status_has_the_load_and_says_whom_an_overload_turns_away() {
    let bench = Bench::new().await;
    *bench.signalling.load.lock().unwrap() =
        crate::signalling::Load { level: 3, handled: 17, ..crate::signalling::Load::default() };
    let status = bench.operations.status().await.unwrap();
    assert_eq!(status.load.as_ref().unwrap().handled, 17);
    let shed = "level 3 of 6: strangers, new calls and phones that register anew are turned away";
    assert!(status.warnings.iter().any(|warning| warning.contains(shed)), "{:?}", status.warnings);
    let older = serde_json::from_str::<Status>(&serde_json::to_string(&status).unwrap()).unwrap();
    assert_eq!(older, status);
}

#[tokio::test]
async fn a_signalling_side_that_does_not_answer_has_no_load_and_is_told() {
    let bench = Bench::new().await;
    bench.fill().await;
    let status = bench.operations.status().await.unwrap();
    assert_eq!((status.registrations, status.load.as_ref().map(|load| load.level)), (Some(1), Some(0)));
    bench.signalling.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    let status = bench.operations.status().await.unwrap();
    assert_eq!((status.registrations, &status.load), (None, &None));
    assert!(
        status.warnings.iter().any(|warning| warning.contains("signalling does not answer")),
        "{:?}",
        status.warnings
    );
    let read = serde_json::from_str::<Status>(&serde_json::to_string(&status).unwrap()).unwrap();
    assert_eq!(read, status);
}

#[tokio::test]
async fn an_interface_is_attached_and_detached_by_its_name() {
    let bench = Bench::new().await;
    bench.operations.attach(&admin(), "eth0", true, false).await.unwrap();
    bench.operations.attach(&admin(), "eth0", false, false).await.unwrap();
    bench.operations.attach(&admin(), "eth0", false, true).await.unwrap();
    assert_eq!(bench.filter.called(), ["attach eth0", "detach eth0"]);
    let wrong = bench.operations.attach(&admin(), "../etc/passwd", true, false).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::Usage);
    bench.filter.fail(true);
    let failed = bench.operations.attach(&admin(), "eth0", true, false).await.unwrap_err();
    assert_eq!(failed.message, "the map is gone");
}

#[tokio::test]
async fn the_doctor_compares_memory_with_the_store() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    let findings = bench.operations.doctor().await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity == crate::filter::Severity::Ok), "{findings:?}");
    let rules = bench.store().rules().await.unwrap();
    let change = crate::store::RuleChange {
        removed: &rules,
        added: &[],
        audit: &[],
        events: &[],
        pending: None,
        feed: None,
        released: None,
    };
    bench.store().change_rules(change).await.unwrap();
    let findings = bench.operations.doctor().await.unwrap();
    assert!(
        findings.iter().any(|finding| finding.message.contains("0 rules are stored and 1 are in memory")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn one_doctor_at_a_time_looks_at_the_filter() {
    let bench = Bench::new().await;
    let at_work = Arc::clone(&bench.operations.inner.examining).lock_owned().await;
    let mut second = Box::pin(bench.operations.doctor());
    tokio::time::timeout(std::time::Duration::ZERO, &mut second).await.unwrap_err();
    drop(at_work);
    assert!(!second.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_capture_is_run_frame_by_frame_and_a_broken_one_is_a_usage_error() {
    let bench = Bench::new().await;
    let mut capture = 0xA1B2_C3D4_u32.to_le_bytes().to_vec();
    capture.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0]);
    capture.extend([0; 8]);
    capture.extend([3, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3]);
    let report = bench.operations.test_capture(capture).await.unwrap();
    assert_eq!((report.passed, report.dropped, report.verdicts.len()), (1, 0, 1));
    assert_eq!(bench.operations.test_capture(vec![1, 2, 3]).await.unwrap_err().kind(), Kind::Usage);
    assert_eq!(bench.operations.top(0).await.unwrap_err().kind(), Kind::Usage);
    assert_eq!(bench.operations.top(2).await.unwrap().len(), 2);
}
