//! Server INVITE transaction (RFC 3261 §17.2.1, RFC 6026 §7.1). Sends 100 when the user is slow, repeats answers,
//! absorbs the ACKs of those that are not 2xx. A 2xx is repeated by the dialog, which alone sees its ACK.

use super::{
    Bytes, RespondError,
    intervals::{Backoff, T2, TIMER_H, TIMER_I, TIMER_L, TRYING_AFTER},
    step::{Step, Tell},
};
use crate::moment::Moment;

#[derive(Debug)]
pub(super) enum ServerInvite {
    /// `latest` is what was last sent, or 100 as long as that waits for `trying_at`.
    Proceeding {
        latest: Bytes,
        trying_at: Option<Moment>,
    },
    /// Answered 300-699.
    Completed {
        response: Bytes,
        timer_g: Option<Backoff>,
        timer_h: Moment,
    },
    /// And acknowledged.
    Confirmed {
        timer_i: Moment,
    },
    /// Answered 2xx.
    Accepted {
        timer_l: Moment,
    },
    Terminated,
}

/// What an ACK is to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    First,
    Again,
    OfSuccess,
}

impl ServerInvite {
    pub(super) fn new(trying: Bytes, now: Moment) -> Self {
        Self::Proceeding { latest: trying, trying_at: Some(now + TRYING_AFTER) }
    }

    /// The INVITE came again: what is to be sent.
    pub(super) fn receive_again(&mut self) -> Option<Bytes> {
        match self {
            Self::Proceeding { latest, trying_at } => {
                *trying_at = None;
                Some(latest.clone())
            }
            Self::Completed { response, .. } => Some(response.clone()),
            Self::Confirmed { .. } | Self::Accepted { .. } | Self::Terminated => None,
        }
    }

    /// The user answers; when this is taken, the answer is to be sent.
    pub(super) fn respond(
        &mut self,
        code: u16,
        response: &Bytes,
        reliable: bool,
        now: Moment,
    ) -> Result<(), RespondError> {
        *self = match (&self, code) {
            (Self::Proceeding { .. }, 100..=199) => Self::Proceeding { latest: response.clone(), trying_at: None },
            (Self::Proceeding { .. }, 200..=299) => Self::Accepted { timer_l: now + TIMER_L },
            (Self::Proceeding { .. }, _) => Self::Completed {
                response: response.clone(),
                timer_g: Backoff::start(reliable, now),
                timer_h: now + TIMER_H,
            },
            (Self::Accepted { .. }, 200..=299) => return Ok(()),
            (Self::Completed { .. } | Self::Confirmed { .. } | Self::Accepted { .. }, _) => {
                return Err(RespondError::Answered);
            }
            (Self::Terminated, _) => return Err(RespondError::Ended),
        };
        Ok(())
    }

    pub(super) fn receive_ack(&mut self, reliable: bool, now: Moment) -> Ack {
        match self {
            Self::Completed { .. } if reliable => *self = Self::Terminated,
            Self::Completed { .. } => *self = Self::Confirmed { timer_i: now + TIMER_I },
            Self::Accepted { .. } => return Ack::OfSuccess,
            Self::Proceeding { .. } | Self::Confirmed { .. } | Self::Terminated => return Ack::Again,
        }
        Ack::First
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) -> Step {
        match self {
            Self::Proceeding { latest, trying_at } if trying_at.is_some_and(|at| now >= at) => {
                *trying_at = None;
                Step::send(latest.clone())
            }
            Self::Completed { timer_h, .. } if now >= *timer_h => {
                *self = Self::Terminated;
                Step::tell(Tell::NotAcknowledged)
            }
            Self::Completed { response, timer_g: Some(timer_g), .. } if now >= timer_g.at => {
                timer_g.advance(T2, now);
                Step::send(response.clone())
            }
            Self::Confirmed { timer_i: end } | Self::Accepted { timer_l: end } if now >= *end => {
                *self = Self::Terminated;
                Step::default()
            }
            _ => Step::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Proceeding { trying_at, .. } => *trying_at,
            Self::Completed { timer_g, timer_h, .. } => Some(timer_g.map_or(*timer_h, |g| g.at.min(*timer_h))),
            Self::Confirmed { timer_i: end } | Self::Accepted { timer_l: end } => Some(*end),
            Self::Terminated => None,
        }
    }

    pub(super) fn held(&self) -> usize {
        match self {
            Self::Proceeding { latest: bytes, .. } | Self::Completed { response: bytes, .. } => bytes.len(),
            Self::Confirmed { .. } | Self::Accepted { .. } | Self::Terminated => 0,
        }
    }
}
