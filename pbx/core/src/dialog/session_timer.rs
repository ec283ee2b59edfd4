//! Session timers (RFC 4028): a call of which nobody hears any more ends. One for each leg: each phone gives its own
//! signs of life.

use std::time::Duration;

use crate::moment::Moment;

/// The shortest interval that we take (RFC 4028 §5: 90 s are recommended, and the least).
pub const MIN_SE: u32 = 90;
/// The longest: a phone that has died is noticed within a day.
pub const MAX_SE: u32 = 86_400;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Send a refresh.
    Refresh,
    /// No sign of life came: end the call.
    Expired,
}

/// When a leg's signs of life are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    /// The session interval in seconds, as it was agreed on.
    pub seconds: u32,
    /// Whether we send the refreshes.
    pub ours: bool,
    refresh: Moment,
    expires: Moment,
}

impl SessionTimer {
    /// Agreed on `now`.
    pub fn new(seconds: u32, ours: bool, now: Moment) -> Self {
        let interval = Duration::from_secs(u64::from(seconds.max(MIN_SE)));
        // RFC 4028 §10: the refresh at half the interval, the end a little before the whole of it.
        let early = Duration::from_secs(32).min(interval / 3);
        Self { seconds, ours, refresh: now + interval / 2, expires: now + (interval - early) }
    }

    /// When [`due`](Self::due) has something to say.
    pub fn at(&self) -> Moment {
        if self.ours { self.refresh.min(self.expires) } else { self.expires }
    }

    /// The refresh could not be sent: once more a little later.
    pub fn postpone(&mut self, now: Moment) {
        self.refresh = now + Duration::from_secs(5);
    }

    /// What is to be done `now`. A refresh is asked for once; whoever gets an answer to it makes a new timer.
    pub fn due(&mut self, now: Moment) -> Option<Sign> {
        if now >= self.expires {
            return Some(Sign::Expired);
        }
        if self.ours && now >= self.refresh {
            self.refresh = Moment::NEVER;
            return Some(Sign::Refresh);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refreshes_does_so_at_half_time_and_who_does_not_is_waited_for() {
        let now = Moment::from_micros(1_000_000);
        let seconds = |seconds| now + Duration::from_secs(seconds);
        let mut ours = SessionTimer::new(1800, true, now);
        assert_eq!(ours.at(), seconds(900));
        assert_eq!(ours.due(seconds(899)), None);
        assert_eq!(ours.due(seconds(900)), Some(Sign::Refresh));
        assert_eq!(ours.due(seconds(900)), None);
        assert_eq!(ours.at(), seconds(1768));
        assert_eq!(ours.due(seconds(1768)), Some(Sign::Expired));
        let mut theirs = SessionTimer::new(90, false, now);
        assert_eq!((theirs.at(), theirs.due(seconds(59))), (seconds(60), None));
        assert_eq!(theirs.due(seconds(60)), Some(Sign::Expired));
    }
}
