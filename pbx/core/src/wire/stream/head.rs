//! The header section of a message in a stream, line by line as it comes: where it ends, and how long the body is.
//! Looks at every byte once, however small the pieces are.

use std::{mem, ops::Range};

use memchr::memchr;

use super::{FrameError, Limits};
use crate::wire::demux::names_sip;

/// What is known of a message whose header section may not be all here. All positions count from its first byte.
#[derive(Debug)]
pub(super) struct Head {
    /// Where the line starts that is not yet whole.
    line: usize,
    /// How far was looked for its end.
    seen: usize,
    headers: usize,
    /// How often Content-Length came.
    lengths: usize,
    /// The value of the last one.
    length: Range<usize>,
    /// The last header field was Content-Length; folded lines belong to it.
    in_length: bool,
    /// Where the body ends, once the header section is whole.
    end: Option<usize>,
}

impl Head {
    /// Nothing is known.
    pub(super) const NEW: Self =
        Self { line: 0, seen: 0, headers: 0, lengths: 0, length: 0..0, in_length: false, end: None };

    /// Reads on in `message`, which is what came so far from the message's first byte on. Gives the message's length
    /// as soon as it is known.
    pub(super) fn read(&mut self, message: &[u8], limits: &Limits) -> Result<Option<usize>, FrameError> {
        if self.end.is_some() {
            return Ok(self.end);
        }
        let text = &message[..message.len().min(limits.head_bytes)];
        while let Some(rest) = memchr(b'\n', &text[self.seen..]) {
            let end = self.seen + rest;
            self.seen = end + 1;
            let start = mem::replace(&mut self.line, end + 1);
            let line = &text[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                let body = length_of_body(self.lengths, &text[self.length.clone()])?;
                let end = self.line.saturating_add(body);
                if end > limits.message_bytes {
                    return Err(FrameError::TooLong { limit: limits.message_bytes });
                }
                self.end = Some(end);
                return Ok(self.end);
            }
            self.header(line, start, limits)?;
        }
        self.seen = text.len();
        if message.len() > limits.head_bytes {
            return Err(FrameError::HeadTooLong { limit: limits.head_bytes });
        }
        Ok(None)
    }

    /// The length of the message, if it is known.
    pub(super) const fn end(&self) -> Option<usize> {
        self.end
    }

    /// Where the body starts, of a message whose length is known; else how much came in whole lines.
    pub(super) const fn whole_lines(&self) -> usize {
        self.line
    }

    /// How far was looked.
    #[cfg(test)]
    pub(super) const fn seen(&self) -> usize {
        self.seen
    }

    fn header(&mut self, line: &[u8], start: usize, limits: &Limits) -> Result<(), FrameError> {
        if start == 0 {
            return if names_sip(line) { Ok(()) } else { Err(FrameError::Garbage) };
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if self.in_length {
                self.length.end = start + line.len();
            }
            return Ok(());
        }
        self.headers += 1;
        if self.headers > limits.headers {
            return Err(FrameError::TooManyHeaders { limit: limits.headers });
        }
        self.in_length = false;
        if let Some(colon) = memchr(b':', line)
            && is_content_length(name(&line[..colon]))
        {
            self.in_length = true;
            self.lengths += 1;
            self.length = start + colon + 1..start + line.len();
        }
        Ok(())
    }
}

/// Content-Length, or its compact form (RFC 3261 §20.14).
const fn is_content_length(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")
}

fn length_of_body(lengths: usize, value: &[u8]) -> Result<usize, FrameError> {
    match lengths {
        0 => return Err(FrameError::NoLength),
        1 => (),
        _ => return Err(FrameError::TwoLengths),
    }
    match trimmed(value) {
        [b'-', digits @ ..] if is_number(digits) => Err(FrameError::NegativeLength),
        digits if is_number(digits) => {
            let add = |sum: usize, digit: &u8| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
            Ok(digits.iter().fold(0, add))
        }
        _ => Err(FrameError::BadLength),
    }
}

/// What stands before a colon without the white space behind it.
fn name(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A value without the white space around it, the line breaks of a folded one included.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}
