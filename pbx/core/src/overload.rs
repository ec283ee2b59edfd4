//! What is turned away when there is more than can be done, and in which order: before the transactions, behind the
//! gate that says what a message is. Measures nothing: queue delay, memory and time are arguments.
//!
//! | Level | Queue delay | Memory | Turned away, beside what lower levels do | How |
//! |---|---|---|---|---|
//! | 1 | 200 ms | 80 % | unauthenticated | silence |
//! | 2 | 300 ms | 84 % | new calls | 503 |
//! | 3 | 400 ms | 88 % | new registrations | 503, Retry-After 10-60 s |
//! | 4 | 600 ms | 92 % | refreshes of known bindings | 503, Retry-After 10-60 s |
//! | 5 | 1000 ms | 96 % | in a dialog | 503 |
//! | 6 | 2000 ms | 100 % | emergency | 503 |
//!
//! Messages of strangers wait in a queue of their own, whose delay counts for level 1 and no other: whoever sends junk
//! has junk turned away.
//!
//! A level is reached as soon as one of its two thresholds is. It is left, one step at a time, when for a second the
//! queue delay was below three quarters of its threshold and memory more than five percentage points below.

use std::time::Duration;

use crate::moment::Moment;

/// What a request is, in the order in which it is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Nobody has proved to have sent it.
    Unauthenticated,
    /// Begins a call, or anything else that is no registration.
    NewCall,
    /// Registers a contact that is not known.
    NewRegistration,
    /// Registers, or removes, a contact that is known.
    Refresh,
    /// Belongs to a dialog. Responses, ACK and CANCEL are never turned away.
    InDialog,
    /// Calls an emergency number.
    Emergency,
}

impl Class {
    /// All of them, first turned away first.
    pub const ALL: [Self; 6] =
        [Self::Unauthenticated, Self::NewCall, Self::NewRegistration, Self::Refresh, Self::InDialog, Self::Emergency];

    /// As metrics and the API name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::NewCall => "new_call",
            Self::NewRegistration => "new_registration",
            Self::Refresh => "refresh",
            Self::InDialog => "in_dialog",
            Self::Emergency => "emergency",
        }
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// How long the oldest message of a known source has been waiting.
    pub queue_delay: Duration,
    /// The same of strangers' messages.
    pub unknown_delay: Duration,
    /// Bytes in use.
    pub memory_used: u64,
    /// Bytes that may be in use. If it is zero, any use is too much.
    pub memory_limit: u64,
}

/// How bad it is: 0, nothing is turned away, to 6, everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// Nothing is turned away.
    pub const NONE: Self = Self(0);

    /// The level of a number, as [`Level::number`] gave it: so it goes to other threads. Above 6 it is 6.
    pub fn from_number(number: u8) -> Self {
        Self(number.min(6))
    }

    /// 0 to 6.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Handle it.
    Admit,
    /// Turn it away.
    Shed(Answer),
}

/// How a message is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not answered at all.
    Silence,
    /// 503 without Retry-After: the caller tries another way at once (RFC 3261 §21.5.4).
    Unavailable,
    /// 503 with Retry-After of so many seconds, 10 to 60, different for each phone, lest they all return together.
    RetryAfter(u8),
}

/// Messages counted by class, in the order of [`Class::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handled.
    pub admitted: [u64; Class::ALL.len()],
    /// Turned away.
    pub shed: [u64; Class::ALL.len()],
}

/// The policy, at its present level.
#[derive(Clone, Debug, Default)]
pub struct Overload {
    level: Level,
    /// Since when the level has been too high for what was measured.
    calm_since: Option<Moment>,
    counts: Counts,
}

/// Thresholds of one level, and what it turns away.
struct Step {
    queue_delay: Duration,
    memory_percent: u64,
    class: Class,
}

const STEPS: [Step; 6] = [
    Step { queue_delay: Duration::from_millis(200), memory_percent: 80, class: Class::Unauthenticated },
    Step { queue_delay: Duration::from_millis(300), memory_percent: 84, class: Class::NewCall },
    Step { queue_delay: Duration::from_millis(400), memory_percent: 88, class: Class::NewRegistration },
    Step { queue_delay: Duration::from_millis(600), memory_percent: 92, class: Class::Refresh },
    Step { queue_delay: Duration::from_millis(1000), memory_percent: 96, class: Class::InDialog },
    Step { queue_delay: Duration::from_millis(2000), memory_percent: 100, class: Class::Emergency },
];

/// How long it must have been calmer before the level falls by one.
const CALM: Duration = Duration::from_secs(1);
/// Memory must be below the threshold by more than this for it to be calmer.
const CALM_PERCENT: u64 = 5;
/// Retry-After begins here ...
const RETRY_AFTER_LEAST: u8 = 10;
/// ... and has so many values.
const RETRY_AFTER_VALUES: u16 = 51;

impl Overload {
    /// Nothing is turned away.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a measurement, a few times a second at least, and says how bad it is now.
    pub fn observe(&mut self, load: Load, now: Moment) -> Level {
        let reached = STEPS.iter().take_while(|step| step.is_reached(load)).count();
        let reached = Level(u8::try_from(reached).unwrap_or(u8::MAX));
        if reached >= self.level {
            self.level = reached;
            self.calm_since = None;
        }
        let Some(step) = self.level.0.checked_sub(1).map(|below| &STEPS[usize::from(below)]) else { return self.level };
        if !step.is_calm(load) {
            self.calm_since = None;
        } else if now.since(*self.calm_since.get_or_insert(now)) >= CALM {
            self.level.0 -= 1;
            self.calm_since = None;
        }
        self.level
    }

    /// How bad it was at the last measurement.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// What to do with a message, and counts it. `random` spreads Retry-After.
    pub fn judge(&mut self, class: Class, random: u8) -> Verdict {
        let verdict = verdict(self.level, class, random);
        let counts = match verdict {
            Verdict::Admit => &mut self.counts.admitted,
            Verdict::Shed(_) => &mut self.counts.shed,
        };
        counts[class as usize] += 1;
        verdict
    }

    /// Counts a message that was turned away for another reason: there is no room to keep what it needs.
    pub const fn no_room(&mut self, class: Class) {
        self.counts.shed[class as usize] += 1;
    }

    /// What was handled and turned away so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

/// What a level does with a class; a pure function, for those who only know the level.
pub fn verdict(level: Level, class: Class, random: u8) -> Verdict {
    if STEPS.iter().take(usize::from(level.0)).all(|step| step.class != class) {
        return Verdict::Admit;
    }
    Verdict::Shed(match class {
        Class::Unauthenticated => Answer::Silence,
        Class::NewCall | Class::InDialog | Class::Emergency => Answer::Unavailable,
        Class::NewRegistration | Class::Refresh => {
            let spread = u16::from(random) * RETRY_AFTER_VALUES / 256;
            Answer::RetryAfter(RETRY_AFTER_LEAST + u8::try_from(spread).unwrap_or(0))
        }
    })
}

impl Step {
    fn is_reached(&self, load: Load) -> bool {
        self.delay(load) >= self.queue_delay || load.memory_is_at(self.memory_percent)
    }

    fn is_calm(&self, load: Load) -> bool {
        self.delay(load) < self.queue_delay * 3 / 4 && !load.memory_is_at(self.memory_percent - CALM_PERCENT)
    }

    /// The delay that counts for what this level turns away.
    fn delay(&self, load: Load) -> Duration {
        match self.class {
            Class::Unauthenticated => load.queue_delay.max(load.unknown_delay),
            _ => load.queue_delay,
        }
    }
}

impl Load {
    fn memory_is_at(&self, percent: u64) -> bool {
        u128::from(self.memory_used) * 100 >= u128::from(self.memory_limit) * u128::from(percent)
            && self.memory_used > 0
    }
}

#[cfg(test)]
mod tests;
