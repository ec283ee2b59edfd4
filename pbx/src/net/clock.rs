//! The daemon's monotonic clock: where moments come from.

use std::time::{Duration, Instant};

use pbx_core::moment::Moment;

/// Turns instants of the machine into moments and back. All parts of the daemon share one.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment::ZERO + self.0.elapsed()
    }

    /// The instant of a moment.
    pub fn instant(&self, moment: Moment) -> Instant {
        // Later than the machine can tell is as good as never.
        self.0.checked_add(Duration::from_micros(moment.as_micros())).unwrap_or(self.0 + Duration::from_secs(1 << 32))
    }
}
