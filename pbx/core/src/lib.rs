//! Everything pbx decides, without any input or output: no socket, file, clock or random number.
pub mod address;
pub mod auth;
pub mod directory;
pub mod filter;
pub mod lockout;
pub mod moment;
pub mod registrar;
pub mod number;
pub mod password;
pub mod overload;
pub mod rule;
pub mod settings;
mod slab;
pub mod time;
pub mod timer;
pub mod transaction;
pub mod transport;
pub mod wire;
