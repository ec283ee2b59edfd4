//! Everything pbx decides, without any input or output: no socket, file, clock or random number.
pub mod address;
pub mod filter;
pub mod lockout;
pub mod rule;
pub mod settings;
pub mod time;
