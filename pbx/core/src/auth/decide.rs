//! The verdict on credentials (RFC 3261 §22, RFC 7616 §3.4.6). After the wire, before the queues; runs on the receive
//! workers. Keeps nothing, and costs the same whoever is asked for.
//!
//! The response is always checked, whatever the nonce is, so that a wrong password counts even with a made-up nonce.
//! For a user who does not exist it is checked against the secret of somebody else, whom the directory names: the same
//! lookups, the same hashes, as much memory read, and the result thrown away. `examples/auth.rs` measures it.
//!
//! Accepted beside what we offer: no `qop` (RFC 2069, for phones that know no other way; such a nonce serves once),
//! `-sess`, and hexadecimal in either case. Not accepted: `auth-int` and algorithms that the transport does not offer.
//! The `uri` is hashed as it was received and not compared with the request URI, which proxies rewrite.

use std::{hint::black_box, time::Duration};

use super::{Age, Algorithm, Keys, Proof, Response, Scheme, Use};
use crate::{
    directory::{Directory, ExtensionId, Tenant},
    moment::Moment,
};

/// What an `Authorization` or `Proxy-Authorization` says: the parameters' bytes as they were received, quotes taken
/// off, quoted pairs left as they are; `None` for what is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// Who asks: the bare number of an extension. `100@domain` and `%3100` are nobody's: what is hashed is what stands
    /// here, and a number has neither case nor escapes.
    pub username: Option<&'a [u8]>,
    /// Of which realm: exactly the one of the challenge.
    pub realm: Option<&'a [u8]>,
    /// The nonce of the challenge that this answers.
    pub nonce: Option<&'a [u8]>,
    /// The request URI, as the client saw it.
    pub uri: Option<&'a [u8]>,
    /// The proof.
    pub response: Option<&'a [u8]>,
    /// How it was made.
    pub algorithm: Option<&'a [u8]>,
    /// The client's own nonce.
    pub cnonce: Option<&'a [u8]>,
    /// The quality of protection.
    pub qop: Option<&'a [u8]>,
    /// How often the nonce was used, in hexadecimal.
    pub nc: Option<&'a [u8]>,
}

/// What credentials are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who exists.
    pub directory: &'a Directory,
    /// Whose extensions and realm are meant.
    pub tenant: &'a Tenant,
    /// What the transport offers.
    pub algorithms: &'a [Algorithm],
    /// What nonces are signed with.
    pub keys: &'a Keys,
    /// How long a nonce is fresh.
    pub life: Duration,
    /// The time of the request.
    pub now: Moment,
}

/// What credentials are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right, and the nonce fresh. Count and nonce are still to be [checked](super::Replay::check) for reuse.
    Valid {
        /// Who it is.
        extension: ExtensionId,
        /// The nonce.
        nonce_id: u64,
        /// When it was issued.
        issued: Moment,
        /// Its count; 0 for a nonce that serves once.
        nc: u32,
    },
    /// Right, but the nonce is too old: a new challenge with `stale=true`, which counts as no failure.
    Stale {
        /// Who it is.
        extension: ExtensionId,
    },
    /// Wrong: a new challenge, and a failure that counts.
    Wrong {
        /// Whether the user exists and is enabled. For the guard only: never to be seen in an answer.
        user_known: bool,
        /// What the nonce was.
        nonce: Age,
    },
    /// Right, but made with a nonce that is not ours: a new challenge, and the last one counts as unanswered.
    ForeignNonce,
    /// For somebody else's realm: to be ignored, as if they were not there.
    NotForUs,
    /// Not to be judged: a new challenge, and the last one counts as unanswered.
    Unusable(Unusable),
}

/// Why credentials cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A parameter that has to be there is not, or is too long.
    #[error("the credentials have no usable `{0}`")]
    Parameter(&'static str),
    /// A `qop` that was not offered.
    #[error("the credentials have a `qop` other than auth")]
    Qop,
    /// An algorithm that was not offered.
    #[error("the credentials have an `algorithm` that the transport does not offer")]
    Algorithm,
}

/// The longest `uri`, and the longest of the others: what hashing them costs is bounded.
const LONGEST_URI: usize = 1024;
const LONGEST_OTHER: usize = 256;

/// Judges the credentials of a request with this method.
pub fn decide(credentials: &Credentials<'_>, method: &[u8], asked: &Asked<'_>) -> Verdict {
    if credentials.realm != Some(asked.tenant.realm.as_bytes()) {
        return Verdict::NotForUs;
    }
    match Claim::read(credentials, method, asked.algorithms) {
        Ok(claim) => claim.judge(asked),
        Err(reason) => Verdict::Unusable(reason),
    }
}

/// Credentials with all that is needed.
struct Claim<'a> {
    user: &'a [u8],
    proof: Proof<'a>,
    response: Response,
    count: u32,
}

impl<'a> Claim<'a> {
    fn read(credentials: &Credentials<'a>, method: &'a [u8], offered: &[Algorithm]) -> Result<Self, Unusable> {
        let Credentials { username, realm: _, nonce, uri, response, algorithm, cnonce, qop, nc } = *credentials;
        let needed = |name, value: Option<&'a [u8]>, longest| match value {
            Some(value) if value.len() <= longest => Ok(value),
            _ => Err(Unusable::Parameter(name)),
        };
        let scheme = Scheme::of(algorithm).filter(|scheme| offered.contains(&scheme.algorithm));
        let scheme = scheme.ok_or(Unusable::Algorithm)?;
        let user = needed("username", username, LONGEST_OTHER)?;
        let nonce = needed("nonce", nonce, LONGEST_OTHER)?;
        let uri = needed("uri", uri, LONGEST_URI)?;
        let response = response.and_then(|text| Response::read(scheme.algorithm, text));
        let response = response.ok_or(Unusable::Parameter("response"))?;
        let cnonce = match cnonce {
            None if qop.is_none() && !scheme.session => b"",
            cnonce => needed("cnonce", cnonce, LONGEST_OTHER)?,
        };
        let (used, count) = match qop {
            None => (Use::Once, 0),
            Some(qop) if qop.eq_ignore_ascii_case(b"auth") => {
                let text = nc.ok_or(Unusable::Parameter("nc"))?;
                (Use::Counted(text), count(text).ok_or(Unusable::Parameter("nc"))?)
            }
            Some(_) => return Err(Unusable::Qop),
        };
        Ok(Self { user, proof: Proof { scheme, method, uri, nonce, cnonce, used }, response, count })
    }

    fn judge(&self, asked: &Asked<'_>) -> Verdict {
        let Some((account, is_it)) = asked.directory.account_or_other(asked.tenant.id, self.user) else {
            let age = asked.keys.verify(self.proof.nonce, &asked.tenant.realm, asked.now, asked.life);
            return Verdict::Wrong { user_known: false, nonce: age };
        };
        let user_known = is_it & account.enabled;
        // Both are worked out before either is looked at: no way to the end is shorter than another.
        let right = black_box(self.proof.response(&account.ha1).is(&self.response));
        let age = black_box(asked.keys.verify(self.proof.nonce, &asked.tenant.realm, asked.now, asked.life));
        if !(right & user_known) {
            return Verdict::Wrong { user_known, nonce: age };
        }
        match age {
            Age::Fresh(nonce) => {
                let nc = self.count;
                Verdict::Valid { extension: account.id, nonce_id: nonce.id, issued: nonce.issued, nc }
            }
            Age::Stale => Verdict::Stale { extension: account.id },
            Age::Foreign => Verdict::ForeignNonce,
        }
    }
}

/// The count of an `nc`: 1 to 8 hexadecimal digits, never 0 (RFC 7616 §3.4).
fn count(text: &[u8]) -> Option<u32> {
    if !(1..=8).contains(&text.len()) {
        return None;
    }
    let add = |number: u32, byte: &u8| Some(number << 4 | char::from(*byte).to_digit(16)?);
    text.iter().try_fold(0, add).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests;
