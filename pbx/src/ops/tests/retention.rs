//! What is too old goes, and nothing else.

use std::time::Duration;

use super::{super::*, *};
use crate::{
    ops::fake::ended_call,
    store::{CallField, Condition, EventKind, NewEvent},
};

#[tokio::test]
async fn what_is_older_than_its_setting_goes_and_the_audit_says_how_much() {
    let bench = Bench::new().await;
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let event = |at| NewEvent { at, kind: EventKind::Daemon, prefix: None, interface: None, message: "one".into() };
    let all = Condition::<CallField>::All(Vec::new());
    let calls = || bench.store().count_calls(&all);
    bench.store().keep_calls(&[ended_call(1)]).await.unwrap();
    bench.store().add_events(&[event(bench.now())]).await.unwrap();
    let values = |value: &str| [("retention.events".to_owned(), value.to_owned())].into();
    let request = SetSettings { values: values("2d"), ..SetSettings::default() };
    bench.operations.set_settings(&admin(), request).await.unwrap();
    let audited = bench.store().audit_rows(100).await.unwrap().len();
    assert!(audited > 0);

    bench.operations.forget_old().await;
    let events = bench.store().events(Timestamp::MIN, 100).await.unwrap();
    assert!(events.iter().any(|event| event.message == "one"), "{events:?}");
    bench.advance(days(3));
    bench.store().add_events(&[event(bench.now())]).await.unwrap();
    bench.operations.forget_old().await;
    let events = bench.store().events(Timestamp::MIN, 100).await.unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(calls().await.unwrap(), 1);
    assert_eq!(bench.store().audit_rows(100).await.unwrap().len(), audited);

    // The record's call was a while before the bench's time.
    bench.advance(days(365 + 366));
    bench.operations.forget_old().await;
    assert_eq!(calls().await.unwrap(), 0);
    let verified = bench.operations.verify_audit().await.unwrap();
    assert_eq!((verified.rows, verified.pruned, verified.broken), (0, audited as u64, None));
}

#[tokio::test]
async fn the_audit_keeps_a_month_at_least() {
    let bench = Bench::new().await;
    let request =
        SetSettings { values: [("retention.audit".to_owned(), "1d".to_owned())].into(), ..SetSettings::default() };
    let error = bench.operations.set_settings(&admin(), request).await.unwrap_err();
    assert!(error.message.contains("retention.audit") && error.message.contains("30d"), "{error}");
}
