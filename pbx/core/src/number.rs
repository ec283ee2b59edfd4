//! Which numbers extensions may have. Under `directory`; the operations ask here before they store one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Digits of the shortest number of an extension.
pub const SHORTEST: usize = 3;
/// Digits of the longest.
pub const LONGEST: usize = 64;

/// Why a number is not one that an extension may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Too short or too long.
    #[error("number has {0} characters: write {SHORTEST} to {LONGEST} digits")]
    Length(usize),
    /// A character that is no digit.
    #[error("number has {0:?} in it: write {SHORTEST} to {LONGEST} of the digits 0 to 9")]
    NoDigit(char),
    /// Who dials this emergency number would reach, or wait for, the extension.
    #[error("number begins with the emergency number {0}: write one that begins with none of those in the settings")]
    Emergency(String),
}

/// Whether an extension may have this number: 3 to 64 of the digits 0 to 9, that neither are an emergency number nor
/// begin with one.
pub fn check(number: &str, emergency: &EmergencyNumbers) -> Result<(), NumberError> {
    if let Some(other) = number.chars().find(|character| !character.is_ascii_digit()) {
        return Err(NumberError::NoDigit(other));
    }
    if !(SHORTEST..=LONGEST).contains(&number.len()) {
        return Err(NumberError::Length(number.len()));
    }
    match emergency.beginning(number) {
        Some(emergency) => Err(NumberError::Emergency(emergency.to_owned())),
        None => Ok(()),
    }
}

/// The emergency numbers of a country, in order, each once. Written with commas: `112,911`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmergencyNumbers(Vec<String>);

impl EmergencyNumbers {
    /// The most of them.
    pub const MAX_ITEMS: usize = 32;

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether this is one, exactly.
    pub fn contains(&self, number: &str) -> bool {
        self.iter().any(|emergency| emergency == number)
    }

    /// The one that `number` is or begins with.
    pub fn beginning(&self, number: &str) -> Option<&str> {
        self.iter().find(|emergency| number.starts_with(emergency))
    }
}

impl Default for EmergencyNumbers {
    /// Those of most countries.
    fn default() -> Self {
        Self(["000", "110", "112", "911", "999"].map(str::to_owned).into())
    }
}

impl fmt::Display for EmergencyNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl From<EmergencyNumbers> for String {
    fn from(numbers: EmergencyNumbers) -> Self {
        numbers.to_string()
    }
}

/// Why a text is no list of emergency numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmergencyError {
    /// None in it, or too many.
    #[error("{0} emergency numbers: write 1 to {max}, with commas between them", max = EmergencyNumbers::MAX_ITEMS)]
    Amount(usize),
    /// Something else.
    #[error("{0:?} is no emergency number: write 2 to 15 digits")]
    Number(String),
}

impl FromStr for EmergencyNumbers {
    type Err = EmergencyError;

    fn from_str(text: &str) -> Result<Self, EmergencyError> {
        let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let amount = items().count();
        if !(1..=Self::MAX_ITEMS).contains(&amount) {
            return Err(EmergencyError::Amount(amount));
        }
        let fits = |item: &str| (2..=15).contains(&item.len()) && item.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(item) = items().find(|item| !fits(item)) {
            return Err(EmergencyError::Number(item.chars().take(20).collect()));
        }
        let mut numbers: Vec<_> = items().map(str::to_owned).collect();
        numbers.sort();
        numbers.dedup();
        Ok(Self(numbers))
    }
}

impl TryFrom<String> for EmergencyNumbers {
    type Error = EmergencyError;

    fn try_from(text: String) -> Result<Self, EmergencyError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(number: &str) -> Result<(), NumberError> {
        check(number, &EmergencyNumbers::default())
    }

    #[test]
    fn a_number_is_3_to_64_digits() {
        for number in ["100", "200", "1234567", &"2".repeat(64)] {
            assert_eq!(checked(number), Ok(()), "{number}");
        }
        assert_eq!(checked(""), Err(NumberError::Length(0)));
        assert_eq!(checked("10"), Err(NumberError::Length(2)));
        assert_eq!(checked(&"2".repeat(65)), Err(NumberError::Length(65)));
        for number in ["10a", "+49", " 100", "100 ", "1-0", "*97", "١٢٣", "1\n00"] {
            assert!(matches!(checked(number), Err(NumberError::NoDigit(_))), "{number}");
        }
    }

    #[test]
    fn a_number_is_no_emergency_number_and_begins_with_none() {
        for number in ["112", "911", "110", "999", "000", "1120", "9110000", "1101"] {
            assert!(matches!(checked(number), Err(NumberError::Emergency(_))), "{number}");
        }
        for number in ["0112", "119", "9911", "100", "0011"] {
            assert_eq!(checked(number), Ok(()), "{number}");
        }
    }

    #[test]
    fn an_error_names_the_field_and_the_range() {
        assert_eq!(checked("10").unwrap_err().to_string(), "number has 2 characters: write 3 to 64 digits");
        assert_eq!(checked("1x0").unwrap_err().to_string(), "number has 'x' in it: write 3 to 64 of the digits 0 to 9");
        let emergency = checked("1125").unwrap_err().to_string();
        assert!(emergency.starts_with("number begins with the emergency number 112"), "{emergency}");
    }

    #[test]
    fn emergency_numbers_are_a_list_with_commas() {
        let numbers: EmergencyNumbers = " 17,15 ,112,,15".parse().unwrap();
        assert_eq!(numbers.to_string(), "112,15,17");
        assert!(numbers.contains("15") && !numbers.contains("1"));
        assert_eq!(numbers.to_string().parse(), Ok(numbers));
        assert_eq!("".parse::<EmergencyNumbers>(), Err(EmergencyError::Amount(0)));
        assert_eq!("1".parse::<EmergencyNumbers>(), Err(EmergencyError::Number("1".to_owned())));
        assert!("112,x11".parse::<EmergencyNumbers>().unwrap_err().to_string().contains("2 to 15 digits"));
        assert_eq!(EmergencyNumbers::default().to_string().parse(), Ok(EmergencyNumbers::default()));
    }
}
