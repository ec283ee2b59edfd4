//! Transfers: a REFER is carried out by the appliance, and the transferor is told how it goes.

use pbx_core::call::{Disposition, EndedBy, LegKind};

use crate::{
    handset::{Got, Handset, USUAL},
    world::World,
};

/// 100 talks to 101, and 102 is there as well.
fn three() -> (World, Handset, Handset, Handset) {
    let (mut world, alice, bob) = World::talking();
    let carol = world.phone("102", "203.0.113.7:5064");
    (world, alice, bob, carol)
}

/// A REFER that is accepted; the first NOTIFY says 100.
fn refer(world: &mut World, by: &mut Handset, to: &str, more: &str) {
    by.request(world, "REFER", "", &format!("Refer-To: {to}\r\n{more}"));
    let accepted = world.expect(by, "202");
    assert_eq!(accepted.method, "REFER");
}

/// The next NOTIFY, which must say this.
fn told(world: &mut World, by: &mut Handset, status: &str, last: bool) {
    let notify = world.expect(by, "NOTIFY");
    assert!(notify.body.starts_with(&format!("SIP/2.0 {status} ")), "{notify:?}");
    assert_eq!(notify.header("content-type"), "message/sipfrag;version=2.0");
    assert!(notify.header("event").starts_with("refer;id="), "{notify:?}");
    let state = notify.header("subscription-state");
    assert_eq!(state.starts_with("terminated"), last, "{state}");
    by.reply(world, &notify, "200", "", "");
}

/// A phone is offered something within its call, and takes it.
fn agrees(world: &mut World, phone: &mut Handset) -> Got {
    let offered = world.expect(phone, "INVITE");
    assert!(offered.tag("to").is_some());
    let sdp = phone.sdp(USUAL, "sendrecv");
    phone.reply(world, &offered, "200", &sdp, "");
    world.expect(phone, "ACK");
    offered
}

fn hold(world: &mut World, by: &mut Handset, other: &mut Handset) {
    let sdp = by.sdp(USUAL, "sendonly");
    by.request(world, "INVITE", &sdp, "");
    let offered = world.expect(other, "INVITE");
    let sdp = other.sdp(USUAL, "recvonly");
    other.reply(world, &offered, "200", &sdp, "");
    world.expect(other, "ACK");
    by.answered(world, "200");
}

#[test]
fn a_blind_transfer_succeeds_and_the_transferor_is_let_go() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    hold(&mut world, &mut bob, &mut alice);
    refer(&mut world, &mut bob, "<sip:102@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    let invite = carol.rings(&mut world);
    // Carol sees who talks to her, and nothing of Bob.
    assert!(invite.header("from").contains("sip:100@one.example"), "{invite:?}");
    told(&mut world, &mut bob, "180", false);
    let sdp = carol.sdp("8 101", "sendrecv");
    carol.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&carol, "ACK");
    told(&mut world, &mut bob, "200", true);
    bob.released(&mut world);
    // Alice was on hold.
    let offered = agrees(&mut world, &mut alice);
    assert!(offered.has_line("a=sendrecv") && offered.body.contains(" RTP/AVP 8 101"), "{}", offered.body);
    assert_eq!(world.hears(offered.port()).unwrap().1.to_string(), "203.0.113.7:4000");
    assert_eq!(world.hears(invite.port()).unwrap().1.to_string(), "198.51.100.1:4000");
    alice.hang_up(&mut world);
    carol.released(&mut world);
    let record = world.record().clone();
    assert_eq!(world.scene.store.calls.len(), 1);
    assert_eq!((&*record.dialled, &*record.callee_number), ("101", "102"));
    let kinds: Vec<LegKind> = record.legs.iter().map(|leg| leg.kind).collect();
    assert_eq!(kinds, [LegKind::Caller, LegKind::Branch, LegKind::Transfer]);
    assert_eq!((record.disposition, record.ended_by), (Disposition::Answered, Some(EndedBy::Caller)));
    world.check_nothing_left();
}

#[test]
fn the_caller_may_transfer_as_well() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    refer(&mut world, &mut alice, "<sip:102@one.example>", "");
    told(&mut world, &mut alice, "100", false);
    carol.take(&mut world);
    told(&mut world, &mut alice, "180", false);
    told(&mut world, &mut alice, "200", true);
    alice.released(&mut world);
    // Nobody held: Bob speaks what Carol speaks, and need not be asked.
    world.expect_nothing(&bob);
    bob.hang_up(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_transfer_that_fails_leaves_the_call_as_it_was() {
    for (status, told_as) in [("486", "486"), ("603", "603"), ("500", "480"), ("404", "404")] {
        let (mut world, mut alice, mut bob, mut carol) = three();
        let before = world.scene.media.legs.clone();
        refer(&mut world, &mut bob, "<sip:102@one.example>", "");
        told(&mut world, &mut bob, "100", false);
        let invite = carol.rung(&mut world);
        carol.reply(&mut world, &invite, status, "", "");
        world.expect(&carol, "ACK");
        told(&mut world, &mut bob, told_as, true);
        assert_eq!(world.scene.media.legs, before);
        world.expect_nothing(&alice);
        alice.hang_up(&mut world);
        bob.released(&mut world);
        assert_eq!(&*world.record().callee_number, "101");
        world.check_nothing_left();
    }
    // A number that nobody has, and one whose phone is not there.
    for (number, status) in [("555", "404"), ("150", "480"), ("199", "404")] {
        let (mut world, mut alice, mut bob, _) = three();
        refer(&mut world, &mut bob, &format!("<sip:{number}@one.example>"), "");
        told(&mut world, &mut bob, "100", false);
        told(&mut world, &mut bob, status, true);
        alice.hang_up(&mut world);
        bob.released(&mut world);
        world.check_nothing_left();
    }
}

#[test]
fn nobody_answers_a_transferred_call() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    refer(&mut world, &mut bob, "<sip:102@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    let invite = carol.rings(&mut world);
    told(&mut world, &mut bob, "180", false);
    let ring_time = world.scene.settings.calls.ring_time.get();
    world.wait(ring_time);
    carol.stops(&mut world, &invite);
    told(&mut world, &mut bob, "480", true);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn the_transferor_leaves_while_it_rings_and_it_goes_on_without_it() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    refer(&mut world, &mut bob, "<sip:102@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    let invite = carol.rings(&mut world);
    told(&mut world, &mut bob, "180", false);
    bob.hang_up(&mut world);
    let sdp = carol.sdp(USUAL, "sendrecv");
    carol.reply(&mut world, &invite, "200", &sdp, "");
    world.expect(&carol, "ACK");
    world.expect_nothing(&bob);
    assert_eq!(world.hears(invite.port()).unwrap().1.to_string(), "198.51.100.1:4000");
    alice.hang_up(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
    // And when it fails then, nobody is left to talk to.
    let (mut world, mut alice, mut bob, mut carol) = three();
    refer(&mut world, &mut bob, "<sip:102@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    let invite = carol.rung(&mut world);
    bob.hang_up(&mut world);
    carol.reply(&mut world, &invite, "486", "", "");
    world.expect(&carol, "ACK");
    alice.released(&mut world);
    assert!(world.record().why.contains("transfer"), "{}", world.record().why);
    world.check_nothing_left();
}

#[test]
fn who_is_transferred_hangs_up_while_it_rings() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    refer(&mut world, &mut bob, "<sip:102@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    let invite = carol.rings(&mut world);
    told(&mut world, &mut bob, "180", false);
    alice.hang_up(&mut world);
    carol.stops(&mut world, &invite);
    told(&mut world, &mut bob, "487", true);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_transferor_that_wants_no_news_gets_none() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    bob.request(&mut world, "REFER", "", "Refer-To: <sip:102@one.example>\r\nRefer-Sub: false\r\n");
    assert_eq!(world.expect(&bob, "202").header("refer-sub"), "false");
    carol.take(&mut world);
    bob.released(&mut world);
    alice.hang_up(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_refer_that_cannot_be_carried_out_is_refused() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    for (to, status) in [
        ("Refer-To: <tel:102>\r\n", "400"),
        ("", "400"),
        ("Refer-To: <sip:one.example>\r\n", "400"),
        ("Refer-To: <sip:102@one.example?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n", "481"),
    ] {
        bob.request(&mut world, "REFER", "", to);
        assert_eq!(world.expect(&bob, status).method, "REFER", "{to}");
    }
    // One at a time.
    refer(&mut world, &mut bob, "<sip:102@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    let invite = carol.rung(&mut world);
    for phone in [&mut alice, &mut bob] {
        phone.request(&mut world, "REFER", "", "Refer-To: <sip:150@one.example>\r\n");
        world.expect(phone, "491");
    }
    carol.reply(&mut world, &invite, "486", "", "");
    world.expect(&carol, "ACK");
    told(&mut world, &mut bob, "486", true);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_call_is_transferred_five_times_and_no_more() {
    let (mut world, mut alice, mut bob, _) = three();
    for _ in 0..5 {
        refer(&mut world, &mut bob, "<sip:150@one.example>", "");
        told(&mut world, &mut bob, "100", false);
        told(&mut world, &mut bob, "480", true);
    }
    bob.request(&mut world, "REFER", "", "Refer-To: <sip:150@one.example>\r\n");
    world.expect(&bob, "482");
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
}

/// 100 talks to 101; 101 has called 102, which has answered if `answered`. The second call and its `Replaces`.
fn consultation(answered: bool) -> (World, [Handset; 4], String) {
    let (mut world, mut alice, mut bob, mut carol) = three();
    hold(&mut world, &mut bob, &mut alice);
    let mut second = bob.second_line();
    let sdp = second.sdp(USUAL, "sendrecv");
    second.call(&mut world, "102", &sdp);
    let remote = if answered {
        carol.take(&mut world);
        second.answered(&mut world, "200")
    } else {
        carol.rings(&mut world);
        world.expect(&second, "180")
    };
    let dialog = second.dialog.as_mut().unwrap();
    dialog.remote = remote.header("to").to_owned();
    let (ours, theirs) = (dialog.local.split(";tag=").nth(1).unwrap(), remote.tag("to").unwrap());
    let replaces = format!("{}%3Bto-tag%3D{theirs}%3Bfrom-tag%3D{ours}", dialog.call_id);
    (world, [alice, bob, second, carol], replaces)
}

/// `Replaces` of a phone's call, as it stands in a URI.
fn replaces_of(handset: &Handset) -> String {
    let dialog = handset.dialog.clone().unwrap();
    let tag = |text: &str| text.split(";tag=").nth(1).unwrap().to_owned();
    let call_id = dialog.call_id.replace('@', "%40");
    format!("{call_id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}", tag(&dialog.remote), tag(&dialog.local))
}

#[test]
fn who_called_and_was_transferred_may_call_as_often_as_before() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    world.scene.change_settings(|settings| settings.set("calls.per_extension", "1").unwrap());
    let sdp = carol.sdp(USUAL, "sendrecv");
    carol.call(&mut world, "101", &sdp);
    let mut second = bob.second_line();
    second.take(&mut world);
    carol.answered(&mut world, "200");
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={}>", replaces_of(&second)), "");
    told(&mut world, &mut bob, "100", false);
    agrees(&mut world, &mut carol);
    second.released(&mut world);
    told(&mut world, &mut bob, "200", true);
    bob.released(&mut world);
    carol.hang_up(&mut world);
    alice.released(&mut world);
    let sdp = carol.sdp(USUAL, "sendrecv");
    carol.call(&mut world, "100", &sdp);
    alice.take(&mut world);
    carol.answered(&mut world, "200");
    carol.hang_up(&mut world);
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn the_relay_knows_who_will_speak_to_new_ports_before_the_phone_is_asked_to() {
    let (mut world, [alice, mut bob, _, carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    let offered = world.expect(&carol, "INVITE");
    let leg = world.scene.media.at(offered.port()).expect("the leg is not there");
    let remote = leg.remote.as_ref().expect("nobody is expected");
    assert_eq!((remote.rtp.ip(), remote.formats.is_empty()), (carol.flow.remote.ip(), false));
    assert_eq!(world.hears(offered.port()).unwrap().1.ip(), alice.flow.remote.ip());
}

#[test]
fn an_attended_transfer_joins_both_calls() {
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    let before = carol.dialog.as_ref().unwrap().invite.as_ref().unwrap().port();
    let offered = agrees(&mut world, &mut carol);
    assert_ne!(offered.port(), before, "legs that hear each other belong to one thread");
    second.released(&mut world);
    told(&mut world, &mut bob, "200", true);
    bob.released(&mut world);
    let offered_alice = agrees(&mut world, &mut alice);
    assert!(offered_alice.has_line("a=sendrecv"));
    assert_eq!(world.hears(offered_alice.port()).unwrap().1.to_string(), "203.0.113.7:4000");
    assert_eq!(world.hears(offered.port()).unwrap().1.to_string(), "198.51.100.1:4000");
    assert_eq!(world.scene.pbx.call_counts().0, 1);
    let records: Vec<_> = world.scene.store.calls.values().cloned().collect();
    assert_eq!((records[0].disposition, &*records[0].callee_number), (Disposition::Open, "102"));
    assert_eq!(records[1].disposition, Disposition::Answered);
    assert!(records[1].why.contains(&records[0].id.to_string()), "{}", records[1].why);
    carol.hang_up(&mut world);
    alice.released(&mut world);
    let kinds: Vec<LegKind> = world.scene.store.calls[&records[0].id].legs.iter().map(|leg| leg.kind).collect();
    assert_eq!(kinds, [LegKind::Caller, LegKind::Branch, LegKind::Transfer]);
    world.check_nothing_left();
}

#[test]
fn who_was_consulted_may_refuse_to_join_and_both_calls_go_on() {
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    let offered = world.expect(&carol, "INVITE");
    carol.reply(&mut world, &offered, "488", "", "");
    world.expect(&carol, "ACK");
    told(&mut world, &mut bob, "488", true);
    assert_eq!(world.scene.pbx.call_counts().0, 2);
    second.hang_up(&mut world);
    carol.released(&mut world);
    bob.hang_up(&mut world);
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_transferor_that_hangs_up_at_once_has_transferred_nevertheless() {
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    second.hang_up(&mut world);
    bob.hang_up(&mut world);
    agrees(&mut world, &mut carol);
    agrees(&mut world, &mut alice);
    world.expect_nothing(&bob);
    assert_eq!(world.scene.pbx.call_counts().0, 1);
    alice.hang_up(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
    // And if it is refused then, nobody has anybody to talk to.
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    second.hang_up(&mut world);
    bob.hang_up(&mut world);
    let offered = world.expect(&carol, "INVITE");
    carol.reply(&mut world, &offered, "488", "", "");
    world.expect(&carol, "ACK");
    carol.released(&mut world);
    alice.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn who_is_to_join_or_to_be_joined_hangs_up_meanwhile() {
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    let offered = world.expect(&carol, "INVITE");
    carol.hang_up(&mut world);
    carol.reply(&mut world, &offered, "487", "", "");
    world.expect(&carol, "ACK");
    told(&mut world, &mut bob, "487", true);
    second.released(&mut world);
    alice.hang_up(&mut world);
    bob.released(&mut world);
    world.check_nothing_left();
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    alice.hang_up(&mut world);
    told(&mut world, &mut bob, "487", true);
    bob.released(&mut world);
    agrees(&mut world, &mut carol);
    second.released(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn an_attended_transfer_before_the_answer_becomes_a_blind_one() {
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(false);
    let rings = carol.dialog.clone().unwrap().invite.unwrap();
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    second.answered(&mut world, "487");
    let cancel = world.expect(&carol, "CANCEL");
    let mut again = carol.second_line();
    again.take(&mut world);
    carol.reply(&mut world, &cancel, "200", "", "");
    carol.reply(&mut world, &rings, "487", "", "");
    let ack = world.expect(&carol, "ACK");
    assert_eq!(ack.header("call-id"), rings.header("call-id"));
    carol = again;
    told(&mut world, &mut bob, "180", false);
    told(&mut world, &mut bob, "200", true);
    bob.released(&mut world);
    agrees(&mut world, &mut alice);
    alice.hang_up(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_call_whose_phone_is_asked_to_join_another_is_not_transferred_itself() {
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    refer(&mut world, &mut bob, &format!("<sip:102@one.example?Replaces={replaces}>"), "");
    told(&mut world, &mut bob, "100", false);
    let offered = world.expect(&carol, "INVITE");
    // Neither elsewhere, nor the other way round.
    for to in ["<sip:150@one.example>".to_owned(), format!("<sip:100@one.example?Replaces={}>", replaces_of(&bob))] {
        second.request(&mut world, "REFER", "", &format!("Refer-To: {to}\r\n"));
        world.expect(&second, "491");
    }
    let sdp = carol.sdp(USUAL, "sendrecv");
    carol.reply(&mut world, &offered, "200", &sdp, "");
    world.expect(&carol, "ACK");
    second.released(&mut world);
    told(&mut world, &mut bob, "200", true);
    bob.released(&mut world);
    agrees(&mut world, &mut alice);
    carol.hang_up(&mut world);
    alice.released(&mut world);
    world.check_nothing_left();
    // While the one is being transferred to somebody, the other one does not join it.
    let (mut world, [mut alice, mut bob, mut second, mut carol], _) = consultation(true);
    let replaces = replaces_of(&bob);
    refer(&mut world, &mut bob, "<sip:103@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    told(&mut world, &mut bob, "480", true);
    let mut dave = world.phone("103", "203.0.113.8:5064");
    refer(&mut world, &mut bob, "<sip:103@one.example>", "");
    told(&mut world, &mut bob, "100", false);
    second.request(&mut world, "REFER", "", &format!("Refer-To: <sip:100@one.example?Replaces={replaces}>\r\n"));
    world.expect(&second, "491");
    dave.take(&mut world);
    told(&mut world, &mut bob, "180", false);
    told(&mut world, &mut bob, "200", true);
    bob.released(&mut world);
    agrees(&mut world, &mut alice);
    alice.hang_up(&mut world);
    dave.released(&mut world);
    second.hang_up(&mut world);
    carol.released(&mut world);
    world.check_nothing_left();
}

#[test]
fn a_call_of_others_cannot_be_taken_over() {
    let (mut world, [mut alice, mut bob, mut second, mut carol], replaces) = consultation(true);
    // Alice knows the ids of the other call, which is none of hers.
    alice.request(&mut world, "REFER", "", &format!("Refer-To: <sip:102@one.example?Replaces={replaces}>\r\n"));
    world.expect(&alice, "403");
    let mut mallory = world.phone("103", "203.0.113.66:5064");
    let sdp = mallory.sdp(USUAL, "sendrecv");
    let replaces = replaces.replace("%3B", ";").replace("%3D", "=");
    mallory.call_with(&mut world, "102", &sdp, &format!("Replaces: {replaces}\r\n"));
    mallory.answered(&mut world, "481");
    second.hang_up(&mut world);
    carol.released(&mut world);
    bob.hang_up(&mut world);
    alice.released(&mut world);
    world.check_nothing_left();
}
