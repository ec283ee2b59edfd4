//! The Internet checksum (RFC 1071). Used by the frame builder and to check what it built.

use std::net::IpAddr;

/// One's complement sum of `bytes` as 16-bit words in network order, not yet folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let whole: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    whole + rest.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Checksum of `bytes`; 0 when they already hold their right checksum.
pub fn internet(bytes: &[u8]) -> u16 {
    fold(sum(bytes))
}

/// Checksum of `segment` with the pseudo header of its family (RFC 768, RFC 8200 §8.1).
pub fn transport(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let addresses = address(source) + address(destination);
    fold(addresses + u64::from(protocol) + segment.len() as u64 + sum(segment))
}

fn address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_its_checksum() {
        assert_eq!(internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn a_header_with_its_own_checksum_sums_to_zero() {
        let mut header = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let checksum = internet(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(internet(&header), 0);
    }
}
