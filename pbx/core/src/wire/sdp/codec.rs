//! Codecs and the formats that stand for them on a media line: numbers with a fixed meaning (RFC 3551 §6), and those
//! that `a=rtpmap` gives one.

use std::{fmt, sync::Arc};

/// Bytes of a codec's name, at most.
const MAX_NAME: usize = 32;

/// How sound is coded: what `a=rtpmap` says (RFC 8866 §6.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Codec {
    /// The name as it was written.
    pub name: Arc<str>,
    /// Clock rate in Hz, never 0.
    pub rate: u32,
    /// Channels, never 0.
    pub channels: u8,
}

impl Codec {
    /// A codec of one channel.
    pub fn new(name: &str, rate: u32) -> Self {
        Self { name: name.into(), rate, channels: 1 }
    }

    /// The codec in the text behind the number of an `a=rtpmap`: `PCMA/8000`, `opus/48000/2`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let mut parts = text.split('/');
        let name = parts.next().filter(|name| is_name(name))?;
        let rate = number(parts.next()?).filter(|rate| *rate > 0)?;
        let channels = match parts.next() {
            Some(channels) => number(channels).and_then(|count| u8::try_from(count).ok()).filter(|count| *count > 0)?,
            None => 1,
        };
        if parts.next().is_some() {
            return None;
        }
        // Its samples are 16,000 a second, and some write that; its clock is 8,000 all the same (RFC 3551 §4.5.2).
        let rate = if name.eq_ignore_ascii_case("G722") && rate == 16_000 { 8_000 } else { rate };
        Some(Self { name: name.into(), rate, channels })
    }

    /// What a number means without an `a=rtpmap` (RFC 3551 §6, tables 4 and 5).
    pub(super) fn fixed(payload_type: u8) -> Option<Self> {
        let (name, rate, channels) = match payload_type {
            0 => ("PCMU", 8_000, 1),
            3 => ("GSM", 8_000, 1),
            4 => ("G723", 8_000, 1),
            5 => ("DVI4", 8_000, 1),
            6 => ("DVI4", 16_000, 1),
            7 => ("LPC", 8_000, 1),
            8 => ("PCMA", 8_000, 1),
            9 => ("G722", 8_000, 1),
            10 => ("L16", 44_100, 2),
            11 => ("L16", 44_100, 1),
            12 => ("QCELP", 8_000, 1),
            13 => ("CN", 8_000, 1),
            14 => ("MPA", 90_000, 1),
            15 => ("G728", 8_000, 1),
            16 => ("DVI4", 11_025, 1),
            17 => ("DVI4", 22_050, 1),
            18 => ("G729", 8_000, 1),
            _ => return None,
        };
        Some(Self { name: name.into(), rate, channels })
    }

    /// Whether both are the same codec: the name in any case.
    pub fn is_same(&self, other: &Self) -> bool {
        self.rate == other.rate && self.channels == other.channels && self.name.eq_ignore_ascii_case(&other.name)
    }

    /// Whether it is telephone events, digits above all (RFC 4733).
    pub fn is_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }

    /// Whether it is comfort noise (RFC 3389).
    pub fn is_comfort_noise(&self) -> bool {
        self.name.eq_ignore_ascii_case("CN")
    }

    /// Whether it codes speech: neither events nor comfort noise, which only stand beside such a one.
    pub fn is_speech(&self) -> bool {
        !self.is_event() && !self.is_comfort_noise()
    }
}

impl fmt::Display for Codec {
    /// As in `a=rtpmap`: `PCMA/8000`, `opus/48000/2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, rate, channels } = self;
        write!(f, "{name}/{rate}")?;
        if *channels > 1 { write!(f, "/{channels}") } else { Ok(()) }
    }
}

/// A codec with the number that packets carry, 0 to 127.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// The number.
    pub payload_type: u8,
    /// The codec.
    pub codec: Codec,
    /// Its parameters as they came (`a=fmtp`): printable ASCII, at most [`MAX_FMTP`](super::MAX_FMTP) bytes.
    pub fmtp: Option<Arc<str>>,
}

/// A token (RFC 8866 §9) of a length that a codec's name may have.
fn is_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_token)
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
