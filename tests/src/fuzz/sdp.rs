//! Session descriptions: what any bytes may do to the reader, and to what we write because of them. The same bytes are
//! tried as the other small values that calls read.

use std::net::{IpAddr, Ipv4Addr};

use pbx_core::{
    media::{
        Pair, dtmf,
        formats::{candidate, common, event, payloads, usual},
        session::{Accepted, Session, Us},
    },
    wire::{
        sdp::{Audio, Description, Direction, Format, MAX_FMTP, MAX_FORMATS, MAX_LINES},
        sip::{RAck, Replaces, SessionExpires, cause, replaces_in},
    },
};

const US: Us = Us { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), pair: Pair { rtp: 45_000 } };

/// A body is a description within its limits or a fault; what is answered to it has its lines and is read by us as it
/// was meant; and so is what is offered later.
pub fn description(body: &[u8]) {
    values(body);
    let found = match Description::parse(body) {
        Ok(found) => found,
        Err(fault) => {
            assert!(matches!(fault.status(), 400 | 488) && !fault.to_string().is_empty());
            return;
        }
    };
    limits(&found);
    answered(&found);
}

fn limits(found: &Description) {
    assert!(found.lines.len() <= MAX_LINES);
    for line in &found.lines {
        assert!((1..=MAX_FORMATS).contains(&line.formats.split(' ').count()));
        let texts = [&*line.media, &*line.proto].into_iter().chain(line.formats.split(' '));
        assert!(texts.into_iter().all(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())));
    }
    let Some(audio) = &found.audio else { return };
    let line = &found.lines[audio.line];
    assert!(line.port > 0 && line.port == audio.rtp.port() && audio.rtcp.port() > 0);
    assert!(!audio.rtp.ip().is_multicast() && !audio.rtcp.ip().is_multicast());
    assert!(!audio.rtp.ip().is_unspecified() || !audio.direction.receives());
    assert!(!audio.mux || audio.rtp == audio.rtcp);
    assert!(!audio.formats.is_empty() && audio.ptime != Some(0));
    let mut seen = [false; 128];
    for Format { payload_type, codec, fmtp } in &audio.formats {
        assert!(!std::mem::replace(&mut seen[usize::from(*payload_type)], true), "{payload_type} twice");
        assert!(codec.rate > 0 && codec.channels > 0 && !codec.name.is_empty());
        assert!(fmtp.as_ref().is_none_or(|fmtp| fmtp.len() <= MAX_FMTP));
    }
    let source = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
    let from = candidate(audio.rtp, source);
    assert!(from.port() == audio.rtp.port() && !from.ip().is_unspecified() && !from.ip().is_loopback());
}

fn read(text: &[u8]) -> Description {
    let ours = Description::parse(text);
    ours.unwrap_or_else(|fault| panic!("{}: {fault}", String::from_utf8_lossy(text)))
}

fn answered(offer: &Description) {
    let offered: &[Format] = offer.audio.as_ref().map_or(&[], |audio| &audio.formats);
    // Its own formats back, and those of a phone that has the usual ones.
    for formats in [common(offered, offered), common(offered, &usual())] {
        let mut session = Session::new(1);
        let mut text = Vec::new();
        let wanted = offer.audio.as_ref().map_or(Direction::Inactive, |audio| audio.direction.reversed());
        session.answer(&mut text, offer, US, &formats, wanted);
        let answer = read(&text);
        assert_eq!(answer.lines.len(), offer.lines.len());
        for (index, (answered, offered)) in answer.lines.iter().zip(&offer.lines).enumerate() {
            assert_eq!((&answered.media, &answered.proto), (&offered.media, &offered.proto));
            let is_audio = !formats.is_empty() && offer.audio.as_ref().is_some_and(|audio| audio.line == index);
            assert_eq!(answered.port, if is_audio { US.pair.rtp } else { 0 });
            assert!(is_audio || answered.formats == offered.formats);
        }
        match (&answer.audio, &offer.audio) {
            (Some(answered), Some(offered)) => {
                assert_eq!((&answered.formats, answered.direction), (&formats, wanted));
                assert_eq!((answered.line, answered.mux), (offered.line, offered.mux));
            }
            (None, _) => assert!(formats.is_empty()),
            (Some(_), None) => panic!("an answer to no audio"),
        }
        let mut again = Vec::new();
        assert!(session.repeat(&mut again) && again == text);
        offered_later(&mut session, &answer, offer, &formats);
    }
}

/// The next offer to the same phone, with other formats, and its answer to that: what it said first.
fn offered_later(session: &mut Session, answer: &Description, phone: &Description, formats: &[Format]) {
    let mut text = Vec::new();
    let more: Vec<Format> = usual().into_iter().chain(formats.iter().cloned()).collect();
    let mux = answer.audio.as_ref().is_some_and(|audio| audio.mux);
    session.offer(&mut text, US, &more, Direction::SendOnly, mux, Some(20));
    let offer = read(&text);
    assert_eq!(offer.origin.1, 2);
    assert!(offer.lines.len() >= answer.lines.len());
    let Some(audio) = &offer.audio else {
        assert!(session.formats().is_empty());
        return;
    };
    assert_eq!((&audio.formats[..], audio.mux), (session.formats(), mux));
    assert!(answer.audio.as_ref().is_none_or(|answered| answered.line == audio.line));
    // A number means what it meant.
    for format in &audio.formats {
        let before = formats.iter().find(|before| before.payload_type == format.payload_type);
        assert!(before.is_none_or(|before| before.codec.is_same(&format.codec)));
    }
    if let Ok(Accepted { audio: accepted }) = session.check(phone) {
        passed_on(session.formats(), &accepted);
    }
}

fn passed_on(sends: &[Format], accepted: &Audio) {
    let payloads = payloads(sends, &accepted.formats);
    assert!(!payloads.is_empty() && payloads.len() <= sends.len());
    for payload in payloads {
        let is = |formats: &[Format], number| formats.iter().any(|format| format.payload_type == number);
        assert!(payload.rate > 0 && is(sends, payload.from) && is(&accepted.formats, payload.to));
    }
    let event = event(&accepted.formats);
    assert_eq!(event.is_some(), accepted.formats.iter().any(|format| format.codec.is_event()));
}

/// Bytes as a header's value or a digit's body.
fn values(bytes: &[u8]) {
    if let Some(Replaces { call_id, to_tag, from_tag, .. }) = Replaces::parse(bytes) {
        assert!(!call_id.is_empty() && !to_tag.is_empty() && !from_tag.is_empty());
    }
    if let Some(value) = replaces_in(bytes) {
        assert!(!value.iter().any(u8::is_ascii_control));
    }
    SessionExpires::parse(bytes);
    cause(bytes, "SIP");
    assert!(RAck::parse(bytes).is_none_or(|rack| rack.rseq > 0));
    for content_type in [&b"application/dtmf"[..], b"application/dtmf-relay"] {
        if let Some((digit, duration)) = dtmf::of_info(content_type, bytes) {
            assert!((40..=6_000).contains(&duration.as_millis()));
            let mut body = Vec::new();
            dtmf::write_info(&mut body, digit, duration);
            assert_eq!(dtmf::of_info(b"application/dtmf-relay", &body), Some((digit, duration)));
        }
    }
}
