//! Streams as phones, strangers and bad networks send them, in virtual time.

use super::*;

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\n\
    Content-Length: 0\r\n\r\n";

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

/// A frame that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(String, String),
    Ping,
    Refused(FrameError, String),
}

fn read(framer: &mut Framer, mut input: &[u8], now: Moment, seen: &mut Vec<Seen>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    loop {
        seen.push(match framer.next(&mut input, now) {
            Ok(None) => return assert!(input.is_empty(), "None means that all was taken"),
            Ok(Some(Frame::Message { bytes, body })) => Seen::Message(text(&bytes[..body]), text(&bytes[body..])),
            Ok(Some(Frame::Ping)) => Seen::Ping,
            Err(Refused { error, head }) => Seen::Refused(error, text(head)),
        });
        if matches!(seen.last(), Some(Seen::Refused(..))) {
            return;
        }
    }
}

/// What a stream is cut into; the same in pieces of every size up to its own.
fn cut_with(limits: Limits, stream: &[u8]) -> Vec<Seen> {
    let in_pieces = |size: usize| {
        let mut framer = Framer::new(limits, at(0));
        let mut seen = Vec::new();
        for piece in stream.chunks(size) {
            read(&mut framer, piece, at(0), &mut seen);
            let most = limits.message_bytes.max(limits.head_bytes + 1);
            assert!(framer.held_bytes() <= most, "{} bytes held", framer.held_bytes());
            if matches!(seen.last(), Some(Seen::Refused(..))) {
                break;
            }
        }
        seen
    };
    let whole = in_pieces(stream.len().max(1));
    let sizes = (1..stream.len().min(200)).chain([1000, 1460, 4096, 65_536]);
    for size in sizes.filter(|size| *size < stream.len()).filter(|size| stream.len() / size < 20_000) {
        assert_eq!(in_pieces(size), whole, "in pieces of {size}");
    }
    whole
}

fn cut(stream: impl AsRef<[u8]>) -> Vec<Seen> {
    cut_with(Limits::DEFAULT, stream.as_ref())
}

fn message(head: &str, body: &str) -> Seen {
    Seen::Message(head.to_owned(), body.to_owned())
}

/// A message with these header fields.
fn with(headers: &str) -> String {
    format!("OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1\r\n{headers}\r\n")
}

/// Why the stream is refused whose message has these header fields. All of them can be answered from the head.
fn refused(headers: &str) -> FrameError {
    match cut(with(headers) + "body").as_slice() {
        [Seen::Refused(error, head)] => {
            assert_eq!(head, &with(headers), "the answer needs the whole head");
            assert!(error.status().is_some() && error.reason().is_some());
            *error
        }
        other => panic!("{headers:?}: {other:?}"),
    }
}

#[test]
fn messages_are_cut_where_their_content_length_says() {
    let invite = "INVITE sip:1@example.com SIP/2.0\r\nContent-Length: 5\r\n\r\n";
    let stream = format!("{invite}v=0\r\n{REGISTER}{invite}\r\n\r\n\n");
    let expected = [message(invite, "v=0\r\n"), message(REGISTER, ""), message(invite, "\r\n\r\n\n")];
    assert_eq!(cut(stream), expected);
}

#[test]
fn a_message_that_came_whole_is_given_without_a_copy() {
    let stream = format!("{REGISTER}{REGISTER}");
    let mut input = stream.as_bytes();
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    let Ok(Some(Frame::Message { bytes, .. })) = framer.next(&mut input, at(0)) else { panic!("a message") };
    assert!(std::ptr::eq(bytes.as_ptr(), stream.as_ptr()));
    assert_eq!((framer.held_bytes(), input.len()), (0, REGISTER.len()));
}

#[test]
fn content_length_is_found_in_all_its_forms() {
    for header in [
        "Content-Length: 4\r\n",
        "content-length:4\r\n",
        "l: 4\r\n",
        "L \t: \t 4 \t\r\n",
        "Content-Length:\r\n 4\r\n",
        "Content-Length: \r\n\t\r\n 0004\r\n \r\n",
        "Subject: x\r\n Content-Length: 9\r\nl:4\r\nLength: 7\r\n",
        "Content-Length: 4\n",
    ] {
        assert_eq!(cut(with(header) + "body"), [message(&with(header), "body")], "{header:?}");
    }
}

#[test]
fn line_feeds_alone_end_lines() {
    let bare = "OPTIONS sip:example.com SIP/2.0\nl: 2\n\n";
    assert_eq!(cut(format!("{bare}hi{REGISTER}")), [message(bare, "hi"), message(REGISTER, "")]);
}

#[test]
fn two_empty_lines_are_a_ping_and_single_ones_before_a_message_are_nothing() {
    assert_eq!(cut("\r\n\r\n"), [Seen::Ping]);
    assert_eq!(cut("\r\n\r\n\r\n\r\n"), [Seen::Ping, Seen::Ping]);
    assert_eq!(cut("\r\n"), []);
    assert_eq!(cut("\n\n"), [Seen::Ping]);
    assert_eq!(cut(format!("\r\n{REGISTER}\r\n{REGISTER}")), [message(REGISTER, ""), message(REGISTER, "")]);
    let both = format!("\r\n\r\n{REGISTER}\r\n\r\n");
    assert_eq!(cut(both), [Seen::Ping, message(REGISTER, ""), Seen::Ping]);
}

#[test]
fn a_content_length_that_can_not_be_believed_ends_the_stream_with_an_answer() {
    assert_eq!(refused(""), FrameError::NoLength);
    assert_eq!(refused("Content-Lengths: 4\r\nX-l: 4\r\n"), FrameError::NoLength);
    assert_eq!(refused("Content-Length: 4\r\nl: 4\r\n"), FrameError::TwoLengths);
    assert_eq!(refused("l: 4\r\nContent-Length: 5\r\n"), FrameError::TwoLengths);
    assert_eq!(refused("Content-Length: -1\r\n"), FrameError::NegativeLength);
    for bad in ["", "-", "+4", "four", "4 4", "4,4", "0x4", "4;a=b", "4\r\n 4", "٤"] {
        assert_eq!(refused(&format!("Content-Length: {bad}\r\n")), FrameError::BadLength, "{bad:?}");
    }
    for large in ["65535", "4294967296", "18446744073709551616", "99999999999999999999999999999999999999"] {
        let error = refused(&format!("Content-Length: {large}\r\n"));
        assert_eq!((error, error.status()), (FrameError::TooLong { limit: 65_535 }, Some(413)));
    }
}

#[test]
fn the_longest_message_passes_and_one_byte_more_does_not() {
    let long = |total: usize| {
        let rest = total - with("Content-Length: 65000\r\n").len();
        with(&format!("Content-Length: {rest}\r\n")) + &"x".repeat(rest)
    };
    assert!(matches!(cut(long(65_535)).as_slice(), [Seen::Message(_, body)] if body.len() > 65_000));
    assert!(matches!(cut(long(65_536)).as_slice(), [Seen::Refused(FrameError::TooLong { .. }, _)]));
}

#[test]
fn what_follows_a_content_length_that_was_too_small_is_garbage() {
    let head = with("Content-Length: 2\r\n");
    let stream = format!("{head}v=0\r\n{REGISTER}");
    assert_eq!(cut(stream), [message(&head, "v="), Seen::Refused(FrameError::Garbage, String::new())]);
}

#[test]
fn a_header_of_60_kib_is_refused_and_not_kept() {
    let header = format!("X: {}\r\n", "x".repeat(60 << 10));
    let stream = with(&header);
    let limit = 16_384;
    let lines = with("");
    let lines = lines.strip_suffix("\r\n").expect("the empty line");
    assert_eq!(cut(&stream), [Seen::Refused(FrameError::HeadTooLong { limit }, lines.to_owned())]);
    assert_eq!(FrameError::HeadTooLong { limit }.status(), Some(513));
    let endless = "A".repeat(60 << 10);
    assert_eq!(cut(endless), [Seen::Refused(FrameError::HeadTooLong { limit }, String::new())]);
}

#[test]
fn the_longest_header_section_passes_and_one_byte_more_does_not() {
    let section = |bytes: usize| {
        let rest = bytes - with("l: 0\r\nX: \r\n").len();
        with(&format!("l: 0\r\nX: {}\r\n", "x".repeat(rest)))
    };
    assert_eq!(cut(section(16_384)), [message(&section(16_384), "")]);
    assert!(matches!(cut(section(16_385)).as_slice(), [Seen::Refused(FrameError::HeadTooLong { .. }, _)]));
}

#[test]
fn a_thousand_vias_are_too_many_and_folded_lines_are_not() {
    let vias = |count: usize| with(&("Via: SIP/2.0/TCP 192.0.2.1\r\n".repeat(count) + "l: 0\r\n"));
    assert_eq!(cut(vias(126)), [message(&vias(126), "")]);
    for count in [127, 500, 1000] {
        assert!(matches!(cut(vias(count)).as_slice(), [Seen::Refused(FrameError::TooManyHeaders { limit: 128 }, _)]));
    }
    let folded = with(&("l: 0\r\nSubject: a\r\n".to_owned() + &" b\r\n".repeat(1000)));
    assert_eq!(cut(&folded), [message(&folded, "")]);
}

#[test]
fn garbage_ends_the_stream_in_silence() {
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42",
        b" INVITE sip:1@example.com SIP/2.0\r\n",
        b"\rINVITE sip:1@example.com SIP/2.0\r\n",
        b"\r\r\n",
        b"hello\r\n",
        b"\0",
    ] {
        assert_eq!(cut(garbage), [Seen::Refused(FrameError::Garbage, String::new())], "{garbage:?}");
    }
    assert_eq!((FrameError::Garbage.status(), FrameError::Garbage.reason()), (None, None));
}

#[test]
fn other_versions_methods_and_bytes_are_left_to_the_parser() {
    for line in ["INVITE sip:1@example.com SIP/7.0", "!odd%me~ tel:1 sip/2.0", "SIP/2.0 999 \u{fc}", "INVITE  SIP/2.0 "]
    {
        let text = format!("{line}\r\nno colon\r\nX: \0\u{fc}\r\nl: 0\r\n\r\n");
        assert_eq!(cut(&text), [message(&text, "")]);
    }
}

#[test]
fn a_broken_stream_stays_broken() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    let mut input = &b"\0"[..];
    assert!(framer.next(&mut input, at(0)).is_err());
    let mut input = REGISTER.as_bytes();
    let refused = framer.next(&mut input, at(0)).expect_err("nothing is read any more");
    assert_eq!(refused, Refused { error: FrameError::Garbage, head: b"" });
}

#[test]
fn a_connection_without_an_unfinished_message_holds_no_memory() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    let mut seen = Vec::new();
    let body = "x".repeat(60_000);
    let long = with("Content-Length: 60000\r\n") + &body;
    let (first, second) = long.split_at(30_000);
    read(&mut framer, first.as_bytes(), at(0), &mut seen);
    assert!((30_000..=60_000).contains(&framer.held_bytes()), "what came, not what was announced");
    read(&mut framer, second.as_bytes(), at(0), &mut seen);
    assert_eq!((seen.len(), framer.held_bytes()), (1, 0));
    assert!(size_of::<Framer>() <= 320, "{}", size_of::<Framer>());
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read_in_linear_time() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    let header = with(&format!("X: {}\r\n", "x".repeat(16_000)));
    for byte in header.as_bytes().chunks(1).take(16_000) {
        assert_eq!(framer.next(&mut &byte[..], at(0)), Ok(None));
        assert_eq!(framer.head.seen(), framer.held.len(), "nothing is looked at twice");
    }
}

#[test]
fn who_connects_and_says_nothing_is_cut_off() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    assert_eq!((framer.next_deadline(), framer.handle_timeout(at(14))), (Some(at(15)), None));
    for second in 0..15 {
        assert_eq!(framer.next(&mut &b"\r\n\r\n"[..], at(second)), Ok(Some(Frame::Ping)), "pings are no message");
    }
    assert_eq!(framer.handle_timeout(at(15)), Some(Expired::Silent));
}

#[test]
fn a_byte_a_minute_is_too_slow() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    let mut seen = Vec::new();
    read(&mut framer, REGISTER.as_bytes(), at(1), &mut seen);
    framer.heard(at(1));
    read(&mut framer, b"R", at(60), &mut seen);
    assert_eq!(framer.next_deadline(), Some(at(70)));
    read(&mut framer, b"E", at(69), &mut seen);
    assert_eq!((framer.next_deadline(), framer.handle_timeout(at(69))), (Some(at(70)), None));
    assert_eq!(framer.handle_timeout(at(70)), Some(Expired::Slow));
    framer.hold(true);
    assert_eq!(framer.handle_timeout(at(70)), Some(Expired::Slow), "who is known may not be slow either");
}

#[test]
fn the_first_message_has_both_deadlines() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    assert_eq!(framer.next(&mut &b"R"[..], at(8)), Ok(None));
    assert_eq!((framer.next_deadline(), framer.handle_timeout(at(15))), (Some(at(15)), Some(Expired::Silent)));
}

#[test]
fn a_connection_is_closed_when_idle_unless_something_holds_it() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    let mut seen = Vec::new();
    read(&mut framer, REGISTER.as_bytes(), at(10), &mut seen);
    framer.heard(at(10));
    assert_eq!(framer.next_deadline(), Some(at(130)));
    read(&mut framer, b"\r\n\r\n", at(100), &mut seen);
    assert_eq!((framer.handle_timeout(at(129)), framer.handle_timeout(at(130))), (None, Some(Expired::Idle)));
    framer.hold(true);
    assert_eq!((framer.next_deadline(), framer.handle_timeout(at(9999))), (None, None));
    framer.hold(false);
    read(&mut framer, REGISTER.as_bytes(), at(9999), &mut seen);
    framer.heard(at(9999));
    assert_eq!(framer.next_deadline(), Some(at(10_119)));
}

#[test]
fn messages_of_no_use_keep_no_connection_open() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    let mut seen = Vec::new();
    read(&mut framer, REGISTER.as_bytes(), at(1), &mut seen);
    assert_eq!((framer.next_deadline(), framer.handle_timeout(at(15))), (Some(at(15)), Some(Expired::Silent)));
    framer.heard(at(1));
    // The next one always begins with the end of the one before, so that the stream is never between two.
    read(&mut framer, b"R", at(1), &mut seen);
    for second in (2..130).step_by(2) {
        read(&mut framer, &[&REGISTER.as_bytes()[1..], b"R"].concat(), at(second), &mut seen);
        assert_eq!(framer.handle_timeout(at(second)), None);
    }
    assert_eq!(framer.next_deadline(), Some(at(131)), "the last one has its time");
    read(&mut framer, &[&REGISTER.as_bytes()[1..], b"R"].concat(), at(130), &mut seen);
    assert_eq!(framer.handle_timeout(at(131)), Some(Expired::Idle));
}

#[test]
fn a_connection_that_we_opened_waits_for_nothing() {
    let mut framer = Framer::new(Limits::DEFAULT, at(0));
    framer.hold(true);
    assert_eq!(framer.next_deadline(), None);
}
