//! Links: an attachment pinned in a bpffs, which outlives the process and whose program is replaced at once.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::programs::{
    XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use crate::object::{LoadError, Loaded};

/// Attaches to an interface and pins the link.
///
/// # Errors
/// The kernel's refusal; nothing is attached then.
pub fn attach(loaded: &mut Loaded, ifindex: u32, mode: XdpMode, pin: &Path) -> Result<(), LoadError> {
    let program = loaded.program()?;
    let id = program.attach_to_if_index(ifindex, mode)?;
    let link: FdLink = program.take_link(id)?.try_into().map_err(|e| failed(io::Error::other(format!("{e}"))))?;
    link.pin(pin).map_err(|e| failed(io::Error::other(e)))?;
    Ok(())
}

/// Puts this program into a pinned link, in place of the one there: no packet goes unjudged between.
///
/// # Errors
/// The link's interface is gone, or the kernel refuses.
pub fn replace(loaded: &mut Loaded, pin: &Path) -> Result<(), LoadError> {
    let link = PinnedLink::from_pin(pin).map_err(|e| failed(io::Error::other(e)))?;
    let link: XdpLink = FdLink::from(link).try_into().map_err(|e| failed(io::Error::other(format!("{e}"))))?;
    let program = loaded.program()?;
    let id = program.attach_to_link(link)?;
    // The pin keeps the link; the descriptor may go.
    drop(program.take_link(id)?);
    Ok(())
}

/// The interface of a pinned link, as the kernel has it; none if that cannot be read, or the interface is gone.
pub fn ifindex(pin: &Path) -> Option<u32> {
    /// `BPF_OBJ_GET` and its arguments (linux/bpf.h).
    const OBJ_GET: libc::c_int = 7;
    #[repr(C)]
    struct Arguments {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes()).ok()?;
    let arguments = Arguments { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the arguments live through the call, which gives a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, &raw const arguments, size_of::<Arguments>()) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("ifindex:"))?;
    line.trim().parse().ok().filter(|index| *index != 0)
}

/// Takes a pinned link away, and with it the attachment.
///
/// # Errors
/// The pin cannot be removed. One that is not there is no error.
pub fn remove(pin: &Path) -> io::Result<()> {
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(source: io::Error) -> LoadError {
    LoadError::Map { name: "link", source }
}
