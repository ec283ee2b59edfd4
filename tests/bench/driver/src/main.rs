//! Programs of the bench: drivers that give every repeat of a test run another source and then tail-call the
//! program under test, a generator for veth, and the plain designs that the filter is compared with. On the
//! host this is an empty stub.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod drive;
#[cfg(target_arch = "bpf")]
mod peers;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
