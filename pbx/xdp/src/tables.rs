//! The maps as the core's [`Memory`], and a projected configuration written into them.

use std::{io, sync::Arc};

use pbx_core::filter::{self, Memory, Table, settings::Projected};
use pbx_ebpf::abi::{LAYOUT, header, interfaces, ports, settings as abi};

use crate::{Maps, Words};

/// The kernel's tables. Clones speak of the same memory.
#[derive(Clone, Debug)]
pub struct KernelTables(pub Arc<Maps>);

impl KernelTables {
    fn table(&self, table: Table) -> (&Words, usize) {
        match table {
            Table::Summary4 => (&self.0.summary4, 0),
            Table::Class4 => (&self.0.class4, 0),
            Table::Address4 => (&self.0.address4, 0),
            Table::Lengths4 => (&self.0.lengths4, 0),
            Table::Lengths6 => (&self.0.lengths6, 0),
            Table::Tags => (&self.0.tags, 0),
            Table::Prefix => (&self.0.prefix, 0),
            Table::ShortLengths => (&self.0.settings, abi::SHORT_LENGTHS_WORD),
        }
    }
}

impl Memory for KernelTables {
    fn load(&self, table: Table, word: usize) -> u64 {
        let (words, base) = self.table(table);
        words.load(base + filter::word(table, word))
    }
    fn store(&mut self, table: Table, word: usize, value: u64) {
        let (words, base) = self.table(table);
        words.store(base + filter::word(table, word), value);
    }
    fn hits(&self, table: Table, slot: usize) -> u64 {
        let (words, _) = self.table(table);
        words.load(filter::hit_word(table, slot))
    }
}

impl Maps {
    /// Writes thresholds and ports; each word is in force with the next packet.
    pub fn write_settings(&self, projected: &Projected) {
        for (word, value) in projected.thresholds.scalars().into_iter().enumerate() {
            if word != abi::FLAGS_WORD {
                self.settings.store(word, value);
                continue;
            }
            // `FLOWS` says what `MEDIA` holds, not what is set, and may change meanwhile.
            self.settings.set_bits(word, value & !abi::FLOWS);
            self.settings.clear_bits(word, !value & !abi::FLOWS);
        }
        for (word, used, networks) in projected.thresholds.networks() {
            self.write_networks(word, used, networks);
        }
        for (element, words) in projected.ports.iter().enumerate() {
            for (word, value) in words.words() {
                self.ports.store(element * ports::WORDS + word, value);
            }
        }
    }

    /// Writes a list of networks. Only those that stay in their places are in force while the others change.
    fn write_networks(&self, word: usize, used: u64, networks: &[abi::Network]) {
        let first = word + 1;
        let there = |i: usize| [0, 1, 2, 3].map(|j| self.settings.load(first + i * 4 + j));
        let both = self.settings.load(word).min(used) as usize;
        let same = (0..both).take_while(|i| networks[*i].words() == there(*i)).count();
        self.settings.store(word, same as u64);
        for (i, network) in networks.iter().enumerate().skip(same) {
            for (j, value) in network.words().into_iter().enumerate() {
                self.settings.store(first + i * 4 + j, value);
            }
        }
        self.settings.store(word, used);
    }

    /// Somebody looks at dropped packets until a time (monotonic, ns); 0: nobody.
    pub fn tap_until(&self, until: u64) {
        self.settings.store(abi::TAP_UNTIL_WORD, until);
    }

    /// Samples that were due and not taken so far, over all CPUs.
    pub fn samples_lost(&self) -> io::Result<u64> {
        let cpus = self.tapped.get(&0, 0).map_err(io::Error::other)?;
        Ok(cpus.iter().map(|cpu| cpu.0.lost).sum())
    }

    /// Describes an interface; 0 is every interface that is not described. `stats` is its element of `STATS`.
    pub fn write_interface(&self, ifindex: u32, stats: u32, enforcement: u64) {
        let word = (ifindex & (interfaces::SLOTS - 1)) as usize * interfaces::Interface::WORDS;
        self.interfaces.store(word + 1, enforcement);
        self.interfaces.store(word, u64::from(ifindex) | u64::from(stats) << 32);
    }

    /// Forgets an interface.
    pub fn forget_interface(&self, ifindex: u32) {
        let word = (ifindex & (interfaces::SLOTS - 1)) as usize * interfaces::Interface::WORDS;
        if self.interfaces.load(word) as u32 == ifindex {
            self.interfaces.store(word, 0);
        }
    }

    /// Writes the header; its magic number comes last.
    pub fn write_header(&self, seed: [u64; 2], boot: [u64; 2]) {
        let words = [u64::from(LAYOUT), header::SIZES, seed[0], seed[1], boot[0], boot[1]];
        for (i, value) in words.into_iter().enumerate() {
            self.header.store(i + 1, value);
        }
        self.header.store(0, header::MAGIC);
    }
}

impl Maps {
    /// The element of `STATS` that an interface has.
    pub fn stats_element(&self, ifindex: u32) -> Option<u32> {
        let word = (ifindex & (interfaces::SLOTS - 1)) as usize * interfaces::Interface::WORDS;
        let identity = self.interfaces.load(word);
        (identity as u32 == ifindex).then_some((identity >> 32) as u32)
    }
}

impl Maps {
    /// What of the settings is not in the kernel; `interfaces` are the described ones: ifindex, element of `STATS`.
    pub fn differing_settings(&self, projected: &Projected, interfaces: &[(u32, u32)]) -> Option<String> {
        let t = &projected.thresholds;
        let flags = t.flags | self.settings.load(abi::FLAGS_WORD) & abi::FLOWS;
        let wanted = [
            ("level1", t.level1),
            ("level1_block", t.level1_block),
            ("level2", t.level2),
            ("level2_block", t.level2_block),
            ("tcp", t.tcp),
            ("fragments", t.fragments),
            ("new_sources", t.new_sources),
        ];
        let named = wanted.into_iter().enumerate().map(|(word, (name, wanted))| (word, name, wanted));
        let networks = t.networks().into_iter().flat_map(|(word, used, networks)| {
            let networks = networks.iter().take(used as usize).flat_map(abi::Network::words);
            [used].into_iter().chain(networks).enumerate().map(move |(i, wanted)| (word + i, "a network", wanted))
        });
        for (word, name, wanted) in named.chain([(abi::FLAGS_WORD, "scope", flags)]).chain(networks) {
            let there = self.settings.load(word);
            if there != wanted {
                return Some(format!("{name} is {there} in the kernel instead of {wanted}"));
            }
        }
        for (ifindex, element) in interfaces {
            let word = (ifindex & (interfaces::SLOTS - 1)) as usize * interfaces::Interface::WORDS;
            let there = [self.interfaces.load(word), self.interfaces.load(word + 1)];
            if there != [u64::from(*ifindex) | u64::from(*element) << 32, projected.enforcement] {
                return Some(format!("interface {ifindex} is not described in the kernel as it should be"));
            }
        }
        for (element, words) in projected.ports.iter().enumerate() {
            let differs = |(word, wanted)| self.ports.load(element * ports::WORDS + word) != wanted;
            if words.words().into_iter().any(differs) {
                return Some(format!("ports {}-{} differ in the kernel", element * 64, element * 64 + 63));
            }
        }
        (self.interfaces.load(1) != projected.enforcement).then(|| "the enforcement differs in the kernel".to_owned())
    }

    /// Memory of the mapped tables in bytes.
    pub fn bytes(&self) -> u64 {
        let mapped = [
            &self.header,
            &self.settings,
            &self.interfaces,
            &self.ports,
            &self.summary4,
            &self.class4,
            &self.address4,
            &self.lengths4,
            &self.lengths6,
            &self.tags,
            &self.prefix,
            &self.rate,
            &self.presence,
            &self.guard,
            &self.known_state,
        ];
        mapped.iter().map(|words| words.len() as u64 * 8).sum()
    }
}

/// The header in the words of a pinned `HEADER`, if maps of this build were filled whole.
pub fn read_header(words: &Words) -> Option<header::Header> {
    let word = |i| words.load(i);
    let ours = word(0) == header::MAGIC && word(1) == u64::from(LAYOUT) && word(2) == header::SIZES;
    ours.then(|| header::Header {
        magic: word(0),
        layout: word(1),
        sizes: word(2),
        seed: [word(3), word(4)],
        boot: [word(5), word(6)],
    })
}
