//! Who is blocked, and the frames that come from them or from others. Numbers become addresses in the same way
//! as in the drivers (`driver/src/drive.rs`), so that neighbours in number are far apart in the tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use pbx_core::{address::Prefix, filter::Entry, filter::Until, rule::Action};
use pbx_tests::frames::Frame;

/// Blocked entries of each family.
pub(crate) const BLOCKED: u32 = 100_000;
/// Number of the first source that is not blocked as an address.
pub(crate) const OTHERS: u32 = 0x1000_0000;
/// Sources of an ordinary crowd: as many as a busy appliance may see.
pub(crate) const CROWD: u32 = 65_536;
/// Sources of a spoofed flood.
pub(crate) const SPOOFED: u32 = 1 << 24;

/// The address of a number, in its 32 bits.
pub(crate) const fn scattered(number: u32) -> u32 {
    number.wrapping_mul(0x85eb_ca6b)
}

/// As an IPv4 address.
pub(crate) fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

/// As an IPv6 address: in one of 4096 networks of 32 bits, and a /64 of its own.
pub(crate) fn v6(bits: u32) -> IpAddr {
    let network = u128::from(0x2001_0000 | bits >> 20);
    Ipv6Addr::from_bits(network << 96 | u128::from(bits.rotate_left(12)) << 64 | 1).into()
}

/// What is blocked in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Single addresses.
    Addresses,
    /// A /24 or /64 each.
    Networks,
    /// Prefixes of many lengths.
    Mixed,
}

impl Blocked {
    /// The prefixes: [`BLOCKED`] of each family, but for those that two numbers share.
    pub(crate) fn prefixes(self) -> Result<Vec<Prefix>> {
        let mut prefixes = Vec::with_capacity(2 * BLOCKED as usize);
        for number in 0..BLOCKED {
            let bits = scattered(number);
            let (len4, len6) = self.lengths(number);
            prefixes.push(Prefix::new(v4(bits), len4)?);
            prefixes.push(Prefix::new(v6(bits), len6)?);
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        Ok(prefixes)
    }

    /// The same as rules.
    pub(crate) fn entries(self) -> Result<Vec<Entry>> {
        let entry = |prefix| Entry { prefix, action: Action::Block, until: Until::Forever };
        Ok(self.prefixes()?.into_iter().map(entry).collect())
    }

    /// Mixed as published lists of networks are: half of them /24 (/64), the others from /20 to /30 (/40 to /72).
    fn lengths(self, number: u32) -> (u8, u8) {
        const V4: [u8; 20] = [24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 23, 22, 22, 20, 25, 26, 27, 28, 29, 30];
        const V6: [u8; 20] = [64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 56, 56, 48, 48, 44, 40, 60, 60, 72, 72];
        match self {
            Blocked::Addresses => (32, 128),
            Blocked::Networks => (24, 64),
            Blocked::Mixed => {
                let kind = number as usize % V4.len();
                (V4[kind], V6[kind])
            }
        }
    }
}

/// Which sources the frames of a case have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources {
    /// How many.
    pub(crate) number: u32,
    /// The first one's number.
    pub(crate) first: u32,
    /// Bits turned over in all of them.
    pub(crate) flip: u32,
    /// One repeat in so many (a power of two) has this source instead.
    pub(crate) heavy: Option<(u32, u32)>,
}

impl Sources {
    /// The blocked ones.
    pub(crate) const BLOCKED: Sources = Sources { number: BLOCKED, first: 0, flip: 0, heavy: None };
    /// Others, scattered over all addresses.
    pub(crate) const CROWD: Sources = Sources { number: CROWD, first: OTHERS, flip: 0, heavy: None };
    /// A spoofed flood.
    pub(crate) const SPOOFED: Sources = Sources { number: SPOOFED, first: OTHERS, flip: 0, heavy: None };

    /// The parameters as the driver reads them, behind two bytes that align them.
    fn control(self) -> Vec<u8> {
        let (heavy, heavy_source) = self.heavy.map_or((u32::MAX, 0), |(one_in, source)| (one_in - 1, source));
        let words = [0, self.number, self.first, self.flip, heavy, heavy_source];
        let mut payload = vec![0; 2];
        payload.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        payload.resize(64, 0);
        payload
    }

    /// A UDP frame for the driver.
    pub(crate) fn frame(self, ipv6: bool, port: u16) -> Vec<u8> {
        datagram(scattered(self.first) ^ self.flip, ipv6, port, &self.control())
    }
}

/// A frame of one source, of the same size as those for the driver.
pub(crate) fn frame_from(bits: u32, ipv6: bool, port: u16) -> Vec<u8> {
    datagram(bits, ipv6, port, &[0; 64])
}

fn datagram(bits: u32, ipv6: bool, port: u16, payload: &[u8]) -> Vec<u8> {
    let (source, appliance) =
        if ipv6 { (v6(bits), v6(0xffff_0000)) } else { (v4(bits), Ipv4Addr::new(10, 77, 9, 1).into()) };
    let endpoints = [(source, 5071), (appliance, port)].map(|(addr, port)| std::net::SocketAddr::new(addr, port));
    Frame::udp(endpoints[0], endpoints[1]).payload(payload).build()
}
