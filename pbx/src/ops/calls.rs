//! Calls that go on: listed, shown, ended. Who calls whom is for administrators.

use pbx_core::{call::CallId, time::Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Context, How, ListOptions, OpError, Operations, Page,
    accounts::{Accounts, Wording, shown},
    query::{Kind, Query, Row, Value},
};
use crate::{
    signalling::{Call, CallLeg},
    store::EventKind,
};

/// Ids that an error names when a short one means several.
const NAMED: usize = 3;

/// Whether somebody has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Nobody has.
    Ringing,
    /// Somebody has.
    Talking,
}

/// A call as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallView {
    /// 16 hexadecimal digits; its record has the same.
    pub id: String,
    /// The name of its tenant.
    pub tenant: Option<String>,
    /// Who called.
    pub caller_number: String,
    /// The name of who called.
    pub caller_name: Option<String>,
    /// What was dialled.
    pub dialled: String,
    /// The number that answered, or rings.
    pub callee_number: Option<String>,
    /// Whether somebody has answered.
    pub state: CallState,
    /// When it was routed.
    pub started_at: Timestamp,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// The codec of the one that answered.
    pub codec: Option<String>,
    /// The phones that take part in it.
    pub legs: Vec<CallLeg>,
}

impl Operations {
    /// A page of the calls that go on, by default the oldest first.
    pub async fn calls(&self, context: &Context, options: &ListOptions) -> Result<Page<CallView>, OpError> {
        context.may_see_who_calls("calls")?;
        let query = Query::parse::<CallView>(options).map_err(OpError::usage)?;
        let calls = self.calls_now().await?;
        let accounts = self.accounts();
        Ok(query.page(calls.into_iter().map(|call| CallView::of(call, &accounts))))
    }

    /// One call, by its id or the last digits of it, if no other call has them.
    pub async fn call(&self, context: &Context, id: &str) -> Result<CallView, OpError> {
        context.may_see_who_calls("calls")?;
        let call = self.call_called(id).await?;
        Ok(CallView::of(call, &self.accounts()))
    }

    /// Ends a call: both sides are told.
    pub async fn hang_up(&self, context: &Context, id: &str, how: How) -> Result<CallView, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let call = operations.call_called(&id).await?;
            let own = call.id.clone();
            let view = CallView::of(call, &operations.accounts());
            if how.dry_run {
                return Ok(view);
            }
            let ended = operations.with_signalling(move |signalling| signalling.hang_up(&own)).await?;
            if !ended.map_err(|error| OpError::internal(format!("the call does not end: {error:#}")))? {
                return Err(no_call(&view.id));
            }
            let CallView { caller_number, dialled, tenant, .. } = &view;
            let of = tenant.as_deref().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
            let wording = Wording {
                verb: "call.hangup",
                object: format!("{} from {caller_number} to {dialled}{of}", view.id),
                before: serde_json::to_string(&view).ok(),
                after: None,
                sentence: format!("{} ended the call from {caller_number}{of} to {dialled}", context.actor),
            };
            let (audit, told) = wording.rows(&context, operations.now(), EventKind::Calls);
            operations.store().audit(&audit).await?;
            operations.record(vec![told]).await;
            Ok(view)
        })
        .await
    }

    /// The call of an id, or of last digits that only its id has.
    pub(super) async fn call_called(&self, id: &str) -> Result<Call, OpError> {
        let (bits, mask) = bits(id).ok_or_else(|| no_id(id))?;
        let is_named = |call: &Call| call.id.parse().is_ok_and(|id: CallId| id.0 & mask == bits.0);
        let mut found: Vec<Call> = self.calls_now().await?.into_iter().filter(is_named).collect();
        match (found.pop(), found.is_empty()) {
            (Some(call), true) => Ok(call),
            (None, _) => Err(no_call(id)),
            (Some(call), false) => Err(several(id, found.iter().map(|call| &call.id).chain([&call.id]))),
        }
    }

    async fn calls_now(&self) -> Result<Vec<Call>, OpError> {
        self.with_signalling(|signalling| signalling.calls())
            .await?
            .map_err(|error| OpError::internal(format!("cannot read the calls: {error:#}")))
    }
}

/// The bits of the ids that end with these digits, and which bits that are; none: no id does. The first digits say when
/// the daemon was started, and so are the same for most calls.
pub(super) fn bits(text: &str) -> Option<(CallId, u64)> {
    let text = text.trim();
    let digits = text.len();
    if !(1..=16).contains(&digits) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((text.parse().ok()?, u64::MAX >> (4 * (16 - digits))))
}

pub(super) fn no_id(text: &str) -> OpError {
    OpError::usage(format!("id: {} is none: write its 16 hexadecimal digits, or the last of them", shown(text)))
}

/// A short id that means several things.
pub(super) fn several<'a>(text: &str, all: impl Iterator<Item = &'a String>) -> OpError {
    let named = all.take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    OpError::usage(format!("id: several end with {}, such as {named}: write more digits of it", shown(text)))
}

fn no_call(id: &str) -> OpError {
    OpError::not_found(format!(
        "no call {} goes on; `pbx call list` shows those that do, `pbx cdr show {0}` one that has ended",
        shown(id)
    ))
}

impl CallView {
    fn of(call: Call, accounts: &Accounts) -> Self {
        let Call { id, caller, caller_number, dialled, callee_number, started, answered, legs } = call;
        // One that is gone meanwhile has no name any more.
        let account = accounts.extension(caller).map(|account| account.extension.as_ref());
        let codec = legs.iter().skip(1).find_map(|leg| leg.codec.clone());
        Self {
            id,
            tenant: account.map(|one| accounts.tenant_name(one)),
            caller_number,
            caller_name: account.map(|one| one.name.clone()).filter(|name| !name.is_empty()),
            dialled,
            callee_number: Some(callee_number).filter(|number| !number.is_empty()),
            state: if answered.is_some() { CallState::Talking } else { CallState::Ringing },
            started_at: started,
            answered_at: answered,
            codec,
            legs,
        }
    }
}

impl Row for CallView {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Text),
        ("tenant", Kind::Text),
        ("caller_number", Kind::Text),
        ("caller_name", Kind::Text),
        ("dialled", Kind::Text),
        ("callee_number", Kind::Text),
        ("state", Kind::Text),
        ("started_at", Kind::Time),
        ("answered_at", Kind::Time),
        ("codec", Kind::Text),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        let text = |text: &'_ Option<String>| text.clone().map_or(Value::Null, |text| Value::Text(text.into()));
        match index {
            0 => Value::Text(self.id.as_str().into()),
            1 => text(&self.tenant),
            2 => Value::Text(self.caller_number.as_str().into()),
            3 => text(&self.caller_name),
            4 => Value::Text(self.dialled.as_str().into()),
            5 => text(&self.callee_number),
            6 => Value::Text(match self.state {
                CallState::Ringing => "ringing".into(),
                CallState::Talking => "talking".into(),
            }),
            7 => Value::Time(self.started_at),
            8 => self.answered_at.map_or(Value::Null, Value::Time),
            _ => text(&self.codec),
        }
    }
}
