//! Calls that go on: listed, shown, ended; and the messages of one.

use pbx_core::transport::{Flow, Protocol, TransportId};

use super::*;
use crate::{
    ops::{CallState, Kind, ListOptions},
    trace::Direction,
};

const AB: &str = "00000000000000ab";
const AC: &str = "00000000000000ac";

#[tokio::test]
async fn calls_are_listed_with_their_extension_and_found_by_what_they_are() {
    let bench = Bench::new().await;
    bench.fill().await;
    bench.signalling.talk(AC);
    bench.signalling.conversations.lock().unwrap()[1].answered = None;
    let list = async |filter: &str| {
        let options = ListOptions { filter: Some(filter.into()), ..ListOptions::default() };
        let calls = bench.operations.calls(&admin(), &options).await.unwrap().items;
        calls.into_iter().map(|call| call.id).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [AB, AC]);
    assert_eq!(list("state eq 'ringing'").await, [AC]);
    assert_eq!(list("answered_at ne null and dialled eq '200'").await, [AB]);
    let call = bench.operations.call(&admin(), AB).await.unwrap();
    assert_eq!((call.state, call.tenant.as_deref()), (CallState::Talking, Some("default")));
    assert_eq!((call.codec.as_deref(), call.legs.len()), (Some("PCMA/8000"), 2));
}

#[tokio::test]
async fn a_short_id_is_enough_when_it_means_one_call() {
    let bench = Bench::new().await;
    for id in ["00000000000000f1", "0000000000000af1", "ffffffffffffffff"] {
        bench.signalling.talk(id);
    }
    let show = async |id: &str| bench.operations.call(&admin(), id).await.map(|call| call.id);
    assert_eq!(show("fF").await.unwrap(), "ffffffffffffffff");
    assert_eq!(show("0f1").await.unwrap(), "00000000000000f1");
    let several = show("f1").await.unwrap_err();
    assert_eq!(several.kind(), Kind::Usage);
    assert!(several.message.contains("00000000000000f1") && several.message.contains("more digits"), "{several}");
    let none = show("2").await.unwrap_err();
    assert_eq!(none.kind(), Kind::NotFound);
    assert!(none.message.contains("pbx call list"), "{none}");
    for wrong in ["", "g", "-1", "+f", "00000000000000001", "1 f"] {
        assert!(show(wrong).await.unwrap_err().message.starts_with("id: "), "{wrong}");
    }
}

#[tokio::test]
async fn a_call_is_ended_by_an_administrator_audited_and_told() {
    let bench = Bench::new().await;
    bench.fill().await;
    for error in [
        bench.operations.calls(&viewer(), &ListOptions::default()).await.unwrap_err(),
        bench.operations.call(&viewer(), AB).await.unwrap_err(),
        bench.operations.hang_up(&viewer(), AB, How::default()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Denied, "{error}");
    }
    bench.operations.hang_up(&admin(), AB, DRY).await.unwrap();
    let ended = bench.operations.hang_up(&admin(), "b", How::default()).await.unwrap();
    assert_eq!(ended.id, AB);
    assert_eq!(bench.operations.hang_up(&admin(), AB, How::default()).await.unwrap_err().kind(), Kind::NotFound);
    let audit = bench.store().audit_rows(1).await.unwrap();
    assert_eq!(audit[0].object, format!("{AB} from 101 to 200 of default"));
    assert_eq!(audit[0].what, "call.hangup");
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert!(events[0].message.contains("ended the call from 101 of default to 200"), "{events:?}");
    bench.signalling.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(bench.operations.calls(&admin(), &ListOptions::default()).await.unwrap_err().kind(), Kind::Failed);
}

#[tokio::test]
async fn a_trace_of_a_call_shows_its_messages_also_those_of_legs_that_come_later() {
    let bench = Bench::new().await;
    bench.fill().await;
    bench.signalling.talk(AC);
    let mut messages = bench.operations.trace(&admin(), &[], Some(AB)).await.unwrap();
    let show = |header: &str| {
        let flow = Flow {
            transport: TransportId(1),
            protocol: Protocol::Udp,
            local: "192.0.2.5:5060".parse().unwrap(),
            remote: "198.51.100.7:5062".parse().unwrap(),
            connection: None,
        };
        let message = format!("BYE sip:102@192.0.2.5 SIP/2.0\r\n{header}\r\nCSeq: 1 BYE\r\n\r\n");
        bench.signalling.trace.show(Direction::Sent, &flow, message.as_bytes(), || bench.now());
    };
    let (own, later) = (format!("{AB}-of-the-phone"), format!("77.{AB}@192.0.2.5"));
    for other in [
        format!("Call-ID: {AC}-of-the-phone"),
        format!("Call-ID: 0123.{AC}@192.0.2.5"),
        format!("Call-ID: other@phone\r\nReplaces: {own}"),
        format!("Call-ID: {own}-and-more"),
        "Subject: none".to_owned(),
    ] {
        show(&other);
    }
    show(&format!("Call-ID: {own}"));
    show(&format!("i: {later}"));
    for expected in [&own, &later] {
        assert_eq!(messages.next().await.unwrap().unwrap().call_id.as_ref(), Some(expected));
    }
    let gone = bench.operations.trace(&admin(), &[], Some("cd")).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
    assert!(gone.message.contains("no call cd goes on"), "{gone}");
}
