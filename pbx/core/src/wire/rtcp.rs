//! Compound RTCP packets, as far as to tell that they are some (RFC 3550 §6.1, §A.2). Passed on as they came: no report
//! is read.

/// Sender report (RFC 3550 §6.4.1).
const SENDER_REPORT: u8 = 200;
/// Receiver report (RFC 3550 §6.4.2).
const RECEIVER_REPORT: u8 = 201;

/// Who sent a compound packet: the SSRC of the report that it begins with. `None`: it is none, or its parts are not as
/// long as they say.
pub fn sender(packet: &[u8]) -> Option<u32> {
    let [first, kind, _, _, ssrc @ ..] = *packet.first_chunk::<8>()?;
    // Version 2, no padding in the first part, which is a report.
    if first & 0xe0 != 0x80 || !matches!(kind, SENDER_REPORT | RECEIVER_REPORT) {
        return None;
    }
    let mut rest = packet;
    loop {
        let [first, _, length @ ..] = *rest.first_chunk::<4>()?;
        if first >> 6 != 2 {
            return None;
        }
        rest = rest.get(4 + 4 * usize::from(u16::from_be_bytes(length))..)?;
        match rest {
            [] => return Some(u32::from_be_bytes(ssrc)),
            // Only the last part may be padded.
            _ if first & 0x20 != 0 => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: u8, kind: u8, words: u16) -> Vec<u8> {
        let mut bytes = vec![first, kind];
        bytes.extend(words.to_be_bytes());
        bytes.extend((0..4 * words).map(|index| index as u8 + 1));
        bytes
    }

    #[test]
    fn a_report_followed_by_other_parts_is_a_compound_packet() {
        let packet = [part(0x80, 201, 1), part(0x81, 202, 3), part(0xa1, 203, 2)].concat();
        assert_eq!(sender(&packet), Some(0x0102_0304));
        assert_eq!(sender(&part(0x80, 200, 6)), Some(0x0102_0304));
    }

    #[test]
    fn what_is_no_compound_packet_has_no_sender() {
        for (what, packet) in [
            ("nothing", vec![]),
            ("a source description first", part(0x81, 202, 2)),
            ("another version", part(0x40, 201, 1)),
            ("padding in the first part", part(0xa0, 201, 1)),
            ("no SSRC", part(0x80, 201, 0)),
            ("a part that is cut", part(0x80, 200, 6)[..20].to_vec()),
            ("something behind it", [part(0x80, 201, 1), vec![0x80]].concat()),
            ("another version behind it", [part(0x80, 201, 1), part(0x00, 202, 1)].concat()),
            ("padding in the middle", [part(0x80, 201, 1), part(0xa1, 202, 1), part(0x81, 203, 1)].concat()),
            ("RTP", [vec![0x80, 0], vec![0; 170]].concat()),
        ] {
            assert_eq!(sender(&packet), None, "{what}");
        }
    }
}
