//! Reads a classic pcap file: both byte orders, micro- and nanoseconds, Ethernet. Total: no length is believed.

const HEADER: usize = 24;
const RECORD: usize = 16;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
/// The first block of a pcapng file.
const PCAPNG: u32 = 0x0A0D_0D0A;

/// Arrival in ns since the first frame, and the bytes that were captured.
pub(super) fn frames(file: &[u8], most: usize) -> Result<Vec<(u64, Vec<u8>)>, String> {
    let header = file.get(..HEADER).ok_or("this is no pcap file: it has not even a header")?;
    let magic = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let (little, nanoseconds) = match magic {
        0xA1B2_C3D4 => (true, false),
        0xD4C3_B2A1 => (false, false),
        0xA1B2_3C4D => (true, true),
        0x4D3C_B2A1 => (false, true),
        PCAPNG => return Err("this is a pcapng file: `editcap -F pcap IN OUT` makes a pcap of it".to_owned()),
        _ => return Err("this is no pcap file: `tcpdump -w FILE` writes one".to_owned()),
    };
    let number = |bytes: &[u8], at: usize| {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    };
    // The upper bits tell of frame check sequences.
    let link = number(header, 20) & 0x0FFF_FFFF;
    if link != ETHERNET {
        return Err(format!("the capture has link type {link}; the filter sees Ethernet ({ETHERNET})"));
    }
    let mut frames = Vec::new();
    let mut first = None;
    let mut rest = &file[HEADER..];
    while !rest.is_empty() {
        if frames.len() == most {
            return Err(format!("the capture has more than {most} frames: `editcap -r IN OUT 1-{most}` cuts it"));
        }
        let broken = || format!("the capture breaks off in frame {}", frames.len() + 1);
        let record = rest.get(..RECORD).ok_or_else(broken)?;
        let fraction = u64::from(number(record, 4)) * if nanoseconds { 1 } else { 1000 };
        let time = u64::from(number(record, 0)) * 1_000_000_000 + fraction;
        let length = number(record, 8) as usize;
        let end = RECORD.checked_add(length).ok_or_else(broken)?;
        let bytes = rest.get(RECORD..end).ok_or_else(broken)?;
        frames.push((time.saturating_sub(*first.get_or_insert(time)), bytes.to_vec()));
        rest = &rest[end..];
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(magic: u32, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut file = magic.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0]);
        for (seconds, fraction, bytes) in frames {
            let length = u32::try_from(bytes.len()).unwrap();
            for number in [*seconds, *fraction, length, length] {
                file.extend(number.to_le_bytes());
            }
            file.extend(*bytes);
        }
        file
    }

    #[test]
    fn frames_come_with_their_distance_from_the_first() {
        let file = capture(0xA1B2_C3D4, &[(10, 5, b"one"), (11, 4, b"three")]);
        assert_eq!(frames(&file, 9).unwrap(), [(0, b"one".to_vec()), (999_999_000, b"three".to_vec())]);
        let nano = capture(0xA1B2_3C4D, &[(10, 5, b"one"), (10, 9, b"two")]);
        assert_eq!(frames(&nano, 9).unwrap()[1].0, 4);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_an_error_or_shorter() {
        let file = capture(0xA1B2_C3D4, &[(10, 5, b"one"), (11, 4, b"three")]);
        for end in 0..file.len() {
            let whole = frames(&file[..end], 9);
            assert_eq!(whole.is_ok(), end == 24 || end == 43, "{end}: {whole:?}");
        }
    }

    #[test]
    fn a_lying_length_another_format_and_too_many_frames_are_errors() {
        let mut file = capture(0xA1B2_C3D4, &[(10, 5, b"one")]);
        file[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(frames(&file, 9).unwrap_err().contains("frame 1"));
        assert!(frames(&capture(PCAPNG, &[]), 9).unwrap_err().contains("editcap"));
        assert!(frames(&[0; 40], 9).unwrap_err().contains("no pcap"));
        assert!(frames(&capture(0xA1B2_C3D4, &[(1, 1, b"a"), (1, 1, b"b")]), 1).unwrap_err().contains("more than 1"));
    }
}
