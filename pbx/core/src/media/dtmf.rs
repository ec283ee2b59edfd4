//! Digits in the body of an INFO, as phones without telephone events send them. Between a SIP body and the relay's
//! [`Command::Digit`](super::Command::Digit).

use std::time::Duration;

/// How long a key was pressed if nobody says.
const USUAL: Duration = Duration::from_millis(160);
/// Shorter ones would not be heard at the far end of a telephone line.
const SHORTEST: Duration = Duration::from_millis(40);
/// Longer ones would fill the line.
const LONGEST: Duration = Duration::from_millis(6_000);

/// The digit (`0`-`9`, `*`, `#`, `A`-`D`) in a body of type `application/dtmf-relay` or `application/dtmf`, and how
/// long its key was pressed: 40 to 6,000 ms, 160 ms if it is not said. `None` of anything else, a hook flash among it.
pub fn of_info(content_type: &[u8], body: &[u8]) -> Option<(char, Duration)> {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/dtmf") {
        return Some((digit(body.trim_ascii())?, USUAL));
    }
    if !media_type.eq_ignore_ascii_case(b"application/dtmf-relay") {
        return None;
    }
    let value = |name: &[u8]| {
        body.split(|byte| matches!(byte, b'\r' | b'\n')).find_map(|line| {
            let equals = memchr::memchr(b'=', line)?;
            line[..equals].trim_ascii().eq_ignore_ascii_case(name).then(|| line[equals + 1..].trim_ascii())
        })
    };
    let digit = digit(value(b"Signal")?)?;
    let duration = value(b"Duration").and_then(milliseconds).unwrap_or(USUAL);
    Some((digit, duration.clamp(SHORTEST, LONGEST)))
}

/// Appends a body of type `application/dtmf-relay`.
pub fn write_info(out: &mut Vec<u8>, digit: char, duration: Duration) {
    let body = format!("Signal={digit}\r\nDuration={}\r\n", duration.as_millis());
    out.extend_from_slice(body.as_bytes());
}

/// A digit as itself, or by the number of its event (RFC 4733 §3.2); 16 is a hook flash.
fn digit(text: &[u8]) -> Option<char> {
    const BY_NUMBER: [char; 6] = ['*', '#', 'A', 'B', 'C', 'D'];
    match text {
        [byte @ (b'0'..=b'9' | b'*' | b'#')] => Some(char::from(*byte)),
        [byte @ (b'A'..=b'D' | b'a'..=b'd')] => Some(char::from(byte.to_ascii_uppercase())),
        [b'1', unit @ b'0'..=b'5'] => Some(BY_NUMBER[usize::from(unit - b'0')]),
        _ => None,
    }
}

/// A number of milliseconds; more than fits is the most there is.
fn milliseconds(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().map_or(LONGEST, Duration::from_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &[u8] = b"application/dtmf-relay";
    const PLAIN: &[u8] = b"application/dtmf";

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_relayed_digit_is_read_in_any_case_and_spacing() {
        for body in [
            &b"Signal=5\r\nDuration=160\r\n"[..],
            b"Signal=5\nDuration=160",
            b"signal = 5 \r\n DURATION= 160 \r\n",
            b"\r\nDuration=160\r\nSignal=5\r\nSignal=6\r\nUnknown=1",
            b"Signal=5\r\n",
            b"Signal=5\r\nDuration=\r\n",
            b"Signal=5\r\nDuration=soon\r\n",
        ] {
            assert_eq!(of_info(RELAY, body), Some(('5', ms(160))), "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(of_info(b"Application/DTMF-Relay ; charset=utf-8", b"Signal=d"), Some(('D', ms(160))));
    }

    #[test]
    fn a_plain_digit_is_the_whole_body() {
        assert_eq!(of_info(PLAIN, b"7"), Some(('7', ms(160))));
        assert_eq!(of_info(PLAIN, b" #\r\n"), Some(('#', ms(160))));
        for body in [&b""[..], b"77", b"E", b"!", b"\0", b"Signal=5"] {
            assert_eq!(of_info(PLAIN, body), None);
        }
    }

    #[test]
    fn star_pound_and_letters_may_come_as_numbers_and_a_flash_is_no_digit() {
        for (number, digit) in [("10", '*'), ("11", '#'), ("12", 'A'), ("15", 'D'), ("*", '*'), ("#", '#'), ("0", '0')]
        {
            let body = format!("Signal={number}\r\nDuration=100\r\n");
            assert_eq!(of_info(RELAY, body.as_bytes()), Some((digit, ms(100))), "{number}");
        }
        for flash in ["!", "16", "hf", "", "-1", "100", "\u{665}"] {
            let body = format!("Signal={flash}\r\nDuration=100\r\n");
            assert_eq!(of_info(RELAY, body.as_bytes()), None, "{flash}");
        }
    }

    #[test]
    fn a_key_is_never_pressed_too_shortly_or_too_long() {
        for (said, heard) in [("0", 40), ("39", 40), ("6001", 6_000), ("99999999999999999999999", 6_000)] {
            let body = format!("Signal=1\r\nDuration={said}\r\n");
            assert_eq!(of_info(RELAY, body.as_bytes()), Some(('1', ms(heard))), "{said}");
        }
    }

    #[test]
    fn other_bodies_have_no_digit() {
        assert_eq!(of_info(b"application/sdp", b"Signal=5"), None);
        assert_eq!(of_info(b"", b"5"), None);
        assert_eq!(of_info(RELAY, b"Duration=160"), None);
        assert_eq!(of_info(RELAY, &[0xff; 4_000]), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for digit in "0123456789*#ABCD".chars() {
            let mut body = Vec::new();
            write_info(&mut body, digit, ms(250));
            assert_eq!(of_info(RELAY, &body), Some((digit, ms(250))));
        }
        let mut body = Vec::new();
        write_info(&mut body, '#', ms(160));
        assert_eq!(body, b"Signal=#\r\nDuration=160\r\n");
    }
}
