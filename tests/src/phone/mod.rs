//! Phones: baresip and SIPp as processes, a registering crowd of our own for what they cannot do, a line that sends
//! what no phone would, and on it a handset that calls and is called, with media. After lab, beside daemon. None of it
//! uses the code under test.

mod baresip;
pub mod callees;
pub mod callers;
pub mod crowd;
mod digest;
mod handset;
mod line;
pub mod media;
mod message;
pub mod sipp;
pub mod tone;

pub use baresip::{Baresip, Sound};
pub use digest::authorization;
pub use handset::{Call, Handset, number_of};
pub use line::{Heard, Line, Request};
pub use media::Media;
pub use message::{Message, Sdp};
