//! Which numbers extensions may have. Under `directory`; the operations ask here before they store one.

use crate::settings::EmergencyNumbers;

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
    match emergency.begins(number) {
        Some(emergency) => Err(NumberError::Emergency(emergency.to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(number: &str) -> Result<(), NumberError> {
        check(number, &crate::settings::Settings::default().sip.emergency_numbers)
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
}
