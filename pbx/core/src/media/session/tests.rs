use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::media::formats::{common, usual};

const US: Us = Us { ip: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), pair: Pair { rtp: 45_000 } };

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn parse(text: &str) -> Description {
    Description::parse(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

/// What a phone at 198.51.100.7 says.
fn phone(media: &str) -> Description {
    parse(&format!("v=0\no=- 7 1 IN IP4 198.51.100.7\ns=-\nc=IN IP4 198.51.100.7\nt=0 0\n{media}"))
}

fn format(payload_type: u8, name: &str, rate: u32) -> Format {
    Format { payload_type, codec: Codec::new(name, rate), fmtp: None }
}

fn offer(session: &mut Session, formats: &[Format], direction: Direction) -> String {
    text(|out| session.offer(out, US, formats, direction, false, None))
}

fn numbers_of(session: &Session) -> Vec<u8> {
    session.formats().iter().map(|format| format.payload_type).collect()
}

#[test]
fn an_offer_is_written_to_the_byte() {
    let mut session = Session::new(42);
    let written = text(|out| session.offer(out, US, &usual(), Direction::SendRecv, true, Some(20)));
    assert_eq!(
        written,
        "v=0\r\n\
         o=- 42 1 IN IP4 192.0.2.1\r\n\
         s=-\r\n\
         c=IN IP4 192.0.2.1\r\n\
         t=0 0\r\n\
         m=audio 45000 RTP/AVP 9 8 0 101\r\n\
         a=rtpmap:9 G722/8000\r\n\
         a=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-16\r\n\
         a=ptime:20\r\n\
         a=rtcp-mux\r\n\
         a=sendrecv\r\n"
    );
    assert_eq!(session.formats(), usual());
}

#[test]
fn an_answer_is_written_to_the_byte_and_refuses_all_but_audio() {
    let offered = phone(
        "m=video 5000 RTP/AVP 96 97\na=rtpmap:96 VP8/90000\nm=audio 4000 RTP/AVPF 111 8 101\na=rtpmap:111 \
         opus/48000/2\na=rtpmap:101 telephone-event/8000\na=rtcp-mux\na=sendonly\nm=audio 4002 RTP/AVP 8\n\
         m=image 4004 udptl t38\n",
    );
    let us = Us { ip: "2001:db8::1".parse().unwrap(), pair: Pair { rtp: 64_998 } };
    let mut session = Session::new(7);
    let formats = common(&offered.audio.as_ref().unwrap().formats, &usual());
    let written = text(|out| session.answer(out, &offered, us, &formats, Direction::RecvOnly));
    assert_eq!(
        written,
        "v=0\r\n\
         o=- 7 1 IN IP6 2001:db8::1\r\n\
         s=-\r\n\
         c=IN IP6 2001:db8::1\r\n\
         t=0 0\r\n\
         m=video 0 RTP/AVP 96 97\r\n\
         m=audio 64998 RTP/AVPF 8 101\r\n\
         a=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-16\r\n\
         a=rtcp-mux\r\n\
         a=recvonly\r\n\
         m=audio 0 RTP/AVP 8\r\n\
         m=image 0 udptl t38\r\n"
    );
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_written_as_ipv4() {
    let us = Us { ip: "::ffff:192.0.2.1".parse().unwrap(), ..US };
    let written = text(|out| Session::new(1).offer(out, us, &usual(), Direction::SendRecv, false, None));
    assert!(written.contains("\r\nc=IN IP4 192.0.2.1\r\n"), "{written}");
}

#[test]
fn what_cannot_be_used_is_answered_with_port_0() {
    let unusable = phone("m=audio 4000 RTP/SAVP 8\n");
    let written = text(|out| Session::new(7).answer(out, &unusable, US, &usual(), Direction::SendRecv));
    assert!(written.ends_with("t=0 0\r\nm=audio 0 RTP/SAVP 8\r\n"), "{written}");
    let mut session = Session::new(7);
    let written = text(|out| session.answer(out, &phone("m=audio 4000 RTP/AVP 8\n"), US, &[], Direction::SendRecv));
    assert!(written.ends_with("t=0 0\r\nm=audio 0 RTP/AVP 8\r\n"), "{written}");
    assert!(session.formats().is_empty());
    let written = text(|out| Session::new(7).answer(out, &phone(""), US, &usual(), Direction::SendRecv));
    assert!(written.ends_with("t=0 0\r\n"), "{written}");
}

#[test]
fn an_offer_of_nothing_has_port_0() {
    let mut session = Session::new(1);
    let written = offer(&mut session, &[], Direction::SendRecv);
    assert!(written.ends_with("t=0 0\r\nm=audio 0 RTP/AVP 0\r\n"), "{written}");
    assert_eq!(session.check(&parse(&written)), Err(Contradiction::Refused));
}

#[test]
fn a_later_offer_keeps_every_line_in_its_place() {
    let mut session = Session::new(7);
    let offered = phone("m=video 5000 RTP/AVP 96\na=rtpmap:96 VP8/90000\nm=audio 4000 RTP/AVPF 8\n");
    text(|out| session.answer(out, &offered, US, &[format(8, "PCMA", 8_000)], Direction::SendRecv));
    let written = offer(&mut session, &[format(0, "PCMU", 8_000)], Direction::SendOnly);
    assert!(
        written.ends_with("m=video 0 RTP/AVP 96\r\nm=audio 45000 RTP/AVPF 0\r\na=rtpmap:0 PCMU/8000\r\na=sendonly\r\n"),
        "{written}"
    );
    // Without one that could be used so far, audio comes behind the others.
    let mut session = Session::new(7);
    text(|out| session.answer(out, &phone("m=image 5000 udptl t38\n"), US, &[], Direction::SendRecv));
    let written = offer(&mut session, &[format(0, "PCMU", 8_000)], Direction::SendRecv);
    assert!(written.contains("m=image 0 udptl t38\r\nm=audio 45000 RTP/AVP 0\r\n"), "{written}");
}

#[test]
fn a_new_audio_line_takes_the_place_of_one_that_was_refused_and_never_makes_them_too_many() {
    let pcmu = [format(0, "PCMU", 8_000)];
    let mut session = Session::new(7);
    let refused = phone("m=image 5000 udptl t38\nm=Audio 5002 RTP/SAVP 8\nm=audio 5004 RTP/SAVP 8\n");
    text(|out| session.answer(out, &refused, US, &[], Direction::SendRecv));
    let lines = "m=image 0 udptl t38\r\nm=audio 45000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\nm=audio 0 \
        RTP/SAVP 8\r\n";
    let written = offer(&mut session, &pcmu, Direction::SendRecv);
    assert!(written.ends_with(lines), "{written}");
    let mut session = Session::new(7);
    text(|out| session.answer(out, &phone(&"m=image 5000 udptl t38\n".repeat(64)), US, &[], Direction::SendRecv));
    let written = parse(&offer(&mut session, &pcmu, Direction::SendRecv));
    assert_eq!((written.lines.len(), written.audio.unwrap().line), (64, 63));
}

#[test]
fn the_version_grows_with_every_change_and_only_then() {
    let mut session = Session::new(u64::MAX);
    let version = |text: &str| parse(text).origin.1;
    assert!(!session.repeat(&mut Vec::new()));
    let first = offer(&mut session, &usual(), Direction::SendRecv);
    assert_eq!(parse(&first).origin, ((1 << 62) - 1, 1));
    assert_eq!(text(|out| assert!(session.repeat(out))), first);
    assert_eq!(offer(&mut session, &usual(), Direction::SendRecv), first);
    assert_eq!(version(&offer(&mut session, &usual(), Direction::SendOnly)), 2);
    assert_eq!(version(&offer(&mut session, &usual()[1..], Direction::SendOnly)), 3);
    let elsewhere = Us { pair: Pair { rtp: 45_002 }, ..US };
    let moved = text(|out| session.offer(out, elsewhere, &usual()[1..], Direction::SendOnly, false, None));
    assert_eq!(version(&moved), 4);
    let answer = text(|out| session.answer(out, &parse(&moved), elsewhere, &usual()[1..], Direction::SendOnly));
    assert_eq!(answer, moved);
    assert_eq!(version(&offer(&mut session, &usual(), Direction::SendRecv)), 5);
}

#[test]
fn what_is_written_is_appended() {
    let mut out = b"before".to_vec();
    let mut session = Session::new(1);
    session.offer(&mut out, US, &usual(), Direction::SendRecv, false, None);
    assert!(session.repeat(&mut out));
    let once = text(|out| assert!(session.repeat(out)));
    assert_eq!(out, format!("before{once}{once}").as_bytes());
}

#[test]
fn a_number_never_comes_to_mean_another_codec() {
    let mut session = Session::new(1);
    let offered = phone("m=audio 4000 RTP/AVP 8 96 101\na=rtpmap:96 telephone-event/8000\na=rtpmap:101 opus/48000\n");
    text(|out| session.answer(out, &offered, US, &offered.audio.as_ref().unwrap().formats[..2], Direction::SendRecv));
    assert_eq!(numbers_of(&session), [8, 96]);
    // As the other phone numbers them.
    let wanted = [format(96, "opus", 48_000), format(8, "PCMA", 8_000), format(101, "telephone-event", 8_000)];
    offer(&mut session, &wanted, Direction::SendRecv);
    assert_eq!(numbers_of(&session), [101, 8, 96]);
    // A codec that is new gets a number that is.
    let wanted = [format(96, "iLBC", 8_000), format(97, "speex", 8_000), format(8, "PCMA", 8_000)];
    offer(&mut session, &wanted, Direction::SendRecv);
    assert_eq!(numbers_of(&session), [97, 98, 8]);
    assert_eq!(session.formats()[1].codec.name.as_ref(), "speex");
    // And keeps it.
    offer(&mut session, &[format(120, "speex", 8_000)], Direction::SendRecv);
    assert_eq!(numbers_of(&session), [98]);
}

#[test]
fn numbers_run_out_without_harm() {
    let mut session = Session::new(1);
    let many: Vec<Format> = (0..200).map(|index| format(96, &format!("codec-{index}"), 8_000)).collect();
    let written = text(|out| session.offer(out, US, &many, Direction::SendRecv, true, None));
    let numbers = numbers_of(&session);
    assert_eq!(numbers.len(), 32 + 29);
    assert!(numbers.iter().all(|number| (96..128).contains(number) || (35..64).contains(number)));
    assert_eq!(parse(&written).audio.unwrap().formats, session.formats());
    assert!(session.bound.len() <= 128);
}

#[test]
fn an_answer_that_fits_is_taken_with_the_formats_that_were_offered() {
    let mut session = Session::new(1);
    offer(&mut session, &usual(), Direction::SendRecv);
    let answer = phone(
        "m=audio 4000 RTP/AVP 18 8 97 13\na=rtpmap:97 telephone-event/8000\na=fmtp:97 0-15\na=rtcp-mux\na=recvonly\n",
    );
    let Accepted { audio } = session.check(&answer).unwrap();
    let codecs: Vec<String> = audio.formats.iter().map(|format| format.codec.to_string()).collect();
    assert_eq!(codecs, ["PCMA/8000", "telephone-event/8000"]);
    assert_eq!((audio.formats[1].payload_type, audio.direction), (97, Direction::RecvOnly));
    // To share a port was not offered.
    assert_eq!((audio.mux, audio.rtcp.port()), (false, 4001));
    text(|out| session.offer(out, US, &usual(), Direction::SendRecv, true, None));
    let Accepted { audio } = session.check(&answer).unwrap();
    assert_eq!((audio.mux, audio.rtcp.port()), (true, 4000));
}

#[test]
fn an_answer_that_contradicts_its_offer_is_told_why() {
    let mut session = Session::new(1);
    let check = |session: &Session, media: &str| session.check(&phone(media)).unwrap_err();
    assert_eq!(check(&session, "m=audio 4000 RTP/AVP 8\n"), Contradiction::NoOffer);
    offer(&mut session, &usual(), Direction::SendRecv);
    assert_eq!(check(&session, ""), Contradiction::Lines { offered: 1, answered: 0 });
    let two = "m=audio 4000 RTP/AVP 8\nm=video 4002 RTP/AVP 96\n";
    assert_eq!(check(&session, two), Contradiction::Lines { offered: 1, answered: 2 });
    assert_eq!(check(&session, "m=audio 0 RTP/AVP 8\n"), Contradiction::Refused);
    assert_eq!(check(&session, "m=video 4000 RTP/AVP 8\n"), Contradiction::Unusable);
    assert_eq!(check(&session, "m=audio 4000 RTP/SAVP 8\n"), Contradiction::Unusable);
    assert_eq!(check(&session, "m=audio 4000 RTP/AVP 8\nc=IN IP4 name\n"), Contradiction::Unusable);
    assert_eq!(check(&session, "m=audio 4000 RTP/AVP 18\n"), Contradiction::Formats);
    let events = "m=audio 4000 RTP/AVP 18 101\na=rtpmap:101 telephone-event/8000\n";
    assert_eq!(check(&session, events), Contradiction::Formats);
    // Audio in another place than it was offered.
    text(|out| session.answer(out, &phone(two), US, &[format(8, "PCMA", 8_000)], Direction::SendRecv));
    offer(&mut session, &usual(), Direction::SendRecv);
    assert_eq!(check(&session, "m=audio 0 RTP/AVP 8\nm=audio 4000 RTP/AVP 8\n"), Contradiction::Refused);
    let swapped = "m=video 4002 RTP/AVP 96\nm=audio 4000 RTP/AVP 8\n";
    assert_eq!(check(&session, swapped), Contradiction::Unusable);
}

fn codecs() -> impl Strategy<Value = Format> {
    let name = prop_oneof![Just("PCMA".to_owned()), Just("telephone-event".to_owned()), "[A-Za-z0-9.-]{1,32}"];
    let rate = prop_oneof![Just(8_000), 1..=u32::MAX];
    let fmtp = proptest::option::of("[!-~]([ -~]{0,40}[!-~])?".prop_map(Into::into));
    (0_u8..128, name, rate, 1_u8..=255, fmtp).prop_filter_map(
        "G722 has one clock",
        |(payload_type, name, rate, channels, fmtp)| {
            let is_odd = name.eq_ignore_ascii_case("G722") && rate == 16_000;
            (!is_odd).then(|| Format { payload_type, codec: Codec { name: name.into(), rate, channels }, fmtp })
        },
    )
}

fn directions() -> impl Strategy<Value = Direction> {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    prop_oneof![Just(SendRecv), Just(SendOnly), Just(RecvOnly), Just(Inactive)]
}

proptest! {
    #[test]
    fn what_is_offered_is_read_as_it_was_meant(
        id: u64,
        ip: IpAddr,
        rtp in (1_u16..32_767).prop_map(|half| half * 2),
        formats in proptest::collection::vec(codecs(), 1..60),
        direction in directions(),
        mux: bool,
        ptime in proptest::option::of(1_u16..),
    ) {
        let ip = ip.to_canonical();
        prop_assume!(!ip.is_multicast() && !ip.is_unspecified() && ip.to_string() != "255.255.255.255");
        let us = Us { ip, pair: Pair { rtp } };
        let mut session = Session::new(id);
        let written = text(|out| session.offer(out, us, &formats, direction, mux, ptime));
        let read = parse(&written);
        prop_assert_eq!(read.origin, (id & LARGEST_ID, 1));
        prop_assert_eq!(read.lines.len(), 1);
        let audio = read.audio.clone().unwrap();
        prop_assert_eq!(audio.rtp, std::net::SocketAddr::new(ip, rtp));
        prop_assert_eq!(audio.rtcp.port(), if mux { rtp } else { rtp + 1 });
        prop_assert_eq!((audio.mux, audio.direction, audio.ptime), (mux, direction, ptime));
        prop_assert_eq!(&audio.formats[..], session.formats());
        let codecs = |formats: &[Format]| formats.iter().map(|format| (format.codec.clone(), format.fmtp.clone())).collect::<Vec<_>>();
        prop_assert_eq!(codecs(session.formats()), codecs(&formats));

        // The other side of it: an answer that takes all is read the same, and fits.
        let mut other = Session::new(id ^ 1);
        let answer = parse(&text(|out| other.answer(out, &read, us, &audio.formats, direction.reversed())));
        let answered = answer.audio.clone().unwrap();
        prop_assert_eq!((&answered.formats, answered.mux), (&audio.formats, mux));
        prop_assert_eq!(answered.direction, direction.reversed());
        match session.check(&answer) {
            Ok(accepted) => prop_assert_eq!(accepted.audio, answered),
            Err(contradiction) => {
                prop_assert_eq!(contradiction, Contradiction::Formats);
                prop_assert!(!formats.iter().any(|format| format.codec.is_speech()));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_description_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut body = b"v=0\no=- 1 1 IN IP4 1.1.1.1\nc=IN IP4 1.1.1.1\nm=audio 1 RTP/AVP 8 0\n".to_vec();
        body.extend_from_slice(&bytes);
        for body in [&bytes[..], &body] {
            match Description::parse(body) {
                Ok(found) => prop_assert!(found.lines.len() <= 64),
                Err(fault) => prop_assert!(matches!(fault.status(), 400 | 488)),
            }
        }
    }
}
