//! Plain designs for the same work, written with the map types that a manual suggests: a blocklist in an LPM
//! trie, rates in an LRU hash. They read as little of the frame as they can and count a packet and its bytes.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::{map, xdp},
    maps::{
        LruHashMap, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::XdpContext,
};

#[map]
static TRIE4: LpmTrie<[u8; 4], u64> = LpmTrie::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);
#[map]
static TRIE6: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);
#[map]
static WINDOWS: LruHashMap<u32, Window> = LruHashMap::with_max_entries(1 << 18, 0);
/// [packets, bytes] passed and dropped.
#[map]
static COUNTS: PerCpuArray<[[u64; 2]; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Packets of a source in its second.
#[repr(C)]
#[derive(Clone, Copy)]
struct Window {
    start: u64,
    packets: u64,
}

const LIMIT: u64 = 500;
const SECOND: u64 = 1_000_000_000;

#[inline(always)]
fn end(ctx: &XdpContext, drop: bool) -> u32 {
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: this CPU's own element.
        unsafe {
            let pair = counts.cast::<[u64; 2]>().add(usize::from(drop));
            (*pair)[0] += 1;
            (*pair)[1] += (ctx.data_end() - ctx.data()) as u64;
        }
    }
    if drop { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// The source, if the frame is of that type and whole.
#[inline(always)]
fn source<T: Copy>(ctx: &XdpContext, ethertype: u16, offset: usize) -> Option<T> {
    let start = ctx.data();
    if start + offset + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the range was checked; the kernel reads unaligned words.
    unsafe {
        if *((start + 12) as *const u16) != ethertype.to_be() {
            return None;
        }
        Some(*((start + offset) as *const T))
    }
}

/// Drops what an LPM trie of IPv4 prefixes covers.
#[xdp]
pub(crate) fn trie4(ctx: XdpContext) -> u32 {
    let Some(source) = source::<[u8; 4]>(&ctx, 0x0800, 26) else { return xdp_action::XDP_PASS };
    end(&ctx, TRIE4.get(&Key::new(32, source)).is_some())
}

/// Drops what an LPM trie of IPv6 prefixes covers.
#[xdp]
pub(crate) fn trie6(ctx: XdpContext) -> u32 {
    let Some(source) = source::<[u8; 16]>(&ctx, 0x86dd, 22) else { return xdp_action::XDP_PASS };
    end(&ctx, TRIE6.get(&Key::new(128, source)).is_some())
}

/// Drops what a source sends beyond 500 packets in its second, counted in an LRU hash.
#[xdp]
pub(crate) fn lru4(ctx: XdpContext) -> u32 {
    let Some(source) = source::<u32>(&ctx, 0x0800, 26) else { return xdp_action::XDP_PASS };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let Some(window) = WINDOWS.get_ptr_mut(&source) else {
        let _ = WINDOWS.insert(&source, &Window { start: now, packets: 1 }, 0);
        return end(&ctx, false);
    };
    // SAFETY: a live element; a lost count under contention is accepted.
    let packets = unsafe {
        if now.wrapping_sub((*window).start) >= SECOND {
            (*window).start = now;
            (*window).packets = 0;
        }
        (*window).packets += 1;
        (*window).packets
    };
    end(&ctx, packets > LIMIT)
}

/// Drops everything.
#[xdp]
pub(crate) fn drop_all(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Passes everything.
#[xdp]
pub(crate) fn pass_all(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}
