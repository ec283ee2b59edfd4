//! A view of RTP packets (RFC 3550 §5.1): what their headers say, and the few fields that a relay rewrites. After the
//! socket, before the latch; looks at no payload.

use std::ops::Range;

/// Length of a header without contributing sources or extension (bytes).
pub const HEADER: usize = 12;
/// The payload types that may not be used for RTP on a port that carries RTCP too (RFC 5761 §4): with the marker bit,
/// they are the packet types of RTCP.
pub const RTCP_TYPES: Range<u8> = 64..96;

/// What an RTP packet says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The marker bit.
    pub marker: bool,
    /// The payload type, 0-127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp, in units of the payload's clock.
    pub timestamp: u32,
    /// Who makes the stream.
    pub ssrc: u32,
    /// Where the payload lies in the packet: behind contributing sources and extension, before the padding.
    pub payload: Range<usize>,
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than the header, its contributing sources or its extension say.
    #[error("{present} bytes where the header needs {needed}")]
    Truncated {
        /// Bytes that the header needs.
        needed: usize,
        /// Bytes that there are.
        present: usize,
    },
    /// Not version 2.
    #[error("version {0} instead of 2")]
    Version(u8),
    /// The padding is 0, or longer than what it is in.
    #[error("{0} bytes of padding do not fit")]
    Padding(u8),
}

impl Header {
    /// Reads the header of a packet. Takes what RFC 3550 §A.1 takes, of any payload type.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let present = packet.len();
        let Some(fixed) = packet.first_chunk::<HEADER>() else {
            return Err(RtpError::Truncated { needed: HEADER, present });
        };
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if first >> 6 != 2 {
            return Err(RtpError::Version(first >> 6));
        }
        let mut begin = HEADER + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            let words = packet.get(begin + 2..begin + 4).and_then(|length| length.first_chunk::<2>());
            let words = *words.ok_or(RtpError::Truncated { needed: begin + 4, present })?;
            begin += 4 + 4 * usize::from(u16::from_be_bytes(words));
        }
        let padding = match packet.last() {
            Some(padding) if first & 0x20 != 0 => *padding,
            _ => 0,
        };
        if begin > present {
            return Err(RtpError::Truncated { needed: begin, present });
        }
        if first & 0x20 != 0 && (padding == 0 || usize::from(padding) > present - begin) {
            return Err(RtpError::Padding(padding));
        }
        Ok(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            payload: begin..present - usize::from(padding),
        })
    }

    /// The fixed header of a packet without contributing sources, extension or padding.
    pub fn write(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = 0x80;
        bytes[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        bytes[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes
    }
}

/// Puts another payload type into a packet that [parsed](Header::parse); the marker bit stays.
pub fn set_payload_type(packet: &mut [u8], payload_type: u8) {
    if let Some(byte) = packet.get_mut(1) {
        *byte = *byte & 0x80 | payload_type & 0x7f;
    }
}

/// Puts another sequence number into a packet that [parsed](Header::parse).
pub fn set_sequence(packet: &mut [u8], sequence: u16) {
    if let Some(bytes) = packet.get_mut(2..4) {
        bytes.copy_from_slice(&sequence.to_be_bytes());
    }
}

/// Whether what came to a port that both share is to be read as RTCP (RFC 5761 §4).
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|second| RTCP_TYPES.contains(&(second & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | 8, 0x12, 0x34, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef];
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn the_fields_of_a_header_are_read_and_written_again() {
        let bytes = packet(0x80, &[1, 2, 3]);
        let header = Header::parse(&bytes).unwrap();
        let wanted = Header {
            marker: true,
            payload_type: 8,
            sequence: 0x1234,
            timestamp: 160,
            ssrc: 0xdead_beef,
            payload: 12..15,
        };
        assert_eq!(header, wanted);
        assert_eq!(header.write(), bytes[..12]);
    }

    #[test]
    fn the_payload_begins_behind_sources_and_extension_and_ends_before_the_padding() {
        let mut rest = vec![0; 8];
        rest.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        rest.extend([7, 7, 0, 0, 3]);
        let header = Header::parse(&packet(0x80 | 0x20 | 0x10 | 2, &rest)).unwrap();
        assert_eq!(header.payload, 28..30);
    }

    #[test]
    fn a_packet_is_never_believed_to_be_longer_than_it_is() {
        let truncated = |needed, present| Err(RtpError::Truncated { needed, present });
        assert_eq!(Header::parse(&[]), truncated(12, 0));
        assert_eq!(Header::parse(&packet(0x80, &[])[..11]), truncated(12, 11));
        assert_eq!(Header::parse(&packet(0x8f, &[0; 59])), truncated(72, 71));
        assert_eq!(Header::parse(&packet(0x90, &[0, 0, 0])), truncated(16, 15));
        assert_eq!(Header::parse(&packet(0x90, &[0, 0, 0xff, 0xff])), truncated(16 + 4 * 0xffff, 16));
        assert_eq!(Header::parse(&packet(0xa0, &[1, 0])), Err(RtpError::Padding(0)));
        assert_eq!(Header::parse(&packet(0xa0, &[1, 3])), Err(RtpError::Padding(3)));
        assert_eq!(Header::parse(&packet(0xa0, &[1, 2])).unwrap().payload, 12..12);
        assert_eq!(Header::parse(&packet(0x40, &[])), Err(RtpError::Version(1)));
        assert_eq!(Header::parse(&packet(0x80, &[0; 9000])).unwrap().payload, 12..9012);
    }

    #[test]
    fn rewriting_keeps_the_marker_and_all_else() {
        let mut bytes = packet(0x80, &[5]);
        set_payload_type(&mut bytes, 0);
        set_sequence(&mut bytes, 7);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.marker, header.payload_type, header.sequence), (true, 0, 7));
        assert_eq!(bytes[4..], packet(0x80, &[5])[4..]);
        set_payload_type(&mut [], 1);
        set_sequence(&mut [0; 3], 1);
    }

    #[test]
    fn what_shares_a_port_is_told_apart_by_its_second_byte() {
        for (second, rtcp) in [(0, false), (63, false), (200, true), (207, true), (192, true), (223, true), (96, false)]
        {
            assert_eq!(is_rtcp(&[0x80, second]), rtcp, "{second}");
        }
        assert!(!is_rtcp(&[0x80]) && !is_rtcp(&[]));
    }
}
