//! Settings that are patterns of texts.

use std::{fmt, str::FromStr};

use super::{Kind, Value, ValueError};
use crate::guard::agents::Pattern;

/// Patterns of names, each of them checked; in the order in which they were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Patterns that may be typed.
    pub const MAX_ITEMS: usize = 64;

    /// The patterns, as they were typed.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Value for Patterns {
    const KIND: Kind = Kind::Patterns { max_items: Self::MAX_ITEMS, max_bytes: Pattern::MAX_BYTES };
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(";"))
    }
}

impl FromStr for Patterns {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let typed: Vec<&str> = text.split(';').map(str::trim).filter(|pattern| !pattern.is_empty()).collect();
        if typed.len() > Self::MAX_ITEMS {
            return Err(ValueError::TooMany(typed.len()));
        }
        for pattern in &typed {
            Pattern::new(pattern).map_err(|error| ValueError::Item(error.to_string()))?;
        }
        Ok(Self(typed.into_iter().map(str::to_owned).collect()))
    }
}
