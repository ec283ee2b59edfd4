//! The chain of the audit: what was written is what is there, or it is told.

use sqlx::Executor as _;

use super::*;
use crate::store::Condition;

fn row(number: i64) -> Audit {
    Audit {
        at: Timestamp::from_millis(1_000_000 * number),
        actor: "root".into(),
        origin: "socket".into(),
        what: "rule.add".into(),
        object: format!("192.0.2.{number}"),
        before: None,
        after: Some(format!("{{\"number\":{number}}}")),
    }
}

async fn with_rows(folder: &tempfile::TempDir, rows: i64) -> Store {
    let store = Store::open(&folder.path().join("pbx.db")).await.unwrap();
    for number in 1..=rows {
        store.audit(&row(number)).await.unwrap();
    }
    store
}

#[tokio::test]
async fn what_was_written_is_verified_and_its_last_hash_says_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_rows(&folder, 9).await;
    let verified = store.verify_audit().await.unwrap();
    assert_eq!((verified.rows, verified.pruned, &verified.broken), (9, 0, &None));
    assert_eq!(verified.head.len(), 64);
    // The same rows make the same hash, and one more another one.
    let other = tempfile::tempdir().unwrap();
    let twin = with_rows(&other, 9).await;
    assert_eq!(twin.verify_audit().await.unwrap().head, verified.head);
    twin.audit(&row(10)).await.unwrap();
    assert_ne!(twin.verify_audit().await.unwrap().head, verified.head);
}

#[tokio::test]
async fn rows_are_appended_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_rows(&folder, 3).await;
    for (statement, why) in [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 2", "never changed"),
        ("UPDATE audit SET hash = NULL", "never changed"),
        ("DELETE FROM audit WHERE id = 3", "behind checkpoints only"),
        ("DELETE FROM audit", "behind checkpoints only"),
    ] {
        let error = store.writer.execute(statement).await.unwrap_err().to_string();
        assert!(error.contains(why), "{statement}: {error}");
    }
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
}

#[tokio::test]
async fn what_somebody_changes_behind_the_daemons_back_is_told() {
    for (statement, told) in [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 5", "row 5 of "),
        ("UPDATE audit SET before = '' WHERE id = 5", "row 5 of "),
        ("UPDATE audit SET actor = 'roo', origin = 'tsocket' WHERE id = 5", "row 5 of "),
        ("UPDATE audit SET hash = zeroblob(32) WHERE id = 5", "row 5 of "),
        ("DELETE FROM audit WHERE id = 5", "row 6 of "),
        ("DELETE FROM audit WHERE id = 1", "row 2 of "),
        ("DELETE FROM audit WHERE id = 9", "the last rows are missing: there was one with the number 9"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = with_rows(&folder, 9).await;
        for trigger in ["audit_never_changes", "audit_goes_behind_checkpoints"] {
            store.writer.execute(sqlx::AssertSqlSafe(format!("DROP TRIGGER {trigger}"))).await.unwrap();
        }
        store.writer.execute(statement).await.unwrap();
        let broken = store.verify_audit().await.unwrap().broken.unwrap_or_default();
        assert!(broken.starts_with(told), "{statement}: {broken}");
    }
}

#[tokio::test]
async fn old_rows_go_behind_a_checkpoint_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_rows(&folder, 9).await;
    let head = store.verify_audit().await.unwrap().head;
    let at = |number: i64| Timestamp::from_millis(1_000_000 * number);
    assert_eq!(store.prune_audit(at(1), at(9)).await.unwrap(), 0);
    assert_eq!(store.prune_audit(at(5), at(9)).await.unwrap(), 4);
    let verified = store.verify_audit().await.unwrap();
    assert_eq!((verified.rows, verified.pruned, verified.broken, verified.head), (5, 4, None, head.clone()));
    // All of them, and what comes then follows the checkpoint.
    assert_eq!(store.prune_audit(at(99), at(9)).await.unwrap(), 5);
    let verified = store.verify_audit().await.unwrap();
    assert_eq!((verified.rows, verified.pruned, verified.broken, verified.head), (0, 9, None, head));
    store.audit(&row(10)).await.unwrap();
    assert_eq!(store.prune_audit(at(10), at(10)).await.unwrap(), 0);
    let verified = store.verify_audit().await.unwrap();
    assert_eq!((verified.rows, verified.pruned, verified.broken), (1, 9, None));
    assert!(store.writer.execute("DELETE FROM audit_checkpoints").await.is_err());
}

#[tokio::test]
async fn rows_from_before_there_was_a_chain_become_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_rows(&folder, 5).await;
    let head = store.verify_audit().await.unwrap().head;
    store.writer.execute("DROP TRIGGER audit_never_changes").await.unwrap();
    store.writer.execute("UPDATE audit SET hash = NULL").await.unwrap();
    store.close().await;
    let store = Store::open(&folder.path().join("pbx.db")).await.unwrap();
    let verified = store.verify_audit().await.unwrap();
    assert_eq!((verified.rows, verified.broken, verified.head), (5, None, head));
}

#[tokio::test]
async fn all_rows_come_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_rows(&folder, 9).await;
    let mut ids = Vec::new();
    while let page = store.audit_before(&Condition::All(Vec::new()), ids.last().copied(), 4).await.unwrap()
        && !page.is_empty()
    {
        ids.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(ids, (1..=9).rev().collect::<Vec<i64>>());
}
