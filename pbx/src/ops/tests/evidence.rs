//! What led to a block, and what is said of an address.

use std::{net::IpAddr, time::Duration};

use pbx_core::{
    address::Prefix,
    guard::{Account, Block, Detector, Output, RuleApplied, Seen, Sign, What},
};

use super::{super::*, *};
use crate::filter::{AutomaticBlock, KernelView, KnownSource, Rate};

const ATTACKER: &str = "203.0.113.7";
const MESSAGE: &[u8] = b"REGISTER sip:pbx.example.com SIP/2.0\r\nFrom: <sip:101@pbx.example.com>\r\n\
    Authorization: Digest username=\"101\", response=\"0123456789abcdef\"\r\n\r\n";

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Bench {
    fn evidence(&self, detector: Detector) -> Block {
        let (first, last) = (self.now().saturating_sub(Duration::from_secs(9)), self.now());
        let seen = |at| Seen { at, bytes: MESSAGE.into() };
        Block {
            prefix: Prefix::host(addr(ATTACKER)),
            detector,
            time: Duration::from_secs(3600),
            enforced: true,
            web_only: false,
            by_filter: false,
            sure: true,
            before: 2,
            rule: RuleApplied {
                key: "guard.authentication.failures",
                limit: 50,
                period: Duration::from_secs(10),
                block_time: Duration::from_secs(3600),
            },
            count: 50,
            counters: vec![(Detector::Enumeration, 8), (Detector::Malformed, 1)],
            first,
            last,
            messages: vec![seen(first), seen(last), seen(last), seen(last)],
        }
    }

    /// As when a detector blocks: the filter drops, and why is kept.
    async fn attacked(&self, detector: Detector) {
        let block = self.evidence(detector);
        self.operations.keep_guard(&[(self.now(), Output::Block(Box::new(block.clone())))]).await.unwrap();
        let block = AutomaticBlock {
            prefix: block.prefix,
            reason: detector,
            since: self.now(),
            expires_at: self.now().saturating_add(block.time),
            packets: 312,
            last_seen: Some(self.now()),
            enforced: true,
            web_only: false,
        };
        *self.filter.automatic.lock().unwrap() = vec![block.clone()];
        self.filter.view.lock().unwrap().automatic = Some(block);
        self.operations.follow_automatic().await.unwrap();
    }

    async fn enforce(&self) {
        let values = [("filter.mode".to_owned(), "enforce".to_owned())].into();
        self.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap();
    }

    fn rejected(&self, source: &str, known: bool, times: u32) {
        for _ in 0..times {
            let account = Account::new(1, b"101");
            let what = What::Rejected { account, user_known: true, answers: true, target: 1 };
            self.operations.guard().count(Sign { source: addr(source), sure: true, known, what, message: None });
        }
    }
}

#[tokio::test]
async fn a_block_is_shown_with_the_rule_of_that_time_counters_messages_and_who_changed_it() {
    let bench = Bench::new().await;
    bench.enforce().await;
    bench.attacked(Detector::Authentication).await;
    let page = bench.operations.show_blocks(&admin(), ATTACKER).await.unwrap();
    let [shown] = &page.items[..] else { panic!("{page:?}") };
    assert_eq!((shown.entry.undo.as_str(), shown.entry.hits.packets), ("pbx block remove 203.0.113.7", 312));
    let why = shown.evidence.as_ref().unwrap();
    assert_eq!(why.because, "wrong passwords: 50 in 10s, when guard.authentication.failures was 50");
    assert_eq!((why.evidence.before, why.evidence.sure, why.messages_kept), (2, true, 4));
    assert_eq!(why.evidence.counters.len(), 2);
    let message = &why.evidence.messages[0].text;
    assert!(message.starts_with("REGISTER sip:") && message.contains("response=\"…\""), "{message}");
    assert!(!message.contains("0123456789abcdef"));
    assert!(shown.history.is_empty() && shown.changes.is_empty());
    // The values are those of that time, whatever the settings say now.
    let values = [("guard.authentication.failures".to_owned(), "10".to_owned())].into();
    bench.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap();
    let explained = bench.operations.explain(&admin(), ATTACKER).await.unwrap();
    assert_eq!(explained.evidence.as_ref(), Some(why));
    assert_eq!((explained.fate, explained.seen), (Fate::Drop, true));
}

#[tokio::test]
async fn messages_are_for_administrators() {
    let bench = Bench::new().await;
    bench.attacked(Detector::Authentication).await;
    let shown = bench.operations.show_blocks(&viewer(), ATTACKER).await.unwrap().items.remove(0);
    let explained = bench.operations.explain(&viewer(), ATTACKER).await.unwrap();
    for why in [shown.evidence.unwrap(), explained.evidence.unwrap()] {
        assert_eq!((why.evidence.messages.len(), why.messages_kept, why.evidence.count), (0, 4, 50));
    }
}

#[tokio::test]
async fn a_block_that_is_over_is_history_with_who_ended_it() {
    let bench = Bench::new().await;
    for _ in 0..5 {
        bench.attacked(Detector::Authentication).await;
        let request = RemoveBlock { address: ATTACKER.into(), ..RemoveBlock::default() };
        bench.operations.remove_block(&admin(), request).await.unwrap();
        bench.filter.view.lock().unwrap().automatic = None;
        bench.advance(Duration::from_secs(60));
    }
    let explained = bench.operations.explain(&admin(), ATTACKER).await.unwrap();
    assert_eq!((explained.fate, explained.evidence, explained.history.len()), (Fate::Pass, None, 3));
    assert!(explained.history[0].evidence.at > explained.history[2].evidence.at);
    let [change, ..] = &explained.changes[..] else { panic!("{:?}", explained.changes) };
    assert_eq!((change.what.as_str(), change.actor.as_str()), ("automatic.remove", "root"));
    assert!(change.before.as_ref().unwrap().contains("authentication"));
    let gone = bench.operations.show_blocks(&admin(), ATTACKER).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
    assert!(gone.message.contains("`pbx explain 203.0.113.7`"), "{gone}");
}

#[tokio::test]
async fn the_evidence_of_another_detector_is_not_that_of_the_block_that_is_live() {
    let bench = Bench::new().await;
    bench.attacked(Detector::Challenges).await;
    bench.attacked(Detector::Authentication).await;
    let explained = bench.operations.explain(&admin(), ATTACKER).await.unwrap();
    assert_eq!(explained.evidence.unwrap().evidence.detector, Detector::Authentication);
    assert_eq!(explained.history[0].evidence.detector, Detector::Challenges);
}

#[tokio::test]
async fn an_account_that_is_not_heard_from_a_known_source_is_listed_explained_and_undone() {
    let bench = Bench::new().await;
    bench.enforce().await;
    bench.rejected("198.51.100.7", true, 20);
    let listed = bench.operations.blocks(&ListOptions::default()).await.unwrap().items;
    let [pair] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((pair.kind, pair.account.as_deref(), pair.enforced), (BlockKind::Pair, Some("101"), true));
    assert_eq!((pair.reason.as_str(), pair.undo.as_str()), ("accounts", "pbx block remove 198.51.100.7"));
    let by_kind = ListOptions { filter: Some("kind eq 'pair' and account eq '101'".into()), ..ListOptions::default() };
    assert_eq!(bench.operations.blocks(&by_kind).await.unwrap().items.len(), 1);
    let explained = bench.operations.explain(&admin(), "198.51.100.7").await.unwrap();
    assert_eq!((explained.fate, explained.pairs.len(), explained.pairs[0].count), (Fate::Pass, 1, 20));
    assert_eq!(bench.operations.show_blocks(&admin(), "198.51.100.7").await.unwrap().items[0].entry, *pair);

    let request = RemoveBlock { address: "198.51.100.7".into(), dry_run: true, ..RemoveBlock::default() };
    let dry = bench.operations.remove_block(&admin(), request.clone()).await.unwrap();
    assert_eq!((dry.pairs.len(), bench.operations.guard().pairs().len()), (1, 1));
    let request = RemoveBlock { dry_run: false, allow_for: Some("1d".into()), ..request };
    let removed = bench.operations.remove_block(&admin(), request).await.unwrap();
    assert!(removed.notes.iter().any(|note| note.contains("were reset")), "{:?}", removed.notes);
    assert!(removed.allowed.is_some() && bench.operations.guard().pairs().is_empty());
    let audit = bench.operations.explain(&admin(), "198.51.100.7").await.unwrap().changes;
    let row = audit.iter().find(|row| row.what == "pair.remove").unwrap();
    assert!(row.before.as_ref().unwrap().contains("\"account\":\"101\""), "{row:?}");
}

#[tokio::test]
async fn what_detectors_count_of_an_address_is_told_with_their_limits() {
    let bench = Bench::new().await;
    bench.rejected("203.0.113.9", false, 12);
    let explained = bench.operations.explain(&admin(), "203.0.113.9").await.unwrap();
    let counted: Vec<_> =
        explained.counters.iter().map(|one| (one.detector, one.count, one.limit, one.period_ms)).collect();
    assert_eq!(
        counted,
        [(Detector::Accounts, 12, 20, 3_600_000), (Detector::Authentication, 12, 50, 10_000)],
        "the nearest to its limit first"
    );
    assert!(explained.seen);
}

#[tokio::test]
async fn an_address_that_nobody_has_seen_would_pass_because_no_rule_stops_it() {
    let bench = Bench::new().await;
    bench.enforce().await;
    let explained = bench.operations.explain(&viewer(), "203.0.113.99").await.unwrap();
    assert_eq!((explained.fate, explained.seen), (Fate::Pass, false));
    assert!(explained.because.starts_with("nobody has seen it yet; no rule"), "{}", explained.because);
    assert!(explained.because.ends_with("up to 500 packets a second"), "{}", explained.because);
    assert_eq!(explained.steps.iter().filter(|step| step.matches).count(), 1);
}

#[tokio::test]
async fn a_known_source_is_explained_by_its_budget() {
    let bench = Bench::new().await;
    *bench.filter.view.lock().unwrap() = KernelView {
        known: Some(KnownSource { budget: 5000 }),
        rate: Some(Rate { packets: 3, since: bench.now() }),
        ..KernelView::default()
    };
    let explained = bench.operations.explain(&admin(), "198.51.100.20").await.unwrap();
    assert_eq!((explained.fate, explained.seen), (Fate::Police, true));
    assert!(explained.because.contains("known source") && explained.because.contains("5000"), "{}", explained.because);
}

#[tokio::test]
async fn under_default_deny_a_stranger_is_told_how_it_gets_in_and_a_neighbour_passes() {
    let bench = Bench::new().await;
    bench.enforce().await;
    let values = [("filter.default_deny", "enforce"), ("network.local_networks", "192.0.2.0/24")];
    let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let request = SetSettings { values, force: true, ..SetSettings::default() };
    bench.operations.set_settings(&admin(), request).await.unwrap();
    let stranger = bench.operations.explain(&admin(), "203.0.113.99").await.unwrap();
    assert_eq!((stranger.fate, stranger.undo.as_deref()), (Fate::Drop, Some("pbx allow add 203.0.113.99")));
    assert!(stranger.because.contains("default deny"), "{}", stranger.because);
    let neighbour = bench.operations.explain(&admin(), "192.0.2.77").await.unwrap();
    assert_eq!((neighbour.fate, neighbour.seen), (Fate::Pass, false));
}
