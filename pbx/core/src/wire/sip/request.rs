//! Writing a request, into a buffer that the caller reuses.

use std::fmt;

use super::{
    Method,
    reply::{end_with, line, text, write},
};

/// A request that is being written.
#[derive(Debug)]
#[must_use = "a request without its end is none: call finish"]
pub struct Request<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Request<'o> {
    /// Begins a request. It is appended to `out`.
    pub fn start(out: &'o mut Vec<u8>, method: Method<'_>, uri: &[u8]) -> Self {
        out.extend_from_slice(method.text());
        out.push(b' ');
        text(out, uri);
        out.extend_from_slice(b" SIP/2.0\r\n");
        Self { out }
    }

    /// Adds our own `Via` with a branch that carries the cookie, and asks for `rport` (RFC 3581 §3).
    ///
    /// `protocol` is a token such as `UDP`; `sent_by` a host, with its port if it is not the default one.
    pub fn via(self, protocol: &str, sent_by: impl fmt::Display, branch: impl fmt::Display) -> Self {
        self.header_fmt("Via", format_args!("SIP/2.0/{protocol} {sent_by};rport;branch={branch}"))
    }

    /// Adds `Max-Forwards`, `Call-ID` and `CSeq`, which every request has.
    pub fn ids(self, max_forwards: u8, call_id: impl fmt::Display, cseq: u32, method: Method<'_>) -> Self {
        self.header_fmt("Max-Forwards", format_args!("{max_forwards}"))
            .header_fmt("Call-ID", format_args!("{call_id}"))
            .header_fmt("CSeq", format_args!("{cseq} {method}"))
    }

    /// Adds a header. A line break in the value becomes a space.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        line(self.out, name.as_bytes(), value.as_ref());
        self
    }

    /// Adds a header whose value is formatted in place, which is the caller's to keep free of line breaks.
    pub fn header_fmt(self, name: &str, value: fmt::Arguments<'_>) -> Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        write(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Ends a request without a body.
    pub fn finish(self) {
        self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// Ends a request with a body.
    pub fn finish_with(self, content_type: &str, body: &[u8]) {
        end_with(self.out, content_type, body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sip::{Message, Origin, Rport, validate};

    #[test]
    fn a_request_that_is_written_is_valid_and_says_what_was_asked_for() {
        let mut out = Vec::new();
        Request::start(&mut out, Method::Options, b"sip:alice@192.0.2.7:5062\r\nX: y")
            .via("UDP", "203.0.113.1:5060", "z9hG4bK77")
            .ids(70, "abc@pbx", 1, Method::Options)
            .header("From", "<sip:pbx@203.0.113.1>;tag=1")
            .header("To", b"<sip:alice@192.0.2.7>\r\nInjected: yes")
            .finish_with("text/plain", b"hi");
        // The line break in the URI must not begin a header; the URI is then none.
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.starts_with("OPTIONS sip:alice@192.0.2.7:5062 X: y SIP/2.0\r\n"));
        let message = Message::parse(&out, Origin::Stream).unwrap();
        assert!(message.other("Injected").is_none());
        assert_eq!(message.body(), b"hi");

        out.clear();
        Request::start(&mut out, Method::Options, b"sip:alice@192.0.2.7:5062")
            .via("UDP", "203.0.113.1:5060", "z9hG4bK77")
            .ids(70, "abc@pbx", 1, Method::Options)
            .header("From", "<sip:pbx@203.0.113.1>;tag=1")
            .header("To", "<sip:alice@192.0.2.7>")
            .finish();
        let message = Message::parse(&out, Origin::Stream).unwrap();
        assert_eq!(validate(&message), Ok(()));
        assert_eq!(message.via().unwrap().rport(), Rport::Asked);
        assert_eq!(message.cseq().unwrap().number, 1);
    }
}
