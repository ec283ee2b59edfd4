//! The relay without sockets: what it was told, and what it answers.

use std::collections::{BTreeMap, VecDeque};

use pbx_core::{
    media::{Command, Leg, LegId, Pair, Stats},
    pbx::Input,
};

/// What the relay holds.
pub(crate) struct Media {
    /// The legs that live.
    pub(crate) legs: BTreeMap<LegId, Leg>,
    /// Digits that were sent to a leg's phone.
    pub(crate) digits: Vec<(LegId, char)>,
    /// Pairs that may still be given away; the range has no more.
    pub(crate) left: usize,
    /// Pairs of legs that ended.
    pub(crate) freed: usize,
    /// It answers nothing for now.
    pub(crate) is_silent: bool,
    next: u16,
    answers: VecDeque<Input>,
}

impl Media {
    pub(crate) fn new() -> Self {
        Self {
            legs: BTreeMap::new(),
            digits: Vec::new(),
            left: 5000,
            freed: 0,
            is_silent: false,
            next: 45_000,
            answers: VecDeque::new(),
        }
    }

    pub(crate) fn take(&mut self, command: Command) {
        match command {
            Command::Set(leg) => {
                self.legs.insert(leg.id, leg);
            }
            Command::Close(id) => {
                assert!(self.legs.remove(&id).is_some(), "{id:?} was never told");
                self.freed += 1;
                let stats = Stats { packets: 50, bytes: 8600, ..Stats::default() };
                self.answers.push_back(Input::LegEnded { leg: id, stats });
            }
            Command::Digit { leg, digit, .. } => self.digits.push((leg, digit)),
            Command::Wanted(wanted) => {
                let count = wanted.min(self.left);
                self.left -= count;
                let pairs = (0..count).map(|_| {
                    let pair = Pair { rtp: self.next };
                    self.next = if self.next >= 64_998 { 45_000 } else { self.next + 2 };
                    pair
                });
                let pairs: Vec<Pair> = pairs.collect();
                self.answers.push_back(Input::Pairs(pairs));
            }
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Input> {
        if self.is_silent { None } else { self.answers.pop_front() }
    }

    /// The leg that holds a local port.
    pub(crate) fn at(&self, port: u16) -> Option<&Leg> {
        self.legs.values().find(|leg| leg.pair.rtp == port)
    }
}
