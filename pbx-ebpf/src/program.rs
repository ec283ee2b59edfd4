//! Maps, and what the judgement asks of them.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    macros::{map, xdp},
    maps::{Array, HashMap, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use pbx_ebpf::{
    abi::{
        MMAPABLE, Source, address4, automatic, events, guard, header, interfaces, known, media, ports, prefix,
        presence, rate, settings,
        stats::{self, Reason},
    },
    hash::Seed,
    packet::{Frame, View},
    rules,
    tables::{RuleMaps, Tables},
    verdict::{self, Judged},
    word,
};

#[map]
static HEADER: Array<header::Header> = Array::with_max_entries(1, MMAPABLE);
#[map]
static SETTINGS: Array<settings::Settings> = Array::with_max_entries(1, MMAPABLE);
#[map]
static INTERFACES: Array<interfaces::Interface> = Array::with_max_entries(interfaces::SLOTS, MMAPABLE);
#[map]
static PORTS: Array<[u64; ports::WORDS]> = Array::with_max_entries(ports::ELEMENTS, MMAPABLE);
#[map]
static SUMMARY4: Array<u64> = Array::with_max_entries(address4::SUMMARY_ELEMENTS, MMAPABLE);
#[map]
static CLASS4: Array<u64> = Array::with_max_entries(address4::CLASS_ELEMENTS, MMAPABLE);
#[map]
static ADDRESS4: Array<[u64; address4::LINE_WORDS]> = Array::with_max_entries(1 << address4::LINE_BITS, MMAPABLE);
#[map]
static LENGTHS4: Array<u64> = Array::with_max_entries(1 << 16, MMAPABLE);
#[map]
static LENGTHS6: Array<[u64; 2]> = Array::with_max_entries(1 << prefix::LENGTHS6_BITS, MMAPABLE);
#[map]
static TAGS: Array<u64> = Array::with_max_entries(1 << prefix::SET_BITS, MMAPABLE);
#[map]
static PREFIX: Array<[u64; prefix::SET_WORDS]> = Array::with_max_entries(1 << prefix::SET_BITS, MMAPABLE);
#[map]
static RATE: Array<[u64; rate::SET_WORDS]> = Array::with_max_entries(rate::ELEMENTS, MMAPABLE);
#[map]
static PRESENCE: Array<[u64; 2]> = Array::with_max_entries(1 << presence::BITS, MMAPABLE);
#[map]
static GUARD: Array<guard::Guard> = Array::with_max_entries(1, MMAPABLE);
#[map]
static PENDING: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static AUTOMATIC: HashMap<Source, automatic::Block> = HashMap::with_max_entries(automatic::MAX, 0);
#[map]
static WEB: HashMap<Source, automatic::Block> = HashMap::with_max_entries(automatic::WEB_MAX, 0);
#[map]
static KNOWN: HashMap<known::Key, known::Known> = HashMap::with_max_entries(known::MAX, 0);
#[map]
static KNOWN_STATE: Array<u64> = Array::with_max_entries(known::MAX, MMAPABLE);
#[map]
static MEDIA: HashMap<media::Flow, u64> = HashMap::with_max_entries(media::MAX, 0);
#[map]
static STATS: PerCpuArray<[[u64; 2]; stats::REASONS]> = PerCpuArray::with_max_entries(stats::INTERFACES, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(events::BYTES, 0);
#[map]
static SAMPLES: RingBuf = RingBuf::with_byte_size(events::SAMPLES_BYTES, 0);
#[map]
static TAPPED: PerCpuArray<events::Tapped> = PerCpuArray::with_max_entries(1, 0);
/// Time of a test run (`TEST_CLOCK`).
#[map]
static CLOCK: Array<u64> = Array::with_max_entries(1, MMAPABLE);

// Constants set at load; the verifier removes what they switch off.
#[unsafe(no_mangle)]
static SEED0: u64 = 0;
#[unsafe(no_mangle)]
static SEED1: u64 = 0;
/// 1: the time is `CLOCK`'s word, for tests of time rules.
#[unsafe(no_mangle)]
static TEST_CLOCK: u8 = 0;
/// 0 switches the hit words, the reason counters off, to measure their price.
#[unsafe(no_mangle)]
static COUNT_HITS: u8 = 1;
#[unsafe(no_mangle)]
static COUNT_REASONS: u8 = 1;

/// The coarse clock as it was read last, in one word that no other CPU tears: the low bits of the jiffy in which
/// it was read, and the time. 0: it was not read yet.
static mut LATEST: u64 = 0;
/// Bits of the time in `LATEST`; the others, 25, come round again after 9 hours at least, and do harm only if
/// nobody read the clock in the meantime, for one jiffy.
const LATEST_BITS: u32 = 39;
/// Always 0, which the verifier does not know.
static mut ZERO: u64 = 0;

/// The coarse clock moves once a jiffy, and is a call; the jiffies are a load, because the kernel puts it in the
/// place of the call.
#[inline(always)]
fn coarse_clock() -> u64 {
    let latest = &raw mut LATEST;
    // SAFETY: no arguments; a word of the program's own.
    unsafe {
        let jiffy = bpf_jiffies64() << LATEST_BITS;
        let read = word::load(latest);
        if (read ^ jiffy) >> LATEST_BITS == 0 && read != 0 {
            return read << (64 - LATEST_BITS) >> (64 - LATEST_BITS - rate::UNIT_SHIFT);
        }
        let unit = bpf_ktime_get_coarse_ns() >> rate::UNIT_SHIFT;
        if unit >> LATEST_BITS == 0 {
            word::store(latest, jiffy | unit);
        }
        unit << rate::UNIT_SHIFT
    }
}

macro_rules! constant {
    ($name:ident) => {
        // SAFETY: read-only data, fixed before the program was loaded.
        unsafe { core::ptr::read_volatile(&raw const $name) }
    };
}

struct Kernel;

impl RuleMaps for Kernel {
    #[inline(always)]
    fn seed(&self) -> Seed {
        Seed(constant!(SEED0), constant!(SEED1))
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        if constant!(TEST_CLOCK) == 1 {
            return match CLOCK.get_ptr(0) {
                // SAFETY: the element lives as long as the map.
                Some(now) => unsafe { core::ptr::read_volatile(now) },
                None => 0,
            };
        }
        coarse_clock()
    }
    #[inline(always)]
    fn settings(&self) -> Option<*mut settings::Settings> {
        SETTINGS.get_ptr_mut(0)
    }
    #[inline(always)]
    fn summary4(&self, element: u32) -> Option<*mut u64> {
        SUMMARY4.get_ptr_mut(element)
    }
    #[inline(always)]
    fn class4(&self, element: u32) -> Option<*mut u64> {
        CLASS4.get_ptr_mut(element)
    }
    #[inline(always)]
    fn address4(&self, line: u32) -> Option<*mut u64> {
        ADDRESS4.get_ptr_mut(line).map(|p| p.cast())
    }
    #[inline(always)]
    fn counts_hits(&self) -> bool {
        constant!(COUNT_HITS) != 0
    }
    #[inline(always)]
    fn lengths4(&self, element: u32) -> Option<*mut u64> {
        LENGTHS4.get_ptr_mut(element)
    }
    #[inline(always)]
    fn lengths6(&self, bucket: u32) -> Option<*mut u64> {
        LENGTHS6.get_ptr_mut(bucket).map(|p| p.cast())
    }
    #[inline(always)]
    fn tags(&self, set: u32) -> Option<*mut u64> {
        TAGS.get_ptr_mut(set)
    }
    #[inline(always)]
    fn prefix(&self, set: u32) -> Option<*mut u64> {
        PREFIX.get_ptr_mut(set).map(|p| p.cast())
    }
    #[inline(always)]
    fn exact4(&self, address: u32, now: u64) -> u64 {
        pbx_exact4(address, now)
    }
    #[inline(always)]
    fn say4_again(&self, address: u32, now: u64) -> u64 {
        pbx_say4_again(address, now)
    }
    #[inline(always)]
    fn probe(&self, hi: u64, lo: u64, code: u64, now: u64) -> u64 {
        pbx_probe(hi, lo, code, now)
    }
}

impl Tables for Kernel {
    #[inline(always)]
    fn interface(&self, element: u32) -> Option<*mut u64> {
        INTERFACES.get_ptr_mut(element).map(|p| p.cast())
    }
    #[inline(always)]
    fn ports(&self, element: u32) -> Option<*mut u64> {
        PORTS.get_ptr_mut(element).map(|p| p.cast())
    }
    #[inline(always)]
    fn rate(&self, set: u32) -> Option<*mut u64> {
        RATE.get_ptr_mut(set).map(|p| p.cast())
    }
    #[inline(always)]
    fn presence(&self, element: u32) -> Option<*mut u64> {
        PRESENCE.get_ptr_mut(element).map(|p| p.cast())
    }
    #[inline(always)]
    fn guard(&self) -> Option<*mut u64> {
        GUARD.get_ptr_mut(0).map(|p| p.cast())
    }
    #[inline(always)]
    fn pending(&self) -> Option<*mut u64> {
        PENDING.get_ptr_mut(0)
    }
    #[inline(always)]
    fn automatic(&self, source: &Source) -> Option<*mut automatic::Block> {
        AUTOMATIC.get_ptr_mut(source)
    }
    #[inline(always)]
    fn web(&self, source: &Source) -> Option<*mut automatic::Block> {
        WEB.get_ptr_mut(source)
    }
    #[inline(always)]
    fn block(&self, source: &Source, block: &automatic::Block) -> bool {
        AUTOMATIC.insert(source, block, 0).is_ok()
    }
    #[inline(always)]
    fn known(&self, key: &known::Key) -> Option<known::Known> {
        // SAFETY: replaced as a whole by the daemon; a torn pair of numbers lasts one packet.
        unsafe { KNOWN.get(key) }.copied()
    }
    #[inline(always)]
    fn known_state(&self, slot: u32) -> Option<*mut u64> {
        KNOWN_STATE.get_ptr_mut(slot)
    }
    #[inline(always)]
    fn media(&self, flow: &media::Flow) -> bool {
        // SAFETY: only its existence is asked.
        unsafe { MEDIA.get(flow) }.is_some()
    }
    #[inline(always)]
    fn count(&self, stats: u32, reason: Reason, length: u64) -> u64 {
        if constant!(COUNT_REASONS) == 0 {
            return 1;
        }
        let Some(counters) = STATS.get_ptr_mut(stats) else { return 1 };
        // SAFETY: this CPU's own element; a reason is below REASONS.
        unsafe {
            // The verifier does not know what the compiler knows of a reason's range: show it the mask.
            let index = core::hint::black_box(reason as usize) & (stats::REASONS - 1);
            let pair = counters.cast::<u64>().add(index * 2);
            *pair += 1;
            *pair.add(1) += length;
            *pair
        }
    }
    #[inline(always)]
    fn counted(&self, hi: u64, lo: u64, kind: u64, now: u64, limit_new: u64) -> u64 {
        pbx_counted(hi, lo, kind, now, limit_new)
    }
    #[inline(always)]
    fn event(&self, event: &events::Event) {
        if let Some(mut entry) = EVENTS.reserve::<events::Event>(0) {
            entry.write(*event);
            entry.submit(0);
        }
    }
}

// Global functions: the kernel verifies each once, whatever its callers know of the arguments. Only what is
// called from several places: where returns are guarded against speculation, each costs as much as a dozen
// instructions.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pbx_exact4(address: u32, now: u64) -> u64 {
    rules::exact4(&Kernel, address, now).code()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pbx_say4_again(address: u32, now: u64) -> u64 {
    rules::say4_again(&Kernel, address, now).code()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pbx_probe(hi: u64, lo: u64, code: u64, now: u64) -> u64 {
    rules::probe(&Kernel, hi, lo, code as u8, now).code()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pbx_counted(hi: u64, lo: u64, kind: u64, now: u64, limit_new: u64) -> u64 {
    pbx_ebpf::rate::count(&Kernel, hi, lo, kind, now, limit_new)
}

struct Received<'a>(&'a XdpContext);

impl Frame for Received<'_> {
    #[inline(always)]
    fn view(&self, offset: usize, length: usize) -> Option<View> {
        let start = self.0.data() + offset;
        if start + length > self.0.data_end() {
            return None;
        }
        // SAFETY: checked against the end of the buffer.
        Some(unsafe { View::new(start as *const u8) })
    }
    #[inline(always)]
    fn linear(&self) -> usize {
        self.0.data_end() - self.0.data()
    }
    #[inline(always)]
    fn forget(&self, offset: usize) -> usize {
        core::hint::black_box(offset) & 0x7fff
    }
    #[inline(always)]
    fn forget_words(&self, [hi, lo, rest]: [u64; 3]) -> [u64; 3] {
        // SAFETY: a word of the program's own.
        let zero = unsafe { word::load(&raw const ZERO) };
        [hi ^ zero, lo ^ zero, rest ^ zero]
    }
    #[inline(always)]
    fn total(&self) -> usize {
        // SAFETY: the program's own context.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as usize }
    }
}

/// The filter.
#[xdp(frags)]
#[inline(always)]
pub(crate) fn pbx_filter(ctx: XdpContext) -> u32 {
    let frame = Received(&ctx);
    let judged = verdict::judge(&Kernel, &frame, ctx.ingress_ifindex() as u32);
    if !judged.reason.drops() && !judged.reason.would_drop() {
        return xdp_action::XDP_PASS;
    }
    debug!(&ctx, "reason {}", judged.reason as u32);
    sample(&ctx, &frame, &judged);
    if judged.reason.drops() { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// Keeps 1 in N dropped packets for the daemon to look at.
#[inline(always)]
fn sample(ctx: &XdpContext, frame: &Received<'_>, judged: &Judged) {
    if judged.nth & judged.sample_mask != 0 {
        return;
    }
    let Some(settings) = SETTINGS.get_ptr(0) else { return };
    // SAFETY: the element lives as long as the map.
    let (idle, until) = unsafe {
        let settings = &*settings;
        (word::load(&settings.sample_mask), word::load(&settings.tap_until))
    };
    let now = Kernel.now();
    let mut mask = judged.sample_mask;
    // The daemon that wanted more samples may be gone.
    if now >= until && idle > mask {
        if judged.nth & idle != 0 {
            return;
        }
        mask = idle;
    }
    let Some(tapped) = TAPPED.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own element.
    let tapped = unsafe { &mut *tapped };
    let span = now >> settings::TAP_SPAN << 32;
    if tapped.window >> 32 != span >> 32 {
        tapped.window = span;
    }
    tapped.window += 1;
    if tapped.window & 0xffff_ffff > settings::TAP_SAMPLES {
        tapped.lost += 1;
        return;
    }
    let Some(mut entry) = SAMPLES.reserve::<events::Sample>(0) else {
        tapped.lost += 1;
        return;
    };
    let length = frame.linear();
    let captured = if length > events::CAPTURED { events::CAPTURED } else { length };
    let record = entry.as_mut_ptr();
    // SAFETY: a record of the ring; `captured` is at most the frame's and the field's length.
    unsafe {
        (*record).time = bpf_ktime_get_coarse_ns();
        (*record).hi = judged.hi;
        (*record).lo = judged.lo;
        (*record).ifindex = ctx.ingress_ifindex() as u32;
        (*record).reason = judged.reason as u32;
        (*record).length = frame.total() as u32;
        (*record).captured = captured as u32;
        (*record).weight = mask.wrapping_add(1);
        if captured < 14 || bpf_xdp_load_bytes(ctx.ctx, 0, (&raw mut (*record).frame).cast(), captured as u32) < 0 {
            (*record).captured = 0;
        }
    }
    entry.submit(0);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
