//! `PORTS`: what a local port is, 64 ports an element.

/// Name of the map: an array of [`ELEMENTS`] × 4 words.
pub const NAME: &str = "PORTS";
/// Element of a port: `port >> 6`.
pub const ELEMENTS: u32 = 1024;
/// Words of an element.
pub const WORDS: usize = 4;
/// Word of the protected ports (UDP and TCP).
pub const PROTECTED: usize = 0;
/// Word of the media ports (UDP).
pub const MEDIA: usize = 1;
/// Word of the media ports that a call holds.
pub const HELD: usize = 2;
/// Word of the web ports (TCP), which are protected as well.
pub const WEB: usize = 3;
