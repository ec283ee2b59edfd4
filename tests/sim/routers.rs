//! Phones behind routers that forget what is silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use pbx_core::moment::Moment;

use crate::{
    phone::Phone,
    scene::{Scene, tcp, udp},
};

const KEEPALIVE: &[u8] = b"\r\n\r\n";

/// A router that translates addresses, and forgets a mapping that no packet used for a while.
struct Router {
    mappings: BTreeMap<u16, Mapping>,
    next: u16,
}

struct Mapping {
    inner: &'static str,
    used: Moment,
}

impl Router {
    const LIFE: Duration = Duration::from_secs(30);
    const ADDR: &'static str = "198.51.100.7";

    fn new() -> Self {
        Self { mappings: BTreeMap::new(), next: 50_000 }
    }

    /// A packet from the inside: the address that the appliance sees.
    fn out(&mut self, inner: &'static str, now: Moment) -> SocketAddr {
        self.mappings.retain(|_, mapping| now.since(mapping.used) < Self::LIFE);
        let port = match self.mappings.iter_mut().find(|(_, mapping)| mapping.inner == inner) {
            Some((port, mapping)) => {
                mapping.used = now;
                *port
            }
            None => {
                self.next += 1;
                self.mappings.insert(self.next, Mapping { inner, used: now });
                self.next
            }
        };
        format!("{}:{port}", Self::ADDR).parse().unwrap()
    }

    /// A packet from the outside: who gets it, if anybody.
    fn inward(&mut self, to: SocketAddr, now: Moment) -> Option<&'static str> {
        if to.ip().to_string() != Self::ADDR {
            return None;
        }
        let mapping = self.mappings.get_mut(&to.port()).filter(|mapping| now.since(mapping.used) < Self::LIFE)?;
        mapping.used = now;
        Some(mapping.inner)
    }
}

#[test]
fn a_phone_behind_a_router_is_reachable_after_five_idle_minutes() {
    let mut scene = Scene::new();
    let mut router = Router::new();
    let inner = "192.168.1.9:5060";
    let remote = router.out(inner, scene.now);
    let mut phone = Phone::behind("100", inner, udp(&remote.to_string()));
    let answer = phone.register_with(&mut scene, "Expires: 3600\r\n");
    assert_eq!(answer.status, 200);
    let mut last = scene.now;
    for sent in scene.advance(Duration::from_secs(300)) {
        assert_eq!(sent.bytes, KEEPALIVE);
        assert!(sent.at.since(last) <= Duration::from_secs(25), "{:?}", sent.at.since(last));
        assert_eq!(router.inward(sent.flow.remote, sent.at), Some(inner));
        assert_eq!(sent.flow, phone.flow, "from the address that it registered to");
        last = sent.at;
    }
    assert_eq!(router.inward(scene.reachable("100")[0], scene.now), Some(inner));
}

#[test]
fn the_router_of_these_tests_does_forget() {
    let mut router = Router::new();
    let now = Moment::from_micros(0);
    let remote = router.out("192.168.1.9:5060", now);
    assert_eq!(router.inward(remote, now + Duration::from_secs(29)), Some("192.168.1.9:5060"));
    assert_eq!(router.inward(remote, now + Duration::from_secs(59)), None);
}

#[test]
fn phones_that_no_router_hides_get_no_keep_alives() {
    let mut scene = Scene::new();
    Phone::new("100", udp("198.51.100.7:5060")).register(&mut scene);
    Phone::behind("101", "192.168.1.9:5060", tcp("198.51.100.7:40000", 1)).register(&mut scene);
    assert!(scene.advance(Duration::from_secs(250)).is_empty());
}

#[test]
fn keep_alives_are_spread_follow_a_phone_that_moved_and_end_with_the_binding() {
    let mut scene = Scene::new();
    for number in 100..150 {
        let flow = udp(&format!("198.51.100.7:{}", 50_000 + number));
        Phone::behind(&number.to_string(), &format!("192.168.1.{number}:5060"), flow).register(&mut scene);
    }
    let sent = scene.advance(Duration::from_secs(25));
    assert_eq!(sent.len(), 50);
    assert_eq!(sent.iter().map(|sent| sent.flow.remote).collect::<BTreeSet<_>>().len(), 50);
    for second in 0..25_u64 {
        let within = sent.iter().filter(|sent| (sent.at.as_micros() - 5_000_000) / 1_000_000 == second);
        assert!(within.count() <= 4, "in second {second}");
    }
    // The router gave the phone another port: the refresh says so.
    let mut moved = Phone::behind("100", "192.168.1.100:5060", udp("198.51.100.7:60000"));
    moved.register(&mut scene);
    let sent = scene.advance(Duration::from_secs(25));
    assert_eq!(sent.len(), 50);
    assert_eq!(sent.iter().filter(|sent| sent.flow.remote.port() == 60_000).count(), 1);
    assert_eq!(sent.iter().filter(|sent| sent.flow.remote.port() == 50_100).count(), 0);
    moved.register_with(&mut scene, "Expires: 0\r\n");
    assert_eq!(scene.advance(Duration::from_secs(25)).len(), 49);
    scene.advance(Duration::from_secs(300));
    assert!(scene.advance(Duration::from_secs(300)).is_empty());
}

#[test]
fn keep_alives_go_on_after_a_restart() {
    let mut scene = Scene::new();
    let flow = udp("198.51.100.7:50000");
    Phone::behind("100", "192.168.1.9:5060", flow).register(&mut scene);
    scene.restart(Duration::from_secs(1));
    let sent = scene.advance(Duration::from_secs(25));
    assert_eq!((sent.len(), sent[0].flow), (1, flow));
}

#[test]
fn forty_phones_behind_one_address_return_at_once_after_an_outage() {
    for outage in [Duration::from_secs(10), Duration::from_secs(40 * 86_400)] {
        let mut scene = Scene::new();
        let mut phones: Vec<Phone> = (0..40)
            .map(|at| {
                let flow = udp(&format!("198.51.100.7:{}", 50_000 + at));
                Phone::behind(&(100 + at).to_string(), &format!("192.168.1.{}:5060", 10 + at), flow)
            })
            .collect();
        phones.iter_mut().for_each(|phone| assert_eq!(phone.register(&mut scene).status, 200));
        // Long enough, and nothing of them is known any more.
        scene.restart(outage);
        for (at, phone) in phones.iter_mut().enumerate() {
            phone.flow = udp(&format!("198.51.100.7:{}", 60_000 + at));
        }
        // All send before any has its answer, and each of them twice, for they are impatient.
        let requests: Vec<String> = phones.iter_mut().map(|phone| phone.registration("")).collect();
        let mut answers: Vec<_> =
            phones.iter().zip(&requests).map(|(phone, text)| scene.ask(phone.flow, text)).collect();
        for (phone, text) in phones.iter().zip(&requests) {
            scene.ask(phone.flow, text);
        }
        for (phone, answer) in phones.iter_mut().zip(answers.drain(..)) {
            phone.take_challenge(&answer.expect("a challenge for everybody"));
        }
        for phone in &mut phones {
            let request = phone.registration("");
            assert_eq!(scene.ask(phone.flow, request).unwrap().status, 200);
        }
        assert_eq!(scene.pbx.bindings().count(), 40);
        assert!(phones.iter().all(|phone| scene.reachable(&phone.number) == [phone.flow.remote]));
    }
}
