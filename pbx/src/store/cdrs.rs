//! Call records: written in batches behind the calls, read for lists, bounded. One that is open is written again; those
//! that are open at a start were cut off by the end of the daemon before.

mod fields;

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc, time::Duration};

use pbx_core::{
    call::{CallId, Disposition, EndedBy, LegKind, Record, RecordLeg},
    directory::{ExtensionId, TenantId},
    media::Stats,
    time::Timestamp,
};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

pub use self::fields::CallField;
use super::{
    Store, StoreError, millis,
    selection::{Condition, Selection},
};

/// Records that are kept.
pub const CALLS_KEPT: u64 = 1_000_000;
/// Records that come in between one sweep and the next, which reads them all.
pub const CALLS_SWEPT: u64 = 50_000;
/// Records that are deleted at once.
const DELETED: u64 = 10_000;
/// Rows of a statement, the most first. The statements stay prepared: there are only these.
const ROWS: [usize; 3] = [64, 8, 1];
/// What a record says of a call that the daemon's end cut off.
const INTERRUPTED: &str = "the daemon ended before the call did; nobody knows when that was: the last that is known \
                           of the call counts as its end";
/// The columns, as [`Store::call_record`] reads them.
const COLUMNS: &str = "SELECT id, tenant, caller, caller_number, caller_name, dialled, callee_number, started, ringing, \
                       answered, ended, billed, disposition, status, cause, ended_by, why, codec FROM cdrs";

impl Store {
    /// Keeps records in one transaction; one that is there already is replaced by its new state.
    pub async fn keep_calls(&self, records: &[impl Borrow<Record> + Sync]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        async {
            for chunk in chunks(records) {
                keep_records(&mut transaction, chunk).await?;
            }
            let legs: Vec<(CallId, usize, &RecordLeg)> = records
                .iter()
                .map(Borrow::borrow)
                .flat_map(|record: &Record| {
                    record.legs.iter().enumerate().map(|(position, leg)| (record.id, position, leg))
                })
                .collect();
            for chunk in chunks(&legs) {
                keep_legs(&mut transaction, chunk).await?;
            }
            Ok(())
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }

    /// Closes the records of calls that the end of an earlier daemon cut off, and says how many. Nobody saw the end
    /// of such a call: its end, and that of each of its legs, is the last moment that its rows speak of, so that no
    /// call seems longer than it was.
    pub async fn interrupt_open(&self) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let closed = async {
            let closed = sqlx::query(
                "UPDATE cdrs SET disposition = 'interrupted', ended_by = 'system', why = ?, ended = max(
                     started, ifnull(ringing, started), ifnull(answered, started),
                     ifnull((SELECT max(max(started, ifnull(ringing, started), ifnull(answered, started),
                             ifnull(ended, started))) FROM cdr_legs WHERE cdr = cdrs.id), started))
                 WHERE disposition = 'open' RETURNING id, ended",
            )
            .bind(INTERRUPTED)
            .fetch_all(&mut *transaction)
            .await?;
            for row in &closed {
                sqlx::query("UPDATE cdr_legs SET ended = ? WHERE cdr = ? AND ended IS NULL")
                    .bind(row.try_get::<i64, _>(1)?)
                    .bind(row.try_get::<i64, _>(0)?)
                    .execute(&mut *transaction)
                    .await?;
            }
            Ok(closed.len() as u64)
        }
        .await
        .map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(closed)
    }

    /// A page of records with their legs.
    pub async fn calls(&self, selection: &Selection<CallField>) -> Result<Vec<Record>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        selection.push(&mut query);
        self.read_calls(query).await
    }

    /// How many there are.
    pub async fn count_calls(&self, condition: &Condition<CallField>) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM cdrs WHERE ");
        condition.push(&mut query);
        let count: i64 = query
            .build_query_scalar()
            .persistent(false)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(count.cast_unsigned())
    }

    /// Those that were routed before this one, newest first, for whoever reads all of them page by page; without one,
    /// the newest.
    pub async fn calls_before(
        &self,
        condition: &Condition<CallField>,
        before: Option<(Timestamp, CallId)>,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" WHERE ");
        if let Some((started, id)) = before {
            query.push("(started, id) < (").push_bind(millis(started)).push(", ");
            query.push_bind(id.0.cast_signed()).push(") AND ");
        }
        condition.push(&mut query);
        query.push(" ORDER BY started DESC, id DESC LIMIT ").push_bind(limit);
        self.read_calls(query).await
    }

    /// Those whose ids have these bits where `mask` has ones, the newest first, at most `limit`.
    pub async fn calls_named(&self, bits: CallId, mask: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        // The database's whole numbers have a sign; the bits are the same. Only a whole id is found by the key.
        match mask {
            u64::MAX => query.push(" WHERE id = "),
            _ => query.push(" WHERE id & ").push_bind(mask.cast_signed()).push(" = "),
        };
        query.push_bind(bits.0.cast_signed()).push(" ORDER BY started DESC, id DESC LIMIT ").push_bind(limit);
        self.read_calls(query).await
    }

    /// Forgets records until at most `keep` are left, and says how many went: the oldest of whoever has most, first by
    /// tenant, then by extension within it. So nobody's calls, however many, push out the records of others.
    pub async fn sweep_calls(&self, keep: u64) -> Result<u64, StoreError> {
        if self.count_calls(&Condition::All(Vec::new())).await? <= keep {
            return Ok(0);
        }
        let counts: Vec<(i64, i64, i64)> =
            sqlx::query_as("SELECT tenant, caller, count(*) FROM cdrs GROUP BY tenant, caller")
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.failed(error))?;
        let counts = counts.into_iter().map(|(tenant, caller, count)| ((tenant, caller), count.cast_unsigned()));
        let mut gone = 0;
        for ((tenant, caller), mut left) in surplus(&counts.collect(), keep) {
            // A transaction keeps everybody else who writes waiting, so it only deletes, and not too much.
            while left > 0 {
                let some = left.min(DELETED);
                let oldest = "SELECT id FROM cdrs WHERE tenant = ? AND caller = ? ORDER BY started, id LIMIT ?";
                let oldest: Vec<i64> = sqlx::query_scalar(oldest)
                    .bind(tenant)
                    .bind(caller)
                    .bind(some.cast_signed())
                    .fetch_all(&self.readers)
                    .await
                    .map_err(|error| self.failed(error))?;
                let deleted = sqlx::query("DELETE FROM cdrs WHERE id IN (SELECT value FROM json_each(?))")
                    .bind(serde_json::to_string(&oldest).unwrap_or_default())
                    .execute(&self.writer)
                    .await
                    .map_err(|error| self.failed(error))?;
                gone += deleted.rows_affected();
                left -= some;
            }
        }
        Ok(gone)
    }

    /// Forgets records of calls that began before `keep_from` and are over, and says how many went.
    pub async fn prune_calls(&self, keep_from: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let deleted = sqlx::query(
                "DELETE FROM cdrs WHERE id IN (SELECT id FROM cdrs WHERE started < ? AND disposition <> 'open' \
                 ORDER BY started LIMIT ?)",
            )
            .bind(millis(keep_from))
            .bind(DELETED.cast_signed())
            .execute(&self.writer)
            .await
            .map_err(|error| self.failed(error))?;
            gone += deleted.rows_affected();
            if deleted.rows_affected() < DELETED {
                return Ok(gone);
            }
        }
    }

    async fn read_calls(&self, mut query: QueryBuilder<Sqlite>) -> Result<Vec<Record>, StoreError> {
        // One snapshot for both, so that a record and its legs are of the same moment.
        let mut snapshot = self.readers.begin().await.map_err(|error| self.failed(error))?;
        let rows = query.build().persistent(false).fetch_all(&mut *snapshot).await;
        let rows = rows.map_err(|error| self.failed(error))?;
        let mut records = rows.iter().map(|row| self.call_record(row)).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<i64> = records.iter().map(|record| record.id.0.cast_signed()).collect();
        let legs = sqlx::query(
            "SELECT cdr, kind, number, remote, started, ringing, answered, ended, status, codec, packets, bytes, lost,
                 jitter, refused, sent, sent_bytes
             FROM cdr_legs WHERE cdr IN (SELECT value FROM json_each(?)) ORDER BY cdr, position",
        )
        .bind(serde_json::to_string(&ids).unwrap_or_default())
        .fetch_all(&mut *snapshot)
        .await
        .map_err(|error| self.failed(error))?;
        let mut by_id: Vec<(CallId, usize)> = records.iter().map(|record| record.id).zip(0..).collect();
        by_id.sort_unstable();
        for row in &legs {
            let id = CallId(row.get::<i64, _>(0).cast_unsigned());
            if let Ok(found) = by_id.binary_search_by_key(&id, |(id, _)| *id) {
                records[by_id[found].1].legs.push(self.call_leg(row)?);
            }
        }
        Ok(records)
    }

    fn call_record(&self, row: &SqliteRow) -> Result<Record, StoreError> {
        let read = |error: sqlx::Error| self.corrupt(format!("table cdrs: {error}"));
        let text = |column: usize| text(row, column).map_err(read);
        let disposition: &str = row.try_get(12).map_err(read)?;
        let ended_by: Option<&str> = row.try_get(15).map_err(read)?;
        Ok(Record {
            id: CallId(row.try_get::<i64, _>(0).map_err(read)?.cast_unsigned()),
            tenant: TenantId(row.try_get(1).map_err(read)?),
            caller: ExtensionId(row.try_get(2).map_err(read)?),
            caller_number: text(3)?,
            caller_name: text(4)?,
            dialled: text(5)?,
            callee_number: text(6)?,
            started: Timestamp::from_millis(row.try_get(7).map_err(read)?),
            ringing: moment(row, 8).map_err(read)?,
            answered: moment(row, 9).map_err(read)?,
            ended: moment(row, 10).map_err(read)?,
            billed: Duration::from_millis(row.try_get::<i64, _>(11).map_err(read)?.cast_unsigned()),
            disposition: Disposition::from_name(disposition)
                .ok_or_else(|| self.corrupt(format!("disposition {disposition:?}")))?,
            status: row.try_get::<Option<u16>, _>(13).map_err(read)?.unwrap_or(0),
            cause: row.try_get::<Option<u8>, _>(14).map_err(read)?.unwrap_or(0),
            ended_by: ended_by
                .map(|name| EndedBy::from_name(name).ok_or_else(|| self.corrupt(format!("ended_by {name:?}"))))
                .transpose()?,
            why: text(16)?,
            codec: text(17)?,
            legs: Vec::new(),
        })
    }

    fn call_leg(&self, row: &SqliteRow) -> Result<RecordLeg, StoreError> {
        let read = |error: sqlx::Error| self.corrupt(format!("table cdr_legs: {error}"));
        let kind: &str = row.try_get(1).map_err(read)?;
        let count =
            |column: usize| row.try_get::<Option<i64>, _>(column).map(|count| count.unwrap_or(0).cast_unsigned());
        let media = match row.try_get::<Option<i64>, _>(10).map_err(read)? {
            None => None,
            Some(packets) => Some(Stats {
                packets: packets.cast_unsigned(),
                bytes: count(11).map_err(read)?,
                lost: count(12).map_err(read)?,
                jitter: count(13).map_err(read)?,
                refused: count(14).map_err(read)?,
                sent: count(15).map_err(read)?,
                sent_bytes: count(16).map_err(read)?,
            }),
        };
        Ok(RecordLeg {
            kind: LegKind::from_name(kind).ok_or_else(|| self.corrupt(format!("kind of a leg {kind:?}")))?,
            number: text(row, 2).map_err(read)?,
            remote: text(row, 3).map_err(read)?,
            started: Timestamp::from_millis(row.try_get(4).map_err(read)?),
            ringing: moment(row, 5).map_err(read)?,
            answered: moment(row, 6).map_err(read)?,
            ended: moment(row, 7).map_err(read)?,
            status: row.try_get::<Option<u16>, _>(8).map_err(read)?.unwrap_or(0),
            codec: text(row, 9).map_err(read)?,
            media,
        })
    }
}

/// A list in pieces of [`ROWS`].
fn chunks<T>(mut list: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let rows = ROWS.into_iter().find(|rows| *rows <= list.len())?;
        let (chunk, rest) = list.split_at(rows);
        list = rest;
        Some(chunk)
    })
}

/// A caller: tenant and extension.
type CallerKey = (i64, i64);

/// How many of each extension's records are too many for all to fit into `room`.
fn surplus(counts: &BTreeMap<CallerKey, u64>, room: u64) -> Vec<(CallerKey, u64)> {
    let mut tenants: BTreeMap<i64, Vec<(CallerKey, u64)>> = BTreeMap::new();
    for (key, count) in counts {
        tenants.entry(key.0).or_default().push((*key, *count));
    }
    let of_tenant = |callers: &Vec<(_, u64)>| callers.iter().map(|(_, count)| *count).sum::<u64>();
    let share = share(tenants.values().map(of_tenant).collect(), room);
    let over = |callers: Vec<(CallerKey, u64)>| {
        let share = self::share(callers.iter().map(|(_, count)| *count).collect(), share);
        callers.into_iter().map(move |(key, count)| (key, count.saturating_sub(share))).filter(|(_, over)| *over > 0)
    };
    tenants.into_values().flat_map(over).collect()
}

/// What each may have at most so that all fit into `room`: whoever has less leaves the rest to the others.
fn share(mut counts: Vec<u64>, room: u64) -> u64 {
    counts.sort_unstable();
    let (mut left, mut many) = (room, counts.len() as u64);
    for count in counts {
        if count > left / many {
            return left / many;
        }
        left -= count;
        many -= 1;
    }
    room
}

async fn keep_records(connection: &mut SqliteConnection, records: &[impl Borrow<Record>]) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO cdrs (id, tenant, caller, caller_number, caller_name, dialled, callee_number, started, ringing,
             answered, ended, billed, disposition, status, cause, ended_by, why, codec) ",
    );
    query.push_values(records, |mut row, record| {
        let record: &Record = record.borrow();
        row.push_bind(record.id.0.cast_signed())
            .push_bind(record.tenant.0)
            .push_bind(record.caller.0)
            .push_bind(record.caller_number.as_ref())
            .push_bind(some(&record.caller_name))
            .push_bind(record.dialled.as_ref())
            .push_bind(some(&record.callee_number))
            .push_bind(millis(record.started))
            .push_bind(record.ringing.map(millis))
            .push_bind(record.answered.map(millis))
            .push_bind(record.ended.map(millis))
            .push_bind(i64::try_from(record.billed.as_millis()).unwrap_or(i64::MAX))
            .push_bind(record.disposition.as_str())
            .push_bind((record.status > 0).then_some(record.status))
            .push_bind((record.cause > 0).then_some(record.cause))
            .push_bind(record.ended_by.map(EndedBy::as_str))
            .push_bind(some(&record.why))
            .push_bind(some(&record.codec));
    });
    // What never changes is not written again: each of these columns is in an index.
    query.push(
        " ON CONFLICT (id) DO UPDATE SET callee_number = excluded.callee_number, ringing = excluded.ringing,
             answered = excluded.answered, ended = excluded.ended, billed = excluded.billed,
             disposition = excluded.disposition, status = excluded.status, cause = excluded.cause,
             ended_by = excluded.ended_by, why = excluded.why, codec = excluded.codec",
    );
    query.build().execute(connection).await.map(drop)
}

async fn keep_legs(connection: &mut SqliteConnection, legs: &[(CallId, usize, &RecordLeg)]) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO cdr_legs (cdr, position, kind, number, remote, started, ringing, answered, ended, status, codec,
             packets, bytes, lost, jitter, refused, sent, sent_bytes) ",
    );
    query.push_values(legs, |mut row, (call, position, leg)| {
        let count =
            |of: fn(&Stats) -> u64| leg.media.as_ref().map(|stats| i64::try_from(of(stats)).unwrap_or(i64::MAX));
        row.push_bind(call.0.cast_signed())
            .push_bind(i64::try_from(*position).unwrap_or(i64::MAX))
            .push_bind(leg.kind.as_str())
            .push_bind(leg.number.as_ref())
            .push_bind(leg.remote.as_ref())
            .push_bind(millis(leg.started))
            .push_bind(leg.ringing.map(millis))
            .push_bind(leg.answered.map(millis))
            .push_bind(leg.ended.map(millis))
            .push_bind((leg.status > 0).then_some(leg.status))
            .push_bind(some(&leg.codec))
            .push_bind(count(|stats| stats.packets))
            .push_bind(count(|stats| stats.bytes))
            .push_bind(count(|stats| stats.lost))
            .push_bind(count(|stats| stats.jitter))
            .push_bind(count(|stats| stats.refused))
            .push_bind(count(|stats| stats.sent))
            .push_bind(count(|stats| stats.sent_bytes));
    });
    query.push(
        " ON CONFLICT (cdr, position) DO UPDATE SET kind = excluded.kind, number = excluded.number,
             remote = excluded.remote, ringing = excluded.ringing, answered = excluded.answered,
             ended = excluded.ended, status = excluded.status, codec = excluded.codec, packets = excluded.packets,
             bytes = excluded.bytes, lost = excluded.lost, jitter = excluded.jitter, refused = excluded.refused,
             sent = excluded.sent, sent_bytes = excluded.sent_bytes",
    );
    query.build().execute(connection).await.map(drop)
}

/// A blank text is nothing.
fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn text(row: &SqliteRow, column: usize) -> Result<Arc<str>, sqlx::Error> {
    row.try_get::<Option<&str>, _>(column).map(|text| Arc::from(text.unwrap_or_default()))
}

fn moment(row: &SqliteRow, column: usize) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(column).map(|millis| millis.map(Timestamp::from_millis))
}
