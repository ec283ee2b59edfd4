//! Settings that are a set: ports, and ranges of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use super::{Kind, Value, ValueError, number};
use crate::address::{self, Prefix};

/// Ports from `first` to `last`, both included; never port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest; not under `first`.
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = *self;
        if first == last {
            write!(f, "{first}")
        } else if last - first == 1 {
            write!(f, "{first},{last}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// A set of ports: ranges in order, with a gap between any two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ports(Vec<PortRange>);

impl Ports {
    /// Ports and ranges that may be typed.
    pub const MAX_ITEMS: usize = 256;

    /// The ranges, in order.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Every port.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flat_map(|range| range.first..=range.last)
    }

    /// Whether `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| (range.first..=range.last).contains(&port))
    }

    /// The first ports that `other` has not.
    pub fn beyond(&self, other: &Self) -> Option<PortRange> {
        self.0.iter().find_map(|one| {
            // Between two ranges of a set is a gap, so that one range covers or none does.
            let at = |port| other.0.iter().find(|two| (two.first..=two.last).contains(&port));
            match at(one.first) {
                Some(two) if two.last >= one.last => None,
                Some(two) => Some(PortRange { first: two.last + 1, last: one.last }),
                None => Some(*one),
            }
        })
    }

    /// The ports of both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::merged(self.0.iter().chain(&other.0).copied().collect())
    }

    /// The first ports that both have.
    pub fn overlap(&self, other: &Self) -> Option<PortRange> {
        self.0.iter().find_map(|one| {
            other.0.iter().find_map(|two| {
                let (first, last) = (one.first.max(two.first), one.last.min(two.last));
                (first <= last).then_some(PortRange { first, last })
            })
        })
    }
}

impl Value for Ports {
    const KIND: Kind = Kind::Ports { max_items: Self::MAX_ITEMS };
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comma_separated(f, &self.0)
    }
}

impl FromStr for Ports {
    type Err = ValueError;

    /// At least one port: a guard without any is switched off by its enforcement, where it is seen.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut typed = Vec::new();
        for item in items(text, Self::MAX_ITEMS)? {
            typed.push(port_range(item)?);
        }
        if typed.is_empty() {
            return Err(ValueError::Empty);
        }
        Ok(Self::merged(typed))
    }
}

impl Ports {
    fn merged(mut all: Vec<PortRange>) -> Self {
        all.sort();
        let mut ranges: Vec<PortRange> = Vec::new();
        for range in all {
            match ranges.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => ranges.push(range),
            }
        }
        Self(ranges)
    }
}

/// A set of addresses and ranges, in order, none of which lies in another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Prefixes(Vec<Prefix>);

impl Prefixes {
    /// Ranges that may be typed.
    pub const MAX_ITEMS: usize = 32;

    /// The ranges, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Prefix> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `addr` is in one of them.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(addr))
    }
}

impl<'a> IntoIterator for &'a Prefixes {
    type Item = &'a Prefix;
    type IntoIter = std::slice::Iter<'a, Prefix>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Value for Prefixes {
    const KIND: Kind = Kind::Prefixes { max_items: Self::MAX_ITEMS };
}

impl fmt::Display for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comma_separated(f, &self.0)
    }
}

impl FromStr for Prefixes {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut prefixes: Vec<Prefix> = Vec::new();
        for item in items(text, Self::MAX_ITEMS)? {
            let typed = address::parse(item).map_err(|error| ValueError::Item(error.to_string()))?;
            prefixes.push(typed.prefix);
        }
        // In order, a range comes before everything that lies in it.
        prefixes.sort();
        prefixes.dedup_by(|next, kept| kept.covers(next));
        Ok(Self(prefixes))
    }
}

fn port_range(text: &str) -> Result<PortRange, ValueError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first, text)?, port(last, text)?);
    if first > last {
        return Err(ValueError::Item(format!("{text} runs backwards")));
    }
    Ok(PortRange { first, last })
}

fn port(text: &str, item: &str) -> Result<u16, ValueError> {
    match number(text.trim()) {
        Ok(number @ 1..=65_535) => Ok(number as u16),
        _ => {
            let item: String = item.chars().take(20).collect();
            Err(ValueError::Item(format!("{item:?} is neither a port nor a range of ports")))
        }
    }
}

/// What is between the commas; nothing if there is nothing at all.
pub(super) fn items(text: &str, max: usize) -> Result<Vec<&str>, ValueError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let count = text.split(',').count();
    if count > max {
        return Err(ValueError::TooMany(count));
    }
    Ok(text.split(',').map(str::trim).collect())
}

pub(super) fn comma_separated<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}
