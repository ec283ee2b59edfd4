//! Loading the object: constants, pins, and a run on one frame.

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp, XdpMode},
};
use pbx_ebpf::hash::Seed;

use crate::maps::{self, Maps};

/// The object, as it was built with this crate.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PBX_FILTER_OBJECT"));

/// Name of the program in the object.
pub const PROGRAM: &str = "pbx_filter";

/// What is fixed when the object is loaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// Hash seed; the one in the header when the maps are pinned already.
    pub seed: Seed,
    /// Folder in a bpffs in which the maps are pinned; none: they die with the process.
    pub pins: Option<PathBuf>,
    /// Time is the word of `CLOCK` (tests).
    pub test_clock: bool,
    /// Keep the hit words (off only to measure their price).
    pub count_hits: bool,
    /// Keep the reason counters (off only to measure their price).
    pub count_reasons: bool,
    /// Level of aya-log: 0 off … 5 trace.
    pub log_level: u8,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: Seed(0, 0), pins: None, test_clock: false, count_hits: true, count_reasons: true, log_level: 0 }
    }
}

/// Why the object could not be loaded, attached or run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object or its maps were refused.
    #[error("the kernel did not take the filter's maps: {0}")]
    Object(#[from] aya::EbpfError),
    /// The program was refused.
    #[error("the kernel did not take the filter program: {0}")]
    Program(#[from] ProgramError),
    /// A map is not what this build expects.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The object lacks something.
    #[error("the filter object has no {0}")]
    Missing(&'static str),
}

/// A loaded program with its maps.
#[derive(Debug)]
pub struct Loaded {
    ebpf: Ebpf,
    /// The maps.
    pub maps: Arc<Maps>,
}

impl Loaded {
    /// Loads the object.
    ///
    /// # Errors
    /// The kernel's refusal, with the verifier's log in it.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        Self::load_from(OBJECT, options)
    }

    fn load_from(object: &[u8], options: &Options) -> Result<Self, LoadError> {
        let (clock, hits, reasons) =
            (u8::from(options.test_clock), u8::from(options.count_hits), u8::from(options.count_reasons));
        let mut loader = EbpfLoader::new();
        loader
            .override_global("SEED0", &options.seed.0, true)
            .override_global("SEED1", &options.seed.1, true)
            .override_global("TEST_CLOCK", &clock, true)
            .override_global("COUNT_HITS", &hits, true)
            .override_global("COUNT_REASONS", &reasons, true)
            .override_global("AYA_LOG_LEVEL", &options.log_level, true)
            .verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS);
        if let Some(folder) = &options.pins {
            for name in maps::PINNED {
                loader.map_pin_path(name, folder.join(name));
            }
        }
        let mut ebpf = loader.load(object)?;
        let program = xdp(&mut ebpf)?;
        program.load()?;
        let maps = Arc::new(Maps::of(&mut ebpf)?);
        Ok(Loaded { ebpf, maps })
    }

    /// The program.
    ///
    /// # Errors
    /// The object has none of that name.
    pub fn program(&mut self) -> Result<&mut Xdp, LoadError> {
        xdp(&mut self.ebpf)
    }

    /// The kernel's id of the program.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn id(&mut self) -> Result<u32, LoadError> {
        Ok(self.program()?.info()?.id())
    }

    /// The object's other parts (aya-log's map).
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Runs the program `repeat` times on a frame: the verdict of the last run.
    ///
    /// # Errors
    /// The kernel refuses frames shorter than 14 bytes.
    pub fn run(&mut self, frame: &[u8], repeat: u32) -> Result<u32, LoadError> {
        let program = self.program()?;
        let result = program.test_run(TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() })?;
        Ok(result.return_value)
    }

    /// Attaches to an interface for as long as `self` lives.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<(), LoadError> {
        self.program()?.attach(interface, mode)?;
        Ok(())
    }

    /// File descriptor of the program.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn program_fd(&mut self) -> Result<std::os::fd::OwnedFd, LoadError> {
        let fd = self.program()?.fd()?.as_fd().try_clone_to_owned();
        fd.map_err(|source| LoadError::Map { name: "program", source })
    }
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    let program = ebpf.program_mut(PROGRAM).ok_or(LoadError::Missing(PROGRAM))?;
    Ok(program.try_into()?)
}

/// Whether a folder holds pinned maps.
pub fn has_pins(folder: &Path) -> bool {
    folder.join(pbx_ebpf::abi::header::NAME).exists()
}
