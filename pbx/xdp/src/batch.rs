//! All entries of a hash map in a few system calls (`BPF_MAP_LOOKUP_BATCH`, since Linux 5.6). One by one they are two
//! calls each. No lock: the kernel reads bucket by bucket, whoever writes meanwhile.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;

/// Entries of one call: far more than a bucket ever holds, which is read as a whole or not at all.
const ENTRIES: usize = 8192;

/// `union bpf_attr`, the member of the commands on batches (linux/bpf.h).
#[repr(C)]
struct Arguments {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    elem_flags: u64,
    flags: u64,
}

/// Every entry that is there from beginning to end, once; one that comes or goes meanwhile, or not.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn entries<K: Pod, V: Pod>(map: BorrowedFd<'_>, most: u32) -> io::Result<Vec<(K, V)>> {
    const LOOKUP_BATCH: libc::c_int = 24;
    let mut all = Vec::new();
    let (mut keys, mut values) = (Vec::<K>::with_capacity(ENTRIES), Vec::<V>::with_capacity(ENTRIES));
    // Where the kernel goes on: the number of a bucket.
    let (mut from, mut to) = (0u32, 0u32);
    let mut begun = false;
    // Each call but the last reads all but a bucket's worth of what there is room for.
    for _ in 0..=most as usize / (ENTRIES / 2) {
        let mut arguments = Arguments {
            in_batch: if begun { &raw const from as u64 } else { 0 },
            out_batch: &raw mut to as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: ENTRIES as u32,
            map: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: all that the arguments point to lives through the call, with room for as many entries as they say.
        let done =
            unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut arguments, size_of::<Arguments>()) } == 0;
        let error = io::Error::last_os_error();
        // ENOENT: there is no bucket after these.
        let is_last = !done && error.raw_os_error() == Some(libc::ENOENT);
        if !done && !is_last {
            return Err(error);
        }
        let count = (arguments.count as usize).min(ENTRIES);
        // SAFETY: the kernel wrote so many of each, and any bytes are a value of theirs.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        all.extend(keys.drain(..).zip(values.drain(..)));
        if is_last {
            break;
        }
        (from, begun) = (to, true);
    }
    Ok(all)
}
