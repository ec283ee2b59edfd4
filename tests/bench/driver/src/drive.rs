//! Which source a repeat has. The parameters lie in the frame's payload, because the kernel hands a repeat the
//! frame as the one before left it.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_ktime_get_ns, bpf_redirect},
    macros::{map, xdp},
    maps::{PerCpuArray, ProgramArray},
    programs::XdpContext,
};

/// The program under test, if it takes one buffer only; the kernel wants all programs of an array alike.
#[map]
static PLAIN: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// The program under test, if it takes multi-buffer frames.
#[map]
static FRAGS: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Frames that `generate` made.
#[map]
static MADE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Interface to which `generate` sends; set at load.
#[unsafe(no_mangle)]
static OUTPUT: u32 = 0;

/// What the payload of a driven frame begins with.
#[repr(C)]
struct Control {
    /// Repeats so far.
    turn: u32,
    /// Number of sources.
    sources: u32,
    /// Number of the first.
    first: u32,
    /// Bits that are turned over in every source.
    flip: u32,
    /// Every `heavy + 1`th repeat has the source `heavy_source`; a power of two less one, or all ones: none.
    heavy: u32,
    heavy_source: u32,
}

/// Where the payload of a UDP datagram lies, aligned to words.
const PAYLOAD4: usize = 44;
const PAYLOAD6: usize = 64;

#[inline(always)]
fn at<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    (start + size_of::<T>() <= ctx.data_end()).then_some(start as *mut T)
}

/// The source of a turn: neighbours in number are far apart as addresses, and so are those of two turns.
#[inline(always)]
fn source(control: *const Control, turn: u32) -> u32 {
    // SAFETY: `at` checked the range; the kernel reads unaligned words.
    unsafe {
        if turn & (*control).heavy == (*control).heavy {
            return (*control).heavy_source;
        }
        let nth = (u64::from(turn.wrapping_mul(0x9e37_79b1)) * u64::from((*control).sources)) >> 32;
        (*control).first.wrapping_add(nth as u32).wrapping_mul(0x85eb_ca6b) ^ (*control).flip
    }
}

/// Writes the turn's source into the frame: the IPv4 address, or the /64 of the IPv6 address.
#[inline(always)]
fn vary(ctx: &XdpContext, ipv6: bool) -> Option<()> {
    let control: *mut Control = at(ctx, if ipv6 { PAYLOAD6 } else { PAYLOAD4 })?;
    let address: *mut u32 = at(ctx, if ipv6 { 22 } else { 26 })?;
    let rest: *mut u32 = at(ctx, 26)?;
    // SAFETY: `at` checked the ranges.
    unsafe {
        let turn = (*control).turn;
        (*control).turn = turn.wrapping_add(1);
        let source = source(control, turn);
        if ipv6 {
            // 4096 networks of 32 bits below 2001::/16.
            *address = (0x2001_0000 | source >> 20).to_be();
            *rest = source.rotate_left(12).to_be();
        } else {
            *address = source.to_be();
        }
    }
    Some(())
}

macro_rules! driver {
    ($name:ident, $ipv6:expr, $under_test:ident $(, $frags:ident)?) => {
        #[xdp $(($frags))?]
        pub(crate) fn $name(ctx: XdpContext) -> u32 {
            if vary(&ctx, $ipv6).is_some() {
                // SAFETY: nothing here needs dropping.
                unsafe { $under_test.tail_call(&ctx, 0) };
            }
            xdp_action::XDP_ABORTED
        }
    };
}
driver!(plain4, false, PLAIN);
driver!(plain6, true, PLAIN);
driver!(frags4, false, FRAGS, frags);
driver!(frags6, true, FRAGS, frags);

/// Sends a frame to `OUTPUT`, with the next source. Live frames come from a pool and keep what was written
/// into them, so that the turn is counted here.
#[xdp]
pub(crate) fn generate(ctx: XdpContext) -> u32 {
    let (Some(control), Some(address)) = (at::<Control>(&ctx, PAYLOAD4), at::<u32>(&ctx, 26)) else {
        return xdp_action::XDP_ABORTED;
    };
    let Some(made) = MADE.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: this CPU's own word; `at` checked the ranges; the constant was fixed before the program was loaded.
    unsafe {
        let turn = *made;
        *made = turn + 1;
        *address = source(control, turn as u32).to_be();
        bpf_redirect(core::ptr::read_volatile(&raw const OUTPUT), 0) as u32
    }
}

/// The first source of `flood` and how many there are (at most 65,536); set at load.
#[unsafe(no_mangle)]
static FIRST: u32 = 0;
#[unsafe(no_mangle)]
static SOURCES: u32 = 1;
/// Nanoseconds between two requests of `flood`, at most 20,000; 0: as fast as it can.
#[unsafe(no_mangle)]
static PACE: u64 = 0;
/// When the next one is due.
#[map]
static DUE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Waits until the next request is due. It has the CPU to itself.
#[inline(always)]
fn wait() {
    // SAFETY: fixed before the program was loaded.
    let pace = unsafe { core::ptr::read_volatile(&raw const PACE) };
    let Some(due) = DUE.get_ptr_mut(0) else { return };
    if pace == 0 {
        return;
    }
    // SAFETY: this CPU's own word; the helper has no preconditions.
    unsafe {
        let mut now = bpf_ktime_get_ns();
        // What was missed in a pause is not made good for.
        if *due + 1_000_000 < now {
            *due = now;
        }
        for _ in 0..1024 {
            if now >= *due {
                break;
            }
            now = bpf_ktime_get_ns();
        }
        *due += pace;
    }
}

/// Where the number of a request lies in a frame of `flood`, in eight letters; `guard/generator.rs` knows it, too.
const NUMBER: usize = 42 + 41;

/// Sends a SIP request by IPv4 to `OUTPUT`, from the next source and with the next number in its Call-ID. The datagram
/// has no checksum; that of the header is kept right, so that a stack takes it.
#[xdp]
pub(crate) fn flood(ctx: XdpContext) -> u32 {
    let (Some(address), Some(sum), Some(number)) =
        (at::<[u16; 2]>(&ctx, 26), at::<u16>(&ctx, 24), at::<[u8; 8]>(&ctx, NUMBER))
    else {
        return xdp_action::XDP_ABORTED;
    };
    let Some(made) = MADE.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    wait();
    // SAFETY: this CPU's own word; `at` checked the ranges; the constants were fixed before the program was loaded.
    unsafe {
        let turn = *made as u32;
        *made += 1;
        let sources = core::ptr::read_volatile(&raw const SOURCES);
        let nth = (u64::from(turn.wrapping_mul(0x9e37_79b1)) * u64::from(sources)) >> 32;
        let source = core::ptr::read_volatile(&raw const FIRST).wrapping_add(nth as u32);
        let (old, new) = (address.read_unaligned(), [(source >> 16) as u16, source as u16].map(u16::to_be));
        address.write_unaligned(new);
        // RFC 1624 §3; one's complement does not mind the order of bytes.
        let mut folded = u32::from(!sum.read_unaligned());
        folded += u32::from(!old[0]) + u32::from(!old[1]) + u32::from(new[0]) + u32::from(new[1]);
        folded = (folded & 0xffff) + (folded >> 16);
        folded = (folded & 0xffff) + (folded >> 16);
        sum.write_unaligned(!(folded as u16));
        for at in 0..8 {
            (*number)[at] = b'a' + ((turn >> (4 * at)) & 15) as u8;
        }
        bpf_redirect(core::ptr::read_volatile(&raw const OUTPUT), 0) as u32
    }
}
