//! Frames that contradict themselves: truncated at every length, with lying headers, or random.

use pbx_ebpf::abi::stats::Reason::{self, *};
use pbx_tests::frames::{Frame, ethertype, protocol, tcp};

use super::{Given::Set, row, row_of, run};
use crate::pair::{INTERFACE, Pair, with_pair};

/// A whole frame of each kind, with the offset of its IP header and of its L4 header's end.
fn kinds() -> Vec<(&'static str, Frame, usize, usize)> {
    let udp4 = || Frame::udp("192.0.2.7:9", "192.0.2.2:5060").payload(&[1; 20]);
    let udp6 = || Frame::udp("[2001:db8::7]:9", "[2001:db8::2]:5060").payload(&[1; 20]);
    let tcp4 = || Frame::tcp("192.0.2.7:9", "192.0.2.2:5061", tcp::SYN).payload(&[1; 20]);
    let tcp6 = || Frame::tcp("[2001:db8::7]:9", "[2001:db8::2]:5061", tcp::SYN).payload(&[1; 20]);
    vec![
        ("UDP over IPv4", udp4(), 14, 42),
        ("UDP over IPv4 in a VLAN", udp4().vlan(3), 18, 46),
        ("UDP over IPv4 in two VLANs", udp4().tag(ethertype::QINQ, 3).vlan(4), 22, 50),
        ("UDP over IPv4 with all options", udp4().options(&[1; 40]), 14, 82),
        ("first UDP fragment over IPv4", udp4().fragment(0, true), 14, 42),
        ("TCP over IPv4", tcp4(), 14, 54),
        ("TCP over IPv4 in two VLANs", tcp4().vlan(3).vlan(4), 22, 62),
        ("UDP over IPv6", udp6(), 14, 62),
        ("UDP over IPv6 in two VLANs", udp6().vlan(3).vlan(4), 22, 70),
        ("UDP over IPv6 behind options", udp6().extension(protocol::HOP_BY_HOP, &[0; 14]), 14, 78),
        ("UDP over IPv6 behind AH", udp6().extension(protocol::AUTHENTICATION, &[0; 14]), 14, 78),
        ("first UDP fragment over IPv6", udp6().fragment(0, true), 14, 70),
        ("TCP over IPv6", tcp6(), 14, 74),
        (
            "TCP over IPv6 behind routing and options",
            tcp6().extension(protocol::ROUTING, &[0; 6]).extension(protocol::DESTINATION_OPTIONS, &[0; 6]),
            14,
            90,
        ),
    ]
}

#[test]
fn a_frame_cut_off_at_any_length_is_malformed() {
    with_pair(|pair| {
        let mut cases = 0;
        for (name, frame, ..) in kinds() {
            let whole = frame.build();
            for length in 0..whole.len() {
                assert_eq!(reason(pair, &whole[..length]), Malformed, "{name}, {length} of {} bytes", whole.len());
                cases += 1;
            }
            pair.begin();
            assert_eq!(reason(pair, &whole), Counted, "{name}, whole");
        }
        println!("{cases} cut frames");
    });
}

/// As above, but the IP header admits to the length: what is missing then is the L4 header, or an extension.
#[test]
fn a_packet_that_says_its_shorter_length_is_malformed_until_it_has_its_whole_l4_header() {
    with_pair(|pair| {
        let mut cases = 0;
        for (name, frame, ip, l4_end) in kinds() {
            let whole = frame.build();
            let v6 = whole[ip] >> 4 == 6;
            let first = if v6 { ip + 40 } else { ip + usize::from(whole[ip] & 15) * 4 };
            for length in first..whole.len() {
                let mut cut = whole[..length].to_vec();
                let (at, claim) = if v6 { (ip + 4, length - ip - 40) } else { (ip + 2, length - ip) };
                cut[at..at + 2].copy_from_slice(&(claim as u16).to_be_bytes());
                let expected = if length < l4_end { Malformed } else { Counted };
                assert_eq!(reason(pair, &cut), expected, "{name}, {length} of {} bytes", whole.len());
                cases += 1;
            }
            pair.begin();
        }
        println!("{cases} short packets");
    });
}

/// The kernel runs no program on less than an Ethernet header; the host code says what it would have said.
fn reason(pair: &mut Pair, frame: &[u8]) -> Reason {
    if frame.len() < 14 { pair.host.judge(frame, INTERFACE, pair.now).reason } else { pair.judge(frame).reason }
}

#[test]
fn headers_that_lie_are_malformed_and_harmless_oddities_are_not() {
    let udp4 = || Frame::udp("192.0.2.7:9", "192.0.2.2:5060").payload(&[1; 20]);
    let udp6 = || Frame::udp("[2001:db8::7]:9", "[2001:db8::2]:5060").payload(&[1; 20]);
    let tcp4 = || Frame::tcp("192.0.2.7:9", "192.0.2.2:5061", tcp::SYN).payload(&[1; 20]);
    let tcp6 = || Frame::tcp("[2001:db8::7]:9", "[2001:db8::2]:5061", tcp::SYN).payload(&[1; 20]);
    let padded = |frame: Frame| [frame.build(), vec![0; 30]].concat();
    let mut rows = vec![
        row("IPv4 header length 5 words, whole", &udp4(), Counted),
        row("IPv4 header length 15 words", &udp4().options(&[1; 40]), Counted),
        row("IPv4 header length 15 words, not there", &udp4().claimed_header_words(15), Malformed),
        row("IPv4 header length 6 words, of the payload", &udp4().claimed_header_words(6), Passed),
        row("IPv4 total length one too long", &udp4().claimed_length(49), Malformed),
        row("IPv4 total length 65535", &udp4().claimed_length(65535), Malformed),
        row("IPv4 total length of the header alone", &udp4().claimed_length(20), Malformed),
        row("IPv4 total length below the header", &udp4().claimed_length(19), Malformed),
        row("IPv4 total length 0", &udp4().claimed_length(0), Malformed),
        row("IPv4 total length that cuts the UDP header", &udp4().claimed_length(27), Malformed),
        row("IPv4 total length that ends with the UDP header", &udp4().claimed_length(28), Counted),
        row_of("IPv4 with padding behind", padded(udp4()), Counted),
        row_of("IPv6 with padding behind", padded(udp6()), Counted),
        row("IPv6 payload length one too long", &udp6().claimed_length(29), Malformed),
        row("IPv6 payload length 65535", &udp6().claimed_length(65535), Malformed),
        row("IPv6 payload length that cuts the UDP header", &udp6().claimed_length(7), Malformed),
        row("IPv6 payload length that ends with the UDP header", &udp6().claimed_length(8), Counted),
        row("IPv6 payload length 0", &udp6().claimed_length(0), Malformed),
        row("a UDP length beyond the packet is for the receiver to see", &udp4().claimed_udp_length(9999), Counted),
        row("a UDP length of 0, likewise", &udp6().claimed_udp_length(0), Counted),
        row("TCP without flags", &Frame::tcp("192.0.2.7:9", "192.0.2.2:5061", 0), Counted),
        row("TCP with all flags", &Frame::tcp("192.0.2.7:9", "192.0.2.2:5061", 0xff), Counted),
        row(
            "a first fragment without its whole UDP header",
            &Frame::ip("192.0.2.7", "192.0.2.2", protocol::UDP, &[0; 7]).fragment(0, true),
            Malformed,
        ),
        row(
            "a first fragment without its whole TCP header",
            &Frame::ip("192.0.2.7", "192.0.2.2", protocol::TCP, &[0; 19]).fragment(0, true),
            Malformed,
        ),
        row(
            "an IPv6 first fragment without its whole UDP header",
            &Frame::ip("2001:db8::7", "2001:db8::2", protocol::UDP, &[0; 7]).fragment(0, true),
            Malformed,
        ),
        row(
            "an IPv6 first fragment without its whole TCP header",
            &Frame::ip("2001:db8::7", "2001:db8::2", protocol::TCP, &[0; 19]).fragment(0, true),
            Malformed,
        ),
        row(
            "a later fragment of 7 bytes",
            &Frame::ip("192.0.2.7", "192.0.2.2", protocol::UDP, &[0; 7]).fragment(3, false),
            Counted,
        ),
        row(
            "an IPv6 later fragment of 7 bytes",
            &Frame::ip("2001:db8::7", "2001:db8::2", protocol::TCP, &[0; 7]).fragment(3, true),
            Counted,
        ),
        row(
            "the last possible fragment",
            &Frame::ip("192.0.2.7", "192.0.2.2", protocol::UDP, &[0; 7]).fragment(0x1fff, false),
            Counted,
        ),
        row("an unknown protocol of no bytes", &Frame::ip("192.0.2.7", "192.0.2.2", 250, &[]), Passed),
        row("under monitor", &udp4().claimed_length(4000), WouldMalformed).given([Set("filter.mode", "monitor")]),
        row("switched off", &udp4().claimed_length(4000), Passed).given([Set("filter.mode", "off")]),
    ];
    for version in [0, 1, 3, 5, 6, 7, 15] {
        rows.push(row("IPv4 ethertype, another version", &udp4().claimed_version(version), Malformed));
    }
    for version in [0, 4, 5, 7, 15] {
        rows.push(row("IPv6 ethertype, another version", &udp6().claimed_version(version), Malformed));
    }
    for words in 0..5 {
        rows.push(row("IPv4 header length below 5 words", &udp4().claimed_header_words(words), Malformed));
        rows.push(row("TCP data offset below 5 words", &tcp4().claimed_tcp_words(words), Malformed));
        rows.push(row("TCP data offset below 5 words, IPv6", &tcp6().claimed_tcp_words(words), Malformed));
    }
    for words in 5..=15 {
        // 20 bytes of payload: room for 10 words.
        let says = if words <= 10 { Counted } else { Malformed };
        rows.push(row("TCP data offset", &tcp4().claimed_tcp_words(words), says));
        rows.push(row("TCP data offset, IPv6", &tcp6().claimed_tcp_words(words), says));
    }
    run(rows);
}

#[test]
fn a_frame_of_9000_bytes_is_judged_by_its_headers() {
    let big4 = || Frame::udp("192.0.2.7:9", "192.0.2.2:5060").payload(&[1; 8958]);
    let big6 = || Frame::udp("[2001:db8::7]:9", "[2001:db8::2]:5060").payload(&[1; 8938]);
    let cut = |frame: Frame, to: usize| frame.build()[..to].to_vec();
    assert_eq!(big4().build().len(), 9000);
    run(vec![
        row("IPv4", &big4(), Counted),
        row("IPv6", &big6(), Counted),
        row("IPv4, blocked", &big4(), Manual).given([super::block("192.0.2.7")]),
        row("IPv4 that says one byte more", &big4().claimed_length(8987), Malformed),
        row("IPv6 that says one byte more", &big6().claimed_length(8947), Malformed),
        row_of("IPv4, the last byte missing", cut(big4(), 8999), Malformed),
        row_of("IPv6, the last byte missing", cut(big6(), 8999), Malformed),
        row_of("IPv4, the second buffer missing", cut(big4(), 3000), Malformed),
        row(
            "in two VLANs, to ssh",
            &Frame::tcp("192.0.2.7:9", "192.0.2.2:22", 0x10).payload(&[7; 8900]).vlan(1).vlan(2),
            Passed,
        ),
    ]);
}

#[test]
fn random_bytes_always_get_a_verdict_and_both_judges_the_same() {
    with_pair(|pair| {
        let mut dice = crate::dice::Dice::new(1);
        let whole: Vec<Vec<u8>> = kinds().into_iter().map(|(_, frame, ..)| frame.build()).collect();
        let mut seen = std::collections::BTreeMap::<Reason, u32>::new();
        for case in 0..30_000 {
            let mut frame: Vec<u8> = (0..60).map(|_| dice.next() as u8).collect();
            match case % 5 {
                0 => {}
                1 => frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]),
                2 => frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]),
                3 => frame[12..21].copy_from_slice(&[
                    0x86,
                    0xdd,
                    0x60,
                    0,
                    0,
                    0,
                    0,
                    6,
                    dice.pick(&[0, 43, 44, 51, 60, 17]),
                ]),
                _ => {
                    frame = dice.pick(&whole);
                    for _ in 0..=dice.below(4) {
                        let at = 12 + dice.below(frame.len() as u64 - 12) as usize;
                        frame[at] = dice.next() as u8;
                    }
                }
            }
            pair.now += 1_000_000;
            *seen.entry(pair.judge(&frame).reason).or_default() += 1;
        }
        println!("30000 frames: {seen:?}");
    });
}
