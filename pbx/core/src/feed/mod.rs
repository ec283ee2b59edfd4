//! Block lists that others keep: what a text means, what no list may hold, and which of its lines are left out because
//! they would hit somebody legitimate. Between what was fetched and the rules. Fetches nothing and knows no store.

mod list;
mod name;
mod spare;

pub use list::{Entry, FeedError, LONGEST_LINE, List, parse};
pub use name::{FeedName, LONGEST_NAME, NameError};
pub use spare::{LeftOut, Spared, Why};

use std::time::Duration;

/// Bytes that a list may have.
pub const LARGEST: usize = 16 * 1024 * 1024;
/// Entries that one feed may have at most; each has its own bound at or under it.
pub const MOST_ENTRIES: u32 = 250_000;
/// Entries that a feed may have when nobody said how many.
pub const DEFAULT_ENTRIES: u32 = 100_000;
/// How often a feed is fetched at most.
pub const SHORTEST_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How often a feed is fetched at least.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(30 * 86_400);
/// How often a feed is fetched when nobody said how often.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// The longest pause after failures; the first is [`SHORTEST_INTERVAL`], each further one twice the one before.
pub const LONGEST_BACK_OFF: Duration = Duration::from_secs(6 * 3600);

/// How long to wait after an attempt: the interval after a success, a pause that doubles after `failures` in a row.
pub fn pause(interval: Duration, failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return interval };
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    SHORTEST_INTERVAL.saturating_mul(factor).min(LONGEST_BACK_OFF)
}

#[cfg(test)]
mod tests;
