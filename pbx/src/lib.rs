//! The daemon and its command line: touches everything, decides nothing.
pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod filter;
pub mod guard;
pub mod host;
pub mod media;
pub mod net;
pub mod ops;
pub mod secrets;
pub mod signalling;
pub mod sip;
pub mod store;
pub mod trace;
pub mod xdp;
