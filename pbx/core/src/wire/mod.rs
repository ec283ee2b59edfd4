//! Bytes and what they mean: total functions over what came from outside. First thing that a message meets; opens
//! nothing, keeps no more than its limits say, believes no length that the bytes do not have, and never panics.

pub mod demux;
pub mod sip;
pub mod stream;
pub mod stun;
