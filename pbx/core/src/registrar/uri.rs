//! When two Contact URIs mean the same binding (RFC 3261 §19.1.4): the only equality of URIs that there is. Takes SIP
//! and SIPS URIs as the wire takes them apart; total, and with a bound on what a comparison costs.
//!
//! As the RFC says: scheme, host and parameters in any case, the user part in its own; an escaped letter, digit or
//! mark equals the plain one; a port that is not written equals only one that is not written; `user`, `ttl`,
//! `method`, `maddr` and `transport` must be in both or in neither, other parameters equal if they are in both.
//! Simpler than the RFC: embedded headers (`?…`) must be the same text.

use std::cmp::Ordering;

use crate::wire::sip;

/// The parameters that a URI without them does not equal.
const DECISIVE: [&[u8]; 5] = [b"transport", b"user", b"ttl", b"method", b"maddr"];
/// Parameters of a URI at most; phones have up to ten.
const MOST_PARAMETERS: usize = 32;

/// A SIP or SIPS URI that can be compared.
#[derive(Clone, Debug)]
pub(super) struct Uri<'a> {
    parts: sip::Uri<'a>,
    /// Name and value, by name in any case; of a name that comes twice, the first.
    parameters: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Uri<'a> {
    /// Nothing if it is no SIP or SIPS URI, has what would not survive being printed again, or has more than 32
    /// parameters.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts = sip::Uri::parse(text.as_bytes()).ok().filter(sip::Uri::is_sip)?;
        // An unescaped '@' in a user or password is one that somebody else may take for the end of it.
        if [parts.user, parts.password].into_iter().flatten().any(|part| part.contains(&b'@')) {
            return None;
        }
        let parameters = parts.params.iter().take(MOST_PARAMETERS + 1);
        let mut parameters: Vec<_> = parameters.map(|one| (one.name, one.value.unwrap_or_default())).collect();
        if parameters.len() > MOST_PARAMETERS {
            return None;
        }
        parameters.sort_by(|(one, _), (other, _)| in_any_case(one, other));
        parameters.dedup_by(|(later, _), (first, _)| later.eq_ignore_ascii_case(first));
        Some(Self { parts, parameters })
    }

    /// Whether both mean the same binding.
    pub(super) fn is(&self, other: &Self) -> bool {
        let (one, two) = (&self.parts, &other.parts);
        one.raw == two.raw
            || (one.scheme == two.scheme
                && one.port == two.port
                && one.host.is_same(two.host)
                && one.headers == two.headers
                && same_text(one.user, two.user)
                && same_text(one.password, two.password)
                && self.agrees_with(other))
    }

    /// Whether the parameters allow both to be the same: one walk along both lists.
    fn agrees_with(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.parameters.as_slice(), other.parameters.as_slice());
        loop {
            let order = match (ours.first(), theirs.first()) {
                (None, None) => return true,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((our, _)), Some((their, _))) => in_any_case(our, their),
            };
            let alone = match order {
                Ordering::Less => ours.split_off_first(),
                Ordering::Greater => theirs.split_off_first(),
                Ordering::Equal => {
                    let (our, their) = (ours.split_off_first(), theirs.split_off_first());
                    if !our.zip(their).is_some_and(|((_, one), (_, two))| same_value(one, two)) {
                        return false;
                    }
                    None
                }
            };
            if alone.is_some_and(|(name, _)| DECISIVE.iter().any(|decisive| decisive.eq_ignore_ascii_case(name))) {
                return false;
            }
        }
    }
}

fn in_any_case(one: &[u8], other: &[u8]) -> Ordering {
    let lower = |text| <[u8]>::iter(text).map(u8::to_ascii_lowercase);
    lower(one).cmp(lower(other))
}

fn same_text(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other || unescaped(one).eq(unescaped(other)),
        (None, None) => true,
        _ => false,
    }
}

fn same_value(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other) || unescaped(one).map(lower).eq(unescaped(other).map(lower))
}

/// The characters, and which of them stay escaped: `%61` is `a`, but `%40` is not `@` (RFC 3261 §19.1.4).
fn unescaped(text: &[u8]) -> impl Iterator<Item = (bool, u8)> + '_ {
    let mut rest = text;
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
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            ("sip:1@[2001:DB8::1]:5060;ob", "SIP:1@[2001:db8:0::1]:5060"),
            ("sip:bob:%73ecret@biloxi.com", "sip:bob:secret@biloxi.com"),
            ("sip:bob@biloxi.com;a=1;A=2", "sip:bob@biloxi.com;a=1"),
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
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
            ("sip:bob@biloxi.com", "sip:biloxi.com"),
            ("sip:bob:secret@biloxi.com", "sip:bob@biloxi.com"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:a%40b@example.com", "sip:a%4fb@example.com"),
            ("sip:bob@biloxi.com:5060", "sip:bob@biloxi.com:5070"),
            ("sip:bob@biloxi.com;a;z=1", "sip:bob@biloxi.com;b;z=2"),
            ("sip:bob@biloxi.com;a;maddr=192.0.2.1;z", "sip:bob@biloxi.com;a;z"),
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
            // Whoever takes the first '@' reads another host than who takes the last one.
            "sip:a@host@other",
            "sip:a@host;x=@other",
            "sip:a:b@host?x=@other",
        ] {
            assert!(Uri::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_uri_has_so_many_parameters_and_no_more() {
        let with = |count: usize| format!("sip:a@host{}", (0..count).map(|n| format!(";p{n}=x")).collect::<String>());
        assert!(same(&with(MOST_PARAMETERS), &with(MOST_PARAMETERS).replace('p', "P")));
        assert!(Uri::parse(&with(MOST_PARAMETERS + 1)).is_none());
        assert!(Uri::parse(&format!("sip:a@host{}", ";a".repeat(500))).is_none());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_every_uri_is_itself(text in "(sip:)?\\PC{0,40}|sips?:[a-z%0-9;=?@:\\[\\].]{0,40}") {
            if let Some(uri) = Uri::parse(&text) {
                prop_assert!(uri.is(&uri) && uri.agrees_with(&uri));
            }
        }
    }
}
