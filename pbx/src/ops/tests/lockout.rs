use std::{sync::atomic::Ordering, time::Duration};

use pbx_core::{guard::Detector, lockout::Peer, rule::Action};

use super::{super::*, *};
use crate::{
    filter::KnownSource,
    host::{OTHER_SERVICE, ROOT_SERVICE},
};

/// Connected over ssh on the bench.
const ADMIN: &str = "203.0.113.50";
const NETWORK: &str = "203.0.113.0/24";

fn set(key: &str, value: &str) -> SetSettings {
    SetSettings { values: [(key.to_owned(), value.to_owned())].into(), ..SetSettings::default() }
}

fn forced(request: SetSettings) -> SetSettings {
    SetSettings { force: true, ..request }
}

impl Bench {
    /// The administrator's network is blocked, and the administrator allowed.
    async fn with_exception() -> Self {
        let bench = Self::new().await;
        bench.allow(ADMIN).await;
        bench.block(NETWORK).await;
        bench
    }

    fn connect(&self, addr: &str, service: &str, port: u16) {
        let peer = Peer { addr: addr.parse().unwrap(), service: service.into(), port };
        self.surroundings.lock().unwrap().peers.push(peer);
    }
}

fn assert_needs_force<T: std::fmt::Debug>(outcome: Result<T, OpError>) {
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.code.as_str()), (Kind::Refused, "NEEDS_FORCE"), "{error}");
    assert!(error.message.contains("203.0.113.50 (ssh, port 22)") && error.message.contains("--force"), "{error}");
}

#[tokio::test]
async fn an_exception_that_keeps_somebody_connected_is_removed_by_force_only() {
    let bench = Bench::with_exception().await;
    let operations = &bench.operations;
    for how in [How::default(), DRY] {
        assert_needs_force(operations.remove_rule(&admin(), "1", how).await);
        assert_needs_force(operations.remove_rule_of(&admin(), ADMIN, Action::Allow, how).await);
        assert_needs_force(operations.flush(&admin(), Action::Allow, how).await);
    }
    assert_eq!(bench.stored().await, [format!("allow {ADMIN}"), format!("block {NETWORK}")]);
    operations.remove_rule_of(&admin(), ADMIN, Action::Allow, FORCED).await.unwrap();
    assert_eq!(bench.stored().await, [format!("block {NETWORK}")]);
}

#[tokio::test]
async fn an_exception_without_a_block_beneath_it_goes_as_it_came() {
    let bench = Bench::new().await;
    bench.allow(ADMIN).await;
    bench.block("198.51.100.0/24").await;
    bench.operations.flush(&admin(), Action::Allow, How::default()).await.unwrap();
    assert_eq!(bench.stored().await, ["block 198.51.100.0/24"]);
}

#[tokio::test]
async fn an_exception_is_not_shortened_below_a_block() {
    let bench = Bench::with_exception().await;
    let operations = &bench.operations;
    let shorter = AddRule { lasting: Some("1h".into()), ..request(ADMIN, Action::Allow) };
    assert_needs_force(operations.add_rule(&admin(), shorter.clone()).await);
    let update = UpdateRule { lasting: Some("1h".into()), ..UpdateRule::default() };
    assert_needs_force(operations.update_rule(&admin(), "1", update.clone()).await);
    let list = ImportRequest { text: format!("{ADMIN} allow for 1h\n"), ..ImportRequest::default() };
    assert_needs_force(operations.import(&admin(), list.clone()).await);
    bench.block_automatically(ADMIN);
    let let_go = RemoveBlock { address: ADMIN.into(), allow_for: Some("1h".into()), ..RemoveBlock::default() };
    assert_needs_force(operations.remove_block(&admin(), let_go.clone()).await);
    assert_eq!(operations.rule("1").await.unwrap().expire_at, None);
    operations.update_rule(&admin(), "1", UpdateRule { force: true, ..update }).await.unwrap();
    // Longer is no harm, and what ends as it did is none either.
    operations
        .add_rule(&admin(), AddRule { lasting: Some("2h".into()), ..request(ADMIN, Action::Allow) })
        .await
        .unwrap();
    operations.import(&admin(), ImportRequest { force: true, ..list }).await.unwrap();
    operations.remove_block(&admin(), RemoveBlock { force: true, ..let_go }).await.unwrap();
    assert_eq!(bench.stored().await.len(), 2);
}

#[tokio::test]
async fn a_block_is_let_go_together_with_the_exception_above_it() {
    let bench = Bench::new().await;
    bench.allow(ADMIN).await;
    bench.block(ADMIN).await;
    let let_go = RemoveBlock { address: ADMIN.into(), allow_for: Some("1h".into()), ..RemoveBlock::default() };
    bench.operations.remove_block(&admin(), let_go).await.unwrap();
    assert_eq!(bench.stored().await, [format!("allow {ADMIN}")]);
}

#[tokio::test]
async fn a_block_beneath_an_exception_that_ends_first_has_to_be_forced() {
    let bench = Bench::new().await;
    let exception = AddRule { lasting: Some("1h".into()), ..request(ADMIN, Action::Allow) };
    bench.operations.add_rule(&admin(), exception).await.unwrap();
    assert_needs_force(bench.operations.add_rule(&admin(), request(NETWORK, Action::Block)).await);
    let brief = AddRule { lasting: Some("59m".into()), ..request(NETWORK, Action::Block) };
    bench.operations.add_rule(&admin(), brief).await.unwrap();
    bench.advance(Duration::from_secs(59 * 60));
    assert_needs_force(bench.operations.add_rule(&admin(), request(NETWORK, Action::Block)).await);
}

#[tokio::test]
async fn what_is_blocked_already_is_changed_without_force() {
    let bench = Bench::new().await;
    for range in [ADMIN, "0.0.0.0/0"] {
        let block = AddRule { force: true, ..request(range, Action::Block) };
        bench.operations.add_rule(&admin(), block).await.unwrap();
    }
    for id in ["1", "2"] {
        let update = UpdateRule { lasting: Some("1d".into()), ..UpdateRule::default() };
        bench.operations.update_rule(&admin(), id, update).await.unwrap();
    }
    bench.operations.remove_rule(&admin(), "1", How::default()).await.unwrap();
}

#[tokio::test]
async fn enforcement_that_cuts_somebody_off_has_to_be_forced() {
    let bench = Bench::new().await;
    let operations = &bench.operations;
    bench.block("203.0.112.0/24").await;
    operations.set_settings(&admin(), set("filter.mode", "enforce")).await.unwrap();
    for (key, weaker) in
        [("filter.mode", "monitor"), ("guard.manual.enforcement", "monitor"), ("guard.manual.enforcement", "off")]
    {
        operations.set_settings(&admin(), set(key, weaker)).await.unwrap();
        // A block of somebody connected, and the exception that the first enforcement made is gone.
        operations.flush(&admin(), Action::Allow, FORCED).await.unwrap();
        let block = AddRule { force: true, ..request(NETWORK, Action::Block) };
        operations.add_rule(&admin(), block).await.unwrap();
        assert_needs_force(operations.set_settings(&admin(), set(key, "enforce")).await);
        let dry = SetSettings { dry_run: true, ..set(key, "enforce") };
        assert_needs_force(operations.set_settings(&admin(), dry).await);
        if key != "filter.mode" {
            assert_needs_force(operations.reset_settings(&admin(), None, How::default()).await);
        }
        assert_eq!(operations.current_settings().0.value(key).as_deref(), Some(weaker));
        operations.set_settings(&admin(), forced(set(key, "enforce"))).await.unwrap();
        // Nobody is cut off anew.
        operations.set_settings(&admin(), set("guard.level1.packets", "501")).await.unwrap();
        operations.set_settings(&admin(), set("guard.level1.packets", "500")).await.unwrap();
    }
}

#[tokio::test]
async fn the_first_enforcement_cuts_nobody_whom_it_lets_in() {
    let bench = Bench::new().await;
    let block = AddRule { force: true, ..request(NETWORK, Action::Block) };
    bench.operations.add_rule(&admin(), block).await.unwrap();
    bench.connect("203.0.113.60", ROOT_SERVICE, 2200);
    let error = bench.operations.set_settings(&admin(), set("filter.mode", "enforce")).await.unwrap_err();
    assert!(error.message.contains("203.0.113.60 (a service of root, port 2200)"), "{error}");
    assert!(error.message.contains(NETWORK) && !error.message.contains(ADMIN), "{error}");
    assert_eq!(bench.stored().await, [format!("block {NETWORK}")]);
    bench.allow("203.0.113.60").await;
    bench.operations.set_settings(&admin(), set("filter.mode", "enforce")).await.unwrap();
    assert!(bench.stored().await.contains(&format!("allow {ADMIN}")));
}

#[tokio::test]
async fn a_phone_is_no_administrator_and_the_machine_does_not_cut_itself_off() {
    let bench = Bench::new().await;
    bench.connect("198.51.100.1", ROOT_SERVICE, 5060);
    bench.connect("198.51.100.2", ROOT_SERVICE, 2200);
    bench.connect("127.0.0.1", ROOT_SERVICE, 2200);
    bench.connect("192.0.2.5", ROOT_SERVICE, 2200);
    bench.block("198.51.100.1").await;
    let error = bench.operations.add_rule(&admin(), request("198.51.100.2", Action::Block)).await.unwrap_err();
    assert_eq!(error.code, "NEEDS_FORCE");
    let everything = AddRule { force: true, ..request("0.0.0.0/0", Action::Block) };
    let error = bench.operations.add_rule(&admin(), AddRule { force: false, ..everything.clone() }).await.unwrap_err();
    assert!(!error.message.contains("127.0.0.1") && !error.message.contains("192.0.2.5"), "{error}");
    bench.operations.add_rule(&admin(), everything).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_cannot_be_looked_at_is_not_changed_where_that_could_lock_somebody_out() {
    let bench = Bench::with_exception().await;
    bench.blind.store(true, Ordering::Relaxed);
    let operations = &bench.operations;
    let block = AddRule { force: true, ..request("198.51.100.1", Action::Block) };
    let refused = [
        operations.add_rule(&admin(), block).await.err(),
        operations.remove_rule(&admin(), "1", How::default()).await.err(),
        operations.set_settings(&admin(), set("filter.mode", "enforce")).await.err(),
        operations.surroundings().await.err(),
    ];
    for error in refused {
        let error = error.unwrap();
        assert_eq!((error.kind(), error.code.as_str()), (Kind::Failed, "SURROUNDINGS"));
        assert!(error.message.contains("permission denied"), "{error}");
    }
    // What locks nobody out goes on, and so does looking.
    bench.allow("198.51.100.1").await;
    operations.remove_rule_of(&admin(), NETWORK, Action::Block, How::default()).await.unwrap();
    operations.status().await.unwrap();
    operations.explain(&admin(), ADMIN).await.unwrap();
}

#[tokio::test]
async fn a_block_of_a_level_that_does_not_enforce_is_not_shown_as_enforced() {
    let bench = Bench::new().await;
    let operations = &bench.operations;
    bench.block_automatically("198.51.100.7");
    operations.set_settings(&admin(), set("filter.mode", "enforce")).await.unwrap();
    for (made_under_enforce, level, fate) in [
        (true, "enforce", Fate::Drop),
        (true, "monitor", Fate::WouldDrop),
        (true, "off", Fate::Pass),
        (false, "enforce", Fate::WouldDrop),
    ] {
        operations.set_settings(&admin(), set("guard.level1.enforcement", level)).await.unwrap();
        {
            let mut blocks = bench.filter.automatic.lock().unwrap();
            blocks[0].enforced = made_under_enforce;
            bench.filter.view.lock().unwrap().automatic = blocks.first().cloned();
        }
        let explained = operations.explain(&admin(), "198.51.100.7").await.unwrap();
        assert_eq!(explained.fate, fate, "{level}: {}", explained.because);
        assert!(!explained.because.contains("the filter only monitors"), "{}", explained.because);
        let listed = operations.blocks(&ListOptions::default()).await.unwrap().items;
        assert_eq!(listed[0].enforced, fate == Fate::Drop, "{level}");
    }
    // The other level's switch is its own.
    operations.set_settings(&admin(), set("guard.level1.enforcement", "off")).await.unwrap();
    {
        let mut blocks = bench.filter.automatic.lock().unwrap();
        (blocks[0].reason, blocks[0].enforced) = (Detector::Level2, true);
    }
    assert!(operations.blocks(&ListOptions::default()).await.unwrap().items[0].enforced);
}

#[tokio::test]
async fn default_deny_shuts_nobody_out_who_is_connected_to_a_protected_port_unless_forced() {
    let bench = Bench::new().await;
    let operations = &bench.operations;
    operations.set_settings(&admin(), forced(set("filter.mode", "enforce"))).await.unwrap();
    // Nobody but strangers to protected ports: ssh and other ports are not denied.
    bench.connect("198.51.100.3", ROOT_SERVICE, 2200);
    let deny = || set("filter.default_deny", "enforce");
    operations.set_settings(&admin(), SetSettings { dry_run: true, ..deny() }).await.unwrap();
    bench.connect("198.51.100.1", ROOT_SERVICE, 8887);
    bench.connect("198.51.100.2", OTHER_SERVICE, 5061);
    for request in [deny(), SetSettings { dry_run: true, ..deny() }] {
        let error = operations.set_settings(&admin(), request).await.unwrap_err();
        assert_eq!(error.code, "NEEDS_FORCE");
        for named in ["198.51.100.1", "198.51.100.2", "network.local_networks", "--force"] {
            assert!(error.message.contains(named), "{error}");
        }
        assert!(!error.message.contains("198.51.100.3") && !error.message.contains(ADMIN), "{error}");
    }
    operations.set_settings(&admin(), set("filter.default_deny", "monitor")).await.unwrap();
    // Whoever the filter knows, or who is local, is not shut out.
    bench.filter.view.lock().unwrap().known = Some(KnownSource { budget: 5000 });
    operations.set_settings(&admin(), SetSettings { dry_run: true, ..deny() }).await.unwrap();
    bench.filter.view.lock().unwrap().known = None;
    bench.filter.view.lock().unwrap().connected = true;
    operations.set_settings(&admin(), deny()).await.unwrap();
    let explained = operations.explain(&admin(), "198.51.100.1").await.unwrap();
    assert!(explained.fate == Fate::Pass && explained.steps.iter().any(|step| step.says.contains("a local network")));
    // Local networks that are named are the only ones.
    let name = || set("network.local_networks", "198.51.100.2/31");
    let error = operations.set_settings(&admin(), name()).await.unwrap_err();
    assert!(error.message.contains("198.51.100.1") && !error.message.contains("198.51.100.2"), "{error}");
    operations.set_settings(&admin(), forced(name())).await.unwrap();
    let explained = operations.explain(&admin(), "198.51.100.1").await.unwrap();
    assert_eq!((explained.fate, explained.undo.as_deref()), (Fate::Drop, Some("pbx allow add 198.51.100.1")));
    assert!(explained.because.contains("default deny"), "{}", explained.because);
    assert_eq!(operations.status().await.unwrap().default_deny, pbx_core::settings::Enforcement::Enforce);
}
