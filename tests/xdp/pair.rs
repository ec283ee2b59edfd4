//! The two judges of a packet side by side: the loaded kernel program by test run, and the host code over
//! tables of its own. Every rule, setting and block goes into both; every packet is judged by both, and they
//! have to agree. The clock is a number.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use pbx_core::{
    address::Prefix,
    filter::{
        Full, Key, Memory, RuleTables, Table, Until,
        host::HostTables,
        settings::{Projected, project},
    },
    rule::Action,
    settings::Settings,
};
use pbx_ebpf::{
    abi::{
        Source,
        automatic::Block,
        events::{Event, Sample},
        interfaces::Interface,
        known, media, ports, presence,
        settings::{FLOWS, Settings as Thresholds},
        stats::Reason,
        tick,
    },
    hash::{self, Seed},
};
use pbx_tests::{frames::Frame, sandbox::Sandbox};
use pbx_xdp::{
    KernelTables, Loaded, Options,
    maps::{FlowKey, KnownKey, KnownValue},
};

/// A test run arrives on the loopback interface of the network namespace.
pub(crate) const INTERFACE: u32 = 1;
/// The interface's element of `STATS`.
const ELEMENT: u32 = 1;
/// A second (ns).
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Host tables that a rule set and a judge share.
#[derive(Clone, Debug)]
pub(crate) struct Shared(pub(crate) Arc<HostTables>);

impl Memory for Shared {
    fn load(&self, table: Table, word: usize) -> u64 {
        (&*self.0).load(table, word)
    }
    fn store(&mut self, table: Table, word: usize, value: u64) {
        (&mut &*self.0).store(table, word, value);
    }
    fn hits(&self, table: Table, slot: usize) -> u64 {
        (&*self.0).hits(table, slot)
    }
}

/// What became of a packet, in the kernel and on the host alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Why it passed or was dropped.
    pub(crate) reason: Reason,
}

/// Kernel and host.
pub(crate) struct Pair {
    pub(crate) kernel: Loaded,
    pub(crate) host: Arc<HostTables>,
    pub(crate) kernel_rules: RuleTables<KernelTables>,
    pub(crate) host_rules: RuleTables<Shared>,
    pub(crate) settings: Settings,
    pub(crate) seed: Seed,
    /// Monotonic time (ns).
    pub(crate) now: u64,
    rules: Vec<(Prefix, Action)>,
    known: u32,
}

/// Runs a test with a pair of its own in a namespace of its own.
pub(crate) fn with_pair<T: Send>(test: impl FnOnce(&mut Pair) -> T + Send) -> T {
    Sandbox::run(|_| test(&mut Pair::new(Seed(0x5eed, 0xf00d))))
}

impl Pair {
    pub(crate) fn new(seed: Seed) -> Self {
        let kernel = Loaded::load(&Options { seed, test_clock: true, ..Options::default() }).unwrap_or_else(|error| {
            panic!("the filter does not load (root and a kernel with BTF are needed): {error}")
        });
        let host = Arc::new(HostTables::new(seed));
        let none = || std::iter::empty();
        let kernel_rules = RuleTables::adopt(KernelTables(kernel.maps.clone()), seed, none(), []).expect("empty");
        let host_rules = RuleTables::adopt(Shared(host.clone()), seed, none(), []).expect("empty");
        let settings = Settings::default();
        let now = 1000 * SECOND;
        let mut pair =
            Pair { kernel, host, kernel_rules, host_rules, settings, seed, now, rules: Vec::new(), known: 0 };
        pair.begin();
        pair
    }

    /// No rules, default settings in force, and late enough for every block and window to be over.
    pub(crate) fn begin(&mut self) {
        for (prefix, action) in std::mem::take(&mut self.rules) {
            self.rule(&prefix, action, None);
        }
        self.own(&[]);
        self.settings = Settings::default();
        self.set("filter.mode", "enforce");
        self.now += 7200 * SECOND;
    }

    /// Sets a setting.
    pub(crate) fn set(&mut self, key: &str, text: &str) {
        self.settings.set(key, text).unwrap_or_else(|error| panic!("{key} = {text}: {error}"));
        let projected = self.projected();
        self.kernel.maps.write_settings(&projected);
        self.kernel.maps.write_interface(INTERFACE, ELEMENT, projected.enforcement);
        self.host.settings(&projected, INTERFACE);
    }

    fn projected(&self) -> Projected {
        project(&self.settings, &[], &[])
    }

    /// Sets or removes a rule.
    pub(crate) fn rule(&mut self, prefix: &Prefix, action: Action, until: Option<Until>) {
        self.try_rule(prefix, action, until).unwrap_or_else(|full| panic!("{prefix}: {full}"));
    }

    fn try_rule(&mut self, prefix: &Prefix, action: Action, until: Option<Until>) -> Result<(), Full> {
        if until.is_some() {
            self.rules.push((*prefix, action));
        }
        self.kernel_rules.set(prefix, action, until)?;
        self.host_rules.set(prefix, action, until)
    }

    /// Replaces the appliance's own addresses.
    pub(crate) fn own(&mut self, own: &[IpAddr]) {
        self.kernel_rules.own(own.iter().copied()).expect("room for own addresses");
        self.host_rules.own(own.iter().copied()).expect("room for own addresses");
    }

    /// Adds a known source; port 0: the whole address.
    pub(crate) fn known(&mut self, addr: IpAddr, port: u16, budget: u32) {
        let Source { hi, lo } = source(addr);
        let key = known::Key { hi, lo, port: u64::from(port) };
        let value = known::Known { budget, slot: self.known };
        self.known += 1;
        let maps = &self.kernel.maps;
        lock(&maps.known).insert(KnownKey(key), KnownValue(value), 0).expect("room for a known source");
        let (element, bit) = hash::presence(hi, lo, self.seed);
        maps.presence.set_bits(element as usize * 2 + presence::KNOWN, bit);
        self.host.add_known(key, value);
    }

    /// Adds a media flow.
    pub(crate) fn flow(&mut self, addr: IpAddr, port: u16) {
        let Source { hi, lo } = source(addr);
        let flow = media::Flow { hi, lo, port: u64::from(port) };
        let maps = &self.kernel.maps;
        lock(&maps.media).insert(FlowKey(flow), 1, 0).expect("room for a flow");
        maps.settings.set_bits(std::mem::offset_of!(Thresholds, flags) / 8, FLOWS);
        self.host.add_flow(flow);
    }

    /// Holds a media port.
    pub(crate) fn hold(&mut self, port: u16) {
        let word = usize::from(port >> 6) * ports::WORDS + ports::HELD;
        self.kernel.maps.ports.set_bits(word, 1 << (port & 63));
        self.host.hold(port);
    }

    /// Makes an automatic block of a level (0: a detector's) that lasts `lasts` ns.
    pub(crate) fn blocked(&mut self, source: Source, level: u32, flags: u32, lasts: u64) {
        let block = Block { expires: self.now + lasts, since: self.now, level, flags, ..Block::default() };
        self.kernel.maps.add_block(self.seed, source, block).expect("room for a block");
        assert!(self.host.add_block(source, block));
    }

    /// The live automatic block of a source, the same in the kernel and on the host.
    pub(crate) fn block_of(&self, addr: IpAddr) -> Option<Block> {
        let live = |(of, block): &(Source, Block)| *of == source(addr) && self.now < block.expires;
        let kernel = self.kernel.maps.blocks().expect("AUTOMATIC can be read").into_iter().find(live);
        let host = self.host.automatic().into_iter().find(live);
        assert_eq!(kernel, host, "the block of {addr} in the kernel and on the host");
        kernel.map(|(_, block)| block)
    }

    /// Events since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut ring = lock(&self.kernel.maps.events);
        let ring = ring.as_mut().expect("nobody took the ring");
        let mut events = Vec::new();
        while let Some(record) = ring.next() {
            let bytes: &[u8] = &record;
            assert_eq!(bytes.len(), size_of::<Event>());
            // SAFETY: a record of this size is an `Event`, which any bytes are.
            events.push(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() });
        }
        events
    }

    /// Weights of the samples of dropped packets since the last call.
    pub(crate) fn samples(&mut self) -> Vec<u64> {
        let mut ring = lock(&self.kernel.maps.samples);
        let ring = ring.as_mut().expect("nobody took the ring");
        let mut samples = Vec::new();
        while let Some(record) = ring.next() {
            let bytes: &[u8] = &record;
            assert_eq!(bytes.len(), size_of::<Sample>());
            // SAFETY: a record of this size is a `Sample`, which any bytes are.
            samples.push(unsafe { bytes.as_ptr().cast::<Sample>().read_unaligned() }.weight);
        }
        samples
    }

    /// Samples one in so many dropped packets of the test runs' interface, whatever the setting says.
    pub(crate) fn sample(&self, one_in: u64) {
        let enforcement = Interface::with_sampling(self.projected().enforcement, one_in);
        self.kernel.maps.write_interface(INTERFACE, ELEMENT, enforcement);
    }

    /// Judges a frame by both: reason, action and counters have to fit.
    pub(crate) fn judge(&mut self, frame: &[u8]) -> Seen {
        self.kernel.maps.clock.store(0, self.now);
        let before = self.counters();
        let action = self.kernel.run(frame, 1).unwrap_or_else(|error| panic!("{frame:02x?}: {error}"));
        let after = self.counters();
        let mut counted: BTreeMap<Reason, [u64; 2]> = BTreeMap::new();
        for reason in Reason::ALL {
            let [packets, bytes] = [0, 1].map(|i| after[reason as usize][i] - before[reason as usize][i]);
            if packets != 0 {
                counted.insert(reason, [packets, bytes]);
            }
        }
        let judged = self.host.judge(frame, INTERFACE, self.now).reason;
        let own = counted.remove(&judged);
        assert_eq!(
            own.map(|[packets, _]| packets),
            Some(1),
            "the host says {judged:?}, the kernel counted {counted:?} for {frame:02x?}"
        );
        assert_eq!(action, if judged.drops() { 1 } else { 2 }, "action for {judged:?}");
        assert!(counted.is_empty(), "a packet is counted once, and not as {counted:?} too");
        Seen { reason: judged }
    }

    /// The reason for which a frame passes or is dropped.
    pub(crate) fn says(&mut self, frame: &Frame) -> Reason {
        self.judge(&frame.build()).reason
    }

    /// Sends a frame `n` times, for each of which the reason has to be the same.
    pub(crate) fn repeat(&mut self, frame: &Frame, n: u64, reason: Reason) {
        let frame = frame.build();
        for i in 1..=n {
            assert_eq!(self.judge(&frame).reason, reason, "packet {i} of {n}");
        }
    }

    /// The time `ticks` expiry ticks after the one that runs now.
    pub(crate) fn in_ticks(&self, ticks: u32) -> Until {
        Until::Tick(tick(self.now) as u32 + ticks)
    }

    fn counters(&self) -> [[u64; 2]; 32] {
        let mut sum = [[0; 2]; 32];
        for cpu in self.kernel.maps.stats.get(&ELEMENT, 0).expect("STATS can be read").iter() {
            for (sum, counted) in sum.iter_mut().zip(cpu.0) {
                sum[0] += counted[0];
                sum[1] += counted[1];
            }
        }
        sum
    }
}

/// An address as the tables of single sources know it.
pub(crate) fn source(addr: IpAddr) -> Source {
    let key = Key::of(&Prefix::host(addr));
    Source { hi: key.hi(), lo: key.lo() }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
