//! SDP (RFC 8866): what a body says about media lines, and about the one audio line that a call is about. Bodies come
//! from anybody, so reading is bounded and total: one pass over the lines, one more over those of an audio line.
//! Writing, and what an answer must be like, is `media::session`'s.

mod codec;
mod parse;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use codec::{Codec, Format};

/// Media lines of a description; one with more is refused as [`Fault::TooManyMedia`].
pub const MAX_LINES: usize = 64;
/// Formats of a media line that are kept; what follows them is left out.
pub const MAX_FORMATS: usize = 64;
/// Bytes of a format's parameters (`a=fmtp`); a format with more cannot be used.
pub const MAX_FMTP: usize = 512;

/// Who sends on a line, from the point of view of whoever wrote the description (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both.
    #[default]
    SendRecv,
    /// Only the one who wrote it.
    SendOnly,
    /// Only the other one.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// The direction that an attribute of this name means.
    fn of(attribute: &[u8]) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|direction| direction.text().as_bytes() == attribute)
    }

    /// The name of the attribute.
    pub const fn text(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Whether whoever wrote it sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether whoever wrote it receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same from the other side: the widest answer to it (RFC 3264 §6.1).
    pub const fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// What both allow.
    pub const fn and(self, other: Self) -> Self {
        Self::new(self.sends() && other.sends(), self.receives() && other.receives())
    }
}

/// A media line (`m=`) as it came: what it takes to answer it, if need be with port 0. Visible ASCII throughout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `audio`, `video`, `image`.
    pub media: Box<str>,
    /// 0: not wanted.
    pub port: u16,
    /// `RTP/AVP`, `UDP/TLS/RTP/SAVPF`, `udptl`.
    pub proto: Box<str>,
    /// The formats with one space between them, at most [`MAX_FORMATS`]; never empty.
    pub formats: Box<str>,
}

/// The audio line of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Its place among the media lines.
    pub line: usize,
    /// Where RTP is wanted. The unspecified address: nowhere (RFC 2543's hold), and `direction` says so.
    pub rtp: SocketAddr,
    /// Where RTCP is wanted: `rtp` if both share a port, else as `a=rtcp` says (RFC 3605), else one port above.
    pub rtcp: SocketAddr,
    /// RTP and RTCP share a port, or may share it (RFC 5761).
    pub mux: bool,
    /// Who sends, as the one who wrote it sees it.
    pub direction: Direction,
    /// Formats that can be used, in order of preference; never empty.
    pub formats: Vec<Format>,
    /// Milliseconds of sound that are wanted in a packet.
    pub ptime: Option<u16>,
}

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The media lines in order, at most [`MAX_LINES`].
    pub lines: Vec<Line>,
    /// The first audio line that can be used: not disabled, `RTP/AVP` or `RTP/AVPF`, at a literal address that is one
    /// host's, with at least one known format.
    pub audio: Option<Audio>,
    /// Session id and version of `o=`; a number that does not fit is `u64::MAX`.
    pub origin: (u64, u64),
}

impl Description {
    /// Reads a body of type `application/sdp`. Line feeds alone, unknown lines, a missing `s=` or `t=` are accepted.
    ///
    /// # Errors
    ///
    /// [`Fault`], with the status that answers it.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        parse::description(body)
    }
}

/// Why a body is no description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The first line is not `v=0`.
    #[error("the SDP does not begin with v=0")]
    Version,
    /// A line is not a letter, an equals sign and a value.
    #[error("line {0} of the SDP is not of the form x=value")]
    Shape(usize),
    /// No `o=` before the media lines, or one without session id and version.
    #[error("o= is missing from the SDP or malformed: it is a user, a number, a number, IN, IP4 or IP6, an address")]
    Origin,
    /// A `c=` is not a network, a kind of address and an address.
    #[error("line {0} of the SDP is a malformed c=: it is IN, IP4 or IP6, an address")]
    Connection(usize),
    /// An `m=` is not a kind of media, a port, a protocol and formats.
    #[error("line {0} of the SDP is a malformed m=: it is media, a port from 0 to 65535, a protocol, formats")]
    Media(usize),
    /// More than [`MAX_LINES`] media lines.
    #[error("the SDP has more than 64 media lines")]
    TooManyMedia,
}

impl Fault {
    /// The status that a request with such a body is answered with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Version | Self::Shape(_) | Self::Origin | Self::Connection(_) | Self::Media(_) => 400,
            Self::TooManyMedia => 488,
        }
    }
}

/// Whether packets with this number would be taken for RTCP on a port that both share (RFC 5761 §4).
pub(crate) const fn taken_for_rtcp(payload_type: u8) -> bool {
    matches!(payload_type, 64..=95)
}

/// The same as text, if all of it can be seen: what is repeated to others has no spaces, line breaks or worse.
fn visible(text: &[u8]) -> Option<&str> {
    let is_visible = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(text).ok().filter(|_| is_visible)
}
