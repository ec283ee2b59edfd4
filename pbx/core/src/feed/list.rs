//! The text of a feed: one address or range a line, `#` and `;` begin a comment.
//!
//! ```text
//! ; as Spamhaus writes them
//! 192.0.2.0/24 ; SBL123456
//! 2001:db8::/32
//! 198.51.100.7    # seen scanning
//! ```
//!
//! A text is taken whole or not at all: a line that means nothing says that this is no list. Errors do not repeat what
//! they could not read, because a feed may be a file that is not for everybody's eyes.

use std::collections::BTreeSet;

use super::LARGEST;
use crate::{
    address::{self, Prefix},
    lockout::{self, Refusal, Surroundings},
    rule,
};

/// Bytes that a line may have; one that is only a comment may have more.
pub const LONGEST_LINE: usize = 128;
/// The shortest prefixes that a list may block: all that is wider is a slip or an attack.
const WIDEST_IPV4: u8 = 8;
const WIDEST_IPV6: u8 = 16;

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it blocks.
    pub prefix: Prefix,
    /// Counted from 1.
    pub line: usize,
    /// What stands behind it as a comment.
    pub comment: String,
}

/// What a text means, every line of it valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// By range, no two of the same.
    pub entries: Vec<Entry>,
    /// Lines that said again what an earlier one had said.
    pub repeated: usize,
    /// Lines with bits set behind their length, which were cleared.
    pub cleared: usize,
}

/// Why nothing of a text is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// More bytes than are read.
    #[error("has more than {LARGEST} bytes")]
    Large,
    /// Nothing at all, which is rather a failure of whoever serves it than the end of all evil.
    #[error("is empty; a list that is meant to be empty has a line with a comment")]
    Empty,
    /// Not text.
    #[error("is not text: line {line} has bytes that no list has")]
    NotText {
        /// Counted from 1.
        line: usize,
    },
    /// Packed.
    #[error("is compressed ({0}): give the address of the plain list")]
    Compressed(&'static str),
    /// HTML or XML.
    #[error("is a web page and not a list")]
    Markup,
    /// More bytes in a line than an entry and its comment need.
    #[error("is no list: line {line} has more than {LONGEST_LINE} bytes")]
    LongLine {
        /// Counted from 1.
        line: usize,
    },
    /// A line that is no entry.
    #[error("is no list: line {line} {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// More entries than this feed may have.
    #[error("has more than {most} entries, the most that this feed may have")]
    TooMany {
        /// What it may have.
        most: usize,
    },
    /// A range so wide that no list may block it.
    #[error(
        "line {line} would block {prefix}: ranges wider than /{WIDEST_IPV4} of IPv4 and /{WIDEST_IPV6} of IPv6 are not \
         taken from lists"
    )]
    Wide {
        /// Counted from 1.
        line: usize,
        /// The range.
        prefix: Prefix,
    },
    /// Something without which the machine does not work.
    #[error("line {line}: {refusal}")]
    Vital {
        /// Counted from 1.
        line: usize,
        /// What it would hit.
        refusal: Refusal,
    },
}

/// Reads a whole text of at most `most` entries.
pub fn parse(bytes: &[u8], most: usize) -> Result<List, FeedError> {
    if bytes.len() > LARGEST {
        return Err(FeedError::Large);
    }
    if let Some(format) = compressed(bytes) {
        return Err(FeedError::Compressed(format));
    }
    if bytes.trim_ascii().is_empty() {
        return Err(FeedError::Empty);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| FeedError::NotText { line: line_of(&bytes[..error.valid_up_to()]) })?;
    // A file that an editor marked as UTF-8 begins with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('<') {
        return Err(FeedError::Markup);
    }
    let mut list = List::default();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t' && byte != b'\r') {
            return Err(FeedError::NotText { line: number });
        }
        let Some((entry, cleared)) = parse_line(line, number)? else { continue };
        if list.entries.len() >= most {
            return Err(FeedError::TooMany { most });
        }
        list.cleared += usize::from(cleared);
        list.entries.push(entry);
    }
    let all = list.entries.len();
    // Of two the first line stays.
    list.entries.sort_by_key(|entry| (entry.prefix, entry.line));
    list.entries.dedup_by_key(|entry| entry.prefix);
    list.repeated = all - list.entries.len();
    Ok(list)
}

impl List {
    /// Refuses a list that would hit what the machine cannot do without: its own addresses, its gateway, loopback.
    pub fn check(&self, surroundings: &Surroundings) -> Result<(), FeedError> {
        let vital = Surroundings { peers: Vec::new(), ..surroundings.clone() };
        let refusals = lockout::check_blocks(self.entries.iter().map(|entry| &entry.prefix), &vital, false);
        let Some(refusal) = refusals.into_iter().next() else { return Ok(()) };
        let (Refusal::Hard { prefix, .. } | Refusal::NeedsForce { prefix, .. }) = &refusal;
        let line = self.entries.iter().find(|entry| entry.prefix == *prefix).map_or(0, |entry| entry.line);
        Err(FeedError::Vital { line, refusal })
    }

    /// Every range, in order.
    pub fn prefixes(&self) -> BTreeSet<Prefix> {
        self.entries.iter().map(|entry| entry.prefix).collect()
    }
}

/// The entry of a line and whether host bits had to be cleared; nothing for a line without one.
fn parse_line(line: &str, number: usize) -> Result<Option<(Entry, bool)>, FeedError> {
    let (text, comment) = line.split_once(['#', ';']).unwrap_or((line, ""));
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if line.len() > LONGEST_LINE {
        return Err(FeedError::LongLine { line: number });
    }
    let typed = address::parse(text).map_err(|error| {
        let is_numbers = text.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:/".contains(&byte));
        let what = if is_numbers { error.to_string() } else { "is neither an address nor a range".to_owned() };
        FeedError::Line { line: number, what }
    })?;
    let widest = if typed.prefix.is_ipv4() { WIDEST_IPV4 } else { WIDEST_IPV6 };
    if typed.prefix.len() < widest {
        return Err(FeedError::Wide { line: number, prefix: typed.prefix });
    }
    let comment = rule::description(comment).unwrap_or_default();
    Ok(Some((Entry { prefix: typed.prefix, line: number, comment }, typed.host_bits_cleared)))
}

/// The format of a packed file, by its first bytes.
fn compressed(bytes: &[u8]) -> Option<&'static str> {
    const FORMATS: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gzip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
    ];
    FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format)
}

fn line_of(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
