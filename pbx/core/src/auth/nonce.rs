//! Nonces that carry their own proof (RFC 3261 §8.2.7, RFC 7616 §3.3): nothing is kept for a challenge.
//!
//! A nonce is 36 characters of base64url: when it was issued (milliseconds, 48 bits), an id (64 bits), and 104 bits of
//! HMAC-SHA-256 over both and the realm. It is bound to no address: a phone's may change between two requests (NAT,
//! mobile networks, a second address family), and what a nonce is worth to somebody else is limited by the count,
//! which [`Replay`](super::Replay) checks.

use std::{fmt, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::moment::Moment;

/// Bytes of the time, of the id, and of the signature.
const TIME: usize = 6;
const ID: usize = 8;
const SIGNATURE: usize = 13;
const BYTES: usize = TIME + ID + SIGNATURE;

/// What nonces are signed with. A secret: never printed.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Key {
    /// The key of 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mut block = [0; 64];
        block[..32].copy_from_slice(bytes);
        Self(Hmac::new(&block.into()))
    }

    fn mac(&self, body: &[u8], realm: &str) -> Hmac<Sha256> {
        self.0.clone().chain_update(body).chain_update(realm)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// The keys of now. What a former one signed is known for ours and never fresh, which costs a phone one challenge more.
///
/// A daemon that starts draws a new key and has no former one: neither the origin of time nor the counts of the run
/// before are known any more. Nonces of that run are foreign, and who proves the right password with one is challenged
/// again with `stale=true`, as with one of its own that is too old.
#[derive(Clone, Debug)]
pub struct Keys {
    /// What signs.
    pub current: Key,
    /// What signed before, if the key was changed while the daemon ran.
    pub former: Option<Key>,
}

/// What is in a nonce that we signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// When it was issued, in whole milliseconds.
    pub issued: Moment,
    /// What tells it from all others of its life.
    pub id: u64,
}

/// What a nonce is, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Ours, and within its life.
    Fresh(Signed),
    /// Ours, and too old.
    Stale,
    /// Not ours.
    Foreign,
}

impl Keys {
    /// A nonce for a challenge in `realm`. The id must not come twice within a nonce's life: chance, or a counter
    /// beside the number of the worker.
    pub fn sign(&self, realm: &str, now: Moment, id: u64) -> Nonce {
        let mut bytes = [0; BYTES];
        let [_, _, time @ ..] = (now.as_micros() / 1000).to_be_bytes();
        bytes[..TIME].copy_from_slice(&time);
        bytes[TIME..TIME + ID].copy_from_slice(&id.to_be_bytes());
        let signature = self.current.mac(&bytes[..TIME + ID], realm).finalize().into_bytes();
        bytes[TIME + ID..].copy_from_slice(&signature[..SIGNATURE]);
        Nonce::of(&bytes)
    }

    /// What a nonce of credentials is, in time that does not depend on where a forged signature is wrong.
    pub fn verify(&self, nonce: &[u8], realm: &str, now: Moment, life: Duration) -> Age {
        let Some(bytes) = Nonce::read(nonce) else { return Age::Foreign };
        let (body, signature) = bytes.split_at(TIME + ID);
        let signed_by = |key: &Key| key.mac(body, realm).verify_truncated_left(signature).is_ok();
        if !signed_by(&self.current) {
            return if self.former.as_ref().is_some_and(signed_by) { Age::Stale } else { Age::Foreign };
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let issued = Moment::from_micros(number(&body[..TIME]).saturating_mul(1000));
        if now.since(issued) < life { Age::Fresh(Signed { issued, id: number(&body[TIME..]) }) } else { Age::Stale }
    }
}

/// A nonce as it is written; nothing in it needs quoting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; Self::LEN]);

impl Nonce {
    /// Characters.
    pub const LEN: usize = BYTES / 3 * 4;

    /// The nonce as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The nonce as bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn of(bytes: &[u8; BYTES]) -> Self {
        let mut text = [0; Self::LEN];
        for (four, [a, b, c]) in text.as_chunks_mut::<4>().0.iter_mut().zip(bytes.as_chunks().0) {
            let bits = u32::from_be_bytes([0, *a, *b, *c]);
            *four = [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift & 63) as usize]);
        }
        Self(text)
    }

    fn read(text: &[u8]) -> Option<[u8; BYTES]> {
        let text: &[u8; Self::LEN] = text.try_into().ok()?;
        let mut bytes = [0; BYTES];
        let mut wrong = 0;
        for (three, four) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(text.as_chunks::<4>().0) {
            let mut bits = 0;
            for value in four.map(|character| VALUES[usize::from(character)]) {
                wrong |= value & NO_DIGIT;
                bits = bits << 6 | u32::from(value & 63);
            }
            let [_, a, b, c] = bits.to_be_bytes();
            *three = [a, b, c];
        }
        (wrong == 0).then_some(bytes)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// base64url (RFC 4648 §5).
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const NO_DIGIT: u8 = 0x80;
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 64 {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REALM: &str = "pbx.example.com";
    const LIFE: Duration = Duration::from_secs(300);
    const NOW: Moment = Moment::from_micros(1_000_000_000);

    fn keys() -> Keys {
        Keys { current: Key::new(&[1; 32]), former: Some(Key::new(&[2; 32])) }
    }

    fn age(nonce: &[u8], now: Moment) -> Age {
        keys().verify(nonce, REALM, now, LIFE)
    }

    #[test]
    fn a_nonce_is_fresh_for_its_life_and_stale_after_it() {
        let nonce = keys().sign(REALM, NOW, 42);
        let fresh = Age::Fresh(Signed { issued: NOW, id: 42 });
        assert_eq!(age(nonce.as_bytes(), NOW), fresh);
        assert_eq!(age(nonce.as_bytes(), NOW + LIFE - Duration::from_micros(1)), fresh);
        assert_eq!(age(nonce.as_bytes(), NOW + LIFE), Age::Stale);
    }

    #[test]
    fn a_nonce_of_a_worker_whose_clock_is_a_little_ahead_is_fresh() {
        let nonce = keys().sign(REALM, NOW, 42);
        assert_eq!(age(nonce.as_bytes(), NOW - Duration::from_millis(2)), Age::Fresh(Signed { issued: NOW, id: 42 }));
    }

    #[test]
    fn what_the_former_key_signed_is_stale_and_what_none_signed_is_foreign() {
        let by = |byte| Keys { current: Key::new(&[byte; 32]), former: None }.sign(REALM, NOW, 42);
        assert_eq!(age(by(2).as_bytes(), NOW), Age::Stale);
        assert_eq!(age(by(3).as_bytes(), NOW), Age::Foreign);
    }

    #[test]
    fn a_nonce_of_another_realm_is_foreign() {
        assert_eq!(age(keys().sign("other", NOW, 42).as_bytes(), NOW), Age::Foreign);
    }

    #[test]
    fn no_character_of_a_nonce_can_be_changed() {
        let nonce = keys().sign(REALM, NOW, u64::MAX);
        for at in 0..Nonce::LEN {
            for byte in 0..=u8::MAX {
                let mut text = nonce.0;
                if text[at] != byte {
                    text[at] = byte;
                    assert_eq!(age(&text, NOW), Age::Foreign, "{byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn nothing_in_a_nonce_has_to_be_quoted() {
        let nonce = keys().sign(REALM, NOW, u64::MAX);
        assert!(nonce.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        assert_eq!(nonce.as_str().len(), Nonce::LEN);
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", Key::new(&[65; 32])), "Key(secret)");
    }

    proptest! {
        #[test]
        fn a_nonce_says_what_was_signed(millis in 0..1_u64 << 48, id: u64) {
            let now = Moment::from_micros(millis.saturating_mul(1000));
            let nonce = keys().sign(REALM, now, id);
            prop_assert_eq!(age(nonce.as_bytes(), now), Age::Fresh(Signed { issued: now, id }));
        }

        #[test]
        fn any_bytes_are_foreign(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(age(&bytes, NOW), Age::Foreign);
        }
    }
}
