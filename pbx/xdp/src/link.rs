//! Links: an attachment pinned in a bpffs, which outlives the process and whose program is replaced at once.

use std::{io, path::Path};

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
