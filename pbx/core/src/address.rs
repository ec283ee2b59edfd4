//! Addresses and ranges of addresses: what a person types, and what the rules hold.
//! First thing that reads a rule. Total and bounded; knows no interfaces and resolves no names.

mod error;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use error::AddressError;

/// Longer text is no address: IPv6 with an embedded IPv4 address and a length has 49 bytes, two dotted quads 31.
pub const LONGEST_TEXT: usize = 100;

/// An address or a range of addresses: host bits are zero, and what is IPv4-mapped IPv6 is IPv4.
///
/// Printed, parsed and serialized as `192.0.2.1` for one address, `192.0.2.0/24` for a range.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

// A prefix is never empty: `len` is the number of network bits, as every RFC calls it.
#[allow(clippy::len_without_is_empty)]
impl Prefix {
    /// Every IPv4 address.
    pub const ALL_IPV4: Self = Self { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 };
    /// Every IPv6 address.
    pub const ALL_IPV6: Self = Self { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 };

    /// The range of all addresses that share the first `len` bits of `addr`; the other bits are cleared.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, AddressError> {
        let max = max_len(addr);
        if len > max {
            return Err(AddressError::Length { given: len.to_string(), family: family(addr), max });
        }
        Ok(match addr {
            IpAddr::V4(addr) => Self::v4(addr, len),
            IpAddr::V6(addr) => match addr.to_ipv4_mapped() {
                Some(mapped) if len >= 96 => Self::v4(mapped, len - 96),
                _ => Self { addr: Ipv6Addr::from_bits(addr.to_bits() & mask_v6(len)).into(), len },
            },
        })
    }

    /// One address.
    pub fn host(addr: IpAddr) -> Self {
        let addr = addr.to_canonical();
        Self { addr, len: max_len(addr) }
    }

    fn v4(addr: Ipv4Addr, len: u8) -> Self {
        Self { addr: Ipv4Addr::from_bits(addr.to_bits() & mask_v4(len)).into(), len }
    }

    /// The first address; as `first`, under the name that a routing table uses.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Network bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether it is one address.
    pub fn is_host(&self) -> bool {
        self.len == max_len(self.addr)
    }

    /// Whether it is every address of its family.
    pub fn is_everything(&self) -> bool {
        self.len == 0
    }

    /// Whether its addresses are IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.addr
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() | !mask_v4(self.len)).into(),
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() | !mask_v6(self.len)).into(),
        }
    }

    /// How many addresses it has; 2¹²⁸ (`::/0`) is one more than fits, and is told as `u128::MAX`.
    pub fn count(&self) -> u128 {
        1_u128.checked_shl(u32::from(max_len(self.addr) - self.len)).unwrap_or(u128::MAX)
    }

    /// The dotted mask of an IPv4 range.
    pub fn mask(&self) -> Option<Ipv4Addr> {
        self.is_ipv4().then(|| Ipv4Addr::from_bits(mask_v4(self.len)))
    }

    /// Whether `addr` is in it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(addr)) => own.to_bits() == addr.to_bits() & mask_v4(self.len),
            (IpAddr::V6(own), IpAddr::V6(addr)) => own.to_bits() == addr.to_bits() & mask_v6(self.len),
            _ => false,
        }
    }

    /// Whether every address of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }

    /// Whether they have an address in common; then one covers the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl From<IpAddr> for Prefix {
    fn from(addr: IpAddr) -> Self {
        Self::host(addr)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { write!(f, "{}", self.addr) } else { write!(f, "{}/{}", self.addr, self.len) }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = AddressError;

    /// As [`parse`], but host bits that are set are an error: for text that a program wrote.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Typed { prefix, host_bits_cleared } = parse(text)?;
        if host_bits_cleared {
            return Err(AddressError::HostBits { given: text.trim().to_owned(), meant: prefix });
        }
        Ok(prefix)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What a person typed: the range, and whether host bits had to be cleared (`10.0.0.5/24` means `10.0.0.0/24`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typed {
    /// The range that was meant.
    pub prefix: Prefix,
    /// Whether the text had bits set that the range has not; worth a remark to whoever typed it.
    pub host_bits_cleared: bool,
}

/// Reads an address, a CIDR range, or an IPv4 address and a dotted mask (after a slash or a space).
pub fn parse(text: &str) -> Result<Typed, AddressError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > LONGEST_TEXT {
        return Err(AddressError::TooLong { bytes: text.len() });
    }
    // Errors repeat what was typed: nothing that a terminal would obey gets that far.
    if !text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Err(AddressError::NotAnAddress { given: text.to_owned() });
    }
    if let Some((_, zone)) = text.split_once('%') {
        return Err(AddressError::Zone { given: text.to_owned(), zone: zone.to_owned() });
    }
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    let second = words.next();
    if let Some(extra) = words.next() {
        return Err(AddressError::Extra { given: text.to_owned(), extra: extra.to_owned() });
    }
    let (addr, len) = match (first.split_once('/'), second) {
        (Some(_), Some(extra)) => {
            return Err(AddressError::Extra { given: text.to_owned(), extra: extra.to_owned() });
        }
        (None, None) => {
            let addr = address(first)?;
            (addr, max_len(addr))
        }
        (Some((addr, size)), None) => {
            let addr = address(addr)?;
            let len = if size.contains('.') { mask(addr, size)? } else { length(addr, size)? };
            (addr, len)
        }
        (None, Some(size)) => {
            let addr = address(first)?;
            (addr, mask(addr, size)?)
        }
    };
    let prefix = Prefix::new(addr, len)?;
    Ok(Typed { prefix, host_bits_cleared: prefix.addr != addr.to_canonical() })
}

/// Reads one address; a range is an error.
pub fn parse_host(text: &str) -> Result<IpAddr, AddressError> {
    let prefix = parse(text)?.prefix;
    if !prefix.is_host() {
        return Err(AddressError::Range { given: text.trim().to_owned() });
    }
    Ok(prefix.addr)
}

fn address(text: &str) -> Result<IpAddr, AddressError> {
    let looks_like_ipv4 = text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if looks_like_ipv4 {
        return ipv4(text).map(IpAddr::V4);
    }
    let ipv6: Ipv6Addr = text.parse().map_err(|_| AddressError::NotAnAddress { given: text.to_owned() })?;
    Ok(ipv6.into())
}

/// A dotted quad; what is wrong with another text of digits and dots is said.
fn ipv4(text: &str) -> Result<Ipv4Addr, AddressError> {
    let given = || text.to_owned();
    if text.split('.').any(str::is_empty) {
        return Err(AddressError::NotAnAddress { given: given() });
    }
    let count = text.split('.').count();
    if count != 4 {
        return Err(AddressError::Octets { given: given(), count });
    }
    let mut octets = [0; 4];
    for (octet, digits) in octets.iter_mut().zip(text.split('.')) {
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(AddressError::LeadingZero { given: given(), octet: digits.to_owned() });
        }
        *octet = digits.parse().map_err(|_| AddressError::Octet { given: given(), octet: digits.to_owned() })?;
    }
    Ok(octets.into())
}

fn length(addr: IpAddr, text: &str) -> Result<u8, AddressError> {
    let max = max_len(addr);
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    match text.parse() {
        Ok(len) if plain && !padded && len <= max => Ok(len),
        _ => Err(AddressError::Length { given: text.to_owned(), family: family(addr), max }),
    }
}

fn mask(addr: IpAddr, text: &str) -> Result<u8, AddressError> {
    if let IpAddr::V6(addr) = addr {
        return Err(AddressError::MaskOnIpv6 { addr, given: text.to_owned() });
    }
    let bits = ipv4(text).map_err(|_| AddressError::Mask { given: text.to_owned() })?.to_bits();
    if bits.leading_ones() + bits.trailing_zeros() >= 32 {
        return Ok(bits.leading_ones() as u8);
    }
    if bits.leading_zeros() + bits.trailing_ones() >= 32 {
        return Err(AddressError::Wildcard { given: text.to_owned(), mask: Ipv4Addr::from_bits(!bits) });
    }
    Err(AddressError::Mask { given: text.to_owned() })
}

fn max_len(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn family(addr: IpAddr) -> &'static str {
    if addr.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn mask_v4(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn mask_v6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
