//! What the grammar of every header value is made of: white space, quoted strings, lists. Below all views; every
//! function is total over any bytes.

use std::borrow::Cow;

/// White space of a header value: also the line break of a folded one (RFC 3261 §25.1, LWS).
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A byte of a token (RFC 3261 §25.1).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether `text` is a token.
pub(super) fn all_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token(*byte))
}

/// `text` without white space at its ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

pub(super) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    text
}

pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// The length of the quoted string at the start of `text`, both quotes counted; `None` when it never ends, or `text`
/// does not begin with a quote.
pub(super) fn quoted_length(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Where `wanted` stands first in `text`, outside quoted strings and, when `angles`, outside angle brackets. An
/// unterminated quoted string hides all that follows.
pub(super) fn find_outside(text: &[u8], wanted: u8, angles: bool) -> Option<usize> {
    let mut at = 0;
    let mut inside = false;
    while at < text.len() {
        match text[at] {
            byte if byte == wanted && !inside => return Some(at),
            b'"' if !inside => at += quoted_length(&text[at..])?,
            b'<' if angles => {
                inside = true;
                at += 1;
            }
            b'>' if angles => {
                inside = false;
                at += 1;
            }
            _ => at += 1,
        }
    }
    None
}

/// Whether every quoted string in `text` ends. What is appended behind one that does not would be a part of it.
pub(super) fn quotes_end(mut text: &[u8]) -> bool {
    while let Some(quote) = memchr::memchr(b'"', text) {
        let Some(length) = quoted_length(&text[quote..]) else { return false };
        text = &text[quote + length..];
    }
    true
}

/// The items of a comma list, trimmed; empty ones are skipped (RFC 3261 §25.1 allows none, and nobody means any).
/// Commas in quoted strings and angle brackets are part of their item.
#[derive(Clone, Debug)]
pub(super) struct Items<'a> {
    rest: Option<&'a [u8]>,
    angles: bool,
}

impl<'a> Items<'a> {
    /// A list of addresses, where angle brackets protect.
    pub(super) fn addresses(text: &'a [u8]) -> Self {
        Self { rest: Some(text), angles: true }
    }

    /// A list of tokens or parameters.
    pub(super) fn plain(text: &'a [u8]) -> Self {
        Self { rest: Some(text), angles: false }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest?;
            let item = match find_outside(rest, b',', self.angles) {
                Some(comma) => {
                    self.rest = Some(&rest[comma + 1..]);
                    &rest[..comma]
                }
                None => {
                    self.rest = None;
                    rest
                }
            };
            let item = trim(item);
            if !item.is_empty() {
                return Some(item);
            }
        }
    }
}

/// A decimal number and nothing else; `None` when it is none or does not fit.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Like [`decimal`], but what is a number and does not fit becomes the greatest (RFC 3261 §20.19 wants delta-seconds
/// so).
pub(super) fn decimal_saturating(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(decimal(text).and_then(|value| u32::try_from(value).ok()).unwrap_or(u32::MAX))
}

/// A string that may have been quoted: the bytes as they came, between the quotes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quoted<'a>(&'a [u8]);

impl<'a> Quoted<'a> {
    /// A quoted string or a bare one; `None` when a quote never ends or something follows it.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = trim(text);
        match text.first() {
            Some(b'"') => (quoted_length(text)? == text.len()).then(|| Self(&text[1..text.len() - 1])),
            _ => Some(Self(text)),
        }
    }

    /// The bytes between the quotes, backslashes as they came.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// The text that is meant: quoted pairs resolved, folding made a space. Borrowed when there are none.
    pub fn text(self) -> Cow<'a, [u8]> {
        if self.0.iter().any(|byte| matches!(byte, b'\\' | b'\r' | b'\n')) {
            Cow::Owned(self.decoded().collect())
        } else {
            Cow::Borrowed(self.0)
        }
    }

    /// Whether the text that is meant is `other`; allocates nothing.
    pub fn is(self, other: &[u8]) -> bool {
        self.decoded().eq(other.iter().copied())
    }

    fn decoded(self) -> impl Iterator<Item = u8> {
        let mut bytes = self.0.iter().copied().peekable();
        std::iter::from_fn(move || match bytes.next()? {
            b'\\' => Some(bytes.next().unwrap_or(b'\\')),
            b'\r' | b'\n' => {
                while bytes.next_if(|byte| is_space(*byte)).is_some() {}
                Some(b' ')
            }
            byte => Some(byte),
        })
    }
}

impl PartialEq for Quoted<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.decoded().eq(other.decoded())
    }
}

impl Eq for Quoted<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_angle_brackets_part_nothing() {
        let list = b"\"a, \\\", b\" <sip:x,y@h>;q=1 ,, <sip:z@h>\t,";
        let items: Vec<_> = Items::addresses(list).collect();
        assert_eq!(items, [&b"\"a, \\\", b\" <sip:x,y@h>;q=1"[..], b"<sip:z@h>"]);
        assert_eq!(Items::addresses(b" , ,").count(), 0);
        assert_eq!(Items::plain(b"a<b,c").count(), 2);
    }

    #[test]
    fn a_quoted_string_is_decoded_only_where_it_must_be() {
        let plain = Quoted::parse(b" \"alice\" ").unwrap();
        assert!(matches!(plain.text(), Cow::Borrowed(b"alice")));
        let escaped = Quoted::parse(br#""a\\ \"b\"""#).unwrap();
        assert_eq!(&*escaped.text(), br#"a\ "b""#);
        assert!(escaped.is(br#"a\ "b""#));
        assert!(!escaped.is(b"a"));
        assert_eq!(Quoted::parse(b"\"folded\r\n  here\"").unwrap().text(), &b"folded here"[..]);
        assert_eq!(Quoted::parse(b"\"never ends"), None);
        assert_eq!(Quoted::parse(b"\"ends\" early"), None);
        assert_eq!(Quoted::parse(b"\"\\\""), None);
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(decimal(b"0068"), Some(68));
        for text in [&b""[..], b"-1", b"+1", b" 1", b"1a", b"99999999999999999999"] {
            assert_eq!(decimal(text), None);
        }
        assert_eq!(decimal_saturating(b"99999999999999999999"), Some(u32::MAX));
        assert_eq!(decimal_saturating(b"-1"), None);
    }
}
