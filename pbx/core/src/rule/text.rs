//! Rules as lines of text: import and export.
//!
//! ```text
//! # address-or-range [allow|block] [for SPAN | until TIME] [# description]
//! 103.224.182.210
//! 41.202.0.0 255.255.0.0 block until 2027-01-01T00:00:00Z # Abidjan
//! 2001:db8::/64 allow for 2h # My Remote office
//! ```

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use super::{Action, NewRule, RuleError};
use crate::{
    address::{self, AddressError, Prefix},
    time::{self, TimeError, Timestamp},
};

/// Bytes that a line may have: an address, an end and a description of 255 characters of four bytes each.
pub const LONGEST_LINE: usize = 2048;
/// Lines that a text may have: room for every rule that there can be, and for remarks.
pub const MAX_LINES: usize = 700_000;
/// Bad lines and remarks that are told one by one; the others are only counted.
pub const MAX_REPORTED: usize = 20;

/// What a text means, every line of it valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// The rules in the order of the text; no two with the same prefix and action.
    pub rules: Vec<NewRule>,
    /// Lines that said again what an earlier line had said: the longer life and the first description hold.
    pub merged: usize,
    /// Lines that were understood, but not as they stand; the first [`MAX_REPORTED`] of them.
    pub remarks: Vec<Remark>,
}

/// Something to tell about a line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Counted from 1.
    pub line: usize,
    /// What was made of it.
    pub message: String,
}

/// A line that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Why nothing of a text is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    /// The first bad lines, at least one and at most [`MAX_REPORTED`].
    pub bad: Vec<BadLine>,
    /// How many bad lines there are.
    pub total: usize,
}

/// Reads a whole text; a line that names no action blocks.
pub fn parse_import(text: &str, now: Timestamp) -> Result<Import, ImportError> {
    let lines = text.lines().enumerate().filter_map(|(index, line)| {
        let parsed = if index < MAX_LINES { parse_line(line, now) } else { Err(LineError::TooMany) };
        Some((index + 1, parsed.map_err(|error| error.to_string()).transpose()?))
    });
    collect(lines)
}

/// Puts rules together that were read line by line, each with its number, and with whether host bits had to be cleared.
/// Stops after [`MAX_LINES`].
pub fn collect(
    lines: impl IntoIterator<Item = (usize, Result<(NewRule, bool), String>)>,
) -> Result<Import, ImportError> {
    let mut import = Import::default();
    let mut bad = Vec::new();
    let mut total = 0;
    let mut places = HashMap::new();
    for (number, outcome) in lines {
        let is_last = number > MAX_LINES;
        let outcome = if is_last { Err(LineError::TooMany.to_string()) } else { outcome };
        match outcome {
            Ok((rule, cleared)) => {
                if cleared && import.remarks.len() < MAX_REPORTED {
                    let message = format!("has bits set behind its length: taken as {}", rule.prefix);
                    import.remarks.push(Remark { line: number, message });
                }
                match places.entry((rule.prefix, rule.action)) {
                    Entry::Vacant(place) => {
                        place.insert(import.rules.len());
                        import.rules.push(rule);
                    }
                    Entry::Occupied(place) => {
                        import.merged += 1;
                        merge(&mut import.rules[*place.get()], rule);
                    }
                }
            }
            Err(error) => {
                total += 1;
                if bad.len() < MAX_REPORTED {
                    bad.push(BadLine { line: number, message: error });
                }
                if is_last {
                    break;
                }
            }
        }
    }
    if total > 0 { Err(ImportError { bad, total }) } else { Ok(import) }
}

/// One line a rule, as [`parse_import`] reads them.
pub fn export<'a>(rules: impl IntoIterator<Item = (&'a Prefix, Action, Option<Timestamp>, &'a str)>) -> String {
    let mut text = String::new();
    for (prefix, action, expires_at, description) in rules {
        text += &format!("{prefix} {action}");
        if let Some(end) = expires_at {
            text += &format!(" until {end}");
        }
        if !description.is_empty() {
            text += &format!(" # {description}");
        }
        text.push('\n');
    }
    text
}

impl NewRule {
    /// Its parts, as [`export`] takes them.
    pub fn parts(&self) -> (&Prefix, Action, Option<Timestamp>, &str) {
        (&self.prefix, self.action, self.expires_at, &self.description)
    }
}

impl super::Rule {
    /// Its parts, as [`export`] takes them.
    pub fn parts(&self) -> (&Prefix, Action, Option<Timestamp>, &str) {
        (&self.prefix, self.action, self.expires_at, &self.description)
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, bad) in self.bad.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{bad}")?;
        }
        match self.total.saturating_sub(self.bad.len()) {
            0 => Ok(()),
            1 => write!(f, "\nand 1 more bad line"),
            more => write!(f, "\nand {more} more bad lines"),
        }
    }
}

impl std::error::Error for ImportError {}

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("is one line too many: {MAX_LINES} are the most")]
    TooMany,
    #[error("has {0} bytes: {LONGEST_LINE} are the most")]
    Long(usize),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Rule(#[from] RuleError),
    #[error(transparent)]
    Time(#[from] TimeError),
    #[error("{0:?} is followed by nothing: write it as `for 2h` or `until 2026-11-23T05:40:00Z`")]
    NoEnd(&'static str),
    #[error("{0:?} does not belong here: write `address [allow|block] [for 2h | until TIME] [# description]`")]
    Extra(String),
}

/// The rule of a line and whether host bits had to be cleared; nothing for a line without a rule.
fn parse_line(line: &str, now: Timestamp) -> Result<Option<(NewRule, bool)>, LineError> {
    if line.len() > LONGEST_LINE {
        return Err(LineError::Long(line.len()));
    }
    let (line, description) = line.split_once('#').unwrap_or((line, ""));
    // A file that an editor marked as UTF-8 begins with a byte order mark.
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (address, rest) = line.split_at(start_of_words(line));
    let typed = address::parse(address)?;
    let mut words = rest.split_whitespace().peekable();
    let action = match words.peek().and_then(|word| word.parse().ok()) {
        Some(action) => {
            words.next();
            action
        }
        None => Action::Block,
    };
    let end = match words.next() {
        None => None,
        Some("for") => {
            let span = time::parse_duration(words.next().ok_or(LineError::NoEnd("for"))?)?;
            Some(now.saturating_add(span))
        }
        Some("until") => Some(words.next().ok_or(LineError::NoEnd("until"))?.parse()?),
        Some(word) => return Err(LineError::Extra(shortened(word))),
    };
    if let Some(word) = words.next() {
        return Err(LineError::Extra(shortened(word)));
    }
    let rule = NewRule::new(typed.prefix, action, end, description, now)?;
    Ok(Some((rule, typed.host_bits_cleared)))
}

/// Where the address ends: at the first word that is not part of one. The first word always is.
fn start_of_words(line: &str) -> usize {
    let mut at = line.find(char::is_whitespace).unwrap_or(line.len());
    while at < line.len() {
        let word = line[at..].trim_start();
        let start = line.len() - word.len();
        if word.starts_with(|char: char| char.is_ascii_alphabetic()) {
            return start;
        }
        at = word.find(char::is_whitespace).map_or(line.len(), |length| start + length);
    }
    line.len()
}

fn merge(rule: &mut NewRule, again: NewRule) {
    rule.expires_at = match (rule.expires_at, again.expires_at) {
        (Some(end), Some(other)) => Some(end.max(other)),
        _ => None,
    };
    if rule.description.is_empty() {
        rule.description = again.description;
    }
}

fn shortened(word: &str) -> String {
    word.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
