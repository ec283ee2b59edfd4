//! Settings of how long things are kept.

use super::Span;

/// Seconds of a day.
const DAY: u32 = 86_400;

/// `retention.*`: what is older goes; that there is a bound in number too is each table's own matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionSettings {
    /// `retention.cdrs`: records of calls, after the call began.
    pub cdrs: Span<DAY, { 3650 * DAY }>,
    /// `retention.events`: what happened.
    pub events: Span<DAY, { 3650 * DAY }>,
    /// `retention.evidence`: why a source was blocked, and what it sent, after the block is over.
    pub evidence: Span<DAY, { 3650 * DAY }>,
    /// `retention.audit`: who changed what. A checkpoint of the chain stands for what goes.
    pub audit: Span<{ 30 * DAY }, { 3650 * DAY }>,
}

impl RetentionSettings {
    /// Something to write the defaults into.
    pub(super) fn lowest() -> Self {
        Self { cdrs: Span::LOWEST, events: Span::LOWEST, evidence: Span::LOWEST, audit: Span::LOWEST }
    }
}
