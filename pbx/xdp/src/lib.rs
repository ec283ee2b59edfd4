//! The kernel object: loading it, its maps as memory, running it on a frame. Knows nothing of rules,
//! databases or interfaces' names beyond attaching.
//!
//! A crate of its own, so that verdict tests and benches build without the daemon.

mod batch;
pub mod flows;
pub mod link;
pub mod maps;
pub mod memory;
pub mod object;
pub mod reading;
pub mod sources;
pub mod tables;

pub use maps::Maps;
pub use memory::Words;
pub use object::{LoadError, Loaded, Options};
pub use pbx_ebpf::rate::Slot as RateSlot;
pub use tables::KernelTables;
