//! Without a filter under control: off on purpose, lost at the start, regained later.

use std::sync::Arc;

use pbx_core::rule::Action;

use super::{super::*, *};
use crate::{
    filter::Control,
    host::Snapshot,
    xdp::{Disabled, UserFilter},
};

/// A filter that could not be taken over while an earlier one is pinned on eth0.
fn lost(bench: &Bench) -> Arc<Disabled> {
    let pin_dir = bench.folder.path().join("pins");
    std::fs::create_dir_all(pin_dir.join("links")).unwrap();
    std::fs::write(pin_dir.join("links/eth0"), "").unwrap();
    Arc::new(Disabled { why: "CAP_BPF is missing".to_owned(), pin_dir })
}

/// A filter in the daemon.
fn user() -> Arc<UserFilter> {
    let why = "attach = \"off\" in the configuration".to_owned();
    let nothing: (&[pbx_core::rule::Rule], _, &[u16], _) = (&[], &Settings::default(), &[], 1);
    Arc::new(UserFilter::new(why, [1, 2], nothing, &[], &Snapshot::default()).unwrap())
}

fn enforce() -> SetSettings {
    SetSettings {
        values: [("filter.mode".to_owned(), "enforce".to_owned())].into(),
        force: true,
        ..SetSettings::default()
    }
}

fn remove(address: &str) -> RemoveBlock {
    RemoveBlock { address: address.into(), ..RemoveBlock::default() }
}

async fn kept(bench: &Bench) -> Vec<String> {
    let kept = bench.store().automatic(bench.now()).await.unwrap();
    kept.iter().map(|block| block.prefix.to_string()).collect()
}

#[tokio::test]
async fn a_filter_that_is_not_under_control_takes_no_change_and_the_store_stands() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    let revision = bench.operations.current_settings().1;
    bench.operations.use_filter(lost(&bench));
    let refused = [
        bench.operations.remove_block(&admin(), remove("198.51.100.1")).await.unwrap_err(),
        bench.operations.remove_block(&admin(), remove("198.51.100.2")).await.unwrap_err(),
        bench.operations.add_rule(&admin(), request("198.51.100.3", Action::Block)).await.unwrap_err(),
        bench.operations.remove_rule_of(&admin(), "198.51.100.1", Action::Block, FORCED).await.unwrap_err(),
        bench.operations.set_settings(&admin(), enforce()).await.unwrap_err(),
        bench.operations.remove_all_automatic(&admin(), false).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), Kind::Failed);
        for text in ["CAP_BPF", "earlier daemon", "eth0", "systemctl restart pbx"] {
            assert!(error.message.contains(text), "{}", error.message);
        }
    }
    assert_eq!(bench.stored().await, ["block 198.51.100.1"]);
    assert_eq!(bench.operations.current_settings().1, revision);
}

#[tokio::test]
async fn nobody_says_that_all_passes_while_an_earlier_filter_may_go_on() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    bench.operations.use_filter(lost(&bench));
    let explained = bench.operations.explain(&admin(), "198.51.100.9").await.unwrap();
    assert_eq!(explained.fate, Fate::Unknown);
    assert!(explained.because.contains("earlier daemon") && explained.because.contains("eth0"), "{explained:?}");
    let status = bench.operations.status().await.unwrap();
    assert!(!status.filter.loaded && status.filter.not_enforced[0].contains("eth0"), "{status:?}");
    assert!(status.filter.problem.is_some_and(|problem| problem.contains("not under control")));
    assert!(!status.warnings.iter().any(|warning| warning.contains("only monitors")), "{:?}", status.warnings);
    let findings = bench.operations.doctor().await.unwrap();
    assert!(findings.iter().any(|finding| finding.message.contains("eth0")), "{findings:?}");

    std::fs::remove_file(bench.folder.path().join("pins/links/eth0")).unwrap();
    assert_eq!(bench.operations.explain(&admin(), "198.51.100.1").await.unwrap().fate, Fate::Pass);
    let status = bench.operations.status().await.unwrap();
    assert!(status.filter.not_enforced[0].contains("nothing is filtered"), "{status:?}");
}

#[tokio::test]
async fn stored_automatic_blocks_outlive_a_start_without_the_filter() {
    let bench = Bench::new().await;
    bench.block_automatically("203.0.113.7");
    bench.operations.follow_automatic().await.unwrap();
    assert_eq!(kept(&bench).await, ["203.0.113.7"]);
    bench.operations.use_filter(lost(&bench));
    assert_eq!(bench.operations.follow_automatic().await.unwrap(), Recorded::default());
    assert_eq!(kept(&bench).await, ["203.0.113.7"]);
    let listed = bench.operations.blocks(&ListOptions::default()).await.unwrap().items;
    assert_eq!(listed.len(), 1, "the earlier filter may go on blocking it: {listed:?}");
}

#[tokio::test]
async fn a_filter_in_the_daemon_enforces_and_says_that_only_its_sockets_are_guarded() {
    let bench = Bench::new().await;
    bench.operations.use_filter(user());
    let added = bench.operations.add_rule(&admin(), request("198.51.100.3", Action::Block)).await.unwrap();
    assert!(added.notes[0].contains("own sockets") && added.notes[0].contains("attach"), "{:?}", added.notes);
    bench.operations.set_settings(&admin(), enforce()).await.unwrap();
    let listed = bench.operations.blocks(&ListOptions::default()).await.unwrap().items;
    assert!(listed[0].enforced);
    let explained = bench.operations.explain(&admin(), "198.51.100.3").await.unwrap();
    assert_eq!(explained.fate, Fate::Drop);
    assert!(explained.because.contains("own sockets"), "{explained:?}");
    bench.operations.remove_block(&admin(), remove("198.51.100.3")).await.unwrap();
    assert_eq!(bench.operations.explain(&admin(), "198.51.100.3").await.unwrap().fate, Fate::Pass);
}

#[tokio::test]
async fn an_ended_rule_waits_in_the_store_until_the_filter_is_under_control() {
    let bench = Bench::new().await;
    let brief = AddRule { lasting: Some("1s".into()), ..request("198.51.100.3", Action::Block) };
    bench.operations.add_rule(&admin(), brief).await.unwrap();
    bench.operations.use_filter(lost(&bench));
    bench.advance(std::time::Duration::from_secs(5));
    let audited = bench.store().audit_rows(10).await.unwrap().len();
    assert_eq!(bench.operations.sweep(bench.now()).await.unwrap(), 0);
    assert_eq!(bench.store().audit_rows(10).await.unwrap().len(), audited);
    bench.operations.use_filter(bench.filter.clone());
    assert_eq!(bench.operations.sweep(bench.now()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_regained_filter_has_what_is_stored_and_takes_changes() {
    let bench = Bench::new().await;
    bench.block("198.51.100.1").await;
    bench.operations.use_filter(lost(&bench));
    let failed = bench.operations.regain::<()>(|_| anyhow::bail!("still none")).await.unwrap_err();
    assert_eq!(failed.to_string(), "still none");
    assert!(matches!(bench.operations.control(), Control::Lost { .. }));

    let filter = bench.filter.clone();
    let open = move |state: &State| Ok((filter as Arc<dyn crate::filter::Filter>, state.rules.len()));
    assert_eq!(bench.operations.regain(open).await.unwrap(), 1);
    assert_eq!(bench.operations.control(), Control::Held);
    bench.filter.called();
    bench.operations.remove_block(&admin(), remove("198.51.100.1")).await.unwrap();
    assert_eq!(bench.filter.called(), ["apply", "reset_counters 198.51.100.1"]);
    bench.block("198.51.100.2").await;
    assert_eq!(bench.stored().await, ["block 198.51.100.2"]);
}
