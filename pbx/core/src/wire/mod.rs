//! Bytes and what they mean: total functions over what came from outside. First thing that a message meets; opens
//! nothing, keeps nothing, and never panics.

pub mod sip;
