use super::*;

const SILENCE: Duration = Duration::from_secs(2);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ms(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn rtp(ssrc: u32, sequence: u16) -> Sign {
    Sign { ssrc, sequence: Some(sequence) }
}

fn rtcp(ssrc: u32) -> Sign {
    Sign { ssrc, sequence: None }
}

/// A latch at 192.0.2.1:4000 that was heard from port 5000, SSRC 7, sequence number 100, at 1 s.
fn latched() -> Latch {
    let mut latch = Latch::new(at("192.0.2.1:4000"), 1);
    assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(7, 100), ms(1000), SILENCE), Heard::Latched { before: None });
    latch
}

#[test]
fn before_anything_came_packets_go_where_the_phone_says_that_it_is() {
    let mut latch = Latch::new(at("192.0.2.1:4000"), 1);
    assert_eq!((latch.destination(), latch.latched()), (at("192.0.2.1:4000"), None));
    // A later description of the same dialog, before anything came, holds too.
    latch.describe(at("192.0.2.9:4000"), 1);
    assert_eq!(latch.destination(), at("192.0.2.9:4000"));
    assert_eq!(latch.hear(at("192.0.2.1:4000"), rtp(7, 1), ms(0), SILENCE), Heard::Refused);
}

#[test]
fn the_first_packet_from_the_described_address_latches_whatever_its_port() {
    let mut latch = Latch::new(at("192.0.2.1:4000"), 1);
    assert_eq!(latch.hear(at("192.0.2.2:4000"), rtp(1, 1), ms(0), SILENCE), Heard::Refused, "another address");
    assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(7, 1), ms(1), SILENCE), Heard::Latched { before: None });
    assert_eq!((latch.destination(), latch.latched()), (at("192.0.2.1:5000"), Some(at("192.0.2.1:5000"))));
    assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(7, 2), ms(20), SILENCE), Heard::Taken);
    assert_eq!(latch.hear(at("192.0.2.1:4000"), rtp(7, 3), ms(21), SILENCE), Heard::Refused, "the described port too");
}

#[test]
fn another_port_is_refused_while_the_latched_one_speaks() {
    let mut latch = latched();
    for second in 0..60 {
        let now = 1000 + second * 1000;
        assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(7, 101), ms(now), SILENCE), Heard::Taken);
        assert_eq!(latch.hear(at("192.0.2.1:5001"), rtp(7, 102), ms(now + 999), SILENCE), Heard::Refused);
    }
}

#[test]
fn after_silence_the_same_stream_is_taken_from_another_port_of_its_address() {
    for (sign, taken) in [
        (rtp(7, 40_000), true),
        (rtp(8, 101), true),
        (rtp(8, 100 + MAX_AHEAD), true),
        (rtp(8, 101 + MAX_AHEAD), false),
        (rtp(8, 100), false),
        (rtp(8, 99), false),
        (rtcp(7), true),
        (rtcp(8), false),
    ] {
        let mut latch = latched();
        assert_eq!(latch.hear(at("192.0.2.1:5001"), sign, ms(2999), SILENCE), Heard::Refused, "{sign:?} too early");
        let wanted = if taken { Heard::Latched { before: Some(at("192.0.2.1:5000")) } } else { Heard::Refused };
        assert_eq!(latch.hear(at("192.0.2.1:5001"), sign, ms(3000), SILENCE), wanted, "{sign:?}");
        let to = if taken { "192.0.2.1:5001" } else { "192.0.2.1:5000" };
        assert_eq!(latch.destination(), at(to));
    }
}

#[test]
fn a_sequence_continues_over_the_wrap_and_from_its_highest_number() {
    let mut latch = Latch::new(at("192.0.2.1:4000"), 1);
    let port = |port| SocketAddr::new(at("192.0.2.1:0").ip(), port);
    for sequence in [65_534, 65_535, 65_530] {
        latch.hear(port(5000), rtp(7, sequence), ms(0), SILENCE);
    }
    assert_eq!(latch.hear(port(5001), rtp(8, 65_535), ms(2000), SILENCE), Heard::Refused, "an old number");
    let moved = Heard::Latched { before: Some(port(5000)) };
    assert_eq!(latch.hear(port(5001), rtp(8, 2), ms(2000), SILENCE), moved);
}

#[test]
fn another_address_is_never_believed_for_its_stream() {
    let mut latch = latched();
    assert_eq!(latch.hear(at("192.0.2.2:5000"), rtp(7, 101), ms(60_000), SILENCE), Heard::Refused);
    // Nor is one that is described without a new epoch.
    latch.describe(at("192.0.2.2:4000"), 1);
    assert_eq!(latch.hear(at("192.0.2.2:5000"), rtp(7, 101), ms(60_000), SILENCE), Heard::Refused);
    assert_eq!(latch.destination(), at("192.0.2.1:5000"));
}

#[test]
fn a_new_epoch_opens_the_latch_once_for_the_new_address() {
    let mut latch = latched();
    latch.describe(at("192.0.2.2:4000"), 2);
    assert_eq!(latch.destination(), at("192.0.2.2:4000"));
    assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(7, 101), ms(1001), SILENCE), Heard::Taken, "the old one goes on");
    assert_eq!(latch.hear(at("192.0.2.3:4000"), rtp(7, 102), ms(1002), SILENCE), Heard::Refused);
    let moved = Heard::Latched { before: Some(at("192.0.2.1:5000")) };
    assert_eq!(latch.hear(at("192.0.2.2:6000"), rtp(9, 5), ms(1003), SILENCE), moved);
    assert_eq!(latch.destination(), at("192.0.2.2:6000"));
    assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(7, 103), ms(1004), SILENCE), Heard::Refused, "not any more");
    assert_eq!(latch.hear(at("192.0.2.2:6001"), rtp(9, 6), ms(1004), SILENCE), Heard::Refused, "once");
}

#[test]
fn an_epoch_that_changes_nothing_opens_nothing() {
    let mut latch = latched();
    latch.describe(at("192.0.2.1:4000"), 2);
    assert_eq!(latch.destination(), at("192.0.2.1:5000"));
    assert_eq!(latch.hear(at("192.0.2.1:5001"), rtp(7, 101), ms(1001), SILENCE), Heard::Refused);
    // A phone that said the port from which it speaks anyway needs nobody else.
    latch.describe(at("192.0.2.1:5000"), 3);
    assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(7, 102), ms(1002), SILENCE), Heard::Taken);
    assert_eq!(latch.hear(at("192.0.2.1:5001"), rtp(7, 103), ms(1003), SILENCE), Heard::Refused);
}

#[test]
fn a_new_stream_from_the_latched_port_is_the_one_that_may_move() {
    let mut latch = latched();
    assert_eq!(latch.hear(at("192.0.2.1:5000"), rtp(9, 30_000), ms(1010), SILENCE), Heard::Taken);
    let moved = Heard::Latched { before: Some(at("192.0.2.1:5000")) };
    assert_eq!(latch.clone().hear(at("192.0.2.1:5001"), rtp(8, 101), ms(4000), SILENCE), Heard::Refused);
    assert_eq!(latch.hear(at("192.0.2.1:5001"), rtp(9, 10), ms(4000), SILENCE), moved);
}
