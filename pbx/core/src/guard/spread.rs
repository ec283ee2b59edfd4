//! Attacks from many addresses of one network: when so many of them are blocked, a block of the network is suggested.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{address::Prefix, moment::Moment};

/// Networks that are watched at once; more are not.
const NETWORKS: usize = 16_384;
/// Sources of one network that are told apart.
const SOURCES: usize = 256;
/// Between two suggestions of the same network.
const QUIET: Duration = Duration::from_secs(3600);

/// Blocked sources by network.
#[derive(Debug, Default)]
pub(super) struct Spread {
    networks: HashMap<Prefix, Network>,
}

#[derive(Debug, Default)]
struct Network {
    /// Who is blocked, and until when.
    sources: HashMap<Prefix, Moment>,
    told: Option<Moment>,
}

/// The network that a source counts for: the /24 of an IPv4 address, the /48 of an IPv6 one.
fn network(source: &Prefix) -> Option<Prefix> {
    Prefix::new(source.addr(), if source.is_ipv4() { 24 } else { 48 }).ok()
}

impl Spread {
    /// A source is blocked until then; the network and how many of its sources are, when that is worth telling.
    pub(super) fn blocked(&mut self, source: Prefix, until: Moment, most: u32, now: Moment) -> Option<(Prefix, u32)> {
        let within = network(&source)?;
        if self.networks.len() >= NETWORKS && !self.networks.contains_key(&within) {
            self.sweep(now);
            if self.networks.len() >= NETWORKS {
                return None;
            }
        }
        let network = self.networks.entry(within).or_default();
        network.sources.retain(|_, until| now < *until);
        if network.sources.len() < SOURCES {
            network.sources.insert(source, until);
        }
        let count = network.sources.len() as u32;
        let is_quiet = network.told.is_none_or(|told| now.since(told) >= QUIET);
        (count >= most && is_quiet).then(|| {
            network.told = Some(now);
            (within, count)
        })
    }

    /// A range is blocked no longer.
    pub(super) fn forget(&mut self, range: &Prefix) {
        let touched: HashSet<Prefix> =
            self.networks.keys().filter(|network| network.overlaps(range)).copied().collect();
        for within in touched {
            if let Some(network) = self.networks.get_mut(&within) {
                network.sources.retain(|source, _| !range.overlaps(source));
            }
        }
    }

    pub(super) fn sweep(&mut self, now: Moment) {
        self.networks.retain(|_, network| {
            network.sources.retain(|_, until| now < *until);
            !network.sources.is_empty() || network.told.is_some_and(|told| now.since(told) < QUIET)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn prefix(text: &str) -> Prefix {
        crate::address::parse(text).unwrap().prefix
    }

    #[test]
    fn a_network_is_told_once_when_enough_of_its_sources_are_blocked_at_a_time() {
        let mut spread = Spread::default();
        let mut block = |last: u8, seconds| {
            let source = prefix(&format!("203.0.113.{last}"));
            spread.blocked(source, at(seconds + 60), 3, at(seconds))
        };
        assert_eq!(block(1, 0), None);
        assert_eq!(block(2, 50), None);
        assert_eq!(block(2, 51), None);
        // The first is free again.
        assert_eq!(block(3, 70), None);
        assert_eq!(block(4, 71), Some((prefix("203.0.113.0/24"), 3)));
        assert_eq!(block(5, 72), None);
        assert_eq!(block(6, 3700), None);
        assert_eq!((block(7, 3701), block(8, 3702)), (None, Some((prefix("203.0.113.0/24"), 3))));
    }

    #[test]
    fn what_is_let_go_counts_no_more() {
        let mut spread = Spread::default();
        for last in 1..=2 {
            spread.blocked(prefix(&format!("2001:db8:1:{last}::/64")), at(60), 3, at(0));
        }
        spread.forget(&prefix("2001:db8:1:1::/64"));
        assert_eq!(spread.blocked(prefix("2001:db8:1:3::/64"), at(60), 3, at(1)), None);
        let told = spread.blocked(prefix("2001:db8:1:4::/64"), at(60), 3, at(1));
        assert_eq!(told, Some((prefix("2001:db8:1::/48"), 3)));
        spread.sweep(at(10_000));
        assert!(spread.networks.is_empty());
    }
}
