//! Settings of calls.

use super::{CallCount, Count, Span};

/// `calls.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSettings {
    /// `calls.ring_time`: until a call that nobody answers ends.
    pub ring_time: Span<5, 600>,
    /// `calls.session_time`: how long a call goes on without a sign of life (RFC 4028 §4.2: at least 90 s).
    pub session_time: Span<90, 86_400>,
    /// `calls.media_silence`: until a phone's packets are believed from another port of its address.
    pub media_silence: Span<1, 60>,
    /// `calls.drain_timeout`: how long a daemon that is stopped waits for calls to end.
    pub drain_timeout: Span<1, 86_400>,
    /// `calls.per_extension`: calls that one extension may be in at once.
    pub per_extension: CallCount,
}

impl CallSettings {
    /// Something to write the defaults into.
    pub(super) fn lowest() -> Self {
        Self {
            ring_time: Span::LOWEST,
            session_time: Span::LOWEST,
            media_silence: Span::LOWEST,
            drain_timeout: Span::LOWEST,
            per_extension: Count::LOWEST,
        }
    }
}
