//! Rates: the two levels, the guard and the cap over them, and the table that counts.

mod guard;
mod levels;
mod monitor;
mod table;

use pbx_ebpf::abi::{
    events::{Event, Kind},
    rate::{SECOND, UNIT_SHIFT},
};
use pbx_tests::frames::Frame;

/// The last moment of a window that began at `start`, and the first behind it.
pub(crate) fn window_end(start: u64) -> (u64, u64) {
    let end = ((start >> UNIT_SHIFT) + SECOND) << UNIT_SHIFT;
    (end - 1, end)
}

/// A datagram to the SIP port.
pub(crate) fn sip(from: &str) -> Frame {
    let to = if from.contains(':') { "[2001:db8::2]:5060" } else { "192.0.2.2:5060" };
    let from = if from.contains(':') { format!("[{from}]:9") } else { format!("{from}:9") };
    Frame::udp(from.as_str(), to)
}

/// Kind, level and end of events.
pub(crate) fn told(events: &[Event]) -> Vec<(u32, u32, u64)> {
    events.iter().map(|event| (event.kind, event.level, event.expires)).collect()
}

pub(crate) const BLOCKED: u32 = Kind::Blocked as u32;
pub(crate) const RAISED: u32 = Kind::Raised as u32;
pub(crate) const WOULD_BLOCK: u32 = Kind::WouldBlock as u32;
pub(crate) const GUARD_ON: u32 = Kind::GuardOn as u32;
pub(crate) const GUARD_OFF: u32 = Kind::GuardOff as u32;
pub(crate) const FULL: u32 = Kind::Full as u32;
