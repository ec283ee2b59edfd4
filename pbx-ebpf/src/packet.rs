//! What a frame is: Ethernet with up to two VLAN tags, IPv4, IPv6 and as much of the next header as the
//! judgement needs. Total: every byte string has an answer, no length in it is believed beyond the frame.

use crate::abi::MAPPED;

/// Bytes of a frame whose presence has been checked.
#[derive(Clone, Copy)]
pub struct View(*const u8);

impl View {
    /// # Safety
    /// `base` is readable for the length that was checked, and the caller reads no further.
    #[inline(always)]
    pub unsafe fn new(base: *const u8) -> Self {
        View(base)
    }
    #[inline(always)]
    fn read<T: Copy>(self, offset: usize) -> T {
        // SAFETY: `new`'s caller checked the range; offsets below are within what each check asked for.
        // The kernel's architectures read unaligned words; the host spells it out.
        unsafe {
            let p = self.0.add(offset).cast::<T>();
            if cfg!(target_arch = "bpf") { core::ptr::read_volatile(p) } else { core::ptr::read_unaligned(p) }
        }
    }
    #[inline(always)]
    fn u8(self, offset: usize) -> u8 {
        self.read(offset)
    }
    #[inline(always)]
    fn u16(self, offset: usize) -> u16 {
        u16::from_be(self.read(offset))
    }
    #[inline(always)]
    fn u32(self, offset: usize) -> u32 {
        u32::from_be(self.read(offset))
    }
    #[inline(always)]
    fn u64(self, offset: usize) -> u64 {
        u64::from_be(self.read(offset))
    }
}

/// A received frame.
pub trait Frame {
    /// The bytes `offset .. offset + length`, if the first buffer has them.
    fn view(&self, offset: usize, length: usize) -> Option<View>;
    /// Length of the first buffer.
    fn linear(&self) -> usize;
    /// Length of all buffers.
    fn total(&self) -> usize;
    /// The same offset; the kernel program forgets here how it was computed, so that the verifier sees one
    /// state a step instead of one a combination of headers.
    #[inline(always)]
    fn forget(&self, offset: usize) -> usize {
        offset
    }
    /// The same words, forgotten likewise: what follows is verified once, and not once a kind of packet.
    #[inline(always)]
    fn forget_words(&self, words: [u64; 3]) -> [u64; 3] {
        words
    }
}

/// Largest offset at which a header is looked for: what lies there is in the first buffer of a frame that has
/// several, so that the same packet is judged alike however it was received.
const FAR: usize = 0x7ff;
/// Extension headers that are followed (at most a chain of 8).
const CHAIN: usize = 8;

/// What the judgement asks of the part behind the IP header.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// Anything that is none of the others.
    Other = 0,
    /// A UDP header, also of a first fragment.
    Udp = 1,
    /// A TCP SYN without ACK.
    Syn = 2,
    /// Any other TCP segment.
    Tcp = 3,
    /// ICMPv6, its type in `Ip::dport`.
    Icmp6 = 4,
    /// A later fragment, or an extension chain too long to follow: it has a source and nothing else.
    Opaque = 5,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source (IPv4: mapped), most significant bits.
    pub hi: u64,
    /// Source, least significant bits.
    pub lo: u64,
    /// IPv6.
    pub v6: bool,
    /// Hop limit or time to live.
    pub hops: u8,
    /// What follows.
    pub upper: Upper,
    /// Source port of UDP and TCP.
    pub sport: u16,
    /// Destination port of UDP and TCP; type of ICMPv6.
    pub dport: u16,
}

impl Ip {
    /// Everything but the addresses in one word.
    #[inline(always)]
    pub const fn pack(&self) -> u64 {
        self.dport as u64
            | (self.sport as u64) << 16
            | (self.upper as u64) << 32
            | (self.hops as u64) << 40
            | (self.v6 as u64) << 48
    }
    /// The reverse of [`Ip::pack`].
    #[inline(always)]
    pub const fn unpack(hi: u64, lo: u64, rest: u64) -> Self {
        let upper = match (rest >> 32) & 7 {
            1 => Upper::Udp,
            2 => Upper::Syn,
            3 => Upper::Tcp,
            4 => Upper::Icmp6,
            5 => Upper::Opaque,
            _ => Upper::Other,
        };
        Ip {
            hi,
            lo,
            v6: rest >> 48 & 1 != 0,
            hops: (rest >> 40) as u8,
            upper,
            sport: (rest >> 16) as u16,
            dport: rest as u16,
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not IP.
    NotIp,
    /// More than two VLAN tags.
    ManyTags,
    /// Version, header length or total length contradict the frame, or a first fragment lacks its L4 header.
    Malformed,
    /// An IP packet.
    Ip(Ip),
}

const ETH_IPV4: u16 = 0x0800;
const ETH_IPV6: u16 = 0x86dd;

#[inline(always)]
const fn is_tag(ethertype: u16) -> bool {
    // 802.1Q, 802.1ad, and the older 0x9100 of some switches.
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// Reads a frame.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Parsed {
    let Some(eth) = frame.view(0, 14) else { return Parsed::Malformed };
    let mut ethertype = eth.u16(12);
    let mut at = 14;
    if is_tag(ethertype) {
        let Some(tag) = frame.view(14, 4) else { return Parsed::Malformed };
        ethertype = tag.u16(2);
        at = 18;
        if is_tag(ethertype) {
            let Some(tag) = frame.view(18, 4) else { return Parsed::Malformed };
            ethertype = tag.u16(2);
            at = 22;
            if is_tag(ethertype) {
                return Parsed::ManyTags;
            }
        }
    }
    match ethertype {
        ETH_IPV4 => ipv4(frame, at),
        ETH_IPV6 => ipv6(frame, at),
        _ => Parsed::NotIp,
    }
}

/// Whether the frame has `end` bytes, in all its buffers.
#[inline(always)]
fn reaches<F: Frame>(frame: &F, end: usize) -> bool {
    end <= frame.linear() || end <= frame.total()
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &F, at: usize) -> Parsed {
    let Some(ip) = frame.view(at, 20) else { return Parsed::Malformed };
    let first = ip.u8(0);
    let header = usize::from(first & 15) * 4;
    let total = usize::from(ip.u16(2));
    if first >> 4 != 4 || header < 20 || total < header || !reaches(frame, at + total) {
        return Parsed::Malformed;
    }
    let packet = Ip {
        hi: 0,
        lo: MAPPED | u64::from(ip.u32(12)),
        v6: false,
        hops: ip.u8(8),
        upper: Upper::Other,
        sport: 0,
        dport: 0,
    };
    if ip.u16(6) & 0x1fff != 0 {
        return opaque(packet);
    }
    upper(frame, at + header, total - header, ip.u8(9), packet)
}

#[inline(always)]
fn ipv6<F: Frame>(frame: &F, at: usize) -> Parsed {
    let Some(ip) = frame.view(at, 40) else { return Parsed::Malformed };
    let end = at + 40 + usize::from(ip.u16(4));
    if ip.u8(0) >> 4 != 6 || !reaches(frame, end) {
        return Parsed::Malformed;
    }
    let packet =
        Ip { hi: ip.u64(8), lo: ip.u64(16), v6: true, hops: ip.u8(7), upper: Upper::Other, sport: 0, dport: 0 };
    let mut next = ip.u8(6);
    let mut here = at + 40;
    let mut followed = 0;
    while is_extension(next) {
        if here + 8 > end {
            return Parsed::Malformed;
        }
        let header = if here > FAR || followed == CHAIN { None } else { frame.view(here, 8) };
        let Some(header) = header else {
            return opaque(packet);
        };
        if next == FRAGMENT && header.u16(2) & 0xfff8 != 0 {
            return opaque(packet);
        }
        here = frame.forget(
            here + match next {
                FRAGMENT => 8,
                AUTHENTICATION => (usize::from(header.u8(1)) + 2) * 4,
                _ => (usize::from(header.u8(1)) + 1) * 8,
            },
        );
        if here > end {
            return Parsed::Malformed;
        }
        next = header.u8(0);
        followed += 1;
    }
    if here > FAR {
        return opaque(packet);
    }
    upper(frame, here, end - here, next, packet)
}

const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// Headers that name the next one (RFC 8200 §4, RFC 4302, RFC 6275, RFC 7401, RFC 5533).
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | FRAGMENT | AUTHENTICATION | 60 | 135 | 139 | 140)
}

/// Reads the header at `at`, of which the IP header grants `length` bytes.
#[inline(always)]
fn upper<F: Frame>(frame: &F, at: usize, length: usize, protocol: u8, mut packet: Ip) -> Parsed {
    match protocol {
        17 => {
            if length < 8 {
                return Parsed::Malformed;
            }
            let Some(udp) = frame.view(at, 8) else { return opaque(packet) };
            packet.sport = udp.u16(0);
            packet.dport = udp.u16(2);
            packet.upper = Upper::Udp;
        }
        6 => {
            if length < 20 {
                return Parsed::Malformed;
            }
            let Some(tcp) = frame.view(at, 20) else { return opaque(packet) };
            let header = usize::from(tcp.u8(12) >> 4) * 4;
            if header < 20 || header > length {
                return Parsed::Malformed;
            }
            packet.sport = tcp.u16(0);
            packet.dport = tcp.u16(2);
            packet.upper = if tcp.u8(13) & 0x12 == 0x02 { Upper::Syn } else { Upper::Tcp };
        }
        58 if packet.v6 => {
            if length < 4 {
                return Parsed::Malformed;
            }
            let Some(icmp) = frame.view(at, 4) else { return opaque(packet) };
            packet.dport = u16::from(icmp.u8(0));
            packet.upper = Upper::Icmp6;
        }
        _ => {}
    }
    Parsed::Ip(packet)
}

/// A packet whose next header is there, but out of reach.
#[inline(always)]
fn opaque(mut packet: Ip) -> Parsed {
    packet.upper = Upper::Opaque;
    Parsed::Ip(packet)
}

/// Whether a source is link-local (fe80::/10).
#[inline(always)]
pub const fn is_link_local(hi: u64) -> bool {
    hi >> 54 == 0xfe80 >> 6
}
