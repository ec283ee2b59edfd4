//! The wire layer as a whole: what comes in, what is made of it, what goes out.

use std::net::SocketAddr;

use super::*;

fn datagram(text: &str) -> Message<Vec<u8>> {
    Message::parse(text.replace('\n', "\r\n").into_bytes(), Origin::Datagram).unwrap()
}

fn source() -> SocketAddr {
    "198.51.100.7:32768".parse().unwrap()
}

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK1;rport
Max-Forwards: 70
From: <sip:100@example.com>;tag=a
To: <sip:100@example.com>
Call-ID: c1
CSeq: 1 REGISTER
Contact: <sip:100@10.0.0.5:5060>
X-Odd:   kept  as it is
Content-Length: 0

";

#[test]
fn a_plain_register_is_valid_and_read_in_full() {
    let message = datagram(REGISTER);
    assert_eq!(validate(&message), Ok(()));
    assert_eq!(message.start_line(), StartLine::Request { method: Method::Register, uri: b"sip:example.com" });
    assert_eq!(message.call_id(), Ok(&b"c1"[..]));
    assert_eq!(message.cseq().unwrap().number, 1);
    assert_eq!(message.max_forwards(), Ok(Some(70)));
    assert_eq!(message.from().unwrap().tag(), Some(&b"a"[..]));
    assert_eq!(message.contacts().count(), 1);
    assert_eq!(message.other("x-odd"), Some(&b"kept  as it is"[..]));
    assert_eq!(message.headers().count(), 9);
    assert_eq!(message.expires(), Ok(None));
    let owned = message.clone().into_owned();
    assert_eq!(owned.bytes(), message.bytes());
    assert_eq!(owned.via().unwrap().raw, message.via().unwrap().raw);
}

#[test]
fn line_feeds_alone_leading_line_breaks_and_folding_are_accepted() {
    let folded = REGISTER.replace("From: <sip:100@example.com>", "From:\n <sip:100@example.com>\n\t ");
    for text in [REGISTER, &format!("\r\n\r\n\n{REGISTER}"), &folded] {
        let message = Message::parse(text.as_bytes(), Origin::Datagram).unwrap();
        assert_eq!(validate(&message), Ok(()), "{text}");
        assert_eq!(message.from().unwrap().tag(), Some(&b"a"[..]));
        assert_eq!(message.to().unwrap().uri, b"sip:100@example.com");
    }
}

#[test]
fn a_header_that_is_no_utf_8_hides_nothing_behind_it() {
    let text = REGISTER.replace('\n', "\r\n").into_bytes();
    let at = text.windows(5).position(|window| window == b"kept ").unwrap();
    let mut bytes = text.clone();
    bytes[at..at + 4].copy_from_slice(b"\xff\xfe\x80\xc3");
    let message = Message::parse(bytes, Origin::Datagram).unwrap();
    assert_eq!(validate(&message), Ok(()));
    assert!(message.other("X-Odd").unwrap().starts_with(b"\xff\xfe\x80\xc3"));
    assert_eq!(message.content_length(), Some(0));
}

#[test]
fn what_is_no_message_is_dropped_in_silence() {
    let refused = |bytes: &[u8]| {
        let error = Message::parse(bytes, Origin::Datagram).unwrap_err();
        assert_eq!(error.status(), None);
        error
    };
    assert_eq!(refused(b""), ParseError::Empty);
    assert_eq!(refused(b"\r\n\r\n"), ParseError::Empty);
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\0\0\0",
        b"hello",
        b"INVITE sip:a@h\r\n\r\n",
        b"INVITE sip:a@h SIP/2\r\n\r\n",
        b"SIP/2.0 099 X\r\n\r\n",
        b"SIP/2.0 4294967301 X\r\n\r\n",
        b"SIP/2.0 20 X\r\n\r\n",
        b" SIP/2.0",
    ] {
        assert_eq!(refused(noise), ParseError::NotSip, "{}", String::from_utf8_lossy(noise));
    }
    assert_eq!(refused(&vec![b'x'; 65_536]), ParseError::TooLong(65_536));
    let many = format!("{}{}\n", REGISTER.trim_end(), "\nA: b".repeat(250));
    assert_eq!(refused(many.as_bytes()), ParseError::TooManyHeaders);
}

#[test]
fn more_headers_than_usual_are_all_found() {
    let many: String = (0..200).map(|number| format!("H{number}: v{number}\n")).collect();
    let message = datagram(&REGISTER.replace("X-Odd", &format!("{many}X-Odd")));
    assert_eq!(validate(&message), Ok(()));
    assert_eq!(message.headers().count(), 209);
    for number in [0, 30, 31, 32, 33, 39, 40, 41, 199] {
        assert_eq!(message.other(&format!("h{number}")), Some(format!("v{number}").as_bytes()));
    }
    assert_eq!(message.content_length(), Some(0));
}

/// What `validate` says of REGISTER with `from` replaced by `to`.
fn altered(from: &str, to: &str) -> Option<Refusal> {
    assert!(REGISTER.contains(from), "{from}");
    validate(&datagram(&REGISTER.replace(from, to))).err()
}

fn status(from: &str, to: &str) -> Option<u16> {
    altered(from, to).unwrap().status()
}

#[test]
fn what_must_stand_once_stands_once() {
    for name in
        ["From: <sip:100@example.com>;tag=a\n", "To: <sip:100@example.com>\n", "Call-ID: c1\n", "CSeq: 1 REGISTER\n"]
    {
        assert_eq!(status(name, ""), Some(400), "{name}");
        assert_eq!(status(name, &name.repeat(2)), Some(400), "{name}");
    }
    assert_eq!(altered("Max-Forwards: 70\n", ""), None);
    assert_eq!(status("Max-Forwards: 70\n", "Max-Forwards: 70\nMax-Forwards: 70\n"), Some(400));
    // The compact name is the same header.
    assert_eq!(status("Call-ID: c1\n", "Call-ID: c1\ni: c1\n"), Some(400));
}

#[test]
fn malformed_values_are_400() {
    for (from, to) in [
        ("CSeq: 1 REGISTER", "CSeq: 2147483648 REGISTER"),
        ("CSeq: 1 REGISTER", "CSeq: -1 REGISTER"),
        ("CSeq: 1 REGISTER", "CSeq: REGISTER"),
        ("CSeq: 1 REGISTER", "CSeq: 1"),
        ("CSeq: 1 REGISTER", "CSeq: 1 INVITE"),
        ("Max-Forwards: 70", "Max-Forwards: 256"),
        ("Max-Forwards: 70", "Max-Forwards: -1"),
        ("Call-ID: c1", "Call-ID:"),
        ("Call-ID: c1", "Call-ID: a b"),
        ("From: <sip:100@example.com>", "From: <sip:100@exa mple.com>"),
        ("To: <sip:100@example.com>", "To: \"x <sip:100@example.com>"),
        ("To: <sip:100@example.com>", "To: tel:+4930"),
        ("Contact: <sip:100@10.0.0.5:5060>", "Contact: <sip:100@10.0.0.5:70000>"),
        ("Contact: <sip:100@10.0.0.5:5060>", "Route: <sip:a@h>, nonsense"),
        ("X-Odd:", "X-Odd"),
        ("X-Odd:", ": x"),
        ("X-Odd:", "X Odd:"),
        ("kept  as", "kept\ras"),
        ("kept  as", "kept\0as"),
        ("sip:example.com SIP", "sip:example.com?Route=%3Csip:a%3E SIP"),
        ("sip:example.com SIP", "<sip:example.com> SIP"),
        ("sip:example.com SIP", " sip:example.com SIP"),
        ("sip:example.com SIP", "sip:example.com  SIP"),
        ("sip:example.com SIP/2.0", "sip:example.com SIP/2.0 "),
        ("REGISTER sip:example.com", "REG\u{e9}STER sip:example.com"),
        ("Content-Length: 0", "Content-Length: -1"),
        ("Content-Length: 0", "Content-Length: 0, 0"),
        ("Content-Length: 0", "Content-Length: 0\nContent-Length: 0"),
        ("Content-Length: 0", "Content-Length: 1"),
        ("Content-Length: 0", "Content-Length: 99999999999999999999"),
    ] {
        assert_eq!(status(from, to), Some(400), "{to:?}");
    }
}

#[test]
fn other_statuses_are_those_of_the_rfc() {
    assert_eq!(status("SIP/2.0\n", "SIP/7.0\n"), Some(505));
    assert_eq!(status("sip:example.com SIP", "http://example.com SIP"), Some(416));
    assert_eq!(status("sip:example.com SIP", "tel:+49301234 SIP"), Some(416));
    assert_eq!(status("sip:example.com SIP", "urn:service:sos SIP"), Some(416));
    assert_eq!(status("Max-Forwards: 70", "Require: path, Outbound, gruu"), Some(420));
    assert_eq!(altered("Max-Forwards: 70", "Require: path, Outbound"), None);
    let unknown = REGISTER.replace("REGISTER", "NEWMETHOD");
    assert_eq!(validate(&datagram(&unknown)).unwrap_err().status(), Some(501));
    // Small letters are another method.
    let small = REGISTER.replace("REGISTER", "register");
    assert_eq!(validate(&datagram(&small)).unwrap_err().status(), Some(501));
}

#[test]
fn nobody_hears_of_a_bad_ack_a_bad_response_or_without_a_way_back() {
    let via = "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK1;rport\n";
    assert_eq!(status(via, ""), None);
    assert_eq!(status(via, "Via: nonsense\n"), None);
    let ack = REGISTER.replace("REGISTER", "ACK").replace("Call-ID: c1\n", "");
    assert_eq!(validate(&datagram(&ack)).unwrap_err().status(), None);
    let response = REGISTER.replace("REGISTER sip:example.com SIP/2.0", "SIP/2.0 200 OK").replace("Call-ID: c1\n", "");
    assert_eq!(validate(&datagram(&response)).unwrap_err().status(), None);
    // What an ACK requires is not refused.
    let ack = REGISTER.replace("REGISTER", "ACK").replace("Max-Forwards: 70", "Require: nothing");
    assert_eq!(validate(&datagram(&ack)), Ok(()));
}

#[test]
fn limits_are_kept() {
    let long = format!("X-Odd: {}", "x".repeat(8_200));
    assert_eq!(altered("X-Odd:", &long).unwrap().fault, Fault::HeaderTooLong(Name::Other));
    let via = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\n";
    assert_eq!(altered("Max-Forwards", &format!("{}Max-Forwards", via.repeat(69))), None);
    assert_eq!(altered("Max-Forwards", &format!("{}Max-Forwards", via.repeat(70))).unwrap().fault, Fault::TooManyVias);
    let list = format!("Via: {}\nMax-Forwards", ["SIP/2.0/UDP h"; 70].join(","));
    assert_eq!(altered("Max-Forwards", &list).unwrap().fault, Fault::TooManyVias);
}

#[test]
fn a_datagrams_body_is_the_rest_or_what_its_length_says() {
    let body = |length: &str, body: &str| {
        let text = REGISTER.replace("Content-Length: 0\n", length);
        datagram(&format!("{text}{body}"))
    };
    assert_eq!(body("", "v=0").body(), b"v=0");
    assert_eq!(body("Content-Length: 2\n", "v=0").body(), b"v=");
    assert_eq!(body("l:2\n", "v=0").body(), b"v=");
    assert_eq!(body("Content-Length: 3\n", "v=0").body(), b"v=0");
    let short = body("Content-Length: 4\n", "v=0");
    let refusal = validate(&short).unwrap_err();
    assert_eq!(refusal.fault, Fault::Truncated { declared: 4, present: 3 });
    assert!(refusal.closes());
    // No empty line: where the headers end is anybody's guess.
    let cut = Message::parse(REGISTER.trim_end().as_bytes(), Origin::Datagram).unwrap();
    assert_eq!(validate(&cut).unwrap_err().fault, Fault::Unterminated);
}

#[test]
fn a_stream_needs_its_content_length() {
    let text = REGISTER.replace("Content-Length: 0\n", "").replace('\n', "\r\n");
    let message = Message::parse(text.as_bytes(), Origin::Stream).unwrap();
    let refusal = validate(&message).unwrap_err();
    assert_eq!((refusal.fault, refusal.closes()), (Fault::NoContentLength, true));
}

fn reply_to(text: &str, tag: Option<&[u8]>) -> Vec<u8> {
    let request = datagram(text);
    let mut out = Vec::new();
    Reply::start(&mut out, &request, 200, source(), tag).finish();
    let reply = Message::parse(&out[..], Origin::Stream).unwrap();
    assert_eq!(validate(&reply), Ok(()), "{}", String::from_utf8_lossy(&out));
    out
}

#[test]
fn a_reply_copies_what_it_must_and_says_where_the_request_came_from() {
    let out = reply_to(
        &REGISTER.replace("Max-Forwards: 70", "v: SIP/2.0/TCP a;branch=z9hG4bK2 , SIP/2.0/TLS b"),
        Some(b"t1"),
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "SIP/2.0 200 OK\r\n\
         Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK1;received=198.51.100.7;rport=32768\r\n\
         Via: SIP/2.0/TCP a;branch=z9hG4bK2 , SIP/2.0/TLS b\r\n\
         From: <sip:100@example.com>;tag=a\r\n\
         To: <sip:100@example.com>;tag=t1\r\n\
         Call-ID: c1\r\n\
         CSeq: 1 REGISTER\r\n\
         Content-Length: 0\r\n\r\n"
    );
}

#[test]
fn a_reply_believes_no_received_or_rport_of_the_senders() {
    let via = |via: &str| {
        let text = REGISTER.replace("SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK1;rport", via);
        let out = reply_to(&text, None);
        let reply = Message::parse(out, Origin::Stream).unwrap();
        String::from_utf8(reply.value(Name::Via).unwrap().to_vec()).unwrap()
    };
    assert_eq!(
        via("SIP/2.0/UDP h;received=203.0.113.9;rport=1;branch=z9hG4bK1;x=\"a;received=1\""),
        "SIP/2.0/UDP h;branch=z9hG4bK1;x=\"a;received=1\";received=198.51.100.7;rport=32768"
    );
    // The sender named its own address and did not ask for the port.
    assert_eq!(via("SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1"), "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1");
    assert_eq!(via("SIP/2.0/UDP h"), "SIP/2.0/UDP h;received=198.51.100.7");
    assert_eq!(via("SIP/2.0/UDP h , SIP/2.0/TCP i;a=b"), "SIP/2.0/UDP h;received=198.51.100.7, SIP/2.0/TCP i;a=b");
}

#[test]
fn a_reply_adds_a_tag_only_where_none_is() {
    let tagged = REGISTER.replace("To: <sip:100@example.com>", "To: <sip:100@example.com>;tag=theirs");
    let to = |out: Vec<u8>| Message::parse(out, Origin::Stream).unwrap().value(Name::To).unwrap().to_vec();
    assert_eq!(to(reply_to(&tagged, Some(b"ours"))), b"<sip:100@example.com>;tag=theirs");
    assert_eq!(to(reply_to(REGISTER, None)), b"<sip:100@example.com>");
}

#[test]
fn a_folded_header_is_one_line_in_a_reply() {
    let out = reply_to(&REGISTER.replace("From: ", "From:  \"a\n\t b\"\n "), None);
    let reply = Message::parse(out, Origin::Stream).unwrap();
    assert_eq!(reply.value(Name::From), Some(&b"\"a b\" <sip:100@example.com>;tag=a"[..]));
}

#[test]
fn no_value_can_add_a_header_to_a_reply() {
    let request = datagram(REGISTER);
    let mut out = Vec::new();
    Reply::start(&mut out, &request, 403, source(), None).header("Warning", "a\r\nX: b\n\nbody").finish();
    let reply = Message::parse(out, Origin::Stream).unwrap();
    assert_eq!(reply.value(Name::Warning), Some(&b"a X: b body"[..]));
    assert!(reply.body().is_empty());
}

#[test]
fn a_refusal_answers_with_what_the_status_needs() {
    let answer = |text: &str| {
        let request = datagram(text);
        let mut out = Vec::new();
        assert!(validate(&request).unwrap_err().answer(
            &mut out,
            &request,
            source(),
            b"t",
            &[Method::Register, Method::Ack]
        ));
        Message::parse(out, Origin::Stream).unwrap()
    };
    let reply = answer(&REGISTER.replace("Max-Forwards: 70", "Require: path, a\nProxy-Require: b"));
    assert_eq!(reply.code(), Some(420));
    assert_eq!(reply.value(Name::Unsupported), Some(&b"a, b"[..]));
    let reply = answer(&REGISTER.replace("REGISTER", "NEW"));
    assert_eq!(reply.code(), Some(501));
    assert_eq!(reply.value(Name::Allow), Some(&b"REGISTER, ACK"[..]));
    let reply = answer(&REGISTER.replace("Call-ID: c1\n", ""));
    assert_eq!(reply.code(), Some(400));
}

#[test]
fn an_edit_without_edits_gives_the_same_bytes() {
    for text in [REGISTER.to_owned(), format!("\r\n{}rest", REGISTER.replace('\n', "\r\n")), "A b SIP/2.0".to_owned()] {
        let message = Message::parse(text.as_bytes(), Origin::Datagram).unwrap();
        let mut out = Vec::new();
        Edit::of(&message).write(&mut out);
        assert_eq!(out, text.as_bytes());
    }
}

#[test]
fn an_edit_touches_nothing_else() {
    let message = datagram(&REGISTER.replace("Max-Forwards: 70", "mAx-fOrWaRdS :  70"));
    let uri = message.contacts().find_map(|contact| match contact {
        Ok(Contact::Address(address)) => Some(address.uri),
        _ => None,
    });
    let mut edit = Edit::of(&message);
    edit.start_line(b"REGISTER sip:other SIP/2.0")
        .prepend(Name::Via, b"SIP/2.0/UDP ours;branch=z9hG4bK9")
        .set(Name::MaxForwards, b"69")
        .replace_part(uri.unwrap(), b"sip:new@h")
        .remove_other("x-odd")
        .append("X-New", b"1\r\n2")
        .body(b"text/plain", b"one\r\ntwo");
    let mut out = Vec::new();
    edit.write(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "REGISTER sip:other SIP/2.0\r\n\
         Via: SIP/2.0/UDP ours;branch=z9hG4bK9\r\n\
         Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK1;rport\r\n\
         mAx-fOrWaRdS :  69\r\n\
         From: <sip:100@example.com>;tag=a\r\n\
         To: <sip:100@example.com>\r\n\
         Call-ID: c1\r\n\
         CSeq: 1 REGISTER\r\n\
         Contact: <sip:new@h>\r\n\
         X-New: 1 2\r\n\
         Content-Type: text/plain\r\n\
         Content-Length: 8\r\n\r\n\
         one\r\ntwo"
    );
}

#[test]
fn an_edit_removes_one_of_several_and_an_emptied_body_has_no_type() {
    let message = datagram(
        &REGISTER
            .replace("Content-Length: 0\n", "Content-Length: 3\nc: a/b\nVia: SIP/2.0/UDP x\n")
            .replace("\n\n", "\n\nabc"),
    );
    assert_eq!(message.body(), b"abc");
    let mut out = Vec::new();
    let first = message.headers().find(|header| header.name == Name::Via).unwrap().position;
    Edit::of(&message).remove_at(first).body(b"", b"").write(&mut out);
    let edited = Message::parse(out, Origin::Stream).unwrap();
    assert_eq!(validate(&edited), Ok(()));
    assert_eq!(edited.vias().count(), 1);
    assert_eq!((edited.content_length(), edited.content_type()), (Some(0), None));
}

#[test]
fn uris_are_taken_apart_and_never_decoded() {
    let uri =
        Uri::parse(b"sips:al%69ce;x=1:pa%20ss@[2001:db8::1]:5061;transport=TCP;lr;ob;maddr=h?Subject=a&b=c").unwrap();
    assert_eq!(uri.scheme, Scheme::Sips);
    assert_eq!(uri.user, Some(&b"al%69ce;x=1"[..]));
    assert!(uri.user_is(b"alice;x=1"));
    assert_eq!(uri.password, Some(&b"pa%20ss"[..]));
    assert!(uri.host.is("2001:db8::1"));
    assert_eq!(uri.port, Some(5061));
    assert_eq!(uri.transport(), Some(&b"TCP"[..]));
    assert_eq!(uri.maddr(), Some(&b"h"[..]));
    assert!(uri.is_loose() && uri.is_outbound());
    assert_eq!(uri.headers, Some(&b"Subject=a&b=c"[..]));
    let tel = Uri::parse(b"tel:+1-201-555-0123;phone-context=x").unwrap();
    assert_eq!((tel.scheme, tel.user), (Scheme::Tel, Some(&b"+1-201-555-0123"[..])));
    assert!(tel.params.has(b"phone-context"));
    assert_eq!(Uri::parse(b"urn:service:sos").unwrap().scheme, Scheme::Urn);
    for text in
        [&b"sip:"[..], b"sip:@h", b"alice@h", b"sip:a@", b"sip:a@h:x", b"sip:a b@h", b"1sip:a@h", b":a", b"sip:a@[::g]"]
    {
        assert_eq!(Uri::parse(text), Err(Malformed::Uri), "{}", String::from_utf8_lossy(text));
    }
}
