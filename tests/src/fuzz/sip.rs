//! Messages: what any bytes may do to the parser and its views, and whether a second implementation reads the same.

use std::{collections::BTreeSet, net::SocketAddr};

use pbx_core::wire::sip::{
    Contact, Malformed, Message, Method, Name, NameAddr, Origin, Reply, StartLine, Uri, Via, scheme, unescaped,
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

fn params(params: pbx_core::wire::sip::Params<'_>) {
    for param in params.iter() {
        assert!(param.whole.starts_with(param.name));
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
    let allowed: BTreeSet<_> = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq].into();
    let copied = request.headers().filter(|header| header.name == Name::Via).count()
        + allowed.iter().filter(|name| **name != Name::Via && request.has(**name)).count();
    assert_eq!(answer.headers().count(), copied + 2, "{:?}", String::from_utf8_lossy(&bytes));
    assert_eq!((answer.call_id(), answer.cseq()), (request.call_id(), request.cseq()));
    assert_eq!(answer.via().map(|via| via.branch()), request.via().map(|via| via.branch()));
    if let (Ok(asked), Ok(answered)) = (request.to(), answer.to()) {
        assert!(answered.tag() == asked.tag() || answered.tag() == Some(b"tag1"));
    }
}
