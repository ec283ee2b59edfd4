//! The maps as the core's [`Memory`], and a projected configuration written into them.

use std::sync::Arc;

use pbx_core::filter::{Memory, Table, settings::Projected};
use pbx_ebpf::abi::{LAYOUT, header, interfaces, ports, settings as abi};

use crate::{Maps, Words};

/// The kernel's tables. Clones speak of the same memory.
#[derive(Clone, Debug)]
pub struct KernelTables(pub Arc<Maps>);

impl KernelTables {
    fn table(&self, table: Table) -> (&Words, usize) {
        match table {
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
        words.load(base + word)
    }
    fn store(&mut self, table: Table, word: usize, value: u64) {
        let (words, base) = self.table(table);
        words.store(base + word, value);
    }
    fn hits(&self, table: Table, slot: usize) -> u64 {
        if table == Table::Address4 { self.0.hits4.load(slot) } else { self.0.hits.load(slot) }
    }
}

impl Maps {
    /// Writes thresholds and ports; each word is in force with the next packet.
    pub fn write_settings(&self, projected: &Projected) {
        let abi::Settings {
            level1,
            level1_block,
            level2,
            level2_block,
            tcp,
            fragments,
            new_sources,
            sample_mask,
            flags,
            short_lengths: _,
            onlink_used,
            onlink,
        } = projected.thresholds;
        // `FLOWS` says what `MEDIA` holds, not what is set.
        let flags = flags | self.settings.load(FLAGS) & abi::FLOWS;
        let scalars = [level1, level1_block, level2, level2_block, tcp, fragments, new_sources, sample_mask, flags];
        for (word, value) in scalars.into_iter().enumerate() {
            self.settings.store(word, value);
        }
        // While the prefixes change, those that stay keep their places; the number comes last.
        let first = abi::SHORT_LENGTHS_WORD + 3;
        for (i, network) in onlink.iter().enumerate() {
            let words = [network.hi, network.lo, network.mask_hi, network.mask_lo];
            for (j, value) in words.into_iter().enumerate() {
                self.settings.store(first + i * 4 + j, value);
            }
        }
        self.settings.store(first - 1, onlink_used);
        for (element, (protected, media)) in projected.ports.iter().enumerate() {
            self.ports.store(element * ports::WORDS + ports::PROTECTED, *protected);
            self.ports.store(element * ports::WORDS + ports::MEDIA, *media);
        }
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

    /// The header, if these maps were filled before.
    pub fn read_header(&self) -> Option<header::Header> {
        let word = |i| self.header.load(i);
        let header = header::Header {
            magic: word(0),
            layout: word(1),
            sizes: word(2),
            seed: [word(3), word(4)],
            boot: [word(5), word(6)],
        };
        (header.magic == header::MAGIC).then_some(header)
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

const FLAGS: usize = 8;

impl Maps {
    /// The element of `STATS` that an interface has.
    pub fn stats_element(&self, ifindex: u32) -> Option<u32> {
        let word = (ifindex & (interfaces::SLOTS - 1)) as usize * interfaces::Interface::WORDS;
        let identity = self.interfaces.load(word);
        (identity as u32 == ifindex).then_some((identity >> 32) as u32)
    }
}

impl Maps {
    /// What of the settings is not in the kernel.
    pub fn differing_settings(&self, projected: &Projected) -> Option<String> {
        let t = &projected.thresholds;
        let wanted = [
            ("level1", t.level1),
            ("level1_block", t.level1_block),
            ("level2", t.level2),
            ("level2_block", t.level2_block),
            ("tcp", t.tcp),
            ("fragments", t.fragments),
            ("new_sources", t.new_sources),
            ("sample_mask", t.sample_mask),
        ];
        for (word, (name, wanted)) in wanted.into_iter().enumerate() {
            let there = self.settings.load(word);
            if there != wanted {
                return Some(format!("{name} is {there} in the kernel instead of {wanted}"));
            }
        }
        for (element, (protected, media)) in projected.ports.iter().enumerate() {
            let there = [ports::PROTECTED, ports::MEDIA].map(|word| self.ports.load(element * ports::WORDS + word));
            if there != [*protected, *media] {
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
            &self.class4,
            &self.address4,
            &self.hits4,
            &self.lengths4,
            &self.lengths6,
            &self.tags,
            &self.prefix,
            &self.hits,
            &self.rate,
            &self.presence,
            &self.guard,
            &self.known_state,
        ];
        mapped.iter().map(|words| words.len() as u64 * 8).sum()
    }
}
