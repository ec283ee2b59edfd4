//! What is measured: the filter with its tables filled, Debian's xdp-filter, plain designs, and the drivers.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Map, MapData, PerCpuHashMap, PerCpuValues,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{Xdp, XdpMode, xdp::XdpLink},
};
use pbx_core::{
    filter::{RuleTables, settings::project},
    settings::Settings,
};
use pbx_ebpf::{abi::interfaces::Interface, hash::Seed};
use pbx_xdp::{KernelTables, Loaded, Options};

use crate::{
    population::{BLOCKED, Blocked, scattered, v6},
    run::{self, Outcome},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PBX_BENCH_OBJECT"));
/// From Debian's package xdp-tools: lets pass what no list names; addresses only.
pub(crate) const XDP_FILTER: &str = "/usr/lib/x86_64-linux-gnu/bpf/xdpfilt_alw_ip.o";

/// Tables are hashed with a secret; any will do, and always the same one.
pub(crate) const SEED: Seed = Seed(0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b);

/// A program that a test run can be asked of.
pub(crate) struct Program {
    fd: OwnedFd,
    /// It takes multi-buffer frames, and so must its driver.
    frags: bool,
}

impl Program {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The filter with what it says.
pub(crate) struct Filter {
    pub(crate) loaded: Loaded,
    pub(crate) tables: RuleTables<KernelTables>,
    pub(crate) program: Program,
    /// What its interfaces enforce.
    pub(crate) enforcement: u64,
}

impl Filter {
    /// Loads it, enforcing everything on the test runs' interface.
    pub(crate) fn load(blocked: Option<Blocked>, options: Options) -> Result<Self> {
        let mut loaded = Loaded::load(&Options { seed: SEED, ..options })?;
        let mut settings = Settings::default();
        settings.set("filter.mode", "enforce").map_err(|error| anyhow!("{error}"))?;
        let projected = project(&settings, &[], &[]);
        loaded.maps.write_settings(&projected);
        // As on a machine where the daemon has described the interface. A test run comes in on `lo`.
        loaded.maps.write_interface(0, 0, projected.enforcement);
        loaded.maps.write_interface(1, 1, projected.enforcement);
        let entries = blocked.map(Blocked::entries).transpose()?.unwrap_or_default();
        let tables = RuleTables::adopt(KernelTables(loaded.maps.clone()), SEED, entries, [])?;
        let program = Program { fd: loaded.program_fd()?, frags: true };
        Ok(Filter { loaded, tables, program, enforcement: projected.enforcement })
    }
    /// No source is ever over a level: a test run sends more in a second than any link.
    pub(crate) fn without_levels(self) -> Self {
        self.loaded.maps.settings.store(LEVEL1, u64::MAX);
        self.loaded.maps.settings.store(LEVEL2, u64::MAX);
        self
    }
    /// Attaches it for as long as the link lives.
    pub(crate) fn attach(&mut self, interface: &str) -> Result<XdpLink> {
        attached(self.loaded.program()?, interface)
    }
    /// One dropped packet in so many is sampled; 0: none.
    pub(crate) fn sample(&self, one_in: u64) {
        let enforcement = Interface::with_sampling(self.enforcement, one_in);
        self.loaded.maps.settings.store(SAMPLE_MASK, one_in.wrapping_sub(1));
        self.loaded.maps.write_interface(0, 0, enforcement);
        self.loaded.maps.write_interface(1, 1, enforcement);
    }
    /// Takes the samples out of their ring, as the daemon does.
    pub(crate) fn drain(&self) {
        let mut samples = self.loaded.maps.samples.lock().expect("no thread panics with it");
        while let Some(_sample) = samples.as_mut().and_then(|ring| ring.next()) {}
    }
}

const LEVEL1: usize = std::mem::offset_of!(pbx_ebpf::abi::settings::Settings, level1) / 8;
const LEVEL2: usize = std::mem::offset_of!(pbx_ebpf::abi::settings::Settings, level2) / 8;
const SAMPLE_MASK: usize = std::mem::offset_of!(pbx_ebpf::abi::settings::Settings, sample_mask) / 8;

/// xdp-filter with the same addresses. Its maps hold 10,000 of each family; here they are larger.
pub(crate) struct XdpFilter {
    _ebpf: Ebpf,
    pub(crate) program: Program,
}

impl XdpFilter {
    /// Loads it; its maps are pinned in `pins`, a folder of a bpffs.
    pub(crate) fn load(pins: &Path) -> Result<Self> {
        std::fs::create_dir(pins).with_context(|| format!("create {}", pins.display()))?;
        let object = std::fs::read(XDP_FILTER)
            .with_context(|| format!("{XDP_FILTER}: install it with `apt-get install xdp-tools`"))?;
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(pins)
            .map_max_entries("filter_ipv4", 1 << 17)
            .map_max_entries("filter_ipv6", 1 << 17)
            .load(&object)
            .context("load xdp-filter")?;
        let name = ebpf.programs().next().context("xdp-filter has a program")?.0.to_owned();
        let program = Program { fd: loaded(&mut ebpf, &name)?, frags: false };
        // A value says by which field an entry matches (the source), and counts.
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let source = || PerCpuValues::try_from(vec![1u64; cpus]);
        let mut v4: PerCpuHashMap<_, u32, u64> = map(&mut ebpf, "filter_ipv4")?;
        let mut v6_: PerCpuHashMap<_, [u8; 16], u64> = map(&mut ebpf, "filter_ipv6")?;
        for bits in (0..BLOCKED).map(scattered) {
            v4.insert(bits.to_be(), source()?, 0)?;
            v6_.insert(octets6(v6(bits)), source()?, 0)?;
        }
        Ok(XdpFilter { _ebpf: ebpf, program })
    }
}

/// Repeats before those that are measured: each of 100,000 sources about once.
const WARM_UP: u32 = 1 << 17;

/// Drivers and plain designs, with tries of their own.
pub(crate) struct Driver {
    ebpf: Ebpf,
    plain: Kind,
    frags: Kind,
}

/// What drives programs of one kind.
struct Kind {
    array: MapData,
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Driver {
    /// Loads it; `output` is the interface to which `generate` sends.
    pub(crate) fn load(output: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().override_global("OUTPUT", &output, true).load(OBJECT)?;
        let mut kind = |array: &str, v4: &str, v6: &str| -> Result<Kind> {
            let Some(Map::ProgramArray(array)) = ebpf.take_map(array) else {
                return Err(anyhow!("the bench's object has no array {array}"));
            };
            Ok(Kind { array, v4: loaded(&mut ebpf, v4)?, v6: loaded(&mut ebpf, v6)? })
        };
        let plain = kind("PLAIN", "plain4", "plain6")?;
        let frags = kind("FRAGS", "frags4", "frags6")?;
        Ok(Driver { ebpf, plain, frags })
    }
    /// A program of the object: `trie4`, `trie6`, `lru4`, `drop_all`, `pass_all`, `generate`.
    pub(crate) fn program(&mut self, name: &str) -> Result<Program> {
        Ok(Program { fd: loaded(&mut self.ebpf, name)?, frags: false })
    }
    /// Attaches a program of the object, which is loaded, for as long as the link lives.
    pub(crate) fn attach(&mut self, name: &str, interface: &str) -> Result<XdpLink> {
        attached(self.ebpf.program_mut(name).context("it is loaded")?.try_into()?, interface)
    }
    /// Fills the tries, after their programs are loaded: they keep the maps.
    pub(crate) fn fill(&mut self, blocked: Blocked) -> Result<()> {
        let mut v4: LpmTrie<_, [u8; 4], u64> = map(&mut self.ebpf, "TRIE4")?;
        let mut v6: LpmTrie<_, [u8; 16], u64> = map(&mut self.ebpf, "TRIE6")?;
        for prefix in blocked.prefixes()? {
            let len = u32::from(prefix.len());
            match prefix.addr() {
                std::net::IpAddr::V4(addr) => v4.insert(&Key::new(len, addr.octets()), 1, 0)?,
                std::net::IpAddr::V6(addr) => v6.insert(&Key::new(len, addr.octets()), 1, 0)?,
            }
        }
        Ok(())
    }
    /// Runs a program on frames whose source the driver varies.
    pub(crate) fn drive(&self, program: &Program, ipv6: bool, frame: &[u8], repeat: u32) -> Result<Outcome> {
        // The pair before this one has filled the caches with its tables.
        self.exactly(program, ipv6, frame, repeat.min(WARM_UP))?;
        self.exactly(program, ipv6, frame, repeat)
    }
    /// As [`drive`](Self::drive), exactly so many frames.
    pub(crate) fn exactly(&self, program: &Program, ipv6: bool, frame: &[u8], repeat: u32) -> Result<Outcome> {
        let kind = if program.frags { &self.frags } else { &self.plain };
        run::put(kind.array.fd().as_fd(), program.fd())?;
        let driver = if ipv6 { kind.v6.as_fd() } else { kind.v4.as_fd() };
        run::timed(driver, frame, repeat)
    }
}

/// A program that sends requests from so many sources, from `first` on, to the interface `output`, one each `pace` ns
/// (0: as fast as it can); it lives as long as what is beside it.
pub(crate) fn flooder(output: u32, first: u32, sources: u32, pace: u64) -> Result<(Ebpf, Program)> {
    let mut ebpf = EbpfLoader::new()
        .override_global("OUTPUT", &output, true)
        .override_global("FIRST", &first, true)
        .override_global("SOURCES", &sources, true)
        .override_global("PACE", &pace, true)
        .load(OBJECT)?;
    let program = Program { fd: loaded(&mut ebpf, "flood")?, frags: false };
    Ok((ebpf, program))
}

fn attached(program: &mut Xdp, interface: &str) -> Result<XdpLink> {
    let link = program.attach(interface, XdpMode::Driver)?;
    Ok(program.take_link(link)?)
}

fn octets6(addr: std::net::IpAddr) -> [u8; 16] {
    match addr {
        std::net::IpAddr::V6(addr) => addr.octets(),
        std::net::IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
    }
}

fn map<T: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T> {
    let map = ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?;
    Ok(T::try_from(map)?)
}

fn loaded(ebpf: &mut Ebpf, name: &str) -> Result<OwnedFd> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    let program: &mut Xdp = program.try_into()?;
    program.load().with_context(|| format!("load the program {name}"))?;
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}
