//! The kernel's own tables asked on the host, by the kernel's own code, without counting: what `explain` says.

use pbx_ebpf::{
    abi::{address4, prefix, settings},
    hash::Seed,
    rules::{self, Said},
    tables::RuleMaps,
};

use crate::Maps;

/// The tables at a time.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The maps.
    pub maps: &'a Maps,
    /// Their seed.
    pub seed: Seed,
    /// Coarse monotonic time (ns).
    pub now: u64,
}

impl Reading<'_> {
    /// What the manual rules say of a source (IPv4 mapped).
    pub fn say(&self, v6: bool, hi: u64, lo: u64) -> Said {
        rules::say(self, v6, hi, lo)
    }
}

impl RuleMaps for Reading<'_> {
    fn seed(&self) -> Seed {
        self.seed
    }
    fn now(&self) -> u64 {
        self.now
    }
    fn settings(&self) -> Option<*mut settings::Settings> {
        Some(self.maps.settings.pointer(0).cast())
    }
    fn summary4(&self, element: u32) -> Option<*mut u64> {
        Some(self.maps.summary4.pointer(element as usize))
    }
    fn class4(&self, element: u32) -> Option<*mut u64> {
        Some(self.maps.class4.pointer(element as usize))
    }
    fn address4(&self, line: u32) -> Option<*mut u64> {
        Some(self.maps.address4.pointer(line as usize * address4::LINE_WORDS))
    }
    fn lengths4(&self, element: u32) -> Option<*mut u64> {
        Some(self.maps.lengths4.pointer(element as usize))
    }
    fn lengths6(&self, bucket: u32) -> Option<*mut u64> {
        Some(self.maps.lengths6.pointer(bucket as usize * 2))
    }
    fn tags(&self, set: u32) -> Option<*mut u64> {
        Some(self.maps.tags.pointer(set as usize))
    }
    fn prefix(&self, set: u32) -> Option<*mut u64> {
        Some(self.maps.prefix.pointer(set as usize * prefix::SET_WORDS))
    }
    fn counts_hits(&self) -> bool {
        false
    }
}
