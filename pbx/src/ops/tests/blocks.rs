use std::time::Duration;

use pbx_core::rule::Action;

use super::{super::*, *};

fn remove(address: &str) -> RemoveBlock {
    RemoveBlock { address: address.into(), ..RemoveBlock::default() }
}

#[tokio::test]
async fn manual_and_automatic_blocks_are_one_list() {
    let bench = Bench::new().await;
    bench.block("198.51.100.0/24").await;
    bench.advance(Duration::from_secs(1));
    bench.block_automatically("203.0.113.7");
    let page = bench.operations.blocks(&ListOptions { count: Some(true), ..ListOptions::default() }).await.unwrap();
    assert_eq!(page.count, Some(2));
    let [automatic, manual] = &page.items[..] else { panic!("{page:?}") };
    assert_eq!(
        (automatic.kind, automatic.reason.as_str(), automatic.hits.packets),
        (BlockKind::Automatic, "level1", 700)
    );
    assert_eq!(automatic.undo, "pbx block remove 203.0.113.7");
    assert_eq!((manual.kind, manual.hits.packets, manual.hits.estimated), (BlockKind::Manual, 24, true));
    assert!(!manual.enforced && !automatic.enforced, "the filter only monitors");
    let loud = ListOptions { filter: Some("packets gt 100".into()), ..ListOptions::default() };
    assert_eq!(bench.operations.blocks(&loud).await.unwrap().items.len(), 1);
    let by_hits = ListOptions { orderby: Some("packets".into()), ..ListOptions::default() };
    assert_eq!(bench.operations.blocks(&by_hits).await.unwrap().items[0].kind, BlockKind::Manual);
    let covering = ListOptions { search: Some("198.51.100.77".into()), ..ListOptions::default() };
    assert_eq!(bench.operations.blocks(&covering).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn whatever_blocks_an_address_is_removed_and_its_counters_reset() {
    let bench = Bench::new().await;
    bench.block("203.0.113.7").await;
    bench.block_automatically("203.0.113.7");
    bench.block_automatically("203.0.113.8");
    bench.operations.follow_automatic().await.unwrap();
    bench.filter.called();
    let dry =
        bench.operations.remove_block(&admin(), RemoveBlock { dry_run: true, ..remove("203.0.113.7") }).await.unwrap();
    assert!(dry.manual.is_some() && dry.automatic.len() == 1 && bench.filter.called().is_empty());
    let removed = bench.operations.remove_block(&admin(), remove("203.0.113.7")).await.unwrap();
    assert!(removed.manual.is_some() && removed.automatic.len() == 1);
    assert_eq!(bench.filter.called(), ["apply", "reset_counters 203.0.113.7", "remove_automatic 203.0.113.7"]);
    let kept: Vec<String> =
        bench.store().automatic(bench.now()).await.unwrap().iter().map(|block| block.prefix.to_string()).collect();
    assert_eq!(kept, ["203.0.113.8"]);
    let audit = bench.store().audit_rows(1).await.unwrap();
    assert_eq!((audit[0].what.as_str(), audit[0].object.as_str()), ("automatic.remove", "203.0.113.7"));
}

#[tokio::test]
async fn an_ipv6_source_is_let_go_by_any_address_of_its_block() {
    let bench = Bench::new().await;
    bench.block_automatically("2001:db8:0:1::/64");
    let removed = bench.operations.remove_block(&admin(), remove("2001:db8:0:1::77")).await.unwrap();
    assert_eq!(removed.automatic[0].prefix.to_string(), "2001:db8:0:1::/64");
    assert!(removed.notes[0].contains("reset"));
}

#[tokio::test]
async fn a_wider_rule_is_named_and_stays() {
    let bench = Bench::new().await;
    bench.block("198.51.100.0/24").await;
    let error = bench.operations.remove_block(&admin(), remove("198.51.100.7")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.message.contains("`pbx block remove 198.51.100.0/24`"), "{error}");
    assert!(error.message.contains("`pbx allow add 198.51.100.7`"), "{error}");
    let outside = bench.operations.remove_block(&admin(), remove("198.51.101.7")).await.unwrap_err();
    assert!(outside.message.contains("is not blocked"), "{outside}");
    let wider = bench.operations.remove_block(&admin(), remove("198.51.0.0/16")).await.unwrap_err();
    assert!(wider.message.contains("1 inside it"), "{wider}");
    assert_eq!(bench.stored().await, ["block 198.51.100.0/24"]);
}

#[tokio::test]
async fn a_source_can_be_let_go_and_allowed_for_a_time() {
    let bench = Bench::new().await;
    bench.block_automatically("203.0.113.7");
    let wrong = RemoveBlock { allow_for: Some("soon".into()), ..remove("203.0.113.7") };
    assert_eq!(bench.operations.remove_block(&admin(), wrong).await.unwrap_err().kind(), Kind::Usage);
    assert_eq!(bench.filter.automatic.lock().unwrap().len(), 1);
    let request = RemoveBlock { allow_for: Some("1d".into()), ..remove("203.0.113.7") };
    let removed = bench.operations.remove_block(&admin(), request).await.unwrap();
    let allowed = removed.allowed.unwrap();
    assert_eq!(allowed.item.expire_at, Some(bench.now().saturating_add(Duration::from_secs(86_400))));
    assert_eq!(bench.stored().await, ["allow 203.0.113.7"]);
}

#[tokio::test]
async fn the_store_follows_what_the_kernel_blocks_and_tells_it_once() {
    let bench = Bench::new().await;
    bench.block_automatically("203.0.113.7");
    assert_eq!(bench.operations.follow_automatic().await.unwrap(), Recorded { new: 1, moved: 0, ended: 0 });
    // The kernel's clock is converted anew each time and is a little off.
    {
        let block = &mut bench.filter.automatic.lock().unwrap()[0];
        block.expires_at = block.expires_at.saturating_add(Duration::from_millis(7));
    }
    assert_eq!(bench.operations.follow_automatic().await.unwrap(), Recorded::default());
    {
        let block = &mut bench.filter.automatic.lock().unwrap()[0];
        block.reason = pbx_core::guard::Detector::Level2;
        block.expires_at = block.expires_at.saturating_add(Duration::from_secs(3600));
    }
    assert_eq!(bench.operations.follow_automatic().await.unwrap(), Recorded { new: 0, moved: 1, ended: 0 });
    bench.filter.automatic.lock().unwrap().clear();
    assert_eq!(bench.operations.follow_automatic().await.unwrap(), Recorded { new: 0, moved: 0, ended: 1 });
    assert!(bench.store().automatic(bench.now()).await.unwrap().is_empty());
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    let messages: Vec<&str> = events.iter().map(|event| event.message.as_str()).collect();
    assert!(
        matches!(messages[..], [over, level2, level1]
        if over.contains("is over") && level2.contains("level 2") && level1 == "203.0.113.7 blocked for 30s: more packets a second than level 1 lets pass"),
        "{messages:?}"
    );
}

#[tokio::test]
async fn blocks_of_the_kernel_survive_a_reboot_of_it() {
    let bench = Bench::new().await;
    for host in 0..1000_u32 {
        bench.block_automatically(&std::net::Ipv4Addr::from_bits(0xCB00_7100 + host).to_string());
    }
    assert_eq!(bench.operations.follow_automatic().await.unwrap().new, 1000);
    bench.filter.automatic.lock().unwrap().clear();
    let (_bench, state) = bench.restarted().await;
    assert_eq!(state.automatic.len(), 1000);
}

#[tokio::test]
async fn every_automatic_block_can_be_ended_at_once() {
    let bench = Bench::new().await;
    bench.block_automatically("203.0.113.7");
    bench.block_automatically("203.0.113.8");
    assert_eq!(bench.operations.remove_all_automatic(&admin(), true).await.unwrap(), 2);
    assert_eq!(bench.operations.remove_all_automatic(&admin(), false).await.unwrap(), 2);
    assert!(bench.filter.automatic.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_explanation_names_the_winner_first_and_the_command_that_undoes_it() {
    let bench = Bench::new().await;
    let never_seen = bench.operations.explain(&admin(), "203.0.113.9").await.unwrap();
    assert_eq!(never_seen.fate, Fate::Pass);
    assert!(never_seen.because.contains("no rule and no automatic block stops 203.0.113.9"), "{}", never_seen.because);
    assert_eq!(never_seen.steps.iter().filter(|step| step.decides).count(), 1);

    bench.block("198.51.100.0/24").await;
    bench.kernel_says(Action::Block);
    let monitored = bench.operations.explain(&admin(), "198.51.100.7").await.unwrap();
    assert_eq!(
        (monitored.fate, monitored.undo.as_deref()),
        (Fate::WouldDrop, Some("pbx block remove 198.51.100.0/24"))
    );
    let values = [("filter.mode".to_owned(), "enforce".to_owned())].into();
    bench.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap();
    let blocked = bench.operations.explain(&admin(), "198.51.100.7").await.unwrap();
    assert_eq!(blocked.fate, Fate::Drop);
    assert!(
        blocked.because.starts_with("the block rule 198.51.100.0/24 (by hand) drops everything"),
        "{}",
        blocked.because
    );

    bench.allow("198.51.100.7").await;
    bench.kernel_says(Action::Allow);
    let allowed = bench.operations.explain(&admin(), "198.51.100.7").await.unwrap();
    assert_eq!((allowed.fate, allowed.undo.as_deref()), (Fate::Pass, Some("pbx allow remove 198.51.100.7")));
    assert!(allowed.also[0].starts_with("block 198.51.100.0/24"), "{:?}", allowed.also);
    assert_eq!(bench.operations.explain(&admin(), "198.51.100.0/24").await.unwrap_err().kind(), Kind::Usage);
}

#[tokio::test]
async fn an_automatic_block_is_explained_with_its_limit_and_what_happened() {
    let bench = Bench::new().await;
    bench.block_automatically("203.0.113.7");
    bench.operations.follow_automatic().await.unwrap();
    bench.filter.view.lock().unwrap().automatic = bench.filter.automatic.lock().unwrap().first().cloned();
    let values = [("filter.mode".to_owned(), "enforce".to_owned())].into();
    bench.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap();
    let explained = bench.operations.explain(&admin(), "203.0.113.7").await.unwrap();
    assert_eq!((explained.fate, explained.undo.as_deref()), (Fate::Drop, Some("pbx block remove 203.0.113.7")));
    assert!(explained.because.contains("level 1 lets pass (guard.level1.packets is 500)"), "{}", explained.because);
    assert_eq!(explained.events.len(), 1);
}
