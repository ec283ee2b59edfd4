//! Licence expressions (SPDX), as far as crates use them: names, `AND`, `OR`, `WITH`, parentheses, and the
//! old `/` for `OR`.

/// Licences that ask for no more than to be named. `WITH LLVM-exception` only takes demands away.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether we can meet the expression with allowed licences alone; `None` if it is no expression.
pub(super) fn is_allowed(expression: &str) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any(&mut words)?;
    words.next().is_none().then_some(allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words) -> Option<bool> {
    let mut allowed = all(words)?;
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all(words)?;
    }
    Some(allowed)
}

fn all(words: &mut Words) -> Option<bool> {
    let mut allowed = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words)?;
    }
    Some(allowed)
}

fn one(words: &mut Words) -> Option<bool> {
    match words.next()? {
        "(" => {
            let allowed = any(words)?;
            words.next_if_eq(&")").map(|_| allowed)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        name => {
            let mut licence = name.to_owned();
            if words.next_if_eq(&"WITH").is_some() {
                licence = format!("{licence} WITH {}", words.next()?);
            }
            Some(ALLOWED.contains(&licence.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_choice_is_enough() {
        assert_eq!(is_allowed("GPL-3.0 OR MIT"), Some(true));
        assert_eq!(is_allowed("MIT/Apache-2.0"), Some(true));
        assert_eq!(is_allowed("GPL-3.0 OR LGPL-2.1"), Some(false));
    }

    #[test]
    fn every_part_of_a_sum_must_be_allowed() {
        assert_eq!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"), Some(true));
        assert_eq!(is_allowed("MIT AND GPL-2.0"), Some(false));
    }

    #[test]
    fn and_binds_before_or() {
        assert_eq!(is_allowed("MIT OR GPL-2.0 AND GPL-3.0"), Some(true));
        assert_eq!(is_allowed("(MIT OR GPL-2.0) AND GPL-3.0"), Some(false));
    }

    #[test]
    fn an_exception_is_a_part_of_its_licence() {
        assert_eq!(is_allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"), Some(true));
        assert_eq!(is_allowed("GPL-2.0 WITH Classpath-exception-2.0"), Some(false));
    }

    #[test]
    fn what_is_no_expression_is_told_apart() {
        for text in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND", "MIT WITH"] {
            assert_eq!(is_allowed(text), None, "{text:?}");
        }
    }
}
