//! Client INVITE transaction (RFC 3261 §17.1.1, RFC 6026 §7.2). Sends the INVITE until something answers, and the ACK
//! of a final answer that is no 2xx as often as that answer comes; the ACK of a 2xx is the dialog's. Holds back a
//! CANCEL until there is something to cancel (RFC 3261 §9.1).

use super::{
    Bytes, CancelError,
    intervals::{Backoff, CANCELLED, TIMER_B, TIMER_D, TIMER_M},
    step::{Step, Tell},
};
use crate::moment::Moment;

#[derive(Debug)]
pub(super) enum ClientInvite {
    /// `cancel` waits for the first provisional answer. Once it was given up, that one begins the end.
    Calling {
        request: Bytes,
        timer_a: Option<Backoff>,
        timer_b: Moment,
        cancel: Option<Bytes>,
        given_up: bool,
    },
    /// `until` is there once the INVITE was cancelled, or given up.
    Proceeding {
        request: Bytes,
        until: Option<Moment>,
    },
    /// Answered 300-699.
    Completed {
        ack: Bytes,
        timer_d: Moment,
    },
    /// Answered 2xx.
    Accepted {
        timer_m: Moment,
    },
    Terminated,
}

/// What is to be done about a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reaction {
    pub(super) to_user: bool,
    pub(super) ack: Option<Bytes>,
    /// Begin a transaction with this CANCEL.
    pub(super) cancel: Option<Bytes>,
}

impl ClientInvite {
    pub(super) fn new(request: Bytes, reliable: bool, now: Moment) -> Self {
        let timer_a = Backoff::start(reliable, now);
        Self::Calling { request, timer_a, timer_b: now + TIMER_B, cancel: None, given_up: false }
    }

    /// `build_ack` makes the ACK out of the INVITE; only called when one is to be sent.
    pub(super) fn receive(
        &mut self,
        code: u16,
        reliable: bool,
        now: Moment,
        build_ack: impl FnOnce(&[u8]) -> Bytes,
    ) -> Reaction {
        match (&mut *self, code) {
            (Self::Calling { request, cancel, given_up, .. }, 100..=199) => {
                let (request, cancel, given_up) = (request.clone(), cancel.take(), *given_up);
                let until = (given_up || cancel.is_some()).then(|| now + CANCELLED);
                *self = Self::Proceeding { request, until };
                Reaction { to_user: true, cancel, ..Reaction::default() }
            }
            (Self::Proceeding { .. }, 100..=199) => Reaction { to_user: true, ..Reaction::default() },
            (Self::Calling { .. } | Self::Proceeding { .. }, 200..=299) => {
                *self = Self::Accepted { timer_m: now + TIMER_M };
                Reaction { to_user: true, ..Reaction::default() }
            }
            (Self::Accepted { .. }, 200..=299) => Reaction { to_user: true, ..Reaction::default() },
            (Self::Calling { request, .. } | Self::Proceeding { request, .. }, _) => {
                let ack = build_ack(request);
                *self = if reliable {
                    Self::Terminated
                } else {
                    Self::Completed { ack: ack.clone(), timer_d: now + TIMER_D }
                };
                Reaction { to_user: true, ack: Some(ack), cancel: None }
            }
            (Self::Completed { ack, .. }, 300..) => Reaction { ack: Some(ack.clone()), ..Reaction::default() },
            (Self::Completed { .. } | Self::Accepted { .. } | Self::Terminated, _) => Reaction::default(),
        }
    }

    /// The user gives up: the CANCEL to begin a transaction with at once, if something answered already.
    pub(super) fn cancel(&mut self, request: Bytes, now: Moment) -> Result<Option<Bytes>, CancelError> {
        match self {
            Self::Calling { cancel: cancel @ None, .. } => {
                *cancel = Some(request);
                Ok(None)
            }
            Self::Proceeding { until: until @ None, .. } => {
                *until = Some(now + CANCELLED);
                Ok(Some(request))
            }
            Self::Calling { .. } | Self::Proceeding { .. } => Err(CancelError::Cancelled),
            Self::Completed { .. } | Self::Accepted { .. } | Self::Terminated => Err(CancelError::NotPending),
        }
    }

    /// The final answer may come yet, but is not waited for as long as it likes.
    pub(super) fn give_up(&mut self, now: Moment) {
        match self {
            Self::Calling { given_up, .. } => *given_up = true,
            Self::Proceeding { until: until @ None, .. } => *until = Some(now + CANCELLED),
            _ => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) -> Step {
        match self {
            Self::Calling { timer_b: end, .. } | Self::Proceeding { until: Some(end), .. } if now >= *end => {
                *self = Self::Terminated;
                Step::tell(Tell::TimedOut)
            }
            Self::Calling { request, timer_a: Some(timer_a), .. } if now >= timer_a.at => {
                timer_a.advance(TIMER_B, now);
                Step::send(request.clone())
            }
            Self::Completed { timer_d: end, .. } | Self::Accepted { timer_m: end } if now >= *end => {
                *self = Self::Terminated;
                Step::default()
            }
            _ => Step::default(),
        }
    }

    /// An ACK that could not be sent is no outcome: the user has one.
    pub(super) fn fail(&mut self) -> Step {
        match std::mem::replace(self, Self::Terminated) {
            Self::Calling { .. } | Self::Proceeding { .. } => Step::tell(Tell::TransportFailed),
            accepted @ Self::Accepted { .. } => {
                *self = accepted;
                Step::default()
            }
            Self::Completed { .. } | Self::Terminated => Step::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Calling { timer_a, timer_b, .. } => Some(timer_a.map_or(*timer_b, |a| a.at.min(*timer_b))),
            Self::Proceeding { until, .. } => *until,
            Self::Completed { timer_d: end, .. } | Self::Accepted { timer_m: end } => Some(*end),
            Self::Terminated => None,
        }
    }

    pub(super) fn held(&self) -> usize {
        match self {
            Self::Calling { request, cancel, .. } => request.len() + cancel.as_ref().map_or(0, |bytes| bytes.len()),
            Self::Proceeding { request: bytes, .. } | Self::Completed { ack: bytes, .. } => bytes.len(),
            Self::Accepted { .. } | Self::Terminated => 0,
        }
    }
}
