//! STUN binding requests and their answers (RFC 8489), as keep-alives of phones (RFC 5626 §3.5.2) and to learn the
//! address that others see. Beside SIP on the same socket. Knows no credentials, and of attributes only these.

pub mod discovery;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What pairs an answer with its request; random in a request.
pub type TransactionId = [u8; 12];

/// Header bytes of a message.
pub const HEADER_BYTES: usize = 20;
/// Bytes of a [`request`].
pub const REQUEST_BYTES: usize = HEADER_BYTES + FINGERPRINT_BYTES;
/// The most bytes of an [`Answer`].
pub const ANSWER_BYTES: usize = 76;

const COOKIE: u32 = 0x2112_a442;
const FINGERPRINT_BYTES: usize = 8;
const BINDING: u16 = 1;
/// The most unknown attributes that an answer names; what follows is not named.
const NAMED_UNKNOWN: usize = 8;

/// Attribute types (RFC 8489 §18.3).
mod attribute {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const REALM: u16 = 0x0014;
    pub(super) const NONCE: u16 = 0x0015;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(super) const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub(super) const USERHASH: u16 = 0x001e;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    /// Types from here on may be skipped by who does not know them.
    pub(super) const OPTIONAL: u16 = 0x8000;
    pub(super) const FINGERPRINT: u16 = 0x8028;

    /// Whether the type must be known (RFC 8489 §14), and is not.
    pub(super) const fn is_unknown(kind: u16) -> bool {
        kind < OPTIONAL
            && !matches!(
                kind,
                MAPPED_ADDRESS
                    | USERNAME
                    | MESSAGE_INTEGRITY
                    | ERROR_CODE
                    | UNKNOWN_ATTRIBUTES
                    | REALM
                    | NONCE
                    | MESSAGE_INTEGRITY_SHA256
                    | PASSWORD_ALGORITHM
                    | USERHASH
                    | XOR_MAPPED_ADDRESS
            )
    }
}

/// The class of a message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// An answer that grants.
    Success,
    /// An answer that refuses.
    Error,
}

/// A message whose frame, and FINGERPRINT if it has one, are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its class.
    pub class: Class,
    /// Its method, 12 bits; a binding is 1.
    pub method: u16,
    /// Its transaction.
    pub transaction_id: TransactionId,
    /// Whether it has a FINGERPRINT, which was right.
    pub fingerprint: bool,
    attributes: &'a [u8],
}

/// Why a datagram is no STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StunError {
    /// Shorter than a header, or not as long as the header says, or not in words of four bytes.
    #[error("the length is not the header's, or not a multiple of 4")]
    Length,
    /// The first two bits are set, or the magic cookie is missing, as it was before RFC 5389.
    #[error("the header has no magic cookie")]
    Header,
    /// An attribute goes past the end.
    #[error("an attribute is longer than the message")]
    Attribute,
    /// The FINGERPRINT is wrong, or something follows it.
    #[error("the fingerprint is not that of the message")]
    Fingerprint,
}

/// Reads a message.
///
/// # Errors
/// The bytes are no STUN message, or one that was damaged: to be dropped in silence.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, StunError> {
    let (header, attributes) = bytes.split_at_checked(HEADER_BYTES).ok_or(StunError::Length)?;
    let kind = word(header, 0);
    if kind & 0xc000 != 0 || header[4..8] != COOKIE.to_be_bytes() {
        return Err(StunError::Header);
    }
    if usize::from(word(header, 2)) != attributes.len() || !attributes.len().is_multiple_of(4) {
        return Err(StunError::Length);
    }
    let mut transaction_id = [0; 12];
    transaction_id.copy_from_slice(&header[8..]);
    let fingerprint = check(bytes, attributes)?;
    Ok(Message {
        class: match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
            (false, false) => Class::Request,
            (false, true) => Class::Indication,
            (true, false) => Class::Success,
            (true, true) => Class::Error,
        },
        method: (kind & 0x3e00) >> 2 | (kind & 0x00e0) >> 1 | kind & 0x000f,
        transaction_id,
        fingerprint,
        attributes,
    })
}

impl<'a> Message<'a> {
    /// The attributes, types and values, in their order.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        Attributes(self.attributes)
    }

    /// The address that a binding's answer tells; XOR-MAPPED-ADDRESS before MAPPED-ADDRESS, of each the first.
    pub fn mapped(&self) -> Option<SocketAddr> {
        let first = |kind| self.covered().find(|(found, _)| *found == kind).map(|(_, value)| value);
        let xored = first(attribute::XOR_MAPPED_ADDRESS).map(|value| address(value, Some(&self.transaction_id)));
        xored.or_else(|| first(attribute::MAPPED_ADDRESS).map(|value| address(value, None))).flatten()
    }

    /// The code of an error answer, 300-699 (RFC 8489 §14.8).
    pub fn error_code(&self) -> Option<u16> {
        let (_, value) = self.covered().find(|(kind, _)| *kind == attribute::ERROR_CODE)?;
        let (hundreds, rest) = (*value.get(2)? & 0x07, *value.get(3)?);
        ((3..=6).contains(&hundreds) && rest < 100).then(|| u16::from(hundreds) * 100 + u16::from(rest))
    }

    /// The types that must be known and are not.
    pub fn unknown(&self) -> impl Iterator<Item = u16> {
        self.covered().map(|(kind, _)| kind).filter(|kind| attribute::is_unknown(*kind))
    }

    /// The attributes that count: what follows a MESSAGE-INTEGRITY does not (RFC 8489 §14.5).
    fn covered(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let signs = |kind| matches!(kind, attribute::MESSAGE_INTEGRITY | attribute::MESSAGE_INTEGRITY_SHA256);
        self.attributes().take_while(move |(kind, _)| !signs(*kind))
    }
}

/// A binding request, with a FINGERPRINT, because it shares the socket with SIP.
pub fn request(transaction_id: TransactionId) -> [u8; REQUEST_BYTES] {
    let mut message = [0; REQUEST_BYTES];
    let mut writer = Writer::new(&mut message, 0x0001, transaction_id);
    writer.fingerprint();
    message
}

/// The address that a binding's answer tells. `None` if it is not an answer to that request, or refuses, or tells an
/// address at which nothing can be reached, or must not be understood as it says itself.
pub fn mapped(response: &[u8], transaction_id: TransactionId) -> Option<SocketAddr> {
    let message = parse(response).ok()?;
    let ours = message.method == BINDING && message.transaction_id == transaction_id;
    if !ours || message.class != Class::Success || message.unknown().next().is_some() {
        return None;
    }
    message.mapped().filter(|address| address.port() != 0 && !address.ip().is_unspecified())
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    bytes: [u8; ANSWER_BYTES],
    len: usize,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Answers a binding request that came from `source`: with that address, or with 420 and the attributes that are not
/// known. A FINGERPRINT is answered with one (RFC 8489 §7.3.1). `None`: drop in silence.
///
/// An answer has at most 76 bytes; to a request of 20, without attributes, 44 (IPv4: 32).
pub fn answer(request: &[u8], source: SocketAddr) -> Option<Answer> {
    let message = parse(request).ok()?;
    if message.class != Class::Request || message.method != BINDING {
        return None;
    }
    let mut bytes = [0; ANSWER_BYTES];
    let mut unknown = message.unknown().peekable();
    let kind = if unknown.peek().is_some() { 0x0111 } else { 0x0101 };
    let mut writer = Writer::new(&mut bytes, kind, message.transaction_id);
    if unknown.peek().is_some() {
        writer.attribute(attribute::ERROR_CODE, &[b"\0\0\x04\x14", &b"Unknown Attribute"[..]]);
        let mut types = [[0; 2]; NAMED_UNKNOWN];
        let named = types.iter_mut().zip(unknown).map(|(to, kind)| *to = kind.to_be_bytes()).count();
        writer.attribute(attribute::UNKNOWN_ATTRIBUTES, &[types[..named].as_flattened()]);
    } else {
        writer.xor_mapped(source, message.transaction_id);
    }
    if message.fingerprint {
        writer.fingerprint();
    }
    let len = writer.len;
    Some(Answer { bytes, len })
}

/// Attributes, until one goes past the end.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.0.split_at_checked(4)?;
        let length = usize::from(word(header, 2));
        let value = rest.get(..length)?;
        self.0 = rest.get(length.next_multiple_of(4)..)?;
        Some((word(header, 0), value))
    }
}

/// Looks that the attributes fill the message, and at the FINGERPRINT, which must be the last (RFC 8489 §14.7).
fn check(message: &[u8], attributes: &[u8]) -> Result<bool, StunError> {
    let mut walk = Attributes(attributes);
    while let Some((kind, value)) = walk.next() {
        if kind == attribute::FINGERPRINT {
            let covered = &message[..message.len() - walk.0.len().min(message.len())];
            let covered = covered.split_last_chunk::<FINGERPRINT_BYTES>().map_or(covered, |(before, _)| before);
            let right = walk.0.is_empty() && value == fingerprint_of(covered).to_be_bytes();
            return if right { Ok(true) } else { Err(StunError::Fingerprint) };
        }
    }
    if walk.0.is_empty() { Ok(false) } else { Err(StunError::Attribute) }
}

/// An address attribute, or its XOR form when the transaction is given (RFC 8489 §14.1, §14.2).
fn address(value: &[u8], xored: Option<&TransactionId>) -> Option<SocketAddr> {
    let mut mask = [0; 16];
    if let Some(transaction_id) = xored {
        mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
        mask[4..].copy_from_slice(transaction_id);
    }
    let (head, ip) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
    let unmasked = |byte: usize| ip[byte] ^ mask[byte];
    let ip = match (head[1], ip.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(unmasked))),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(unmasked))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes a message into a buffer that has room for it.
struct Writer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(bytes: &'a mut [u8], kind: u16, transaction_id: TransactionId) -> Self {
        bytes[..2].copy_from_slice(&kind.to_be_bytes());
        bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
        bytes[8..HEADER_BYTES].copy_from_slice(&transaction_id);
        Self { bytes, len: HEADER_BYTES }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends an attribute, whose padding is zero, and sets the message's length.
    fn attribute(&mut self, kind: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&kind.to_be_bytes());
        self.put(&(length as u16).to_be_bytes());
        parts.iter().for_each(|part| self.put(part));
        self.put(&[0; 3][..length.next_multiple_of(4) - length]);
        self.length(0);
    }

    /// Sets the message's length to what is there and so many bytes that follow.
    fn length(&mut self, following: usize) {
        self.bytes[2..4].copy_from_slice(&((self.len - HEADER_BYTES + following) as u16).to_be_bytes());
    }

    fn xor_mapped(&mut self, address: SocketAddr, transaction_id: TransactionId) {
        let mask = (u128::from(COOKIE) << 96) | u128::from_be_bytes(padded(&transaction_id));
        let port = (address.port() ^ (COOKIE >> 16) as u16).to_be_bytes();
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let ip = (ip.to_bits() ^ COOKIE).to_be_bytes();
                self.attribute(attribute::XOR_MAPPED_ADDRESS, &[&[0, 1], &port, &ip]);
            }
            IpAddr::V6(ip) => {
                let ip = (ip.to_bits() ^ mask).to_be_bytes();
                self.attribute(attribute::XOR_MAPPED_ADDRESS, &[&[0, 2], &port, &ip]);
            }
        }
    }

    fn fingerprint(&mut self) {
        self.length(FINGERPRINT_BYTES);
        let fingerprint = fingerprint_of(&self.bytes[..self.len]);
        self.attribute(attribute::FINGERPRINT, &[&fingerprint.to_be_bytes()]);
    }
}

fn padded(transaction_id: &TransactionId) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[4..].copy_from_slice(transaction_id);
    padded
}

/// Two bytes of a slice that has them.
fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The FINGERPRINT of what stands before it (RFC 8489 §14.7).
fn fingerprint_of(message: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut bits = byte as u32;
            let mut turn = 0;
            while turn < 8 {
                bits = if bits & 1 == 0 { bits >> 1 } else { bits >> 1 ^ 0xedb8_8320 };
                turn += 1;
            }
            table[byte] = bits;
            byte += 1;
        }
        table
    };
    let crc = message.iter().fold(!0, |crc: u32, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]);
    !crc ^ 0x5354_554e
}
