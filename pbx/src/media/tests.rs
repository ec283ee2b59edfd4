//! The relay between phones that are sockets of the loopback.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::mpsc::{Receiver, channel},
    time::Instant,
};

use pbx_core::{
    media::{Leg, Pair, Payload, Remote, credit::UNHEARD},
    wire::rtp::Header,
};

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this long, nothing comes any more: what came in order before it was seen.
const SHORT: Duration = Duration::from_millis(150);

/// A relay with a core that only listens.
struct Scene {
    relay: Relay,
    told: Receiver<Input>,
    pairs: Vec<Pair>,
    next: u64,
}

/// A phone: its two sockets, and its leg.
struct Phone {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    leg: Leg,
}

fn scene(ports: &str, silence: Duration) -> Scene {
    let mut settings = Settings::default();
    settings.set("filter.media_ports", ports).unwrap();
    let options = Options { silence, workers: 2, ..Options::new(&settings, [[1, 2], [3, 4]], Clock::start()) };
    let (tell, told) = channel();
    let relay = Relay::start(options, Box::new(move |input| drop(tell.send(input)))).unwrap();
    Scene { relay, told, pairs: Vec::new(), next: 1 }
}

impl Scene {
    fn pair(&mut self) -> Pair {
        if self.pairs.is_empty() {
            self.relay.command(Command::Wanted(4));
        }
        while self.pairs.is_empty() {
            match self.told.recv_timeout(PATIENCE).unwrap() {
                Input::Pairs(pairs) => self.pairs.extend(pairs),
                other => panic!("{other:?}"),
            }
        }
        self.pairs.remove(0)
    }

    /// A phone at a loopback address that sends and takes G.711 A-law and events.
    fn phone(&mut self, address: impl Into<IpAddr>) -> Phone {
        let address = address.into();
        let bind = || UdpSocket::bind((address, 0)).unwrap();
        let (rtp, rtcp) = (bind(), bind());
        for socket in [&rtp, &rtcp] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let format = |payload, rate| Payload { from: payload, to: payload, rate };
        let remote = Remote {
            rtp: rtp.local_addr().unwrap(),
            rtcp: rtcp.local_addr().unwrap(),
            signalling: address,
            mux: false,
            epoch: 1,
            sends: true,
            receives: true,
            formats: vec![format(8, 8000), format(101, 8000)],
            event: Some((101, 8000)),
        };
        let local = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let id = LegId(self.next);
        self.next += 1;
        Phone { rtp, rtcp, leg: Leg { id, group: 1, pair: self.pair(), local, remote: Some(remote), peer: None } }
    }

    /// Two phones in a call.
    fn call(&mut self) -> (Phone, Phone) {
        let (mut one, mut other) = (self.phone(Ipv4Addr::LOCALHOST), self.phone(Ipv4Addr::LOCALHOST));
        (one.leg.peer, other.leg.peer) = (Some(other.leg.id), Some(one.leg.id));
        self.set(&one);
        self.set(&other);
        (one, other)
    }

    /// Sets a leg, and waits until it is there if it was not.
    fn set(&self, phone: &Phone) {
        self.relay.command(Command::Set(phone.leg.clone()));
        let deadline = Instant::now() + PATIENCE;
        while self.relay.seen(phone.leg.id).is_none() {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    fn close(&self, phone: &Phone) -> Stats {
        self.relay.command(Command::Close(phone.leg.id));
        loop {
            match self.told.recv_timeout(PATIENCE).unwrap() {
                Input::LegEnded { leg, stats } if leg == phone.leg.id => return stats,
                Input::Pairs(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the relay has counted so many refused packets of a leg.
    fn refused(&self, phone: &Phone, count: u64) {
        self.until(phone, |stats| stats.refused >= count);
    }

    fn until(&self, phone: &Phone, holds: impl Fn(Stats) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self.relay.seen(phone.leg.id).unwrap().0) {
            assert!(Instant::now() < deadline, "{:?}", self.relay.seen(phone.leg.id));
            thread::yield_now();
        }
    }
}

impl Phone {
    fn remote(&mut self) -> &mut Remote {
        self.leg.remote.as_mut().unwrap()
    }

    fn port(&self, port: u16) -> (IpAddr, u16) {
        (self.leg.local, port)
    }

    fn speak(&self, from: &UdpSocket, sequence: u16) {
        from.send_to(&rtp(8, 7, sequence, 160), self.port(self.leg.pair.rtp)).unwrap();
    }

    fn says(&self, sequence: u16) {
        self.speak(&self.rtp, sequence);
    }

    /// What comes next from the own port of the relay.
    fn hears(&self) -> (Header, Vec<u8>) {
        let (packet, from) = receive(&self.rtp);
        assert_eq!((from.ip(), from.port()), self.port(self.leg.pair.rtp));
        (Header::parse(&packet).unwrap(), packet)
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, std::net::SocketAddr) {
    let mut packet = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut packet).expect("nothing came");
    packet.truncate(length);
    (packet, from)
}

fn is_silent(socket: &UdpSocket) {
    socket.set_read_timeout(Some(SHORT)).unwrap();
    let heard = socket.recv_from(&mut [0; 2000]);
    assert!(heard.is_err(), "{heard:?} came");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn rtp(payload_type: u8, ssrc: u32, sequence: u16, length: usize) -> Vec<u8> {
    let timestamp = u32::from(sequence) * 160;
    let header = Header { marker: false, payload_type, sequence, timestamp, ssrc, payload: 12..12 };
    [&header.write()[..], &vec![sequence as u8; length]].concat()
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn two_phones_hear_each_other_and_what_went_through_is_counted() {
    let mut scene = scene("21000-21199", LONG);
    let (one, other) = scene.call();
    for sequence in [1, 2, 3, 5] {
        one.says(sequence);
        assert_eq!(other.hears().1, rtp(8, 7, sequence, 160));
        other.says(sequence);
        assert_eq!(one.hears().0.sequence, sequence);
    }
    one.rtcp.send_to(&rtcp(7), one.port(one.leg.pair.rtcp())).unwrap();
    let (packet, from) = receive(&other.rtcp);
    assert_eq!((packet, (from.ip(), from.port())), (rtcp(7), other.port(other.leg.pair.rtcp())));
    scene.until(&one, |stats| stats.sent == 4);
    let (live, latched) = scene.relay.seen(one.leg.id).unwrap();
    assert_eq!(latched, Some(one.rtp.local_addr().unwrap()));
    let stats = scene.close(&one);
    assert_eq!(stats, live);
    let Stats { packets, bytes, lost, jitter: _, refused, sent, sent_bytes } = stats;
    assert_eq!((packets, bytes, lost, refused, sent, sent_bytes), (4, 688, 1, 0, 4, 688));
    assert_eq!(scene.relay.seen(one.leg.id), None);
    assert_eq!(scene.relay.status().legs, 1);
    other.says(6);
    scene.until(&other, |stats| stats.packets == 5);
    assert_eq!(scene.close(&other).lost, 1);
}

#[test]
fn phones_of_both_families_hear_each_other() {
    let mut scene = scene("21200-21299", LONG);
    let (mut one, mut other) = (scene.phone(Ipv4Addr::LOCALHOST), scene.phone(Ipv6Addr::LOCALHOST));
    (one.leg.peer, other.leg.peer) = (Some(other.leg.id), Some(one.leg.id));
    scene.set(&one);
    scene.set(&other);
    one.says(1);
    assert_eq!(other.hears().0.sequence, 1);
    other.says(2);
    assert_eq!(one.hears().0.sequence, 2);
}

#[test]
fn packets_leave_from_the_address_that_the_leg_says() {
    let mut scene = scene("21300-21399", LONG);
    let (mut one, other) = scene.call();
    one.leg.local = Ipv4Addr::new(127, 0, 0, 9).into();
    scene.set(&one);
    other.says(1);
    one.hears();
}

#[test]
fn what_is_injected_from_another_address_is_never_passed_on() {
    let mut scene = scene("21400-21499", LONG);
    let (one, other) = scene.call();
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    // Before the phone has spoken, and after.
    for sequence in 0..50 {
        one.speak(&stranger, sequence);
    }
    scene.refused(&one, 50);
    one.says(100);
    assert_eq!(other.hears().0.sequence, 100);
    for sequence in 101..151 {
        one.speak(&stranger, sequence);
        stranger.send_to(&rtcp(7), one.port(one.leg.pair.rtcp())).unwrap();
    }
    scene.refused(&one, 150);
    one.says(151);
    assert_eq!(other.hears().0.sequence, 151, "nothing of the stranger's came between");
    is_silent(&other.rtcp);
    // And the stranger hears nothing.
    other.says(1);
    one.hears();
    is_silent(&stranger);
}

#[test]
fn another_port_of_the_same_address_is_not_passed_on_while_media_runs() {
    let mut scene = scene("21500-21599", LONG);
    let (one, other) = scene.call();
    let neighbour = UdpSocket::bind("127.0.0.1:0").unwrap();
    for sequence in 0..50 {
        one.says(2 * sequence);
        one.speak(&neighbour, 2 * sequence + 1);
    }
    scene.refused(&one, 50);
    for sequence in 0..50 {
        assert_eq!(other.hears().0.sequence, 2 * sequence);
    }
    assert_eq!(scene.relay.seen(one.leg.id).unwrap().1, Some(one.rtp.local_addr().unwrap()));
}

#[test]
fn after_silence_a_phone_is_heard_from_another_port_and_spoken_to_there() {
    let mut scene = scene("21600-21699", Duration::ZERO);
    let (one, other) = scene.call();
    one.says(1);
    other.hears();
    let moved = UdpSocket::bind("127.0.0.1:0").unwrap();
    moved.set_read_timeout(Some(PATIENCE)).unwrap();
    // Another stream is not the phone's.
    moved.send_to(&rtp(8, 99, 30_000, 160), one.port(one.leg.pair.rtp)).unwrap();
    scene.refused(&one, 1);
    one.speak(&moved, 2);
    assert_eq!(other.hears().0.sequence, 2);
    other.says(1);
    let (packet, _) = receive(&moved);
    assert_eq!(Header::parse(&packet).unwrap().sequence, 1);
    assert_eq!(scene.relay.seen(one.leg.id).unwrap().1, Some(moved.local_addr().unwrap()));
    // As a setting that changes says: from here on it takes a minute.
    scene.relay.settings(&{
        let mut settings = Settings::default();
        settings.set("calls.media_silence", "60s").unwrap();
        settings
    });
    one.says(3);
    scene.refused(&one, 2);
}

#[test]
fn another_address_is_heard_when_the_phone_says_anew_where_it_is() {
    let mut scene = scene("21700-21799", LONG);
    let (mut one, other) = scene.call();
    one.says(1);
    other.hears();
    let elsewhere = UdpSocket::bind("127.0.0.3:0").unwrap();
    elsewhere.set_read_timeout(Some(PATIENCE)).unwrap();
    one.speak(&elsewhere, 2);
    scene.refused(&one, 1);
    one.remote().rtp = elsewhere.local_addr().unwrap();
    one.remote().epoch = 2;
    scene.set(&one);
    one.says(3);
    assert_eq!(other.hears().0.sequence, 3, "the old one is heard until the new one speaks");
    one.speak(&elsewhere, 4);
    assert_eq!(other.hears().0.sequence, 4);
    one.says(5);
    scene.refused(&one, 2);
    other.says(1);
    receive(&elsewhere);
}

#[test]
fn packets_of_0_and_of_9000_bytes_disturb_nobody() {
    let mut scene = scene("21800-21899", LONG);
    let (one, other) = scene.call();
    for garbage in [&[][..], &[0x80], &[0xff; 9000], &rtp(9, 7, 1, 160), &[0x80, 200, 0, 6]] {
        one.rtp.send_to(garbage, one.port(one.leg.pair.rtp)).unwrap();
        one.rtcp.send_to(garbage, one.port(one.leg.pair.rtcp())).unwrap();
    }
    scene.refused(&one, 10);
    for length in [0, 2036] {
        one.rtp.send_to(&rtp(8, 7, 5, length), one.port(one.leg.pair.rtp)).unwrap();
        assert_eq!(other.hears().1, rtp(8, 7, 5, length));
    }
    // Whole RTP, and no speech.
    for length in [2037, 8988, 65_495] {
        one.rtp.send_to(&rtp(8, 7, 5, length), one.port(one.leg.pair.rtp)).unwrap();
    }
    scene.refused(&one, 13);
    one.says(6);
    assert_eq!(other.hears().0.sequence, 6);
}

#[test]
fn a_phone_that_shares_a_port_is_joined_with_one_that_does_not() {
    let mut scene = scene("21900-21999", LONG);
    let (mut one, other) = scene.call();
    one.remote().mux = true;
    one.remote().rtcp = one.remote().rtp;
    scene.set(&one);
    one.rtp.send_to(&rtcp(7), one.port(one.leg.pair.rtp)).unwrap();
    assert_eq!(receive(&other.rtcp).0, rtcp(7));
    one.says(1);
    assert_eq!(other.hears().0.sequence, 1);
    other.rtcp.send_to(&rtcp(9), other.port(other.leg.pair.rtcp())).unwrap();
    let (packet, from) = receive(&one.rtp);
    assert_eq!((packet, from.port()), (rtcp(9), one.leg.pair.rtp));
    // RTCP is no RTP to who does not share.
    other.rtp.send_to(&rtcp(9), other.port(other.leg.pair.rtp)).unwrap();
    scene.refused(&other, 1);
}

#[test]
fn who_describes_a_third_party_as_its_own_has_it_sent_no_more_than_the_credit() {
    let mut scene = scene("22600-22699", LONG);
    let (mut one, other) = scene.call();
    // Its signalling comes from elsewhere, and nothing at all from where it says that it is.
    one.remote().signalling = "127.0.0.9".parse().unwrap();
    scene.set(&one);
    let told = |scene: &Scene| scene.relay.status().withheld;
    for sequence in 0..UNHEARD as u16 {
        other.says(sequence);
        assert_eq!(one.hears().0.sequence, sequence);
    }
    other.says(1000);
    scene.until(&other, |stats| stats.packets == u64::from(UNHEARD) + 1);
    is_silent(&one.rtp);
    // Saying it anew is no proof either.
    one.remote().epoch += 1;
    scene.set(&one);
    other.says(1001);
    scene.until(&other, |stats| stats.packets == u64::from(UNHEARD) + 2);
    is_silent(&one.rtp);
    assert_eq!((told(&scene), scene.relay.seen(one.leg.id).unwrap().0.sent), (2, u64::from(UNHEARD)));
    // Who only listens says that it is there by RTCP.
    one.rtcp.send_to(&rtcp(9), one.port(one.leg.pair.rtcp())).unwrap();
    receive(&other.rtcp);
    other.says(1002);
    assert_eq!(one.hears().0.sequence, 1002);
    assert_eq!(told(&scene), 2);
}

#[test]
fn a_phone_that_never_speaks_is_spoken_to_where_its_signalling_comes_from() {
    let mut scene = scene("22700-22799", LONG);
    let (one, other) = scene.call();
    for sequence in 0..2 * UNHEARD as u16 {
        other.says(sequence);
        assert_eq!(one.hears().0.sequence, sequence);
    }
    assert_eq!(scene.relay.status().withheld, 0);
}

#[test]
fn payload_types_are_mapped_and_who_holds_is_not_spoken_to() {
    let mut scene = scene("22000-22099", LONG);
    let (mut one, mut other) = scene.call();
    one.remote().formats[0].to = 96;
    scene.set(&one);
    let mut packet = rtp(8, 7, 1, 160);
    packet[1] |= 0x80;
    one.rtp.send_to(&packet, one.port(one.leg.pair.rtp)).unwrap();
    let (header, _) = other.hears();
    assert_eq!((header.payload_type, header.marker), (96, true));
    other.remote().receives = false;
    scene.set(&other);
    one.says(2);
    scene.until(&one, |stats| stats.packets == 2);
    other.remote().receives = true;
    scene.set(&other);
    one.remote().sends = false;
    scene.set(&one);
    one.says(3);
    scene.until(&one, |stats| stats.packets == 3);
    one.remote().sends = true;
    scene.set(&one);
    one.says(4);
    assert_eq!(other.hears().0.sequence, 4);
}

#[test]
fn a_digit_is_heard_as_an_event_between_the_packets_of_the_peer() {
    let mut scene = scene("22100-22199", LONG);
    let (one, mut other) = scene.call();
    one.says(1);
    other.hears();
    let digit = |leg| Command::Digit { leg, digit: '#', duration: Duration::from_millis(60) };
    scene.relay.command(digit(other.leg.id));
    let events: Vec<(Header, Vec<u8>)> = (0..5).map(|_| other.hears()).collect();
    for (index, (header, packet)) in events.iter().enumerate() {
        assert_eq!((header.payload_type, header.ssrc, header.sequence), (101, 7, 2 + index as u16));
        assert_eq!((header.marker, packet[12], packet[13] >> 7), (index == 0, 11, u8::from(index >= 2)));
    }
    one.says(2);
    assert_eq!(other.hears().0.sequence, 7, "what follows fits");
    other.remote().event = None;
    scene.set(&other);
    scene.relay.command(digit(other.leg.id));
    scene.relay.command(digit(LegId(999)));
    let deadline = Instant::now() + PATIENCE;
    while scene.relay.status().digits_lost < 2 {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
}

#[test]
fn ports_rest_and_are_given_again_and_one_that_is_held_is_left_out() {
    // Two pairs, of which a neighbour holds a half.
    let _neighbour = UdpSocket::bind("0.0.0.0:22203").unwrap();
    let mut scene = scene("22200-22203", LONG);
    let phone = scene.phone(Ipv4Addr::LOCALHOST);
    assert_eq!(phone.leg.pair, Pair { rtp: 22_200 });
    assert!(scene.relay.status().taken >= 1 && scene.relay.status().used_up >= 1);
    scene.set(&phone);
    phone.says(1);
    scene.until(&phone, |stats| stats.packets == 1);
    let ended = Instant::now();
    scene.close(&phone);
    phone.says(2);
    // The core had asked for four.
    let Input::Pairs(pairs) = scene.told.recv_timeout(PATIENCE).unwrap() else { panic!("no pairs") };
    assert_eq!(pairs, [Pair { rtp: 22_200 }]);
    assert!(ended.elapsed() >= Duration::from_secs(2));
    // What came meanwhile is nobody's.
    let again = Phone { leg: Leg { id: LegId(50), ..phone.leg.clone() }, ..phone };
    scene.set(&again);
    again.says(3);
    scene.until(&again, |stats| stats.packets > 0);
    assert_eq!(scene.close(&again).packets, 1);
}

#[test]
fn a_changed_range_gives_pairs_of_its_own() {
    let mut scene = scene("22300-22301", LONG);
    let phone = scene.phone(Ipv4Addr::LOCALHOST);
    let mut settings = Settings::default();
    settings.set("filter.media_ports", "22310-22315").unwrap();
    scene.relay.settings(&settings);
    let pairs: std::collections::BTreeSet<u16> = (0..3).map(|_| scene.pair().rtp).collect();
    assert_eq!(pairs, [22_310, 22_312, 22_314].into());
    scene.set(&phone);
    scene.close(&phone);
    // It is outside: somebody else can have it.
    let deadline = Instant::now() + PATIENCE;
    while UdpSocket::bind("0.0.0.0:22300").is_err() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stop_tells_of_every_leg_and_frees_the_ports() {
    let mut scene = scene("22400-22499", LONG);
    let (one, other) = scene.call();
    one.says(1);
    other.hears();
    scene.relay.stop();
    let ended = scene.told.try_iter().filter(|input| matches!(input, Input::LegEnded { .. })).count();
    assert_eq!(ended, 2);
    drop(scene);
    UdpSocket::bind(("0.0.0.0", one.leg.pair.rtp)).unwrap();
}

#[test]
fn commands_over_the_room_of_a_queue_are_carried_out_later_and_none_is_lost() {
    let mut scene = scene("22500-22599", LONG);
    let (mut one, other) = scene.call();
    for round in 0..20_000 {
        one.remote().epoch = round;
        scene.set(&one);
    }
    one.remote().formats[0].to = 77;
    scene.set(&one);
    let deadline = Instant::now() + PATIENCE;
    // The last word counts.
    loop {
        one.says(1);
        if other.hears().0.payload_type == 77 {
            break;
        }
        assert!(Instant::now() < deadline);
    }
    scene.close(&one);
}

#[tokio::test]
async fn a_thread_that_breaks_off_is_noticed_at_once_and_the_relay_can_still_be_stopped() {
    let mut settings = Settings::default();
    settings.set("filter.media_ports", "22800-22899").unwrap();
    let options = Options { workers: 1, ..Options::new(&settings, [[1, 2], [3, 4]], Clock::start()) };
    let relay = Relay::start(options, Box::new(|input| panic!("on purpose, by {input:?}"))).unwrap();
    assert!(!relay.is_broken() && !relay.status().broken);
    let broken = relay.broken();
    relay.command(Command::Wanted(1));
    tokio::time::timeout(PATIENCE, broken).await.expect("nobody noticed");
    assert!(relay.is_broken() && relay.status().broken);
    relay.stop();
}

#[tokio::test]
async fn a_relay_that_ends_as_it_is_told_has_not_broken_off() {
    let relay = scene("22900-22999", LONG).relay;
    let broken = relay.broken();
    drop(relay);
    assert!(tokio::time::timeout(SHORT, broken).await.is_err());
}
