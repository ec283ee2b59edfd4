//! SIP messages (RFC 3261 §7, §25) between bytes and meaning.
//!
//! [`Message::parse`] finds in one pass where everything is, without copying; views (`Via`, `NameAddr`, `Uri`,
//! `Credentials`) are read from there when asked for; [`validate`] says what a server refuses and how it answers.
//! [`Reply`] writes an answer, [`Request`] a request, [`Edit`] the same message with some of it changed and all else
//! byte for byte as it came. Nothing here knows transactions, users or sockets.

mod address;
mod dialog;
mod digest;
mod edit;
mod error;
mod lexer;
mod message;
mod method;
mod name;
mod params;
mod reply;
mod request;
mod scan;
mod status;
mod uri;
mod validate;
mod via;

#[cfg(test)]
mod tests;

pub use address::{Contact, NameAddr};
pub use dialog::{RAck, Refresher, Replaces, SessionExpires, cause, replaces_in};
pub use digest::{AlgorithmParam, Challenge, Credentials, Qop, scheme};
pub use edit::Edit;
pub use error::{Fault, Malformed, ParseError};
pub use lexer::Origin;
pub use message::{CSeq, Header, Message, StartLine};
pub use method::Method;
pub use name::Name;
pub use params::{Param, Params};
pub use reply::Reply;
pub use request::Request;
pub use scan::Quoted;
pub use status::reason;
pub use uri::{Host, Scheme, Uri, unescaped};
pub use validate::{Refusal, validate};
pub use via::{MAGIC_COOKIE, Rport, Via};

/// Bytes of the longest message; positions in it are 16 bits.
pub const MAX_MESSAGE: usize = 65_535;
/// Header fields of a message, at most.
pub const MAX_HEADERS: usize = 256;
/// Bytes of one header line, at most.
pub const MAX_HEADER: usize = 8_192;
/// Hops of a message, at most: as many as `Max-Forwards` allows at its start (RFC 3261 §8.1.1.6).
pub const MAX_VIAS: usize = 70;
/// Extensions that a request may require of us (RFC 3327, RFC 5626, RFC 3262, RFC 4028, RFC 3891).
pub const EXTENSIONS: &[&str] = &["path", "outbound", "100rel", "timer", "replaces"];
