//! `KNOWN` and `KNOWN_STATE`: sources that the PBX knows (trunks, registrations). They have a budget and are
//! never blocked by rates. The daemon writes `KNOWN`, the kernel `KNOWN_STATE`.

/// Name of the map: a hash, [`Key`] → [`Known`].
pub const NAME: &str = "KNOWN";
/// At most so many.
pub const MAX: u32 = 65_536;
/// Name of the array of window words, by `Known::slot`.
pub const STATE_NAME: &str = "KNOWN_STATE";

/// A source: an address, and the port it registered from, or 0 for the whole address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Most significant 64 bits of the address.
    pub hi: u64,
    /// Least significant 64 bits.
    pub lo: u64,
    /// Source port, or 0.
    pub port: u64,
}

/// What the kernel should know of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Packets a second that pass.
    pub budget: u32,
    /// Its word in `KNOWN_STATE`.
    pub slot: u32,
}
const _: () = assert!(size_of::<Known>() == 8);
