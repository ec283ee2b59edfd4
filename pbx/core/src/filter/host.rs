//! The tables in ordinary memory: the judgement on the host, for tests, and for a machine without XDP.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use pbx_ebpf::{
    abi::{
        Source, address4, automatic, events, guard, interfaces, known, media, ports, prefix, presence, rate,
        settings as abi,
        stats::{self, Reason},
    },
    hash::Seed,
    packet::{Frame, View},
    rate::Slot,
    rules,
    tables::{RuleMaps, Tables},
    verdict::{self, Judged},
};

use super::{Memory, Table, settings::Projected};

type Words = Box<[AtomicU64]>;
type Blocks = HashMap<Source, Arc<Entry>>;

/// A block that some threads judge by while others replace or remove it.
#[derive(Debug)]
struct Entry([AtomicU64; automatic::Block::WORDS]);

impl Entry {
    fn new(block: automatic::Block) -> Self {
        let entry = Entry([const { AtomicU64::new(0) }; automatic::Block::WORDS]);
        entry.set(block);
        entry
    }
    fn set(&self, block: automatic::Block) {
        // SAFETY: both are that many words, and any words are either.
        let words: [u64; automatic::Block::WORDS] = unsafe { std::mem::transmute(block) };
        self.0.iter().zip(words).for_each(|(word, value)| word.store(value, SeqCst));
    }
    fn block(&self) -> automatic::Block {
        let words: [u64; automatic::Block::WORDS] = std::array::from_fn(|i| self.0[i].load(SeqCst));
        // SAFETY: as above.
        unsafe { std::mem::transmute(words) }
    }
}

/// Zeroes that take no memory until they are written.
fn words(n: usize) -> Words {
    let zeroes = vec![0u64; n].into_boxed_slice();
    // SAFETY: an `AtomicU64` has the size and alignment of a `u64` and any bits are one; the box changes hands whole.
    unsafe { Box::from_raw(Box::into_raw(zeroes) as *mut [AtomicU64]) }
}

/// All tables. Several threads may judge while one writes; the clock and the counters are the thread's own.
#[derive(Debug)]
pub struct HostTables {
    seed: Seed,
    settings: Words,
    interfaces: Words,
    ports: Words,
    summary4: Words,
    class4: Words,
    address4: Words,
    lengths4: Words,
    lengths6: Words,
    tags: Words,
    prefix: Words,
    rate: Words,
    presence: Words,
    guard: Words,
    known_state: Words,
    pending: AtomicU64,
    automatic: Mutex<Blocks>,
    web: Mutex<Blocks>,
    known: Mutex<HashMap<known::Key, known::Known>>,
    media: Mutex<std::collections::HashSet<media::Flow>>,
}

impl HostTables {
    /// Empty tables.
    pub fn new(seed: Seed) -> Self {
        HostTables {
            seed,
            settings: words(abi::Settings::WORDS),
            interfaces: words(interfaces::SLOTS as usize * interfaces::Interface::WORDS),
            ports: words(ports::ELEMENTS as usize * ports::WORDS),
            summary4: words(address4::SUMMARY_ELEMENTS as usize),
            class4: words(address4::CLASS_ELEMENTS as usize),
            address4: words(address4::LINE_WORDS << address4::LINE_BITS),
            lengths4: words(1 << 16),
            lengths6: words(2 << prefix::LENGTHS6_BITS),
            tags: words(1 << prefix::SET_BITS),
            prefix: words(prefix::SET_WORDS << prefix::SET_BITS),
            rate: words(rate::SET_WORDS * rate::ELEMENTS as usize),
            presence: words(2 << presence::BITS),
            guard: words(guard::Guard::WORDS),
            known_state: words(known::MAX as usize),
            pending: AtomicU64::new(0),
            automatic: Mutex::default(),
            web: Mutex::default(),
            known: Mutex::default(),
            media: Mutex::default(),
        }
    }
    /// Puts settings in force, with one interface.
    pub fn settings(&self, projected: &Projected, ifindex: u32) {
        for (word, value) in self.settings.iter().zip(projected.thresholds.scalars()) {
            word.store(value, SeqCst);
        }
        if !lock(&self.media).is_empty() {
            self.settings[FLAGS].fetch_or(abi::FLOWS, SeqCst);
        }
        for (word, used, networks) in projected.thresholds.networks() {
            let values = [used].into_iter().chain(networks.iter().flat_map(abi::Network::words));
            self.settings[word..].iter().zip(values).for_each(|(word, value)| word.store(value, SeqCst));
        }
        let element = (ifindex & (interfaces::SLOTS - 1)) as usize * interfaces::Interface::WORDS;
        self.interfaces[element].store(u64::from(ifindex), SeqCst);
        self.interfaces[element + 1].store(projected.enforcement, SeqCst);
        for (element, words) in projected.ports.iter().enumerate() {
            for (word, value) in words.words() {
                self.ports[element * ports::WORDS + word].store(value, SeqCst);
            }
        }
    }
    /// Judges a frame at a time (ns).
    pub fn judge(&self, frame: &[u8], ifindex: u32, now: u64) -> Judged {
        verdict::judge(&Moment::of(self, now), &Bytes(frame), ifindex)
    }
    /// Adds a known source.
    pub fn add_known(&self, key: known::Key, known: known::Known) {
        lock(&self.known).insert(key, known);
        let (element, bit) = pbx_ebpf::hash::presence(key.hi, key.lo, self.seed);
        self.presence[element as usize * 2 + presence::KNOWN].fetch_or(bit, SeqCst);
    }
    /// Forgets a known source.
    pub fn remove_known(&self, key: &known::Key) {
        // The presence bit stays: it may be another source's as well, and costs a look at most.
        lock(&self.known).remove(key);
    }
    /// The budget of a known source.
    pub fn known_budget(&self, key: &known::Key) -> Option<u32> {
        lock(&self.known).get(key).map(|known| known.budget)
    }
    /// What the manual rules say of a source (IPv4 mapped) at a time (ns), without counting it.
    pub fn say(&self, v6: bool, hi: u64, lo: u64, now: u64) -> rules::Said {
        rules::say(&Moment::of(self, now), v6, hi, lo)
    }
    /// Every source whose packets to protected ports are counted in a running second at `now`: packets, and when
    /// the second began (ns).
    pub fn rates(&self, now: u64) -> Vec<(Source, u64, u64)> {
        let running = |slot: &Slot| pbx_ebpf::rate::current(self.rate[slot.word].load(SeqCst), now);
        let levels = self.rate_slots().filter(|slot| slot.kind == rate::LEVELS);
        levels.map(|slot| (slot.source, running(&slot), slot.start)).filter(|(_, count, _)| *count > 0).collect()
    }
    /// Forgets what was counted of the sources that `of` names: their next packet is their first.
    pub fn reset_rates(&self, of: impl Fn(Source) -> bool) {
        for slot in self.rate_slots().filter(|slot| of(slot.source)) {
            let state = self.rate[slot.word].load(SeqCst);
            // Whoever counted meanwhile has begun anew already.
            let _ = self.rate[slot.word].compare_exchange(state, state & rate::OWNER, SeqCst, SeqCst);
        }
    }
    fn rate_slots(&self) -> impl Iterator<Item = Slot> {
        let words = (0..rate::ELEMENTS).flat_map(pbx_ebpf::rate::slots);
        words.filter_map(|word| pbx_ebpf::rate::slot(word, |word| self.rate[word].load(SeqCst)))
    }
    /// Whether new sources come so fast that no new blocks are made; and whether the table of blocks is full.
    pub fn alarms(&self, now: u64) -> (bool, bool) {
        let [on, last, full] = [1, 2, 3].map(|word| self.guard[word].load(SeqCst));
        (on == 1 && now < last.saturating_add(guard::CALM), full == 1)
    }
    /// Adds a media flow.
    pub fn add_flow(&self, flow: media::Flow) {
        lock(&self.media).insert(flow);
        self.settings[FLAGS].fetch_or(abi::FLOWS, SeqCst);
    }
    /// Makes an automatic block, as a detector does: of the web ports alone, beside the other kind, if it says so.
    /// `false`: the table is full.
    pub fn add_block(&self, source: Source, block: automatic::Block) -> bool {
        let (table, most) =
            if block.is_web_only() { (&self.web, automatic::WEB_MAX) } else { (&self.automatic, automatic::MAX) };
        if !put(&mut lock(table), most, source, block) {
            return false;
        }
        let (element, bit) = pbx_ebpf::hash::presence(source.hi, source.lo, self.seed);
        self.presence[element as usize * 2 + presence::AUTOMATIC].fetch_or(bit, SeqCst);
        true
    }
    /// The automatic block of exactly this source.
    pub fn block_of(&self, source: Source, web_only: bool) -> Option<automatic::Block> {
        let table = if web_only { &self.web } else { &self.automatic };
        lock(table).get(&source).map(|entry| entry.block())
    }
    /// Ends the automatic blocks of a source that `ends` names; whether there was one.
    pub fn remove_block(&self, source: Source, ends: impl Fn(&automatic::Block) -> bool) -> bool {
        let remove = |table: &Mutex<Blocks>| {
            let mut table = lock(table);
            table.get(&source).is_some_and(|entry| ends(&entry.block())) && table.remove(&source).is_some()
        };
        let [whole, web] = [&self.automatic, &self.web].map(remove);
        whole || web
    }
    /// Holds a media port for a call.
    pub fn hold(&self, port: u16) {
        let word = usize::from(port >> 6) * ports::WORDS + ports::HELD;
        self.ports[word].fetch_or(1 << (port & 63), SeqCst);
    }
    /// Closes a media port.
    pub fn release(&self, port: u16) {
        let word = usize::from(port >> 6) * ports::WORDS + ports::HELD;
        self.ports[word].fetch_and(!(1 << (port & 63)), SeqCst);
    }
    /// Every media port that is held.
    pub fn held(&self) -> Vec<u16> {
        let word = |port: u16| self.ports[usize::from(port >> 6) * ports::WORDS + ports::HELD].load(SeqCst);
        (0..=u16::MAX).filter(|port| word(*port) & 1 << (port & 63) != 0).collect()
    }
    /// The media flows.
    pub fn flows(&self) -> Vec<media::Flow> {
        lock(&self.media).iter().copied().collect()
    }
    /// Ends a media flow.
    pub fn remove_flow(&self, flow: &media::Flow) {
        // The flag stays: it costs a look at most.
        lock(&self.media).remove(flow);
    }
    /// The automatic blocks, of both kinds.
    pub fn automatic(&self) -> Vec<(Source, automatic::Block)> {
        let all = |table: &Mutex<Blocks>| {
            lock(table).iter().map(|(source, entry)| (*source, entry.block())).collect::<Vec<_>>()
        };
        [&self.automatic, &self.web].into_iter().flat_map(all).collect()
    }
}

/// Puts a block into a table that takes so many; `false`: it is full.
fn put(blocks: &mut Blocks, most: u32, source: Source, block: automatic::Block) -> bool {
    if blocks.len() >= most as usize && !blocks.contains_key(&source) {
        return false;
    }
    match blocks.get(&source) {
        Some(there) => there.set(block),
        None => drop(blocks.insert(source, Arc::new(Entry::new(block)))),
    }
    true
}

/// Word of `Settings::flags`.
const FLAGS: usize = abi::FLAGS_WORD;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory for &HostTables {
    fn load(&self, table: Table, word: usize) -> u64 {
        self.table(table)[super::word(table, word)].load(SeqCst)
    }
    fn store(&mut self, table: Table, word: usize, value: u64) {
        self.table(table)[super::word(table, word)].store(value, SeqCst);
    }
    fn hits(&self, table: Table, slot: usize) -> u64 {
        self.table(table)[super::hit_word(table, slot)].load(SeqCst)
    }
}

impl Memory for std::sync::Arc<HostTables> {
    fn load(&self, table: Table, word: usize) -> u64 {
        (&**self).load(table, word)
    }
    fn store(&mut self, table: Table, word: usize, value: u64) {
        (&**self).store(table, word, value);
    }
    fn hits(&self, table: Table, slot: usize) -> u64 {
        Memory::hits(&&**self, table, slot)
    }
}

impl HostTables {
    fn table(&self, table: Table) -> &[AtomicU64] {
        match table {
            Table::Summary4 => &self.summary4,
            Table::Class4 => &self.class4,
            Table::Address4 => &self.address4,
            Table::Lengths4 => &self.lengths4,
            Table::Lengths6 => &self.lengths6,
            Table::Tags => &self.tags,
            Table::Prefix => &self.prefix,
            Table::ShortLengths => &self.settings[abi::SHORT_LENGTHS_WORD..abi::SHORT_LENGTHS_WORD + 2],
        }
    }
}

/// The tables at a moment.
struct Moment<'a> {
    tables: &'a HostTables,
    now: u64,
    /// Blocks that were looked up: somebody may remove them before the judgement is over.
    held: RefCell<Vec<Arc<Entry>>>,
}

impl<'a> Moment<'a> {
    fn of(tables: &'a HostTables, now: u64) -> Self {
        Moment { tables, now, held: RefCell::default() }
    }
    fn hold(&self, blocks: &Mutex<Blocks>, source: &Source) -> Option<*mut automatic::Block> {
        let entry = Arc::clone(lock(blocks).get(source)?);
        let words = entry.0.as_ptr().cast_mut();
        self.held.borrow_mut().push(entry);
        Some(words.cast())
    }
}

fn element(words: &[AtomicU64], element: u32, size: usize) -> Option<*mut u64> {
    words.get(element as usize * size).map(AtomicU64::as_ptr)
}

impl RuleMaps for Moment<'_> {
    fn seed(&self) -> Seed {
        self.tables.seed
    }
    fn now(&self) -> u64 {
        self.now
    }
    fn settings(&self) -> Option<*mut abi::Settings> {
        element(&self.tables.settings, 0, 1).map(|p| p.cast())
    }
    fn summary4(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.summary4, i, 1)
    }
    fn class4(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.class4, i, 1)
    }
    fn address4(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.address4, i, address4::LINE_WORDS)
    }
    fn lengths4(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.lengths4, i, 1)
    }
    fn lengths6(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.lengths6, i, 2)
    }
    fn tags(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.tags, i, 1)
    }
    fn prefix(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.prefix, i, prefix::SET_WORDS)
    }
}

impl Tables for Moment<'_> {
    fn interface(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.interfaces, i, interfaces::Interface::WORDS)
    }
    fn ports(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.ports, i, ports::WORDS)
    }
    fn rate(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.rate, i, rate::SET_WORDS)
    }
    fn presence(&self, i: u32) -> Option<*mut u64> {
        element(&self.tables.presence, i, 2)
    }
    fn guard(&self) -> Option<*mut u64> {
        element(&self.tables.guard, 0, 1)
    }
    fn pending(&self) -> Option<*mut u64> {
        Some(self.tables.pending.as_ptr())
    }
    fn automatic(&self, source: &Source) -> Option<*mut automatic::Block> {
        self.hold(&self.tables.automatic, source)
    }
    fn web(&self, source: &Source) -> Option<*mut automatic::Block> {
        self.hold(&self.tables.web, source)
    }
    fn block(&self, source: &Source, block: &automatic::Block) -> bool {
        put(&mut lock(&self.tables.automatic), automatic::MAX, *source, *block)
    }
    fn known(&self, key: &known::Key) -> Option<known::Known> {
        lock(&self.tables.known).get(key).copied()
    }
    fn known_state(&self, slot: u32) -> Option<*mut u64> {
        element(&self.tables.known_state, slot, 1)
    }
    fn media(&self, flow: &media::Flow) -> bool {
        lock(&self.tables.media).contains(flow)
    }
    fn count(&self, _: u32, _: Reason, _: u64) -> u64 {
        1
    }
    fn event(&self, _: &events::Event) {}
}

/// A frame in one buffer.
pub struct Bytes<'a>(pub &'a [u8]);

impl Frame for Bytes<'_> {
    fn view(&self, offset: usize, length: usize) -> Option<View> {
        let bytes = self.0.get(offset..offset.checked_add(length)?)?;
        // SAFETY: `bytes` has `length` readable bytes.
        Some(unsafe { View::new(bytes.as_ptr()) })
    }
    fn linear(&self) -> usize {
        self.0.len()
    }
    fn total(&self) -> usize {
        self.0.len()
    }
}

const _: () = assert!(stats::REASONS <= 32);
