//! Our reader of session descriptions beside sdp-types: what both understand, they must understand alike, and what we
//! write it must understand.
//!
//! What they are known to see differently, and what is therefore not compared: white space but for one space between
//! words; bytes that are not printable ASCII; capital letters in the names of attributes, which make them other ones
//! to us (RFC 8866 §5); an rtpmap that only one of them takes; G722 with a clock of 16,000.

use std::net::{IpAddr, Ipv4Addr};

use pbx_core::{
    media::{
        Pair,
        formats::{common, usual},
        session::{Session, Us},
    },
    wire::sdp::{Audio, Description, Direction, Format, MAX_FORMATS},
};
use sdp_types::{Media, RtpMap};

/// A body is read by both. Whether both understood it.
pub fn differential(body: &[u8]) -> bool {
    if !is_plain(body) {
        return false;
    }
    let (Ok(theirs), Ok(ours)) = (sdp_types::Session::parse(body), Description::parse(body)) else { return false };
    let id = theirs.origin.sess_id.parse::<u64>();
    assert_eq!((id.unwrap_or(u64::MAX), theirs.origin.sess_version), ours.origin);
    assert_eq!(theirs.medias.len(), ours.lines.len());
    for (theirs, ours) in theirs.medias.iter().zip(&ours.lines) {
        assert_eq!((&*theirs.media, theirs.port, &*theirs.proto), (&*ours.media, ours.port, &*ours.proto));
        assert!(theirs.fmt.split(' ').take(MAX_FORMATS).eq(ours.formats.split(' ')));
    }
    if let Some(audio) = &ours.audio {
        same_audio(&theirs, audio);
    }
    written(&ours);
    true
}

fn same_audio(session: &sdp_types::Session, ours: &Audio) {
    let media = &session.medias[ours.line];
    let connection = media.connections.first().or(session.connection.as_ref()).expect("an address");
    let ip: IpAddr = connection.connection_address.parse().expect("an address is a literal");
    assert_eq!(ip.to_canonical(), ours.rtp.ip());
    assert_eq!(media.has_attribute("rtcp-mux"), ours.mux);
    let named = |name: &str| match name {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    };
    let first = |list: &[sdp_types::Attribute]| list.iter().find_map(|attribute| named(&attribute.attribute));
    let direction = first(&media.attributes).or_else(|| first(&session.attributes)).unwrap_or_default();
    let nowhere = ours.rtp.ip().is_unspecified();
    assert_eq!(if nowhere { direction.and(Direction::SendOnly) } else { direction }, ours.direction);
    ours.formats.iter().for_each(|format| same_format(media, format));
}

fn same_format(media: &Media, ours: &Format) {
    let is_number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse() == Ok(ours.payload_type);
    let behind = |name: &'static str| {
        let values = media.get_attribute_values(name).flatten();
        values.filter_map(|value| value.split_once(' ')).find(|(first, _)| is_number(first)).map(|(_, rest)| rest)
    };
    assert_eq!(behind("fmtp"), ours.fmtp.as_deref());
    let theirs = behind("rtpmap").and_then(|map| format!("{} {map}", ours.payload_type).parse::<RtpMap>().ok());
    if let Some(theirs) = theirs
        && ours.codec.name.as_ref() == theirs.encoding_name
        && !theirs.encoding_name.eq_ignore_ascii_case("G722")
    {
        assert_eq!(theirs.clock_rate, ours.codec.rate);
    }
}

/// What we answer and offer, read by the other one.
fn written(offer: &Description) {
    let us = Us { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), pair: Pair { rtp: 45_000 } };
    let offered: &[Format] = offer.audio.as_ref().map_or(&[], |audio| &audio.formats);
    let mut session = Session::new(7);
    let mut text = Vec::new();
    session.answer(&mut text, offer, us, &common(offered, offered), Direction::SendRecv);
    let lines = offer.lines.len();
    read_by_the_other(&text, &session, 1, lines);
    text.clear();
    session.offer(&mut text, us, &usual(), Direction::SendOnly, true, None);
    read_by_the_other(&text, &session, 2, lines);
}

fn read_by_the_other(text: &[u8], session: &Session, version: u64, lines: usize) {
    let theirs = sdp_types::Session::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((theirs.origin.sess_id.as_str(), theirs.origin.sess_version), ("7", version));
    assert!(theirs.medias.len() >= lines);
    let open: Vec<&Media> = theirs.medias.iter().filter(|media| media.port > 0).collect();
    match open[..] {
        [] => assert!(session.formats().is_empty()),
        [media] => {
            assert_eq!((media.media.to_ascii_lowercase().as_str(), media.port), ("audio", 45_000));
            let numbers: Vec<String> = session.formats().iter().map(|format| format.payload_type.to_string()).collect();
            assert_eq!(media.fmt, numbers.join(" "));
            session.formats().iter().for_each(|format| same_format(media, format));
        }
        _ => panic!("more than one line has a port"),
    }
}

/// Printable lines with single spaces inside, and attributes in small letters.
fn is_plain(body: &[u8]) -> bool {
    body.split(|byte| *byte == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_double = |two: &[u8]| two == b"  " || two == b": " || two == b"= ";
        let name = line.strip_prefix(b"a=").unwrap_or_default();
        let in_capitals = name.iter().take_while(|byte| **byte != b':').any(u8::is_ascii_uppercase);
        let is_printable = line.iter().all(|byte| matches!(byte, b' '..=b'~'));
        is_printable && !in_capitals && !line.ends_with(b" ") && !line.windows(2).any(is_double)
    })
}
