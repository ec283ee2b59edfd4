//! When two Contact URIs mean the same binding (RFC 3261 §19.1.4). Reads SIP and SIPS URIs, as text; total.
//!
//! As the RFC says: scheme, host and parameters in any case, the user part in its own; an escaped letter, digit or
//! mark equals the plain one; a port that is not written equals only one that is not written; `user`, `ttl`,
//! `method`, `maddr` and `transport` must be in both or in neither, other parameters equal if they are in both.
//! Simpler than the RFC: embedded headers (`?…`) must be the same text.

/// The parameters that a URI without them does not equal.
const DECISIVE: [&str; 5] = ["transport", "user", "ttl", "method", "maddr"];

/// A SIP or SIPS URI taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uri<'a> {
    text: &'a str,
    secure: bool,
    user: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
    parameters: &'a str,
    headers: &'a str,
}

impl<'a> Uri<'a> {
    /// Nothing if it is no SIP or SIPS URI with a host, or has what would not survive being printed again.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.bytes().any(|byte| byte <= b' ' || matches!(byte, b'<' | b'>' | b'"' | 0x7f)) {
            return None;
        }
        let (scheme, rest) = text.split_once(':')?;
        let secure = scheme.eq_ignore_ascii_case("sips");
        if !secure && !scheme.eq_ignore_ascii_case("sip") {
            return None;
        }
        // A user part may hold ';' and '?', but no unescaped '@'.
        let (user, rest) = match rest.split_once('@') {
            Some(("", _)) => return None,
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (rest, headers) = rest.split_once('?').unwrap_or((rest, ""));
        let (hostport, parameters) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = host_and_port(hostport)?;
        Some(Self { text, secure, user, host, port, parameters, headers })
    }

    /// Whether both mean the same binding.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.text == other.text
            || (self.secure == other.secure
                && self.port == other.port
                && self.host.eq_ignore_ascii_case(other.host)
                && self.headers == other.headers
                && same_user(self.user, other.user)
                && self.agrees_with(other)
                && other.agrees_with(self))
    }

    fn agrees_with(&self, other: &Self) -> bool {
        self.parameters().all(|(name, value)| {
            match other.parameters().find(|(theirs, _)| theirs.eq_ignore_ascii_case(name)) {
                Some((_, theirs)) => unescaped(value).map(lower).eq(unescaped(theirs).map(lower)),
                None => !DECISIVE.iter().any(|decisive| decisive.eq_ignore_ascii_case(name)),
            }
        })
    }

    fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let parameters = self.parameters.split(';').filter(|parameter| !parameter.is_empty());
        parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
    }
}

fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => {
            address.parse::<std::net::Ipv6Addr>().ok()?;
            let host = &text[..address.len() + 2];
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_named = host.starts_with('[') || host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if host.is_empty() || !is_named {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

fn same_user(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other || unescaped(one).eq(unescaped(other)),
        (None, None) => true,
        _ => false,
    }
}

/// The characters, and which of them stay escaped: `%61` is `a`, but `%40` is not `@` (RFC 3261 §19.1.4).
fn unescaped(text: &str) -> impl Iterator<Item = (bool, u8)> + '_ {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
        {
            rest = after;
            let byte = (high * 16 + low) as u8;
            let is_unreserved = byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
            return Some((!is_unreserved, byte));
        }
        let (byte, after) = rest.split_first()?;
        rest = after;
        Some((false, *byte))
    })
}

fn lower((escaped, byte): (bool, u8)) -> (bool, u8) {
    (escaped, if escaped { byte } else { byte.to_ascii_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(one: &str, other: &str) -> bool {
        let (one, other) = (Uri::parse(one).unwrap(), Uri::parse(other).unwrap());
        assert_eq!(one.is(&other), other.is(&one));
        one.is(&other)
    }

    #[test]
    fn the_pairs_of_rfc_3261_that_are_equal() {
        for (one, other) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            ("sip:1@[2001:DB8::1]:5060;ob", "SIP:1@[2001:db8::1]:5060"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_pairs_of_rfc_3261_that_are_not_equal() {
        for (one, other) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
            ("sip:bob@biloxi.com", "sip:biloxi.com"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:a%40b@example.com", "sip:a%4fb@example.com"),
            ("sip:bob@biloxi.com:5060", "sip:bob@biloxi.com:5070"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_uri_to_reach_a_phone_by_is_none() {
        for text in [
            "",
            "sip:",
            "sip:@host",
            "sip:a@",
            "tel:+15551234",
            "mailto:a@example.com",
            "sip:a@host:port",
            "sip:a@host:99999",
            "sip:a@host:",
            "sip:a@[::1",
            "sip:a@[::1]x",
            "sip:a@[name]",
            "sip:a@b>,<sip:c@d",
            "sip:a@b\r\nVia: x",
            "sip:a b@host",
            "a@host",
        ] {
            assert!(Uri::parse(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_every_uri_is_itself(text in "(sip:)?\\PC{0,40}|sips?:[a-z%0-9;=?@:\\[\\].]{0,40}") {
            if let Some(uri) = Uri::parse(&text) {
                prop_assert!(uri.is(&uri));
                prop_assert!(uri.agrees_with(&uri) || uri.parameters().count() > 1);
            }
        }
    }
}
