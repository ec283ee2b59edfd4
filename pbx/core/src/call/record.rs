//! Call detail records: what is kept of a call. Data; decides nothing.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    directory::{ExtensionId, TenantId},
    media::Stats,
    time::Timestamp,
};

/// Names a call, in its record as well; never used again, not by a later run of the daemon either. Written as 16
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for CallId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It is going on.
    Open,
    /// It was answered.
    Answered,
    /// Whoever was called is on another call.
    Busy,
    /// Nobody answered in time, or whoever was called declined.
    NoAnswer,
    /// The caller gave up.
    Cancelled,
    /// No route, no phone, no common codec, no room.
    Failed,
    /// The daemon ended before the call did.
    Interrupted,
}

impl Disposition {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Open, Self::Answered, Self::Busy, Self::NoAnswer, Self::Cancelled, Self::Failed, Self::Interrupted];

    /// The name in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Answered => "answered",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The caller.
    Caller,
    /// Whoever was called.
    Callee,
    /// The appliance: nobody answered, a session timer, no route.
    System,
    /// An administrator.
    Administrator,
}

impl EndedBy {
    /// The name in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
            Self::System => "system",
            Self::Administrator => "administrator",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Caller, Self::Callee, Self::System, Self::Administrator].into_iter().find(|one| one.as_str() == name)
    }
}

/// Why a leg was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegKind {
    /// The caller's own.
    Caller,
    /// A phone that rang for the number that was dialled.
    Branch,
    /// A phone that rang because the call was forwarded.
    Forward,
    /// A phone that rang because the call was transferred.
    Transfer,
}

impl LegKind {
    /// The name in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Branch => "branch",
            Self::Forward => "forward",
            Self::Transfer => "transfer",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Caller, Self::Branch, Self::Forward, Self::Transfer].into_iter().find(|one| one.as_str() == name)
    }
}

/// The record of one attempt of an extension to call somebody. Written when the call is routed, and again when it is
/// answered and when it ends: the last state is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The call.
    pub id: CallId,
    /// Whose phones they are.
    pub tenant: TenantId,
    /// Who called.
    pub caller: ExtensionId,
    /// The caller's number, as it was then.
    pub caller_number: Arc<str>,
    /// The caller's name, as it was shown.
    pub caller_name: Arc<str>,
    /// What was dialled.
    pub dialled: Arc<str>,
    /// The number that answered, or was tried last.
    pub callee_number: Arc<str>,
    /// When the call was routed.
    pub started: Timestamp,
    /// When a phone first rang.
    pub ringing: Option<Timestamp>,
    /// When it was answered.
    pub answered: Option<Timestamp>,
    /// When it ended; none: it goes on.
    pub ended: Option<Timestamp>,
    /// From answer to end by a clock that nobody sets.
    pub billed: Duration,
    /// How it ended.
    pub disposition: Disposition,
    /// The final status (RFC 3261 §21); 0 while it goes on.
    pub status: u16,
    /// The cause (ITU-T Q.850, by RFC 3398 §8.2.6.1); 0 while it goes on.
    pub cause: u8,
    /// Who ended it.
    pub ended_by: Option<EndedBy>,
    /// One sentence on why, where the status does not say it all; else empty.
    pub why: Arc<str>,
    /// The codec that was agreed on, such as `PCMA/8000`; empty: none.
    pub codec: Arc<str>,
    /// Its legs, in the order in which they were made; the caller's is the first.
    pub legs: Vec<RecordLeg>,
}

/// One phone's part in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordLeg {
    /// Why it was made.
    pub kind: LegKind,
    /// The number that it rang for, or that called.
    pub number: Arc<str>,
    /// Where the phone is: address and port that its messages come from.
    pub remote: Arc<str>,
    /// When it was made.
    pub started: Timestamp,
    /// When the phone rang.
    pub ringing: Option<Timestamp>,
    /// When it answered.
    pub answered: Option<Timestamp>,
    /// When its part ended.
    pub ended: Option<Timestamp>,
    /// What the phone answered; 0: nothing yet.
    pub status: u16,
    /// Its codec, such as `PCMA/8000`.
    pub codec: Arc<str>,
    /// What went through it; known shortly after its end.
    pub media: Option<Stats>,
}
