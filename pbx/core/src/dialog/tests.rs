use std::time::Duration;

use super::{repeat::NotConfirmed, *};
use crate::{
    moment::Moment,
    transaction::{Bytes, T1},
    wire::sip::Origin,
};

const INVITE: &str = "INVITE sip:101@one.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1\r\n\
    Record-Route: <sip:near.example;lr>\r\n\
    Record-Route: <sip:middle.example;lr>, <sip:far.example;lr>\r\n\
    Max-Forwards: 70\r\n\
    From: \"A\" <sip:100@one.example>;tag=theirs\r\n\
    To: <sip:101@one.example>\r\n\
    Call-ID: call\r\n\
    CSeq: 7 INVITE\r\n\
    Contact: <sip:100@198.51.100.1:5070>\r\n\
    Content-Length: 0\r\n\r\n";

const OK: &str = "SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2\r\n\
    Record-Route: <sip:near.example;lr>, <sip:far.example;lr>\r\n\
    From: <sip:100@one.example>;tag=ours\r\n\
    To: <sip:101@one.example>;tag=theirs\r\n\
    Call-ID: call\r\n\
    CSeq: 1 INVITE\r\n\
    Contact: <sip:101@203.0.113.2:5062>\r\n\
    Content-Length: 0\r\n\r\n";

fn message(text: &str) -> Message<Vec<u8>> {
    Message::parse(text.as_bytes().to_vec(), Origin::Stream).expect("a message")
}

fn of_request(text: &str) -> Result<Dialog, NoDialog> {
    Dialog::of_request(&message(text), b"ours")
}

fn begun() -> Dialog {
    Dialog::begin(b"call", b"<sip:100@one.example>;tag=ours", b"<sip:101@one.example>", b"sip:101@x", b"<sip:path;lr>")
}

/// A BYE of the dialog, as lines.
fn bye(dialog: &mut Dialog) -> Vec<String> {
    let mut out = Vec::new();
    let number = dialog.next_cseq();
    dialog.request(&mut out, Method::Bye, number, 70, ("UDP", "192.0.2.1:5060", "z9hG4bK3")).finish();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|one| one == line), "no {line} in {lines:#?}");
}

#[test]
fn requests_to_whoever_called_go_back_the_way_that_its_invite_came() {
    let mut dialog = of_request(INVITE).unwrap();
    let lines = bye(&mut dialog);
    has(&lines, "BYE sip:100@198.51.100.1:5070 SIP/2.0");
    has(&lines, "Route: <sip:near.example;lr>, <sip:middle.example;lr>, <sip:far.example;lr>");
    has(&lines, "From: <sip:101@one.example>;tag=ours");
    has(&lines, "To: \"A\" <sip:100@one.example>;tag=theirs");
    has(&lines, "Call-ID: call");
    has(&lines, "CSeq: 1 BYE");
    has(&bye(&mut dialog), "CSeq: 2 BYE");
    assert_eq!((dialog.call_id(), dialog.remote_tag()), (&b"call"[..], Some(&b"theirs"[..])));
}

#[test]
fn requests_to_whom_we_called_go_the_reverse_way_of_its_answer() {
    let mut dialog = begun();
    assert_eq!(dialog.next_cseq(), 1);
    dialog.answered(&message(OK)).unwrap();
    let lines = bye(&mut dialog);
    has(&lines, "BYE sip:101@203.0.113.2:5062 SIP/2.0");
    has(&lines, "Route: <sip:far.example;lr>, <sip:near.example;lr>");
    has(&lines, "To: <sip:101@one.example>;tag=theirs");
    has(&lines, "CSeq: 2 BYE");
    // Without Record-Route in the answer the path of the registration stays.
    let mut dialog = begun();
    dialog.answered(&message(&OK.replace("Record-Route", "X-Route"))).unwrap();
    has(&bye(&mut dialog), "Route: <sip:path;lr>");
    // And without a tag nothing is known of the other side.
    let mut dialog = begun();
    dialog.answered(&message(&OK.replace(";tag=theirs", ""))).unwrap();
    assert_eq!(dialog.remote_tag(), None);
    has(&bye(&mut dialog), "BYE sip:101@x SIP/2.0");
}

#[test]
fn a_request_belongs_to_the_dialog_of_its_call_id_and_its_tag() {
    let dialog = of_request(INVITE).unwrap();
    assert!(dialog.owns(&message(INVITE)));
    for (from, to) in [("Call-ID: call", "Call-ID: other"), (";tag=theirs", ";tag=other"), (";tag=theirs", "")] {
        assert!(!dialog.owns(&message(&INVITE.replace(from, to))), "{to}");
    }
    // One of a phone that knows no tags (RFC 2543).
    let text = INVITE.replace(";tag=theirs", "");
    assert!(of_request(&text).unwrap().owns(&message(&text)));
}

#[test]
fn requests_come_in_order_and_gaps_are_no_matter() {
    let mut dialog = of_request(INVITE).unwrap();
    for (cseq, order) in [(7, Order::Old), (8, Order::Next), (8, Order::Old), (100, Order::Next), (9, Order::Old)] {
        assert_eq!(dialog.receive(cseq), order, "{cseq}");
    }
    // Whom we called may begin with any number.
    assert_eq!((begun().receive(0), begun().receive(u32::MAX)), (Order::Next, Order::Next));
}

#[test]
fn a_target_is_refreshed_by_what_has_a_usable_contact_only() {
    let mut dialog = of_request(INVITE).unwrap();
    dialog.refresh_target(&message(&INVITE.replace("198.51.100.1:5070", "198.51.100.1:5099")));
    has(&bye(&mut dialog), "BYE sip:100@198.51.100.1:5099 SIP/2.0");
    for contact in ["Contact: *", "Contact: <tel:100>", "X-Contact: <sip:a>", "Contact: <sip:"] {
        dialog.refresh_target(&message(&INVITE.replace("Contact: <sip:100@198.51.100.1:5070>", contact)));
        has(&bye(&mut dialog), "BYE sip:100@198.51.100.1:5099 SIP/2.0");
    }
}

#[test]
fn what_cannot_be_kept_or_used_makes_no_dialog() {
    let with = |from: &str, to: &str| of_request(&INVITE.replace(from, to)).map(|_| ());
    let contact = "Contact: <sip:100@198.51.100.1:5070>";
    for one in ["Contact: *", "Contact: <tel:100>", "X-Contact: <sip:a>"] {
        assert_eq!(with(contact, one), Err(NoDialog::Contact), "{one}");
    }
    let long = "x".repeat(3000);
    for (from, to) in [
        ("Call-ID: call", format!("Call-ID: {long}")),
        ("<sip:100@one.example>", format!("<sip:{long}@one.example>")),
        ("<sip:101@one.example>", format!("<sip:{long}@one.example>")),
        (contact, format!("Contact: <sip:{long}@198.51.100.1>")),
        ("<sip:near.example;lr>", format!("<sip:{long};lr>")),
        ("<sip:near.example;lr>", vec!["<sip:p;lr>"; 15].join(", ")),
    ] {
        assert_eq!(with(from, &to), Err(NoDialog::TooLong), "{to}");
    }
    assert_eq!(with("<sip:near.example;lr>", &vec!["<sip:p;lr>"; 14].join(", ")), Ok(()));
    // An answer without a Contact can be ended, by its tag, and nothing else.
    let mut dialog = begun();
    let text = OK.replace("Contact", "X-Contact");
    assert_eq!(dialog.answered(&message(&text)), Err(NoDialog::Contact));
    assert_eq!(dialog.remote_tag(), Some(&b"theirs"[..]));
}

#[test]
fn a_folded_header_is_kept_on_one_line() {
    let mut dialog = of_request(&INVITE.replace("From: \"A\" ", "From: \"A\"\r\n ")).unwrap();
    has(&bye(&mut dialog), "To: \"A\"   <sip:100@one.example>;tag=theirs");
}

/// When an answer is sent again after it was sent first, in T1.
fn repeats(mut repeat: Repeat, begin: Moment) -> Vec<u32> {
    let mut times = Vec::new();
    loop {
        let now = repeat.at();
        match repeat.due(now) {
            Ok(Some(bytes)) => {
                assert_eq!(&bytes[..], b"x");
                times.push((now.since(begin).as_millis() / T1.as_millis()) as u32);
            }
            Ok(None) => panic!("nothing was due"),
            Err(NotConfirmed) => {
                assert_eq!(now.since(begin), T1 * 64);
                return times;
            }
        }
    }
}

#[test]
fn a_success_comes_again_up_to_every_t2_and_a_provisional_answer_ever_more_seldom_until_64_t1() {
    let now = Moment::from_micros(7);
    let bytes = || Bytes::from(&b"x"[..]);
    assert_eq!(repeats(Repeat::success(1, bytes(), now), now), [1, 3, 7, 15, 23, 31, 39, 47, 55, 63]);
    assert_eq!(repeats(Repeat::provisional(1, bytes(), now), now), [1, 3, 7, 15, 31, 63]);
    let mut early = Repeat::success(1, bytes(), now);
    assert_eq!(early.due(now + Duration::from_millis(499)), Ok(None));
}
