//! Which interfaces to filter, and why the others not. Pure: after `snapshot`, before the loader.
//! Judges one moment; whether to leave an interface that is no longer chosen is the caller's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::links::{Kind, Link};
use super::snapshot::Snapshot;

/// What the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The interfaces under default routes and connected networks.
    Auto,
    /// These, by name.
    List(Vec<String>),
}

/// Which interfaces to filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// To be filtered, in the order of their index.
    pub attach: Vec<Named>,
    /// Not to be filtered.
    pub skip: Vec<Named>,
    /// Configured, but not there now.
    pub missing: Vec<String>,
}

/// An interface and why it was chosen or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// The interface's index.
    pub index: u32,
    /// The interface's name.
    pub name: String,
    /// In words for an administrator.
    pub reason: String,
}

/// Which interfaces of `snapshot` to filter.
pub fn choose(snapshot: &Snapshot, wanted: &Wanted) -> Choice {
    let mut found = Found { snapshot, attach: BTreeMap::new(), skip: BTreeMap::new() };
    let missing = match wanted {
        Wanted::Auto => found.automatic(),
        Wanted::List(names) => found.listed(names),
    };
    found.drop_covered();
    let named = |reasons: BTreeMap<u32, String>| {
        let named = reasons
            .into_iter()
            .filter_map(|(index, reason)| Some(Named { index, name: snapshot.link(index)?.name.clone(), reason }));
        named.collect()
    };
    Choice { attach: named(found.attach), skip: named(found.skip), missing }
}

/// VLANs on bonds on bridges end somewhere; a loop in what the kernel tells does not.
const MAX_DEPTH: usize = 8;

struct Found<'a> {
    snapshot: &'a Snapshot,
    attach: BTreeMap<u32, String>,
    skip: BTreeMap<u32, String>,
}

impl Found<'_> {
    fn automatic(&mut self) -> Vec<String> {
        for link in &self.snapshot.links {
            match self.role(link) {
                Some(role) => self.resolve(link, &role),
                None => self.skip(link, "it carries no default route and no connected network"),
            }
        }
        Vec::new()
    }

    fn listed(&mut self, names: &[String]) -> Vec<String> {
        let mut missing = Vec::new();
        for name in names {
            match self.snapshot.link_named(name) {
                None if missing.contains(name) => {}
                None => missing.push(name.clone()),
                Some(link) => match unfit(link) {
                    Some(reason) => self.skip(link, reason),
                    None => self.attach(link, "the configuration names it".into()),
                },
            }
        }
        for link in &self.snapshot.links {
            if !names.contains(&link.name) {
                self.skip(link, "the configuration does not name it");
            }
        }
        missing
    }

    /// Why packets from outside are expected on `link`.
    fn role(&self, link: &Link) -> Option<String> {
        let Snapshot { addresses, routes, .. } = self.snapshot;
        if self.has_default_route(link) {
            return Some("the default route".into());
        }
        let addresses = addresses.iter().filter(|a| a.interface == link.index);
        let addresses = addresses.map(|a| (a.addr, a.network));
        let routes = routes.iter().filter(|r| r.interface == link.index && r.gateway.is_none());
        let routes = routes.map(|r| (r.destination.addr(), r.destination));
        let mut connected = addresses.chain(routes).filter(|(addr, _)| leaves_the_link(*addr));
        if let Some((_, network)) = connected.next() {
            return Some(format!("the connected network {network}"));
        }
        let alone = self.in_container() && link.kind == Kind::Veth && self.count_veth() == 1;
        alone.then(|| "the only way out of this container".into())
    }

    /// Finds the interfaces by which the packets of `link` enter the machine.
    fn resolve(&mut self, link: &Link, role: &str) {
        match self.entrances(link, MAX_DEPTH) {
            Err(reason) => self.skip(link, reason),
            Ok(entrances) => {
                for &index in &entrances {
                    let reason = match index == link.index {
                        true => format!("it carries {role}"),
                        false => format!("it is below {}, which carries {role}", link.name),
                    };
                    if let Some(entrance) = self.snapshot.link(index) {
                        self.attach(entrance, reason);
                    }
                }
                if !entrances.contains(&link.index) {
                    self.skip(link, "the interfaces below it are filtered");
                }
            }
        }
    }

    fn entrances(&self, link: &Link, depth: usize) -> Result<Vec<u32>, &'static str> {
        if let Some(reason) = unfit(link) {
            return Err(reason);
        }
        let parent = link.parent.and_then(|parent| self.snapshot.link(parent));
        match (&link.kind, parent) {
            _ if depth == 0 => Err("too many interfaces are below it"),
            (Kind::Tun, _) => Err("its packets come from a program of this machine"),
            (Kind::Dummy, _) => Err("no packet from outside arrives there"),
            (Kind::Vlan, Some(parent)) => self.entrances(parent, depth - 1),
            (Kind::Bridge, _) => self.outside_ports(link, depth),
            (Kind::Veth, _) if !self.in_container() && !self.has_default_route(link) => {
                Err("it leads to a container of this machine")
            }
            _ => Ok(vec![link.index]),
        }
    }

    /// The ports of a bridge that face the outside; guests and containers are inside.
    fn outside_ports(&self, bridge: &Link, depth: usize) -> Result<Vec<u32>, &'static str> {
        let facing = self.snapshot.ports_of(bridge.index).filter(|port| match port.kind {
            Kind::Physical | Kind::Bond | Kind::Vlan => true,
            Kind::Veth => self.in_container(),
            _ => false,
        });
        let entrances: Vec<u32> = facing.filter_map(|port| self.entrances(port, depth - 1).ok()).flatten().collect();
        match entrances.is_empty() {
            true => Err("it is an internal bridge: none of its ports faces the outside"),
            false => Ok(entrances),
        }
    }

    /// An interface on top of a filtered one would judge, and count, each packet twice.
    fn drop_covered(&mut self) {
        let covered: Vec<u32> = self.attach.keys().copied().filter(|&i| self.above_filtered(i, MAX_DEPTH)).collect();
        for index in covered {
            self.attach.remove(&index);
            let reason = "the interfaces below it are filtered already";
            self.skip.insert(index, reason.into());
        }
    }

    /// All packets of the interface pass a filtered one below it.
    fn above_filtered(&self, index: u32, depth: usize) -> bool {
        let below = self.below(index);
        let filtered =
            |below: &u32| self.attach.contains_key(below) || depth > 0 && self.above_filtered(*below, depth - 1);
        !below.is_empty() && below.iter().all(filtered)
    }

    fn below(&self, index: u32) -> Vec<u32> {
        let parent = self.snapshot.link(index).and_then(|link| link.parent);
        parent.into_iter().chain(self.snapshot.ports_of(index).map(|port| port.index)).collect()
    }

    /// A namespace without a network card of its own is a container's (or a test's).
    fn in_container(&self) -> bool {
        !self.snapshot.links.iter().any(|link| link.kind == Kind::Physical)
    }

    fn count_veth(&self) -> usize {
        self.snapshot.links.iter().filter(|link| link.kind == Kind::Veth).count()
    }

    fn has_default_route(&self, link: &Link) -> bool {
        self.snapshot.routes.iter().any(|r| r.interface == link.index && r.is_default())
    }

    fn attach(&mut self, link: &Link, reason: String) {
        self.skip.remove(&link.index);
        self.attach.entry(link.index).or_insert(reason);
    }

    fn skip(&mut self, link: &Link, reason: &str) {
        if !self.attach.contains_key(&link.index) {
            self.skip.insert(link.index, reason.into());
        }
    }
}

/// Why an interface can never be filtered, even if the configuration names it.
fn unfit(link: &Link) -> Option<&'static str> {
    match link.kind {
        Kind::Loopback => Some("it is the loopback interface"),
        Kind::Ppp | Kind::Wireguard => Some("it is a tunnel; its packets enter by another interface"),
        _ if !link.ethernet => Some("its packets have no Ethernet header (an L3 device)"),
        _ => None,
    }
}

/// Every interface has link-local and multicast networks.
fn leaves_the_link(addr: IpAddr) -> bool {
    let link_local = match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    };
    !link_local && !addr.is_multicast()
}

#[cfg(test)]
mod tests;
