//! What a datagram on a SIP port is, told by its first bytes (RFC 7983, updated by RFC 9443). Before any parser.
//! Says what a datagram should be read as, not that it is well formed.

use serde::{Deserialize, Serialize};

/// What a datagram is to be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A request or response of SIP, empty lines before it included (RFC 3261 §7.5).
    Sip,
    /// STUN (RFC 8489): first byte 0-3.
    Stun,
    /// ZRTP (RFC 6189): first byte 16-19.
    Zrtp,
    /// DTLS (RFC 9147): first byte 20-63.
    Dtls,
    /// ChannelData of TURN (RFC 8656 §12.4): first byte 64-79.
    TurnChannel,
    /// RTP or RTCP (RFC 3550): first byte 128-191.
    Rtp,
    /// Keeps a NAT's binding open and wants no answer: line ends (RFC 5626 §3.5.1 sends them on streams, many
    /// phones on UDP as well), NULs, or the `jaK` of eXosip.
    KeepAlive,
    /// No bytes.
    Empty,
    /// Nothing that belongs here.
    Unknown,
}

/// The longest datagram of line ends, spaces and NULs that is a keep-alive (bytes).
pub const KEEP_ALIVE_BYTES: usize = 16;

/// Says what a datagram on a SIP port is to be read as.
///
/// SIP is what starts, after any line ends, with a letter that starts a word (a token, RFC 3261 §25.1). Words that
/// start with another character, which RFC 4475 §3.1.1.2 shows as a legal method, need a version in their line:
/// they could be DTLS.
pub fn classify(datagram: &[u8]) -> Content {
    let Some(first) = datagram.first() else { return Content::Empty };
    if is_keep_alive(datagram) {
        return Content::KeepAlive;
    }
    if starts_sip(datagram) {
        return Content::Sip;
    }
    match first {
        0..=3 => Content::Stun,
        16..=19 => Content::Zrtp,
        20..=63 => Content::Dtls,
        64..=79 => Content::TurnChannel,
        128..=191 => Content::Rtp,
        _ => Content::Unknown,
    }
}

/// Whether a byte may be part of a token (RFC 3261 §25.1).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether a first line has the version that every first line of SIP has (RFC 3261 §7), whatever its number.
pub(super) fn names_sip(line: &[u8]) -> bool {
    line.windows(4).any(|four| four.eq_ignore_ascii_case(b"SIP/"))
}

fn is_keep_alive(datagram: &[u8]) -> bool {
    let blank = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' ' | 0);
    matches!(datagram, b"jaK" | b"jaK\0") || datagram.len() <= KEEP_ALIVE_BYTES && datagram.iter().all(blank)
}

fn starts_sip(datagram: &[u8]) -> bool {
    let blank = datagram.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = &datagram[blank..];
    let word = text.iter().take_while(|byte| is_token(**byte)).count();
    match (text.first(), text.get(word)) {
        (Some(b'A'..=b'Z' | b'a'..=b'z'), None | Some(b' ' | b'\t' | b'/' | b':' | b'\r' | b'\n')) => true,
        (Some(_), Some(b' ')) if word > 0 => {
            names_sip(text.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_are_sip_also_behind_empty_lines() {
        for text in [
            "INVITE sip:1@example.com SIP/2.0\r\n",
            "SIP/2.0 200 OK\r\n",
            "\r\n\r\nREGISTER sip:example.com SIP/2.0\r\n",
            "\n\nOPTIONS sip:example.com SIP/2.0\n",
            "!interesting-Method0123456789_*+`.%indeed'~ sip:1@example.com SIP/2.0\r\n",
            "1NVITE sip:1@example.com SIP/2.0\r\n",
            // Broken, but broken SIP: the parser says how.
            "INVITE",
            "GET / HTTP/1.1\r\n",
            "Via: SIP/2.0/UDP 192.0.2.1\r\n",
        ] {
            assert_eq!(classify(text.as_bytes()), Content::Sip, "{text:?}");
        }
        let behind_much = [b"\r\n".repeat(1000), b"BYE sip:1@example.com SIP/2.0\r\n".to_vec()].concat();
        assert_eq!(classify(&behind_much), Content::Sip);
    }

    #[test]
    fn the_first_byte_tells_the_other_protocols() {
        for first in 0..=u8::MAX {
            let datagram = [first, 0xff, 0, 8, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let expected = match first {
                0..=3 => Content::Stun,
                16..=19 => Content::Zrtp,
                20..=63 => Content::Dtls,
                64..=79 => Content::TurnChannel,
                128..=191 => Content::Rtp,
                _ => Content::Unknown,
            };
            assert_eq!(classify(&datagram), expected, "{first}");
        }
    }

    #[test]
    fn keep_alives_are_short_and_say_nothing() {
        for bytes in [&b"\r\n\r\n"[..], b"\r\n", b"\n", b"\0", b"\0\0\0\0", b" ", b"jaK", b"jaK\0", &[0; 16]] {
            assert_eq!(classify(bytes), Content::KeepAlive, "{bytes:?}");
        }
        assert_eq!(classify(&b"\r\n".repeat(30_000)), Content::Unknown);
        assert_eq!(classify(&[0; 60_000]), Content::Stun);
        assert_eq!(classify(b"jaKe"), Content::Sip);
    }

    #[test]
    fn nothing_is_empty() {
        assert_eq!(classify(b""), Content::Empty);
    }

    #[test]
    fn channel_data_whose_number_reads_like_letters_is_not_sip() {
        assert_eq!(classify(b"AB\x00\x04data"), Content::TurnChannel);
        assert_eq!(classify(b"INVITE\x00sip:1@example.com SIP/2.0\r\n"), Content::TurnChannel);
        assert_eq!(classify(b"caf\xc3\xa9 sip:1@example.com SIP/2.0\r\n"), Content::Unknown);
    }

    #[test]
    fn dtls_that_reads_like_a_word_is_not_sip() {
        assert_eq!(classify(b"!a \x80\x00\x10SIP"), Content::Dtls);
        assert_eq!(classify(b"! \r\n SIP/2.0"), Content::Dtls);
    }
}
