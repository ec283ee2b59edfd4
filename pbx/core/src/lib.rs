//! Everything pbx decides, without any input or output: no socket, file, clock or random number.
pub mod address;
pub mod auth;
pub mod directory;
pub mod filter;
pub mod known;
pub mod lockout;
pub mod moment;
pub mod registrar;
pub mod rule;
pub mod settings;
pub mod time;
pub mod transport;
