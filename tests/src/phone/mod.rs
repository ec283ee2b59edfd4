//! Phones: baresip and SIPp as processes, and a registering crowd of our own for what they cannot do. After lab,
//! beside daemon. None of it uses the code under test.

mod baresip;
pub mod crowd;
pub mod sipp;

pub use baresip::Baresip;
