//! Requests that came in (RFC 3261 §17.2, RFC 6026 §7.1).

use super::*;

#[test]
fn an_invite_is_answered_100_after_200_ms_unless_its_user_was_faster() {
    let mut scene = Scene::udp();
    scene.begin("INVITE");
    scene.until(60_000).expect(&[(200, "100")]);
    scene.expect_going_on();

    let mut scene = Scene::udp();
    let id = scene.begin("INVITE");
    scene.until(199);
    assert_eq!(scene.respond(id, 180), Ok(()));
    scene.until(60_000).expect(&[(199, "180")]);
}

#[test]
fn the_100_is_only_made_for_a_new_invite() {
    let mut scene = Scene::udp();
    let cases = [("INVITE", "b", true), ("INVITE", "b", false), ("ACK", "c", false), ("OPTIONS", "d", false)];
    for (method, branch, expected) in cases {
        let mut made = false;
        let trying = || {
            made = true;
            bytes("100")
        };
        let _ = scene.layer.receive_request(server_key(method, branch), scene.flow, scene.now, trying);
        assert_eq!(made, expected, "{method} {branch}");
    }
}

#[test]
fn an_invite_that_comes_again_gets_the_latest_provisional_answer() {
    let mut scene = Scene::udp();
    let id = scene.begin("INVITE");
    scene.until(100);
    assert_eq!(scene.receive("INVITE"), Request::Absorbed);
    scene.until(1000).expect(&[(100, "100")]);
    scene.respond(id, 180).unwrap();
    scene.respond(id, 183).unwrap();
    scene.until(1500);
    assert_eq!(scene.receive("INVITE"), Request::Absorbed);
    scene.expect(&[(1000, "180"), (1000, "183"), (1500, "183")]);
}

#[test]
fn a_refused_invite_is_refused_again_until_timer_h_on_datagrams() {
    let mut scene = Scene::udp();
    let id = scene.begin("INVITE");
    scene.respond(id, 486).unwrap();
    scene.until(40_000);
    let resent = [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = resent.into_iter().map(|millis| (millis, "486")).collect();
    expected.push((32_000, "NotAcknowledged"));
    scene.expect(&expected);
    scene.expect_ended();
}

#[test]
fn a_refused_invite_is_refused_once_on_a_stream_and_waits_for_its_ack_all_the_same() {
    let mut scene = Scene::tcp();
    let id = scene.begin("INVITE");
    scene.respond(id, 486).unwrap();
    scene.until(31_999).expect_going_on();
    scene.until(32_000).expect(&[(0, "486"), (32_000, "NotAcknowledged")]);
    scene.expect_ended();
}

#[test]
fn an_ack_ends_the_repetitions_and_further_acks_and_invites_are_absorbed_for_t4() {
    let mut scene = Scene::udp();
    let id = scene.begin("INVITE");
    scene.respond(id, 603).unwrap();
    scene.until(600);
    assert_eq!(scene.receive("ACK"), Request::Acknowledged(id));
    scene.expect(&[(0, "603"), (500, "603")]);
    scene.until(5000);
    assert_eq!((scene.receive("ACK"), scene.receive("INVITE")), (Request::Absorbed, Request::Absorbed));
    assert_eq!(scene.respond(id, 486), Err(RespondError::Answered));
    scene.expect_silent_end_at(5600);
    assert_eq!(scene.respond(id, 486), Err(RespondError::Ended));
}

#[test]
fn an_ack_on_a_stream_ends_the_transaction_at_once() {
    let mut scene = Scene::tcp();
    let id = scene.begin("INVITE");
    scene.respond(id, 300).unwrap();
    assert_eq!(scene.receive("ACK"), Request::Acknowledged(id));
    scene.expect_ended();
}

#[test]
fn an_invite_that_comes_again_after_it_was_refused_gets_the_refusal() {
    for mut scene in [Scene::udp(), Scene::tcp()] {
        let id = scene.begin("INVITE");
        scene.respond(id, 404).unwrap();
        scene.until(300);
        assert_eq!(scene.receive("INVITE"), Request::Absorbed);
        scene.expect(&[(0, "404"), (300, "404")]);
    }
}

#[test]
fn an_accepted_invite_is_absorbed_for_timer_l_and_only_the_dialog_repeats_its_answer() {
    for mut scene in [Scene::udp(), Scene::tcp()] {
        let id = scene.begin("INVITE");
        scene.respond(id, 200).unwrap();
        scene.until(10_000);
        assert_eq!(scene.receive("INVITE"), Request::Absorbed);
        scene.expect(&[(0, "200")]);
        scene.respond(id, 200).unwrap();
        scene.respond(id, 299).unwrap();
        assert_eq!(scene.respond(id, 180), Err(RespondError::Answered));
        assert_eq!(scene.respond(id, 500), Err(RespondError::Answered));
        scene.expect(&[(10_000, "200"), (10_000, "299")]);
        assert_eq!(scene.receive("ACK"), Request::Ack(Some(id)));
        assert_eq!(scene.layer.usage().bytes, Usage::ENTRY);
        scene.expect_silent_end_at(32_000);
    }
}

#[test]
fn an_ack_of_no_transaction_is_the_dialogs_and_makes_none() {
    let mut scene = Scene::udp();
    assert_eq!(scene.receive("ACK"), Request::Ack(None));
    scene.expect_ended();
}

#[test]
fn an_ack_before_the_final_answer_is_absorbed() {
    let mut scene = Scene::udp();
    let id = scene.begin("INVITE");
    assert_eq!(scene.receive("ACK"), Request::Absorbed);
    assert_eq!(scene.respond(id, 486), Ok(()));
}

#[test]
fn a_cancelled_invite_whose_487_is_never_acknowledged_ends_with_timer_h() {
    let mut scene = Scene::udp();
    let invite = scene.begin("INVITE");
    scene.respond(invite, 180).unwrap();
    scene.until(1000);
    let Request::Cancel { id, invite: Some(found) } = scene.receive("CANCEL") else { panic!("no CANCEL") };
    assert_eq!(found, invite);
    scene.respond(id, 200).unwrap();
    scene.respond(found, 487).unwrap();
    scene.seen();
    scene.until(1200);
    // Both come again: the CANCEL gets its 200, the INVITE its 487, and neither is new.
    assert_eq!((scene.receive("CANCEL"), scene.receive("INVITE")), (Request::Absorbed, Request::Absorbed));
    scene.expect(&[(1200, "200"), (1200, "487")]);
    scene.until(33_000);
    assert_eq!(scene.seen().last(), Some(&(33_000, "NotAcknowledged".to_owned())));
    scene.expect_ended();
}

#[test]
fn an_invite_that_comes_again_after_cancel_and_ack_makes_no_new_call() {
    let mut scene = Scene::udp();
    let invite = scene.begin("INVITE");
    let Request::Cancel { id, invite: Some(_) } = scene.receive("CANCEL") else { panic!("no CANCEL") };
    scene.respond(id, 200).unwrap();
    scene.respond(invite, 487).unwrap();
    assert_eq!(scene.receive("ACK"), Request::Acknowledged(invite));
    scene.until(4999);
    assert_eq!(scene.receive("INVITE"), Request::Absorbed);
}

#[test]
fn a_cancel_of_nothing_says_so_and_one_of_an_answered_invite_changes_nothing() {
    let mut scene = Scene::udp();
    let Request::Cancel { id, invite: None } = scene.receive("CANCEL") else { panic!("no CANCEL") };
    scene.respond(id, 481).unwrap();
    scene.until(32_000).expect_ended();

    let invite = scene.begin("INVITE");
    scene.respond(invite, 200).unwrap();
    let Request::Cancel { id, invite: Some(found) } = scene.receive("CANCEL") else { panic!("no CANCEL") };
    assert_eq!(scene.respond(found, 487), Err(RespondError::Answered));
    assert_eq!(scene.respond(id, 200), Ok(()));
}

#[test]
fn a_cancel_does_not_find_other_requests() {
    let mut scene = Scene::udp();
    scene.begin("REGISTER");
    assert!(matches!(scene.receive("CANCEL"), Request::Cancel { invite: None, .. }));
}

#[test]
fn a_registration_is_answered_again_for_timer_j_on_datagrams() {
    let mut scene = Scene::udp();
    let id = scene.begin("REGISTER");
    assert_eq!(scene.receive("REGISTER"), Request::Absorbed);
    scene.until(10);
    scene.respond(id, 200).unwrap();
    assert_eq!(scene.respond(id, 500), Err(RespondError::Answered));
    scene.until(32_009);
    assert_eq!(scene.receive("REGISTER"), Request::Absorbed);
    scene.expect(&[(10, "200"), (32_009, "200")]);
    scene.expect_silent_end_at(32_010);
    scene.begin("REGISTER");
}

#[test]
fn a_registration_on_a_stream_ends_with_its_answer() {
    let mut scene = Scene::tcp();
    let id = scene.begin("REGISTER");
    scene.respond(id, 200).unwrap();
    scene.expect(&[(0, "200")]);
    scene.expect_ended();
}

#[test]
fn a_request_with_a_provisional_answer_gets_it_again() {
    let mut scene = Scene::udp();
    let id = scene.begin("MESSAGE");
    scene.respond(id, 100).unwrap();
    scene.until(700);
    assert_eq!(scene.receive("MESSAGE"), Request::Absorbed);
    scene.respond(id, 202).unwrap();
    scene.expect(&[(0, "100"), (700, "100"), (700, "202")]);
    scene.expect_silent_end_at(32_700);
}

#[test]
fn a_request_that_its_user_forgets_ends_when_its_sender_gives_up() {
    for mut scene in [Scene::udp(), Scene::tcp()] {
        let id = scene.begin("REGISTER");
        scene.until(100);
        scene.respond(id, 100).unwrap();
        scene.until(31_999).expect_going_on();
        scene.until(32_000).expect(&[(100, "100"), (32_000, "NotAnswered")]);
        scene.expect_ended();
        assert_eq!(scene.respond(id, 200), Err(RespondError::Ended));
    }
}

#[test]
fn what_is_no_status_code_is_not_sent() {
    let mut scene = Scene::udp();
    let id = scene.begin("INVITE");
    for code in [0, 99, 700, u16::MAX] {
        assert_eq!(scene.respond(id, code), Err(RespondError::Code(code)));
    }
    scene.expect(&[]);
}

#[test]
fn a_server_transaction_whose_answer_cannot_be_sent_goes_on_and_tells_it_once() {
    let mut scene = Scene::udp();
    let id = scene.begin("INVITE");
    scene.respond(id, 486).unwrap();
    scene.fail(Owner::Server(id));
    scene.fail(Owner::Server(id));
    scene.expect(&[(0, "486"), (0, "TransportFailed")]);
    assert_eq!(scene.receive("INVITE"), Request::Absorbed);
    assert_eq!(scene.receive("ACK"), Request::Acknowledged(id));
    scene.until(5000).expect_ended();
}
