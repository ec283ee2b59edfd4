use proptest::prelude::*;

use super::*;

const NOBODY: AccountInfo<'_> = AccountInfo {
    user_name: "",
    first_name: "",
    last_name: "",
    display_name: "",
    email: "",
    tenant_name: "",
    domains: &[],
    extension: "",
    phone_numbers: &[],
};

/// The names of the rules that are broken.
fn broken(password: &str) -> Vec<&'static str> {
    broken_of(password, &NOBODY)
}

fn broken_of(password: &str, account: &AccountInfo<'_>) -> Vec<&'static str> {
    match check(password, &PasswordPolicy::default(), account) {
        Ok(()) => Vec::new(),
        Err(rules) => rules.iter().map(Rule::name).collect(),
    }
}

/// What an account with these facts may not have as a password.
fn gives_away(password: &str, account: AccountInfo<'_>) -> bool {
    broken_of(password, &account).contains(&"disable_account_information")
}

#[test]
fn a_password_has_a_letter_a_digit_and_something_special() {
    assert_eq!(broken("kT7wq2mz"), [""; 0]);
    assert_eq!(broken("k!7wq2mz"), [""; 0]);
    assert_eq!(broken("7!92#583"), ["contains_letters"]);
    assert_eq!(broken("kTxwqpmz"), ["contains_numbers"]);
    assert_eq!(broken("k77wq2mz"), ["contains_special_letters"]);
    for special in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".chars() {
        assert_eq!(broken(&format!("k{special}7wq2mz")), [""; 0], "{special}");
    }
}

#[test]
fn letters_and_digits_are_those_of_ascii() {
    assert_eq!(broken("é7!92#58"), ["characters", "contains_letters"]);
    assert_eq!(broken("kT٣wqpmz"), ["characters", "contains_numbers"]);
    for password in ["kT7 wq2mz", "kT7wq2mz\n", "kT7wq2mz\u{7f}", "kT7wq2mzß"] {
        assert_eq!(broken(password), ["characters"], "{password:?}");
    }
}

#[test]
fn a_password_has_8_to_32_characters() {
    assert_eq!(broken("kT7wq2m"), ["length"]);
    assert_eq!(broken("kT7wq2mz"), [""; 0]);
    assert_eq!(broken(&"kT7wq2mz".repeat(4)), [""; 0]);
    assert_eq!(broken(&("kT7wq2mz".repeat(4) + "k")), ["length"]);
}

#[test]
fn four_neighbours_are_a_sequence_and_three_are_none() {
    for sequence in ["1234", "7890", "Abcd", "4321", "0987", "dcBA", "8901", "2109", "wxyz", "()*+"] {
        assert_eq!(broken(&format!("kT7-{sequence}-q2")), ["disable_sequential_characters"], "{sequence}");
    }
    for none in ["123", "abc", "890", "1235", "xyza", "1357", "qwer", "89:;", "@abc", "xyz{", "1212"] {
        assert_eq!(broken(&format!("kT7-{none}-q2")), [""; 0], "{none}");
    }
}

#[test]
fn three_equal_characters_are_a_repetition_and_two_are_none() {
    for repetition in ["222", "Aaa", "###", "aaaa"] {
        assert_eq!(broken(&format!("kT7-{repetition}-q2")), ["disable_repeating_characters"], "{repetition}");
    }
    for none in ["22", "Aa", "abab", "1212", "2-2-2"] {
        assert_eq!(broken(&format!("kT7-{none}-q2")), [""; 0], "{none}");
    }
}

#[test]
fn names_may_not_be_in_a_password_in_any_case() {
    let account = AccountInfo {
        user_name: "jdoe",
        first_name: "John",
        last_name: "O'Connor-Smith",
        display_name: "Johnny at Reception",
        email: "j.office@mail.example",
        tenant_name: "Acme Ltd.",
        domains: &["voice.contoso.com"],
        ..NOBODY
    };
    let others = ["kT7jDOEq2", "kT7JOHNq2", "kT7connorq2", "kT7SMITHq2", "kT7receptionq2", "kT7officeq2"];
    for password in others.into_iter().chain(["kT7acmeq2", "kT7Voiceq2", "kT7contosoq2"]) {
        assert!(gives_away(password, account), "{password}");
    }
    for password in ["kT7comq2m", "kT7atq2mz", "kT7joq2mz", "kT7mailq2", "kT7exampleq2"] {
        assert!(!gives_away(password, account), "{password}");
    }
}

#[test]
fn numbers_may_not_be_in_a_password() {
    let account = AccountInfo { extension: "4072", phone_numbers: &["+49 (30) 123-45 67", "12"], ..NOBODY };
    for password in ["kT-4072-q", "kT-49301234567", "kT-1234567-q", "k4072T-qz"] {
        assert!(gives_away(password, account), "{password}");
    }
    for password in ["kT-407-qz2", "kT-234567-q", "kT-12-qz2"] {
        assert!(!gives_away(password, account), "{password}");
    }
    assert!(!gives_away("kT-10-qz2", AccountInfo { extension: "10", ..NOBODY }));
}

#[test]
fn a_password_may_not_be_a_part_of_what_is_known() {
    let account = AccountInfo { user_name: "christopher.robin7", ..NOBODY };
    assert!(gives_away("Topher.Robin7", account));
    let account = AccountInfo { domains: &["pbx7.Example.com"], ..NOBODY };
    assert!(gives_away("bx7.Example.c", account));
}

#[test]
fn nothing_known_forbids_nothing() {
    assert_eq!(broken_of("kT7wq2mz", &AccountInfo::default()), [""; 0]);
}

#[test]
fn all_broken_rules_are_told_at_once_in_sentences() {
    let account = AccountInfo { extension: "2345", first_name: "aaa", ..NOBODY };
    assert_eq!(
        broken_of("2345", &account),
        [
            "length",
            "contains_letters",
            "contains_special_letters",
            "disable_sequential_characters",
            "disable_account_information"
        ]
    );
    let rules = check("", &PasswordPolicy::default(), &NOBODY).unwrap_err();
    assert_eq!(rules[0].to_string(), "The password must have 8 to 32 characters.");
    assert!(rules.iter().all(|rule| rule.to_string().ends_with('.')));
    let account = Rule::Account { what: "extension number" }.to_string();
    assert_eq!(account, "The password must not have the account's extension number in it, nor be a part of it.");
}

#[test]
fn a_rule_that_the_policy_does_not_have_is_not_asked_for() {
    let policy = PasswordPolicy {
        contains_letters: false,
        contains_numbers: false,
        contains_special_letters: false,
        disable_sequential_characters: false,
        disable_repeating_characters: false,
        disable_account_information: false,
        ..PasswordPolicy::default()
    };
    let account = AccountInfo { extension: "1234", ..NOBODY };
    for password in ["11112345", "aaaaabcd", "--------"] {
        assert_eq!(check(password, &policy, &account), Ok(()), "{password}");
    }
    assert_eq!(check("1234 ", &policy, &account), Err(vec![Rule::Length { min: 8, max: 32 }, Rule::Characters]));
}

#[test]
fn no_policy_goes_under_eight_characters_or_over_32() {
    let lengths = |min, max| PasswordPolicy::default().with_lengths(min, max);
    assert_eq!(lengths(7, 32), Err(PolicyError::MinLength(7)));
    assert_eq!(lengths(33, 33), Err(PolicyError::MinLength(33)));
    assert_eq!(lengths(12, 11), Err(PolicyError::MaxLength { max_length: 11, min_length: 12 }));
    assert_eq!(lengths(12, 33), Err(PolicyError::MaxLength { max_length: 33, min_length: 12 }));
    let policy = lengths(12, 16).unwrap();
    assert_eq!((policy.min_length(), policy.max_length()), (12, 16));
    assert_eq!(lengths(7, 32).unwrap_err().to_string(), "min_length is 7: write a whole number from 8 to 32");
}

#[test]
fn a_policy_is_read_as_it_is_written_and_with_the_same_limits() {
    let policy = PasswordPolicy { contains_letters: false, ..PasswordPolicy::default() }.with_lengths(10, 20).unwrap();
    let text = serde_json::to_string(&policy).unwrap();
    assert!(text.contains("\"contains_letters\":false") && text.contains("\"min_length\":10"), "{text}");
    assert_eq!(serde_json::from_str::<PasswordPolicy>(&text).unwrap(), policy);
    assert_eq!(serde_json::from_str::<PasswordPolicy>("{}").unwrap(), PasswordPolicy::default());
    let error = serde_json::from_str::<PasswordPolicy>("{\"min_length\":6}").unwrap_err().to_string();
    assert!(error.contains("min_length is 6: write a whole number from 8 to 32"), "{error}");
    assert!(serde_json::from_str::<PasswordPolicy>("{\"min_lenght\":9}").is_err());
}

#[test]
fn an_account_about_which_much_is_known_still_gets_a_password() {
    let numbers: Vec<String> = (0..1000).map(|number| format!("{number:03}")).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let account = AccountInfo { phone_numbers: &numbers, ..NOBODY };
    let password = generate(&[1; 32], &PasswordPolicy::default(), &account).unwrap();
    assert_eq!((password.len(), broken_of(&password, &account).len()), (20, 0));
}

proptest! {
    #[test]
    fn what_is_generated_passes(randomness: [u8; 32], min in 8..=32_u8, more in 0..=24_u8) {
        let policy = PasswordPolicy::default().with_lengths(min, (min + more).min(32)).unwrap();
        let account = AccountInfo { extension: "234", first_name: "Ann", domains: &["a.example.com"], ..NOBODY };
        let password = generate(&randomness, &policy, &account).unwrap();
        prop_assert_eq!(check(&password, &policy, &account), Ok(()));
        prop_assert_eq!(generate(&randomness, &policy, &account), Some(password));
    }

    #[test]
    fn any_text_is_judged(password: String, known: String) {
        let account = AccountInfo { email: &known, phone_numbers: &[&known], domains: &[&known], ..NOBODY };
        let _ = check(&password, &PasswordPolicy::default(), &account);
    }
}
