//! What holds whatever comes in.

use std::time::Duration;

use pbx_core::{overload::Level, pbx::Input, transport::ConnectionId};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::{
    phone::{Answer, Phone, Scheme},
    scene::{Scene, tcp, udp},
};

/// A change of a message's bytes.
#[derive(Clone, Debug)]
enum Edit {
    Replace(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
    Insert(usize, String),
    /// A line, by number, twice.
    Twice(usize),
    /// A line less.
    Without(usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let piece = prop_oneof![
        Just("\r\n"),
        Just("\n"),
        Just("\0"),
        Just("\""),
        Just("<"),
        Just(">"),
        Just(";"),
        Just(","),
        Just(":"),
        Just("\\"),
        Just("%00"),
        Just("*"),
        Just("\u{ff}"),
        Just(";tag=x"),
        Just(";rport=0"),
        Just("tel:"),
        Just("Contact: *\r\n"),
        Just("Expires: 0\r\n"),
        Just("Supported: outbound, path\r\n"),
        Just("Path: <sip:a;lr;ob>\r\n"),
        Just(";reg-id=1;+sip.instance=\"<urn:x>\""),
        Just(";expires=0"),
        Just("Content-Length: 5\r\n"),
        Just("v: SIP/2.0/UDP [::1];branch=z9hG4bK\r\n"),
        Just("[2001:db8::1]"),
        Just("4294967295"),
        Just(";q=0.5"),
        Just("Require: path\r\n"),
    ];
    let edit = prop_oneof![
        (0..2000_usize, any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (0..2000_usize, 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (0..2000_usize, 1..40_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        (0..2000_usize, piece).prop_map(|(at, text)| Edit::Insert(at, text.to_owned())),
        (0..20_usize).prop_map(Edit::Twice),
        (0..20_usize).prop_map(Edit::Without),
    ];
    proptest::collection::vec(edit, 0..5)
}

fn edited(text: &str, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for edit in edits {
        let length = bytes.len().max(1);
        let range = |at: usize, count: usize| at % length..(at % length + count).min(length);
        match edit {
            _ if bytes.is_empty() => break,
            Edit::Replace(at, byte) => bytes[at % length] = *byte,
            Edit::Remove(at, count) => drop(bytes.drain(range(*at, *count))),
            Edit::Repeat(at, count) => {
                let piece = bytes[range(*at, *count)].to_vec();
                bytes.splice(at % length..at % length, piece);
            }
            Edit::Insert(at, text) => drop(bytes.splice(at % length..at % length, text.bytes())),
            Edit::Twice(line) | Edit::Without(line) => {
                let mut lines: Vec<Vec<u8>> =
                    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let at = line % lines.len();
                match edit {
                    Edit::Twice(_) => lines.insert(at, lines[at].clone()),
                    _ => drop(lines.remove(at)),
                }
                bytes = lines.concat();
            }
        }
    }
    bytes
}

const METHODS: [&str; 14] = [
    "REGISTER",
    "INVITE",
    "ACK",
    "CANCEL",
    "BYE",
    "OPTIONS",
    "SUBSCRIBE",
    "NOTIFY",
    "MESSAGE",
    "REFER",
    "PUBLISH",
    "INFO",
    "UPDATE",
    "UNKNOWN",
];

fn a_request(phone: &mut Phone, method: &str, in_dialog: bool) -> String {
    let tag = if in_dialog { ";tag=x" } else { "" };
    let to = format!("<sip:{}@one.example>{tag}", phone.number);
    phone.request(method, "sip:one.example", &to, "")
}

/// What every answer must be, whatever it answers. `Answer::read` is strict about the rest.
fn check(sent: &crate::scene::Sent) {
    if let Ok(text) = std::str::from_utf8(&sent.bytes) {
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        assert!(!text.trim_end_matches("\r\n").contains("\r\n\r\n"), "{text}");
    }
}

/// A step of a phone's, or of the world's.
#[derive(Clone, Debug)]
enum Step {
    Register { phone: usize, expires: u32, scheme: Scheme },
    Request { phone: usize, method: usize, in_dialog: bool, proved: bool },
    Edited { phone: usize, method: usize, proved: bool, edits: Vec<Edit> },
    Again,
    Wait(u64),
    Restart,
    Close(usize),
    Load(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let expires = prop_oneof![Just(0), Just(89), Just(90), Just(600)];
    let scheme = prop_oneof![Just(Scheme::Md5), Just(Scheme::Sha256)];
    let step = prop_oneof![
        4 => (0..6_usize, expires, scheme).prop_map(|(phone, expires, scheme)| Step::Register { phone, expires, scheme }),
        4 => (0..6_usize, 0..METHODS.len(), any::<bool>(), any::<bool>())
            .prop_map(|(phone, method, in_dialog, proved)| Step::Request { phone, method, in_dialog, proved }),
        4 => (0..6_usize, 0..METHODS.len(), any::<bool>(), edits())
            .prop_map(|(phone, method, proved, edits)| Step::Edited { phone, method, proved, edits }),
        3 => Just(Step::Again),
        2 => (0..100_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => (0..6_usize).prop_map(Step::Close),
        1 => prop_oneof![Just(0_u64), 0..3000_u64].prop_map(Step::Load),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Three phones on UDP, one of them behind a router, and three on connections.
fn phones() -> Vec<Phone> {
    (0..6)
        .map(|at| {
            let number = (100 + at / 2).to_string();
            let remote = format!("198.51.100.{}:50{at}0", 7 + at);
            match at {
                0..2 => Phone::new(&number, udp(&remote)),
                2 => Phone::behind(&number, "192.168.1.9:5060", udp(&remote)),
                _ => Phone::new(&number, tcp(&remote, at)),
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(5060),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_strangers_send_changes_nothing_and_gets_at_most_one_answer(
        messages in proptest::collection::vec((0..METHODS.len(), any::<bool>(), any::<bool>(), edits()), 1..20),
    ) {
        let mut scene = Scene::new();
        Phone::behind("100", "192.168.1.9:5060", udp("198.51.100.7:5060")).register(&mut scene);
        let mut stranger = Phone::new("100", udp("198.51.100.66:5060"));
        stranger.password = "guess".into();
        let answer = scene.ask(stranger.flow, stranger.registration("")).unwrap();
        let before = scene.state();
        let idle = scene.pbx.next_timeout();
        for (method, in_dialog, guesses, edits) in messages {
            match guesses {
                true => stranger.take_challenge(&answer),
                false => stranger.challenge = None,
            }
            let text = a_request(&mut stranger, METHODS[method], in_dialog);
            let bytes = edited(&text, &edits);
            let sent = scene.receive(stranger.flow, &bytes);
            prop_assert!(sent.len() <= 1);
            for sent in &sent {
                check(sent);
                prop_assert_eq!(sent.flow.remote.ip(), stranger.flow.remote.ip(), "never to anybody else");
                prop_assert!(sent.bytes.len() < 3 * bytes.len() + 600);
            }
            prop_assert_eq!(scene.state(), before.clone());
            prop_assert_eq!(scene.pbx.next_timeout(), idle);
        }
    }

    #[test]
    fn a_register_with_any_change_that_was_proved_is_answered_once_and_well(edits in edits()) {
        let mut scene = Scene::new();
        let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
        phone.more = "Path: <sip:a;lr;ob>\r\nSupported: path, outbound\r\nExpires: 600\r\n".into();
        phone.contact.push_str(";reg-id=1;+sip.instance=\"<urn:uuid:1>\";q=0.7");
        let answer = scene.ask(phone.flow, phone.registration("")).unwrap();
        phone.take_challenge(&answer);
        let bytes = edited(&phone.registration(""), &edits);
        let sent = scene.receive(phone.flow, &bytes);
        prop_assert!(sent.len() <= 1);
        if let Some(sent) = sent.first() {
            check(sent);
            // What is answered can be read by a phone, whatever was asked.
            if std::str::from_utf8(&sent.bytes).is_ok() && edits.is_empty() {
                prop_assert_eq!(Answer::read(&sent.bytes).status, 200);
            }
        }
        prop_assert!(scene.store.bindings.len() <= 2);
        for binding in scene.pbx.bindings() {
            prop_assert_eq!(binding.flow().map(|flow| flow.remote), Some(phone.flow.remote));
            prop_assert_eq!(binding.stored().extension.0, 1100, "nobody else's");
        }
    }

    #[test]
    fn whatever_happens_the_store_the_filter_and_the_core_agree(steps in steps()) {
        let mut scene = Scene::new();
        let mut phones = phones();
        // What was sent last; nothing if it was turned away, for then it may be sent again with success.
        let mut last: Option<(usize, Vec<u8>)> = None;
        for step in steps {
            match step {
                Step::Register { phone, expires, scheme } => {
                    let at = phone;
                    let phone = &mut phones[at];
                    phone.scheme = scheme;
                    phone.challenge = None;
                    let more = format!("Expires: {expires}\r\n");
                    let first = phone.registration(&more);
                    if let Some(answer) = scene.ask(phone.flow, first).filter(|answer| answer.status == 401) {
                        phone.take_challenge(&answer);
                        let second = phone.registration(&more);
                        let answer = scene.ask(phone.flow, &second).unwrap();
                        prop_assert!(matches!((expires, answer.status), (_, 200 | 503) | (89, 423)), "{}", answer.text);
                        last = Some((at, second.into_bytes()));
                    }
                }
                Step::Request { phone: at, method, in_dialog, proved } => {
                    let phone = &mut phones[at];
                    if !proved {
                        phone.challenge = None;
                    }
                    let text = a_request(phone, METHODS[method], in_dialog);
                    for sent in scene.receive(phone.flow, &text) {
                        Answer::read(&sent.bytes);
                    }
                    last = Some((at, text.into_bytes()));
                }
                Step::Edited { phone: at, method, proved, edits } => {
                    let phone = &mut phones[at];
                    if !proved {
                        phone.challenge = None;
                    }
                    let bytes = edited(&a_request(phone, METHODS[method], false), &edits);
                    scene.receive(phone.flow, &bytes).iter().for_each(check);
                    last = Some((at, bytes));
                }
                Step::Again => {
                    if let Some((at, bytes)) = &last {
                        let writes = scene.store.writes;
                        scene.receive(phones[*at].flow, bytes);
                        prop_assert_eq!(scene.store.writes, writes, "{}", String::from_utf8_lossy(bytes));
                    }
                }
                Step::Wait(millis) => {
                    scene.advance(Duration::from_millis(millis));
                }
                Step::Restart => scene.restart(Duration::from_millis(5)),
                Step::Close(at) => {
                    if let Some(ConnectionId(id)) = phones[at].flow.connection {
                        scene.give(Input::ConnectionClosed(ConnectionId(id)));
                        phones[at].flow.connection = Some(ConnectionId(id + 6));
                    }
                }
                Step::Load(delay) => {
                    scene.load(delay);
                }
            }
            if scene.pbx.overload().0 != Level::NONE {
                last = None;
            }
            scene.check_agreement();
        }
        // Left alone, everything ends.
        scene.advance(Duration::from_secs(4000));
        prop_assert_eq!(scene.pbx.bindings().count(), 0);
        prop_assert!(scene.store.bindings.is_empty());
        prop_assert!(scene.filter.iter().all(|key| key.port.is_none()));
        scene.check_agreement();
    }
}
