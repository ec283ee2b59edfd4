//! Answers that are sent until somebody confirms them: a 2xx to an INVITE until its ACK (RFC 3261 §13.3.1.4), a
//! reliable provisional answer until its PRACK (RFC 3262 §3).

use std::time::Duration;

use crate::{
    moment::Moment,
    transaction::{Bytes, T1, T2},
};

/// How long it is tried.
const SPAN: Duration = T1.saturating_mul(64);

/// An answer that waits for its confirmation.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// The CSeq of the INVITE that it answers.
    pub cseq: u32,
    bytes: Bytes,
    interval: Duration,
    longest: Duration,
    at: Moment,
    until: Moment,
}

impl Repeat {
    /// A 2xx that was sent `now`: again after T1, then twice as long, at most T2.
    pub fn success(cseq: u32, bytes: Bytes, now: Moment) -> Self {
        Self { cseq, bytes, interval: T1, longest: T2, at: now + T1, until: now + SPAN }
    }

    /// A provisional answer: twice as long each time, without a limit.
    pub fn provisional(cseq: u32, bytes: Bytes, now: Moment) -> Self {
        Self { longest: SPAN, ..Self::success(cseq, bytes, now) }
    }

    /// When [`due`](Self::due) has something to say.
    pub fn at(&self) -> Moment {
        self.at.min(self.until)
    }

    /// What is to be sent again `now`; an error when nobody confirmed it in 64 T1.
    pub fn due(&mut self, now: Moment) -> Result<Option<Bytes>, NotConfirmed> {
        if now >= self.until {
            return Err(NotConfirmed);
        }
        if now < self.at {
            return Ok(None);
        }
        self.interval = (self.interval * 2).min(self.longest);
        self.at = now + self.interval;
        Ok(Some(self.bytes.clone()))
    }
}

/// It was sent for 64 T1, and nobody confirmed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotConfirmed;
