//! The machine's network at one moment: interfaces, addresses, routes, resolvers. Read by `watch`,
//! `choose` and `surroundings`. Tables that change between two of the four dumps may disagree; the
//! next snapshot of `watch` settles it.

use std::io;
use std::net::IpAddr;

use serde::Serialize;

use super::links::{self, Link};
use super::netlink::Netlink;
use super::resolvers;
use super::routes::{self, Address, Route};

/// The machine's network at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// All interfaces of the namespace.
    pub links: Vec<Link>,
    /// All addresses of those interfaces.
    pub addresses: Vec<Address>,
    /// Default routes and routes to connected networks.
    pub routes: Vec<Route>,
    /// The name servers that this machine asks.
    pub resolvers: Vec<IpAddr>,
}

impl Snapshot {
    /// Reads it in this thread's network namespace; takes well under a millisecond on a usual
    /// machine and blocks meanwhile. Needs no privilege.
    pub fn read() -> io::Result<Self> {
        Self::read_by(&mut Netlink::open()?)
    }

    pub(super) fn read_by(netlink: &mut Netlink) -> io::Result<Self> {
        Ok(Self {
            links: links::read(netlink)?,
            addresses: routes::addresses(netlink)?,
            routes: routes::routes(netlink)?,
            resolvers: resolvers::read(),
        })
    }

    /// The interface with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The interface with this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The ports of a bond or bridge.
    pub fn ports_of(&self, index: u32) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.master == Some(index))
    }
}
