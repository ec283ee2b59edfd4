//! Requests of ours (RFC 3261 §17.1, RFC 6026 §7.2) and CANCEL (RFC 3261 §9.1).

use super::*;

fn for_user(response: Response) -> bool {
    matches!(response, Response::New(_))
}

#[test]
fn an_invite_is_sent_again_at_doubling_intervals_until_timer_b_on_datagrams() {
    let mut scene = Scene::udp();
    scene.send("INVITE");
    scene.until(31_999).expect_going_on();
    scene.until(32_000);
    let mut expected: Vec<_> = [0, 500, 1500, 3500, 7500, 15_500, 31_500].map(|millis| (millis, "INVITE")).to_vec();
    expected.push((32_000, "TimedOut"));
    scene.expect(&expected);
    scene.expect_ended();
}

#[test]
fn on_a_stream_everything_is_sent_once_and_times_out_all_the_same() {
    for method in ["INVITE", "OPTIONS"] {
        let mut scene = Scene::tcp();
        scene.send(method);
        scene.until(31_999).expect_going_on();
        scene.until(32_000).expect(&[(0, method), (32_000, "TimedOut")]);
        scene.expect_ended();
    }
}

#[test]
fn a_provisional_answer_ends_the_repetitions_of_an_invite_and_every_timer() {
    let mut scene = Scene::udp();
    let id = scene.send("INVITE");
    scene.until(600);
    assert_eq!(scene.answer("INVITE", 100), Response::New(id));
    assert_eq!(scene.layer.next_timeout(), None);
    scene.until(600_000);
    assert_eq!(scene.answer("INVITE", 180), Response::New(id));
    scene.expect(&[(0, "INVITE"), (500, "INVITE")]);
}

#[test]
fn a_refused_invite_is_acknowledged_as_often_as_the_refusal_comes_for_timer_d() {
    for provisional in [false, true] {
        let mut scene = Scene::udp();
        scene.send("INVITE");
        if provisional {
            assert!(for_user(scene.answer("INVITE", 180)));
        }
        scene.until(100);
        assert!(for_user(scene.answer("INVITE", 486)));
        scene.until(32_099);
        assert_eq!(scene.answer("INVITE", 486), Response::Absorbed);
        assert_eq!(scene.answer("INVITE", 180), Response::Absorbed);
        assert_eq!(scene.answer("INVITE", 200), Response::Absorbed);
        scene.expect(&[(0, "INVITE"), (100, "ACK INVITE 486"), (32_099, "ACK INVITE 486")]);
        scene.expect_silent_end_at(32_100);
        assert_eq!(scene.answer("INVITE", 486), Response::Unmatched);
        scene.expect(&[]);
    }
}

#[test]
fn a_refused_invite_is_acknowledged_and_over_on_a_stream() {
    let mut scene = Scene::tcp();
    scene.send("INVITE");
    assert!(for_user(scene.answer("INVITE", 699)));
    scene.expect(&[(0, "INVITE"), (0, "ACK INVITE 699")]);
    scene.expect_ended();
}

#[test]
fn an_accepted_invite_gives_the_user_every_2xx_and_nothing_else_for_timer_m() {
    for mut scene in [Scene::udp(), Scene::tcp()] {
        scene.send("INVITE");
        scene.until(100);
        assert!(for_user(scene.answer("INVITE", 200)));
        scene.until(32_099);
        assert!(for_user(scene.answer("INVITE", 200)));
        assert!(for_user(scene.answer("INVITE", 202)));
        assert_eq!(scene.answer("INVITE", 180), Response::Absorbed);
        assert_eq!(scene.answer("INVITE", 486), Response::Absorbed);
        scene.expect(&[(0, "INVITE")]);
        assert_eq!(scene.layer.usage().bytes, Usage::ENTRY);
        scene.expect_silent_end_at(32_100);
        assert_eq!(scene.answer("INVITE", 200), Response::Unmatched);
    }
}

#[test]
fn a_request_is_sent_again_at_intervals_up_to_t2_until_timer_f() {
    let mut scene = Scene::udp();
    scene.send("OPTIONS");
    scene.until(31_999).expect_going_on();
    scene.until(32_000);
    let sent = [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = sent.map(|millis| (millis, "OPTIONS")).to_vec();
    expected.push((32_000, "TimedOut"));
    scene.expect(&expected);
    scene.expect_ended();
}

#[test]
fn after_a_provisional_answer_a_request_is_sent_again_every_t2_and_timer_f_stays() {
    let mut scene = Scene::udp();
    let id = scene.send("OPTIONS");
    scene.until(600);
    assert_eq!(scene.answer("OPTIONS", 100), Response::New(id));
    assert_eq!(scene.answer("OPTIONS", 182), Response::New(id));
    scene.until(40_000);
    // The one that was waiting keeps its time.
    let sent = [0, 500, 1500, 5500, 9500, 13_500, 17_500, 21_500, 25_500, 29_500];
    let mut expected: Vec<_> = sent.map(|millis| (millis, "OPTIONS")).to_vec();
    expected.push((32_000, "TimedOut"));
    scene.expect(&expected);
    scene.expect_ended();
}

#[test]
fn the_final_answer_ends_a_request_after_t4_on_datagrams_and_at_once_on_a_stream() {
    for provisional in [false, true] {
        for (mut scene, ends) in [(Scene::udp(), Some(5100)), (Scene::tcp(), None)] {
            scene.send("OPTIONS");
            if provisional {
                assert!(for_user(scene.answer("OPTIONS", 100)));
            }
            scene.until(100);
            assert!(for_user(scene.answer("OPTIONS", 404)));
            scene.expect(&[(0, "OPTIONS")]);
            let Some(millis) = ends else {
                scene.expect_ended();
                continue;
            };
            assert_eq!(scene.answer("OPTIONS", 404), Response::Absorbed);
            assert_eq!(scene.answer("OPTIONS", 100), Response::Absorbed);
            scene.expect_silent_end_at(millis);
        }
    }
}

#[test]
fn a_response_of_another_method_or_branch_or_with_no_code_matches_nothing() {
    let mut scene = Scene::udp();
    scene.send("OPTIONS");
    assert_eq!(scene.answer("MESSAGE", 200), Response::Unmatched);
    assert_eq!(scene.answer("INVITE", 200), Response::Unmatched);
    assert_eq!(scene.answer("OPTIONS", 99), Response::Unmatched);
    assert_eq!(scene.answer("OPTIONS", 700), Response::Unmatched);
    let key = client_key("OPTIONS", "other");
    assert_eq!(scene.layer.receive_response(key, 200, scene.now, bytes_of), Response::Unmatched);
    scene.expect_going_on();
}

fn bytes_of(request: &[u8]) -> Bytes {
    request.into()
}

#[test]
fn a_cancel_waits_for_the_first_answer() {
    let mut scene = Scene::udp();
    let id = scene.send("INVITE");
    assert_eq!((scene.cancel(id), scene.cancel(id)), (Ok(()), Err(CancelError::Cancelled)));
    scene.until(400).expect(&[(0, "INVITE")]);
    assert_eq!(scene.answer("INVITE", 100), Response::New(id));
    scene.expect(&[(400, "CANCEL")]);
    assert_eq!(scene.cancel(id), Err(CancelError::Cancelled));
    assert_eq!(scene.answer("CANCEL", 200), Response::Absorbed);
    assert_eq!(scene.answer("INVITE", 487), Response::New(id));
    scene.expect(&[(400, "ACK INVITE 487")]);
    assert_eq!(scene.cancel(id), Err(CancelError::NotPending));
    scene.until(32_400).expect_ended();
    scene.expect(&[]);
}

#[test]
fn a_cancel_that_waits_is_not_sent_when_the_final_answer_comes_first_or_none() {
    let mut scene = Scene::udp();
    let id = scene.send("INVITE");
    scene.cancel(id).unwrap();
    assert_eq!(scene.answer("INVITE", 200), Response::New(id));
    scene.until(60_000).expect(&[(0, "INVITE")]);

    let mut scene = Scene::tcp();
    let id = scene.send("INVITE");
    scene.cancel(id).unwrap();
    scene.until(60_000).expect(&[(0, "INVITE"), (32_000, "TimedOut")]);
    scene.expect_ended();
}

#[test]
fn a_cancelled_invite_that_nobody_answers_ends_after_64_t1_and_its_cancel_is_silent() {
    let mut scene = Scene::udp();
    let id = scene.send("INVITE");
    assert_eq!(scene.answer("INVITE", 180), Response::New(id));
    scene.until(1000);
    scene.cancel(id).unwrap();
    scene.until(32_999);
    assert_eq!(scene.layer.usage().transactions, 2);
    scene.until(33_000).expect_ended();
    let seen = scene.seen();
    assert_eq!(seen.iter().filter(|(_, what)| what == "CANCEL").count(), 11);
    assert_eq!(seen.iter().filter(|(_, what)| what == "TimedOut").collect::<Vec<_>>(), [&seen[seen.len() - 1]]);
}

#[test]
fn a_call_that_is_answered_while_it_is_cancelled_is_answered() {
    let mut scene = Scene::udp();
    let id = scene.send("INVITE");
    assert_eq!(scene.answer("INVITE", 180), Response::New(id));
    scene.cancel(id).unwrap();
    assert_eq!(scene.answer("INVITE", 200), Response::New(id));
    assert_eq!(scene.answer("CANCEL", 481), Response::Absorbed);
    scene.until(60_000).expect(&[(0, "INVITE"), (0, "CANCEL")]);
    scene.expect_ended();
}

#[test]
fn an_invite_that_is_given_up_ends_64_t1_later_and_its_answer_is_acknowledged_until_then() {
    for (late, end) in [(false, 33_000), (true, 34_000)] {
        for answers in [false, true] {
            let mut scene = Scene::tcp();
            let id = scene.send("INVITE");
            if !late {
                assert_eq!(scene.answer("INVITE", 100), Response::New(id));
            }
            scene.until(1000);
            scene.layer.give_up(id, scene.now);
            scene.until(2000);
            if late {
                assert_eq!(scene.answer("INVITE", 100), Response::New(id));
            }
            if answers {
                assert_eq!(scene.answer("INVITE", 487), Response::New(id));
                scene.expect(&[(0, "INVITE"), (2000, "ACK INVITE 487")]);
            } else {
                scene.until(end - 1).expect_going_on();
                scene.until(end).expect(&[(0, "INVITE"), (end, "TimedOut")]);
            }
            scene.expect_ended();
        }
    }
}

#[test]
fn only_an_invite_can_be_cancelled() {
    let mut scene = Scene::udp();
    let id = scene.send("OPTIONS");
    assert_eq!(scene.cancel(id), Err(CancelError::NotPending));
    scene.until(32_000);
    assert_eq!(scene.cancel(id), Err(CancelError::NotPending));
}

#[test]
fn a_request_that_cannot_be_sent_ends_at_once() {
    for (method, code) in [("INVITE", None), ("OPTIONS", None), ("INVITE", Some(180)), ("OPTIONS", Some(100))] {
        let mut scene = Scene::udp();
        let id = scene.send(method);
        if let Some(code) = code {
            let _ = scene.answer(method, code);
        }
        scene.fail(Owner::Client(id));
        scene.expect(&[(0, method), (0, "TransportFailed")]);
        scene.expect_ended();
    }
}

#[test]
fn a_failure_after_the_final_answer_is_no_second_outcome() {
    for (method, code, goes_on) in [("INVITE", 486, false), ("INVITE", 200, true), ("OPTIONS", 200, true)] {
        let mut scene = Scene::udp();
        let id = scene.send(method);
        let _ = scene.answer(method, code);
        scene.seen();
        scene.fail(Owner::Client(id));
        scene.expect(&[]);
        assert_eq!(scene.layer.usage().transactions, usize::from(goes_on));
    }
}
