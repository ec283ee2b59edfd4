//! Signs: what a source did that says something about it. Made by the receive workers and the core thread; counted by the
//! guard.

use std::net::IpAddr;

/// Bytes of a message that are kept as evidence.
pub const EVIDENCE: usize = 768;

/// Something that a source did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Who; IPv4 as such.
    pub source: IpAddr,
    /// Whether nobody else can have written this address: it came over a connection, or answers a nonce that was sent
    /// to this address.
    pub sure: bool,
    /// Whether the address is a known source.
    pub known: bool,
    /// What it did.
    pub what: What,
    /// The beginning of the message, as it came: at most [`EVIDENCE`] bytes.
    pub message: Option<Box<[u8]>>,
}

/// What a source did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Sent something that is no message, or a broken one, and points for how it is broken; or broke a TLS handshake off.
    Malformed {
        /// As of [`What::Points`].
        points: u16,
    },
    /// Sent a message with a forbidden User-Agent.
    Agent,
    /// Asked for something that needs a proof, gave none, or none that we could judge, and was challenged.
    Challenged {
        /// A hash of the Call-ID: a request that is sent again is no second one.
        call: u64,
        /// A hash of whom it is about.
        target: u64,
        /// For what is odd about the request.
        points: u16,
    },
    /// Answered a challenge of ours with the right password, too late.
    Answered {
        /// As of [`What::Challenged`].
        target: u64,
    },
    /// Proved to be an account.
    Succeeded {
        /// A hash of tenant and user.
        account: u64,
        /// As of [`What::Challenged`].
        target: u64,
    },
    /// Gave a wrong password.
    Rejected {
        /// Whose.
        account: Account,
        /// Whether there is such a user.
        user_known: bool,
        /// Whether the nonce was ours: then a challenge was answered, if wrongly.
        answers: bool,
        /// As of [`What::Challenged`].
        target: u64,
    },
    /// Something else that no telephone does.
    Points {
        /// As of [`What::Challenged`].
        call: u64,
        /// How bad that is, by the settings.
        points: u16,
    },
    /// Asked for the configuration of a telephone that does not exist.
    Path,
    /// Failed to sign in to the web.
    SignInFailed,
}

/// An account that somebody claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// A hash of tenant and user.
    pub hash: u64,
    /// The user, as it was written: at most [`Account::LONGEST`] bytes, graphic ASCII.
    pub name: Box<str>,
}

impl Account {
    /// Bytes of a name that are kept.
    pub const LONGEST: usize = 32;

    /// The account of that hash, with what can be shown of its name.
    pub fn new(hash: u64, name: &[u8]) -> Self {
        let shown =
            name.iter().take(Self::LONGEST).map(|byte| if byte.is_ascii_graphic() { *byte as char } else { '?' });
        Self { hash, name: shown.collect::<String>().into() }
    }
}
