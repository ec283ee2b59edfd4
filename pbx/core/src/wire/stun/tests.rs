//! The samples of RFC 5769, and what strangers send.

use super::*;

/// A sample, its lines as the RFC prints them.
fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("a hexadecimal byte")).collect()
}

const RFC5769_ID: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
const SOURCE: &str = "192.0.2.1:32853";

/// RFC 5769 §2.1.
fn sample_request() -> Vec<u8> {
    hex("00 01 00 58 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 10 53 54 55 4e 20 74 65 73 74 20 63 6c 69 65 6e 74
         00 24 00 04 6e 00 01 ff
         80 29 00 08 93 2f f9 b1 51 26 3b 36
         00 06 00 09 65 76 74 6a 3a 68 36 76 59 20 20 20
         00 08 00 14 9a ea a7 0c bf d8 cb 56 78 1e f2 b5 b2 d3 f2 49 c1 b5 71 a2
         80 28 00 04 e5 7a 3b cf")
}

/// RFC 5769 §2.2.
fn sample_answer_v4() -> Vec<u8> {
    hex("01 01 00 3c 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
         00 20 00 08 00 01 a1 47 e1 12 a6 43
         00 08 00 14 2b 91 f5 99 fd 9e 90 c3 8c 74 89 f9 2a f9 ba 53 f0 6b e7 d7
         80 28 00 04 c0 7d 4c 96")
}

/// RFC 5769 §2.3.
fn sample_answer_v6() -> Vec<u8> {
    hex("01 01 00 48 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
         00 20 00 14 00 02 a1 47 01 13 a9 fa a5 d3 f1 79 bc 25 f4 b5 be d2 b9 d9
         00 08 00 14 a3 82 95 4e 4b e6 7b f1 17 84 c9 7c 82 92 c2 75 bf e3 ed 41
         80 28 00 04 c8 fb 0b 4c")
}

fn source() -> SocketAddr {
    SOURCE.parse().expect("an address")
}

/// A message with these attributes, as they are.
fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
    let length = attributes.len() as u16;
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), &COOKIE.to_be_bytes(), &RFC5769_ID, attributes].concat()
}

#[test]
fn the_sample_answers_of_rfc_5769_tell_their_addresses() {
    assert_eq!(mapped(&sample_answer_v4(), RFC5769_ID), Some(source()));
    let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().expect("an address");
    assert_eq!(mapped(&sample_answer_v6(), RFC5769_ID), Some(v6));
    for sample in [sample_answer_v4(), sample_answer_v6()] {
        let message = parse(&sample).expect("the sample is right");
        assert_eq!((message.class, message.method, message.fingerprint), (Class::Success, 1, true));
        let software: Vec<_> = message.attributes().filter(|(kind, _)| *kind == 0x8022).collect();
        assert_eq!(software, [(0x8022, &b"test vector"[..])]);
    }
}

#[test]
fn the_sample_request_of_rfc_5769_is_of_ice_and_is_refused_by_name() {
    let sample = sample_request();
    let message = parse(&sample).expect("the sample is right");
    assert_eq!((message.class, message.method, message.fingerprint), (Class::Request, 1, true));
    assert_eq!(message.unknown().collect::<Vec<_>>(), [0x0024]);
    let answer = answer(&sample, source()).expect("an answer");
    let refusal = parse(answer.as_ref()).expect("what we write is right");
    assert_eq!((refusal.class, refusal.error_code(), refusal.fingerprint), (Class::Error, Some(420), true));
    let named = refusal.attributes().find(|(kind, _)| *kind == attribute::UNKNOWN_ATTRIBUTES);
    assert_eq!(named, Some((attribute::UNKNOWN_ATTRIBUTES, &[0x00, 0x24][..])));
}

#[test]
fn any_changed_bit_of_a_sample_is_noticed() {
    for sample in [sample_request(), sample_answer_v4(), sample_answer_v6()] {
        for bit in 0..sample.len() * 8 {
            let mut damaged = sample.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // The type of the fingerprint itself makes it another attribute, and may leave a message without one.
            let found = parse(&damaged).map(|message| message.fingerprint);
            assert_ne!(found, Ok(true), "bit {bit}");
        }
    }
}

#[test]
fn any_shortened_sample_is_refused() {
    for sample in [sample_request(), sample_answer_v4(), sample_answer_v6()] {
        for length in 0..sample.len() {
            assert!(parse(&sample[..length]).is_err(), "{length}");
        }
    }
}

#[test]
fn a_keep_alive_is_answered_with_the_address_it_came_from() {
    for source in ["192.0.2.1:5060", "[2001:db8::1]:65535", "[::ffff:192.0.2.1]:1"] {
        let source: SocketAddr = source.parse().expect("an address");
        let request = request(RFC5769_ID);
        let answered = answer(&request, source).expect("a binding is answered");
        let seen = SocketAddr::new(source.ip().to_canonical(), source.port());
        assert_eq!(mapped(answered.as_ref(), RFC5769_ID), Some(seen));
        assert_eq!(mapped(answered.as_ref(), *b"another one!"), None);
    }
}

#[test]
fn an_answer_has_a_fingerprint_if_the_request_had() {
    assert_eq!(answer(&request(RFC5769_ID), source()).expect("an answer").as_ref().len(), 40);
    let plain = answer(&message(1, b""), source()).expect("an answer");
    assert_eq!(plain.as_ref().len(), 32);
    assert_eq!(mapped(plain.as_ref(), RFC5769_ID), Some(source()));
}

#[test]
fn a_thousand_unknown_attributes_fit_the_answer() {
    let attributes: Vec<u8> = (0..1000u16).flat_map(|n| [0x7f, n as u8, 0, 0]).collect();
    let answer = answer(&message(1, &attributes), source()).expect("an answer");
    let refusal = parse(answer.as_ref()).expect("what we write is right");
    assert!(answer.as_ref().len() <= ANSWER_BYTES);
    let (_, named) = refusal.attributes().last().expect("the unknown attributes");
    assert_eq!(named.len(), 2 * NAMED_UNKNOWN);
    let mut signed = message(1, &attributes);
    let length = (signed.len() - HEADER_BYTES + 8) as u16;
    signed[2..4].copy_from_slice(&length.to_be_bytes());
    let fingerprint = fingerprint_of(&signed).to_be_bytes();
    signed.extend([&[0x80, 0x28, 0, 4][..], &fingerprint].concat());
    let answer = super::answer(&signed, source()).expect("an answer");
    assert_eq!(answer.as_ref().len(), ANSWER_BYTES, "the largest answer fills the buffer");
}

#[test]
fn only_binding_requests_are_answered() {
    for kind in [0x0011, 0x0101, 0x0111, 0x0002, 0x0003, 0x0201, 0x3eef] {
        assert!(answer(&message(kind, b""), source()).is_none(), "{kind:#06x}");
    }
    assert!(answer(b"", source()).is_none());
    assert!(answer(b"REGISTER sip:example.com SIP/2.0\r\n\r\n", source()).is_none());
}

#[test]
fn classes_and_methods_are_read_from_their_scattered_bits() {
    let all = message(0x3eef, b"");
    let read = parse(&all).expect("a message");
    assert_eq!((read.class, read.method), (Class::Request, 0xfff));
    let all = message(0x3fff, b"");
    assert_eq!(parse(&all).map(|read| (read.class, read.method)), Ok((Class::Error, 0xfff)));
}

#[test]
fn headers_that_lie_are_refused() {
    let mut old = message(1, b"");
    old[4] = 0;
    assert_eq!(parse(&old), Err(StunError::Header), "RFC 3489 had no cookie");
    let mut high = message(1, b"");
    high[0] = 0x80;
    assert_eq!(parse(&high), Err(StunError::Header), "RTP");
    for length in [1, 4, 0xffff_u16] {
        let mut long = message(1, b"");
        long[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(parse(&long), Err(StunError::Length));
    }
    assert_eq!(parse(&[message(1, b""), vec![0; 4]].concat()), Err(StunError::Length), "bytes behind the message");
    assert_eq!(parse(&message(1, &[0; 3])), Err(StunError::Length));
}

#[test]
fn attributes_that_lie_are_refused() {
    assert_eq!(parse(&message(1, &[0x80, 0x22, 0xff, 0xff])), Err(StunError::Attribute));
    assert_eq!(parse(&message(1, &[0x80, 0x22, 0, 5, 1, 2, 3, 4])), Err(StunError::Attribute));
    assert!(parse(&message(1, &[0x80, 0x22, 0, 1, 1, 2, 3, 4])).is_ok(), "padding may be anything");
    for family in [0, 3] {
        let mapping = message(0x0101, &[0, 0x20, 0, 8, 0, family, 1, 1, 1, 1, 1, 1]);
        assert_eq!(mapped(&mapping, RFC5769_ID), None);
    }
    assert_eq!(mapped(&message(0x0101, &[0, 0x20, 0, 4, 0, 1, 1, 1]), RFC5769_ID), None, "an address cut short");
    assert_eq!(mapped(&message(0x0101, &[0, 0x20, 0, 0]), RFC5769_ID), None);
    assert_eq!(mapped(&message(0x0101, b""), RFC5769_ID), None);
}

#[test]
fn a_fingerprint_is_right_and_last() {
    let mut twice = request(RFC5769_ID).to_vec();
    twice.extend_from_within(HEADER_BYTES..);
    twice[3] = 16;
    assert_eq!(parse(&twice), Err(StunError::Fingerprint));
    assert_eq!(parse(&message(1, &[0x80, 0x28, 0, 0])), Err(StunError::Fingerprint));
    assert_eq!(parse(&message(1, &[0x80, 0x28, 0, 4, 0, 0, 0, 0])), Err(StunError::Fingerprint));
}

#[test]
fn the_address_of_old_servers_is_read_and_the_xored_one_comes_first() {
    let old = [0, 1, 0, 8, 0, 1, 0x13, 0xc4, 192, 0, 2, 9];
    assert_eq!(mapped(&message(0x0101, &old), RFC5769_ID), "192.0.2.9:5060".parse().ok());
    let xored = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
    assert_eq!(mapped(&message(0x0101, &[old, xored].concat()), RFC5769_ID), Some(source()));
}

#[test]
fn what_follows_the_integrity_does_not_count() {
    let integrity = [&[0, 8, 0, 20][..], &[0; 20]].concat();
    let address = [0, 1, 0, 8, 0, 1, 0x13, 0xc4, 192, 0, 2, 9];
    assert_eq!(mapped(&message(0x0101, &[&integrity[..], &address].concat()), RFC5769_ID), None);
    assert_eq!(
        mapped(&message(0x0101, &[&address[..], &integrity, &[0, 3, 0, 0]].concat()), RFC5769_ID).map(|a| a.port()),
        Some(5060)
    );
}

#[test]
fn an_answer_that_must_be_understood_and_is_not_tells_nothing() {
    let address = [0, 1, 0, 8, 0, 1, 0x13, 0xc4, 192, 0, 2, 9, 0, 3, 0, 0];
    assert_eq!(mapped(&message(0x0101, &address), RFC5769_ID), None);
}

#[test]
fn an_error_without_a_legal_code_has_none() {
    for code in [[0, 0, 2, 99], [0, 0, 7, 0], [0, 0, 4, 100]] {
        assert_eq!(parse(&message(0x0111, &[&[0, 9, 0, 4][..], &code].concat())).map(|m| m.error_code()), Ok(None));
    }
}
