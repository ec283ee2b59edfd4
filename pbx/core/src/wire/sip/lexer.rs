//! One pass over a message's bytes: where the start line's parts, the headers and the body are. Copies nothing, and
//! allocates only for more headers than usual. Judges only what it must to go on; the rest is `validate`'s.

use memchr::memchr;

use super::{
    Fault, MAX_HEADERS, MAX_MESSAGE, Name, ParseError,
    scan::{decimal, is_space, is_token, trim},
};

/// How the bytes came, which decides where a body ends (RFC 3261 §18.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A datagram: without `Content-Length` the body is what is left, and what is more than it says is cut off.
    Datagram,
    /// Framed from a stream by its `Content-Length`.
    Stream,
}

/// A range of bytes in a message, which is never longer than 65,535.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u16,
    pub(super) end: u16,
}

impl Range {
    const fn new(start: usize, end: usize) -> Self {
        // Both are positions in a message of at most MAX_MESSAGE bytes.
        Self { start: start as u16, end: end as u16 }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// One header line, folded ones whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// From the first byte of the name to behind the line break.
    pub(super) whole: Range,
    /// Behind the last byte of the name.
    pub(super) name_end: u16,
    /// The value, trimmed.
    pub(super) value: Range,
    pub(super) name: Name,
}

const NO_LINE: Line =
    Line { whole: Range { start: 0, end: 0 }, name_end: 0, value: Range { start: 0, end: 0 }, name: Name::Other };

/// The parts of the start line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Request { method: Range, uri: Range, version: Range },
    Response { version: Range, code: u16, reason: Range },
}

/// Headers without an allocation: a long INVITE of a phone behind two proxies has thirty.
const INLINE: usize = 40;

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) start: Start,
    pub(super) start_line: Range,
    pub(super) body: Range,
    /// Where the empty line before the body begins.
    pub(super) headers_end: u16,
    pub(super) origin: Origin,
    /// The first fault that the lexer itself saw.
    pub(super) fault: Option<Fault>,
    /// Names that are there, and names that are there more than once.
    pub(super) present: u128,
    pub(super) repeated: u128,
    len: u16,
    inline: [Line; INLINE],
    spill: Vec<Line>,
}

impl Index {
    /// The header lines in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> + Clone {
        self.inline[..usize::from(self.len).min(INLINE)].iter().chain(&self.spill)
    }

    fn push(&mut self, line: Line) -> Result<(), ParseError> {
        let position = usize::from(self.len);
        if position >= MAX_HEADERS {
            return Err(ParseError::TooManyHeaders);
        }
        match self.inline.get_mut(position) {
            Some(slot) => *slot = line,
            None => self.spill.push(line),
        }
        self.len += 1;
        let bit = line.name.bit();
        self.repeated |= self.present & bit;
        self.present |= bit;
        Ok(())
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// The index of the message in `bytes`.
pub(super) fn lex(bytes: &[u8], origin: Origin) -> Result<Index, ParseError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(ParseError::TooLong(bytes.len()));
    }
    let first = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).ok_or(ParseError::Empty)?;
    let (line_end, mut at) = line(bytes, first);
    let (start, fault) = start_line(bytes, first, line_end)?;
    let mut index = Index {
        start,
        start_line: Range::new(first, line_end),
        body: Range::default(),
        headers_end: 0,
        origin,
        fault,
        present: 0,
        repeated: 0,
        len: 0,
        inline: [NO_LINE; INLINE],
        spill: Vec::new(),
    };
    loop {
        if at >= bytes.len() {
            index.headers_end = at as u16;
            index.body = Range::new(at, at);
            index.fail(Fault::Unterminated);
            return Ok(index);
        }
        let (end, next) = line(bytes, at);
        if end == at {
            index.headers_end = at as u16;
            body(&mut index, bytes, next);
            return Ok(index);
        }
        at = header(&mut index, bytes, at, end, next)?;
    }
}

/// Where the line that begins at `at` ends, without and with its line break.
fn line(bytes: &[u8], at: usize) -> (usize, usize) {
    match memchr(b'\n', &bytes[at..]) {
        Some(length) => {
            let end = at + length;
            let has_return = length > 0 && bytes[end - 1] == b'\r';
            (end - usize::from(has_return), end + 1)
        }
        None => (bytes.len(), bytes.len()),
    }
}

/// Takes in the header whose first line goes from `at` to `end`, and gives back where the next one begins.
fn header(index: &mut Index, bytes: &[u8], at: usize, end: usize, next: usize) -> Result<usize, ParseError> {
    let (mut value_end, mut next) = (end, next);
    while matches!(bytes.get(next), Some(b' ' | b'\t')) {
        (value_end, next) = line(bytes, next);
    }
    let text = &bytes[at..value_end];
    let name_length = text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len());
    let mut colon = name_length;
    while matches!(text.get(colon), Some(b' ' | b'\t')) {
        colon += 1;
    }
    if name_length == 0 || text.get(colon) != Some(&b':') {
        index.fail(Fault::HeaderLine);
        index.push(Line {
            whole: Range::new(at, next),
            name_end: at as u16,
            value: Range::new(at, value_end),
            name: Name::Other,
        })?;
        return Ok(next);
    }
    let (mut value_start, mut value_end) = (at + colon + 1, value_end);
    while value_start < value_end && is_space(bytes[value_start]) {
        value_start += 1;
    }
    while value_start < value_end && is_space(bytes[value_end - 1]) {
        value_end -= 1;
    }
    index.push(Line {
        whole: Range::new(at, next),
        name_end: (at + name_length) as u16,
        value: Range::new(value_start, value_end),
        name: Name::of(&text[..name_length]),
    })?;
    Ok(next)
}

/// The parts of the start line between `first` and `end`. Lenient where the parts can still be told apart, with the
/// fault beside them, so that a malformed request can be answered.
fn start_line(bytes: &[u8], first: usize, end: usize) -> Result<(Start, Option<Fault>), ParseError> {
    let text = &bytes[first..end];
    let space = memchr(b' ', text).ok_or(ParseError::NotSip)?;
    if is_version(&text[..space]) {
        let rest = &text[space + 1..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let code = decimal(&rest[..digits]).filter(|code| digits == 3 && (100..700).contains(code));
        let reason = match rest.get(digits) {
            None => first + space + 1 + digits,
            Some(b' ') => first + space + 2 + digits,
            Some(_) => return Err(ParseError::NotSip),
        };
        // A response is never answered: one with a code that is none is no more use than noise.
        let code = code.ok_or(ParseError::NotSip)? as u16;
        let version = Range::new(first, first + space);
        return Ok((Start::Response { version, code, reason: Range::new(reason, end) }, None));
    }
    let method = Range::new(first, first + space);
    let trailing = text.iter().rev().take_while(|byte| is_space(**byte)).count();
    let line_end = text.len() - trailing;
    let last_space =
        text[..line_end].iter().rposition(|byte| matches!(byte, b' ' | b'\t')).ok_or(ParseError::NotSip)?;
    let version = &text[last_space + 1..line_end];
    if !is_version(version) || space == 0 || last_space <= space {
        return Err(ParseError::NotSip);
    }
    let middle = &text[space + 1..last_space];
    let uri = trim(middle);
    let uri_start = first + space + 1 + middle.iter().take_while(|byte| is_space(**byte)).count().min(middle.len());
    let clean = trailing == 0
        && uri.len() == middle.len()
        && !uri.is_empty()
        && !uri.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control())
        && text[..space].iter().all(|byte| is_token(*byte));
    let start = Start::Request {
        method,
        uri: Range::new(uri_start, uri_start + uri.len()),
        version: Range::new(first + last_space + 1, first + line_end),
    };
    Ok((start, (!clean).then_some(Fault::StartLine)))
}

/// `SIP/`, digits, a dot, digits, in any case (RFC 3261 §7.1).
fn is_version(text: &[u8]) -> bool {
    let Some((b"/", numbers)) = text.get(3..).and_then(|rest| rest.split_at_checked(1)) else { return false };
    let number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    text[..3].eq_ignore_ascii_case(b"SIP")
        && memchr(b'.', numbers).is_some_and(|dot| number(&numbers[..dot]) && number(&numbers[dot + 1..]))
}

/// Where the body is, which begins at `at` at the earliest and at the latest.
fn body(index: &mut Index, bytes: &[u8], at: usize) {
    let present = bytes.len() - at;
    let mut declared = None;
    if index.present & Name::ContentLength.bit() != 0 {
        let first = index.lines().find(|line| line.name == Name::ContentLength).map(|line| line.value.of(bytes));
        declared = first.and_then(decimal);
        if declared.is_none() || index.repeated & Name::ContentLength.bit() != 0 {
            index.fail(Fault::ContentLength);
        }
    } else if index.origin == Origin::Stream {
        index.fail(Fault::NoContentLength);
    }
    let length = match declared {
        Some(declared) if declared > present as u64 => {
            index.fail(Fault::Truncated { declared, present });
            present
        }
        Some(declared) => declared as usize,
        None => present,
    };
    index.body = Range::new(at, at + length);
}
