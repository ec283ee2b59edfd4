//! What holds for any bytes: nothing panics, nothing points outside the message, and what is not edited stays.

use std::{net::SocketAddr, sync::OnceLock};

use pbx_core::wire::sip::{Contact, Edit, Message, Name, Origin, Reply, Uri, validate};
use proptest::prelude::*;

use crate::notation::{load, names};

fn corpus() -> &'static [Vec<u8>] {
    static CORPUS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        ["rfc4475", "phones"]
            .into_iter()
            .flat_map(|folder| names(folder).into_iter().map(move |name| load(folder, &name)))
            .collect()
    })
}

/// Reads all that can be read of `bytes`, and checks that it lies within.
fn exercise(bytes: &[u8], origin: Origin) {
    let Ok(message) = Message::parse(bytes, origin) else { return };
    let within = |part: &[u8]| {
        let range = bytes.as_ptr_range();
        let part = part.as_ptr_range();
        assert!(part.start == part.end || (range.start <= part.start && part.end <= range.end));
    };
    let uri = |uri: Uri<'_>| {
        within(uri.raw);
        within(uri.user.unwrap_or_default());
        within(uri.host.bytes());
        within(uri.params.bytes());
    };
    within(message.body());
    within(message.head());
    let mut lines = 0;
    for header in message.headers() {
        within(header.value);
        within(header.line);
        lines += header.line.len();
        assert_eq!(Name::of(header.text), header.name);
    }
    assert!(lines <= bytes.len());
    for via in message.vias().flatten() {
        within(via.raw);
        within(via.params.bytes());
        via.answer_to(SocketAddr::from(([192, 0, 2, 1], 5060)));
    }
    for name in [Name::From, Name::To, Name::ReferTo] {
        if let Ok(address) = message.address(name) {
            within(address.uri);
            let _ = address.uri().map(uri);
            address.params.iter().for_each(|param| within(param.whole));
        }
    }
    for name in [Name::Route, Name::RecordRoute, Name::Path] {
        message.addresses(name).flatten().for_each(|address| within(address.raw));
    }
    for contact in message.contacts().flatten() {
        if let Contact::Address(address) = contact {
            let _ = (address.q(), address.expires(), address.instance(), address.reg_id());
            let _ = address.uri().map(uri);
        }
    }
    for name in [Name::Authorization, Name::ProxyAuthorization] {
        for credentials in message.credentials(name).flatten() {
            within(credentials.uri.raw());
            let _ = (credentials.nonce_count(), credentials.username.text(), credentials.algorithm.known());
        }
    }
    let _ = message.challenges(Name::WwwAuthenticate).count();
    let _ = (message.call_id(), message.cseq(), message.max_forwards(), message.expires(), message.content_type());
    let _ = message.request_uri().map(uri);
    let verdict = validate(&message);

    let mut out = Vec::new();
    Edit::of(&message).write(&mut out);
    assert_eq!(out, bytes);

    if message.is_request() {
        out.clear();
        let source = SocketAddr::from(([192, 0, 2, 1], 5060));
        Reply::start(&mut out, &message, 200, source, Some(b"tag")).finish();
        let reply = Message::parse(&out[..], Origin::Stream).expect("what we write, we read");
        assert!(reply.body().is_empty());
        if verdict.is_ok() {
            assert_eq!(validate(&reply), Ok(()), "{}", String::from_utf8_lossy(&out));
            assert_eq!(reply.vias().count(), message.vias().count());
            assert_eq!(reply.cseq(), message.cseq());
        }
    }
}

/// A message of the corpus with some of it replaced, removed, doubled or cut off.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            &b"\r\n"[..],
            b"\n ",
            b"\r",
            b"\0",
            b"\"",
            b"\\",
            b"<",
            b">",
            b",",
            b";",
            b":",
            b"=",
            b"@",
            b"[",
            b"]",
            b"%",
            b"%0",
            b" ",
            b"\t",
            b"sip:",
            b"*",
            b"Via: ",
            b"l: ",
            b"\xff",
            b"65536",
            b"4294967296",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let change = (any::<prop::sample::Index>(), 0..12_usize, piece);
    (any::<prop::sample::Index>(), prop::collection::vec(change, 1..6)).prop_map(|(which, changes)| {
        let mut bytes = corpus()[which.index(corpus().len())].clone();
        for (at, removed, inserted) in changes {
            let start = at.index(bytes.len() + 1);
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, inserted);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes, Origin::Datagram);
        let mut headed = b"INVITE sip:a@b SIP/2.0\r\n".to_vec();
        headed.extend_from_slice(&bytes);
        exercise(&headed, Origin::Stream);
    }

    #[test]
    fn any_damaged_message_is_read_without_harm(bytes in mutated()) {
        exercise(&bytes, Origin::Datagram);
        exercise(&bytes, Origin::Stream);
    }
}

#[test]
fn every_message_cut_off_anywhere_is_read_without_harm() {
    for message in corpus() {
        for end in 0..message.len() {
            exercise(&message[..end], Origin::Datagram);
        }
    }
}

#[test]
fn the_greatest_messages_are_read_without_harm() {
    let head = "REGISTER sip:h SIP/2.0\r\n";
    for filler in [
        "Via: SIP/2.0/UDP h\r\n",
        "m: <sip:a@b>\r\n",
        "X:\r\n",
        " \r\n",
        "v:,,,,,,,,,,,,,,,,,,,,,\r\n",
        "\"",
        ";",
        "<",
        ",",
        "%",
    ] {
        let mut bytes = format!("{head}Contact: ").into_bytes();
        while bytes.len() + filler.len() <= 65_535 {
            bytes.extend_from_slice(filler.as_bytes());
        }
        exercise(&bytes, Origin::Datagram);
    }
}
