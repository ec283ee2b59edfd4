//! Messages on the wire: whose are shown, what is read of them and what is not shown of them.

use pbx_core::{
    transport::{Flow, Protocol, TransportId},
    wire::demux::Content,
};

use super::*;
use crate::{
    ops::{Kind, MessageView, Messages},
    trace::Direction,
};

const REGISTER: &[u8] = b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7\r\nf: \"Alice\" <sip:101@example.com>;tag=1\r\nTo: sip:102@example.com\r\nCall-ID: 5\x1b[2J@phone\r\nCSeq: 7 REGISTER\r\nAuthorization: Digest username=\"101\", response=\"0123abcd\"\r\nContent-Length: 0\r\n\r\n";

impl Bench {
    fn show(&self, remote: &str, bytes: &[u8]) {
        let flow = Flow {
            transport: TransportId(1),
            protocol: Protocol::Udp,
            local: "192.0.2.5:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: None,
        };
        self.signalling.trace.show(Direction::Received, &flow, bytes, || self.now());
    }

    async fn trace(&self, peers: &[&str]) -> Messages {
        let peers: Vec<String> = peers.iter().map(|peer| (*peer).to_owned()).collect();
        self.operations.trace(&admin(), &peers, None).await.unwrap()
    }
}

async fn next(messages: &mut Messages) -> MessageView {
    messages.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_message_is_read_and_what_its_digest_answers_is_masked() {
    let bench = Bench::new().await;
    let mut messages = bench.trace(&[]).await;
    bench.show("198.51.100.7:5062", REGISTER);
    let view = next(&mut messages).await;
    assert_eq!((view.kind, view.bytes, view.problem.as_deref()), (Content::Sip, REGISTER.len(), None));
    assert_eq!(view.start_line.as_deref(), Some("REGISTER sip:example.com SIP/2.0"));
    assert_eq!(
        (view.method.as_deref(), view.status, view.cseq.as_deref()),
        (Some("REGISTER"), None, Some("7 REGISTER"))
    );
    assert_eq!((view.from.as_deref(), view.to.as_deref()), (Some("sip:101@example.com"), Some("sip:102@example.com")));
    assert_eq!(view.call_id.as_deref(), Some("5\x1b[2J@phone"));
    let message = view.message.unwrap();
    assert!(message.contains("response=\"…\"") && !message.contains("0123abcd"), "{message}");
    bench.show("198.51.100.7:5062", b"SIP/2.0 401 Unauthorized\r\nCSeq: 7 REGISTER\r\n\r\n");
    let view = next(&mut messages).await;
    assert_eq!((view.method.as_deref(), view.status, view.from), (Some("REGISTER"), Some(401), None));
}

#[tokio::test]
async fn only_peers_that_were_asked_for_are_shown() {
    let bench = Bench::new().await;
    let mut messages = bench.trace(&["198.51.100.7", "2001:db8::/32", "10.0.0.5/8"]).await;
    let peers = ["198.51.100.8:1", "198.51.100.7:2", "[2001:db9::1]:3", "[2001:db8::1]:4", "[::ffff:10.1.2.3]:5"];
    for peer in peers {
        bench.show(peer, REGISTER);
    }
    let mut ports = Vec::new();
    for _ in 0..3 {
        ports.push(next(&mut messages).await.remote.port());
    }
    assert_eq!(ports, [2, 4, 5]);
}

#[tokio::test]
async fn what_is_not_sip_says_what_it_is_and_what_is_broken_says_why() {
    let bench = Bench::new().await;
    let mut messages = bench.trace(&[]).await;
    for (bytes, kind) in [
        (&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], Content::Stun),
        (b"\r\n\r\n", Content::KeepAlive),
        (b"", Content::Empty),
        (&[0x80, 0, 0, 0], Content::Rtp),
        (b"\xff\xff", Content::Unknown),
    ] {
        bench.show("198.51.100.7:5062", bytes);
        let view = next(&mut messages).await;
        assert_eq!((view.kind, view.bytes, view.message, view.start_line), (kind, bytes.len(), None, None));
    }
    bench.show("198.51.100.7:5062", b"\r\nGET / HTTP/1.1\r\nAuthorization: Basic response=x\r\n\r\n");
    let view = next(&mut messages).await;
    assert_eq!((view.kind, view.start_line.as_deref()), (Content::Sip, Some("GET / HTTP/1.1")));
    assert_eq!(view.problem.as_deref(), Some("the first line is no start line of SIP"));
    assert!(view.message.unwrap().contains("response=…"));
}

#[tokio::test]
async fn who_follows_is_counted_and_a_slow_one_is_told_what_it_lost() {
    let bench = Bench::new().await;
    let mut messages = bench.trace(&["198.51.100.7"]).await;
    assert!(bench.signalling.trace.is_followed());
    for _ in 0..1034 {
        bench.show("198.51.100.7:5062", REGISTER);
        bench.show("203.0.113.9:5062", REGISTER);
    }
    assert_eq!(messages.next().await.unwrap().unwrap_err(), 10);
    next(&mut messages).await;
    drop(messages);
    assert!(!bench.signalling.trace.is_followed());
}

#[tokio::test]
async fn only_an_administrator_may_look_and_what_is_no_address_is_named() {
    let bench = Bench::new().await;
    let denied = bench.operations.trace(&viewer(), &[], None).await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Denied);
    assert!(denied.message.contains("who calls whom") && denied.message.contains("pbx-admin"), "{denied}");
    let wrong = bench.operations.trace(&admin(), &["10.0.0.300".into()], None).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::Usage);
    assert!(wrong.message.starts_with("ip: ") && wrong.message.contains("10.0.0.300"), "{wrong}");
    let many = bench.operations.trace(&admin(), &vec!["10.0.0.1".into(); 65], None).await.unwrap_err();
    assert!(many.message.contains("at most 64"), "{many}");
    assert!(!bench.signalling.trace.is_followed());
}
