//! Cuts the bytes of a TCP or TLS connection into messages and keep-alives (RFC 3261 §18.3, RFC 5626 §3.5.1), and
//! says until when the peer has time. After the socket, before the message parser. Holds at most one unfinished
//! message; reads nothing of a message but its line ends and its Content-Length.

mod head;
#[cfg(test)]
mod tests;

use std::{mem, time::Duration};

use self::head::Head;
use super::demux::is_token;
use crate::moment::Moment;

/// What a connection may ask of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The header section, first line and empty line included (bytes). Default 16,384.
    pub head_bytes: usize,
    /// Header fields of a message; folded ones count once. Default 128.
    pub headers: usize,
    /// A whole message (bytes). Default 65,535, the most that UDP carries.
    pub message_bytes: usize,
    /// From the connection to its first message that is [of use](Framer::heard). Default 15 s.
    pub first_message: Duration,
    /// From the first byte of a message to its last. Default 10 s.
    pub message: Duration,
    /// From the last message of use to the close, unless something [holds](Framer::hold) the connection. A message that
    /// began before that may still become whole. Default 120 s.
    pub idle: Duration,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        head_bytes: 16_384,
        headers: 128,
        message_bytes: 65_535,
        first_message: Duration::from_secs(15),
        message: Duration::from_secs(10),
        idle: Duration::from_secs(120),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message whose body is as long as its Content-Length says.
    Message {
        /// From the first line to the end of the body.
        bytes: &'a [u8],
        /// Where in `bytes` the body starts.
        body: usize,
    },
    /// An empty line twice: answer with one (RFC 5626 §3.5.1).
    Ping,
}

/// Why a stream can not be read on: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// What starts here is not SIP of any version. Also what follows a Content-Length that was too small.
    #[error("the stream does not go on with a message: its first line names no SIP version")]
    Garbage,
    /// The header section is longer than [`Limits::head_bytes`].
    #[error("the header section is longer than {limit} bytes")]
    HeadTooLong {
        /// The limit.
        limit: usize,
    },
    /// More header fields than [`Limits::headers`].
    #[error("the message has more than {limit} header fields")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// No Content-Length, so nobody knows where the next message starts (RFC 3261 §20.14).
    #[error("Content-Length is missing: a stream can not be cut into messages without it")]
    NoLength,
    /// Content-Length twice, even if both say the same.
    #[error("Content-Length stands there twice")]
    TwoLengths,
    /// Content-Length below zero.
    #[error("Content-Length is negative")]
    NegativeLength,
    /// Content-Length is not a number.
    #[error("Content-Length is not a decimal number")]
    BadLength,
    /// With that Content-Length, the message would be longer than [`Limits::message_bytes`].
    #[error("with its Content-Length the message is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

impl FrameError {
    /// The status to answer a request with before the close; `None`: close in silence.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Garbage => None,
            Self::HeadTooLong { .. } => Some(513),
            Self::TooLong { .. } => Some(413),
            Self::TooManyHeaders { .. }
            | Self::NoLength
            | Self::TwoLengths
            | Self::NegativeLength
            | Self::BadLength => Some(400),
        }
    }

    /// The reason phrase of [`Self::status`].
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Garbage => None,
            Self::HeadTooLong { .. } => Some("Message Too Large"),
            Self::TooLong { .. } => Some("Request Entity Too Large"),
            Self::TooManyHeaders { .. } => Some("Too many header fields"),
            Self::NoLength => Some("Content-Length missing"),
            Self::TwoLengths => Some("Content-Length twice"),
            Self::NegativeLength | Self::BadLength => Some("Bad Content-Length"),
        }
    }
}

/// A message that is refused, and with it the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    /// Why.
    pub error: FrameError,
    /// What came of the header section in whole lines, from which an answer can be made. Empty for garbage.
    pub head: &'a [u8],
}

/// Why a connection is closed by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expired {
    /// No message of use came since it was opened.
    Silent,
    /// A message took too long.
    Slow,
    /// Nothing of use came for long, and nothing holds the connection.
    Idle,
}

/// The reading side of a connection.
///
/// Give [`Framer::next`] what was read, again and again until it is `None`; then all of it was taken.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    /// The unfinished message, from its first byte; empty between messages.
    held: Vec<u8>,
    /// What is known of the message at hand.
    head: Head,
    /// `held` was given out and is forgotten next.
    given: bool,
    broken: Option<FrameError>,
    /// A carriage return came, between messages.
    returned: bool,
    /// An empty line came, which with one more is a ping.
    half_ping: bool,
    held_open: bool,
    opened: Moment,
    /// When the last message of use came.
    last: Option<Moment>,
    /// When the message at hand started.
    started: Option<Moment>,
}

impl Framer {
    /// The reading side of a connection that was opened now.
    pub const fn new(limits: Limits, now: Moment) -> Self {
        Self {
            limits,
            held: Vec::new(),
            head: Head::NEW,
            given: false,
            broken: None,
            returned: false,
            half_ping: false,
            held_open: false,
            opened: now,
            last: None,
            started: None,
        }
    }

    /// Takes the next frame off `input`, which came now. `None`: all of it was taken, and more is wanted.
    ///
    /// A message that lies whole in `input` is given out without a copy. The frames depend on the bytes only, not on
    /// the pieces in which they came.
    ///
    /// # Errors
    /// The stream can not be cut any more; asked again, it says the same.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], now: Moment) -> Result<Option<Frame<'a>>, Refused<'a>> {
        if let Some(error) = self.broken {
            return Err(Refused { error, head: &[] });
        }
        if self.given {
            self.given = false;
            self.held = Vec::new();
        }
        if self.held.is_empty() {
            if let Some(keep_alive) = self.between(input)? {
                return Ok(Some(keep_alive));
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.started = Some(now);
        }
        self.message(input)
    }

    /// The last message was of use: the idle time begins anew. Of messages that are dropped in silence it does not, or
    /// anybody could keep a connection open with them.
    pub const fn heard(&mut self, now: Moment) {
        self.last = Some(now);
    }

    /// Something needs this connection, a binding, a call or a trunk, or no longer does: only others are closed
    /// because nothing comes. Keep-alives count as nothing.
    pub const fn hold(&mut self, held: bool) {
        self.held_open = held;
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn next_deadline(&self) -> Option<Moment> {
        let slow = self.started.map(|started| started + self.limits.message);
        let waiting = match self.last {
            _ if self.held_open => None,
            None => Some(self.opened + self.limits.first_message),
            Some(last) => {
                let unfinished = if self.started.is_some() { self.limits.message } else { Duration::ZERO };
                Some(last + self.limits.idle + unfinished)
            }
        };
        [slow, waiting].into_iter().flatten().min()
    }

    /// Whether the connection is to be closed, and why.
    pub fn handle_timeout(&self, now: Moment) -> Option<Expired> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        Some(match (self.started, self.last) {
            (Some(started), _) if now >= started + self.limits.message => Expired::Slow,
            (_, None) => Expired::Silent,
            (_, Some(_)) => Expired::Idle,
        })
    }

    /// The memory that an unfinished message takes (bytes).
    pub const fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Takes line ends off the input, up to a keep-alive, a message's first byte, or the end of the input.
    fn between<'a>(&mut self, input: &mut &[u8]) -> Result<Option<Frame<'a>>, Refused<'a>> {
        while let Some((first, rest)) = input.split_first() {
            match first {
                b'\n' => {
                    *input = rest;
                    self.returned = false;
                    if let Some(keep_alive) = self.empty_line() {
                        return Ok(Some(keep_alive));
                    }
                }
                b'\r' if !self.returned => {
                    *input = rest;
                    self.returned = true;
                }
                first if is_token(*first) && !self.returned => {
                    self.half_ping = false;
                    return Ok(None);
                }
                _ => {
                    self.broken = Some(FrameError::Garbage);
                    return Err(Refused { error: FrameError::Garbage, head: &[] });
                }
            }
        }
        Ok(None)
    }

    fn empty_line<'a>(&mut self) -> Option<Frame<'a>> {
        self.half_ping = !self.half_ping;
        (!self.half_ping).then_some(Frame::Ping)
    }

    /// Reads on in the message at hand, whose first bytes are held, or else are the first of the input.
    fn message<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'a>>, Refused<'a>> {
        let came: &'i [u8] = input;
        let before = self.held.len();
        if before > 0 {
            self.keep(input);
        }
        let read = match before {
            0 => self.head.read(came, &self.limits),
            _ => self.head.read(&self.held, &self.limits),
        };
        let end = match read {
            Ok(end) => end,
            Err(error) => return Err(self.refuse(error, came)),
        };
        // The header section may have been taken without all of the body that came with it.
        if before > 0 || end.is_none_or(|end| came.len() < end) {
            self.keep(input);
        }
        let Some(end) = end.filter(|end| *end <= before + came.len()) else { return Ok(None) };
        let body = mem::replace(&mut self.head, Head::NEW).whole_lines();
        self.started = None;
        *input = &came[end - before..];
        if before == 0 {
            return Ok(Some(Frame::Message { bytes: &came[..end], body }));
        }
        self.given = true;
        Ok(Some(Frame::Message { bytes: &self.held[..end], body }))
    }

    /// Takes what of the input the message at hand may still need. Makes room for what came, at most twice as much.
    fn keep(&mut self, input: &mut &[u8]) {
        let most = self.head.end().unwrap_or(self.limits.head_bytes.saturating_add(1));
        let (taken, rest) = input.split_at(input.len().min(most.saturating_sub(self.held.len())));
        let needed = self.held.len() + taken.len();
        if needed > self.held.capacity() {
            let room = needed.max((2 * self.held.capacity()).min(most));
            self.held.reserve_exact(room - self.held.len());
        }
        self.held.extend_from_slice(taken);
        *input = rest;
    }

    fn refuse<'a>(&'a mut self, error: FrameError, came: &'a [u8]) -> Refused<'a> {
        self.broken = Some(error);
        self.started = None;
        let whole = if error == FrameError::Garbage { 0 } else { self.head.whole_lines() };
        let message = if self.held.is_empty() { came } else { &self.held };
        Refused { error, head: &message[..whole] }
    }
}
