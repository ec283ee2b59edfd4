//! Digest credentials and challenges as they stand in headers (RFC 3261 §20.7, RFC 7616, RFC 8760). Reads them;
//! `auth` judges them.

use super::scan::{Items, Quoted, is_space, trim};
use crate::auth::Algorithm;

/// The parameter `algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlgorithmParam<'a> {
    /// Not there: MD5 (RFC 7616 §3.3).
    Absent,
    /// One that the program knows.
    Known {
        /// The hash.
        algorithm: Algorithm,
        /// Whether `-sess` stands behind it.
        session: bool,
    },
    /// Another one, as it was written.
    Other(&'a [u8]),
}

impl<'a> AlgorithmParam<'a> {
    fn of(text: &'a [u8]) -> Self {
        let (base, session) = match text.len().checked_sub(5).map(|at| text.split_at(at)) {
            Some((base, sess)) if sess.eq_ignore_ascii_case(b"-sess") => (base, true),
            _ => (text, false),
        };
        let is = |name: &[u8]| base.eq_ignore_ascii_case(name);
        // Some phones write SHA256.
        let algorithm = if is(b"MD5") {
            Algorithm::Md5
        } else if is(b"SHA-256") || is(b"SHA256") {
            Algorithm::Sha256
        } else {
            return Self::Other(text);
        };
        Self::Known { algorithm, session }
    }

    /// The algorithm that is meant and whether it is a session's; `None` of an unknown one.
    pub fn known(self) -> Option<(Algorithm, bool)> {
        match self {
            Self::Absent => Some((Algorithm::Md5, false)),
            Self::Known { algorithm, session } => Some((algorithm, session)),
            Self::Other(_) => None,
        }
    }
}

/// The parameter `qop` of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop<'a> {
    /// Not there (RFC 2069's way).
    Absent,
    /// `auth`
    Auth,
    /// `auth-int`
    AuthInt,
    /// Another one.
    Other(&'a [u8]),
}

/// `Authorization` or `Proxy-Authorization`, borrowed from its message.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The user's name.
    pub username: Quoted<'a>,
    /// The realm.
    pub realm: Quoted<'a>,
    /// The nonce.
    pub nonce: Quoted<'a>,
    /// The URI as the client hashed it: these bytes and no others are part of the digest.
    pub uri: Quoted<'a>,
    /// The digest in hexadecimal digits.
    pub response: Quoted<'a>,
    /// The algorithm.
    pub algorithm: AlgorithmParam<'a>,
    /// The client's nonce.
    pub cnonce: Option<Quoted<'a>>,
    /// What the challenge asked to be returned.
    pub opaque: Option<Quoted<'a>>,
    /// The quality of protection.
    pub qop: Qop<'a>,
    /// The nonce count's digits as they came, which are part of the digest.
    pub nc: Option<&'a [u8]>,
    /// Whether the user's name is hashed (RFC 7616 §3.4.4), which nobody offered.
    pub userhash: bool,
}

impl<'a> Credentials<'a> {
    /// The credentials in a header's value. `None` for any scheme but Digest, for a parameter that stands twice, and
    /// when one that the digest cannot do without is missing.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut found = Fields::default();
        found.read(value)?;
        Some(Self {
            username: found.text(Field::Username)?,
            realm: found.text(Field::Realm)?,
            nonce: found.text(Field::Nonce)?,
            uri: found.text(Field::Uri)?,
            response: found.text(Field::Response)?,
            algorithm: found.algorithm(),
            cnonce: found.text(Field::Cnonce),
            opaque: found.text(Field::Opaque),
            qop: match found.text(Field::Qop).map(Quoted::raw) {
                None => Qop::Absent,
                Some(text) if text.eq_ignore_ascii_case(b"auth") => Qop::Auth,
                Some(text) if text.eq_ignore_ascii_case(b"auth-int") => Qop::AuthInt,
                Some(text) => Qop::Other(text),
            },
            nc: found.text(Field::Nc).map(Quoted::raw),
            userhash: found.text(Field::Userhash).is_some_and(|text| text.raw().eq_ignore_ascii_case(b"true")),
        })
    }

    /// The nonce count: one to eight hexadecimal digits.
    pub fn nonce_count(&self) -> Option<u32> {
        let digits = self.nc?;
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

/// `WWW-Authenticate` or `Proxy-Authenticate`, borrowed from its message.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// The realm.
    pub realm: Quoted<'a>,
    /// The nonce.
    pub nonce: Quoted<'a>,
    /// What to return.
    pub opaque: Option<Quoted<'a>>,
    /// The algorithm.
    pub algorithm: AlgorithmParam<'a>,
    /// The list of qualities of protection offered.
    pub qop: Option<Quoted<'a>>,
    /// Whether only the nonce was wrong.
    pub stale: bool,
}

impl<'a> Challenge<'a> {
    /// The challenge in a header's value. `None` for any scheme but Digest, and without a realm or a nonce.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut found = Fields::default();
        found.read(value)?;
        Some(Self {
            realm: found.text(Field::Realm)?,
            nonce: found.text(Field::Nonce)?,
            opaque: found.text(Field::Opaque),
            algorithm: found.algorithm(),
            qop: found.text(Field::Qop),
            stale: found.text(Field::Stale).is_some_and(|text| text.raw().eq_ignore_ascii_case(b"true")),
        })
    }

    /// Whether `auth` is among the qualities offered.
    pub fn offers_auth(&self) -> bool {
        self.qop.is_some_and(|list| Items::plain(list.raw()).any(|item| item.eq_ignore_ascii_case(b"auth")))
    }
}

/// The scheme of credentials or of a challenge: the word before the parameters.
pub fn scheme(value: &[u8]) -> &[u8] {
    let value = trim(value);
    value.split(|byte| is_space(*byte)).next().unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Field {
    Username,
    Realm,
    Nonce,
    Uri,
    Response,
    Algorithm,
    Cnonce,
    Opaque,
    Qop,
    Nc,
    Stale,
    Userhash,
}

const FIELDS: [(&[u8], Field); 12] = [
    (b"username", Field::Username),
    (b"realm", Field::Realm),
    (b"nonce", Field::Nonce),
    (b"uri", Field::Uri),
    (b"response", Field::Response),
    (b"algorithm", Field::Algorithm),
    (b"cnonce", Field::Cnonce),
    (b"opaque", Field::Opaque),
    (b"qop", Field::Qop),
    (b"nc", Field::Nc),
    (b"stale", Field::Stale),
    (b"userhash", Field::Userhash),
];

#[derive(Default)]
struct Fields<'a>([Option<Quoted<'a>>; FIELDS.len()]);

impl<'a> Fields<'a> {
    /// Takes in every parameter; unknown ones are passed over.
    fn read(&mut self, value: &'a [u8]) -> Option<()> {
        let value = trim(value);
        let scheme = scheme(value);
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return None;
        }
        for item in Items::plain(&value[scheme.len()..]) {
            let equals = memchr::memchr(b'=', item)?;
            let name = trim(&item[..equals]);
            let text = Quoted::parse(&item[equals + 1..])?;
            if let Some((_, field)) = FIELDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                let slot = &mut self.0[*field as usize];
                // Two values of one parameter: whoever takes the other one sees another user.
                if slot.replace(text).is_some() {
                    return None;
                }
            }
        }
        Some(())
    }

    fn text(&self, field: Field) -> Option<Quoted<'a>> {
        self.0[field as usize]
    }

    fn algorithm(&self) -> AlgorithmParam<'a> {
        self.text(Field::Algorithm).map_or(AlgorithmParam::Absent, |text| AlgorithmParam::of(text.raw()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_apart_and_the_uri_stays_as_it_came() {
        let credentials = Credentials::parse(
            br#"Digest username="al\"ice", realm="a, b", nonce="84a4cc", uri="sip:%61@b;x=1", response="753927", algorithm=SHA256-sess,
 cnonce="0a4f,", opaque="", qop="auth", nc=0000000A, unknown=1"#,
        )
        .unwrap();
        assert!(credentials.username.is(b"al\"ice"));
        assert!(credentials.realm.is(b"a, b"));
        assert_eq!(credentials.uri.raw(), b"sip:%61@b;x=1");
        assert_eq!(credentials.algorithm.known(), Some((Algorithm::Sha256, true)));
        assert_eq!(credentials.qop, Qop::Auth);
        assert_eq!(credentials.nonce_count(), Some(10));
        assert_eq!(credentials.nc, Some(&b"0000000A"[..]));
        assert!(credentials.opaque.unwrap().raw().is_empty());
    }

    #[test]
    fn algorithms_are_read_as_phones_write_them() {
        let known = |text: &'static str| AlgorithmParam::of(text.as_bytes()).known();
        assert_eq!(known("MD5"), Some((Algorithm::Md5, false)));
        assert_eq!(known("md5-sess"), Some((Algorithm::Md5, true)));
        assert_eq!(known("SHA-256"), Some((Algorithm::Sha256, false)));
        assert_eq!(known("SHA256"), Some((Algorithm::Sha256, false)));
        assert_eq!(known("SHA-512-256"), None);
        assert_eq!(known("-sess"), None);
        assert_eq!(AlgorithmParam::Absent.known(), Some((Algorithm::Md5, false)));
    }

    #[test]
    fn credentials_that_are_incomplete_twofold_or_of_another_scheme_are_none() {
        let whole = "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x\"";
        assert!(Credentials::parse(whole.as_bytes()).is_some());
        for text in [
            whole.replace("username=\"a\", ", ""),
            whole.replace("Digest", "Basic"),
            format!("{whole}, username=\"b\""),
            format!("{whole}, opaque=\"never ends"),
            format!("{whole}, novalue"),
            String::new(),
        ] {
            assert!(Credentials::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn nonce_counts_are_hexadecimal_and_fit() {
        let count = |nc: &str| {
            let text = format!("Digest username=\"a\",realm=\"r\",nonce=\"n\",uri=\"u\",response=\"x\",nc={nc}");
            Credentials::parse(text.as_bytes()).unwrap().nonce_count()
        };
        assert_eq!(count("ffffffff"), Some(u32::MAX));
        assert_eq!(count("1"), Some(1));
        for nc in ["", "100000000", "+1", "x", "0000001g"] {
            assert_eq!(count(nc), None, "{nc}");
        }
    }

    #[test]
    fn a_challenge_is_taken_apart() {
        let challenge =
            Challenge::parse(br#"Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth-int, auth", stale=TRUE"#)
                .unwrap();
        assert!(challenge.stale && challenge.offers_auth());
        assert_eq!(challenge.algorithm.known(), Some((Algorithm::Sha256, false)));
        assert!(Challenge::parse(b"Digest realm=\"r\"").is_none());
        assert!(Challenge::parse(b"NoOneKnowsThisScheme opaque-data=here").is_none());
    }
}
