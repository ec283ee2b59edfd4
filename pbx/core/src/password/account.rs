//! What is known about an account, and whether a password gives it away.

/// What is known about whom a password is for. Everything may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccountInfo<'a> {
    /// The name that is signed in with.
    pub user_name: &'a str,
    /// The first name.
    pub first_name: &'a str,
    /// The last name.
    pub last_name: &'a str,
    /// The name that is shown.
    pub display_name: &'a str,
    /// The address for mail; what stands before the `@` counts.
    pub email: &'a str,
    /// The name of the tenant.
    pub tenant_name: &'a str,
    /// The domains of the tenant; all their labels count but the last.
    pub domains: &'a [&'a str],
    /// The number of the extension.
    pub extension: &'a str,
    /// Telephone numbers, however they are written.
    pub phone_numbers: &'a [&'a str],
}

/// Shorter ones are in too many words to mean anything.
const SHORTEST: usize = 3;
/// The end of a telephone number that people know it by.
const END: usize = 7;

impl AccountInfo<'_> {
    /// What of it the password has in it, or is a part of, without regard to case; each kind once.
    pub(super) fn found_in(&self, password: &str) -> Vec<&'static str> {
        let password = password.to_lowercase();
        let mut found = Vec::new();
        let mut look = |what, shares: bool| {
            if shares && !found.contains(&what) {
                found.push(what);
            }
        };
        let mail = self.email.split('@').next().unwrap_or_default();
        let texts = [
            ("user name", self.user_name),
            ("first name", self.first_name),
            ("last name", self.last_name),
            ("display name", self.display_name),
            ("e-mail address", mail),
            ("tenant name", self.tenant_name),
        ];
        for (what, text) in texts {
            let text = text.to_lowercase();
            let words = text.split(|character: char| !character.is_alphanumeric());
            look(what, shares(&password, &text) || words.into_iter().any(|word| shares(&password, word)));
        }
        for domain in self.domains {
            let domain = domain.to_lowercase();
            let own = domain.rsplit_once('.').map_or(domain.as_str(), |(labels, _)| labels);
            look("domain", password_is_in(&password, &domain) || own.split('.').any(|label| shares(&password, label)));
        }
        look("extension number", shares(&password, self.extension));
        for number in self.phone_numbers {
            let digits: String = number.chars().filter(char::is_ascii_digit).collect();
            let end = &digits[digits.len().saturating_sub(END)..];
            look("telephone number", shares(&password, &digits) || (end.len() == END && password.contains(end)));
        }
        found
    }
}

/// Whether one has the other in it. Both in lower case.
fn shares(password: &str, text: &str) -> bool {
    (text.chars().count() >= SHORTEST && password.contains(text)) || password_is_in(password, text)
}

fn password_is_in(password: &str, text: &str) -> bool {
    password.chars().count() >= SHORTEST && text.contains(password)
}
