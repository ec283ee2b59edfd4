use pbx_core::{call::LegKind, transport::Protocol};

use super::*;

const ID: &str = "00000000000000ab";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn record() -> CdrView {
    CdrView {
        id: ID.into(),
        tenant: Some("default".into()),
        caller_number: "101".into(),
        caller_name: Some("Alice".into()),
        dialled: "200".into(),
        callee_number: Some("102".into()),
        started_at: time("2026-11-23T06:51:41.050Z"),
        ringing_at: Some(time("2026-11-23T06:51:42Z")),
        answered_at: Some(time("2026-11-23T06:51:44Z")),
        ended_at: Some(time("2026-11-23T06:52:45Z")),
        billed_seconds: 61,
        disposition: Disposition::Answered,
        status: Some(200),
        cause: Some(16),
        ended_by: Some(EndedBy::Callee),
        why: None,
        codec: Some("PCMA/8000".into()),
    }
}

fn leg() -> CdrLegView {
    CdrLegView {
        kind: LegKind::Forward,
        number: "102".into(),
        remote: "198.51.100.7:5060".into(),
        started_at: time("2026-11-23T06:51:41.050Z"),
        ringing_at: Some(time("2026-11-23T06:51:42Z")),
        answered_at: Some(time("2026-11-23T06:51:44Z")),
        ended_at: None,
        status: Some(200),
        codec: Some("PCMA/8000".into()),
        media: Some(LegMedia {
            packets: 3050,
            bytes: 524_600,
            lost: 2,
            jitter_us: 125,
            refused: 0,
            sent: 3049,
            sent_bytes: 0,
        }),
    }
}

#[test]
fn a_record_is_shown_in_words() {
    let busy = CdrLegView { answered_at: None, status: Some(486), codec: None, media: None, ..leg() };
    let detail = CdrDetail { record: record(), legs: vec![leg(), busy] };
    assert_eq!(
        cdr_lines(&detail),
        [
            "call 00000000000000ab: answered",
            "  from       101 Alice",
            "  to         200 → 102",
            "  tenant     default",
            "  began      2026-11-23 06:51:41",
            "  rang       after 1s",
            "  answered   after 3s",
            "  ended      2026-11-23 06:52:45, by the callee, talked 1m 1s",
            "  code       SIP 200, Q.850 cause 16",
            "  codec      PCMA/8000",
            "  phone      forward 102 at 198.51.100.7:5060, rang after 1s, answered after 3s, PCMA/8000",
            "             3 050 packets, 512.3 KiB, 2 lost (0.1 %), jitter 0.1 ms; 3 049 sent to it",
            "  phone      forward 102 at 198.51.100.7:5060, rang after 1s, said 486",
        ]
    );
    let failed = CdrView {
        ringing_at: None,
        answered_at: None,
        billed_seconds: 0,
        disposition: Disposition::Failed,
        callee_number: None,
        why: Some("no media port is free".into()),
        status: Some(503),
        ..record()
    };
    let lines = cdr_lines(&CdrDetail { record: failed, legs: Vec::new() });
    assert!(lines.contains(&"  why        no media port is free".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("talked -")), "{lines:?}");
}

#[test]
fn a_call_says_who_takes_part_and_what_flows() {
    let leg = CallLeg {
        kind: "caller".into(),
        number: "101".into(),
        state: "talking".into(),
        call_id: "a84b4c76e66710".into(),
        protocol: Protocol::Udp,
        remote: "198.51.100.7:5060".parse().unwrap(),
        media_port: Some(45_000),
        media_remote: Some("198.51.100.7:4000".parse().unwrap()),
        codec: Some("PCMA/8000".into()),
        packets: 50,
        bytes: 8600,
        lost: 50,
        jitter_us: 1250,
        refused: 7,
    };
    assert_eq!(leg_line(&leg), "caller 101, talking, over UDP from 198.51.100.7:5060, Call-ID a84b4c76e66710");
    assert_eq!(
        media_line(&leg),
        "PCMA/8000 at port 45000, from 198.51.100.7:4000: 50 packets, 8.4 KiB, 50 lost (50.0 %), jitter 1.2 ms, 7 refused"
    );
    assert_eq!(media_line(&CallLeg { media_port: None, ..leg.clone() }), "no media");
    let silent = CallLeg { media_remote: None, codec: None, ..leg };
    assert!(
        media_line(&silent).starts_with("no codec yet at port 45000, nothing came yet: "),
        "{}",
        media_line(&silent)
    );
}

#[test]
fn conditions_are_those_of_a_filter_and_a_quote_ends_nothing() {
    let which = WhichCdrs {
        from: Some("2026-11-23".into()),
        to: Some("2026-11-23T12:00:00Z".into()),
        number: Some("1' or '1".into()),
        disposition: clap::ValueEnum::from_str("no-answer", false).ok(),
    };
    assert_eq!(
        conditions(&which).unwrap(),
        [
            "started_at ge 2026-11-23T00:00:00Z",
            "started_at lt 2026-11-23T12:00:00Z",
            "caller_number eq '1'' or ''1' or dialled eq '1'' or ''1' or callee_number eq '1'' or ''1'",
            "disposition eq 'no_answer'",
        ]
    );
    let wrong = WhichCdrs { from: Some("soon".into()), to: None, number: None, disposition: None };
    assert_eq!(conditions(&wrong).unwrap_err().code(), 2);
}
