//! What the machine looks like: interfaces, addresses, routes, resolvers, connections, its own
//! firewall and its clocks. Read by the daemon, `doctor` and the lock-out check. Reads only and
//! decides nothing beyond its pure functions; never changes the machine.

pub mod choose;
pub mod clock;
pub mod connections;
pub mod disk;
mod ethtool;
pub mod firewall;
pub mod links;
mod netlink;
pub mod reserved;
pub mod resolvers;
pub mod routes;
pub mod snapshot;
mod ssh;
mod surroundings;
pub mod watch;
mod xdp_facts;

#[cfg(test)]
mod namespace;

pub use choose::{Choice, Wanted, choose};
pub use connections::{OTHER_SERVICE, ROOT_SERVICE};
pub use snapshot::Snapshot;
pub use surroundings::{compose, surroundings};
pub use xdp_facts::{XdpFacts, xdp_facts};
