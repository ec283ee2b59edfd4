//! Server transaction of any request but INVITE and ACK (RFC 3261 §17.2.2, RFC 4320). Repeats its answer when the
//! request comes again. Never sends 100 by itself, and does not wait longer for the user than the peer does.

use super::{
    Bytes, RespondError,
    intervals::{TIMER_J, UNANSWERED},
    step::{Step, Tell},
};
use crate::moment::Moment;

#[derive(Debug)]
pub(super) enum ServerOther {
    Trying {
        until: Moment,
    },
    Proceeding {
        provisional: Bytes,
        until: Moment,
    },
    /// Without `response` there was no room to keep it: repetitions are absorbed and not answered.
    Completed {
        response: Option<Bytes>,
        timer_j: Moment,
    },
    Terminated,
}

impl ServerOther {
    pub(super) fn new(now: Moment) -> Self {
        Self::Trying { until: now + UNANSWERED }
    }

    /// The request came again: what is to be sent.
    pub(super) fn receive_again(&self) -> Option<Bytes> {
        match self {
            Self::Proceeding { provisional, .. } => Some(provisional.clone()),
            Self::Completed { response, .. } => response.clone(),
            Self::Trying { .. } | Self::Terminated => None,
        }
    }

    /// The user answers; when this is taken, the answer is to be sent. Kept only if there is `room`.
    pub(super) fn respond(
        &mut self,
        code: u16,
        response: &Bytes,
        reliable: bool,
        room: bool,
        now: Moment,
    ) -> Result<(), RespondError> {
        *self = match (&self, code) {
            (Self::Trying { until } | Self::Proceeding { until, .. }, 100..=199) => {
                Self::Proceeding { provisional: response.clone(), until: *until }
            }
            (Self::Trying { .. } | Self::Proceeding { .. }, _) if reliable => Self::Terminated,
            (Self::Trying { .. } | Self::Proceeding { .. }, _) => {
                Self::Completed { response: room.then(|| response.clone()), timer_j: now + TIMER_J }
            }
            (Self::Completed { .. }, _) => return Err(RespondError::Answered),
            (Self::Terminated, _) => return Err(RespondError::Ended),
        };
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) -> Step {
        match self {
            Self::Trying { until } | Self::Proceeding { until, .. } if now >= *until => {
                *self = Self::Terminated;
                Step::tell(Tell::NotAnswered)
            }
            Self::Completed { timer_j, .. } if now >= *timer_j => {
                *self = Self::Terminated;
                Step::default()
            }
            _ => Step::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Trying { until } | Self::Proceeding { until, .. } | Self::Completed { timer_j: until, .. } => {
                Some(*until)
            }
            Self::Terminated => None,
        }
    }

    pub(super) fn held(&self) -> usize {
        match self {
            Self::Proceeding { provisional, .. } => provisional.len(),
            Self::Completed { response, .. } => response.as_ref().map_or(0, |bytes| bytes.len()),
            Self::Trying { .. } | Self::Terminated => 0,
        }
    }
}
