//! Whole calls between two phones.

use std::time::Duration;

use pbx_core::call::{Disposition, EndedBy, LegKind};

use crate::{
    handset::{USUAL, hides},
    world::World,
};

#[test]
fn two_phones_talk_and_neither_sees_the_other() {
    let (mut world, mut alice, mut bob) = World::two();
    let sdp = alice.sdp(USUAL, "sendrecv");
    alice.call_with(
        &mut world,
        "101",
        &sdp,
        "P-Asserted-Identity: <sip:boss@x>\r\nPrivacy: id\r\nDiversion: <sip:1@x>\r\n",
    );
    let invite = bob.rung(&mut world);
    hides(&invite, &alice);
    for gone in ["p-asserted-identity", "privacy", "diversion"] {
        assert_eq!(invite.find(gone), None);
    }
    assert!(invite.header("from").contains("<sip:100@one.example>"), "{invite:?}");
    assert!(!invite.header("from").contains("Not 100"));
    assert_eq!(invite.uri(), "sip:101@203.0.113.2:5062");
    assert_eq!(invite.header("max-forwards"), "69");
    bob.reply(&mut world, &invite, "180", "", "");
    let ringing = world.expect(&alice, "180");
    assert_eq!(ringing.body, "");
    let answer = bob.sdp("8 101", "sendrecv");
    world.wait(Duration::from_secs(3));
    bob.reply(&mut world, &invite, "200", &answer, "");
    world.expect(&bob, "ACK");
    let ok = alice.answered(&mut world, "200");
    hides(&ok, &bob);
    assert!(ok.body.contains("m=audio ") && ok.body.contains(" RTP/AVP 8 101\r\n"), "{}", ok.body);
    assert_eq!(
        world.hears(ok.port()),
        Some(("198.51.100.1:4000".parse().unwrap(), "203.0.113.2:4000".parse().unwrap()))
    );
    assert_eq!(world.hears(invite.port()).map(|(one, _)| one), Some("203.0.113.2:4000".parse().unwrap()));
    assert_eq!(world.record().disposition, Disposition::Open);
    world.wait(Duration::from_secs(60));
    world.expect_nothing(&alice);
    alice.hang_up(&mut world);
    let bye = bob.released(&mut world);
    assert_eq!(bye.header("reason"), "Q.850;cause=16");
    let record = world.record();
    assert_eq!((record.disposition, record.status, record.cause), (Disposition::Answered, 200, 16));
    assert_eq!(record.billed, Duration::from_secs(60));
    assert_eq!(record.ended_by, Some(EndedBy::Caller));
    assert_eq!((&*record.caller_number, &*record.dialled, &*record.codec), ("100", "101", "PCMA/8000"));
    let kinds: Vec<LegKind> = record.legs.iter().map(|leg| leg.kind).collect();
    assert_eq!(kinds, [LegKind::Caller, LegKind::Branch]);
    assert!(record.legs.iter().all(|leg| leg.ended.is_some() && leg.media.is_some()), "{record:?}");
    world.wait(Duration::from_secs(60));
    assert!(world.scene.media.legs.is_empty());
    assert_eq!(world.scene.pbx.call_counts(), (0, 0));
}
