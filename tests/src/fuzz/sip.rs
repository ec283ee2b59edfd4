//! Messages: what any bytes may do to the parser and its views, and whether a second implementation reads the same.

use std::net::SocketAddr;

use pbx_core::{
    gate::ALLOWED,
    moment::Moment,
    wire::{
        sip::{
            Contact, Edit, Malformed, Message, Method, Name, NameAddr, Origin, Params, Reply, StartLine, Uri, Via,
            scheme, unescaped, validate,
        },
        stream::{Frame, Framer, Limits},
    },
};

/// Where the messages come from.
const SOURCE: ([u8; 4], u16) = ([192, 0, 2, 1], 5061);

/// A message is lexed or not; what is lexed lies where the index says, all its views can be read, and the answer to
/// it is a message that belongs to it.
pub fn message(bytes: &[u8]) {
    for origin in [Origin::Datagram, Origin::Stream] {
        match Message::parse(bytes, origin) {
            Ok(message) => {
                places(&message);
                views(&message);
                answered(&message);
                refused_or_edited(&message);
                let owned = message.borrowed().into_owned();
                assert!(owned.headers().eq(message.headers()) && owned.body() == message.body());
            }
            Err(error) => assert!(error.status().is_none() && !error.to_string().is_empty()),
        }
    }
}

/// First line, headers and the empty line are all of the head, without a gap.
fn places(message: &Message<&[u8]>) {
    let (bytes, head) = (message.bytes(), message.head());
    assert!(bytes.starts_with(head) && bytes[head.len()..].starts_with(message.body()));
    let mut rest: Option<&[u8]> = None;
    for (position, header) in message.headers().enumerate() {
        assert_eq!(header.position, position);
        assert!(header.line.starts_with(header.text) && header.line.len() >= header.text.len() + header.value.len());
        assert!(header.name == Name::Other || Name::of(header.text) == header.name);
        assert!(message.has(header.name) || header.name == Name::Other);
        let start = header.line.as_ptr() as usize - bytes.as_ptr() as usize;
        assert!(rest.is_none_or(|rest| rest.as_ptr() as usize - bytes.as_ptr() as usize == start), "a gap");
        rest = Some(&bytes[start + header.line.len()..head.len()]);
    }
    let end = rest.unwrap_or_default();
    assert!(matches!(end, b"" | b"\n" | b"\r\n"), "{end:?} is left of the head");
}

/// Reads everything that can be read. What was understood is understood again from its own bytes.
fn views(message: &Message<&[u8]>) {
    let source = SocketAddr::from(SOURCE);
    match message.start_line() {
        StartLine::Request { method, uri } => {
            assert_eq!((message.method(), message.code(), message.is_request()), (Some(method), None, true));
            assert_eq!(method, Method::of(method.text()));
            read_uri(uri);
        }
        StartLine::Response { code, .. } => {
            assert!((100..700).contains(&code) && !message.is_request());
            assert_eq!(message.request_uri().unwrap_err(), Malformed::Uri);
        }
    }
    assert!(message.version()[..4].eq_ignore_ascii_case(b"SIP/"));
    for via in message.vias().flatten() {
        assert_eq!(Via::parse(via.raw), Some(via));
        assert_eq!(via.answer_to(source).ip(), source.ip());
        let _ = (via.has_cookie(), via.received(), via.ttl(), via.maddr(), via.host.ip());
        params(via.params);
    }
    for name in Name::all() {
        assert_eq!(message.has(name), message.values(name).next().is_some());
        assert_eq!(message.value(name), message.values(name).next());
        for address in message.addresses(name).chain([message.address(name)]).flatten() {
            read_address(address);
        }
        for token in message.tokens(name) {
            assert!(!token.is_empty());
        }
        let _ = (message.seconds(name), message.lists(name, "timer"));
        for credentials in message.credentials(name).flatten() {
            let _ = (credentials.nonce_count(), credentials.algorithm.known());
            let _ = (credentials.username.text(), credentials.uri.raw(), credentials.cnonce.map(|text| text.is(b"0a")));
        }
        for challenge in message.challenges(name).flatten() {
            let _ = (challenge.offers_auth(), challenge.algorithm.known(), challenge.realm.text());
        }
        message.values(name).for_each(|value| assert!(value.starts_with(scheme(value))));
    }
    for contact in message.contacts().flatten() {
        if let Contact::Address(address) = contact {
            read_address(address);
            assert!(address.q().is_none_or(|q| q <= 1000) && address.reg_id() != Some(0));
            let _ = (address.expires(), address.instance().map(|text| text.text()));
        }
    }
    assert!(message.cseq().is_ok_and(|cseq| cseq.number < 1 << 31) || message.cseq().is_err());
    assert!(message.call_id().is_ok_and(|id| !id.is_empty()) || message.call_id().is_err());
    let _ = (message.max_forwards(), message.expires(), message.content_length(), message.content_type());
    let _ = (message.user_agent(), message.other("X-Other"), message.from(), message.to(), message.via());
}

fn read_address(address: NameAddr<'_>) {
    assert_eq!(NameAddr::parse(address.raw), Some(address));
    let _ = (address.tag(), address.display.map(|name| name.text()));
    params(address.params);
    read_uri(address.uri);
}

fn read_uri(text: &[u8]) {
    let Ok(uri) = Uri::parse(text) else { return };
    assert_eq!(Uri::parse(uri.raw), Ok(uri));
    assert!(uri.user.is_none_or(|user| uri.user_is(&unescaped(user).collect::<Vec<_>>())));
    let _ = (uri.user_text(), uri.transport(), uri.maddr(), uri.is_loose(), uri.is_outbound(), uri.host.ip());
    assert!(uri.host.is_same(uri.host));
    params(uri.params);
}

fn params(params: Params<'_>) {
    for param in params.iter() {
        let whole = param.whole.strip_prefix(b";").expect("a parameter with its semicolon");
        let blank = whole.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        assert!(whole[blank..].starts_with(param.name));
        assert!(params.has(param.name) && param.is(param.name));
        let _ = param.text().map(|text| text.text());
    }
}

/// An answer has what pairs it with the request, and nothing of the request became a header of its own.
fn answered(request: &Message<&[u8]>) {
    if !request.is_request() {
        return;
    }
    let mut bytes = Vec::new();
    let reply = Reply::start(&mut bytes, request, 401, SocketAddr::from(SOURCE), Some(b"tag1"));
    reply.header("X-Echo", request.value(Name::UserAgent).unwrap_or(b"none")).finish();
    let Ok(answer) = Message::parse(&bytes[..], Origin::Stream) else {
        // A request of 64 KiB may have an answer that is longer.
        return assert!(bytes.len() > 65_535, "{:?}", String::from_utf8_lossy(&bytes));
    };
    assert_eq!((answer.code(), answer.body().len()), (Some(401), 0));
    let once = [Name::From, Name::To, Name::CallId, Name::CSeq].into_iter().filter(|name| request.has(*name)).count();
    let copied = request.values(Name::Via).count() + once;
    assert_eq!(answer.headers().count(), copied + 2, "{:?}", String::from_utf8_lossy(&bytes));
    is_one_frame(&bytes);
    if validate(request).is_err() {
        return;
    }
    // A line break in a value is a space in the answer.
    let folded = |name| request.values(name).any(|value| value.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
    if !folded(Name::CallId) && !folded(Name::CSeq) {
        assert_eq!((answer.call_id(), answer.cseq()), (request.call_id(), request.cseq()));
    }
    if !folded(Name::Via) {
        assert_eq!(answer.via().map(|via| via.branch()), request.via().map(|via| via.branch()));
        let source = SocketAddr::from(SOURCE);
        assert!(answer.via().is_ok_and(|via| via.received().is_none_or(|ip| ip == source.ip().to_string().as_bytes())));
    }
    if let (Ok(asked), Ok(answered)) = (request.to(), answer.to()) {
        let ours = (!asked.params.has(b"tag")).then_some(&b"tag1"[..]);
        assert_eq!(answered.tag(), ours.or(asked.tag()));
    }
}

/// What is refused is answered within reason; what is valid has all it must have, and can be edited without a change
/// to anything else.
fn refused_or_edited(message: &Message<&[u8]>) {
    let mut unchanged = Vec::new();
    Edit::of(message).write(&mut unchanged);
    assert_eq!(unchanged, message.bytes());
    let mut bytes = Vec::new();
    if let Err(refusal) = validate(message) {
        let answered = refusal.answer(&mut bytes, message, SocketAddr::from(SOURCE), b"tag1", ALLOWED);
        assert_eq!(answered, refusal.status().is_some());
        assert_eq!(bytes.is_empty(), !answered);
        if let Ok(answer) = Message::parse(&bytes[..], Origin::Stream) {
            assert_eq!(answer.code(), refusal.status());
        }
        return;
    }
    assert!(message.via().is_ok() && message.from().is_ok() && message.to().is_ok());
    assert!(message.call_id().is_ok() && message.cseq().is_ok());
    let mut edit = Edit::of(message);
    edit.prepend(Name::Via, b"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKnew").append("X-Edit", b"a\r\nb");
    edit.body(b"text/plain", b"hi").write(&mut bytes);
    let edited = match Message::parse(&bytes[..], Origin::Stream) {
        Ok(edited) => edited,
        // A few bytes or one header more may be one too many.
        Err(error) => return assert!(bytes.len() > 65_535 || message.headers().count() > 250, "{error}"),
    };
    let appended = edited.headers().filter(|header| header.text == b"X-Edit").last().map(|header| header.value);
    assert_eq!((edited.body(), appended), (&b"hi"[..], Some(&b"a b"[..])));
    assert_eq!((edited.start_line(), edited.vias().count()), (message.start_line(), message.vias().count() + 1));
    assert_eq!(edited.via().map(|via| via.branch()), Ok(Some(&b"z9hG4bKnew"[..])));
    let changed = [Name::ContentLength, Name::ContentType];
    let kept = |message: &Message<&[u8]>| -> Vec<Vec<u8>> {
        let others = message.headers().filter(|header| !changed.contains(&header.name));
        others.map(|header| header.line.to_vec()).collect()
    };
    let mut after = kept(&edited);
    after.retain(|line| !line.starts_with(b"X-Edit: a b") && !line.ends_with(b"z9hG4bKnew\r\n"));
    let mut before = kept(message);
    before.retain(|line| !line.starts_with(b"X-Edit: a b") && !line.ends_with(b"z9hG4bKnew\r\n"));
    assert_eq!(after, before);
    is_one_frame(&bytes);
}

/// What we write is one message on a stream as well, and nothing can hide behind it.
fn is_one_frame(bytes: &[u8]) {
    let limits = Limits { head_bytes: 65_535, headers: 1000, ..Limits::DEFAULT };
    let mut framer = Framer::new(limits, Moment::ZERO);
    // Empty lines before a message stay as they came.
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let message = &bytes[blank..];
    let mut input = message;
    let frame = framer.next(&mut input, Moment::ZERO);
    assert!(matches!(frame, Ok(Some(Frame::Message { bytes: all, .. })) if all == message), "{frame:?}");
}
