//! What is known of each port of a needed range while rules are read in their order. Below the
//! judges. The first rule that decides a port decides it.

use super::{Needed, State};

/// What is known of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Undecided,
    /// Let in, under conditions that are not evaluated here.
    Perhaps,
    Open,
    Closed,
}

/// The ports of a needed range.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    first: u16,
    known: Vec<Port>,
}

impl Ports {
    /// Nothing is known of them yet.
    pub(super) fn of(needed: &Needed) -> Self {
        let count = usize::from(needed.last.saturating_sub(needed.first)) + 1;
        Self { first: needed.first, known: vec![Port::Undecided; count] }
    }

    /// These are let in.
    pub(super) fn open(&mut self, ranges: &[(u16, u16)]) {
        self.change(ranges, |port| match port {
            Port::Undecided | Port::Perhaps => Port::Open,
            decided => decided,
        });
    }

    /// These are let in under conditions.
    pub(super) fn open_perhaps(&mut self, ranges: &[(u16, u16)]) {
        self.change(ranges, |port| match port {
            Port::Undecided => Port::Perhaps,
            decided => decided,
        });
    }

    /// These are kept out.
    pub(super) fn close(&mut self, ranges: &[(u16, u16)]) {
        self.change(ranges, |port| match port {
            Port::Undecided => Port::Closed,
            // What was perhaps let in before is kept out otherwise: it stays a perhaps.
            decided => decided,
        });
    }

    /// All the rest is let in.
    pub(super) fn open_rest(&mut self) {
        self.open(&[(0, u16::MAX)]);
    }

    /// The verdict once all rules are read; none if every port is open. A port that no rule
    /// decided is closed.
    pub(super) fn state(&self) -> Option<State> {
        let any = |wanted: &[Port]| self.known.iter().any(|port| wanted.contains(port));
        match () {
            () if any(&[Port::Closed, Port::Undecided]) => Some(State::Closed),
            () if any(&[Port::Perhaps]) => Some(State::MayBeClosed),
            () => None,
        }
    }

    fn change(&mut self, ranges: &[(u16, u16)], change: impl Fn(Port) -> Port) {
        for (port, known) in (usize::from(self.first)..).zip(&mut self.known) {
            let within = |&(first, last): &(u16, u16)| (first.into()..=last.into()).contains(&port);
            if ranges.iter().any(within) {
                *known = change(*known);
            }
        }
    }
}

/// `5060`, `45000-64999` or, with `between` a colon, `45000:64999`.
pub(super) fn range(text: &str, between: char) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(between).unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
pub(super) fn needed(transport: super::Transport, first: u16, last: u16) -> Needed {
    Needed { transport, first, last, purpose: "test".into() }
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::*;

    fn media() -> Ports {
        Ports::of(&needed(Transport::Udp, 45000, 64999))
    }

    #[test]
    fn a_range_is_open_when_rules_together_cover_it() {
        let mut ports = media();
        ports.open(&[(45000, 50000)]);
        assert_eq!(ports.state(), Some(State::Closed));
        ports.open(&[(50001, u16::MAX)]);
        assert_eq!(ports.state(), None);
    }

    #[test]
    fn the_first_rule_decides() {
        let mut ports = media();
        ports.close(&[(50000, 50000)]);
        ports.open_rest();
        assert_eq!(ports.state(), Some(State::Closed));
    }

    #[test]
    fn a_condition_leaves_it_open_to_doubt() {
        let mut ports = media();
        ports.open_perhaps(&[(0, u16::MAX)]);
        ports.close(&[(0, u16::MAX)]);
        assert_eq!(ports.state(), Some(State::MayBeClosed));
        ports.open_rest();
        assert_eq!(ports.state(), None);
    }
}
