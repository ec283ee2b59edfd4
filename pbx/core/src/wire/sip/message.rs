//! A message: bytes and where things are in them. Views are read from it when asked for.

use super::{
    Challenge, Contact, Credentials, Malformed, Method, Name, NameAddr, Origin, ParseError, Uri, Via,
    lexer::{self, Index, Line, Start},
    scan::{Items, all_token, decimal, decimal_saturating, is_space, trim},
};

/// A lexed message. A worker holds the bytes of its receive buffer (`Message<&[u8]>`); what goes to another thread owns
/// them ([`Message::into_owned`]).
#[derive(Clone, Debug)]
pub struct Message<B> {
    bytes: B,
    index: Index,
}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// Of a request.
    Request {
        /// What is asked for.
        method: Method<'a>,
        /// Of whom: the URI's bytes.
        uri: &'a [u8],
    },
    /// Of a response.
    Response {
        /// The status, 100 to 699.
        code: u16,
        /// The reason phrase as it was sent.
        reason: &'a [u8],
    },
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its place among the headers, from 0.
    pub position: usize,
    /// The name, when it is a known one.
    pub name: Name,
    /// The name as it was written.
    pub text: &'a [u8],
    /// The value without white space at its ends; a folded one still has its line breaks.
    pub value: &'a [u8],
    /// The whole line as it came, line break included.
    pub line: &'a [u8],
}

/// `CSeq` (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Less than 2³¹.
    pub number: u32,
    /// The method of the request.
    pub method: Method<'a>,
}

impl<B: AsRef<[u8]>> Message<B> {
    /// Lexes `bytes`, which hold one message and, of a datagram, perhaps more behind it.
    ///
    /// # Errors
    ///
    /// [`ParseError`] when nothing could be answered. Anything less is found by [`validate`](super::validate).
    pub fn parse(bytes: B, origin: Origin) -> Result<Self, ParseError> {
        let index = lexer::lex(bytes.as_ref(), origin)?;
        Ok(Self { bytes, index })
    }

    /// The same message with bytes of its own.
    pub fn into_owned(self) -> Message<Box<[u8]>> {
        Message { bytes: self.bytes.as_ref().into(), index: self.index }
    }

    /// The same message, borrowed.
    pub fn borrowed(&self) -> Message<&[u8]> {
        Message { bytes: self.bytes.as_ref(), index: self.index.clone() }
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// How they came.
    pub fn origin(&self) -> Origin {
        self.index.origin
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// The first line.
    pub fn start_line(&self) -> StartLine<'_> {
        let bytes = self.bytes();
        match self.index.start {
            Start::Request { method, uri, .. } => {
                StartLine::Request { method: Method::of(method.of(bytes)), uri: uri.of(bytes) }
            }
            Start::Response { code, reason, .. } => StartLine::Response { code, reason: reason.of(bytes) },
        }
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// The method, of a request.
    pub fn method(&self) -> Option<Method<'_>> {
        match self.start_line() {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// The status, of a response.
    pub fn code(&self) -> Option<u16> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { code, .. } => Some(code),
        }
    }

    /// The version as it was written.
    pub fn version(&self) -> &[u8] {
        match self.index.start {
            Start::Request { version, .. } | Start::Response { version, .. } => version.of(self.bytes()),
        }
    }

    /// The request URI.
    ///
    /// # Errors
    ///
    /// [`Malformed::Uri`], also of a response.
    pub fn request_uri(&self) -> Result<Uri<'_>, Malformed> {
        match self.start_line() {
            StartLine::Request { uri, .. } => Uri::parse(uri),
            StartLine::Response { .. } => Err(Malformed::Uri),
        }
    }

    /// The body; what a `Content-Length` cuts off is not in it.
    pub fn body(&self) -> &[u8] {
        self.index.body.of(self.bytes())
    }

    /// Start line, headers and the empty line.
    pub fn head(&self) -> &[u8] {
        &self.bytes()[..usize::from(self.index.body.start)]
    }

    /// The headers in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        self.index.lines().enumerate().map(|(position, line)| self.header(line, position))
    }

    fn header<'a>(&'a self, line: &Line, position: usize) -> Header<'a> {
        let bytes = self.bytes();
        Header {
            position,
            name: line.name,
            text: bytes.get(usize::from(line.whole.start)..usize::from(line.name_end)).unwrap_or_default(),
            value: line.value.of(bytes),
            line: line.whole.of(bytes),
        }
    }

    /// Whether a header of that name is there.
    pub fn has(&self, name: Name) -> bool {
        self.index.present & name.bit() != 0
    }

    /// The first value of that name.
    pub fn value(&self, name: Name) -> Option<&[u8]> {
        if !self.has(name) {
            return None;
        }
        self.values(name).next()
    }

    /// The values of that name in order, a comma list as one.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> + Clone {
        let bytes = self.bytes();
        self.index.lines().filter(move |line| line.name == name).map(move |line| line.value.of(bytes))
    }

    /// The first value of a header that has no [`Name`], in any case.
    pub fn other(&self, name: &str) -> Option<&[u8]> {
        self.headers()
            .find(|header| header.name == Name::Other && header.text.eq_ignore_ascii_case(name.as_bytes()))
            .map(|header| header.value)
    }

    /// Every hop in order, from all headers and their lists.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, Malformed>> {
        self.values(Name::Via).flat_map(Items::plain).map(|item| Via::parse(item).ok_or(Malformed::Syntax(Name::Via)))
    }

    /// The topmost hop.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is missing or malformed.
    pub fn via(&self) -> Result<Via<'_>, Malformed> {
        self.vias().next().unwrap_or(Err(Malformed::Missing(Name::Via)))
    }

    /// `From`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is missing or malformed.
    pub fn from(&self) -> Result<NameAddr<'_>, Malformed> {
        self.address(Name::From)
    }

    /// `To`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is missing or malformed.
    pub fn to(&self) -> Result<NameAddr<'_>, Malformed> {
        self.address(Name::To)
    }

    /// The one address of a header that is no list: `From`, `To`, `Refer-To`, `Referred-By`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is missing or malformed.
    pub fn address(&self, name: Name) -> Result<NameAddr<'_>, Malformed> {
        let value = self.value(name).ok_or(Malformed::Missing(name))?;
        NameAddr::parse(value).ok_or(Malformed::Syntax(name))
    }

    /// Every address of a list: `Route`, `Record-Route`, `Path`, `Service-Route`, `P-Asserted-Identity`.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        self.values(name)
            .flat_map(Items::addresses)
            .map(move |item| NameAddr::parse(item).ok_or(Malformed::Syntax(name)))
    }

    /// Every contact.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'_>, Malformed>> {
        self.values(Name::Contact)
            .flat_map(Items::addresses)
            .map(|item| Contact::parse(item).ok_or(Malformed::Syntax(Name::Contact)))
    }

    /// `Call-ID`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is missing, empty, or has white space in it.
    pub fn call_id(&self) -> Result<&[u8], Malformed> {
        let value = self.value(Name::CallId).ok_or(Malformed::Missing(Name::CallId))?;
        match value.is_empty() || value.iter().any(|byte| is_space(*byte)) {
            true => Err(Malformed::Syntax(Name::CallId)),
            false => Ok(value),
        }
    }

    /// `CSeq`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is missing, malformed, or its number is 2³¹ or more (RFC 3261 §8.1.1.5).
    pub fn cseq(&self) -> Result<CSeq<'_>, Malformed> {
        let value = self.value(Name::CSeq).ok_or(Malformed::Missing(Name::CSeq))?;
        let parse = || {
            let (digits, rest) = value.split_at(value.iter().position(|byte| is_space(*byte))?);
            let number = decimal(digits).filter(|number| *number < 1 << 31)? as u32;
            let method = trim(rest);
            all_token(method).then(|| CSeq { number, method: Method::of(method) })
        };
        parse().ok_or(Malformed::Syntax(Name::CSeq))
    }

    /// `Max-Forwards`, 0 to 255; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`Malformed::Syntax`]
    pub fn max_forwards(&self) -> Result<Option<u8>, Malformed> {
        let number = |value| decimal(value).and_then(|number| u8::try_from(number).ok());
        let Some(value) = self.value(Name::MaxForwards) else { return Ok(None) };
        number(value).map(Some).ok_or(Malformed::Syntax(Name::MaxForwards))
    }

    /// `Expires` in seconds, at most `u32::MAX`; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`Malformed::Syntax`]
    pub fn expires(&self) -> Result<Option<u32>, Malformed> {
        self.seconds(Name::Expires)
    }

    /// The seconds in `Expires`, `Min-Expires`, `Session-Expires`, `Min-SE`, `Retry-After`; parameters behind them are
    /// left out. `None` when the header is not there.
    ///
    /// # Errors
    ///
    /// [`Malformed::Syntax`]
    pub fn seconds(&self, name: Name) -> Result<Option<u32>, Malformed> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let digits = trim(value.split(|byte| matches!(byte, b';' | b'(')).next().unwrap_or_default());
        decimal_saturating(digits).map(Some).ok_or(Malformed::Syntax(name))
    }

    /// The items of a list of tokens: `Require`, `Proxy-Require`, `Supported`, `Unsupported`, `Allow`, `Accept`.
    pub fn tokens(&self, name: Name) -> impl Iterator<Item = &[u8]> + Clone {
        self.values(name).flat_map(Items::plain)
    }

    /// Whether a list of tokens has `token`, in any case.
    pub fn lists(&self, name: Name, token: &str) -> bool {
        self.has(name) && self.tokens(name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// What `Content-Length` says; `None` when it is not there or malformed.
    pub fn content_length(&self) -> Option<u64> {
        decimal(self.value(Name::ContentLength)?)
    }

    /// The media type without its parameters.
    pub fn content_type(&self) -> Option<&[u8]> {
        Some(trim(self.value(Name::ContentType)?.split(|byte| *byte == b';').next()?))
    }

    /// `User-Agent`.
    pub fn user_agent(&self) -> Option<&[u8]> {
        self.value(Name::UserAgent)
    }

    /// The digest credentials in `Authorization` or `Proxy-Authorization`, in order; those of another scheme and
    /// malformed ones are errors in their place.
    pub fn credentials(&self, name: Name) -> impl Iterator<Item = Result<Credentials<'_>, Malformed>> {
        self.values(name).map(move |value| Credentials::parse(value).ok_or(Malformed::Syntax(name)))
    }

    /// The digest challenges in `WWW-Authenticate` or `Proxy-Authenticate`, in order.
    pub fn challenges(&self, name: Name) -> impl Iterator<Item = Result<Challenge<'_>, Malformed>> {
        self.values(name).map(move |value| Challenge::parse(value).ok_or(Malformed::Syntax(name)))
    }
}
