//! Client transaction of any request but INVITE and ACK (RFC 3261 §17.1.2): sends it until the final answer is there.

use super::{
    Bytes,
    intervals::{Backoff, T2, TIMER_F, TIMER_K},
    step::{Step, Tell},
};
use crate::moment::Moment;

#[derive(Debug)]
pub(super) enum ClientOther {
    Trying { request: Bytes, timer_e: Option<Backoff>, timer_f: Moment },
    Proceeding { request: Bytes, timer_e: Option<Backoff>, timer_f: Moment },
    Completed { timer_k: Moment },
    Terminated,
}

impl ClientOther {
    pub(super) fn new(request: Bytes, reliable: bool, now: Moment) -> Self {
        Self::Trying { request, timer_e: Backoff::start(reliable, now), timer_f: now + TIMER_F }
    }

    /// A response came: whether it is for the user.
    pub(super) fn receive(&mut self, code: u16, reliable: bool, now: Moment) -> bool {
        match (&mut *self, code) {
            (Self::Trying { request, timer_e, timer_f }, 100..=199) => {
                *self = Self::Proceeding { request: request.clone(), timer_e: *timer_e, timer_f: *timer_f };
            }
            (Self::Proceeding { .. }, 100..=199) => {}
            (Self::Trying { .. } | Self::Proceeding { .. }, _) if reliable => *self = Self::Terminated,
            (Self::Trying { .. } | Self::Proceeding { .. }, _) => *self = Self::Completed { timer_k: now + TIMER_K },
            (Self::Completed { .. } | Self::Terminated, _) => return false,
        }
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) -> Step {
        match self {
            Self::Trying { timer_f, .. } | Self::Proceeding { timer_f, .. } if now >= *timer_f => {
                *self = Self::Terminated;
                Step::tell(Tell::TimedOut)
            }
            Self::Trying { request, timer_e: Some(timer_e), .. } if now >= timer_e.at => {
                timer_e.advance(T2, now);
                Step::send(request.clone())
            }
            Self::Proceeding { request, timer_e: Some(timer_e), .. } if now >= timer_e.at => {
                timer_e.slow_down(T2, now);
                Step::send(request.clone())
            }
            Self::Completed { timer_k } if now >= *timer_k => {
                *self = Self::Terminated;
                Step::default()
            }
            _ => Step::default(),
        }
    }

    pub(super) fn fail(&mut self) -> Step {
        match self {
            Self::Trying { .. } | Self::Proceeding { .. } => {
                *self = Self::Terminated;
                Step::tell(Tell::TransportFailed)
            }
            Self::Completed { .. } | Self::Terminated => Step::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Trying { timer_e, timer_f, .. } | Self::Proceeding { timer_e, timer_f, .. } => {
                Some(timer_e.map_or(*timer_f, |e| e.at.min(*timer_f)))
            }
            Self::Completed { timer_k } => Some(*timer_k),
            Self::Terminated => None,
        }
    }

    pub(super) fn held(&self) -> usize {
        match self {
            Self::Trying { request, .. } | Self::Proceeding { request, .. } => request.len(),
            Self::Completed { .. } | Self::Terminated => 0,
        }
    }
}
