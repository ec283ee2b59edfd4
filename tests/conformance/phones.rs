//! Messages as real phones, softphones, gateways and servers send them.

use std::{sync::Arc, time::Duration};

use pbx_core::{
    auth::{Algorithm, Allowance, Key, Keys, Limits},
    directory::{Directory, Extension, Tenant, TenantId},
    gate::{Gate, Passed, Points, Tags},
    guard::{What, agents::Agents, pairs::Pairs},
    known::KnownSet,
    moment::Moment,
    overload::Level,
    settings::Settings,
    transport::{Flow, Protocol, TransportId},
    wire::{
        sdp::Description,
        sip::{Contact, Edit, Message, Method, Name, Origin, Qop, Rport, validate},
    },
};

use crate::notation::{load, names};

type Row = (
    &'static str,
    &'static str,
    &'static str,
    Option<u16>,
    &'static str,
    &'static str,
    u32,
    &'static str,
    &'static str,
);

/// What is in a message: file, method or status, top Via's protocol and port, From's user, To's user, CSeq's number,
/// the first contact's URI, the agent.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("asterisk-200-invite", "200", "UDP", Some(5060), "100", "200", 1, "sip:203.0.113.9:5060", ""),
    ("asterisk-401", "401", "UDP", Some(5060), "100", "100", 1, "", ""),
    ("asterisk-options", "OPTIONS", "UDP", Some(5060), "asterisk", "100", 102, "sip:asterisk@203.0.113.9:5060", "Asterisk PBX 16.28.0"),
    ("baresip-register", "REGISTER", "UDP", Some(41287), "107", "107", 19437, "sip:107-0x5612ab34cd50@192.168.1.70:41287", "baresip v3.10.1 (x86_64/Linux)"),
    ("baresip-sha256", "REGISTER", "TLS", Some(38870), "107", "107", 19438, "sip:107-0x5612ab34cd50@192.168.1.70:38870;transport=tls", "baresip v3.10.1 (x86_64/Linux)"),
    ("cisco-register", "REGISTER", "UDP", Some(5060), "105", "105", 101, "sip:f81e2d3c-4b5a-6978-8796-a5b4c3d2e1f0@192.168.1.60:5060;transport=udp", "Cisco-CP8841/14.1.1"),
    ("cisco-spa-invite", "INVITE", "UDP", Some(5060), "106", "*97", 101, "sip:106@192.168.1.61:5060", "Cisco/SPA504G-7.6.2f"),
    ("fanvil-register", "REGISTER", "UDP", Some(5060), "112", "112", 1, "sip:112@[2001:db8:1::23]:5060", "Fanvil X6U 2.12.1"),
    ("fritzbox-register", "REGISTER", "UDP", Some(5060), "trunk-1", "trunk-1", 12, "sip:trunk%2D1@192.168.178.1;uniq=8F7E6D5C4B3A29180706F5E4D3C2B1A0", "AVM FRITZ!Box 7590 154.07.57 (Jan 10 2024)"),
    ("gigaset-register", "REGISTER", "UDP", Some(5060), "113", "113", 7, "sip:113@192.168.1.99:5060", "N510 IP PRO/42.261.00.000.000"),
    ("grandstream-options", "OPTIONS", "TCP", Some(40123), "103", "", 8330, "sip:103@192.168.1.40:40123;transport=tcp", "Grandstream HT801 1.0.49.2"),
    ("grandstream-register", "REGISTER", "UDP", Some(5060), "103", "103", 2001, "sip:103@192.168.1.40:5060", "Grandstream GXP2170 1.0.11.64"),
    ("jssip-invite", "INVITE", "WSS", None, "111", "200", 6789, "sip:s1f6h0bq@7g3k5l9s0d2f.invalid;transport=ws;ob", "JsSIP 3.10.1"),
    ("jssip-register", "REGISTER", "WSS", None, "111", "111", 1, "sip:s1f6h0bq@7g3k5l9s0d2f.invalid;transport=ws", "JsSIP 3.10.1"),
    ("kamailio-relayed-invite", "INVITE", "UDP", None, "+4930123456", "+4930987654", 634_418, "sip:+4930123456@203.0.113.77:5060", ""),
    ("linphone-message", "MESSAGE", "TLS", Some(51514), "108", "100", 20, "", "LinphoneiOS/5.2.3 (iPhone) LinphoneSDK/5.3.40"),
    ("linphone-register", "REGISTER", "TCP", Some(51514), "108", "108", 21, "sip:108@192.168.1.80:51514;transport=tcp", "Linphone-Desktop/5.2.4 (ubuntu) Ubuntu 22.04, Qt 5.15.2 LinphoneSDK/5.3.26"),
    ("microsip-register", "REGISTER", "UDP", Some(57310), "109", "109", 40135, "sip:109@192.168.1.90:57310;ob", "MicroSIP/3.21.3"),
    ("pjsip-ack", "ACK", "UDP", Some(5060), "110", "200", 4738, "", ""),
    ("pjsip-invite", "INVITE", "UDP", Some(5060), "110", "200", 4738, "sip:110@192.168.1.91:5060;ob", "PJSUA v2.14.1 Linux-6.1/x86_64/glibc-2.36"),
    ("polycom-invite", "INVITE", "UDP", None, "104", "9201", 1, "sip:104@192.168.1.50", "PolycomVVX-VVX_411-UA/5.9.7.3480"),
    ("polycom-register", "REGISTER", "TCP", Some(43515), "104", "104", 1, "sip:104@192.168.1.50:43515;transport=tcp", "PolycomVVX-VVX_411-UA/5.9.7.3480"),
    ("scanner-options", "OPTIONS", "UDP", Some(5060), "100", "100", 1, "sip:100@192.0.2.66:5060", "friendly-scanner"),
    ("sipp-register", "REGISTER", "UDP", Some(5061), "1001", "1001", 1, "sip:1001@127.0.0.1:5061", ""),
    ("snom-register", "REGISTER", "TLS", Some(2064), "101", "101", 418, "sip:101@192.168.1.31:2064;transport=tls;line=5mvqtb3b", "snomD785/10.1.159.12"),
    ("snom-subscribe", "SUBSCRIBE", "UDP", Some(2048), "101", "102", 1, "sip:101@192.168.1.31:2048;line=5mvqtb3b", "snomD785/10.1.159.12"),
    ("yealink-invite", "INVITE", "UDP", Some(5060), "100", "200", 1, "sip:100@192.168.1.23:5060", "Yealink SIP-T46U 108.86.0.45"),
    ("yealink-register", "REGISTER", "UDP", Some(5060), "100", "100", 2, "sip:100@192.168.1.23:5060", "Yealink SIP-T46U 108.86.0.45"),
    ("zoiper-unregister", "REGISTER", "UDP", Some(56123), "114", "114", 3, "*", "Z 5.6.4 v2.10.20.4"),
];

fn message(name: &str) -> Message<Vec<u8>> {
    Message::parse(load("phones", name), Origin::Stream).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn user(address: pbx_core::wire::sip::NameAddr<'_>) -> String {
    text(&address.uri().unwrap().user_text().unwrap_or_default())
}

#[test]
fn every_message_is_valid_and_says_what_its_phone_meant() {
    let listed: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
    assert_eq!(listed, names("phones"));
    for (name, what, protocol, port, from, to, cseq, contact, agent) in TABLE {
        let message = message(name);
        assert_eq!(validate(&message), Ok(()), "{name}");
        let is = match message.method() {
            Some(method) => text(method.text()),
            None => message.code().unwrap().to_string(),
        };
        assert_eq!(is, *what, "{name}");
        let via = message.via().unwrap();
        assert_eq!((text(via.protocol).as_str(), via.port), (*protocol, *port), "{name}");
        assert!(via.has_cookie(), "{name}");
        assert_eq!(
            (user(message.from().unwrap()), user(message.to().unwrap())),
            ((*from).into(), (*to).into()),
            "{name}"
        );
        assert!(message.from().unwrap().tag().is_some(), "{name}");
        assert_eq!(message.cseq().unwrap().number, *cseq, "{name}");
        let first = match message.contacts().next().map(Result::unwrap) {
            None => String::new(),
            Some(Contact::Star) => "*".to_owned(),
            Some(Contact::Address(address)) => text(address.uri),
        };
        assert_eq!(first, *contact, "{name}");
        assert_eq!(message.user_agent().map(text).unwrap_or_default(), *agent, "{name}");
        assert_eq!(message.content_length(), Some(message.body().len() as u64), "{name}");
        let mut out = Vec::new();
        Edit::of(&message).write(&mut out);
        assert_eq!(out, message.bytes(), "{name}");
    }
}

#[test]
fn instances_and_flows_of_outbound_are_found() {
    for (name, instance, reg_id) in [
        ("yealink-register", "<urn:uuid:00000000-0000-1000-8000-805EC0123456>", None),
        ("snom-register", "<urn:uuid:6f2cb2ad-1b43-4d0c-9a5c-00041394A1B2>", Some(1)),
        ("grandstream-register", "<urn:uuid:00000000-0000-1000-8000-000B82ABCDEF>", Some(1)),
        ("cisco-register", "<urn:uuid:00000000-0000-0000-0000-00ee5c0a1b2c>", None),
        ("microsip-register", "<urn:uuid:00000000-0000-0000-0000-0000f3a1b2c4>", Some(1)),
        ("linphone-register", "<urn:uuid:0f6a5b6e-6c1c-0081-9c6f-4b0f2a3f9d11>", None),
        ("jssip-register", "<urn:uuid:5d2a6c1f-0b7e-4f3d-8c9a-1e0f2d3c4b5a>", Some(1)),
    ] {
        let message = message(name);
        let Some(Ok(Contact::Address(contact))) = message.contacts().next() else { panic!("{name}") };
        assert!(contact.instance().unwrap().is(instance.as_bytes()), "{name}");
        assert_eq!(contact.reg_id(), reg_id, "{name}");
    }
    let snom = message("snom-register");
    let Some(Ok(Contact::Address(contact))) = snom.contacts().next() else { panic!() };
    assert_eq!(contact.q(), Some(1000));
    assert!(contact.params.find(b"methods").unwrap().text().unwrap().raw().starts_with(b"INVITE,ACK"));
    assert_eq!(snom.contacts().count(), 1);
    assert!(snom.lists(Name::Supported, "OUTBOUND"));
}

#[test]
fn expiries_are_found_where_the_phone_wrote_them() {
    let expiries = |name| {
        let message = message(name);
        let contact = match message.contacts().next().unwrap().unwrap() {
            Contact::Address(address) => address.expires(),
            Contact::Star => None,
        };
        (message.expires().unwrap(), contact)
    };
    assert_eq!(expiries("yealink-register"), (Some(300), None));
    assert_eq!(expiries("baresip-register"), (Some(3600), Some(3600)));
    assert_eq!(expiries("jssip-register"), (Some(600), Some(600)));
    assert_eq!(expiries("zoiper-unregister"), (Some(0), None));
    assert_eq!(message("asterisk-200-invite").seconds(Name::SessionExpires), Ok(Some(1800)));
}

#[test]
fn credentials_are_read_as_they_are_written() {
    for (name, header, username, uri, count, algorithm) in [
        ("yealink-register", Name::Authorization, "100", "sip:pbx.example.com:5060", 1, "MD5"),
        ("grandstream-register", Name::Authorization, "103", "sip:pbx.example.com", 2, "MD5"),
        ("baresip-sha256", Name::Authorization, "107", "sip:pbx.example.com", 1, "SHA-256"),
        ("pjsip-invite", Name::ProxyAuthorization, "110", "sip:200@pbx.example.com", 26, "SHA-256"),
    ] {
        let message = message(name);
        let credentials = message.credentials(header).next().unwrap().unwrap();
        assert!(credentials.username.is(username.as_bytes()), "{name}");
        assert!(credentials.realm.is(b"pbx.example.com"), "{name}");
        assert_eq!(text(credentials.uri.raw()), uri, "{name}");
        assert_eq!(credentials.nonce_count(), Some(count), "{name}");
        assert_eq!(credentials.qop, Qop::Auth, "{name}");
        let (known, session) = credentials.algorithm.known().unwrap();
        assert_eq!((known.token(), session), (algorithm, false), "{name}");
    }
}

#[test]
fn two_challenges_keep_their_order() {
    let message = message("asterisk-401");
    let challenges: Vec<_> = message.challenges(Name::WwwAuthenticate).map(Result::unwrap).collect();
    let tokens: Vec<_> = challenges.iter().map(|challenge| challenge.algorithm.known().unwrap().0.token()).collect();
    assert_eq!(tokens, ["SHA-256", "MD5"]);
    assert!(challenges.iter().all(|challenge| challenge.offers_auth() && challenge.realm.is(b"asterisk")));
    assert_eq!(message.via().unwrap().rport(), Rport::Port(5060));
    assert_eq!(message.via().unwrap().received(), Some(&b"192.168.1.23"[..]));
}

#[test]
fn lists_over_headers_and_commas_keep_their_order() {
    let invite = message("kamailio-relayed-invite");
    let hosts: Vec<_> = invite.vias().map(|via| text(via.unwrap().host.bytes())).collect();
    assert_eq!(hosts, ["198.51.100.1", "198.51.100.2", "203.0.113.77"]);
    let routes: Vec<_> = invite.addresses(Name::RecordRoute).map(|route| route.unwrap().uri().unwrap()).collect();
    assert_eq!(routes.len(), 3);
    assert!(routes.iter().all(|route| route.is_loose()));
    assert_eq!(routes[1].transport(), Some(&b"tcp"[..]));
    let identities: Vec<_> = invite.addresses(Name::PAssertedIdentity).map(|one| text(one.unwrap().uri)).collect();
    assert_eq!(identities, ["sip:+4930123456@carrier.example.net", "tel:+4930123456"]);
    let ack = message("pjsip-ack");
    let routes: Vec<_> = ack.addresses(Name::Route).map(|route| text(route.unwrap().uri)).collect();
    assert_eq!(routes, ["sip:203.0.113.9;lr", "sip:edge.example.com:5061;transport=tls;lr;ftag=a,b"]);
}

#[test]
fn names_are_shown_as_their_owners_wrote_them() {
    let display = |name| text(&message(name).from().unwrap().display.unwrap().text());
    assert_eq!(display("cisco-spa-invite"), "SPA, Office");
    assert_eq!(display("jssip-invite"), "Web \"Phone\"");
    assert_eq!(display("linphone-message"), "Zoë Müller");
    assert_eq!(display("zoiper-unregister"), "Zoiper");
}

#[test]
fn an_ipv6_phone_is_read() {
    let message = message("fanvil-register");
    assert_eq!(message.via().unwrap().host.ip(), Some("2001:db8:1::23".parse().unwrap()));
    assert_eq!(message.method(), Some(Method::Register));
    assert_eq!(message.call_id(), Ok(&b"3231623111-1231@[2001:db8:1::23]"[..]));
}

#[test]
fn every_description_has_an_audio_line_that_can_be_used() {
    let mut read = 0;
    for name in names("phones") {
        let message = message(&name);
        if message.content_type().is_none_or(|media_type| media_type != b"application/sdp") {
            continue;
        }
        let found = Description::parse(message.body()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let audio = found.audio.unwrap_or_else(|| panic!("{name}: no audio"));
        assert_eq!(audio.rtp.to_string(), "192.168.1.23:11796", "{name}");
        let codecs: Vec<String> = audio.formats.iter().map(|format| format.codec.to_string()).collect();
        assert_eq!(codecs, ["G722/8000", "PCMU/8000", "PCMA/8000", "telephone-event/8000"], "{name}");
        read += 1;
    }
    assert!(read >= 7, "{read}");
}

#[test]
fn ordinary_phones_score_nothing_and_a_scanner_does() {
    let tenant = Tenant {
        id: TenantId(1),
        name: "example".to_owned(),
        domains: vec!["served.example".to_owned()],
        realm: "example".to_owned(),
        is_default: true,
    };
    let directory = Directory::new([tenant], std::iter::empty::<Arc<Extension>>());
    let settings = Settings::default();
    let keys = Keys { current: Key::new(&[1; 32]), former: None };
    let (allowance, known, pairs) = (Allowance::new([1, 2]), KnownSet::new([3, 4]), Pairs::new([5, 6]));
    let agents = Agents::new(settings.guard.agents.list.iter());
    let gate = Gate {
        directory: &directory,
        keys: &keys,
        nonce_life: Duration::from_secs(300),
        algorithms: &Algorithm::ALL,
        allowance: &allowance,
        limits: Limits { per_source: u32::MAX, in_all: u32::MAX },
        known: &known,
        agents: &agents,
        agents_dropped: false,
        pairs: &pairs,
        points: Points::from(&settings.guard.scanner),
        local: &[],
        level: Level::default(),
        tags: Tags::new([7, 8]),
        nonce_id: 9,
        now: Moment::from_micros(1_000_000_000),
    };
    let flow = Flow {
        transport: TransportId(1),
        protocol: Protocol::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "203.0.113.7:5060".parse().unwrap(),
        connection: None,
    };
    // What servers send to a phone names the phone's own address.
    let to_phones = |name: &String| name.starts_with("asterisk-") || name.starts_with("kamailio-");
    for name in names("phones").into_iter().filter(|name| !to_phones(name)) {
        let bytes = load("phones", &name);
        let (Passed::Ended { noted, .. } | Passed::Delivered { noted, .. }) = gate.pass(&flow, &bytes, &mut Vec::new());
        let points = match noted.what {
            Some(What::Challenged { points, .. } | What::Points { points, .. } | What::Malformed { points }) => points,
            _ => 0,
        };
        let is_scanner = name == "scanner-options";
        assert_eq!((points > 0, noted.agent), (is_scanner, is_scanner), "{name}: {points} points");
    }
}
