//! What a state machine wants done after a step.

use super::Bytes;

/// At most one message to send and one thing to tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) send: Option<Bytes>,
    pub(super) tell: Option<Tell>,
}

/// An event, before it is known of which transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    NotAcknowledged,
    NotAnswered,
    TimedOut,
    TransportFailed,
}

impl Step {
    pub(super) fn send(bytes: Bytes) -> Self {
        Self { send: Some(bytes), tell: None }
    }

    pub(super) const fn tell(tell: Tell) -> Self {
        Self { send: None, tell: Some(tell) }
    }
}
