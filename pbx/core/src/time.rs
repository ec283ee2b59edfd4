//! Points in time and spans of time, as people and the store write them.
//! Under everything else in this crate. Knows no clock: the time of day is always an argument.

use std::{fmt, str::FromStr, time::Duration, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Longer text is neither a time nor a span of time.
const LONGEST_TEXT: usize = 64;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, within the years 0000 to 9999.
///
/// Printed, parsed and serialized as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// 0000-01-01T00:00:00Z, the first that RFC 3339 can write.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// 9999-12-31T23:59:59.999Z, the last that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The time so many milliseconds after the epoch, kept between [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time and `span` later, at most [`MAX`](Self::MAX).
    pub fn saturating_add(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This time and `span` earlier, at least [`MIN`](Self::MIN).
    pub fn saturating_sub(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long ago `earlier` was; zero if it is yet to come.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).try_into().unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self::EPOCH.saturating_add(after),
            Err(before) => Self::EPOCH.saturating_sub(before.duration()),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0.div_euclid(DAY));
        let rest = self.0.rem_euclid(DAY);
        let (hour, minute) = (rest / HOUR, rest % HOUR / MINUTE);
        let (second, milli) = (rest % MINUTE / SECOND, rest % SECOND);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if milli != 0 {
            write!(f, ".{milli:03}")?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    /// RFC 3339 §5.6: `2026-11-23T05:40:00Z`, `2026-11-23T05:40:00.250+01:00`. Parts of a millisecond are cut off.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let text = text.trim();
        timestamp(text).ok_or_else(|| TimeError::NotATime(shortened(text)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A span of time as it is typed: `30s`, `2h`, `1d12h`, `500ms`; units from large to small, each once.
pub fn parse_duration(text: &str) -> Result<Duration, TimeError> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_TEXT {
        return Err(TimeError::NotASpan(shortened(text)));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TimeError::NoUnit(text.to_owned()));
    }
    let mut rest = text;
    let mut total = 0_u64;
    let mut smaller_than = usize::MAX;
    while !rest.is_empty() {
        let not_a_span = || TimeError::NotASpan(shortened(text));
        let (digits, after) = rest.split_at(leading(rest, |byte| byte.is_ascii_digit()));
        let (name, after) = after.split_at(leading(after, |byte| byte.is_ascii_alphabetic()));
        let rank = UNITS.iter().position(|(unit, _)| *unit == name).ok_or_else(not_a_span)?;
        if digits.is_empty() || (smaller_than != usize::MAX && rank <= smaller_than) {
            return Err(not_a_span());
        }
        let too_long = || TimeError::TooLong(shortened(text));
        let count: u64 = digits.parse().map_err(|_| too_long())?;
        let millis = count.checked_mul(UNITS[rank].1).ok_or_else(too_long)?;
        total = total.checked_add(millis).ok_or_else(too_long)?;
        smaller_than = rank;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// A span of time as [`parse_duration`] reads it: `1h`, `1d12h`, `0s`. Parts of a millisecond are cut off.
pub fn format_duration(span: Duration) -> String {
    let mut rest = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        // A week is read, but a person compares days more easily.
        if *unit != "w" && rest >= *millis {
            text += &format!("{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Why a text is no point in time and no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339.
    #[error("{0:?} is not a time: write it as 2026-11-23T05:40:00Z")]
    NotATime(String),
    /// Not numbers with units.
    #[error("{0:?} is not a span of time: write it as 90s, 30m, 2h, 1d12h or 500ms")]
    NotASpan(String),
    /// A number alone.
    #[error("{0} has no unit: write {0}s for seconds, {0}m for minutes, {0}h for hours or {0}d for days")]
    NoUnit(String),
    /// More milliseconds than 64 bits hold.
    #[error("{0:?} is too long a span of time")]
    TooLong(String),
}

/// Units of a span and their milliseconds, large to small.
const UNITS: &[(&str, u64)] = &[
    ("w", 7 * DAY as u64),
    ("d", DAY as u64),
    ("h", HOUR as u64),
    ("m", MINUTE as u64),
    ("s", SECOND as u64),
    ("ms", 1),
];

fn leading(text: &str, wanted: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| wanted(*byte)).count()
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

fn timestamp(text: &str) -> Option<Timestamp> {
    if text.len() > LONGEST_TEXT {
        return None;
    }
    let bytes = text.as_bytes();
    let year = number(bytes, 0, 4)?;
    let month = number(bytes, 5, 2)?;
    let day = number(bytes, 8, 2)?;
    let hour = number(bytes, 11, 2)?;
    let minute = number(bytes, 14, 2)?;
    let second = number(bytes, 17, 2)?;
    let marks = bytes[4] == b'-' && bytes[7] == b'-' && bytes[13] == b':' && bytes[16] == b':';
    let date_ends = matches!(bytes[10], b'T' | b't' | b' ');
    // A leap second (RFC 3339 §5.7) counts as the second after it, as it does in POSIX time.
    let within = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !marks || !date_ends || !within || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut millis = days_to(year, month, day) * DAY + hour * HOUR + minute * MINUTE + second * SECOND;
    let mut zone = &bytes[19..];
    if let [b'.', fraction @ ..] = zone {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for (digit, worth) in fraction[..digits].iter().zip([100, 10, 1]) {
            millis += i64::from(digit - b'0') * worth;
        }
        zone = &fraction[digits..];
    }
    let east = match zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(zone, 1, 2)?, number(zone, 4, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * HOUR + minutes * MINUTE;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let time = Timestamp::from_millis(millis - east);
    (time.0 == millis - east).then_some(time)
}

fn number(bytes: &[u8], at: usize, digits: usize) -> Option<i64> {
    bytes
        .get(at..at + digits)?
        .iter()
        .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 0000-01-01 to the first of January of `year` (proleptic Gregorian calendar), `year` ≥ 0.
fn days_before_year(year: i64) -> i64 {
    let past = year - 1;
    year * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) + 1
}

/// 1970-01-01, in days after 0000-01-01.
const EPOCH_DAY: i64 = 719_528;

fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    days_before_year(year) + months + day - 1 - EPOCH_DAY
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAY;
    // 365.2425 days a year: the estimate is off by one at most.
    let mut year = days * 400 / 146_097;
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    while days_before_year(year) > days {
        year -= 1;
    }
    let mut rest = days - days_before_year(year);
    let mut month = 1;
    while rest >= days_in(year, month) {
        rest -= days_in(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests;
