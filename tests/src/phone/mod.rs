//! Phones: baresip and SIPp as processes, a registering crowd of our own for what they cannot do, and a line that sends
//! what no phone would. After lab, beside daemon. None of it uses the code under test.

mod baresip;
pub mod crowd;
mod digest;
mod line;
pub mod sipp;

pub use baresip::Baresip;
pub use line::{Heard, Line, Request};
