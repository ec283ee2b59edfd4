//! Evidence: what led to a block, kept beside it. Messages wait in one ring for all sources, so that what they take up is
//! bounded whoever sends how many.

use std::{collections::VecDeque, time::Duration};

use super::{Detector, sign::EVIDENCE};
use crate::{address::Prefix, time::Timestamp};

/// Messages of a block.
pub const MESSAGES: usize = 4;
/// Messages of all sources together: 12 MiB.
const RING: usize = 16_384;

/// A message that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// Its beginning, as it came, secrets and all: to be masked before anybody sees it.
    pub bytes: Box<[u8]>,
}

/// The rule that a detector followed, with the values of that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleApplied {
    /// The setting that has the limit.
    pub key: &'static str,
    /// Its value.
    pub limit: u32,
    /// The time in which it was counted.
    pub period: Duration,
    /// What the rule asks for the first block.
    pub block_time: Duration,
}

/// A block that a detector made, or would have made, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// An address, or the /64 of an IPv6 source.
    pub prefix: Prefix,
    /// Who made it.
    pub detector: Detector,
    /// How long it lasts from now on.
    pub time: Duration,
    /// `false`: its rule only monitors.
    pub enforced: bool,
    /// It closes the ports of the web and no others.
    pub web_only: bool,
    /// The filter has made it already.
    pub by_filter: bool,
    /// Whether nobody else can have sent what it rests on.
    pub sure: bool,
    /// Blocks of this source before this one, that are not forgotten yet.
    pub before: u32,
    /// The rule.
    pub rule: RuleApplied,
    /// What was counted by the detector.
    pub count: u32,
    /// What other detectors had counted of this source.
    pub counters: Vec<(Detector, u32)>,
    /// The first that was seen of the source.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Messages that led to it, oldest first: at most [`MESSAGES`].
    pub messages: Vec<Seen>,
}

/// The latest messages of all sources.
#[derive(Debug, Default)]
pub(super) struct Ring {
    messages: VecDeque<Seen>,
    /// The number of the first in it; numbers begin at 1.
    gone: u64,
}

/// The messages of one source in a [`Ring`]: the first two, and the latest two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    numbers: [u64; MESSAGES],
    count: u32,
}

impl Ring {
    fn push(&mut self, at: Timestamp, mut bytes: Box<[u8]>) -> u64 {
        if bytes.len() > EVIDENCE {
            bytes = bytes[..EVIDENCE].into();
        }
        if self.messages.len() >= RING {
            self.messages.pop_front();
            self.gone += 1;
        }
        self.messages.push_back(Seen { at, bytes });
        self.gone + self.messages.len() as u64
    }

    fn find(&self, number: u64) -> Option<&Seen> {
        self.messages.get(usize::try_from(number.checked_sub(self.gone + 1)?).ok()?)
    }
}

impl Kept {
    /// Keeps one more message. Of many in a row only each that doubles their number is kept, so that a flood of one
    /// source pushes nobody's evidence out.
    pub(super) fn keep(&mut self, ring: &mut Ring, at: Timestamp, bytes: Box<[u8]>) {
        self.count = self.count.saturating_add(1);
        let place = match self.count {
            count @ 1..=3 => count as usize - 1,
            count if count.is_power_of_two() => 3,
            _ => return,
        };
        self.numbers[place] = ring.push(at, bytes);
    }

    pub(super) fn messages(&self, ring: &Ring) -> Vec<Seen> {
        self.numbers.iter().filter_map(|number| ring.find(*number)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_first_messages_of_a_source_are_kept_and_a_late_one() {
        let (mut ring, mut kept) = (Ring::default(), Kept::default());
        for number in 0..100u8 {
            kept.keep(&mut ring, at(number.into()), vec![number; 2000].into());
        }
        let messages = kept.messages(&ring);
        let times: Vec<i64> = messages.iter().map(|seen| seen.at.as_millis()).collect();
        assert_eq!(times, [0, 1, 2, 63]);
        assert!(messages.iter().all(|seen| seen.bytes.len() == EVIDENCE));
    }

    #[test]
    fn messages_of_many_sources_take_up_no_more_than_the_ring() {
        let (mut ring, mut first) = (Ring::default(), Kept::default());
        first.keep(&mut ring, at(0), [1].into());
        for number in 0..RING + 10 {
            Kept::default().keep(&mut ring, at(number as i64), [2].into());
        }
        assert_eq!(ring.messages.len(), RING);
        assert!(first.messages(&ring).is_empty());
        let mut last = Kept::default();
        last.keep(&mut ring, at(5), [3].into());
        assert_eq!(last.messages(&ring).len(), 1);
    }
}
