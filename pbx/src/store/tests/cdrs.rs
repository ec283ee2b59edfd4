//! Call records.

use pbx_core::{
    call::{CallId, Disposition, EndedBy, LegKind, Record, RecordLeg},
    directory::{ExtensionId, TenantId},
    media::Stats,
};

use super::*;

fn after(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

fn leg(kind: LegKind, number: &str, seconds: u64) -> RecordLeg {
    RecordLeg {
        kind,
        number: number.into(),
        remote: "[2001:db8::9]:5060".into(),
        started: after(seconds),
        ringing: None,
        answered: None,
        ended: None,
        status: 0,
        codec: "".into(),
        media: None,
    }
}

/// A call that was routed at this second.
fn routed(id: u64, seconds: u64) -> Record {
    Record {
        id: CallId(id),
        tenant: TenantId(1),
        caller: ExtensionId(1),
        caller_number: "101".into(),
        caller_name: "Änne".into(),
        dialled: "102".into(),
        callee_number: "".into(),
        started: after(seconds),
        ringing: None,
        answered: None,
        ended: None,
        billed: Duration::ZERO,
        disposition: Disposition::Open,
        status: 0,
        cause: 0,
        ended_by: None,
        why: "".into(),
        codec: "".into(),
        legs: vec![leg(LegKind::Caller, "101", seconds)],
    }
}

/// The same when it was over: everything is there.
fn ended(id: u64, seconds: u64) -> Record {
    let over = |leg: RecordLeg, status| RecordLeg {
        ringing: Some(after(seconds + 1)),
        answered: Some(after(seconds + 3)),
        ended: Some(after(seconds + 64)),
        status,
        codec: "PCMA/8000".into(),
        media: Some(Stats {
            packets: 3050,
            bytes: 524_600,
            lost: 2,
            jitter: 125,
            refused: 1,
            sent: 3049,
            sent_bytes: 9,
        }),
        ..leg
    };
    Record {
        callee_number: "102".into(),
        ringing: Some(after(seconds + 1)),
        answered: Some(after(seconds + 3)),
        ended: Some(after(seconds + 64)),
        billed: Duration::from_millis(61_001),
        disposition: Disposition::Answered,
        status: 200,
        cause: 16,
        ended_by: Some(EndedBy::Callee),
        why: "said goodbye".into(),
        codec: "PCMA/8000".into(),
        legs: vec![
            over(leg(LegKind::Caller, "101", seconds), 200),
            leg(LegKind::Branch, "102", seconds),
            over(leg(LegKind::Transfer, "103", seconds + 9), 200),
        ],
        ..routed(id, seconds)
    }
}

const ALL: Condition<CallField> = Condition::All(Vec::new());

async fn all(store: &Store) -> Vec<Record> {
    store.calls_before(&ALL, None, 1000).await.unwrap()
}

#[tokio::test]
async fn a_record_comes_back_as_its_last_state_also_after_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(&folder).await;
    first.keep_calls(&[routed(u64::MAX, 0), routed(7, 1)]).await.unwrap();
    assert_eq!(all(&first).await, [routed(7, 1), routed(u64::MAX, 0)]);
    // Both states of one in the same batch: the later one counts.
    first.keep_calls(&[ended(u64::MAX, 0), routed(8, 2), ended(8, 2)]).await.unwrap();
    first.keep_calls(&[] as &[Record; 0]).await.unwrap();
    first.close().await;
    let second = store(&folder).await;
    assert_eq!(all(&second).await, [ended(8, 2), routed(7, 1), ended(u64::MAX, 0)]);
    assert_eq!(second.count_calls(&ALL).await.unwrap(), 3);
    let exactly = second.calls_named(CallId(u64::MAX), u64::MAX, 2).await.unwrap();
    assert_eq!(exactly, [ended(u64::MAX, 0)]);
    assert_eq!(second.calls_named(CallId(7), 0xf, 9).await.unwrap(), [routed(7, 1)]);
    assert_eq!(second.calls_named(CallId(0), 0, 2).await.unwrap(), [ended(8, 2), routed(7, 1)]);
}

#[tokio::test]
async fn what_was_open_at_the_end_of_a_daemon_closes_at_the_last_moment_that_is_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(&folder).await;
    let answered = Record { ringing: Some(after(5)), answered: Some(after(8)), ..routed(2, 3) };
    let mut transferred = Record { answered: Some(after(8)), ..routed(3, 4) };
    transferred.legs.push(RecordLeg { ended: Some(after(20)), ..leg(LegKind::Branch, "102", 4) });
    transferred.legs.push(RecordLeg { ringing: Some(after(31)), ..leg(LegKind::Transfer, "103", 30) });
    first.keep_calls(&[routed(1, 2), answered, transferred, ended(4, 0)]).await.unwrap();
    first.close().await;
    let second = store(&folder).await;
    assert_eq!(second.interrupt_open().await.unwrap(), 3);
    let records = all(&second).await;
    let closed = |id: u64| records.iter().find(|record| record.id == CallId(id)).unwrap();
    for (id, end) in [(1, 2), (2, 8), (3, 31)] {
        let record = closed(id);
        assert_eq!((record.disposition, record.ended), (Disposition::Interrupted, Some(after(end))), "{id}");
        assert_eq!((record.ended_by, record.legs[0].ended), (Some(EndedBy::System), Some(after(end))), "{id}");
        assert!(record.why.contains("the daemon ended before the call did"), "{}", record.why);
    }
    assert_eq!(closed(3).legs[1].ended, Some(after(20)), "what had ended keeps its end");
    assert_eq!(closed(4), &ended(4, 0));
    assert_eq!(second.interrupt_open().await.unwrap(), 0);
}

#[tokio::test]
async fn records_are_read_page_by_page_and_none_is_left_out_or_comes_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    // Several in the same millisecond.
    let records: Vec<Record> = (0..250).map(|id| routed(id * 7919 % 251, id / 9)).collect();
    store.keep_calls(&records).await.unwrap();
    let mut read: Vec<Record> = Vec::new();
    loop {
        let before = read.last().map(|record| (record.started, record.id));
        let page = store.calls_before(&ALL, before, 33).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    let mut expected = records;
    expected.sort_by_key(|record| std::cmp::Reverse((record.started, record.id)));
    assert_eq!(read, expected);
    let page = Selection { condition: ALL, order: vec![(CallField::Id, false)], limit: 3, offset: 247 };
    let ids: Vec<u64> = store.calls(&page).await.unwrap().iter().map(|record| record.id.0).collect();
    assert_eq!(ids, [248, 249, 250]);
}

#[tokio::test]
async fn the_oldest_records_go_with_their_legs() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let records: Vec<Record> = (0..100).map(|id| ended(id, 100 - id)).collect();
    store.keep_calls(&records).await.unwrap();
    assert_eq!(store.sweep_calls(100).await.unwrap(), 0);
    assert_eq!(store.sweep_calls(40).await.unwrap(), 60);
    let left = all(&store).await;
    assert_eq!((left.len(), left[0].id, left[39].id), (40, CallId(0), CallId(39)));
    let legs: i64 = sqlx::query_scalar("SELECT count(*) FROM cdr_legs").fetch_one(&store.readers).await.unwrap();
    assert_eq!(legs, 120);
}

#[tokio::test]
async fn who_calls_without_end_pushes_out_no_record_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let of = |ids: std::ops::Range<u64>, tenant: u32, caller: u32| {
        ids.map(move |id| Record { tenant: TenantId(tenant), caller: ExtensionId(caller), ..ended(id, id) })
    };
    // The flood is the newest, so that by age alone it would be all that is left.
    let records: Vec<Record> = of(0..10, 1, 1).chain(of(10..40, 1, 2)).chain(of(40..60, 2, 3)).collect();
    store.keep_calls(&records).await.unwrap();
    store.keep_calls(&of(100..900, 2, 4).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.sweep_calls(100).await.unwrap(), 760);
    let left = all(&store).await;
    let many = |caller| left.iter().filter(|record| record.caller == ExtensionId(caller)).count();
    assert_eq!([1, 2, 3, 4].map(many), [10, 30, 20, 40]);
    assert_eq!(left[0].id, CallId(899), "and of who has too many the newest are left");
    // A tenant with many extensions that do so takes no more than one with few.
    let first = |caller: u32| 1000 + 50 * u64::from(caller);
    let many: Vec<Record> = (5..25).flat_map(|caller| of(first(caller)..first(caller + 1), 2, caller)).collect();
    store.keep_calls(&many).await.unwrap();
    store.sweep_calls(80).await.unwrap();
    let left = all(&store).await;
    let of_tenant = |tenant| left.iter().filter(|record| record.tenant == TenantId(tenant)).count();
    assert_eq!(of_tenant(1), 40);
    assert!((20..=40).contains(&of_tenant(2)), "{}", of_tenant(2));
}

#[tokio::test]
async fn a_newest_page_and_the_calls_of_a_number_are_found_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let number = |field| Condition::Compare(field, Comparison::Equal, Operand::Text("102".into()));
    let of_number = Condition::Any(vec![
        number(CallField::CallerNumber),
        number(CallField::Dialled),
        number(CallField::CalleeNumber),
    ]);
    for (selection, wanted, unwanted) in [
        (Selection { condition: ALL, order: Vec::new(), limit: 100, offset: 0 }, "cdrs_by_start", "B-TREE"),
        (
            Selection { condition: of_number, order: vec![(CallField::Codec, false)], limit: 100, offset: 0 },
            "MULTI-INDEX OR",
            "SCAN",
        ),
    ] {
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("EXPLAIN QUERY PLAN SELECT * FROM cdrs");
        selection.push(&mut query);
        let rows = query.build().fetch_all(&store.readers).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, 3)).collect();
        assert!(plan.iter().any(|step| step.contains(wanted)), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains(unwanted) && !step.contains("USING INDEX")), "{plan:?}");
    }
}

#[tokio::test]
async fn extensions_of_an_older_version_are_not_forwarded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pbx.db");
    let old = sqlx::SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path).create_if_missing(true))
        .await
        .unwrap();
    let migrations = sqlx::migrate!("./migrations");
    for migration in migrations.iter().filter(|migration| migration.version < 3) {
        sqlx::raw_sql(migration.sql.clone()).execute(&old).await.unwrap();
    }
    for insert in [
        "INSERT INTO tenants VALUES (1, 'one', '[]', 'pbx', '{}', 1, 0)",
        "INSERT INTO extensions VALUES (1, 1, '101', '', '', 1, x'00', 0, 0)",
    ] {
        sqlx::query(insert).execute(&old).await.unwrap();
    }
    for migration in migrations.iter().filter(|migration| migration.version == 3) {
        sqlx::raw_sql(migration.sql.clone()).execute(&old).await.unwrap();
    }
    let stored: String = sqlx::query_scalar("SELECT forwarding FROM extensions").fetch_one(&old).await.unwrap();
    let forwarding: pbx_core::directory::Forwarding = serde_json::from_str(&stored).unwrap();
    assert_eq!(forwarding, pbx_core::directory::Forwarding::default());
    assert!(sqlx::query("UPDATE extensions SET forwarding = 'no JSON'").execute(&old).await.is_err());
}
