mod accounts;
mod audit;
mod cdrs;

use pbx_core::{
    guard::Detector,
    rule::{Action, Origin, Rule, Zone},
};

use super::*;
use crate::filter::AutomaticBlock;

const NOW: Timestamp = Timestamp::from_millis(1_795_412_400_000);

async fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("data/pbx.db")).await.unwrap()
}

fn rule(id: i64, prefix: &str, action: Action) -> Rule {
    Rule {
        id,
        prefix: prefix.parse().unwrap(),
        action,
        zone: Zone::Any,
        origin: Origin::Manual,
        description: "My Remote office".into(),
        created_at: NOW,
        created_by: "root".into(),
        expires_at: (id % 2 == 0).then_some(NOW),
    }
}

fn change<'a>(removed: &'a [Rule], added: &'a [Rule]) -> RuleChange<'a> {
    RuleChange { removed, added, audit: &[], events: &[], pending: None, feed: None, released: None }
}

fn event(message: &str) -> NewEvent {
    NewEvent {
        at: NOW,
        kind: EventKind::Block,
        prefix: Some("192.0.2.1".parse().unwrap()),
        interface: Some("eth0".into()),
        message: message.into(),
    }
}

fn audit(what: &str) -> Audit {
    Audit {
        at: NOW,
        actor: "root".into(),
        origin: "socket".into(),
        what: what.into(),
        object: "192.0.2.1".into(),
        before: None,
        after: Some("{}".into()),
    }
}

#[tokio::test]
async fn rules_come_back_as_they_were_stored_also_after_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let rules = [
        rule(1, "192.0.2.1", Action::Block),
        rule(2, "192.0.2.1", Action::Allow),
        rule(3, "41.202.0.0/16", Action::Block),
        rule(4, "2001:db8::/64", Action::Allow),
    ];
    let first = store(&folder).await;
    first.change_rules(change(&[], &rules)).await.unwrap();
    assert_eq!(first.rules().await.unwrap(), rules);
    first.close().await;
    let second = store(&folder).await;
    assert_eq!(second.rules().await.unwrap(), rules);
    second.change_rules(change(&rules[..3], &[])).await.unwrap();
    assert_eq!(second.rules().await.unwrap(), rules[3..]);
}

#[tokio::test]
async fn an_id_is_never_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    assert_eq!(store.next_rule_id().await.unwrap(), 1);
    let rules = [rule(7, "192.0.2.1", Action::Block)];
    store.change_rules(change(&[], &rules)).await.unwrap();
    store.change_rules(change(&rules, &[])).await.unwrap();
    assert_eq!(store.next_rule_id().await.unwrap(), 8);
}

#[tokio::test]
async fn a_change_is_stored_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let rules = [rule(1, "192.0.2.1", Action::Block)];
    store.change_rules(change(&[], &rules)).await.unwrap();
    // The second of the new ones has a prefix and action that are there.
    let bad = [rule(2, "192.0.2.2", Action::Block), rule(3, "192.0.2.1", Action::Block)];
    let failed = store
        .change_rules(RuleChange {
            removed: &[],
            added: &bad,
            audit: &[audit("rule.import")],
            events: &[event("x")],
            pending: Some("x"),
            feed: None,
            released: None,
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(store.rules().await.unwrap(), rules);
    assert!(store.audit_rows(10).await.unwrap().is_empty());
    assert!(store.events(Timestamp::EPOCH, 10).await.unwrap().is_empty());
    assert_eq!(store.pending().await.unwrap(), None);
}

#[tokio::test]
async fn a_full_disk_says_so_and_the_old_state_stands() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let first = [rule(1, "192.0.2.1", Action::Block)];
    store.change_rules(change(&[], &first)).await.unwrap();
    // SQLite's own limit of pages gives the error that a full disk gives.
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.writer).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(&store.writer).await.unwrap();
    let many: Vec<Rule> = (0..5000_u32)
        .map(|n| rule(i64::from(n) + 2, &std::net::Ipv4Addr::from_bits(0x0A00_0000 + n).to_string(), Action::Block))
        .collect();
    let error = store.change_rules(change(&[], &many)).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(error.to_string().contains("is full"), "{error}");
    assert_eq!(store.rules().await.unwrap(), first);
    sqlx::query("PRAGMA max_page_count = 1073741823").execute(&store.writer).await.unwrap();
    store.change_rules(change(&[], &many)).await.unwrap();
    assert_eq!(store.rules().await.unwrap().len(), 5001);
}

#[tokio::test]
async fn commits_are_synced_and_readers_do_not_wait_for_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.writer).await.unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.unwrap();
    assert_eq!((synchronous, journal.as_str()), (2, "wal"));
    let _held = store.begin().await.unwrap();
    assert!(store.rules().await.unwrap().is_empty());
}

#[tokio::test]
async fn settings_keep_their_revision_and_defaults_are_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let set = |key: &str, value: Option<&str>| vec![(key.to_owned(), value.map(str::to_owned))];
    let write = async |values: &[(String, Option<String>)], enforced| {
        let audit = [audit("setting.set")];
        store
            .change_settings(SettingsChange { values, audit: &audit, events: &[], enforced, pending: None })
            .await
            .unwrap()
            .0
    };
    assert_eq!(store.settings().await.unwrap(), StoredSettings::default());
    assert!(!store.has_enforced().await.unwrap());
    assert_eq!(write(&set("guard.level1.packets", Some("100")), false).await, 1);
    assert_eq!(write(&set("filter.mode", Some("enforce")), true).await, 2);
    assert_eq!(write(&set("guard.level1.packets", None), false).await, 3);
    let stored = store.settings().await.unwrap();
    assert_eq!(stored.revision, 3);
    assert_eq!(stored.values, [("filter.mode".to_owned(), "enforce".to_owned())]);
    assert!(store.has_enforced().await.unwrap());
    assert_eq!(store.audit_rows(10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn events_get_the_ids_that_they_are_stored_under_however_many_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let many: Vec<NewEvent> = (0..2500).map(|number| event(&format!("event {number}"))).collect();
    let mut told = store.add_events(&many[..1]).await.unwrap();
    told.extend(store.add_events(&many[1..]).await.unwrap());
    let messages: Vec<&str> = told.iter().map(|event| event.message.as_str()).collect();
    assert!(messages.iter().eq(many.iter().map(|event| &event.message)), "in the order in which they were given");
    told.reverse();
    assert_eq!(store.events(Timestamp::EPOCH, 10_000).await.unwrap(), told);
}

#[tokio::test]
async fn events_are_bounded_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let stored = store.add_events(&[event("older"), event("old"), event("new")]).await.unwrap();
    let mut connection = store.writer.acquire().await.unwrap();
    events::clean(&mut connection, 3, 0).await.unwrap();
    assert_eq!(store.events(Timestamp::EPOCH, 10).await.unwrap().len(), 3);
    events::clean(&mut connection, 1, 0).await.unwrap();
    assert_eq!(store.events(Timestamp::EPOCH, 10).await.unwrap(), stored[2..]);
    let about = store.events_about(&["192.0.2.1".parse().unwrap()], 5).await.unwrap();
    assert_eq!(about, stored[2..]);
    assert!(store.events_about(&["192.0.2.2".parse().unwrap()], 5).await.unwrap().is_empty());
}

#[tokio::test]
async fn many_registrations_push_out_their_own_kind_and_blocks_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let registered = |number| NewEvent { kind: EventKind::Registrations, prefix: None, ..event(&format!("{number}")) };
    let block = store.add_events(&[event("blocked")]).await.unwrap();
    for begin in (0..25_000).step_by(700) {
        let some: Vec<NewEvent> = (begin..begin + 700).map(registered).collect();
        store.add_events(&some).await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&store.readers).await.unwrap();
        assert!(count <= 20_001, "{count}");
    }
    let kept = store.events(Timestamp::EPOCH, 30_000).await.unwrap();
    assert!(kept.len() > 19_000 && kept[0].message == "25199", "{}", kept.len());
    assert_eq!(kept[kept.len() - 1..], block);
}

#[tokio::test]
async fn automatic_blocks_survive_until_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let block = |prefix: &str, seconds: u64| StoredBlock {
        prefix: prefix.parse().unwrap(),
        reason: Detector::Level2,
        since: NOW,
        expires_at: NOW.saturating_add(Duration::from_secs(seconds)),
        enforced: true,
        web_only: false,
    };
    let first = store(&folder).await;
    let blocks = [block("192.0.2.1", 30), block("192.0.2.2", 60), block("2001:db8::/64", 60)];
    first.keep_automatic(&blocks, &[]).await.unwrap();
    let web = |prefix, seconds| StoredBlock { reason: Detector::Web, web_only: true, ..block(prefix, seconds) };
    first.keep_automatic(&[web("192.0.2.2", 60), web("192.0.2.3", 60)], &[]).await.unwrap();
    let gone = [blocks[2].key(), web("192.0.2.3", 60).key()];
    first.keep_automatic(&[block("192.0.2.2", 90), block("192.0.2.3", 40)], &gone).await.unwrap();
    first.close().await;
    let later = NOW.saturating_add(Duration::from_secs(30));
    // Both of a source, and of another the one that is not over.
    let left = [block("192.0.2.2", 90), web("192.0.2.2", 60), block("192.0.2.3", 40)];
    assert_eq!(store(&folder).await.automatic(later).await.unwrap(), left);
    let seen = AutomaticBlock {
        prefix: "192.0.2.1".parse().unwrap(),
        reason: Detector::Level2,
        since: NOW,
        expires_at: NOW.saturating_add(Duration::from_secs(30)),
        packets: 9,
        last_seen: None,
        enforced: true,
        web_only: false,
    };
    assert_eq!(StoredBlock::from(&seen), blocks[0]);
}

#[tokio::test]
async fn a_bulk_change_is_marked_until_the_kernel_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(&folder).await;
    let rules = [rule(1, "192.0.2.1", Action::Block)];
    first.change_rules(RuleChange { pending: Some("an import"), ..change(&[], &rules) }).await.unwrap();
    first.close().await;
    let second = store(&folder).await;
    assert_eq!(second.pending().await.unwrap().as_deref(), Some("an import"));
    second.clear_pending().await.unwrap();
    assert_eq!(second.pending().await.unwrap(), None);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_and_a_file_that_is_no_database_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "this is not a database, and long enough to be looked at").unwrap();
    let inside_a_file = Store::open(&folder.path().join("file/pbx.db")).await.unwrap_err();
    assert!(inside_a_file.to_string().contains("data_dir"), "{inside_a_file}");
    let no_database = Store::open(&folder.path().join("file")).await.unwrap_err();
    assert!(no_database.to_string().contains("not a database"), "{no_database}");
}

#[tokio::test]
async fn rules_of_an_older_layout_keep_their_ids_and_none_is_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/pbx.db");
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let mut older = sqlx::migrate!("./migrations");
    older.migrations = older.migrations.iter().filter(|one| one.version < 4).cloned().collect::<Vec<_>>().into();
    older.run(&pool).await.unwrap();
    for (id, prefix) in [(3, "198.51.100.1"), (7, "198.51.100.2"), (9, "198.51.100.3")] {
        sqlx::query("INSERT INTO rules VALUES (?, ?, 'block', 'any', 'manual', 'why', 5, 'root', NULL)")
            .bind(id)
            .bind(prefix)
            .execute(&pool)
            .await
            .unwrap();
    }
    sqlx::query("DELETE FROM rules WHERE id = 9").execute(&pool).await.unwrap();
    pool.close().await;
    let store = store(&folder).await;
    let ids: Vec<i64> = store.rules().await.unwrap().iter().map(|rule| rule.id).collect();
    assert_eq!((ids, store.next_rule_id().await.unwrap()), (vec![3, 7], 10));
    let added = [rule(10, "198.51.100.4", Action::Block)];
    store.change_rules(change(&[], &added)).await.unwrap();
    assert_eq!(store.next_rule_id().await.unwrap(), 11);
}

#[tokio::test]
async fn automatic_blocks_of_an_older_layout_stay_what_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/pbx.db");
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let mut older = sqlx::migrate!("./migrations");
    older.migrations = older.migrations.iter().filter(|one| one.version < 6).cloned().collect::<Vec<_>>().into();
    older.run(&pool).await.unwrap();
    for (prefix, reason) in [("192.0.2.1", "web"), ("192.0.2.2", "accounts")] {
        sqlx::query("INSERT INTO automatic VALUES (?, ?, 5, 90, 1)")
            .bind(prefix)
            .bind(reason)
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
    let stored = store(&folder).await.automatic(Timestamp::from_millis(0)).await.unwrap();
    let stored: Vec<_> = stored.iter().map(|block| (block.prefix.to_string(), block.reason, block.web_only)).collect();
    let (one, other) = ("192.0.2.1".to_owned(), "192.0.2.2".to_owned());
    assert_eq!(stored, [(one, Detector::Web, true), (other, Detector::Accounts, false)]);
}
