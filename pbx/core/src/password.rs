//! The rules for passwords: of telephones and of people, one policy for each tenant. The API, the import of a list and
//! the generator ask here. Keeps no password and hashes none.

mod account;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

pub use account::AccountInfo;

/// The fewest characters that any policy may ask for.
pub const SHORTEST: u8 = 8;
/// The most characters that a password may have.
pub const LONGEST: u8 = 32;
/// A run of so many neighbours is a sequence.
const SEQUENCE: usize = 4;
/// So many equal characters in a row are a repetition.
const REPETITION: usize = 3;

/// What passwords of a tenant have to be like. Characters are those of ASCII from `!` to `~` whatever the policy is:
/// what else phones hash differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct PasswordPolicy {
    /// At least one letter.
    pub contains_letters: bool,
    /// At least one digit.
    pub contains_numbers: bool,
    /// At least one upper-case letter or special character.
    pub contains_special_letters: bool,
    /// No `1234`, `7890`, `Abcd` or `4321`.
    pub disable_sequential_characters: bool,
    /// No `222`, `Aaa` or `###`.
    pub disable_repeating_characters: bool,
    /// Nothing of what is known about the account.
    pub disable_account_information: bool,
    min_length: u8,
    max_length: u8,
}

impl PasswordPolicy {
    /// This policy with other lengths, both included: 8 to 32, the first not over the second.
    pub fn with_lengths(self, min_length: u8, max_length: u8) -> Result<Self, PolicyError> {
        if !(SHORTEST..=LONGEST).contains(&min_length) {
            return Err(PolicyError::MinLength(min_length));
        }
        if !(min_length..=LONGEST).contains(&max_length) {
            return Err(PolicyError::MaxLength { max_length, min_length });
        }
        Ok(Self { min_length, max_length, ..self })
    }

    /// The fewest characters.
    pub const fn min_length(&self) -> u8 {
        self.min_length
    }

    /// The most characters.
    pub const fn max_length(&self) -> u8 {
        self.max_length
    }
}

impl Default for PasswordPolicy {
    /// Every rule.
    fn default() -> Self {
        Self {
            contains_letters: true,
            contains_numbers: true,
            contains_special_letters: true,
            disable_sequential_characters: true,
            disable_repeating_characters: true,
            disable_account_information: true,
            min_length: SHORTEST,
            max_length: LONGEST,
        }
    }
}

impl Serialize for PasswordPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for PasswordPolicy {
    /// What is not written is as in a new installation; lengths out of range are an error.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let policy = Self::deserialize(deserializer)?;
        let (min, max) = (policy.min_length, policy.max_length);
        policy.with_lengths(min, max).map_err(de::Error::custom)
    }
}

/// Lengths that no policy may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Of the fewest characters.
    #[error("min_length is {0}: write a whole number from {SHORTEST} to {LONGEST}")]
    MinLength(u8),
    /// Of the most characters.
    #[error("max_length is {max_length}: write a whole number from {min_length} (min_length) to {LONGEST}")]
    MaxLength {
        /// What was written.
        max_length: u8,
        /// The fewest characters.
        min_length: u8,
    },
}

/// A rule that a password breaks; printed as a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Too short or too long.
    Length {
        /// The fewest characters.
        min: u8,
        /// The most.
        max: u8,
    },
    /// Something other than the characters `!` to `~`.
    Characters,
    /// No letter.
    Letter,
    /// No digit.
    Digit,
    /// Neither an upper-case letter nor a special character.
    Special,
    /// A sequence.
    Sequence,
    /// A repetition.
    Repetition,
    /// Something about the account.
    Account {
        /// What it is: `extension number`.
        what: &'static str,
    },
}

impl Rule {
    /// The rule's name for programs: the field of the policy that asks for it, or what it is about.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Length { .. } => "length",
            Self::Characters => "characters",
            Self::Letter => "contains_letters",
            Self::Digit => "contains_numbers",
            Self::Special => "contains_special_letters",
            Self::Sequence => "disable_sequential_characters",
            Self::Repetition => "disable_repeating_characters",
            Self::Account { .. } => "disable_account_information",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { min, max } => write!(f, "The password must have {min} to {max} characters."),
            Self::Characters => {
                f.write_str("The password may have letters, digits and special characters of ASCII only, no spaces.")
            }
            Self::Letter => f.write_str("The password must have a letter (A-Z, a-z)."),
            Self::Digit => f.write_str("The password must have a digit (0-9)."),
            Self::Special => {
                f.write_str("The password must have an upper-case letter or a special character, such as ! @ # $.")
            }
            Self::Sequence => f.write_str("The password must not have a sequence such as 1234, 7890, Abcd or 4321."),
            Self::Repetition => {
                f.write_str("The password must not have the same character three times in a row, such as 222 or Aaa.")
            }
            Self::Account { what } => {
                write!(f, "The password must not have the account's {what} in it, nor be a part of it.")
            }
        }
    }
}

/// Every rule that the password breaks, in the order of [`Rule`].
pub fn check(password: &str, policy: &PasswordPolicy, account: &AccountInfo<'_>) -> Result<(), Vec<Rule>> {
    let bytes = password.as_bytes();
    let (min, max) = (policy.min_length, policy.max_length);
    let has = |wanted: fn(&u8) -> bool| bytes.iter().any(wanted);
    let length = password.chars().count();
    let is_special = |byte: &u8| byte.is_ascii_punctuation() || byte.is_ascii_uppercase();
    let rules = [
        (length < usize::from(min) || length > usize::from(max), Rule::Length { min, max }),
        (!bytes.iter().all(u8::is_ascii_graphic), Rule::Characters),
        (policy.contains_letters && !has(u8::is_ascii_alphabetic), Rule::Letter),
        (policy.contains_numbers && !has(u8::is_ascii_digit), Rule::Digit),
        (policy.contains_special_letters && !has(is_special), Rule::Special),
        (policy.disable_sequential_characters && has_sequence(bytes), Rule::Sequence),
        (policy.disable_repeating_characters && has_repetition(bytes), Rule::Repetition),
    ];
    let mut broken: Vec<_> = rules.into_iter().filter(|(is_broken, _)| *is_broken).map(|(_, rule)| rule).collect();
    if policy.disable_account_information {
        broken.extend(account.found_in(password).into_iter().map(|what| Rule::Account { what }));
    }
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

/// Characters that are hard to take for one another, also on the display of a telephone.
const CHARACTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789!#$%*+-=?@_";
/// Characters of a generated password, if the policy allows: 120 bits of chance.
const GENERATED: u8 = 20;

/// A password out of 32 random bytes that the policy allows; the same for the same bytes. `None` only for an account
/// about which so much is known that none of a thousand passes.
pub fn generate(randomness: &[u8; 32], policy: &PasswordPolicy, account: &AccountInfo<'_>) -> Option<String> {
    let length = usize::from(GENERATED.clamp(policy.min_length, policy.max_length));
    let mut candidates = (0..1000).filter_map(|attempt| candidate(randomness, attempt, length));
    candidates.find(|password| check(password, policy, account).is_ok())
}

/// So many characters, each as likely as any other. `None` if chance gave too few.
fn candidate(randomness: &[u8; 32], attempt: u32, length: usize) -> Option<String> {
    let block =
        |number: u8| Sha256::new().chain_update(randomness).chain_update(attempt.to_be_bytes()).chain_update([number]);
    let bytes = (0..4).flat_map(|number| <[u8; 32]>::from(block(number).finalize()));
    let fair = 256 / CHARACTERS.len() * CHARACTERS.len();
    let characters = bytes.map(usize::from).filter(|byte| *byte < fair);
    let password: String =
        characters.map(|byte| char::from(CHARACTERS[byte % CHARACTERS.len()])).take(length).collect();
    (password.len() == length).then_some(password)
}

/// Four or more neighbours of a kind in a row, up or down, without regard to case; 0 follows on 9.
fn has_sequence(password: &[u8]) -> bool {
    let follows = |one: u8, two: u8| {
        let (one, two) = (one.to_ascii_lowercase(), two.to_ascii_lowercase());
        kind(one) == kind(two) && (one.checked_add(1) == Some(two) || (one, two) == (b'9', b'0'))
    };
    has_run(password, SEQUENCE, follows) || has_run(password, SEQUENCE, |one, two| follows(two, one))
}

/// Three or more equal characters in a row, without regard to case.
fn has_repetition(password: &[u8]) -> bool {
    has_run(password, REPETITION, |one, two| one.eq_ignore_ascii_case(&two))
}

/// Whether `length` bytes in a row are each joined to the next.
fn has_run(bytes: &[u8], length: usize, joined: impl Fn(u8, u8) -> bool) -> bool {
    let mut run = 1;
    bytes.windows(2).any(|pair| {
        run = if joined(pair[0], pair[1]) { run + 1 } else { 1 };
        run >= length
    })
}

/// What a sequence stays within.
fn kind(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests;
