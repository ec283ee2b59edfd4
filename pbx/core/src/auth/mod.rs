//! Digest authentication (RFC 7616, RFC 8760): challenges, nonces, and the check of what answers them. After the
//! wire, before transactions; runs on the receive workers, which have no state but a key and the directory.

mod algorithm;

pub use algorithm::{Algorithm, NoSuchAlgorithm};
