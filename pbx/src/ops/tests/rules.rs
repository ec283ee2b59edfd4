use std::{sync::atomic::Ordering, time::Duration};

use pbx_core::rule::Action;

use super::{super::*, *};
use crate::filter::Change;

async fn refused(bench: &Bench, request: AddRule) -> OpError {
    let before = bench.stored().await;
    let error = bench.operations.add_rule(&admin(), request).await.unwrap_err();
    assert_eq!(bench.stored().await, before);
    assert!(bench.filter.changes.lock().unwrap().is_empty());
    error
}

#[tokio::test]
async fn a_block_is_stored_applied_audited_and_told() {
    let bench = Bench::new().await;
    let mut events = bench.operations.follow();
    let request = AddRule {
        lasting: Some("2h".into()),
        description: Some("flood".into()),
        ..request("41.202.0.0 255.255.0.0", Action::Block)
    };
    let answer = bench.operations.add_rule(&admin(), request).await.unwrap();
    assert_eq!(answer.did, Did::Added);
    assert_eq!(answer.item.cidr.to_string(), "41.202.0.0/16");
    assert_eq!(
        (answer.item.first.to_string(), answer.item.last.to_string()),
        ("41.202.0.0".into(), "41.202.255.255".into())
    );
    assert_eq!(answer.item.addresses, "65536");
    assert_eq!(answer.item.expire_at, Some(bench.now().saturating_add(Duration::from_secs(7200))));
    assert!(answer.notes.iter().any(|note| note.contains("only monitors")), "{:?}", answer.notes);
    assert_eq!(bench.stored().await, ["block 41.202.0.0/16"]);
    assert!(matches!(&bench.filter.changes.lock().unwrap()[..], [Change::Add(rule)] if rule.description == "flood"));
    let audit = bench.store().audit_rows(9).await.unwrap();
    assert_eq!((audit.len(), audit[0].what.as_str(), audit[0].actor.as_str()), (1, "rule.add", "root"));
    assert!(audit[0].before.is_none() && audit[0].after.as_deref().unwrap().contains("41.202.0.0/16"));
    let told = events.recv().await.unwrap();
    assert!(told.message.contains("root made the rule: block 41.202.0.0/16") && told.id > 0, "{}", told.message);
}

#[tokio::test]
async fn a_second_block_of_the_same_range_updates_the_first() {
    let bench = Bench::new().await;
    bench
        .operations
        .add_rule(&admin(), AddRule { description: Some("why".into()), ..request("192.0.2.1", Action::Block) })
        .await
        .unwrap();
    let again = AddRule { lasting: Some("1d".into()), ..request("192.0.2.1", Action::Block) };
    let answer = bench.operations.add_rule(&admin(), again.clone()).await.unwrap();
    assert_eq!(
        (answer.did, answer.item.description.as_str(), answer.item.id.as_deref()),
        (Did::Updated, "why", Some("1"))
    );
    assert!(matches!(bench.filter.changes.lock().unwrap().last(), Some(Change::Replace { .. })));
    assert_eq!(bench.operations.add_rule(&admin(), again).await.unwrap().did, Did::Unchanged);
    assert_eq!(bench.stored().await, ["block 192.0.2.1"]);
    let id = answer.item.id.unwrap();
    let update = UpdateRule { permanent: true, description: Some("new".into()), ..UpdateRule::default() };
    let answer = bench.operations.update_rule(&admin(), &id, update).await.unwrap();
    assert_eq!((answer.item.expire_at, answer.item.description.as_str()), (None, "new"));
}

#[tokio::test]
async fn a_wrong_address_end_or_description_is_a_usage_error() {
    let bench = Bench::new().await;
    let past = AddRule { expire_at: Some(bench.now()), ..request("192.0.2.1", Action::Block) };
    let both = AddRule { lasting: Some("1h".into()), ..past.clone() };
    let long = AddRule { description: Some("x".repeat(256)), ..request("192.0.2.1", Action::Block) };
    let short = AddRule { lasting: Some("1ms".into()), ..request("192.0.2.1", Action::Block) };
    let word = AddRule { lasting: Some("soon".into()), ..request("192.0.2.1", Action::Block) };
    let mut requests = vec![past, both, long, short, word];
    for address in ["103.224.182.210.0", "10.0.0.300", "10.0.0.1/33", "fe80::1%eth0", "", "192.0.2.1 255.0.255.0"] {
        requests.push(request(address, Action::Block));
    }
    for request in requests {
        let error = refused(&bench, request.clone()).await;
        assert_eq!((error.kind(), error.code.as_str()), (Kind::Usage, "VALIDATE_FAILED"), "{request:?}: {error}");
    }
}

#[tokio::test]
async fn host_bits_are_cleared_and_that_is_said() {
    let bench = Bench::new().await;
    let answer = bench.operations.add_rule(&admin(), request("10.0.0.5/24", Action::Block)).await.unwrap();
    assert_eq!(answer.notes[0], "10.0.0.5/24 means 10.0.0.0/24");
}

#[tokio::test]
async fn a_block_that_locks_out_is_refused_and_some_of_it_can_be_forced() {
    let bench = Bench::new().await;
    for vital in ["192.0.2.5", "192.0.2.0/24", "192.0.2.254", "127.0.0.1", "fe80::/10"] {
        let forced = AddRule { force: true, ..request(vital, Action::Block) };
        let error = refused(&bench, forced).await;
        assert_eq!((error.kind(), error.code.as_str()), (Kind::Refused, "REFUSED"), "{vital}");
    }
    for peer in ["203.0.113.50", "203.0.113.0/24", "0.0.0.0/0", "::/0"] {
        let error = refused(&bench, request(peer, Action::Block)).await;
        assert_eq!((error.kind(), error.code.as_str()), (Kind::Refused, "NEEDS_FORCE"), "{peer}");
    }
    assert!(refused(&bench, request("203.0.113.0/24", Action::Block)).await.message.contains("203.0.113.50"));
    let forced = AddRule { force: true, ..request("203.0.113.50", Action::Block) };
    assert_eq!(bench.operations.add_rule(&admin(), forced).await.unwrap().did, Did::Added);
    bench.allow("192.0.2.0/24").await;
}

#[tokio::test]
async fn what_the_tables_have_no_room_for_is_not_written() {
    let bench = Bench::new().await;
    bench.filter.full.store(true, Ordering::Relaxed);
    let error = refused(&bench, request("198.51.100.0/24", Action::Block)).await;
    assert_eq!((error.kind(), error.code.as_str()), (Kind::Full, "CAPACITY"));
    assert!(error.message.contains("65536"));
}

#[tokio::test]
async fn when_the_filter_fails_the_store_is_put_back() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    bench.filter.fail(true);
    let add = bench.operations.add_rule(&admin(), request("198.51.100.2", Action::Block)).await.unwrap_err();
    assert_eq!(add.code, "FILTER_FAILED");
    assert!(add.message.contains("the map is gone") && add.message.contains("nothing changed"), "{add}");
    let change = AddRule { lasting: Some("1h".into()), ..request("198.51.100.1", Action::Block) };
    bench.operations.add_rule(&admin(), change).await.unwrap_err();
    bench.operations.remove_rule(&admin(), "1", How::default()).await.unwrap_err();
    bench.filter.fail(false);
    assert_eq!(bench.stored().await, ["block 198.51.100.1"]);
    let item = bench.operations.rule("1").await.unwrap();
    assert_eq!(item.expire_at, None);
    assert_eq!(bench.store().audit_rows(1).await.unwrap()[0].what, "rule.undo");
    bench.block("198.51.100.2").await;
    assert_eq!(bench.stored().await, ["block 198.51.100.1", "block 198.51.100.2"]);
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_changes_nothing() {
    let bench = Bench::new().await;
    let dry = AddRule { dry_run: true, ..request("198.51.100.1", Action::Block) };
    let answer = bench.operations.add_rule(&admin(), dry).await.unwrap();
    assert_eq!((answer.did, answer.dry_run, answer.item.id), (Did::Added, true, None));
    bench.block("198.51.100.1").await;
    let removed = bench.operations.remove_rule(&admin(), "1", DRY).await.unwrap();
    assert_eq!((removed.did, removed.dry_run), (Did::Removed, true));
    let update = UpdateRule { description: Some("x".into()), dry_run: true, ..UpdateRule::default() };
    bench.operations.update_rule(&admin(), "1", update).await.unwrap();
    assert_eq!(bench.operations.rule("1").await.unwrap().description, "");
    assert_eq!(bench.stored().await, ["block 198.51.100.1"]);
    assert_eq!(bench.filter.changes.lock().unwrap().len(), 1);
    let wrong = AddRule { dry_run: true, ..request("192.0.2.5", Action::Block) };
    assert_eq!(bench.operations.add_rule(&admin(), wrong).await.unwrap_err().code, "REFUSED");
}

#[tokio::test]
async fn a_removed_block_resets_the_counters_and_says_so() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    bench.block("198.51.100.0/24").await;
    bench.filter.called();
    let answer = bench.operations.remove_rule(&admin(), "1", How::default()).await.unwrap();
    assert_eq!(bench.filter.called(), ["apply", "reset_counters 198.51.100.1"]);
    assert_eq!(answer.notes[0], "the counters of 198.51.100.1 were reset");
    assert!(answer.notes[1].contains("still blocked by the rule 198.51.100.0/24"), "{:?}", answer.notes);
    assert_eq!(bench.operations.remove_rule(&admin(), "1", How::default()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(bench.operations.rule("nonsense").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn an_allow_rule_is_removed_by_its_range_and_a_wider_one_is_named() {
    let bench = Bench::new().await;
    bench.allow("198.51.100.0/24").await;
    let wider =
        bench.operations.remove_rule_of(&admin(), "198.51.100.7", Action::Allow, How::default()).await.unwrap_err();
    assert_eq!(wider.kind(), Kind::NotFound);
    assert!(wider.message.contains("pbx allow remove 198.51.100.0/24"), "{wider}");
    let none = bench.operations.remove_rule_of(&admin(), "10.0.0.1", Action::Allow, How::default()).await.unwrap_err();
    assert!(none.message.contains("pbx allow list"), "{none}");
    bench
        .operations
        .remove_rule_of(&admin(), "198.51.100.0 255.255.255.0", Action::Allow, How::default())
        .await
        .unwrap();
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn notes_tell_which_other_rules_decide() {
    let bench = Bench::new().await;
    bench.allow("198.51.100.7").await;
    bench.allow("198.51.100.0/24").await;
    let answer = bench.operations.add_rule(&admin(), request("198.51.100.0/24", Action::Block)).await.unwrap();
    assert!(answer.notes[0].contains("allow wins"), "{:?}", answer.notes);
    assert!(answer.notes[1].contains("1 narrower allow rule inside it decides before it"), "{:?}", answer.notes);
}

#[tokio::test]
async fn lists_are_filtered_sorted_counted_and_have_hits() {
    let bench = Bench::new().await;
    for address in ["198.51.100.1", "198.51.100.2", "10.0.0.0/8"] {
        bench.block(address).await;
    }
    bench.allow("198.51.100.3").await;
    let options = ListOptions {
        filter: Some("target eq 'DENY'".into()),
        orderby: Some("cidr desc".into()),
        top: Some(2),
        count: Some(true),
        ..ListOptions::default()
    };
    let page = bench.operations.rules(&options).await.unwrap();
    assert_eq!(page.count, Some(3));
    let found: Vec<String> = page.items.iter().map(|item| item.cidr.to_string()).collect();
    assert_eq!(found, ["198.51.100.2", "198.51.100.1"]);
    assert_eq!(page.items[0].hits.packets, 32);
    let wrong = ListOptions { filter: Some("colour eq 'red'".into()), ..ListOptions::default() };
    assert_eq!(bench.operations.rules(&wrong).await.unwrap_err().kind(), Kind::Usage);
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    let (operations, eve) = (&bench.operations, viewer());
    let denied = [
        operations.add_rule(&eve, request("198.51.100.2", Action::Block)).await.err(),
        operations.update_rule(&eve, "1", UpdateRule::default()).await.err(),
        operations.remove_rule(&eve, "1", DRY).await.err(),
        operations.remove_rule_of(&eve, "198.51.100.1", Action::Block, How::default()).await.err(),
        operations.import(&eve, ImportRequest::default()).await.err(),
        operations.flush(&eve, Action::Block, How::default()).await.err(),
        operations
            .remove_block(&eve, RemoveBlock { address: "198.51.100.1".into(), ..RemoveBlock::default() })
            .await
            .err(),
        operations.remove_all_automatic(&eve, false).await.err(),
        operations.set_settings(&eve, SetSettings::default()).await.err(),
        operations.reset_settings(&eve, None, How::default()).await.err(),
        operations.apply_profile(&eve, "strict", How::default()).await.err(),
        operations.attach(&eve, "eth0", true, false).await.err(),
    ];
    for (index, error) in denied.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("operation {index} let a viewer change"));
        assert_eq!((error.kind(), error.code.as_str()), (Kind::Denied, "FORBIDDEN"), "{index}: {error}");
    }
    assert_eq!(bench.stored().await, ["block 198.51.100.1"]);
}

#[tokio::test]
async fn a_change_is_finished_when_whoever_asked_hangs_up() {
    let bench = Bench::new().await;
    let mut events = bench.operations.follow();
    let operations = bench.operations.clone();
    let asking =
        tokio::spawn(async move { operations.add_rule(&admin(), request("198.51.100.1", Action::Block)).await });
    tokio::task::yield_now().await;
    asking.abort();
    let _ = asking.await;
    // Either it had not begun, or it is finished: store and filter agree.
    let finished = tokio::time::timeout(Duration::from_secs(2), events.recv()).await.is_ok();
    assert_eq!(bench.stored().await.len(), usize::from(finished));
    assert_eq!(bench.filter.changes.lock().unwrap().len(), usize::from(finished));
}
