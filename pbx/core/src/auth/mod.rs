//! Digest authentication (RFC 7616, RFC 8760): challenges, nonces, and the check of what answers them. After the
//! wire, before transactions; runs on the receive workers, which have no state but a key and the directory.
//!
//! A request without credentials gets a [`Challenge`] if its source has an [`Allowance`] left. What comes back is
//! [judged](decide()) against the directory, without any state. The core then asks [`Replay`] whether nonce and count
//! were there before: only it sees retransmissions for what they are.

mod algorithm;
mod allowance;
mod challenge;
mod decide;
mod digest;
mod nonce;
mod replay;

pub use algorithm::{Algorithm, NoSuchAlgorithm, Scheme};
pub use allowance::{Allowance, Answer, Limits};
pub use challenge::{Challenge, Header, RealmError, check_realm};
pub use decide::{Asked, Credentials, Unusable, Verdict, decide};
pub use digest::{Proof, Response, Use};
pub use nonce::{Age, Key, Keys, Nonce, Signed};
pub use replay::{Replay, Reuse};
