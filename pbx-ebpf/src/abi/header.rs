//! `HEADER`: what the pinned maps of a version directory are. Written once, before the first program runs.

/// Name of the map: an array of one [`Header`].
pub const NAME: &str = "HEADER";
/// `Header::magic`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"pbxfiltr");

/// What lies in the maps beside it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`MAGIC`], written last: a header without it belongs to maps that were never filled.
    pub magic: u64,
    /// [`super::LAYOUT`].
    pub layout: u64,
    /// Checksum over the value sizes of all maps: a changed size under an unchanged layout is caught.
    pub sizes: u64,
    /// Hash seed of all tables.
    pub seed: [u64; 2],
    /// Boot id of the machine when the maps were made.
    pub boot: [u64; 2],
}
super::words!(Header);

/// The `sizes` word of this build.
pub const SIZES: u64 = {
    let sizes = [
        size_of::<Header>(),
        size_of::<super::settings::Settings>(),
        size_of::<super::interfaces::Interface>(),
        size_of::<super::automatic::Block>(),
        size_of::<super::known::Known>(),
        size_of::<super::events::Event>(),
        super::stats::REASONS,
        super::address4::LINE_BITS as usize,
        super::prefix::SET_BITS as usize,
        super::rate::SET_BITS as usize,
    ];
    let mut sum = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < sizes.len() {
        sum = (sum ^ sizes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    sum
};
