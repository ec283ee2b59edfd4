//! What can be wrong with a message, and what a server answers. One table from fault to status; used by the lexer,
//! the views and the validation.

use super::Name;

/// The bytes are no SIP message that could be answered. Whoever sent them hears nothing; on a stream, nothing that
/// follows can be found any more, and the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// Nothing but line breaks: a keep-alive (RFC 5626 §3.5.1), or nothing at all.
    #[error("no start line: nothing but line breaks")]
    Empty,
    /// More than [`super::MAX_MESSAGE`] bytes.
    #[error("{0} bytes are too many for a message: at most 65535")]
    TooLong(usize),
    /// The first line is neither a request line nor a status line.
    #[error("the first line is no start line of SIP")]
    NotSip,
    /// More than [`super::MAX_HEADERS`] header fields.
    #[error("more than 256 header fields")]
    TooManyHeaders,
}

impl ParseError {
    /// The status to answer: none of these can be answered.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Empty | Self::TooLong(_) | Self::NotSip | Self::TooManyHeaders => None,
        }
    }
}

/// A header value, or a part of one, is not what its grammar says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The header is not there and must be.
    #[error("{0} is missing")]
    Missing(Name),
    /// The header's value breaks its grammar.
    #[error("{0} is malformed")]
    Syntax(Name),
    /// A URI breaks its grammar.
    #[error("the URI is malformed")]
    Uri,
}

/// What a server refuses in a message that could be lexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The request or status line has spaces too many, or a part that is none.
    #[error("the start line is malformed")]
    StartLine,
    /// A version other than SIP/2.0.
    #[error("the version is not SIP/2.0")]
    Version,
    /// The scheme of the request URI is none that the program answers for.
    #[error("the scheme of the request URI is not sip or sips")]
    Scheme,
    /// The request URI has a known scheme and breaks its grammar.
    #[error("the request URI is malformed")]
    RequestUri,
    /// A method that the program does not know.
    #[error("the method is unknown")]
    Method,
    /// A line among the headers has no colon, or a name that is no token.
    #[error("a header line has no name")]
    HeaderLine,
    /// A header is longer than [`super::MAX_HEADER`].
    #[error("{0} is longer than 8192 bytes")]
    HeaderTooLong(Name),
    /// A line break that is none, or a zero byte, among the headers.
    #[error("{0} has a control character")]
    Control(Name),
    /// The empty line after the headers is missing.
    #[error("the headers never end")]
    Unterminated,
    /// A mandatory header is missing (RFC 3261 §8.1.1), or one is malformed.
    #[error(transparent)]
    Header(#[from] Malformed),
    /// A header stands more than once that may stand once only.
    #[error("{0} stands more than once")]
    Repeated(Name),
    /// The method in `CSeq` is not the request's.
    #[error("the method of CSeq is another than the request's")]
    MethodMismatch,
    /// `Content-Length` is no number, or stands there twice.
    #[error("Content-Length is malformed or stands more than once")]
    ContentLength,
    /// `Content-Length` promises more than there is.
    #[error("Content-Length says {declared} and {present} bytes are there")]
    Truncated {
        /// What the header says.
        declared: u64,
        /// What is there.
        present: usize,
    },
    /// A stream needs `Content-Length` (RFC 3261 §18.3).
    #[error("Content-Length is missing on a stream")]
    NoContentLength,
    /// More than [`super::MAX_VIAS`] hops.
    #[error("more than 70 Via")]
    TooManyVias,
    /// No Via tells where an answer would go.
    #[error("no usable Via")]
    NoVia,
    /// `Require` names an extension that the program does not have (RFC 3261 §8.2.2.3).
    #[error("Require names an unknown extension")]
    Extension,
}

impl Fault {
    /// The status that the RFC names for the fault in a request. Whether there is an answer at all depends on the
    /// message: [`Refusal`](super::Refusal) knows.
    pub const fn status(&self) -> Option<u16> {
        Some(match self {
            Self::NoVia => return None,
            Self::Version => 505,
            Self::Scheme => 416,
            Self::Method => 501,
            Self::Extension => 420,
            Self::StartLine
            | Self::RequestUri
            | Self::HeaderLine
            | Self::HeaderTooLong(_)
            | Self::Control(_)
            | Self::Unterminated
            | Self::Header(_)
            | Self::Repeated(_)
            | Self::MethodMismatch
            | Self::ContentLength
            | Self::Truncated { .. }
            | Self::NoContentLength
            | Self::TooManyVias => 400,
        })
    }

    /// Whether nobody can tell where the next message of the stream begins: answer, then close.
    pub const fn breaks_stream(&self) -> bool {
        matches!(self, Self::ContentLength | Self::Truncated { .. } | Self::NoContentLength | Self::Unterminated)
    }

    /// A reason phrase that says what is wrong, for an answer. Fixed text: nothing of the message is in it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::StartLine => "Bad Request Line",
            Self::Version => "Version Not Supported",
            Self::Scheme => "Unsupported URI Scheme",
            Self::RequestUri => "Bad Request URI",
            Self::Method => "Not Implemented",
            Self::HeaderLine => "Bad Header Line",
            Self::HeaderTooLong(_) => "Header Too Long",
            Self::Control(_) => "Control Character in Header",
            Self::Unterminated => "Headers Never End",
            Self::Header(Malformed::Missing(_)) => "Mandatory Header Missing",
            Self::Header(_) => "Malformed Header",
            Self::Repeated(_) => "Repeated Header",
            Self::MethodMismatch => "CSeq Method Mismatch",
            Self::ContentLength => "Bad Content-Length",
            Self::Truncated { .. } => "Body Shorter Than Content-Length",
            Self::NoContentLength => "Content-Length Missing",
            Self::TooManyVias => "Too Many Hops",
            Self::NoVia => "Bad Via",
            Self::Extension => "Bad Extension",
        }
    }
}
