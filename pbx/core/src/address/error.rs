//! What can be wrong with a typed address, in words that say what to write instead.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{LONGEST_TEXT, Prefix};

/// Why a text is no address and no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("an address is missing: write one as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64")]
    Empty,
    /// Longer than any address.
    #[error("{bytes} bytes are too many for an address (at most {LONGEST_TEXT})")]
    TooLong {
        /// Bytes that were given.
        bytes: usize,
    },
    /// IPv4 with another number of numbers than four.
    #[error("{given} has {} where an IPv4 address has four", numbers(*count))]
    Octets {
        /// The address as it was typed.
        given: String,
        /// How many numbers it has.
        count: usize,
    },
    /// A number of an IPv4 address over 255.
    #[error("{octet} in {given} is too large: each number of an IPv4 address is 0 to 255")]
    Octet {
        /// The address as it was typed.
        given: String,
        /// The number.
        octet: String,
    },
    /// A number of an IPv4 address that some programs read as octal.
    #[error("{octet} in {given} could be decimal or octal: write it without leading zeros")]
    LeadingZero {
        /// The address as it was typed.
        given: String,
        /// The number.
        octet: String,
    },
    /// A prefix length that the family does not have.
    #[error("/{given} is not a length of an {family} range: it is 0 to {max}")]
    Length {
        /// What followed the slash.
        given: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The length of a single address.
        max: u8,
    },
    /// A dotted mask whose one bits are not all in front.
    #[error("{given} is not a mask: its one bits have to come first, as in 255.255.0.0")]
    Mask {
        /// The mask as it was typed.
        given: String,
    },
    /// A router's wildcard, the opposite of a mask.
    #[error("{given} is a wildcard, not a mask: write {mask}")]
    Wildcard {
        /// The wildcard as it was typed.
        given: String,
        /// The mask that means the same.
        mask: Ipv4Addr,
    },
    /// A dotted mask after an IPv6 address.
    #[error("an IPv6 range has a length, not a mask: write {addr}/64 instead of {given}")]
    MaskOnIpv6 {
        /// The address.
        addr: Ipv6Addr,
        /// The mask as it was typed.
        given: String,
    },
    /// An address that holds on one interface only.
    #[error("{given} names an interface ({zone}): rules know none, write the address without %{zone}")]
    Zone {
        /// The address as it was typed.
        given: String,
        /// What followed the per cent sign.
        zone: String,
    },
    /// More text than an address has.
    #[error("{extra:?} is one word too many in {given:?}")]
    Extra {
        /// The whole text.
        given: String,
        /// The first word that does not belong there.
        extra: String,
    },
    /// Bits set after the prefix length, where that is not tolerated.
    #[error("{given} has bits set behind its length: write {meant}")]
    HostBits {
        /// The range as it was written.
        given: String,
        /// The range that it lies in.
        meant: Prefix,
    },
    /// A range where one address is asked for.
    #[error("{given} is a range: give one address")]
    Range {
        /// The range as it was typed.
        given: String,
    },
    /// Anything else.
    #[error("{given:?} is not an address: write it as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64")]
    NotAnAddress {
        /// What was typed.
        given: String,
    },
}

fn numbers(count: usize) -> String {
    match count {
        1 => "one number".to_owned(),
        2 => "two numbers".to_owned(),
        3 => "three numbers".to_owned(),
        5 => "five numbers".to_owned(),
        6 => "six numbers".to_owned(),
        _ => format!("{count} numbers"),
    }
}
