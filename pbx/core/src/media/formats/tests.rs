use std::net::{IpAddr, SocketAddr};

use super::{Payload, candidate, common, event, payloads, usual};
use crate::wire::sdp::{Codec, Format};

/// A format out of `8 PCMA/8000`, with parameters behind a space.
fn format(text: &str) -> Format {
    let mut words = text.splitn(3, ' ');
    let payload_type = words.next().unwrap().parse().unwrap();
    let mut codec = words.next().unwrap().split('/');
    let name = codec.next().unwrap().into();
    let rate = codec.next().unwrap().parse().unwrap();
    let channels = codec.next().map_or(1, |channels| channels.parse().unwrap());
    Format { payload_type, codec: Codec { name, rate, channels }, fmtp: words.next().map(Into::into) }
}

fn formats(texts: &[&str]) -> Vec<Format> {
    texts.iter().map(|text| format(text)).collect()
}

fn both(offered: &[&str], wanted: &[&str]) -> Vec<String> {
    let name = |Format { payload_type, codec, fmtp }: Format| {
        format!("{payload_type} {codec} {}", fmtp.as_deref().unwrap_or_default()).trim_end().to_owned()
    };
    common(&formats(offered), &formats(wanted)).into_iter().map(name).collect()
}

fn passed(sends: &[&str], takes: &[&str]) -> Vec<(u8, u8, u32)> {
    let payloads = payloads(&formats(sends), &formats(takes));
    payloads.into_iter().map(|Payload { from, to, rate }| (from, to, rate)).collect()
}

#[test]
fn an_answer_has_the_numbers_of_the_offer_and_the_order_and_parameters_of_the_other_phone() {
    let offered = ["0 PCMU/8000", "8 PCMA/8000", "96 opus/48000/2 stereo=1", "101 telephone-event/8000 0-16"];
    let wanted = ["107 OPUS/48000/2 useinbandfec=1", "8 PCMA/8000", "9 G722/8000", "97 telephone-event/8000 0-15"];
    let answer = ["96 opus/48000/2 useinbandfec=1", "8 PCMA/8000", "101 telephone-event/8000 0-15"];
    assert_eq!(both(&offered, &wanted), answer);
}

#[test]
fn events_and_comfort_noise_alone_are_no_answer() {
    let offered = ["0 PCMU/8000", "13 CN/8000", "101 telephone-event/8000"];
    assert!(both(&offered, &["8 PCMA/8000", "13 CN/8000", "101 telephone-event/8000"]).is_empty());
    assert_eq!(both(&offered, &["13 CN/8000", "0 PCMU/8000"]), ["13 CN/8000", "0 PCMU/8000"]);
    assert!(both(&offered, &[]).is_empty() && both(&[], &offered).is_empty());
}

#[test]
fn a_number_is_answered_once_and_by_what_is_most_like_it() {
    let offered = ["96 AMR/8000 mode-set=0", "97 AMR/8000 mode-set=7"];
    assert_eq!(both(&offered, &["100 AMR/8000 mode-set=7"]), ["97 AMR/8000 mode-set=7"]);
    assert_eq!(both(&offered, &["100 AMR/8000", "101 AMR/8000 mode-set=7"]), ["96 AMR/8000", "97 AMR/8000 mode-set=7"]);
    assert_eq!(both(&offered[..1], &["100 AMR/8000", "101 AMR/8000"]), ["96 AMR/8000"]);
}

#[test]
fn a_codec_of_another_clock_or_with_more_channels_is_another_one() {
    assert!(both(&["96 L16/44100/2"], &["96 L16/44100"]).is_empty());
    assert!(both(&["96 speex/8000"], &["96 speex/16000"]).is_empty());
}

#[test]
fn packets_are_passed_on_under_the_number_that_the_other_phone_gave() {
    let sends = ["8 PCMA/8000", "96 opus/48000/2", "101 telephone-event/8000", "0 PCMU/8000"];
    let takes = ["97 telephone-event/8000", "111 opus/48000/2", "8 pcma/8000"];
    assert_eq!(passed(&sends, &takes), [(8, 8, 8_000), (96, 111, 48_000), (101, 97, 8_000)]);
    assert_eq!(passed(&sends, &[]), []);
    // Two numbers may mean one to the other.
    assert_eq!(passed(&["8 PCMA/8000", "97 PCMA/8000"], &["8 PCMA/8000"]), [(8, 8, 8_000), (97, 8, 8_000)]);
}

#[test]
fn events_have_the_clock_of_the_first_codec_if_there_are_such() {
    let events = |texts: &[&str]| event(&formats(texts));
    let two = ["100 telephone-event/8000", "101 telephone-event/48000"];
    assert_eq!(events(&["96 opus/48000/2", "8 PCMA/8000", two[0], two[1]]), Some((101, 48_000)));
    assert_eq!(events(&[two[1], two[0], "13 CN/8000", "8 PCMA/8000", "96 opus/48000/2"]), Some((100, 8_000)));
    assert_eq!(events(&["96 opus/48000/2", two[0]]), Some((100, 8_000)));
    assert_eq!(events(&["8 PCMA/8000"]), None);
    assert_eq!(events(&[two[0]]), Some((100, 8_000)));
}

#[test]
fn what_is_usual_has_speech_and_events() {
    assert_eq!(event(&usual()), Some((101, 8_000)));
    assert_eq!(common(&usual(), &usual()), usual());
}

#[test]
fn a_public_address_is_believed_and_a_private_one_only_from_itself() {
    let source: IpAddr = "198.51.100.7".parse().unwrap();
    let at = |described: &str| candidate(described.parse().unwrap(), source).ip().to_string();
    for public in ["192.0.2.4", "203.0.113.5", "8.8.8.8", "2001:db8::1", "100.63.255.255", "100.128.0.0", "198.18.0.1"]
    {
        assert_eq!(at(&SocketAddr::new(public.parse().unwrap(), 4000).to_string()), public);
    }
    for other in [
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.1.1",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "fc00::1",
        "fdff::1",
        "ff02::1",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(at(&SocketAddr::new(other.parse().unwrap(), 4000).to_string()), source.to_string(), "{other}");
    }
}

#[test]
fn an_address_is_its_own_source_however_it_is_written_and_the_port_stays() {
    let candidate =
        |described: &str, source: &str| candidate(described.parse().unwrap(), source.parse().unwrap()).to_string();
    assert_eq!(candidate("10.1.2.3:4000", "10.1.2.3"), "10.1.2.3:4000");
    assert_eq!(candidate("10.1.2.3:4000", "::ffff:10.1.2.3"), "10.1.2.3:4000");
    assert_eq!(candidate("[::ffff:10.1.2.3]:4000", "10.1.2.3"), "10.1.2.3:4000");
    assert_eq!(candidate("127.0.0.1:4000", "127.0.0.1"), "127.0.0.1:4000");
    assert_eq!(candidate("[fd00::1]:4000", "2001:db8::9"), "[2001:db8::9]:4000");
    assert_eq!(candidate("10.1.2.3:4000", "::ffff:10.9.9.9"), "10.9.9.9:4000");
}
