//! Blocks that would lock the appliance or its administrator out: refused, or asked about first.
//! Between what a person asks for and the store. Judges by the surroundings it is told; looks at no machine.

use std::{fmt, net::IpAddr, net::Ipv4Addr, net::Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::address::Prefix;

/// Refusals that [`check_blocks`] tells; more help nobody.
pub const MAX_REPORTED: usize = 20;

/// The machine and its neighbourhood, as far as a block could hurt them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Addresses of the machine itself.
    pub own: Vec<IpAddr>,
    /// Networks on-link at its interfaces; a part of one may be blocked.
    pub connected: Vec<Prefix>,
    /// Next hops of its default routes.
    pub gateways: Vec<IpAddr>,
    /// Its DNS servers.
    pub resolvers: Vec<IpAddr>,
    /// The far ends of established connections that an administrator may depend on.
    pub peers: Vec<Peer>,
    /// The TCP ports on which sshd listens.
    #[serde(default)]
    pub ssh_ports: Vec<u16>,
}

/// The far end of an established connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Where it is.
    pub addr: IpAddr,
    /// What it is connected to here: `ssh`, `pbx`.
    pub service: String,
    /// The local port of that service.
    pub port: u16,
}

/// Something that no block may cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vital {
    /// An address of this machine.
    Own(IpAddr),
    /// Its gateway.
    Gateway(IpAddr),
    /// Its DNS server.
    Resolver(IpAddr),
    /// 127.0.0.0/8, ::1: the machine talking to itself.
    Loopback,
    /// 169.254.0.0/16, fe80::/10: routers and neighbour discovery speak from there.
    LinkLocal,
    /// 0.0.0.0, `::`: a host without an address asks for one from there.
    Unspecified,
}

/// Why a block is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Never, whatever is forced.
    Hard {
        /// The range that was to be blocked.
        prefix: Prefix,
        /// What of it must not be blocked; at least one.
        covers: Vec<Vital>,
    },
    /// Only when forced.
    NeedsForce {
        /// The range that was to be blocked.
        prefix: Prefix,
        /// Connections that it would cut; at least one, unless the range is everything.
        hits: Vec<Peer>,
    },
}

/// Whether `prefix` may be blocked.
///
/// Every address of a family (`0.0.0.0/0`, `::/0`) is no slip of the pen and only has to be forced: what the filter
/// passes before its rules (the machine's own addresses, neighbour discovery, DHCP) it passes even then.
pub fn check_block(prefix: &Prefix, surroundings: &Surroundings, forced: bool) -> Result<(), Refusal> {
    let covers = if prefix.is_everything() { Vec::new() } else { vital(prefix, surroundings) };
    if !covers.is_empty() {
        return Err(Refusal::Hard { prefix: *prefix, covers });
    }
    if forced {
        return Ok(());
    }
    let mut hits: Vec<Peer> = surroundings.peers.iter().filter(|peer| prefix.contains(peer.addr)).cloned().collect();
    hits.sort();
    hits.dedup();
    if hits.is_empty() && !prefix.is_everything() {
        return Ok(());
    }
    Err(Refusal::NeedsForce { prefix: *prefix, hits })
}

/// The first [`MAX_REPORTED`] refusals among many blocks, those that nothing can force before the others.
pub fn check_blocks<'a>(
    prefixes: impl IntoIterator<Item = &'a Prefix>,
    surroundings: &Surroundings,
    forced: bool,
) -> Vec<Refusal> {
    let Surroundings { own, connected: _, gateways, resolvers, peers, ssh_ports: _ } = surroundings;
    let peers = peers.iter().map(|peer| &peer.addr);
    let mut watched: Vec<IpAddr> =
        own.iter().chain(gateways).chain(resolvers).chain(peers).map(IpAddr::to_canonical).collect();
    watched.sort();
    let (mut hard, mut soft) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        // A list may have 300,000 ranges and a busy appliance 10,000 connections: no range looks at all of them.
        let next = watched.partition_point(|addr| *addr < prefix.first());
        let is_hit = watched.get(next).is_some_and(|addr| *addr <= prefix.last());
        if !is_hit && !prefix.is_everything() && special(prefix).next().is_none() {
            continue;
        }
        match check_block(prefix, surroundings, forced) {
            Err(refusal @ Refusal::Hard { .. }) => hard.push(refusal),
            Err(refusal) if soft.len() < MAX_REPORTED => soft.push(refusal),
            _ => {}
        }
        if hard.len() == MAX_REPORTED {
            break;
        }
    }
    hard.append(&mut soft);
    hard.truncate(MAX_REPORTED);
    hard
}

impl fmt::Display for Vital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(addr) => write!(f, "{addr}, an address of this machine"),
            Self::Gateway(addr) => write!(f, "{addr}, its gateway"),
            Self::Resolver(addr) => write!(f, "{addr}, its DNS server"),
            Self::Loopback => f.write_str("loopback, where the machine talks to itself"),
            Self::LinkLocal => f.write_str("link-local addresses, from which routers and neighbour discovery speak"),
            Self::Unspecified => f.write_str("the unspecified address, from which a host asks for its first address"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, port {})", self.addr, self.service, self.port)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hard { prefix, covers } => {
                write!(f, "{prefix} can't be blocked: it {} ", if prefix.is_host() { "is" } else { "covers" })?;
                listed(f, covers)?;
                if prefix.is_host() { Ok(()) } else { f.write_str("; block smaller ranges beside it") }
            }
            Self::NeedsForce { prefix, hits } => {
                if prefix.is_everything() {
                    let family = if prefix.is_ipv4() { "IPv4" } else { "IPv6" };
                    write!(f, "{prefix} is every {family} address")?;
                } else {
                    write!(f, "{prefix}")?;
                }
                if !hits.is_empty() {
                    let and = if prefix.is_everything() { ", and blocking it" } else { "" };
                    write!(f, "{and} would cut established connections: ")?;
                    listed(f, hits)?;
                }
                f.write_str("; nothing was changed, --force blocks it all the same")
            }
        }
    }
}

impl std::error::Error for Refusal {}

fn vital(prefix: &Prefix, surroundings: &Surroundings) -> Vec<Vital> {
    let Surroundings { own, connected: _, gateways, resolvers, peers: _, ssh_ports: _ } = surroundings;
    let covered = |addrs: &[IpAddr], vital: fn(IpAddr) -> Vital| -> Vec<Vital> {
        addrs.iter().filter(|addr| prefix.contains(**addr)).map(|addr| vital(addr.to_canonical())).collect()
    };
    let mut covers = covered(own, Vital::Own);
    covers.extend(covered(gateways, Vital::Gateway));
    covers.extend(covered(resolvers, Vital::Resolver));
    covers.extend(special(prefix));
    covers
}

/// What needs no surroundings to be vital.
fn special(prefix: &Prefix) -> impl Iterator<Item = Vital> + use<'_> {
    const SPECIAL: &[(Vital, IpAddr, u8)] = &[
        (Vital::Loopback, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        (Vital::Loopback, IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        (Vital::LinkLocal, IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
        (Vital::LinkLocal, IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
        (Vital::Unspecified, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32),
        (Vital::Unspecified, IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    ];
    SPECIAL.iter().filter_map(|(vital, addr, len)| {
        Prefix::new(*addr, *len).is_ok_and(|special| special.overlaps(prefix)).then_some(*vital)
    })
}

/// The first three, and how many there are beside them.
fn listed<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().take(3).enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        write!(f, "{separator}{item}")?;
    }
    match items.len().saturating_sub(3) {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}

#[cfg(test)]
mod tests;
