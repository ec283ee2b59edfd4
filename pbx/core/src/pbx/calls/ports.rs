//! Pairs of ports that the relay has made ready and no call holds yet. A call never waits for one.

use std::collections::VecDeque;

use crate::media::Pair;

/// When fewer are left, more are asked for ...
const LOW: usize = 128;
/// ... so that there are this many.
const FULL: usize = 256;

/// The pairs.
#[derive(Debug, Default)]
pub(super) struct Ports {
    ready: VecDeque<Pair>,
    asked: usize,
    refused: u64,
}

impl Ports {
    /// The one that was ready longest; none is counted.
    pub(super) fn take(&mut self) -> Option<Pair> {
        let pair = self.ready.pop_front();
        self.refused += u64::from(pair.is_none());
        pair
    }

    /// More are ready. Fewer than were asked for: the range is used up, and what ends comes by itself.
    pub(super) fn supply(&mut self, pairs: Vec<Pair>) {
        self.asked = self.asked.saturating_sub(pairs.len());
        self.ready.extend(pairs);
    }

    /// One that nobody was told of.
    pub(super) fn put_back(&mut self, pair: Pair) {
        self.ready.push_front(pair);
    }

    /// How many more to ask for, if it is time; asked once.
    pub(super) fn wanted(&mut self) -> Option<usize> {
        let coming = self.ready.len() + self.asked;
        let wanted = (coming < LOW).then(|| FULL - coming)?;
        self.asked += wanted;
        Some(wanted)
    }

    /// Calls that found none.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_asked_for_before_they_run_out_and_only_once() {
        let mut ports = Ports::default();
        assert_eq!(ports.wanted(), Some(FULL));
        assert_eq!(ports.wanted(), None);
        assert_eq!((ports.take(), ports.refused()), (None, 1));
        ports.supply((0..FULL as u16).map(|n| Pair { rtp: 45_000 + 2 * n }).collect());
        assert_eq!(ports.take(), Some(Pair { rtp: 45_000 }));
        for _ in 0..FULL - LOW - 1 {
            ports.take();
        }
        assert_eq!(ports.wanted(), None);
        ports.take();
        assert_eq!(ports.wanted(), Some(FULL - LOW + 1));
        // More may come than were asked for.
        ports.supply((0..FULL as u16).map(|n| Pair { rtp: 46_000 + 2 * n }).collect());
        ports.put_back(Pair { rtp: 45_000 });
        assert_eq!((ports.wanted(), ports.take()), (None, Some(Pair { rtp: 45_000 })));
    }
}
