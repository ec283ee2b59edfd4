use std::net::SocketAddr;

use super::*;

/// As a desk phone offers.
const PHONE: &str = "v=0\r\n\
    o=- 20021 20022 IN IP4 192.168.1.23\r\n\
    s=SDP data\r\n\
    c=IN IP4 192.168.1.23\r\n\
    t=0 0\r\n\
    m=audio 11796 RTP/AVP 9 0 8 18 101\r\n\
    a=rtpmap:9 G722/8000\r\n\
    a=fmtp:18 annexb=no\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-15\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";

/// A description with these media lines, at 192.0.2.9.
fn with(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n{media}")
}

fn parse(text: &str) -> Description {
    Description::parse(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn audio(media: &str) -> Audio {
    parse(&with(media)).audio.unwrap_or_else(|| panic!("{media}"))
}

fn none(media: &str) {
    assert_eq!(parse(&with(media)).audio, None, "{media}");
}

fn fault(text: &str) -> Fault {
    Description::parse(text.as_bytes()).expect_err(text)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// `9 G722/8000`, with parameters behind a space.
fn names(audio: &Audio) -> Vec<String> {
    let name = |Format { payload_type, codec, fmtp }: &Format| {
        let fmtp = fmtp.as_ref().map(|fmtp| format!(" {fmtp}")).unwrap_or_default();
        format!("{payload_type} {codec}{fmtp}")
    };
    audio.formats.iter().map(name).collect()
}

#[test]
fn an_offer_of_a_desk_phone_is_read_whole() {
    let Description { lines, audio, origin } = parse(PHONE);
    assert_eq!(origin, (20021, 20022));
    let line = Line { media: "audio".into(), port: 11_796, proto: "RTP/AVP".into(), formats: "9 0 8 18 101".into() };
    assert_eq!(lines, [line]);
    let audio = audio.unwrap();
    assert_eq!((audio.line, audio.mux, audio.direction), (0, false, Direction::SendRecv));
    assert_eq!((audio.rtp, audio.rtcp), (addr("192.168.1.23:11796"), addr("192.168.1.23:11797")));
    assert_eq!(audio.ptime, Some(20));
    let formats =
        ["9 G722/8000", "0 PCMU/8000", "8 PCMA/8000", "18 G729/8000 annexb=no", "101 telephone-event/8000 0-15"];
    assert_eq!(names(&audio), formats);
}

#[test]
fn offers_of_other_makers_are_read_as_they_are_meant() {
    let softphone = audio(
        "b=AS:84\r\na=X-nat:0\r\nm=audio 4002 RTP/AVP 8 0 96 120\r\nc=IN IP4 192.168.1.91\r\nb=TIAS:64000\r\n\
         a=rtcp:4003 IN IP4 192.168.1.91\r\na=sendrecv\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:120 telephone-event/8000\r\na=fmtp:120 \
         0-16\r\na=ssrc:1177123744 cname:1b2c3d4e5f607182\r\n",
    );
    assert_eq!((softphone.rtp, softphone.rtcp), (addr("192.168.1.91:4002"), addr("192.168.1.91:4003")));
    let formats = ["8 PCMA/8000", "0 PCMU/8000", "96 opus/48000/2 useinbandfec=1", "120 telephone-event/8000 0-16"];
    assert_eq!(names(&softphone), formats);

    let adapter = audio(
        "m=audio 16416 RTP/AVP 0 2 4 8 18 96 97 98 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:2 G726-32/8000\r\n\
         a=rtpmap:4 G723/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:18 G729a/8000\r\na=rtpmap:96 G726-40/8000\r\n\
         a=rtpmap:97 G726-24/8000\r\na=rtpmap:98 G726-16/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 \
         0-15\r\na=ptime:30\r\na=sendrecv\r\n",
    );
    assert_eq!((adapter.formats.len(), adapter.ptime), (9, Some(30)));

    let with_video = audio(
        "a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics\r\nm=audio 7078 RTP/AVPF 96 97 98 \
         0 8 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:97 speex/16000\r\na=fmtp:97 \
         vbr=on\r\na=rtpmap:98 speex/8000\r\na=fmtp:98 vbr=on\r\na=rtpmap:101 telephone-event/48000\r\na=rtcp-fb:* \
         trr-int 5000\r\na=rtcp-fb:* ccm tmmbr\r\nm=video 9078 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\na=inactive\r\n",
    );
    assert_eq!((with_video.rtp.port(), with_video.direction), (7078, Direction::SendRecv));
    assert_eq!(names(&with_video)[5], "101 telephone-event/48000");
}

#[test]
fn line_feeds_alone_and_blank_lines_at_the_end_change_nothing() {
    let whole = parse(PHONE);
    assert_eq!(parse(&PHONE.replace("\r\n", "\n")), whole);
    assert_eq!(parse(PHONE.trim_end()), whole);
    assert_eq!(parse(&format!("\r\n{PHONE}\r\n\n \r\n")), whole);
}

#[test]
fn lines_that_nobody_needs_are_passed_over() {
    let short = parse("v=0\no=- 1 2 IN IP4 192.0.2.9\nc=IN IP4 192.0.2.9\nm=audio 4000 RTP/AVP 8\n");
    let long = "v=0\no=- 1 2 IN IP4 192.0.2.9\ns= \ni=\u{e4}\u{0}\u{ff}\nu=http://a\ne=a\np=1\nc=IN IP4 192.0.2.9\n\
        b=AS:64\nt=0 0\nr=1\nz=0 0\nk=clear:x\na=tool:x\na=\na=:\nX=y\nm=audio 4000 RTP/AVP 8\ni=x\nb=TIAS:1\na=rtpmap\n\
        a=rtpmap:\na=rtpmap:8\na=rtpmap:x PCMA/8000\na=rtpmap:128 x/1\na=fmtp:8\na=rtcp\na=rtcp:0\na=rtcp:x\na=ptime\n\
        a=ptime:0\na=ptime:x\na=SendOnly\na=sendonly2\n";
    assert_eq!(parse(long), short);
}

#[test]
fn a_body_that_is_no_description_is_refused_with_what_is_wrong() {
    let origin = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\n";
    assert_eq!(fault(""), Fault::Version);
    assert_eq!(fault("hello"), Fault::Version);
    assert_eq!(fault("v=1\r\n"), Fault::Version);
    assert_eq!(fault("o=- 1 1 IN IP4 192.0.2.9\r\nv=0\r\n"), Fault::Version);
    assert_eq!(fault("v=0\r\n"), Fault::Origin);
    assert_eq!(fault("v=0\r\no=- 1 1\r\n"), Fault::Origin);
    assert_eq!(fault("v=0\r\no=- a 1 IN IP4 192.0.2.9\r\n"), Fault::Origin);
    assert_eq!(fault("v=0\r\nm=audio 4000 RTP/AVP 8\r\no=- 1 1 IN IP4 192.0.2.9\r\n"), Fault::Origin);
    assert_eq!(fault(&format!("{origin}nonsense\r\n")), Fault::Shape(3));
    assert_eq!(fault(&format!("{origin}==\r\n")), Fault::Shape(3));
    assert_eq!(fault(&format!("{origin}c=IN IP4\r\n")), Fault::Connection(3));
    assert_eq!(fault(&with("m=audio 4000 RTP/AVP 8\nc=\n")), Fault::Connection(7));
    for line in ["", "audio", "audio 4000", "audio 4000 RTP/AVP", "audio x RTP/AVP 8", "audio 65536 RTP/AVP 8"] {
        assert_eq!(fault(&with(&format!("m={line}\n"))), Fault::Media(6), "{line}");
    }
    for line in
        ["audio -1 RTP/AVP 8", "audio +1 RTP/AVP 8", "audio / RTP/AVP 8", "\u{e4} 1 RTP/AVP 8", "audio 1 RTP/AVP \0"]
    {
        assert_eq!(fault(&with(&format!("m={line}\n"))), Fault::Media(6), "{line}");
    }
    assert_eq!(Fault::Origin.status(), 400);
    assert!(Fault::Media(6).to_string().starts_with("line 6 of the SDP is a malformed m="));
}

#[test]
fn sixty_four_media_lines_are_read_and_500_refused() {
    let lines = |count| with(&"m=audio 4000 RTP/AVP 8\r\n".repeat(count));
    assert_eq!(parse(&lines(64)).lines.len(), 64);
    assert_eq!(fault(&lines(65)), Fault::TooManyMedia);
    assert_eq!(fault(&lines(500)), Fault::TooManyMedia);
    assert_eq!(Fault::TooManyMedia.status(), 488);
}

#[test]
fn of_many_formats_the_first_are_kept_and_none_twice() {
    let numbers: Vec<String> = (0..400).map(|number| (number % 128).to_string()).collect();
    let found = parse(&with(&format!("m=audio 4000 RTP/AVP {}\r\n", numbers.join(" "))));
    assert_eq!(found.lines[0].formats.split(' ').count(), MAX_FORMATS);
    // Those of RFC 3551 among the first 64.
    assert_eq!(found.audio.unwrap().formats.len(), 17);
    assert_eq!(names(&audio("m=audio 4000 RTP/AVP 8 8 0 8 256 08\n")), ["8 PCMA/8000", "0 PCMU/8000"]);
}

#[test]
fn numbers_with_a_fixed_meaning_need_no_rtpmap_and_others_do() {
    let found = audio("m=audio 4000 RTP/AVP 96 0 3 8 9 13 18 101 x 1\r\na=rtpmap:101 telephone-event/8000\r\n");
    let formats = ["0 PCMU/8000", "3 GSM/8000", "8 PCMA/8000", "9 G722/8000", "13 CN/8000", "18 G729/8000"];
    assert_eq!(names(&found)[..6], formats);
    assert_eq!(names(&found)[6..], ["101 telephone-event/8000"]);
    none("m=audio 4000 RTP/AVP 96 97 128 300\r\n");
}

#[test]
fn an_rtpmap_says_what_a_number_means() {
    let found = audio(
        "m=audio 4000 RTP/AVP 96 97 98 99 100 102 103 9\na=rtpmap:96 opus/48000/2\na=rtpmap:97 speex/16000/1\n\
         a=rtpmap: 98 \t iLBC/8000 \na=rtpmap:99 zero/0\na=rtpmap:100 /8000\na=rtpmap:102 x\na=rtpmap:103 x/1/2/3\n\
         a=rtpmap:9 g722/16000\na=rtpmap:96 PCMA/8000\na=fmtp:96 useinbandfec=1; stereo=0\na=fmtp:96 other\n",
    );
    let formats = ["96 opus/48000/2 useinbandfec=1; stereo=0", "97 speex/16000", "98 iLBC/8000", "9 g722/8000"];
    assert_eq!(names(&found), formats);
}

#[test]
fn parameters_that_cannot_be_passed_on_make_their_format_useless() {
    let long = "x".repeat(MAX_FMTP + 1);
    let found = audio(&format!(
        "m=audio 4000 RTP/AVP 0 8 9 18\na=fmtp:0 {long}\na=fmtp:8 a\u{e4}\na=fmtp:9 a\u{1}b\na=fmtp:18 {}\n",
        &long[1..]
    ));
    assert_eq!(found.formats.len(), 1);
    assert_eq!(found.formats[0].fmtp.as_deref(), Some(&long[1..]));
}

#[test]
fn the_address_of_the_line_wins_over_that_of_the_session() {
    let found = audio("m=audio 4000 RTP/AVP 8\r\nc=IN IP4 198.51.100.7\r\nc=IN IP4 198.51.100.8\r\n");
    assert_eq!((found.rtp, found.rtcp), (addr("198.51.100.7:4000"), addr("198.51.100.7:4001")));
    let found = audio("m=audio 4000/2 RTP/AVP 8\r\nc=in ip6 2001:db8::7\r\n");
    assert_eq!(found.rtp, addr("[2001:db8::7]:4000"));
    assert_eq!(audio("m=audio 4000 RTP/AVP 8\nc=IN IP6 ::ffff:192.0.2.4\n").rtp, addr("192.0.2.4:4000"));
    assert_eq!(audio("m=audio 65535 RTP/AVP 8\n").rtcp, addr("192.0.2.9:65535"));
    let found = parse("v=0\no=- 1 1 IN IP4 192.0.2.9\nm=audio 4000 RTP/AVP 8\nc=IN IP4 192.0.2.7\n");
    assert_eq!(found.audio.unwrap().rtp, addr("192.0.2.7:4000"));
    assert_eq!(parse("v=0\no=- 1 1 IN IP4 192.0.2.9\nm=audio 4000 RTP/AVP 8\n").audio, None);
}

#[test]
fn an_address_that_is_no_literal_of_one_host_is_no_use() {
    for address in [
        "IP4 phone.example.net",
        "IP4 localhost",
        "IP4 224.2.1.1/127",
        "IP4 224.2.1.1",
        "IP4 255.255.255.255",
        "IP6 ff02::1",
        "IP6 [2001:db8::1]",
        "IP6 fe80::1%eth0",
        "IP4 1.2.3",
        "IP4 1.2.3.256",
        "E164 4930123456",
    ] {
        none(&format!("m=audio 4000 RTP/AVP 8\r\nc=IN {address}\r\n"));
    }
    none("m=audio 4000 RTP/AVP 8\r\nc=ATM NSAP 192.0.2.4\r\n");
}

#[test]
fn rtcp_goes_where_the_line_says() {
    let rtcp = |attribute: &str| audio(&format!("m=audio 4000 RTP/AVP 8\r\na={attribute}\r\n")).rtcp;
    assert_eq!(rtcp("rtcp:53020"), addr("192.0.2.9:53020"));
    assert_eq!(rtcp("rtcp:53020 IN IP4 198.51.100.9"), addr("198.51.100.9:53020"));
    assert_eq!(rtcp("rtcp:53020 IN IP6 2001:db8::9"), addr("[2001:db8::9]:53020"));
    assert_eq!(rtcp("rtcp:53020 IN IP4 host.example.net"), addr("192.0.2.9:53020"));
    assert_eq!(rtcp("rtcp:0"), addr("192.0.2.9:4001"));
    assert_eq!(rtcp("rtcp:99999"), addr("192.0.2.9:4001"));
    assert_eq!(rtcp("rtcp-mux"), addr("192.0.2.9:4000"));
    assert_eq!(rtcp("rtcp:4001\r\na=rtcp-mux"), addr("192.0.2.9:4000"));
}

#[test]
fn numbers_that_rtcp_would_be_taken_for_are_no_use_on_a_shared_port() {
    let line = "m=audio 4000 RTP/AVP 63 64 72 95 96\na=rtpmap:63 a/8000\na=rtpmap:64 b/8000\na=rtpmap:72 c/8000\n\
        a=rtpmap:95 d/8000\na=rtpmap:96 e/8000\n";
    assert_eq!(audio(line).formats.len(), 5);
    let shared = audio(&format!("{line}a=rtcp-mux\n"));
    assert!(shared.mux);
    assert_eq!(names(&shared), ["63 a/8000", "96 e/8000"]);
}

#[test]
fn hold_is_said_by_a_direction_or_by_an_address_that_is_nowhere() {
    let direction = |rest: &str| audio(&format!("m=audio 4000 RTP/AVP 8\r\n{rest}\r\n")).direction;
    assert_eq!(direction("a=sendonly"), Direction::SendOnly);
    assert_eq!(direction("a=recvonly\r\na=sendonly"), Direction::RecvOnly);
    assert_eq!(direction("a=inactive"), Direction::Inactive);
    assert_eq!(direction("c=IN IP4 0.0.0.0"), Direction::SendOnly);
    assert_eq!(direction("c=IN IP4 0.0.0.0\r\na=recvonly"), Direction::Inactive);
    assert_eq!(direction("c=IN IP6 ::"), Direction::SendOnly);
    let session = |level: &str, line: &str| {
        let text = with(&format!("m=audio 4000 RTP/AVP 8\r\n{line}")).replace("t=0 0\r\n", &format!("{level}\r\n"));
        parse(&text).audio.unwrap()
    };
    assert_eq!(session("a=sendonly", "").direction, Direction::SendOnly);
    assert_eq!(session("a=sendonly", "a=inactive\r\n").direction, Direction::Inactive);
    assert_eq!(session("a=ptime:30", "").ptime, Some(30));
    assert_eq!(session("a=ptime:30", "a=ptime: 40 \r\n").ptime, Some(40));
}

#[test]
fn the_first_audio_line_that_can_be_used_is_the_one() {
    let text = with(
        "m=video 5000 RTP/AVP 96\na=rtpmap:96 VP8/90000\nm=audio 0 RTP/AVP 8\nm=audio 4000 RTP/SAVP 8\n\
         m=audio 4002 RTP/AVP 96\nm=audio 4004 RTP/AVP 8\nc=IN IP4 name\nm=audio 4006 RTP/AVPF 8 0\na=sendonly\n\
         m=audio 4008 RTP/AVP 9\nm=image 4010 udptl t38\n",
    );
    let found = parse(&text);
    assert_eq!(found.lines.len(), 8);
    let audio = found.audio.unwrap();
    assert_eq!((audio.line, audio.rtp.port(), audio.direction), (5, 4006, Direction::SendOnly));
    // What a line says ends where the next one begins.
    assert_eq!(names(&audio), ["8 PCMA/8000", "0 PCMU/8000"]);
    assert_eq!(&*found.lines[7].formats, "t38");
}

#[test]
fn a_browser_offers_nothing_that_can_be_used_yet() {
    let found = parse(&with(
        "a=group:BUNDLE 0\na=msid-semantic: WMS\nm=audio 51372 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\na=rtcp:9 IN \
         IP4 0.0.0.0\na=candidate:1 1 udp 2122 192.168.1.7 51372 typ host\na=ice-ufrag:x\na=setup:actpass\na=mid:0\n\
         a=rtcp-mux\na=rtpmap:111 opus/48000/2\na=ssrc:1 cname:x\n",
    ));
    assert_eq!((found.lines.len(), found.audio), (1, None));
}

#[test]
fn the_origin_is_read_past_a_user_with_spaces_and_numbers_that_do_not_fit() {
    let origin = |text: &str| parse(&format!("v=0\no={text} IN IP4 192.0.2.9\n")).origin;
    assert_eq!(origin("- 0 0"), (0, 0));
    assert_eq!(origin("Jo Doe 5 6"), (5, 6));
    assert_eq!(origin("- 18446744073709551616 99999999999999999999999999"), (u64::MAX, u64::MAX));
}

#[test]
fn directions_are_reversed_and_met_as_the_rfc_says() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    let all = [SendRecv, SendOnly, RecvOnly, Inactive];
    assert_eq!(all.map(Direction::reversed), [SendRecv, RecvOnly, SendOnly, Inactive]);
    assert_eq!(all.map(|direction| direction.and(SendOnly)), [SendOnly, SendOnly, Inactive, Inactive]);
    assert_eq!(all.map(Direction::sends), [true, true, false, false]);
    assert_eq!(all.map(Direction::receives), [true, false, true, false]);
    for direction in all {
        assert_eq!(Direction::of(direction.text().as_bytes()), Some(direction));
        assert_eq!(direction.and(SendRecv), direction);
    }
}

#[test]
fn codecs_are_the_same_whatever_the_case_of_their_names() {
    let codec = |text: &str| Codec::parse(text.as_bytes()).unwrap();
    assert!(codec("pcma/8000").is_same(&codec("PCMA/8000/1")));
    assert!(!codec("L16/44100/2").is_same(&codec("L16/44100")));
    assert!(!codec("speex/8000").is_same(&codec("speex/16000")));
    assert_eq!(codec("opus/48000/2").to_string(), "opus/48000/2");
    assert_eq!(codec("pcma/8000/1").to_string(), "pcma/8000");
    assert!(codec("Telephone-Event/8000").is_event() && codec("cn/8000").is_comfort_noise());
    assert!(codec("PCMA/8000").is_speech() && !codec("CN/8000").is_speech());
    let long = format!("{}/8000", "x".repeat(33));
    for text in ["", "/", "a", "a/", "a/x", "a/-1", "a/1/0", "a/1/256", "a b/8000", "a/4294967296", &long] {
        assert_eq!(Codec::parse(text.as_bytes()), None, "{text}");
    }
}
