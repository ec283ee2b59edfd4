//! What becomes of blocks when their detector is switched.

use std::time::Duration;

use pbx_core::{
    address::Prefix,
    guard::{Account, Detector, Sign, What},
};

use super::{super::*, *};
use crate::filter::AutomaticBlock;

impl Bench {
    async fn switch(&self, pairs: &[(&str, &str)]) {
        let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let request = SetSettings { values, force: true, ..SetSettings::default() };
        self.operations.set_settings(&admin(), request).await.unwrap();
    }

    async fn blocked(&self, prefix: &str, reason: Detector, enforced: bool) {
        let block = AutomaticBlock {
            prefix: prefix.parse().unwrap(),
            reason,
            since: self.now(),
            expires_at: self.now().saturating_add(Duration::from_secs(3600)),
            packets: 0,
            last_seen: None,
            enforced,
            web_only: reason == Detector::Web,
        };
        self.filter.automatic.lock().unwrap().push(block);
        self.operations.follow_automatic().await.unwrap();
    }

    /// As "prefix enforced", of the filter and of the store.
    async fn live(&self) -> Vec<String> {
        let text = |prefix: &Prefix, enforced: bool| format!("{prefix} {enforced}");
        let mut filter: Vec<String> =
            self.filter.automatic.lock().unwrap().iter().map(|one| text(&one.prefix, one.enforced)).collect();
        self.operations.follow_automatic().await.unwrap();
        let stored = self.store().automatic(self.now()).await.unwrap();
        let mut stored: Vec<String> = stored.iter().map(|one| text(&one.prefix, one.enforced)).collect();
        filter.sort();
        stored.sort();
        assert_eq!(filter, stored);
        filter
    }
}

#[tokio::test]
async fn blocks_of_a_detector_drop_nothing_when_it_monitors_end_when_it_is_off_and_others_stay() {
    let bench = Bench::new().await;
    bench.switch(&[("filter.mode", "enforce")]).await;
    bench.blocked("203.0.113.7", Detector::Authentication, true).await;
    bench.blocked("203.0.113.8", Detector::Malformed, true).await;
    bench.blocked("203.0.113.9", Detector::Level1, true).await;
    bench.switch(&[("guard.authentication.enforcement", "monitor"), ("guard.level1.enforcement", "monitor")]).await;
    assert_eq!(bench.live().await, ["203.0.113.7 false", "203.0.113.8 true", "203.0.113.9 true"]);
    let block =
        bench.filter.automatic.lock().unwrap().iter().find(|one| one.reason == Detector::Authentication).cloned();
    assert_eq!(block.unwrap().expires_at, bench.now().saturating_add(Duration::from_secs(3600)), "it ends as before");
    bench.switch(&[("guard.authentication.enforcement", "off"), ("guard.malformed.enforcement", "off")]).await;
    assert_eq!(bench.live().await, ["203.0.113.9 true"]);
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert!(events.iter().any(|one| one.message == "2 automatic blocks are over: their detector is off"), "{events:?}");
}

#[tokio::test]
async fn a_block_of_the_web_and_one_of_everything_of_the_same_source_end_each_by_itself() {
    let bench = Bench::new().await;
    bench.switch(&[("filter.mode", "enforce")]).await;
    let blocked = async || {
        bench.blocked("203.0.113.7", Detector::Authentication, true).await;
        bench.blocked("203.0.113.7", Detector::Web, true).await;
        let listed = bench.operations.blocks(&ListOptions::default()).await.unwrap();
        assert_eq!(listed.items.len(), 2);
    };
    let stored = async || {
        bench.operations.follow_automatic().await.unwrap();
        let stored = bench.store().automatic(bench.now()).await.unwrap();
        stored.iter().map(|block| (block.reason, block.web_only)).collect::<Vec<_>>()
    };
    let (whole, web) = ((Detector::Authentication, false), (Detector::Web, true));
    blocked().await;
    assert_eq!(stored().await, [whole, web]);
    bench.switch(&[("guard.authentication.enforcement", "off")]).await;
    assert_eq!(stored().await, [web]);
    bench.switch(&[("guard.authentication.enforcement", "enforce")]).await;
    bench.filter.automatic.lock().unwrap().clear();
    blocked().await;
    bench.switch(&[("guard.web.enforcement", "off")]).await;
    assert_eq!(stored().await, [whole]);
    // The one that is over in the filter, and no other.
    bench.switch(&[("guard.web.enforcement", "enforce")]).await;
    bench.filter.automatic.lock().unwrap().clear();
    blocked().await;
    bench.filter.automatic.lock().unwrap().retain(|block| block.web_only);
    assert_eq!(stored().await, [web]);
    // Whoever is let go is let go altogether.
    bench.filter.automatic.lock().unwrap().clear();
    blocked().await;
    let request = RemoveBlock { address: "203.0.113.7".to_owned(), ..RemoveBlock::default() };
    let removed = bench.operations.remove_block(&admin(), request).await.unwrap();
    assert_eq!((removed.automatic.len(), stored().await), (2, Vec::new()));
}

#[tokio::test]
async fn blocks_that_were_made_in_monitor_end_when_their_detector_enforces() {
    let bench = Bench::new().await;
    bench.blocked("203.0.113.7", Detector::Authentication, false).await;
    bench.switch(&[("guard.authentication.enforcement", "monitor"), ("filter.mode", "enforce")]).await;
    assert_eq!(bench.live().await, ["203.0.113.7 false"]);
    bench.switch(&[("guard.authentication.enforcement", "enforce")]).await;
    assert!(bench.live().await.is_empty());
}

#[tokio::test]
async fn the_ceiling_changes_no_block_so_that_all_are_back_with_it() {
    let bench = Bench::new().await;
    bench.switch(&[("filter.mode", "enforce")]).await;
    bench.blocked("203.0.113.7", Detector::Authentication, true).await;
    for mode in ["monitor", "off", "enforce"] {
        bench.switch(&[("filter.mode", mode)]).await;
        assert_eq!(bench.live().await, ["203.0.113.7 true"], "{mode}");
    }
}

#[tokio::test]
async fn a_switch_that_a_crash_cut_in_two_is_finished_by_the_next_daemon() {
    let bench = Bench::new().await;
    bench.switch(&[("filter.mode", "enforce"), ("guard.authentication.enforcement", "off")]).await;
    bench.blocked("203.0.113.7", Detector::Authentication, true).await;
    bench.operations.started(None, &[]).await.unwrap();
    assert!(bench.live().await.is_empty());
}

#[tokio::test]
async fn accounts_that_are_not_heard_from_a_known_source_are_heard_when_the_detector_no_longer_enforces() {
    let bench = Bench::new().await;
    bench.switch(&[("filter.mode", "enforce")]).await;
    let source = "198.51.100.1".parse().unwrap();
    for _ in 0..20 {
        let what = What::Rejected { account: Account::new(1, b"101"), user_known: true, answers: true, target: 1 };
        bench.operations.guard().count(Sign { source, sure: true, known: true, what, message: None });
    }
    let may_try = || bench.operations.guard().held().may_try(source, 1, crate::net::Clock::start().now());
    assert!(!may_try() && bench.operations.guard().pairs().len() == 1);
    bench.switch(&[("guard.accounts.enforcement", "monitor")]).await;
    assert!(may_try() && bench.operations.guard().pairs().is_empty());
}
