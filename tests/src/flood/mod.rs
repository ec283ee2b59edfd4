//! Numbered datagrams from a neighbour and the record of which arrived. After lab; knows no daemon.
//!
//! A [`Sender`] numbers what it sends within a stream, bounded by count and time; a [`Receiver`] notes the numbers
//! that reach the appliance, by source and stream. What is missing was dropped on the way.

mod first;
mod receive;
mod send;

pub use first::First;
pub use receive::{Arrivals, Receiver, Seen};
pub use send::{Injector, Plan, Sender};

/// First bytes of every numbered datagram.
const MAGIC: [u8; 4] = *b"PBXt";

/// Size of a numbered payload: magic, stream, number.
pub const PAYLOAD: usize = 16;

/// The payload that a [`Receiver`] understands.
pub fn payload(stream: u32, number: u64) -> [u8; PAYLOAD] {
    let mut bytes = [0; PAYLOAD];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&stream.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<(u32, u64)> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (stream, rest) = rest.split_first_chunk::<4>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    Some((u32::from_be_bytes(*stream), u64::from_be_bytes(*number)))
}
