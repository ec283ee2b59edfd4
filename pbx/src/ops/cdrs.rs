//! Call records: listed, shown, exported. Who called whom is for administrators.

use pbx_core::{
    call::{CallId, Disposition, EndedBy, LegKind, Record, RecordLeg},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    Context, ListOptions, OpError, Operations, Page,
    accounts::{Accounts, shown},
    calls::{bits, no_id, several},
    csv::cell,
    query::{Kind, Query, Row, StoredRow, Value},
};
use crate::store::{CallField, Condition};

/// Records that an export holds in memory at once.
const AT_ONCE: u32 = 500;
/// What an export as CSV has beside [`CdrView`]'s fields.
const MEDIA_COLUMNS: [&str; 4] = ["caller_packets", "caller_lost", "callee_packets", "callee_lost"];

/// A call record as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdrView {
    /// 16 hexadecimal digits; the call had the same.
    pub id: String,
    /// The name that its tenant has now.
    pub tenant: Option<String>,
    /// Who called.
    pub caller_number: String,
    /// The name of who called, as it was shown.
    pub caller_name: Option<String>,
    /// What was dialled.
    pub dialled: String,
    /// The number that answered, or was tried last.
    pub callee_number: Option<String>,
    /// When it was routed.
    pub started_at: Timestamp,
    /// When a phone first rang.
    pub ringing_at: Option<Timestamp>,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// From answer to end, in seconds, by a clock that nobody sets; one that has begun counts.
    pub billed_seconds: u64,
    /// How it ended.
    pub disposition: Disposition,
    /// The final status (RFC 3261 §21).
    pub status: Option<u16>,
    /// The cause (ITU-T Q.850).
    pub cause: Option<u8>,
    /// Who ended it.
    pub ended_by: Option<EndedBy>,
    /// Why, where the status does not say it all.
    pub why: Option<String>,
    /// The codec that was agreed on.
    pub codec: Option<String>,
}

/// A call record with its legs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdrDetail {
    /// The record.
    #[serde(flatten)]
    pub record: CdrView,
    /// In the order in which they were made, the caller's first.
    pub legs: Vec<CdrLegView>,
}

/// A phone's part in a call that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdrLegView {
    /// Why it was made.
    pub kind: LegKind,
    /// The number that it rang for, or that called.
    pub number: String,
    /// Where the phone is.
    pub remote: String,
    /// When it was made.
    pub started_at: Timestamp,
    /// When the phone rang.
    pub ringing_at: Option<Timestamp>,
    /// When it answered.
    pub answered_at: Option<Timestamp>,
    /// When its part ended.
    pub ended_at: Option<Timestamp>,
    /// What the phone answered.
    pub status: Option<u16>,
    /// Its codec.
    pub codec: Option<String>,
    /// What went through it; nothing when nothing was counted.
    pub media: Option<LegMedia>,
}

/// What went through a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegMedia {
    /// RTP packets from the phone.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Packets that are missing.
    pub lost: u64,
    /// Interarrival jitter at the end (microseconds).
    pub jitter_us: u64,
    /// Packets to its ports that the phone may not send, or that somebody else sent.
    pub refused: u64,
    /// RTP packets to the phone.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
}

/// How records are written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// A line a call, with a header; for spreadsheet programs.
    #[default]
    Csv,
    /// A JSON object a line, legs and all; for programs.
    Json,
}

/// Records on their way out, page by page, newest first.
pub struct ExportCdrs {
    operations: Operations,
    format: ExportFormat,
    condition: Condition<CallField>,
    /// The last one that is out.
    last: Option<(Timestamp, CallId)>,
    begun: bool,
    over: bool,
}

impl Operations {
    /// A page of records, by default the newest first.
    pub async fn cdrs(&self, context: &Context, options: &ListOptions) -> Result<Page<CdrView>, OpError> {
        context.may_see_who_calls("call records")?;
        let query = Query::parse::<CdrView>(options).map_err(OpError::usage)?;
        let selection = query.selection::<CdrView>();
        let records = self.store().calls(&selection).await?;
        let count = match query.counts() {
            true => Some(self.store().count_calls(&selection.condition).await?),
            false => None,
        };
        let accounts = self.accounts();
        Ok(Page {
            count: count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            items: records.iter().map(|record| CdrView::of(record, &accounts)).collect(),
        })
    }

    /// One record, by its id or the last digits of it, if no other has them.
    pub async fn cdr(&self, context: &Context, id: &str) -> Result<CdrDetail, OpError> {
        context.may_see_who_calls("call records")?;
        let (bits, mask) = bits(id).ok_or_else(|| no_id(id))?;
        let found = self.store().calls_named(bits, mask, 2).await?;
        match found.as_slice() {
            [record] => Ok(CdrDetail::of(record, &self.accounts())),
            [] => Err(OpError::not_found(format!(
                "there is no call record {}; `pbx cdr list` shows the newest",
                shown(id)
            ))),
            found => {
                let names: Vec<String> = found.iter().map(|record| record.id.to_string()).collect();
                Err(several(id, names.iter()))
            }
        }
    }

    /// The records that `filter` and `search` name, for whoever reads them page by page.
    pub fn export_cdrs(
        &self,
        context: &Context,
        options: &ListOptions,
        format: ExportFormat,
    ) -> Result<ExportCdrs, OpError> {
        context.may_see_who_calls("call records")?;
        let ListOptions { filter, orderby, top, skip, count, search } = options.clone();
        if orderby.is_some() || top.is_some() || skip.is_some() || count.is_some() {
            return Err(OpError::usage("an export is whole and the newest is first: only filter and search are taken"));
        }
        let query = Query::parse::<CdrView>(&ListOptions { filter, search, ..ListOptions::default() });
        let condition = query.map_err(OpError::usage)?.condition::<CdrView>();
        Ok(ExportCdrs { operations: self.clone(), format, condition, last: None, begun: false, over: false })
    }
}

impl ExportCdrs {
    /// The next piece of the text; none: that was all.
    pub async fn next(&mut self) -> Result<Option<String>, OpError> {
        if self.over {
            return Ok(None);
        }
        let records = self.operations.store().calls_before(&self.condition, self.last, AT_ONCE).await?;
        self.over = records.len() < AT_ONCE as usize;
        self.last = records.last().map(|record| (record.started, record.id)).or(self.last);
        let mut text = String::new();
        if self.format == ExportFormat::Csv && !std::mem::replace(&mut self.begun, true) {
            let names = CdrView::FIELDS.iter().map(|(name, _)| *name).chain(MEDIA_COLUMNS);
            text += &names.collect::<Vec<_>>().join(",");
            text.push('\n');
        }
        let accounts = self.operations.accounts();
        for record in &records {
            text += &match self.format {
                ExportFormat::Csv => row(record, &accounts),
                ExportFormat::Json => serde_json::to_string(&CdrDetail::of(record, &accounts)).unwrap_or_default(),
            };
            text.push('\n');
        }
        Ok(Some(text))
    }
}

/// A record as a line of CSV. What a spreadsheet program would take for a formula is a text to it.
fn row(record: &Record, accounts: &Accounts) -> String {
    let view = CdrView::of(record, accounts);
    let fields = (0..CdrView::FIELDS.len()).map(|index| match view.field(index) {
        Value::Null => String::new(),
        Value::Text(text) => cell(&text),
        Value::Number(number) => number.to_string(),
        Value::Time(at) => at.to_string(),
        Value::Address(prefix) => prefix.to_string(),
        Value::Bool(is) => is.to_string(),
    });
    let callee = record.legs.iter().skip(1).rev().find(|leg| leg.answered.is_some());
    let media = [record.legs.first(), callee].into_iter().flat_map(|leg| {
        let media = leg.and_then(|leg| leg.media);
        [media.map(|media| media.packets), media.map(|media| media.lost)]
    });
    let media = media.map(|count| count.map(|count| count.to_string()).unwrap_or_default());
    fields.chain(media).collect::<Vec<_>>().join(",")
}

/// A blank text is nothing.
fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl CdrView {
    fn of(record: &Record, accounts: &Accounts) -> Self {
        Self {
            id: record.id.to_string(),
            tenant: accounts.tenant(record.tenant).map(|one| one.tenant.name.clone()),
            caller_number: record.caller_number.as_ref().to_owned(),
            caller_name: some(&record.caller_name),
            dialled: record.dialled.as_ref().to_owned(),
            callee_number: some(&record.callee_number),
            started_at: record.started,
            ringing_at: record.ringing,
            answered_at: record.answered,
            ended_at: record.ended,
            billed_seconds: u64::try_from(record.billed.as_millis().div_ceil(1000)).unwrap_or(u64::MAX),
            disposition: record.disposition,
            status: (record.status > 0).then_some(record.status),
            cause: (record.cause > 0).then_some(record.cause),
            ended_by: record.ended_by,
            why: some(&record.why),
            codec: some(&record.codec),
        }
    }
}

impl CdrDetail {
    fn of(record: &Record, accounts: &Accounts) -> Self {
        let legs = record.legs.iter().map(CdrLegView::from).collect();
        Self { record: CdrView::of(record, accounts), legs }
    }
}

impl From<&RecordLeg> for CdrLegView {
    fn from(leg: &RecordLeg) -> Self {
        Self {
            kind: leg.kind,
            number: leg.number.as_ref().to_owned(),
            remote: leg.remote.as_ref().to_owned(),
            started_at: leg.started,
            ringing_at: leg.ringing,
            answered_at: leg.answered,
            ended_at: leg.ended,
            status: (leg.status > 0).then_some(leg.status),
            codec: some(&leg.codec),
            media: leg.media.map(|stats| LegMedia {
                packets: stats.packets,
                bytes: stats.bytes,
                lost: stats.lost,
                jitter_us: stats.jitter,
                refused: stats.refused,
                sent: stats.sent,
                sent_bytes: stats.sent_bytes,
            }),
        }
    }
}

impl StoredRow for CdrView {
    type Field = CallField;
    const STORED: &'static [CallField] = &CallField::ALL;
}

impl Row for CdrView {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Text),
        ("tenant", Kind::Text),
        ("caller_number", Kind::Text),
        ("caller_name", Kind::Text),
        ("dialled", Kind::Text),
        ("callee_number", Kind::Text),
        ("started_at", Kind::Time),
        ("ringing_at", Kind::Time),
        ("answered_at", Kind::Time),
        ("ended_at", Kind::Time),
        ("billed_seconds", Kind::Number),
        ("disposition", Kind::Text),
        ("status", Kind::Number),
        ("cause", Kind::Number),
        ("ended_by", Kind::Text),
        ("why", Kind::Text),
        ("codec", Kind::Text),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        let text = |text: &'_ Option<String>| text.clone().map_or(Value::Null, |text| Value::Text(text.into()));
        let time = |at: Option<Timestamp>| at.map_or(Value::Null, Value::Time);
        let number = |number: Option<u16>| number.map_or(Value::Null, |number| Value::Number(number.into()));
        match index {
            0 => Value::Text(self.id.as_str().into()),
            1 => text(&self.tenant),
            2 => Value::Text(self.caller_number.as_str().into()),
            3 => text(&self.caller_name),
            4 => Value::Text(self.dialled.as_str().into()),
            5 => text(&self.callee_number),
            6 => Value::Time(self.started_at),
            7 => time(self.ringing_at),
            8 => time(self.answered_at),
            9 => time(self.ended_at),
            10 => Value::Number(i64::try_from(self.billed_seconds).unwrap_or(i64::MAX)),
            11 => Value::Text(self.disposition.as_str().into()),
            12 => number(self.status),
            13 => number(self.cause.map(u16::from)),
            14 => self.ended_by.map_or(Value::Null, |by| Value::Text(by.as_str().into())),
            15 => text(&self.why),
            _ => text(&self.codec),
        }
    }
}
