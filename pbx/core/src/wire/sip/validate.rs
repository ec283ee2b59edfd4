//! What a server refuses before it asks what a message means (RFC 3261 §8.2, §16.3), and the answer. After the lexer,
//! before the gate. `Max-Forwards` of 0, methods that are known and not allowed here, and media types are not judged.

use std::net::SocketAddr;

use super::{
    EXTENSIONS, Fault, MAX_HEADER, MAX_VIAS, Malformed, Message, Method, Name, Reply, Scheme, StartLine, lexer::Line,
};

/// A message that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Refusal {
    /// Why.
    pub fault: Fault,
    /// Whether nobody is told: it was a response, an ACK, or there is no way back.
    pub silent: bool,
}

impl Refusal {
    /// The status to answer; `None`: drop in silence.
    pub const fn status(&self) -> Option<u16> {
        if self.silent { None } else { self.fault.status() }
    }

    /// Whether a stream must be closed, after the answer if there is one.
    pub const fn closes(&self) -> bool {
        self.fault.breaks_stream()
    }

    /// Appends the whole answer to `out`; false when there is none. `allowed` are the methods that are carried out.
    pub fn answer<B: AsRef<[u8]>>(
        &self,
        out: &mut Vec<u8>,
        request: &Message<B>,
        source: SocketAddr,
        to_tag: &[u8],
        allowed: &[Method<'_>],
    ) -> bool {
        let Some(status) = self.status() else { return false };
        let reply = Reply::with_reason(out, request, status, self.fault.reason(), source, Some(to_tag));
        match self.fault {
            Fault::Extension => reply.unsupported(),
            Fault::Method => reply.allow(allowed),
            _ => reply,
        }
        .finish();
        true
    }
}

/// Whether the message is one that can be worked with.
///
/// # Errors
///
/// The first fault, and whether its sender hears of it.
pub fn validate<B: AsRef<[u8]>>(message: &Message<B>) -> Result<(), Refusal> {
    let result = match message.start_line() {
        StartLine::Request { method, .. } => request(message, method),
        StartLine::Response { .. } => version(message).and_then(|()| common(message)),
    };
    result.map_err(|fault| {
        let silent = match message.method() {
            None | Some(Method::Ack) => true,
            Some(_) => message.via().is_err(),
        };
        Refusal { fault, silent }
    })
}

fn request<B: AsRef<[u8]>>(message: &Message<B>, method: Method<'_>) -> Result<(), Fault> {
    version(message)?;
    common(message)?;
    if method.known().is_none() {
        // Before the mismatch below: RFC 4475 §3.1.2.18.
        return Err(Fault::Method);
    }
    if message.cseq()?.method != method {
        return Err(Fault::MethodMismatch);
    }
    message.max_forwards()?;
    let uri = message.request_uri().map_err(|_| Fault::RequestUri)?;
    match uri.scheme {
        Scheme::Sip | Scheme::Sips => {}
        Scheme::Tel | Scheme::Urn | Scheme::Other => return Err(Fault::Scheme),
    }
    // Headers in a request URI are against RFC 3261 §19.1.1, and a way to smuggle some in.
    if uri.headers.is_some() {
        return Err(Fault::RequestUri);
    }
    if method == Method::Register && !message.to()?.uri()?.is_sip() {
        return Err(Malformed::Syntax(Name::To).into());
    }
    // RFC 3261 §8.2.2.3: neither an ACK nor a CANCEL is refused for what it requires.
    if !matches!(method, Method::Ack | Method::Cancel) && unsupported(message).next().is_some() {
        return Err(Fault::Extension);
    }
    Ok(())
}

fn version<B: AsRef<[u8]>>(message: &Message<B>) -> Result<(), Fault> {
    match message.version().eq_ignore_ascii_case(b"SIP/2.0") {
        true => Ok(()),
        false => Err(Fault::Version),
    }
}

/// What holds for requests and responses.
fn common<B: AsRef<[u8]>>(message: &Message<B>) -> Result<(), Fault> {
    let index = message.index();
    if let Some(fault) = index.fault {
        return Err(fault);
    }
    for line in index.lines() {
        fits(message.bytes(), line)?;
    }
    if index.repeated & Name::SINGLE != 0 {
        let twice = Name::all().find(|name| index.repeated & Name::SINGLE & name.bit() != 0);
        return Err(Fault::Repeated(twice.unwrap_or(Name::Other)));
    }
    let mut hops = 0;
    for via in message.vias() {
        via?;
        hops += 1;
        if hops > MAX_VIAS {
            return Err(Fault::TooManyVias);
        }
    }
    if hops == 0 {
        return Err(Fault::NoVia);
    }
    // A bad URI is told by the header that it stands in.
    let uri = |name, uri: Result<super::Uri<'_>, Malformed>| uri.map(drop).map_err(|_| Malformed::Syntax(name));
    uri(Name::From, message.from()?.uri())?;
    uri(Name::To, message.to()?.uri())?;
    message.call_id()?;
    message.cseq()?;
    for name in [Name::Route, Name::RecordRoute, Name::Path] {
        for address in message.addresses(name) {
            uri(name, address?.uri())?;
        }
    }
    for contact in message.contacts() {
        if let super::Contact::Address(address) = contact? {
            uri(Name::Contact, address.uri())?;
        }
    }
    Ok(())
}

/// Whether a header line is no longer than allowed, and has no line break or zero byte that another parser would see
/// as an end. A zero behind a backslash is in the grammar.
fn fits(bytes: &[u8], line: &Line) -> Result<(), Fault> {
    let text = line.whole.of(bytes);
    if text.len() > MAX_HEADER {
        return Err(Fault::HeaderTooLong(line.name));
    }
    let value = line.value.of(bytes);
    for at in memchr::memchr2_iter(b'\r', 0, value) {
        let allowed = match value[at] {
            b'\r' => value.get(at + 1) == Some(&b'\n'),
            _ => at > 0 && value[at - 1] == b'\\',
        };
        if !allowed {
            return Err(Fault::Control(line.name));
        }
    }
    Ok(())
}

/// The extensions in `Require` and `Proxy-Require` that the program does not have.
pub(super) fn unsupported<B: AsRef<[u8]>>(message: &Message<B>) -> impl Iterator<Item = &[u8]> {
    [Name::Require, Name::ProxyRequire]
        .into_iter()
        .flat_map(|name| message.tokens(name))
        .filter(|tag| !EXTENSIONS.iter().any(|known| tag.eq_ignore_ascii_case(known.as_bytes())))
}
