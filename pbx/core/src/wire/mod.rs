//! Bytes of the network ↔ values. Before everything that decides; total functions over what anybody may send:
//! none panics, none keeps more than its limits say, none believes a length that the bytes do not have.

pub mod demux;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod sip;
pub mod stream;
pub mod stun;
