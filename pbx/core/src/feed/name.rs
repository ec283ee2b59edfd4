//! What a feed is called: rules, lists and events name it by this.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Characters that a name may have.
pub const LONGEST_NAME: usize = 32;

/// 1 to [`LONGEST_NAME`] small letters, digits, `-`, `_` and `.`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedName(String);

impl FeedName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is no name of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a feed has 1 to {LONGEST_NAME} small letters, digits, dots, - and _, and begins with a letter or digit: \
     spamhaus-drop, say"
)]
pub struct NameError;

impl FromStr for FeedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let fits = bytes.first().is_some_and(|first| is_plain(*first))
            && bytes.len() <= LONGEST_NAME
            && bytes.iter().all(|byte| is_plain(*byte) || b"-_.".contains(byte));
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError) }
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for FeedName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FeedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
