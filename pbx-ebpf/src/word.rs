//! Shared 64-bit words: how the kernel program, its copies on other CPUs and the daemon read and write the
//! same memory. Every word of a table is read and written through these functions and is never torn.

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[cfg(target_arch = "bpf")]
use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_or, atomic_xadd};

/// Reads the word.
///
/// # Safety
/// `word` points to an aligned word of a live table.
#[inline(always)]
pub unsafe fn load(word: *const u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    return unsafe { core::ptr::read_volatile(word) };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise; every other access is atomic too.
    return unsafe { AtomicU64::from_ptr(word.cast_mut()) }.load(SeqCst);
}

/// Writes the word.
///
/// # Safety
/// `word` points to an aligned word of a live table.
#[inline(always)]
pub unsafe fn store(word: *mut u64, value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::ptr::write_volatile(word, value)
    };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise; every other access is atomic too.
    unsafe { AtomicU64::from_ptr(word) }.store(value, SeqCst);
}

/// Replaces the word if it still is `old`; gives what was there.
///
/// # Safety
/// `word` points to an aligned word of a live table.
#[inline(always)]
pub unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise. SeqCst: a weaker ordering loses the result on BPF.
    return unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word, old, new) }.0;
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise; every other access is atomic too.
    match unsafe { AtomicU64::from_ptr(word) }.compare_exchange(old, new, SeqCst, SeqCst) {
        Ok(was) | Err(was) => was,
    }
}

/// Adds to the word; gives what was there.
///
/// # Safety
/// `word` points to an aligned word of a live table.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u64, value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    return unsafe { atomic_xadd::<u64, u64, { SeqCst }>(word, value) };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise; every other access is atomic too.
    return unsafe { AtomicU64::from_ptr(word) }.fetch_add(value, SeqCst);
}

/// Sets bits of the word; gives what was there.
///
/// # Safety
/// `word` points to an aligned word of a live table.
#[inline(always)]
pub unsafe fn fetch_or(word: *mut u64, bits: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    return unsafe { atomic_or::<u64, u64, { SeqCst }>(word, bits) };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise; every other access is atomic too.
    return unsafe { AtomicU64::from_ptr(word) }.fetch_or(bits, SeqCst);
}
