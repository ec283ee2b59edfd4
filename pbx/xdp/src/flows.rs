//! Media in the maps: ports that calls hold, and flows in progress.

use std::{io, sync::PoisonError};

use aya::maps::MapError;
use pbx_ebpf::abi::{media::Flow, ports, settings};

use crate::{Maps, maps::FlowKey};

impl Maps {
    /// Opens a media port, or closes it.
    pub fn hold(&self, port: u16, held: bool) {
        let word = usize::from(port >> 6) * ports::WORDS + ports::HELD;
        let bit = 1 << (port & 63);
        if held { self.ports.set_bits(word, bit) } else { self.ports.clear_bits(word, bit) }
    }

    /// Every media port that is open.
    pub fn held(&self) -> Vec<u16> {
        let bits = |element: u32| {
            let word = self.ports.load(element as usize * ports::WORDS + ports::HELD);
            (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| (element << 6 | bit) as u16)
        };
        (0..ports::ELEMENTS).flat_map(bits).collect()
    }

    /// All flows in progress.
    pub fn flows(&self) -> io::Result<Vec<Flow>> {
        let map = self.media.lock().unwrap_or_else(PoisonError::into_inner);
        map.keys().map(|key| key.map(|key| key.0).map_err(io::Error::other)).collect()
    }

    /// Lets a flow pass.
    pub fn add_flow(&self, flow: Flow) -> io::Result<()> {
        let mut map = self.media.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(FlowKey(flow), 1, 0).map_err(io::Error::other)
    }

    /// Ends a flow; one that is not there is no error.
    pub fn remove_flow(&self, flow: Flow) -> io::Result<()> {
        let mut map = self.media.lock().unwrap_or_else(PoisonError::into_inner);
        match map.remove(&FlowKey(flow)) {
            Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Says whether there is any flow: if not, nobody looks for one.
    pub fn mark_flows(&self, any: bool) {
        if any {
            self.settings.set_bits(settings::FLAGS_WORD, settings::FLOWS);
        } else {
            self.settings.clear_bits(settings::FLAGS_WORD, settings::FLOWS);
        }
    }
}
