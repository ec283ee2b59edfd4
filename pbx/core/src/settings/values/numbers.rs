//! Settings that are what people dial.

use std::{fmt, str::FromStr};

use super::{
    Kind, Value, ValueError,
    sets::{comma_separated, items},
};

/// Numbers that always mean the emergency services; in the order in which they were typed, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EmergencyNumbers(Vec<String>);

impl EmergencyNumbers {
    /// Numbers that may be typed.
    pub const MAX_ITEMS: usize = 32;

    /// The numbers.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether `dialled` is one of them.
    pub fn contains(&self, dialled: &str) -> bool {
        self.iter().any(|number| number == dialled)
    }

    /// The emergency number that `number` equals or begins with; then no extension may have it.
    pub fn begins(&self, number: &str) -> Option<&str> {
        self.iter().find(|emergency| number.starts_with(emergency))
    }
}

impl Value for EmergencyNumbers {
    const KIND: Kind = Kind::Numbers { max_items: Self::MAX_ITEMS };
}

impl fmt::Display for EmergencyNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comma_separated(f, &self.0)
    }
}

impl FromStr for EmergencyNumbers {
    type Err = ValueError;

    /// At least one: every country has one, and calls to it must never meet an extension.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut numbers: Vec<String> = Vec::new();
        for item in items(text, Self::MAX_ITEMS)? {
            let is_number = (2..=15).contains(&item.len()) && item.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number {
                let item: String = item.chars().take(20).collect();
                return Err(ValueError::Item(format!("{item:?} is no number of 2 to 15 digits")));
            }
            if !numbers.iter().any(|number| number == item) {
                numbers.push(item.to_owned());
            }
        }
        if numbers.is_empty() { Err(ValueError::Empty) } else { Ok(Self(numbers)) }
    }
}
