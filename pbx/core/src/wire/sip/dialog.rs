//! Headers of dialogs and of what happens in them: `Replaces`, `Session-Expires`, `RAck`, `RSeq`, `Reason`.

use super::{
    Malformed, Message, Method, Name, Params,
    scan::{Items, all_token, decimal, decimal_saturating, is_space, trim, trim_end},
    uri::unescaped,
};

/// `Replaces` (RFC 3891 §6.1): the dialog that a new one takes the place of, as whoever receives it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaces<'a> {
    /// Its Call-ID.
    pub call_id: &'a [u8],
    /// Our tag in it.
    pub to_tag: &'a [u8],
    /// The other side's tag in it.
    pub from_tag: &'a [u8],
    /// Only if it has not been answered yet.
    pub early_only: bool,
}

impl<'a> Replaces<'a> {
    /// The value of the header. `None` when it has no Call-ID, or not exactly one of each tag.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = trim(value);
        let (call_id, params) = value.split_at(memchr::memchr(b';', value)?);
        let (call_id, params) = (trim_end(call_id), Params::new(params));
        let is_call_id = !call_id.is_empty() && !call_id.iter().any(|byte| is_space(*byte) || *byte == b',');
        let tag = |name: &[u8]| {
            let mut tags = params.iter().filter(|param| param.is(name));
            let tag = tags.next()?.value.filter(|tag| all_token(tag))?;
            tags.next().is_none().then_some(tag)
        };
        let (to_tag, from_tag) = (tag(b"to-tag")?, tag(b"from-tag")?);
        is_call_id.then(|| Self { call_id, to_tag, from_tag, early_only: params.has(b"early-only") })
    }
}

/// The value of `Replaces` among the headers of a URI, escapes resolved: `Uri::headers` of a `Refer-To` (RFC 5589 §7.1).
/// `None` when it is not there, stands there twice, or would not fit into a header line.
pub fn replaces_in(headers: &[u8]) -> Option<Vec<u8>> {
    let mut found = headers.split(|byte| *byte == b'&').filter_map(|header| {
        let equals = memchr::memchr(b'=', header)?;
        let (name, value) = (&header[..equals], &header[equals + 1..]);
        let name: Vec<u8> = unescaped(name).collect();
        name.eq_ignore_ascii_case(b"Replaces").then(|| unescaped(value).collect::<Vec<u8>>())
    });
    let value = found.next()?;
    let is_alone = found.next().is_none();
    (is_alone && !value.iter().any(u8::is_ascii_control)).then_some(value)
}

/// Who refreshes a session (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refresher {
    /// The one who sent the request.
    Uac,
    /// The one who answers it.
    Uas,
}

/// `Session-Expires` (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// Seconds from one refresh until the session is over.
    pub seconds: u32,
    /// Who refreshes, if that is said.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// The value of the header; seconds that do not fit become the most there are.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = trim(value);
        let (seconds, params) = value.split_at(memchr::memchr(b';', value).unwrap_or(value.len()));
        let refresher = match Params::new(params).value(b"refresher") {
            None => None,
            Some(text) if text.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            Some(text) if text.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            Some(_) => return None,
        };
        Some(Self { seconds: decimal_saturating(trim_end(seconds))?, refresher })
    }
}

/// `RAck` (RFC 3262 §7.2): which reliable provisional response is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// The response's `RSeq`.
    pub rseq: u32,
    /// The number in the response's `CSeq`.
    pub cseq: u32,
    /// The method in the response's `CSeq`.
    pub method: Method<'a>,
}

impl<'a> RAck<'a> {
    /// The value of the header: two numbers and a method.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut words = value.split(|byte| is_space(*byte)).filter(|word| !word.is_empty());
        let mut number = || decimal(words.next()?).and_then(|number| u32::try_from(number).ok());
        let (rseq, cseq) = (number().filter(|rseq| *rseq > 0)?, number()?);
        let method = words.next().filter(|method| all_token(method))?;
        words.next().is_none().then(|| Self { rseq, cseq, method: Method::of(method) })
    }
}

/// The cause that a `Reason` gives for `protocol`, `SIP` or `Q.850` (RFC 3326 §2).
pub fn cause(value: &[u8], protocol: &str) -> Option<u16> {
    Items::plain(value).find_map(|item| {
        let (name, params) = item.split_at(memchr::memchr(b';', item)?);
        let is_meant = trim(name).eq_ignore_ascii_case(protocol.as_bytes());
        let cause = || decimal(Params::new(params).value(b"cause")?).and_then(|cause| u16::try_from(cause).ok());
        is_meant.then(cause)?
    })
}

impl<B: AsRef<[u8]>> Message<B> {
    /// `Replaces`; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`Malformed::Syntax`]
    pub fn replaces(&self) -> Result<Option<Replaces<'_>>, Malformed> {
        self.view(Name::Replaces, Replaces::parse)
    }

    /// `Session-Expires`; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`Malformed::Syntax`]
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, Malformed> {
        self.view(Name::SessionExpires, SessionExpires::parse)
    }

    /// `RAck`; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`Malformed::Syntax`]
    pub fn rack(&self) -> Result<Option<RAck<'_>>, Malformed> {
        self.view(Name::RAck, RAck::parse)
    }

    /// `RSeq`, never 0 (RFC 3262 §7.1); `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`Malformed::Syntax`]
    pub fn rseq(&self) -> Result<Option<u32>, Malformed> {
        let number = |value| decimal(value).and_then(|number| u32::try_from(number).ok());
        self.view(Name::RSeq, |value| number(value).filter(|number| *number > 0))
    }

    /// The cause that `Reason` gives for `protocol`, `SIP` or `Q.850`.
    pub fn cause(&self, protocol: &str) -> Option<u16> {
        self.values(Name::Reason).find_map(|value| cause(value, protocol))
    }

    fn view<'a, T>(&'a self, name: Name, parse: impl Fn(&'a [u8]) -> Option<T>) -> Result<Option<T>, Malformed> {
        self.value(name).map(|value| parse(value).ok_or(Malformed::Syntax(name))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::sip::{Origin, Uri};

    #[test]
    fn a_replaces_names_one_dialog() {
        let replaces = Replaces::parse(b" 425928@phone.example.net ;to-tag=7743;From-Tag=6472 ; early-only").unwrap();
        assert_eq!(replaces.call_id, b"425928@phone.example.net");
        assert_eq!((replaces.to_tag, replaces.from_tag, replaces.early_only), (&b"7743"[..], &b"6472"[..], true));
        assert!(!Replaces::parse(b"a;from-tag=1;to-tag=2;other").unwrap().early_only);
    }

    #[test]
    fn a_replaces_without_call_id_or_one_of_each_tag_is_none() {
        for value in [
            "",
            "a",
            ";to-tag=1;from-tag=2",
            "a;to-tag=1",
            "a;from-tag=1",
            "a;to-tag;from-tag=1",
            "a;to-tag=;from-tag=1",
            "a;to-tag=1;to-tag=1;from-tag=1",
            "a;to-tag=1;from-tag=1;from-tag=2",
            "a b;to-tag=1;from-tag=1",
            "a;to-tag=1;from-tag=1,b;to-tag=1;from-tag=1",
            "a,b;to-tag=1;from-tag=1",
            "a;to-tag=\"1\";from-tag=1",
        ] {
            assert_eq!(Replaces::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_replaces_is_found_among_the_headers_of_a_uri() {
        let uri = Uri::parse(
            b"sip:200@192.0.2.1;transport=tcp?Require=replaces&repl%61ces=12%40h%3Bto-tag%3D7%3bfrom-tag%3D6%3Bearly-only",
        )
        .unwrap();
        let value = replaces_in(uri.headers.unwrap()).unwrap();
        assert_eq!(value, b"12@h;to-tag=7;from-tag=6;early-only");
        let expected = Replaces { call_id: b"12@h", to_tag: b"7", from_tag: b"6", early_only: true };
        assert_eq!(Replaces::parse(&value), Some(expected));
    }

    #[test]
    fn a_replaces_in_a_uri_that_is_missing_twofold_or_breaks_lines_is_none() {
        for headers in
            ["", "Replaces", "Subject=x", "&&=&", "Replaces=a&Replaces=b", "Replaces=a%0D%0ABye:%20x", "Replaces=%00"]
        {
            assert_eq!(replaces_in(headers.as_bytes()), None, "{headers}");
        }
        assert_eq!(replaces_in(b"Replaces="), Some(Vec::new()));
        assert_eq!(replaces_in(b"a=b&Replaces=%zz"), Some(b"%zz".to_vec()));
    }

    #[test]
    fn a_session_expires_says_how_long_and_who_refreshes() {
        let parse = |value: &str| SessionExpires::parse(value.as_bytes()).map(|found| (found.seconds, found.refresher));
        assert_eq!(parse("1800"), Some((1800, None)));
        assert_eq!(parse(" 90 ; refresher = UAS"), Some((90, Some(Refresher::Uas))));
        assert_eq!(parse("4000;x=1;refresher=uac"), Some((4000, Some(Refresher::Uac))));
        assert_eq!(parse("99999999999"), Some((u32::MAX, None)));
        for value in ["", ";refresher=uac", "-1", "90s", "90;refresher=me", "90;refresher", "90 91"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn a_rack_has_two_numbers_and_a_method() {
        let expected = RAck { rseq: 776_656, cseq: 1, method: Method::Invite };
        assert_eq!(RAck::parse(b"776656 1 INVITE"), Some(expected));
        assert_eq!(RAck::parse(b" 776656\t 1\r\n INVITE "), Some(expected));
        for value in ["", "1", "1 2", "0 2 INVITE", "1 2 INVITE x", "4294967296 1 INVITE", "1 -2 INVITE", "1 2 INV@TE"]
        {
            assert_eq!(RAck::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_cause_is_that_of_its_protocol() {
        let value = b"SIP ;cause=200 ;text=\"Call completed, elsewhere; cause=9\", q.850; cause = 16";
        assert_eq!(cause(value, "SIP"), Some(200));
        assert_eq!(cause(value, "Q.850"), Some(16));
        assert_eq!(cause(value, "X"), None);
        for value in ["", "SIP", "SIP;text=x", "SIP;cause=x", "SIP;cause=70000", ";cause=1", "SIPS;cause=1"] {
            assert_eq!(cause(value.as_bytes(), "SIP"), None, "{value}");
        }
    }

    #[test]
    fn a_message_has_them_or_not_or_they_are_malformed() {
        let message = |headers: &str| {
            let text = format!("BYE sip:a@b SIP/2.0\r\n{headers}\r\n");
            Message::parse(text.into_bytes(), Origin::Datagram).unwrap()
        };
        let bare = message("");
        assert_eq!(
            (bare.replaces(), bare.session_expires(), bare.rack(), bare.rseq()),
            (Ok(None), Ok(None), Ok(None), Ok(None))
        );
        assert_eq!(bare.cause("SIP"), None);
        let full = message(
            "Replaces: a;to-tag=1;from-tag=2\r\nx: 90\r\nRAck: 1 2 INVITE\r\nRSeq: 7\r\nReason: x;a=b\r\nReason: SIP;cause=486\r\n",
        );
        assert_eq!(full.replaces().unwrap().unwrap().call_id, b"a");
        assert_eq!(full.session_expires().unwrap().unwrap().seconds, 90);
        assert_eq!(full.rack().unwrap().unwrap().cseq, 2);
        assert_eq!((full.rseq(), full.cause("sip")), (Ok(Some(7)), Some(486)));
        let broken = message("Replaces: a\r\nx: a\r\nRAck: a\r\nRSeq: 0\r\n");
        assert_eq!(broken.replaces(), Err(Malformed::Syntax(Name::Replaces)));
        assert_eq!(broken.session_expires(), Err(Malformed::Syntax(Name::SessionExpires)));
        assert_eq!(broken.rack(), Err(Malformed::Syntax(Name::RAck)));
        assert_eq!(broken.rseq(), Err(Malformed::Syntax(Name::RSeq)));
    }

    proptest! {
        #[test]
        fn what_is_escaped_into_a_uri_is_found_again(value in "[ -~]{0,80}") {
            let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(replaces_in(format!("Replaces={escaped}").as_bytes()), Some(value.into_bytes()));
        }
    }
}
