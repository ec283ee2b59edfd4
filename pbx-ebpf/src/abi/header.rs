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
    /// [`SIZES`]: a changed size under an unchanged layout is caught.
    pub sizes: u64,
    /// Hash seed of all tables.
    pub seed: [u64; 2],
    /// Boot id of the machine when the maps were made.
    pub boot: [u64; 2],
}
super::words!(Header);

/// The `sizes` word of this build: of every map its elements and the words of an element.
pub const SIZES: u64 = {
    use super::{
        address4, automatic, events, guard, interfaces, known, media, ports, prefix, presence, rate, settings, stats,
    };
    let sizes = [
        Header::WORDS,
        settings::Settings::WORDS,
        interfaces::SLOTS as usize,
        interfaces::Interface::WORDS,
        ports::ELEMENTS as usize,
        ports::WORDS,
        address4::SUMMARY_ELEMENTS as usize,
        address4::CLASS_ELEMENTS as usize,
        address4::LINE_BITS as usize,
        address4::LINE_WORDS,
        prefix::LENGTHS6_BITS as usize,
        prefix::SET_BITS as usize,
        prefix::SET_WORDS,
        rate::ELEMENTS as usize,
        rate::SET_WORDS,
        rate::SLOTS,
        rate::WIDE_SLOTS,
        presence::BITS as usize,
        guard::Guard::WORDS,
        automatic::MAX as usize,
        automatic::Block::WORDS,
        known::MAX as usize,
        size_of::<known::Key>(),
        size_of::<known::Known>(),
        media::MAX as usize,
        size_of::<media::Flow>(),
        stats::INTERFACES as usize,
        stats::REASONS,
        events::BYTES as usize,
        events::Event::WORDS,
        events::SAMPLES_BYTES as usize,
        events::Sample::WORDS,
        events::Tapped::WORDS,
        automatic::WEB_MAX as usize,
    ];
    let mut sum = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < sizes.len() {
        sum = (sum ^ sizes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    sum
};
