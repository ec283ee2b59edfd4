//! The start: what an earlier daemon pinned is adopted, made equal to the store by difference, and this build's
//! program takes the place of the old one link by link. Until then the old one goes on enforcing.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use anyhow::Context as _;
use aya::maps::{HashMap as BpfHash, Map, MapData};
use pbx_core::{
    filter::{Entry, RuleTables},
    rule::Rule,
    settings::Settings,
    time::Timestamp,
};
use pbx_ebpf::{
    abi::{automatic, header},
    hash::Seed,
};
use pbx_xdp::{
    KernelTables, Loaded, Options, Words,
    maps::{BlockValue, SourceKey},
};

use super::{Clocks, Drops, State, Told, XdpFilter, interfaces, pins, source_of};
use crate::{
    config::{Interfaces, Xdp},
    filter::{Filter as _, MediaChange},
    host::{Snapshot, Wanted, clock},
    store::StoredBlock,
};

/// What the start needs.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// `[xdp]` of the configuration.
    pub config: &'a Xdp,
    /// All rules of the store.
    pub rules: &'a [Rule],
    /// The settings.
    pub settings: &'a Settings,
    /// The ports of the transports.
    pub transports: &'a [u16],
    /// Their revision.
    pub revision: i64,
    /// Automatic blocks that the store kept, for maps that a reboot emptied.
    pub automatic: &'a [StoredBlock],
}

/// Takes the filter over, or makes it.
pub fn take_over(start: Start<'_>, snapshot: &Snapshot) -> anyhow::Result<(XdpFilter, Vec<Told>)> {
    let pin_dir = &start.config.pin_dir;
    pins::prepare(pin_dir)?;
    let claim = pins::claim(pin_dir)?;
    let (maps, links) = (pins::maps(pin_dir), pins::links(pin_dir));
    for folder in [&maps, &links] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let filled = read_header(&maps)?;
    if filled.is_none() {
        // Maps that were never filled whole belong to a start that broke off.
        pins::delete(&maps).and_then(|()| fs::create_dir(&maps)).context("cannot clear maps that were never filled")?;
    }
    let seed = filled.map_or_else(random_seed, |header| Ok(header.seed))?;
    let seed = Seed(seed[0], seed[1]);
    let options = Options { seed, pins: Some(maps.clone()), log_level: super::log::level(), ..Options::default() };
    let mut loaded = Loaded::load(&options).map_err(|error| anyhow::anyhow!("{}", explain_load(&error)))?;
    super::log::follow(&mut loaded);

    let clocks = Clocks::now();
    let entries = start.rules.iter().filter(|rule| rule.is_live(clocks.wall));
    let entries =
        entries.map(|rule| Entry { prefix: rule.prefix, action: rule.action, until: clocks.until(rule.expires_at) });
    let own = snapshot.addresses.iter().map(|address| address.addr);
    let rules = RuleTables::adopt(KernelTables(Arc::clone(&loaded.maps)), seed, entries, own)?;

    let connected = interfaces::connected(snapshot);
    let open_media = super::open_media(start.settings);
    let projected = super::projected(start.settings, start.transports, &connected, open_media.as_ref());
    loaded.maps.write_settings(&projected);
    loaded.maps.write_interface(0, 0, projected.enforcement);
    for other in pins::others(pin_dir)? {
        copy_blocks(&loaded, seed, &other);
    }
    if filled.is_none() {
        restore_blocks(&loaded, seed, start.automatic, &clocks)?;
        let boot = clock::boot_id().map_or([0; 2], |id| {
            let (first, second) = id.split_at(8);
            [first, second].map(|half| half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
        });
        loaded.maps.write_header([seed.0, seed.1], boot);
    }
    // Blocks whose bit was not set yet when the writer died.
    loaded.maps.sweep_blocks(seed, clocks.monotonic)?;
    loaded.maps.mark_blocks(seed)?;

    let known = super::known::Book::adopt(&loaded.maps, seed)?;
    let ending: HashMap<_, Timestamp> = start
        .rules
        .iter()
        .filter(|rule| rule.is_live(clocks.wall))
        .filter_map(|rule| Some(((rule.prefix, rule.action), rule.expires_at?)))
        .collect();
    let wanted = match &start.config.interfaces {
        Interfaces::Auto => Wanted::Auto,
        Interfaces::Named(names) => Wanted::List(names.clone()),
    };
    let program = loaded.id()?;
    let maps = Arc::clone(&loaded.maps);
    let filter = XdpFilter {
        maps,
        seed,
        links,
        mode: start.config.attach,
        state: Mutex::new(State {
            loaded,
            program,
            rules,
            ending,
            settings: start.settings.clone(),
            revision: start.revision,
            transports: start.transports.to_vec(),
            open_media,
            connected,
            wanted,
            by_hand: HashMap::new(),
            interfaces: interfaces::Table::default(),
            known,
            estimates: super::estimates::Estimates::default(),
            dropped: 0,
            one_in: None,
        }),
        media: Mutex::default(),
        samples_missed: AtomicU64::new(0),
        samples_lost: AtomicU64::new(0),
        drops: Drops::default(),
        _claim: claim,
    };
    // Calls of an earlier daemon are over.
    filter.media(&MediaChange::Are(Vec::new())).context("the ports of earlier calls can not be closed")?;
    let mut told = filter.follow(snapshot);
    if let Some(open) = &filter.state().open_media {
        told.push(Told::note(None, super::media::in_words(Some(open))));
    }
    told.extend(interfaces::settle_others(&filter, &mut filter.state(), snapshot, &pins::attached(pin_dir)?));
    // The old program no longer runs anywhere: what it blocked until its last packet comes along, then it goes.
    for other in pins::others(pin_dir)? {
        copy_blocks(&filter.state().loaded, seed, &other);
        if let Err(error) = pins::delete(&other) {
            told.push(Told::warning(None, format!("the maps of another version stay in {}: {error}", other.display())));
        }
    }
    Ok((filter, told))
}

/// The header of pinned maps, if it is one of this build.
fn read_header(folder: &Path) -> anyhow::Result<Option<header::Header>> {
    let pin = folder.join(header::NAME);
    if !pin.exists() {
        return Ok(None);
    }
    let data = MapData::from_pin(&pin).with_context(|| format!("cannot open the pinned map {}", pin.display()))?;
    let words = Words::map(data.fd().as_fd(), header::Header::WORDS)
        .with_context(|| format!("cannot read the pinned map {}", pin.display()))?;
    Ok(pbx_xdp::tables::read_header(&words))
}

/// A seed that nobody can guess.
pub fn random_seed() -> anyhow::Result<[u64; 2]> {
    let mut bytes = [0u8; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("no random numbers for the hash seed")?;
    let (first, second) = bytes.split_at(8);
    let word = |half: &[u8]| half.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    Ok([word(first), word(second)])
}

/// Copies the automatic blocks of another layout, where it has them in the same shape.
fn copy_blocks(loaded: &Loaded, seed: Seed, folder: &Path) {
    for name in [automatic::NAME, automatic::WEB_NAME] {
        let open = || -> anyhow::Result<BpfHash<MapData, SourceKey, BlockValue>> {
            Ok(Map::from_map_data(MapData::from_pin(folder.join(name))?)?.try_into()?)
        };
        let map = match open() {
            Ok(map) => map,
            Err(error) => {
                tracing::info!(folder = %folder.display(), name, %error, "no automatic blocks to take from another version");
                continue;
            }
        };
        for (source, block) in map.iter().flatten() {
            if let Err(error) = loaded.maps.add_block(seed, source.0, block.0) {
                tracing::warn!(%error, name, "an automatic block of another version could not be kept");
                break;
            }
        }
    }
}

/// Puts the blocks that the store kept back into maps that a reboot emptied.
fn restore_blocks(loaded: &Loaded, seed: Seed, blocks: &[StoredBlock], clocks: &Clocks) -> anyhow::Result<()> {
    for block in blocks {
        if let (Some(source), Some(restored)) = (source_of(&block.prefix), super::blocks::restored(block, clocks)) {
            loaded.maps.add_block(seed, source, restored)?;
        }
    }
    Ok(())
}

fn explain_load(error: &pbx_xdp::LoadError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    let short: String = text.chars().take(2_000).collect();
    let hint = if text.contains("Operation not permitted") || text.contains("EPERM") {
        "the daemon needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run it as root or by its unit"
    } else if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF); Debian's kernels from 6.1 have it"
    } else {
        "Linux 6.1 or newer is needed; `uname -r` says what runs"
    };
    format!("the filter could not be loaded: {hint}. {short}")
}

/// The path of a pinned link.
pub(super) fn pin_of(filter: &XdpFilter, interface: &str) -> PathBuf {
    pins::link(&filter.links, interface)
}
