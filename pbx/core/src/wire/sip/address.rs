//! Addresses in headers: `From`, `To`, `Contact`, `Route` and their like (RFC 3261 §20.10, §25.1).

use super::{
    Malformed, Params, Uri,
    scan::{Quoted, decimal_saturating, find_outside, is_space, is_token, quoted_length, quotes_end, trim, trim_start},
};

/// A name and a URI with parameters of the header, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// All of it, without the commas around it.
    pub raw: &'a [u8],
    /// The display name, without its quotes.
    pub display: Option<Quoted<'a>>,
    /// The URI's bytes.
    pub uri: &'a [u8],
    /// The header's own parameters, not the URI's.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// The address in `text`, one item of a list.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let raw = trim(text);
        let (display, rest) = match raw.first()? {
            b'"' => {
                let length = quoted_length(raw)?;
                (Some(Quoted::parse(&raw[..length])?), trim_start(&raw[length..]))
            }
            _ => match find_outside(raw, b'<', false) {
                Some(open) => {
                    let name = trim(&raw[..open]);
                    if !name.iter().all(|byte| is_display(*byte)) {
                        return None;
                    }
                    let name = if name.is_empty() { None } else { Quoted::parse(name) };
                    (name, &raw[open..])
                }
                None => return Self::bare(raw),
            },
        };
        let [b'<', rest @ ..] = rest else { return None };
        let close = memchr::memchr(b'>', rest)?;
        let params = trim(&rest[close + 1..]);
        if !matches!(params.first(), None | Some(b';')) || !quotes_end(params) {
            return None;
        }
        // The grammar has no white space in the brackets; around the URI it does no harm (RFC 4475 §3.1.2.14).
        let uri = trim(&rest[..close]);
        if uri.is_empty() {
            return None;
        }
        Some(Self { raw, display, uri, params: Params::new(params) })
    }

    /// A URI without brackets: what stands behind a semicolon is the header's (RFC 3261 §20.10), and a question mark
    /// or a comma needs brackets.
    fn bare(raw: &'a [u8]) -> Option<Self> {
        let end = raw.iter().position(|byte| *byte == b';' || is_space(*byte)).unwrap_or(raw.len());
        let (uri, rest) = raw.split_at(end);
        let params = trim(rest);
        if uri.is_empty() || uri.iter().any(|byte| matches!(byte, b'?' | b',' | b'"' | b'>')) {
            return None;
        }
        let is_list = matches!(params.first(), None | Some(b';')) && quotes_end(params);
        is_list.then(|| Self { raw, display: None, uri, params: Params::new(params) })
    }

    /// The URI taken apart.
    ///
    /// # Errors
    ///
    /// [`Malformed::Uri`]
    pub fn uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.uri)
    }

    /// The parameter `tag` (RFC 3261 §19.3).
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.params.value(b"tag").filter(|tag| !tag.is_empty())
    }

    /// The parameter `expires` in seconds; one that is too large is the greatest (RFC 3261 §10.2.1.1).
    pub fn expires(&self) -> Option<u32> {
        decimal_saturating(self.params.value(b"expires")?)
    }

    /// The parameter `q` in thousandths; one that is none counts as absent.
    pub fn q(&self) -> Option<u16> {
        thousandths(self.params.value(b"q")?)
    }

    /// The parameter `+sip.instance` with its angle brackets (RFC 5626 §4.1).
    pub fn instance(&self) -> Option<Quoted<'a>> {
        self.params.find(b"+sip.instance")?.text()
    }

    /// The parameter `reg-id` (RFC 5626 §4.2); never 0.
    pub fn reg_id(&self) -> Option<u32> {
        let value = super::scan::decimal(self.params.value(b"reg-id")?)?;
        u32::try_from(value).ok().filter(|id| *id > 0)
    }
}

/// Bytes of an unquoted display name: tokens and white space, and what is not ASCII.
const fn is_display(byte: u8) -> bool {
    is_token(byte) || is_space(byte) || byte >= 0x80
}

/// A q-value: 0 to 1 with at most three decimals.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let mut value = digit(*whole)?;
    for place in 0..3 {
        value = value * 10 + decimals.get(place).map_or(Some(0), |byte| digit(*byte))?;
    }
    (value <= 1000).then_some(value)
}

/// One item of `Contact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact<'a> {
    /// `*`: all of the bindings (RFC 3261 §10.2.2).
    Star,
    /// An address.
    Address(NameAddr<'a>),
}

impl<'a> Contact<'a> {
    /// The contact in `text`, one item of the list.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match trim(text) {
            b"*" => Some(Self::Star),
            other => NameAddr::parse(other).map(Self::Address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_whose_quote_never_ends_is_none() {
        assert!(NameAddr::parse(br#"<sip:1@example.com>;x="a\""#).is_none());
        assert!(NameAddr::parse(br#"sip:1@example.com;x="a"#).is_none());
        assert!(NameAddr::parse(br#"<sip:1@example.com>;x="a\"b";y="""#).is_some());
    }

    #[test]
    fn quoted_names_hide_brackets_and_semicolons() {
        let address = NameAddr::parse(br#""A \"<x>; \\" <sip:a@h;transport=tcp>;tag=1;q=0.5"#).unwrap();
        assert_eq!(&*address.display.unwrap().text(), br#"A "<x>; \"#);
        assert_eq!(address.uri, b"sip:a@h;transport=tcp");
        assert_eq!(address.tag(), Some(&b"1"[..]));
        assert_eq!(address.q(), Some(500));
        assert_eq!(address.uri().unwrap().transport(), Some(&b"tcp"[..]));
    }

    #[test]
    fn without_brackets_parameters_are_the_headers() {
        let address = NameAddr::parse(b"sip:a@h ;  tag   =  77;x").unwrap();
        assert_eq!(address.uri, b"sip:a@h");
        assert_eq!(address.tag(), Some(&b"77"[..]));
        assert!(address.uri().unwrap().params.is_empty());
        assert_eq!(NameAddr::parse(b"sip:a@h?Route=x"), None);
    }

    #[test]
    fn display_names_of_several_words_and_other_alphabets_are_accepted() {
        assert_eq!(NameAddr::parse(b"Alice B. <sip:a@h>").unwrap().display.unwrap().raw(), b"Alice B.");
        assert_eq!(NameAddr::parse("Jürgen <sip:a@h>".as_bytes()).unwrap().display.unwrap().raw(), "Jürgen".as_bytes());
        assert!(NameAddr::parse(b"<sip:a@h>").unwrap().display.is_none());
        assert!(NameAddr::parse(b"\"\"<sip:a@h>").unwrap().display.unwrap().raw().is_empty());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            &b""[..],
            b"\"unterminated <sip:a@h>",
            b"Bell, Alexander <sip:a@h>",
            b"<sip:a@h",
            b"<>",
            b"<sip:a@h> x",
            b"\"name\" sip:a@h",
            b"sip:a@h x",
        ] {
            assert_eq!(NameAddr::parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_contact_of_outbound_has_its_instance_and_flow() {
        let contact = br#"<sip:a@10.0.0.1;ob>;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";expires=300"#;
        let Some(Contact::Address(address)) = Contact::parse(contact) else { panic!() };
        assert!(address.instance().unwrap().is(b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"));
        assert_eq!(address.reg_id(), Some(1));
        assert_eq!(address.expires(), Some(300));
        assert!(address.uri().unwrap().is_outbound());
        assert_eq!(Contact::parse(b" * "), Some(Contact::Star));
    }

    #[test]
    fn q_values_are_read_to_three_places() {
        for (text, value) in [
            ("1", Some(1000)),
            ("0.7", Some(700)),
            ("0.001", Some(1)),
            ("1.1", None),
            ("0.1234", None),
            ("x", None),
            ("-", None),
        ] {
            assert_eq!(thousandths(text.as_bytes()), value, "{text}");
        }
    }
}
