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
