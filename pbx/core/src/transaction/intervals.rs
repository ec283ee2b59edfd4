//! The lengths of the timers (RFC 3261 table 4, RFC 6026 §7). Those that guard against what a reliable transport
//! cannot do are zero there: the state they end is left at once.

use std::time::Duration;

use crate::moment::Moment;

/// Round-trip estimate (RFC 3261 §17.1.1.1), and what timers A, E and G begin with.
pub const T1: Duration = Duration::from_millis(500);
/// The longest between two retransmissions of a request other than INVITE, and of a response to an INVITE.
pub const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub const T4: Duration = Duration::from_secs(5);
/// How long an INVITE waits for an answer of its user before 100 is sent for it (RFC 3261 §17.2.1).
pub const TRYING_AFTER: Duration = Duration::from_millis(200);
/// An INVITE of ours waits so long for any answer (§17.1.1.2).
pub const TIMER_B: Duration = Duration::from_secs(32);
/// A final answer to an INVITE of ours may come again so long after the first, on datagrams (§17.1.1.2).
pub const TIMER_D: Duration = Duration::from_secs(32);
/// Any other request of ours waits so long for its final answer (§17.1.2.2).
pub const TIMER_F: Duration = Duration::from_secs(32);
/// Our final answer to an INVITE waits so long for its ACK (§17.2.1).
pub const TIMER_H: Duration = Duration::from_secs(32);
/// ACKs may come again so long after the first, on datagrams (§17.2.1).
pub const TIMER_I: Duration = T4;
/// A request other than INVITE may come again so long after we answered, on datagrams (§17.2.2).
pub const TIMER_J: Duration = Duration::from_secs(32);
/// The answer to such a request of ours may come again so long after the first, on datagrams (§17.1.2.2).
pub const TIMER_K: Duration = T4;
/// An INVITE that we accepted may come again so long (RFC 6026 §7.1).
pub const TIMER_L: Duration = Duration::from_secs(32);
/// An INVITE of ours that was accepted may be accepted by others so long (RFC 6026 §7.2).
pub const TIMER_M: Duration = Duration::from_secs(32);
/// The user has so long to answer a request other than INVITE: then its sender waits no more (RFC 4320 §4.2).
pub const UNANSWERED: Duration = TIMER_F;
/// An INVITE that was cancelled waits so long for its final answer (RFC 3261 §9.1).
pub const CANCELLED: Duration = Duration::from_secs(32);

/// A retransmission that waits for its time (timers A, E and G).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) at: Moment,
    interval: Duration,
}

impl Backoff {
    /// The first, T1 from now; never on a reliable transport.
    pub(super) fn start(reliable: bool, now: Moment) -> Option<Self> {
        (!reliable).then(|| Self { at: now + T1, interval: T1 })
    }

    /// The next one, `longest` from now at the latest. From `now`, and not from when this one was due: after a pause
    /// of ours nothing is sent in a burst.
    pub(super) fn advance(&mut self, longest: Duration, now: Moment) {
        self.interval = (self.interval * 2).min(longest);
        self.at = now + self.interval;
    }

    /// The next one, and all after it, `interval` from now.
    pub(super) fn slow_down(&mut self, interval: Duration, now: Moment) {
        self.interval = interval;
        self.at = now + interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_timers_are_64_times_the_round_trip() {
        for timer in [TIMER_B, TIMER_D, TIMER_F, TIMER_H, TIMER_J, TIMER_L, TIMER_M, CANCELLED] {
            assert_eq!(timer, 64 * T1);
        }
    }
}
