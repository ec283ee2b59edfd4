//! Whom a list may not hit: its lines that would are left out and named, the others are taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use super::Entry;
use crate::address::Prefix;

/// Why a line is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A phone is registered from there: its number.
    Phone(String),
    /// Calls come from there: the name of the trunk.
    Trunk(String),
    /// Somebody proved a password from this address in the last 30 days.
    Known(IpAddr),
    /// Somebody is connected from there: to what.
    Connected(String),
    /// An allow rule covers it.
    Allowed(Prefix),
    /// It covers a whole network at which the machine is.
    Network(Prefix),
    /// Somebody took it off by hand.
    Released,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phone(number) => write!(f, "covers a registered phone, {number}"),
            Self::Trunk(name) => write!(f, "covers the trunk {name}"),
            Self::Known(address) => write!(f, "covers {address}, from where a password was proved"),
            Self::Connected(service) => write!(f, "covers an open connection, {service}"),
            Self::Allowed(prefix) => write!(f, "is allowed by the rule {prefix}"),
            Self::Network(prefix) => write!(f, "covers {prefix}, a network of this machine"),
            Self::Released => f.write_str("was removed by hand"),
        }
    }
}

/// A line that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The range.
    pub prefix: Prefix,
    /// Counted from 1.
    pub line: usize,
    /// Why not.
    pub why: Why,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {} {}", self.line, self.prefix, self.why)
    }
}

/// Whom a list may not hit.
#[derive(Debug, Clone, Default)]
pub struct Spared {
    addresses: BTreeMap<IpAddr, Why>,
    allowed: BTreeSet<Prefix>,
    lengths: BTreeSet<u8>,
    networks: Vec<Prefix>,
    released: BTreeSet<Prefix>,
}

impl Spared {
    /// Spares an address; the first reason that is told of it is named.
    pub fn address(&mut self, address: IpAddr, why: Why) {
        self.addresses.entry(address.to_canonical()).or_insert(why);
    }

    /// Spares everything in a range.
    pub fn allowed(&mut self, prefix: Prefix) {
        self.lengths.insert(prefix.len());
        self.allowed.insert(prefix);
    }

    /// Spares a network from being covered whole; parts of it may be.
    pub fn network(&mut self, prefix: Prefix) {
        self.networks.push(prefix);
    }

    /// Spares exactly this range.
    pub fn released(&mut self, prefix: Prefix) {
        self.released.insert(prefix);
    }

    /// Why a range may not be blocked.
    pub fn why(&self, prefix: &Prefix) -> Option<Why> {
        if let Some((_, why)) = self.addresses.range(prefix.first()..=prefix.last()).next() {
            return Some(why.clone());
        }
        let allowing = |len: &u8| {
            let wider = Prefix::new(prefix.addr(), *len).ok().filter(|wider| wider.covers(prefix))?;
            self.allowed.contains(&wider).then_some(Why::Allowed(wider))
        };
        if let Some(why) = self.lengths.range(..=prefix.len()).rev().find_map(allowing) {
            return Some(why);
        }
        if let Some(network) = self.networks.iter().find(|network| prefix.covers(network)) {
            return Some(Why::Network(*network));
        }
        self.released.contains(prefix).then_some(Why::Released)
    }

    /// The entries that may be blocked, and those that may not.
    pub fn divide(&self, entries: Vec<Entry>) -> (Vec<Entry>, Vec<LeftOut>) {
        let mut left_out = Vec::new();
        let mut taken = entries;
        taken.retain(|entry| match self.why(&entry.prefix) {
            Some(why) => {
                left_out.push(LeftOut { prefix: entry.prefix, line: entry.line, why });
                false
            }
            None => true,
        });
        (taken, left_out)
    }
}
