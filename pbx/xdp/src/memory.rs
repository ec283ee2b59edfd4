//! An array map as memory: `BPF_F_MMAPABLE` arrays are mapped, so that the daemon writes single words and
//! never a whole value over what the kernel wrote meanwhile.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
};

use pbx_ebpf::word;

/// The words of a mapped array.
#[derive(Debug)]
pub struct Words {
    base: NonNull<u64>,
    words: usize,
}

// SAFETY: the memory is shared with the kernel anyway; every access is atomic by word.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps an array of `words` 64-bit words.
    ///
    /// # Errors
    /// What `mmap` said.
    pub fn map(fd: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping of a map's memory; the kernel keeps it as long as it is mapped.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                words * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Words { base, words })
    }
    /// How many words there are.
    pub fn len(&self) -> usize {
        self.words
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words == 0
    }
    /// The word's address, for the judgement on the host.
    ///
    /// # Panics
    /// Beyond the end.
    pub fn pointer(&self, index: usize) -> *mut u64 {
        assert!(index < self.words, "word {index} of {}", self.words);
        // SAFETY: within the mapping.
        unsafe { self.base.as_ptr().add(index) }
    }
    /// Reads a word.
    pub fn load(&self, index: usize) -> u64 {
        // SAFETY: `pointer` checked the index.
        unsafe { word::load(self.pointer(index)) }
    }
    /// Writes a word.
    pub fn store(&self, index: usize, value: u64) {
        // SAFETY: `pointer` checked the index.
        unsafe { word::store(self.pointer(index), value) }
    }
    /// Replaces a word if it still is `old`; gives what was there.
    pub fn compare_exchange(&self, index: usize, old: u64, new: u64) -> u64 {
        // SAFETY: `pointer` checked the index.
        unsafe { word::compare_exchange(self.pointer(index), old, new) }
    }
    /// Sets bits.
    pub fn set_bits(&self, index: usize, bits: u64) {
        // SAFETY: `pointer` checked the index.
        unsafe { word::fetch_or(self.pointer(index), bits) };
    }
    /// Clears bits.
    pub fn clear_bits(&self, index: usize, bits: u64) {
        let mut before = self.load(index);
        loop {
            let seen = self.compare_exchange(index, before, before & !bits);
            if seen == before {
                return;
            }
            before = seen;
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing borrows from it beyond `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * 8) };
    }
}
