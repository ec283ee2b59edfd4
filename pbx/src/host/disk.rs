//! How full a disk is.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

/// Room on the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes that it has.
    pub size: u64,
    /// Bytes that a program that is not root may still write.
    pub free: u64,
}

impl Disk {
    /// Looks at the file system that holds `path`.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = nix::sys::statvfs::statvfs(path)?;
        let unit = found.fragment_size();
        Ok(Self { size: found.blocks().saturating_mul(unit), free: found.blocks_available().saturating_mul(unit) })
    }

    /// Nothing but little is left: less than a tenth of it, and less than 2 GiB.
    pub const fn is_nearly_full(self) -> bool {
        const LITTLE: u64 = 2 << 30;
        self.free < LITTLE && self.free < self.size / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_nearly_full_when_a_tenth_is_not_free_and_that_is_little() {
        const GIB: u64 = 1 << 30;
        let full = |size, free| Disk { size, free }.is_nearly_full();
        assert!(!full(10 * GIB, GIB) && full(10 * GIB, GIB - 1));
        assert!(!full(1000 * GIB, 2 * GIB) && full(1000 * GIB, 2 * GIB - 1));
        let here = Disk::of(Path::new("/")).unwrap();
        assert!(here.free <= here.size && here.size > 0);
    }
}
