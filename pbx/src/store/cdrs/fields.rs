//! What of a call record can be asked for.

use crate::store::selection::Field;

/// What of a record can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallField {
    /// 16 hexadecimal digits.
    Id,
    /// The name that its tenant has now.
    Tenant,
    /// Who called.
    CallerNumber,
    /// The name of who called.
    CallerName,
    /// What was dialled.
    Dialled,
    /// Who answered, or was tried last.
    CalleeNumber,
    /// When it was routed.
    StartedAt,
    /// When a phone first rang.
    RingingAt,
    /// When it was answered.
    AnsweredAt,
    /// When it ended.
    EndedAt,
    /// From answer to end, in seconds; one that has begun counts.
    BilledSeconds,
    /// How it ended.
    Disposition,
    /// The final status.
    Status,
    /// The cause.
    Cause,
    /// Who ended it.
    EndedBy,
    /// Why.
    Why,
    /// The codec.
    Codec,
}

impl CallField {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Id,
        Self::Tenant,
        Self::CallerNumber,
        Self::CallerName,
        Self::Dialled,
        Self::CalleeNumber,
        Self::StartedAt,
        Self::RingingAt,
        Self::AnsweredAt,
        Self::EndedAt,
        Self::BilledSeconds,
        Self::Disposition,
        Self::Status,
        Self::Cause,
        Self::EndedBy,
        Self::Why,
        Self::Codec,
    ];
}

impl Field for CallField {
    const NEWEST: &'static str = "started DESC, id DESC";

    fn sql(self) -> &'static str {
        match self {
            Self::Id => "printf('%016x', id)",
            Self::Tenant => "(SELECT name FROM tenants WHERE tenants.id = cdrs.tenant)",
            Self::CallerNumber => "caller_number",
            Self::CallerName => "caller_name",
            Self::Dialled => "dialled",
            Self::CalleeNumber => "callee_number",
            Self::StartedAt => "started",
            Self::RingingAt => "ringing",
            Self::AnsweredAt => "answered",
            Self::EndedAt => "ended",
            Self::BilledSeconds => "((billed + 999) / 1000)",
            Self::Disposition => "disposition",
            Self::Status => "status",
            Self::Cause => "cause",
            Self::EndedBy => "ended_by",
            Self::Why => "why",
            Self::Codec => "codec",
        }
    }
}
