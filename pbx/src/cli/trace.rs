//! `pbx trace`: a ladder of messages. What strangers wrote is printed by [`say`], which lets no control character
//! through.

pub(super) mod dropped;

use pbx_core::{
    time::Timestamp,
    wire::{demux::Content, sip::Uri},
};
use serde_json::Value;

use super::{
    Session,
    client::{query, typed},
    failure::Failure,
    render::{number, say},
};
use crate::{ops::MessageView, trace::Direction};

/// Characters of a start line in the ladder.
const WHAT: usize = 60;
/// Characters of a Call-ID in the ladder.
const CALL_ID: usize = 12;

pub(super) async fn trace(session: &Session, peers: &[String], call: Option<&str>, whole: bool) -> Result<(), Failure> {
    let peer = peers.iter().map(|peer| ("ip", peer.as_str()));
    let pairs: Vec<(&str, &str)> = peer.chain(call.map(|call| ("call", call))).collect();
    let mut stream = session.client.stream(&format!("/api/trace{}", query(&pairs))).await?;
    if !session.json {
        let whose = if peers.is_empty() { String::new() } else { format!(" of {}", peers.join(", ")) };
        let call = call.map(|call| format!(" of the call {call}")).unwrap_or_default();
        eprintln!("pbx: messages{whose}{call} as they come (→) and go (←), times in UTC, until Ctrl-C");
    }
    while let Some((name, data)) = stream.next().await? {
        show(session, whole, &name, data)?;
    }
    Err(Failure::NoDaemon("the daemon ended".to_owned()))
}

fn show(session: &Session, whole: bool, name: &str, data: Value) -> Result<(), Failure> {
    if session.json {
        say(data);
        return Ok(());
    }
    if name == "lost" {
        say(format!("… {} messages were not shown", number(data["lost"].as_u64().unwrap_or(0))));
        return Ok(());
    }
    let view: MessageView = typed(data)?;
    say(rung(&view));
    if whole {
        view.message.iter().flat_map(|message| indented(message)).for_each(say);
    }
    Ok(())
}

/// One line: when, with whom, which way, what, in which transaction and dialog, from whom.
fn rung(view: &MessageView) -> String {
    let arrow = match view.direction {
        Direction::Received => "→",
        Direction::Sent => "←",
    };
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let line = format!("{}  {} {:<21} {arrow} {:<40}", clock(view.time), view.protocol, view.remote, what(view));
    if view.kind != Content::Sip || view.problem.is_some() {
        return line.trim_end().to_owned();
    }
    let call_id = view.call_id.as_deref().map(|id| shortened(id.split('@').next().unwrap_or(id), CALL_ID));
    format!(
        "{line}  {:<12}  {:<13}  {}",
        dash(view.cseq.clone().map(|cseq| shortened(&cseq, WHAT))),
        dash(call_id),
        dash(view.from.as_deref().map(user))
    )
}

fn what(view: &MessageView) -> String {
    let name = match view.kind {
        Content::Sip => {
            let line = view.start_line.as_deref().unwrap_or_default();
            let line = line.strip_prefix("SIP/2.0 ").or_else(|| line.strip_suffix(" SIP/2.0")).unwrap_or(line);
            let line = shortened(line, WHAT);
            return match &view.problem {
                Some(problem) => format!("{line} ({problem}, {} bytes)", number(view.bytes as u64)),
                None => line,
            };
        }
        Content::Stun => "STUN",
        Content::Zrtp => "ZRTP",
        Content::Dtls => "DTLS",
        Content::TurnChannel => "TURN",
        Content::Rtp => "RTP",
        Content::KeepAlive => "keep-alive",
        Content::Empty => "nothing",
        Content::Unknown => "no SIP",
    };
    format!("({name}, {} bytes)", number(view.bytes as u64))
}

/// The user in a URI, or the URI.
fn user(uri: &str) -> String {
    let user = Uri::parse(uri.as_bytes()).ok().and_then(|uri| uri.user_text());
    shortened(&user.map_or_else(|| uri.into(), |user| String::from_utf8_lossy(&user).into_owned()), WHAT)
}

/// 06:51:41.543
fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    let time = text.split('T').nth(1).unwrap_or(&text).trim_end_matches('Z');
    if time.contains('.') { time.to_owned() } else { format!("{time}.000") }
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Line by line: an empty one at the end sets it off from the next rung.
fn indented(message: &str) -> impl Iterator<Item = String> + '_ {
    let lines = message.trim_end_matches(['\r', '\n']).split('\n');
    let line = |line: &str| format!("    {}", line.strip_suffix('\r').unwrap_or(line)).trim_end().to_owned();
    lines.map(line).chain([String::new()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::plain;

    fn view(start_line: &str) -> MessageView {
        MessageView {
            time: "2026-11-23T06:51:41.050Z".parse().unwrap(),
            direction: Direction::Received,
            protocol: pbx_core::transport::Protocol::Udp,
            local: "192.0.2.5:5060".parse().unwrap(),
            remote: "198.51.100.7:5062".parse().unwrap(),
            kind: Content::Sip,
            bytes: 1200,
            problem: None,
            start_line: Some(start_line.into()),
            method: Some("REGISTER".into()),
            status: None,
            call_id: Some("a84b4c76e66710@phone".into()),
            cseq: Some("7 REGISTER".into()),
            from: Some("sip:10%31@example.com;x=1".into()),
            to: None,
            message: None,
        }
    }

    #[test]
    fn a_rung_says_who_what_and_in_which_dialog() {
        assert_eq!(
            rung(&view("REGISTER sip:example.com SIP/2.0")),
            "06:51:41.050  UDP 198.51.100.7:5062     → REGISTER sip:example.com                  7 REGISTER    a84b4c76e667…  101"
        );
        let answer = MessageView {
            direction: Direction::Sent,
            time: "2026-11-23T06:51:42Z".parse().unwrap(),
            from: None,
            call_id: None,
            ..view("SIP/2.0 401 Unauthorized")
        };
        assert_eq!(
            rung(&answer),
            "06:51:42.000  UDP 198.51.100.7:5062     ← 401 Unauthorized                          7 REGISTER    -              -"
        );
    }

    #[test]
    fn what_is_no_message_of_sip_is_one_short_line() {
        let stun = MessageView { kind: Content::Stun, bytes: 20, start_line: None, ..view("") };
        assert!(rung(&stun).ends_with("→ (STUN, 20 bytes)"), "{}", rung(&stun));
        let broken = MessageView { problem: Some("no start line of SIP".into()), ..view("GET / HTTP/1.1") };
        assert!(rung(&broken).ends_with("→ GET / HTTP/1.1 (no start line of SIP, 1 200 bytes)"), "{}", rung(&broken));
        let long = view(&format!("INVITE sip:{} SIP/2.0", "é".repeat(9000)));
        assert!(rung(&long).chars().count() < 160 && rung(&long).contains("é…"));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left_of_what_a_stranger_wrote() {
        let evil = "\x1b]0;owned\x07\u{9b}2J\r\u{202e}";
        let hostile = MessageView {
            call_id: Some(evil.into()),
            cseq: Some(evil.into()),
            from: Some(evil.into()),
            ..view(&format!("INVITE {evil} SIP/2.0"))
        };
        let shown = plain(&rung(&hostile)).into_owned();
        assert!(!shown.contains(|one: char| one.is_control() || one == '\u{202e}'), "{shown:?}");
        assert!(shown.contains(r"INVITE \u001b]0;owned\u0007\u009b2J\u000d\u202e"), "{shown}");
        let json = plain(&serde_json::to_string(&hostile).unwrap()).into_owned();
        assert!(!json.contains(|one: char| one.is_control() || one == '\u{202e}'), "{json:?}");
        assert_eq!(serde_json::from_str::<MessageView>(&json).unwrap(), hostile);
    }

    #[test]
    fn a_whole_message_is_indented_and_its_line_ends_are_not_shown() {
        let lines: Vec<String> = indented("BYE sip:a SIP/2.0\r\nX: a\rb\r\n\r\nbody\r\n").collect();
        assert_eq!(lines, ["    BYE sip:a SIP/2.0", "    X: a\rb", "", "    body", ""]);
        assert_eq!(plain(&lines[1]), r"    X: a\u000db");
    }
}
