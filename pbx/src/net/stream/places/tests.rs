use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Wake, Waker},
};

use super::*;

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn places() -> Arc<Places> {
    let limits = Limits {
        connections: 10,
        of_source: 2,
        handshakes: 4,
        handshakes_of_unknown: 1,
        handshakes_of_known: 3,
        held: 100,
        ..Limits::default()
    };
    Arc::new(Places::new(limits))
}

fn unknown(text: &str) -> (IpAddr, bool) {
    (text.parse().unwrap(), false)
}

fn known(text: &str) -> (IpAddr, bool) {
    (text.parse().unwrap(), true)
}

fn has_turn(place: &mut Place) -> bool {
    pin!(place.turn()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

#[test]
fn a_source_has_its_places_and_a_known_address_has_more_behind_it() {
    let places = places();
    let mut held: Vec<_> = (0..2).map(|_| places.take(unknown("192.0.2.1"), false).unwrap()).collect();
    assert_eq!(places.take(unknown("192.0.2.1"), false).unwrap_err(), Dropped::ConnectionsOfSource);
    held.clear();
    assert!(places.taken().sources.is_empty(), "nothing is kept of who has gone");
    held.extend((0..10).map(|_| places.take(known("192.0.2.1"), false).unwrap()));
    assert_eq!(places.take(known("192.0.2.1"), false).unwrap_err(), Dropped::Connections);
    held.clear();
    assert_eq!(places.connections(), 0);
}

#[test]
fn strangers_leave_a_fifth_of_all_places_to_known_addresses() {
    let places = places();
    let _held: Vec<_> =
        (0..8).map(|source| places.take(unknown(&format!("192.0.2.{source}")), false).unwrap()).collect();
    assert_eq!(places.take(unknown("192.0.2.9"), false).unwrap_err(), Dropped::Connections);
    let _known = [places.take(known("192.0.2.9"), false).unwrap(), places.take(known("192.0.2.9"), false).unwrap()];
    assert_eq!(places.take(known("192.0.2.8"), false).unwrap_err(), Dropped::Connections);
}

#[test]
fn an_ipv6_source_is_a_network_of_64_bits_until_it_is_known() {
    let places = places();
    let _held = ["2001:db8::1", "2001:db8::2:0:0:1"].map(|source| places.take(unknown(source), false).unwrap());
    assert_eq!(places.take(unknown("2001:db8::ffff"), false).unwrap_err(), Dropped::ConnectionsOfSource);
    assert!(places.take(unknown("2001:db8:0:1::1"), false).is_ok());
    assert!(places.take(known("2001:db8::"), false).is_ok(), "its neighbours' connections are none of its own");
}

#[test]
fn handshakes_of_strangers_are_few_and_over_at_some_time() {
    let places = places();
    let mut first = places.take(unknown("192.0.2.1"), true).unwrap();
    assert_eq!(places.take(unknown("192.0.2.1"), true).unwrap_err(), Dropped::ConnectionsOfSource);
    first.shaken();
    let mut others: Vec<_> =
        (1..4).map(|source| places.take(unknown(&format!("192.0.2.{source}")), true).unwrap()).collect();
    assert!(others.iter_mut().all(has_turn), "a stranger never waits");
    assert_eq!(places.take(unknown("192.0.2.5"), true).unwrap_err(), Dropped::Handshakes);
    assert!(has_turn(&mut places.take(known("192.0.2.5"), true).unwrap()), "the rest is for who is known");
    others.pop();
    assert!(places.take(unknown("192.0.2.5"), true).is_ok());
}

#[test]
fn a_handshake_of_a_known_address_waits_for_its_turn() {
    let places = places();
    let mut running: Vec<_> = (0..3).map(|_| places.take(known("192.0.2.1"), true).unwrap()).collect();
    assert_eq!(places.take(known("192.0.2.1"), true).unwrap_err(), Dropped::ConnectionsOfSource);
    running.push(places.take(known("192.0.2.2"), true).unwrap());
    assert!(running.iter_mut().all(has_turn));
    let [mut waits, mut behind] = ["192.0.2.3", "192.0.2.4"].map(|source| places.take(known(source), true).unwrap());
    let woken = Arc::<Woken>::default();
    let is_woken = || woken.0.load(Ordering::SeqCst);
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    {
        let mut turn = pin!(waits.turn());
        assert_eq!(turn.as_mut().poll(&mut context), Poll::Pending);
        assert!(!has_turn(&mut behind) && !is_woken());
        running.pop();
        assert!(is_woken());
        assert_eq!(turn.as_mut().poll(&mut context), Poll::Ready(()));
    }
    drop(behind);
    drop(waits);
    drop(running);
    let taken = places.taken();
    assert_eq!((taken.connections, taken.handshakes, taken.of_unknown, taken.sources.len()), (0, 0, 0, 0));
}

#[test]
fn unfinished_messages_have_a_limit_together_and_give_back_what_they_took() {
    let places = places();
    let [mut one, mut other] = ["192.0.2.1", "192.0.2.2"].map(|source| places.take(unknown(source), false).unwrap());
    assert!(one.hold(60, || false) && other.hold(40, || false));
    assert!(!other.hold(41, || false));
    assert!(other.hold(50, || true), "somebody registered over it");
    assert!(other.hold(45, || false), "less is never too much");
    drop(other);
    assert!(one.hold(100, || false));
    assert!(one.hold(0, || false));
    assert_eq!(places.held(), 0);
}
