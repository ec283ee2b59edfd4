//! Harness of the tests on real parts, in the order in which a test meets them.
//!
//! A [`sandbox`] keeps a test's network and mounts to itself, a [`lab`] puts an appliance and two neighbours
//! into it, [`frames`] and [`flood`] make the traffic and count what arrives, and [`daemon`] runs the real `pbx`. [`fuzz`] is what
//! the fuzzers run.
//! Everything needs root, waits for events with a deadline and never sleeps for a guess.

pub mod phone;
pub mod sandbox;

pub mod lab;

pub mod frames;

pub mod flood;

pub mod daemon;

pub mod router;

pub mod site;

pub mod scanners;

pub mod fuzz;

pub mod interrupt;

pub mod stamp;

mod wire;
