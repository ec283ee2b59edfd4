//! Our parser beside rsip: what both understand, they must understand alike.
//!
//! What rsip 0.4 is known not to understand, and what is therefore not compared:
//! - compact names, folded lines, line feeds alone, white space before a colon: only heads of plain lines are;
//! - a head without any header, whose end it seeks in the body;
//! - white space before a semicolon or in a hop's `sent-by`, which ends its parameters;
//! - quoted strings and lists: `From`, `To` and `Via` with quotes, a second address or a second hop;
//! - IPv6, a dot in a user (it becomes part of the host), headers of a URI, `tel:`, URIs without a scheme;
//! - other schemes: it takes all up to the next `://`, over lines and bodies, for one;
//! - methods in the wrong case (it takes `invite` for INVITE), numbers with a plus;
//! - an empty, second or valueless parameter of the name that is asked for;
//! - Content-Length: its body is all that follows.

use pbx_core::wire::sip::{Message, Method, Name, Origin, Scheme, StartLine};
use rsip::{
    Headers, Request, SipMessage,
    common::uri::{Auth, HostWithPort, Param},
    headers::{ToTypedHeader, UntypedHeader},
    message::{HasHeaders, HeadersExt},
};

/// Any bytes are read by both, and bytes choose what rsip builds and we read. Whether both understood the bytes.
pub fn differential(bytes: &[u8]) -> bool {
    built_by_rsip(bytes);
    read_by_both(bytes)
}

fn read_by_both(bytes: &[u8]) -> bool {
    if !is_plain(bytes) {
        return false;
    }
    let (Ok(theirs), Ok(ours)) = (SipMessage::try_from(bytes), Message::parse(bytes, Origin::Datagram)) else {
        return false;
    };
    if matches!(&theirs, SipMessage::Request(request) if matches!(request.uri.scheme, Some(rsip::Scheme::Other(_)))) {
        return false;
    }
    match (&theirs, ours.start_line()) {
        (SipMessage::Request(request), StartLine::Request { method, .. }) => {
            assert_eq!(request.method.to_string().as_bytes(), method.text().to_ascii_uppercase());
            same_uri(request, &ours);
        }
        (SipMessage::Response(response), StartLine::Response { code, .. }) => {
            assert_eq!(response.status_code.code(), code);
        }
        (theirs, ours) => panic!("{theirs:?} and {ours:?}"),
    }
    if let (Ok(theirs), Ok(ours)) = (theirs.call_id_header(), ours.call_id()) {
        assert_eq!(theirs.value().trim().as_bytes(), ours);
    }
    if let (Ok(Ok(theirs)), Ok(ours)) = (theirs.cseq_header().map(|cseq| cseq.typed()), ours.cseq()) {
        assert_eq!(theirs.seq, ours.number);
        assert_eq!(theirs.method.to_string().as_bytes(), ours.method.text().to_ascii_uppercase());
    }
    if let (Ok(header), Ok(ours)) = (theirs.from_header(), ours.from())
        && has_one(header.value(), "tag")
        && let Ok(theirs) = header.typed()
    {
        assert_eq!(theirs.tag().map(|tag| tag.value().as_bytes()), ours.tag());
    }
    if let (Ok(header), Ok(ours)) = (theirs.to_header(), ours.to())
        && has_one(header.value(), "tag")
        && let Ok(theirs) = header.typed()
    {
        assert_eq!(theirs.tag().map(|tag| tag.value().as_bytes()), ours.tag());
    }
    if let (Ok(header), Ok(ours)) = (theirs.via_header(), ours.via())
        && has_one(header.value(), "branch")
        && let Ok(theirs) = header.typed()
    {
        assert_eq!(theirs.branch().map(|branch| branch.value().as_bytes()), ours.branch());
    }
    if !ours.has(Name::ContentLength) {
        assert_eq!(theirs.body(), ours.body());
    }
    true
}

fn same_uri(theirs: &Request, ours: &Message<&[u8]>) {
    let Ok(ours) = ours.request_uri() else { return };
    let host = theirs.uri.host().to_string();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if theirs.uri.scheme.is_none() || !ours.is_sip() || host.is_empty() || !host.bytes().all(is_host) {
        return;
    }
    assert_eq!(theirs.uri.is_sips().ok(), Some(ours.scheme == Scheme::Sips));
    assert_eq!(theirs.uri.user().map(str::as_bytes), ours.user);
    assert!(ours.host.bytes().eq_ignore_ascii_case(host.as_bytes()), "{host} and {:?}", ours.host);
    assert_eq!(theirs.uri.port().map(|port| *port.value()), ours.port);
}

/// Whether the head is of lines as rsip understands them.
fn is_plain(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let has_headers = lines.clone().nth(1).is_some();
    let is_text = |line: &[u8]| line.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let last = lines.next_back().is_none_or(is_text);
    let in_lines = lines.all(|line| line.strip_suffix(b"\r").is_some_and(is_text));
    let is_long = |line: &[u8]| matches!(line, [first, second, ..] if *first != b' ' && !matches!(second, b':' | b' '));
    has_headers && last && in_lines && bytes[..end].split(|byte| *byte == b'\n').all(is_long)
}

/// Whether the value is one address or hop without quotes, and of its parameters, all `name` or `name=token`, exactly
/// one has that name, with a value.
fn has_one(value: &str, name: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte))
    };
    let behind = value.trim_end().rsplit_once('>').map_or(value.trim_end(), |(_, params)| params);
    let mut named = behind.split(';').skip(1).map(|param| match param.split_once('=') {
        Some((name, value)) => (token(name) && token(value)).then_some(name),
        None => token(param).then_some(""),
    });
    let params: Option<Vec<_>> = named.by_ref().collect();
    let count = |params: Vec<&str>| params.iter().filter(|param| param.eq_ignore_ascii_case(name)).count();
    !value.contains(['"', ','])
        && !value.contains(" ;")
        && (value.contains('<') || value.trim().matches(' ').count() < 2)
        && value.matches('<').count() == value.matches('>').count()
        && value.matches('<').count() <= usize::from(name == "tag")
        && params.map(count) == Some(1)
}

/// Bytes that choose; zero when they are used up.
struct Choice<'a>(&'a [u8]);

impl Choice<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u32 {
        u32::from_be_bytes(std::array::from_fn(|_| self.next()))
    }

    /// A word of these letters, never empty.
    fn word(&mut self, letters: &[u8]) -> String {
        let length = 1 + self.next() % 24;
        (0..length).map(|_| char::from(letters[usize::from(self.next()) % letters.len()])).collect()
    }
}

const TOKEN: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~";
const WORD: &[u8] = b"abcxyzABCXYZ0123456789-";
const USER: &[u8] = b"abcxyzABCXYZ0123456789-_.!~*'()&=+$,;?/%";

/// What rsip builds is read by us as it was meant.
fn built_by_rsip(bytes: &[u8]) {
    let mut choice = Choice(bytes);
    let methods = rsip::Method::all();
    let method = methods[usize::from(choice.next()) % methods.len()];
    let uri = |choice: &mut Choice<'_>| rsip::Uri {
        scheme: Some(if choice.next() & 1 == 0 { rsip::Scheme::Sip } else { rsip::Scheme::Sips }),
        auth: (choice.next() & 1 == 0).then(|| Auth { user: choice.word(USER), password: None }),
        host_with_port: HostWithPort {
            host: rsip::Host::Domain(format!("a{}.example", choice.word(WORD)).into()),
            port: (choice.next() & 1 == 0).then(|| (choice.number() as u16).into()),
        },
        params: vec![],
        headers: vec![],
    };
    let (target, from, to) = (uri(&mut choice), uri(&mut choice), uri(&mut choice));
    let (from_tag, to_tag, branch) = (choice.word(TOKEN), choice.word(TOKEN), choice.word(TOKEN));
    let (call_id, number) = (choice.word(TOKEN), choice.number() >> 1);
    let mut hop = uri(&mut choice);
    hop.scheme = None;
    hop.auth = None;
    let header = rsip::Header::Other;
    let mut headers = Headers::default();
    headers.push(
        rsip::typed::Via {
            version: rsip::Version::V2,
            transport: rsip::Transport::Tcp,
            uri: hop,
            params: vec![Param::Branch(branch.clone().into())],
        }
        .into(),
    );
    let params = |tag: &str| vec![Param::Tag(tag.to_owned().into())];
    let display_name = (choice.next() & 1 == 0).then(|| format!("\"{}\"", choice.word(USER)));
    headers.push(rsip::typed::From { display_name, uri: from.clone(), params: params(&from_tag) }.into());
    headers.push(rsip::typed::To { display_name: None, uri: to.clone(), params: params(&to_tag) }.into());
    headers.push(rsip::headers::CallId::new(call_id.clone()).into());
    headers.push(rsip::typed::CSeq { seq: number, method }.into());
    for _ in 0..choice.next() % 4 {
        headers.push(header(format!("X-{}", choice.word(WORD)), choice.word(USER)));
    }
    let body = choice.0.to_ascii_lowercase().iter().map(|byte| byte & 0x7f).collect::<Vec<_>>();
    headers.push(rsip::headers::ContentLength::from(body.len() as u32).into());
    let request = Request { method, uri: target.clone(), version: rsip::Version::V2, headers, body: body.clone() };
    let text = request.to_string();
    let ours = Message::parse(text.as_bytes(), Origin::Stream).expect(&text);
    assert_eq!(ours.method().map(Method::text), Some(method.to_string().as_bytes()));
    assert_eq!(ours.headers().count(), request.headers().iter().count(), "{text}");
    let uris = [
        (target, ours.request_uri().expect(&text)),
        (from, ours.from().expect(&text).uri().expect(&text)),
        (to, ours.to().expect(&text).uri().expect(&text)),
    ];
    for (built, read) in uris {
        assert_eq!(read.raw, built.to_string().as_bytes());
        assert_eq!(read.user, built.user().map(str::as_bytes), "{text}");
        assert!(read.host.is(&built.host().to_string()), "{text}");
        assert_eq!(read.port, built.port().map(|port| *port.value()), "{text}");
    }
    assert_eq!(ours.from().map(|from| from.tag()), Ok(Some(from_tag.as_bytes())));
    assert_eq!(ours.to().map(|to| to.tag()), Ok(Some(to_tag.as_bytes())));
    assert_eq!(ours.via().map(|via| via.branch()), Ok(Some(branch.as_bytes())));
    assert_eq!(ours.call_id(), Ok(call_id.as_bytes()));
    assert_eq!(ours.cseq().map(|cseq| cseq.number), Ok(number));
    assert_eq!(ours.body(), body);
}
