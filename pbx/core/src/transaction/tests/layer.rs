//! Limits, streams that end, and keys that meet.

use super::*;

fn request(layer: &mut Layer, method: &str, branch: &str) -> Request {
    layer.receive_request(server_key(method, branch), flow(Protocol::Udp), Moment::ZERO, || bytes("100"))
}

fn layer(transactions: usize, bytes: usize) -> Layer {
    Layer::new(Limits { transactions, bytes })
}

fn send(layer: &mut Layer, method: &str, branch: &str, flow: Flow) -> Result<ClientId, SendError> {
    layer.send_request(client_key(method, branch), flow, bytes(method), Moment::ZERO)
}

#[test]
fn at_the_limit_nothing_new_begins_and_what_goes_on_goes_on() {
    let mut layer = layer(2, 1 << 20);
    let Request::New(invite) = request(&mut layer, "INVITE", "1") else { panic!("not new") };
    let Request::New(register) = request(&mut layer, "REGISTER", "2") else { panic!("not new") };
    assert_eq!(request(&mut layer, "REGISTER", "3"), Request::Full);
    assert_eq!(request(&mut layer, "CANCEL", "3"), Request::Full);
    assert_eq!(send(&mut layer, "OPTIONS", "3", flow(Protocol::Udp)), Err(SendError::Full));
    assert_eq!(request(&mut layer, "REGISTER", "2"), Request::Absorbed);
    assert_eq!(layer.respond(register, 200, bytes("200"), Moment::ZERO), Ok(()));
    assert_eq!(layer.respond(invite, 486, bytes("486"), Moment::ZERO), Ok(()));
    assert_eq!(request(&mut layer, "ACK", "1"), Request::Acknowledged(invite));
    assert_eq!(layer.usage().transactions, 2);
}

#[test]
fn at_the_limit_a_cancel_still_ends_its_invite() {
    let mut layer = layer(1, 1 << 20);
    let Request::New(invite) = request(&mut layer, "INVITE", "1") else { panic!("not new") };
    assert!(matches!(request(&mut layer, "CANCEL", "1"), Request::Cancel { invite: Some(id), .. } if id == invite));
    assert_eq!(layer.usage().transactions, 2);
}

#[test]
fn the_bytes_that_are_kept_have_a_limit_too() {
    let mut layer = layer(1000, 3 * Usage::ENTRY);
    let big: Bytes = vec![b'x'; Usage::ENTRY * 2].into();
    let Request::New(first) = request(&mut layer, "REGISTER", "1") else { panic!("not new") };
    let Request::New(second) = request(&mut layer, "REGISTER", "2") else { panic!("not new") };
    // There is no room to keep the answer: it is sent, and once only.
    assert_eq!(layer.respond(first, 200, big.clone(), Moment::ZERO), Ok(()));
    assert!(matches!(layer.poll(), Some(Output::Send { bytes, .. }) if bytes == big));
    assert_eq!((request(&mut layer, "REGISTER", "1"), layer.poll()), (Request::Absorbed, None));
    // A small one fits, and is sent again.
    assert_eq!(layer.respond(second, 200, bytes("200"), Moment::ZERO), Ok(()));
    assert_eq!(layer.usage(), Usage { transactions: 2, bytes: 2 * Usage::ENTRY + 3 });
    layer.poll();
    assert_eq!(request(&mut layer, "REGISTER", "2"), Request::Absorbed);
    assert!(matches!(layer.poll(), Some(Output::Send { .. })));
    let too_big = layer.send_request(client_key("OPTIONS", "3"), flow(Protocol::Udp), big, Moment::ZERO);
    assert_eq!(too_big, Err(SendError::Full));
    assert!(matches!(request(&mut layer, "REGISTER", "3"), Request::New(_)));
    assert_eq!(request(&mut layer, "REGISTER", "4"), Request::Full);
}

#[test]
fn one_holder_has_its_share_and_leaves_the_rest_to_others() {
    let mut layer = layer(64, 1 << 20);
    let mut begun = 0;
    let mut begin = |layer: &mut Layer, method: &str, holder| {
        begun += 1;
        let Request::New(id) = request(layer, method, &begun.to_string()) else { panic!("not new") };
        let stays = layer.hold_for(id, Holder(holder));
        if !stays {
            layer.forget(id);
        }
        stays.then_some(id)
    };
    // Whether they are answered or not, INVITE or not: four of 64.
    let answered = begin(&mut layer, "REGISTER", 1).unwrap();
    layer.respond(answered, 200, bytes("200"), Moment::ZERO).unwrap();
    let refused = begin(&mut layer, "INVITE", 1).unwrap();
    layer.respond(refused, 405, bytes("405"), Moment::ZERO).unwrap();
    assert!(begin(&mut layer, "INVITE", 1).is_some() && begin(&mut layer, "REGISTER", 1).is_some());
    for _ in 0..100 {
        assert_eq!(begin(&mut layer, "REGISTER", 1), None);
    }
    assert!(begin(&mut layer, "REGISTER", 2).is_some());
    assert_eq!(layer.usage().transactions, 5);
    assert_eq!(layer.shared(), layer.usage(), "each is somebody's");
    // What ends makes room.
    layer.handle_timeout(Moment::ZERO + TIMER_J);
    assert!(begin(&mut layer, "REGISTER", 1).is_some());
    layer.handle_timeout(Moment::NEVER);
    let pending = layer.usage();
    assert_eq!((pending.transactions, layer.shared()), (1, pending), "an INVITE that nobody answered");
}

#[test]
fn one_holder_has_its_share_of_the_bytes_too() {
    let mut layer = layer(1 << 20, 1 << 20);
    let answer: Bytes = vec![b'x'; 20_000].into();
    for number in 0..4 {
        let Request::New(id) = request(&mut layer, "REGISTER", &number.to_string()) else { panic!("not new") };
        assert!(layer.hold_for(id, Holder(7)));
        layer.respond(id, 200, answer.clone(), Moment::ZERO).unwrap();
    }
    assert_eq!(layer.shared(), layer.usage());
    let Request::New(id) = request(&mut layer, "REGISTER", "more") else { panic!("not new") };
    assert!(!layer.hold_for(id, Holder(7)), "64 KiB of 1 MiB");
    assert!(layer.hold_for(id, Holder(8)));
}

#[test]
fn limits_that_are_lowered_end_nothing_and_let_nothing_begin() {
    let mut layer = layer(10, 1 << 20);
    let Request::New(first) = request(&mut layer, "REGISTER", "1") else { panic!("not new") };
    layer.set_limits(Limits { transactions: 1, bytes: 1 << 20 });
    assert_eq!(request(&mut layer, "REGISTER", "2"), Request::Full);
    assert_eq!(layer.respond(first, 200, bytes("200"), Moment::ZERO), Ok(()));
    layer.set_limits(Limits { transactions: 10, bytes: Usage::ENTRY });
    assert_eq!(request(&mut layer, "REGISTER", "2"), Request::Full);
    layer.set_limits(Limits { transactions: 10, bytes: 1 << 20 });
    assert!(matches!(request(&mut layer, "REGISTER", "2"), Request::New(_)));
}

#[test]
fn a_branch_of_ours_is_used_once_at_a_time() {
    let mut layer = layer(10, 1 << 20);
    assert!(send(&mut layer, "INVITE", "1", flow(Protocol::Udp)).is_ok());
    assert_eq!(send(&mut layer, "INVITE", "1", flow(Protocol::Udp)), Err(SendError::BranchInUse));
    assert!(send(&mut layer, "OPTIONS", "1", flow(Protocol::Udp)).is_ok());
}

#[test]
fn a_stream_that_ends_fails_the_requests_that_wait_on_it_and_no_others() {
    let mut layer = layer(10, 1 << 20);
    let on = |connection| Flow { connection: Some(ConnectionId(connection)), ..flow(Protocol::Tls) };
    let first = send(&mut layer, "OPTIONS", "1", on(1)).unwrap();
    let second = send(&mut layer, "INVITE", "2", on(1)).unwrap();
    send(&mut layer, "OPTIONS", "3", on(2)).unwrap();
    send(&mut layer, "OPTIONS", "4", flow(Protocol::Udp)).unwrap();
    let key = server_key("INVITE", "5");
    let _ = layer.receive_request(key, on(1), Moment::ZERO, || bytes("100"));
    while layer.poll().is_some() {}
    layer.connection_closed(ConnectionId(1));
    let told: Vec<_> = std::iter::from_fn(|| layer.poll()).collect();
    let expected = [first, second].map(|id| Output::Event(Event::TransportFailed(Owner::Client(id))));
    assert_eq!(told, expected);
    assert_eq!(layer.counts(), [3, 3, 3, 1]);
}

#[test]
fn an_id_that_has_ended_names_nothing() {
    let mut scene = Scene::tcp();
    let old = scene.begin("REGISTER");
    scene.respond(old, 200).unwrap();
    let new = scene.begin("REGISTER");
    assert_ne!(old, new);
    assert_eq!(scene.respond(old, 500), Err(RespondError::Ended));
    scene.seen();
    scene.fail(Owner::Server(old));
    scene.expect(&[]);
    assert_eq!((scene.layer.flow(old), scene.layer.flow(new)), (None, Some(scene.flow)));
}

#[test]
fn the_end_of_time_comes_without_a_hang() {
    let mut scene = Scene::udp();
    scene.send("INVITE");
    scene.begin("REGISTER");
    for _ in 0..3 {
        scene.layer.handle_timeout(Moment::NEVER);
    }
    assert_eq!(scene.layer.usage(), Usage::default());
}

#[test]
fn ten_thousand_registrations_in_a_minute_hold_little() {
    let mut layer = layer(100_000, 1 << 30);
    let answer = vec![b'x'; 500];
    let mut most = 0;
    for number in 0..10_000_u64 {
        let now = Moment::from_micros(number * 6000);
        layer.handle_timeout(now);
        // Each is challenged and then answered.
        for round in ["a", "b"] {
            let key = server_key("REGISTER", &format!("{number}{round}"));
            let Request::New(id) = layer.receive_request(key, flow(Protocol::Udp), now, || bytes("100")) else {
                panic!("not new")
            };
            layer.respond(id, 200, answer.as_slice().into(), now).unwrap();
            assert!(layer.poll().is_some());
        }
        most = most.max(layer.usage().bytes);
    }
    assert!(most < 11_000_000, "{most} bytes");
    layer.handle_timeout(Moment::from_micros(100_000_000));
    assert_eq!((layer.usage(), layer.next_timeout()), (Usage::default(), None));
}
