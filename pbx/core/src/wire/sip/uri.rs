//! URIs (RFC 3261 §19.1, RFC 3966, RFC 8141). The bytes stay as they came: `%40` is `%40`. When two of
//! them mean the same is the registrar's question.

use std::{net::IpAddr, str::FromStr};

use memchr::{memchr, memrchr};

use super::{
    Malformed, Params,
    scan::{decimal, trim, trim_end},
};

/// What kind of address a URI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// `urn:` (RFC 8141)
    Urn,
    /// Any other.
    Other,
}

/// A URI, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// All of it.
    pub raw: &'a [u8],
    /// Its scheme.
    pub scheme: Scheme,
    /// Of `sip` and `sips`: what stands before the `@` and a password, escapes as they came. Of `tel`: the number.
    pub user: Option<&'a [u8]>,
    /// What stands behind the user's colon.
    pub password: Option<&'a [u8]>,
    /// Of `sip` and `sips`: the host. Of the others: empty.
    pub host: Host<'a>,
    /// The port, when one is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    /// What stands behind a question mark.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// The URI in `text`, which is all URI: no brackets, no white space.
    ///
    /// # Errors
    ///
    /// [`Malformed::Uri`] when there is no scheme, or the parts of a known scheme break their grammar.
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        let colon = memchr(b':', text).ok_or(Malformed::Uri)?;
        let (scheme_text, rest) = (&text[..colon], &text[colon + 1..]);
        if !is_scheme(scheme_text) || rest.is_empty() || text.iter().any(|byte| !is_uri_byte(*byte)) {
            return Err(Malformed::Uri);
        }
        let scheme = match scheme_text {
            name if name.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
            name if name.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
            name if name.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
            name if name.eq_ignore_ascii_case(b"urn") => Scheme::Urn,
            _ => Scheme::Other,
        };
        let bare = Self {
            raw: text,
            scheme,
            user: None,
            password: None,
            host: Host(&[]),
            port: None,
            params: Params::default(),
            headers: None,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => bare.with_hierarchy(rest),
            Scheme::Tel => {
                let (number, params) = split(rest, b';');
                Ok(Self { user: Some(number), params: Params::new(params), ..bare })
            }
            Scheme::Urn | Scheme::Other => Ok(bare),
        }
    }

    fn with_hierarchy(self, rest: &'a [u8]) -> Result<Self, Malformed> {
        // A user may hold `;` and `?` (RFC 3261 §25.1, user-unreserved); host, parameters and headers hold no bare
        // `@`. So the last one ends the user.
        let (user_info, after) = match memrchr(b'@', rest) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (user, password) = match user_info {
            Some(info) => match memchr(b':', info) {
                Some(colon) => (Some(&info[..colon]), Some(&info[colon + 1..])),
                None => (Some(info), None),
            },
            None => (None, None),
        };
        if user.is_some_and(<[u8]>::is_empty) {
            return Err(Malformed::Uri);
        }
        let (after, headers) = match memchr(b'?', after) {
            Some(question) => (&after[..question], Some(&after[question + 1..])),
            None => (after, None),
        };
        let (host_port, params) = split(after, b';');
        let (host, port) = Host::with_port(host_port).ok_or(Malformed::Uri)?;
        Ok(Self { user, password, host, port, params: Params::new(params), headers, ..self })
    }

    /// Whether the scheme is `sip` or `sips`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// Whether the user, escapes resolved, is `other`.
    pub fn user_is(&self, other: &[u8]) -> bool {
        self.user.is_some_and(|user| unescaped(user).eq(other.iter().copied()))
    }

    /// The user with its escapes resolved.
    pub fn user_text(&self) -> Option<Vec<u8>> {
        Some(unescaped(self.user?).collect())
    }

    /// The parameter `transport`.
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.params.value(b"transport")
    }

    /// The parameter `maddr`.
    pub fn maddr(&self) -> Option<&'a [u8]> {
        self.params.value(b"maddr")
    }

    /// Whether a route says that its element routes loosely (RFC 3261 §16.12).
    pub fn is_loose(&self) -> bool {
        self.params.has(b"lr")
    }

    /// Whether the contact asks to be reached over its own flow (RFC 5626 §4.1).
    pub fn is_outbound(&self) -> bool {
        self.params.has(b"ob")
    }
}

/// `text` up to `mark`, and from it on.
fn split(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    text.split_at(memchr(mark, text).unwrap_or(text.len()))
}

fn is_scheme(text: &[u8]) -> bool {
    matches!(text, [first, rest @ ..] if first.is_ascii_alphabetic()
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))
}

/// What may stand in a URI at all. Bytes over 127 break the grammar and are let through: phones send UTF-8 users.
const fn is_uri_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !matches!(byte, b'<' | b'>' | b'"')
}

/// The bytes that are meant, `%xx` resolved; what is no escape stays.
pub fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = after;
            return Some(high << 4 | low);
        }
        let (first, after) = rest.split_first()?;
        rest = after;
        Some(*first)
    })
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A host as it was written: a name, an IPv4 address, or an IPv6 address in square brackets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host<'a>(&'a [u8]);

impl<'a> Host<'a> {
    /// The host in `text`; `None` when it can be none.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match Self::with_port(text)? {
            (host, None) if host.0.len() == text.len() => Some(host),
            _ => None,
        }
    }

    /// A host and perhaps a port behind a colon, white space around the colon allowed as in a Via.
    pub(super) fn with_port(text: &'a [u8]) -> Option<(Self, Option<u16>)> {
        let end = match text.first()? {
            b'[' => memchr(b']', text)? + 1,
            _ => memchr(b':', text).unwrap_or(text.len()),
        };
        let host = Self(trim_end(&text[..end]));
        let port = match trim(&text[end..]) {
            [] if end == text.len() || text[end] != b':' => None,
            [b':', digits @ ..] => {
                let port = decimal(trim(digits)).and_then(|port| u16::try_from(port).ok())?;
                Some(port)
            }
            _ => return None,
        };
        host.is_plausible().then_some((host, port))
    }

    fn is_plausible(self) -> bool {
        match self.0 {
            [b'[', .., b']'] => self.ip().is_some(),
            // An underscore is in no RFC's host and in many a network's.
            name => {
                !name.is_empty()
                    && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
            }
        }
    }

    /// As it was written.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing was written.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The address, when it is one.
    pub fn ip(self) -> Option<IpAddr> {
        if let [b'[', inner @ .., b']'] = self.0 {
            return ascii(inner).map(IpAddr::V6);
        }
        // Names rarely begin with a digit.
        if !self.0.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        ascii(self.0).map(IpAddr::V4)
    }

    /// Whether both are the same host: names without regard to case, addresses by what they mean.
    pub fn is_same(self, other: Host<'_>) -> bool {
        self.0.eq_ignore_ascii_case(other.0) || self.ip().is_some_and(|ip| other.ip() == Some(ip))
    }

    /// Whether the host is the name or address `text`, which has no brackets.
    pub fn is(self, text: &str) -> bool {
        match self.ip() {
            Some(ip) => text.parse() == Ok(ip),
            None => self.0.eq_ignore_ascii_case(text.as_bytes()),
        }
    }
}

/// An address out of bytes that may be no UTF-8.
fn ascii<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
