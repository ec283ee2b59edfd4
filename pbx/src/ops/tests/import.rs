use std::{net::Ipv4Addr, sync::atomic::Ordering, time::Duration};

use super::{super::*, *};
use crate::filter::Change;

fn list(text: &str) -> ImportRequest {
    ImportRequest { text: text.into(), ..ImportRequest::default() }
}

fn thousands(count: u32) -> String {
    (0..count).map(|n| format!("{}\n", Ipv4Addr::from_bits(0x0B00_0000 + n))).collect()
}

#[tokio::test]
async fn a_list_is_one_change_and_comes_out_as_it_went_in() {
    let bench = Bench::new().await;
    let text = "198.51.100.1 allow # My Remote office\n41.202.0.0/16 block until 2027-01-01T00:00:00Z # Abidjan\n";
    let answer = bench.operations.import(&admin(), list(text)).await.unwrap();
    assert_eq!((answer.added, answer.updated, answer.unchanged), (2, 0, 0));
    assert!(
        matches!(&bench.filter.changes.lock().unwrap()[..], [Change::Many { removed, added }] if removed.is_empty() && added.len() == 2)
    );
    assert_eq!(bench.operations.export(None), text);
    assert_eq!(bench.operations.export(Some(pbx_core::rule::Action::Block)).lines().count(), 1);
    assert_eq!(bench.store().pending().await.unwrap(), None);
    let again = bench.operations.import(&admin(), list(&format!("{text}198.51.100.1 allow for 1h\n"))).await.unwrap();
    assert_eq!((again.added, again.updated, again.unchanged), (0, 0, 2));
    let audit = bench.store().audit_rows(1).await.unwrap();
    assert_eq!((audit[0].what.as_str(), audit[0].after.as_deref()), ("rule.import", Some("{\"rules\":2}")));
}

#[tokio::test]
async fn a_bad_line_is_named_and_nothing_is_imported() {
    let bench = Bench::new().await;
    let text = thousands(516) + "10.0.0.300\n" + &thousands(10);
    let error = bench.operations.import(&admin(), list(&text)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.detail.as_deref().unwrap().starts_with("line 517: "), "{error:?}");
    assert!(bench.stored().await.is_empty() && bench.filter.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_list_that_locks_out_is_refused_whole() {
    let bench = Bench::new().await;
    let hard = bench.operations.import(&admin(), list("198.51.100.1\n192.0.2.5\n127.0.0.1\n")).await.unwrap_err();
    assert_eq!(hard.code, "REFUSED");
    assert_eq!(hard.detail.as_deref().unwrap().lines().count(), 2);
    let soft = bench.operations.import(&admin(), list("198.51.100.1\n203.0.113.50\n")).await.unwrap_err();
    assert_eq!(soft.code, "NEEDS_FORCE");
    assert!(bench.stored().await.is_empty());
    let forced = ImportRequest { force: true, ..list("198.51.100.1\n203.0.113.50\n") };
    assert_eq!(bench.operations.import(&admin(), forced).await.unwrap().added, 2);
}

#[tokio::test]
async fn more_than_is_guaranteed_is_refused_before_anything_is_written() {
    let bench = Bench::new().await;
    let ranges: String =
        (0..65_537_u32).map(|n| format!("{}/28\n", Ipv4Addr::from_bits(0x0B00_0000 + n * 16))).collect();
    let error = bench.operations.import(&admin(), list(&ranges)).await.unwrap_err();
    assert_eq!((error.kind(), error.code.as_str()), (Kind::Full, "CAPACITY"));
    assert!(error.message.contains("65536 are the most"), "{error}");
    assert!(bench.stored().await.is_empty());
    bench.filter.full.store(true, Ordering::Relaxed);
    let dry = ImportRequest { dry_run: true, ..list("198.51.100.1\n") };
    assert_eq!(bench.operations.import(&admin(), dry).await.unwrap_err().kind(), Kind::Full);
}

#[tokio::test]
async fn when_the_filter_fails_an_import_is_taken_back() {
    let bench = Bench::new().await;
    bench.block("11.0.0.1").await;
    bench.filter.fail(true);
    let text = "11.0.0.1 for 1h\n".to_owned() + &thousands(3000);
    let error = bench.operations.import(&admin(), list(&text)).await.unwrap_err();
    assert!(error.message.contains("nothing changed"), "{error}");
    assert_eq!(bench.stored().await, ["block 11.0.0.1"]);
    assert_eq!(bench.store().rules().await.unwrap()[0].expires_at, None);
    assert_eq!(bench.store().pending().await.unwrap(), None);
}

#[tokio::test]
async fn an_import_cut_off_between_store_and_filter_is_finished_at_the_next_start() {
    let bench = Bench::new().await;
    // What an import leaves when the daemon dies right after the commit.
    let donor = Bench::new().await;
    donor.operations.import(&admin(), list("198.51.100.1\n198.51.100.2\n")).await.unwrap();
    let rules = donor.store().rules().await.unwrap();
    let change = crate::store::RuleChange {
        removed: &[],
        added: &rules,
        audit: &[],
        events: &[],
        pending: Some("root imported a list: 2 rules new, 0 changed"),
        feed: None,
        released: None,
    };
    bench.store().change_rules(change).await.unwrap();
    let (bench, state) = bench.restarted().await;
    // The start makes the tables equal to these rules, whatever they held.
    assert_eq!(state.rules, rules);
    assert!(state.pending.is_some());
    bench.operations.started(state.pending, &state.refused_settings).await.unwrap();
    assert_eq!(bench.store().pending().await.unwrap(), None);
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert!(events[0].message.contains("finished what an earlier daemon had begun: root imported"), "{events:?}");
    assert_eq!(bench.operations.rules(&ListOptions::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_hundred_thousand_lines_are_one_transaction() {
    let bench = Bench::new().await;
    let answer = bench.operations.import(&admin(), list(&thousands(100_000))).await.unwrap();
    assert_eq!(answer.added, 100_000);
    assert_eq!(bench.store().rules().await.unwrap().len(), 100_000);
    eprintln!("100,000 lines in {} ms (unoptimized)", answer.milliseconds);
    let flushed = bench.operations.flush(&admin(), pbx_core::rule::Action::Block, How::default()).await.unwrap();
    assert_eq!(flushed.removed, 100_000);
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_flush_keeps_the_other_action_and_a_dry_one_keeps_everything() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    bench.allow("198.51.100.2").await;
    let dry = bench.operations.flush(&admin(), pbx_core::rule::Action::Block, DRY).await.unwrap();
    assert_eq!((dry.removed, bench.stored().await.len()), (1, 2));
    bench.operations.flush(&admin(), pbx_core::rule::Action::Block, How::default()).await.unwrap();
    assert_eq!(bench.stored().await, ["allow 198.51.100.2"]);
}

#[tokio::test]
async fn a_rule_whose_time_is_over_is_swept_and_no_other() {
    let bench = Bench::new().await;
    let request = AddRule { lasting: Some("1h".into()), ..request("198.51.100.1", pbx_core::rule::Action::Block) };
    bench.operations.add_rule(&admin(), request).await.unwrap();
    bench.block("198.51.100.2").await;
    assert_eq!(bench.operations.sweep(bench.now()).await.unwrap(), 0);
    bench.advance(Duration::from_secs(3599));
    assert_eq!(bench.operations.sweep(bench.now()).await.unwrap(), 0);
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.operations.sweep(bench.now()).await.unwrap(), 1);
    assert_eq!(bench.stored().await, ["block 198.51.100.2"]);
    assert!(matches!(bench.filter.changes.lock().unwrap().last(), Some(Change::Remove(_))));
    assert_eq!(bench.store().audit_rows(1).await.unwrap()[0].actor, "pbx");
}
