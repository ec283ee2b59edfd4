//! IPv6 extension headers: a chain of eight is followed, a longer one is policed like a later fragment.

use pbx_ebpf::abi::stats::Reason::*;
use pbx_tests::frames::{Frame, protocol};

use super::{Given::*, Row, row, run};

fn sip() -> Frame {
    Frame::udp("[2001:db8::7]:9", "[2001:db8::2]:5060")
}

/// To a port that nobody protects: it passes, unless the port could not be seen.
fn elsewhere() -> Frame {
    Frame::udp("[2001:db8::7]:9", "[2001:db8::2]:9")
}

fn chained(frame: Frame, kind: u8, headers: usize) -> Frame {
    (0..headers).fold(frame, |frame, _| frame.extension(kind, &[0; 6]))
}

fn kinds() -> [u8; 7] {
    [protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION_OPTIONS, protocol::AUTHENTICATION, 135, 139, 140]
}

#[test]
fn a_chain_is_followed_for_eight_headers() {
    let mut rows = Vec::new();
    for kind in kinds() {
        for headers in 0..=10 {
            let frame = chained(elsewhere(), kind, headers);
            rows.push(row("to an unprotected port", &frame, if headers <= 8 { Passed } else { Counted }));
            // The limit of later fragments is 2 here, that of level 1 is 500.
            let says = if headers <= 8 { Counted } else { FragmentLimit };
            let before = [Set("guard.fragments.packets", "2"), Sent(2, chained(sip(), kind, headers))];
            rows.push(row("to a protected port", &chained(sip(), kind, headers), says).given(before));
        }
    }
    run(rows);
}

#[test]
fn fragments_atomic_first_and_later() {
    let rows: Vec<Row> = vec![
        row("an atomic fragment counts by its port", &elsewhere().fragment(0, false), Passed),
        row("a first fragment counts by its port", &elsewhere().fragment(0, true), Passed),
        row("a later fragment has no port", &elsewhere().fragment(1, true), Counted),
        row("the last fragment has no port", &elsewhere().fragment(185, false), Counted),
        row("a later fragment behind options", &elsewhere().extension(0, &[0; 6]).fragment(1, true), Counted),
        row("a first fragment behind eight headers", &chained(elsewhere(), 60, 8).fragment(0, true), Counted),
        row("a first fragment behind seven headers", &chained(elsewhere(), 60, 7).fragment(0, true), Passed),
        row("IPv4, later", &Frame::udp("192.0.2.7:9", "192.0.2.2:9").fragment(1, false), Counted),
        row("IPv4, first", &Frame::udp("192.0.2.7:9", "192.0.2.2:9").fragment(0, true), Passed),
        row("IPv4, later, blocked", &Frame::udp("192.0.2.7:9", "192.0.2.2:9").fragment(1, false), Manual)
            .given([super::block("192.0.2.7")]),
        row("a long chain, blocked", &chained(elsewhere(), 60, 10), Manual).given([super::block("2001:db8::7")]),
        row("a long chain, allowed", &chained(elsewhere(), 60, 10), Allowed).given([super::allow("2001:db8::/48")]),
    ];
    run(rows);
}

#[test]
fn what_lies_beyond_reach_or_cannot_be_followed() {
    let long = |frame: Frame, headers| (0..headers).fold(frame, |f: Frame, _| f.extension(60, &[0; 2046]));
    run(vec![
        row("a header of 1,024 bytes", &elsewhere().extension(60, &[0; 1022]), Passed),
        row("a header of 2,048 bytes", &long(elsewhere(), 1), Counted),
        row("two of them, in two buffers", &long(elsewhere(), 2), Counted),
        row("four of them, in three buffers", &long(elsewhere(), 4), Counted),
        row("eight of them", &long(elsewhere(), 8), Counted),
        row("ESP ends the chain", &Frame::ip("2001:db8::7", "2001:db8::2", 50, &[0; 40]), Passed),
        row("no next header", &Frame::ip("2001:db8::7", "2001:db8::2", protocol::NO_NEXT, &[]), Passed),
        row("an extension header of 7 bytes", &Frame::ip("2001:db8::7", "2001:db8::2", 60, &[17; 7]), Malformed),
        row(
            "an extension header longer than the packet",
            &Frame::ip("2001:db8::7", "2001:db8::2", 60, &[17, 5, 0, 0, 0, 0, 0, 0]),
            Malformed,
        ),
        row("a fragment header of 7 bytes", &Frame::ip("2001:db8::7", "2001:db8::2", 44, &[17; 7]), Malformed),
        row(
            "options and then nothing",
            &Frame::ip("2001:db8::7", "2001:db8::2", 0, &[17, 0, 0, 0, 0, 0, 0, 0]),
            Malformed,
        ),
        row(
            "options and then no next header",
            &Frame::ip("2001:db8::7", "2001:db8::2", 0, &[59, 0, 0, 0, 0, 0, 0, 0]),
            Passed,
        ),
        row("AH in IPv4 hides the port", &Frame::ip("192.0.2.7", "192.0.2.2", 51, &[17; 32]), Passed),
    ]);
}
