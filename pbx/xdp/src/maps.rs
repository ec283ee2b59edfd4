//! The maps by name: arrays as memory, the others as typed handles.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Mutex,
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, PerCpuArray, RingBuf},
};
use pbx_ebpf::abi::{
    Source, address4, automatic, events, guard, header, interfaces, known, media, ports, prefix, presence, rate,
    settings, stats,
};

use crate::{batch, memory::Words, object::LoadError};

/// Every map that outlives the process.
pub const PINNED: &[&str] = &[
    header::NAME,
    settings::NAME,
    interfaces::NAME,
    ports::NAME,
    address4::SUMMARY_NAME,
    address4::CLASS_NAME,
    address4::NAME,
    prefix::LENGTHS4_NAME,
    prefix::LENGTHS6_NAME,
    prefix::TAGS_NAME,
    prefix::NAME,
    rate::NAME,
    presence::NAME,
    guard::NAME,
    guard::PENDING_NAME,
    automatic::NAME,
    automatic::WEB_NAME,
    known::NAME,
    known::STATE_NAME,
    media::NAME,
    stats::NAME,
    events::NAME,
    events::SAMPLES_NAME,
    events::TAPPED_NAME,
];

/// A value that is plain bytes for the kernel.
macro_rules! plain {
    ($name:ident, $inner:ty) => {
        /// The value as the kernel has it.
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub $inner);
        // SAFETY: made of integers only, without padding.
        unsafe impl aya::Pod for $name {}
    };
}
plain!(SourceKey, Source);
plain!(BlockValue, automatic::Block);
plain!(KnownKey, known::Key);
plain!(KnownValue, known::Known);
plain!(FlowKey, media::Flow);
plain!(TappedValue, events::Tapped);
plain!(Counters, [[u64; 2]; stats::REASONS]);

/// A map of automatic blocks.
pub struct BlockMap {
    /// For an entry; the lock is among the daemon's threads, the kernel needs none.
    pub entry: Mutex<HashMap<MapData, SourceKey, BlockValue>>,
    /// For all entries, which would take too long under the lock.
    all: OwnedFd,
}

impl BlockMap {
    fn of(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, LoadError> {
        let map = taken(ebpf, name)?;
        let Map::HashMap(data) = &map else {
            return Err(LoadError::Map { name, source: io::Error::other("not a hash") });
        };
        let all = data.fd().as_fd().try_clone_to_owned().map_err(|source| LoadError::Map { name, source })?;
        let entry = HashMap::try_from(map).map_err(|e| LoadError::Map { name, source: io::Error::other(e) })?;
        Ok(Self { entry: Mutex::new(entry), all })
    }

    /// All entries. Waits for nobody, and nobody for it.
    pub fn all(&self) -> io::Result<Vec<(SourceKey, BlockValue)>> {
        batch::entries(self.all.as_fd(), automatic::MAX)
    }
}

/// All maps of a loaded object.
pub struct Maps {
    /// `HEADER`.
    pub header: Words,
    /// `SETTINGS`.
    pub settings: Words,
    /// `INTERFACES`.
    pub interfaces: Words,
    /// `PORTS`.
    pub ports: Words,
    /// `SUMMARY4`.
    pub summary4: Words,
    /// `CLASS4`.
    pub class4: Words,
    /// `ADDRESS4`.
    pub address4: Words,
    /// `LENGTHS4`.
    pub lengths4: Words,
    /// `LENGTHS6`.
    pub lengths6: Words,
    /// `TAGS`.
    pub tags: Words,
    /// `PREFIX`.
    pub prefix: Words,
    /// `RATE`.
    pub rate: Words,
    /// `PRESENCE`.
    pub presence: Words,
    /// `GUARD`.
    pub guard: Words,
    /// `KNOWN_STATE`.
    pub known_state: Words,
    /// `CLOCK` (tests).
    pub clock: Words,
    /// `AUTOMATIC`.
    pub automatic: BlockMap,
    /// `WEB`.
    pub web: BlockMap,
    /// `KNOWN`.
    pub known: Mutex<HashMap<MapData, KnownKey, KnownValue>>,
    /// `MEDIA`.
    pub media: Mutex<HashMap<MapData, FlowKey, u64>>,
    /// `TAPPED`.
    pub tapped: PerCpuArray<MapData, TappedValue>,
    /// `STATS`.
    pub stats: PerCpuArray<MapData, Counters>,
    /// `EVENTS`; taken by whoever drains it.
    pub events: Mutex<Option<RingBuf<MapData>>>,
    /// `SAMPLES`; taken by whoever drains it.
    pub samples: Mutex<Option<RingBuf<MapData>>>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(crate) fn of(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let e = ebpf;
        Ok(Maps {
            header: array(e, header::NAME, 1, header::Header::WORDS)?,
            settings: array(e, settings::NAME, 1, settings::Settings::WORDS)?,
            interfaces: array(e, interfaces::NAME, interfaces::SLOTS, interfaces::Interface::WORDS)?,
            ports: array(e, ports::NAME, ports::ELEMENTS, ports::WORDS)?,
            summary4: array(e, address4::SUMMARY_NAME, address4::SUMMARY_ELEMENTS, 1)?,
            class4: array(e, address4::CLASS_NAME, address4::CLASS_ELEMENTS, 1)?,
            address4: array(e, address4::NAME, 1 << address4::LINE_BITS, address4::LINE_WORDS)?,
            lengths4: array(e, prefix::LENGTHS4_NAME, 1 << 16, 1)?,
            lengths6: array(e, prefix::LENGTHS6_NAME, 1 << prefix::LENGTHS6_BITS, 2)?,
            tags: array(e, prefix::TAGS_NAME, 1 << prefix::SET_BITS, 1)?,
            prefix: array(e, prefix::NAME, 1 << prefix::SET_BITS, prefix::SET_WORDS)?,
            rate: array(e, rate::NAME, rate::ELEMENTS, rate::SET_WORDS)?,
            presence: array(e, presence::NAME, 1 << presence::BITS, 2)?,
            guard: array(e, guard::NAME, 1, guard::Guard::WORDS)?,
            known_state: array(e, known::STATE_NAME, known::MAX, 1)?,
            clock: array(e, "CLOCK", 1, 1)?,
            automatic: BlockMap::of(e, automatic::NAME)?,
            web: BlockMap::of(e, automatic::WEB_NAME)?,
            known: Mutex::new(typed(e, known::NAME)?),
            media: Mutex::new(typed(e, media::NAME)?),
            tapped: typed(e, events::TAPPED_NAME)?,
            stats: typed(e, stats::NAME)?,
            events: Mutex::new(Some(typed(e, events::NAME)?)),
            samples: Mutex::new(Some(typed(e, events::SAMPLES_NAME)?)),
        })
    }
}

fn taken(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Missing(name))
}

fn typed<T: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, LoadError> {
    T::try_from(taken(ebpf, name)?).map_err(|e| LoadError::Map { name, source: io::Error::other(e) })
}

fn array(ebpf: &mut Ebpf, name: &'static str, elements: u32, words: usize) -> Result<Words, LoadError> {
    let failed = |source| LoadError::Map { name, source };
    let Map::Array(data) = taken(ebpf, name)? else {
        return Err(failed(io::Error::other("not an array")));
    };
    let info = data.info().map_err(|e| failed(io::Error::other(e)))?;
    if info.max_entries() != elements || info.value_size() as usize != words * 8 {
        return Err(failed(io::Error::other(format!(
            "has {} × {} bytes, this build wants {elements} × {}",
            info.max_entries(),
            info.value_size(),
            words * 8
        ))));
    }
    Words::map(data.fd().as_fd(), elements as usize * words).map_err(failed)
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}
