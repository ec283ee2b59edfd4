//! Writing a response to a request (RFC 3261 §8.2.6), into a buffer that the caller reuses.

use std::{
    fmt,
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::{
    Message, Method, Name, Via, reason,
    scan::{Items, is_space},
    validate::unsupported,
};

/// A response that is being written. What the request decides is there from the start: the Vias in their order, the
/// topmost with where the request came from, `From`, `To` with a tag, `Call-ID`, `CSeq`.
#[derive(Debug)]
#[must_use = "a response without its end is none: call finish"]
pub struct Reply<'o, 'm, B> {
    out: &'o mut Vec<u8>,
    request: &'m Message<B>,
}

impl<'o, 'm, B: AsRef<[u8]>> Reply<'o, 'm, B> {
    /// Begins a response with the phrase of its status. It is appended to `out`.
    ///
    /// `source` is where the request came from. `to_tag` is added to `To` when that has none yet (RFC 3261 §8.2.6.2);
    /// give none for a 100.
    pub fn start(
        out: &'o mut Vec<u8>,
        request: &'m Message<B>,
        code: u16,
        source: SocketAddr,
        to_tag: Option<&[u8]>,
    ) -> Self {
        Self::with_reason(out, request, code, reason(code), source, to_tag)
    }

    /// The same with a phrase of the caller's.
    pub fn with_reason(
        out: &'o mut Vec<u8>,
        request: &'m Message<B>,
        code: u16,
        reason: &str,
        source: SocketAddr,
        to_tag: Option<&[u8]>,
    ) -> Self {
        let mut reply = Self { out, request };
        write(reply.out, format_args!("SIP/2.0 {code} "));
        text(reply.out, reason.as_bytes());
        reply.out.extend_from_slice(b"\r\n");
        for (place, value) in request.values(Name::Via).enumerate() {
            reply.out.extend_from_slice(b"Via: ");
            match place {
                0 => top_via(reply.out, value, source),
                _ => text(reply.out, value),
            }
            reply.out.extend_from_slice(b"\r\n");
        }
        reply = reply.copy_first(Name::From);
        if let Some(value) = request.value(Name::To) {
            reply.out.extend_from_slice(b"To: ");
            text(reply.out, value);
            if let (Some(tag), false) = (to_tag, request.to().is_ok_and(|to| to.params.has(b"tag"))) {
                reply.out.extend_from_slice(b";tag=");
                text(reply.out, tag);
            }
            reply.out.extend_from_slice(b"\r\n");
        }
        reply.copy_first(Name::CallId).copy_first(Name::CSeq)
    }

    fn copy_first(self, name: Name) -> Self {
        match self.request.value(name) {
            Some(value) => self.header(name.text(), value),
            None => self,
        }
    }

    /// Copies every header of that name from the request: `Record-Route` into what makes a dialog (RFC 3261 §12.1.1),
    /// `Timestamp` into a 100, `Path` into the answer to a REGISTER.
    pub fn copy(self, name: Name) -> Self {
        let request = self.request;
        request.values(name).fold(self, |reply, value| reply.header(name.text(), value))
    }

    /// Adds a header. A line break in the value becomes a space: nothing can add a header by way of a value.
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

    /// Adds header lines that `write` appends, each with its line break.
    pub fn lines(self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        write(self.out);
        self
    }

    /// Adds `Allow`, for a 405 and a 501, or to say what is possible (RFC 3261 §20.5).
    pub fn allow(self, methods: &[Method<'_>]) -> Self {
        self.out.extend_from_slice(b"Allow: ");
        for (place, method) in methods.iter().enumerate() {
            if place > 0 {
                self.out.extend_from_slice(b", ");
            }
            text(self.out, method.text());
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds `Unsupported` with what the request requires and the program does not have, for a 420 (RFC 3261 §20.40).
    pub fn unsupported(self) -> Self {
        let mut separator = &b"Unsupported: "[..];
        for tag in unsupported(self.request) {
            self.out.extend_from_slice(separator);
            text(self.out, tag);
            separator = b", ";
        }
        if separator == b", " {
            self.out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Ends a response without a body.
    pub fn finish(self) {
        self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// Ends a response with a body.
    pub fn finish_with(self, content_type: &str, body: &[u8]) {
        end_with(self.out, content_type, body);
    }
}

/// `value` with its first hop marked with `source` (RFC 3261 §18.2.1, RFC 3581 §4). What the sender wrote into
/// `received` and `rport` itself goes: only we know.
fn top_via(out: &mut Vec<u8>, value: &[u8], source: SocketAddr) {
    let Some(item) = Items::plain(value).next() else { return };
    let Some(via) = Via::parse(item) else { return text(out, value) };
    // Both are slices of one buffer, and the item of the list does not begin it only when empty items do.
    let params_start = item.len() - via.params.bytes().len();
    let ip = source.ip().to_canonical();
    let wants_port = via.params.has(b"rport");
    text(out, &item[..params_start]);
    for param in via.params.iter() {
        if !param.is(b"received") && !param.is(b"rport") {
            text(out, param.whole);
        }
    }
    if wants_port || via.host.ip() != Some(ip) {
        match ip {
            IpAddr::V4(ip) => write(out, format_args!(";received={ip}")),
            IpAddr::V6(ip) => write(out, format_args!(";received={ip}")),
        }
    }
    if wants_port {
        write(out, format_args!(";rport={}", source.port()));
    }
    for item in Items::plain(value).skip(1) {
        out.extend_from_slice(b", ");
        text(out, item);
    }
}

/// `name: value` and a line break.
pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    text(out, value);
    out.extend_from_slice(b"\r\n");
}

/// `bytes` on one line: a folded value's breaks, and any other, become a space each.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at..];
        while let [first, after @ ..] = rest
            && is_space(*first)
        {
            rest = after;
        }
    }
    out.extend_from_slice(rest);
}

/// `Content-Type`, `Content-Length`, the empty line, the body.
pub(super) fn end_with(out: &mut Vec<u8>, content_type: &str, body: &[u8]) {
    line(out, b"Content-Type", content_type.as_bytes());
    write(out, format_args!("Content-Length: {}\r\n\r\n", body.len()));
    out.extend_from_slice(body);
}

pub(super) fn write(out: &mut Vec<u8>, arguments: fmt::Arguments<'_>) {
    // A Vec takes everything; only a Display that fails could, and none here does.
    let _ = out.write_fmt(arguments);
}
