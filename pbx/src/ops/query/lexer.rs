//! The words of a list's `filter`. Before the parser in [`super::query`]; knows no fields.

use std::fmt;

/// One word or sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// A name, number, time or address without quotes.
    Word(&'a str),
    /// What was in single quotes; a doubled quote is one.
    Text(String),
}

/// Cuts a text into tokens.
pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next token; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, String> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let sign = match first {
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '\'' => return self.text().map(Some),
            _ => {
                let end = self.rest.find(|c: char| !is_word(c)).unwrap_or(self.rest.len());
                if end == 0 {
                    return Err(format!("filter: {first:?} has no meaning here"));
                }
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Ok(Some(Token::Word(word)));
            }
        };
        self.rest = &self.rest[1..];
        Ok(Some(sign))
    }

    /// Takes the word if it is the next one.
    pub(super) fn take_word(&mut self, word: &str) -> Result<bool, String> {
        let before = self.rest;
        if self.next()? == Some(Token::Word(word)) {
            return Ok(true);
        }
        self.rest = before;
        Ok(false)
    }

    fn text(&mut self) -> Result<Token<'a>, String> {
        let mut text = String::new();
        let mut rest = &self.rest[1..];
        loop {
            let Some(end) = rest.find('\'') else { return Err("filter: a quote is not closed".to_owned()) };
            text.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('\'') {
                Some(after) => {
                    text.push('\'');
                    rest = after;
                }
                None => break,
            }
        }
        self.rest = rest;
        Ok(Token::Text(text))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '+')
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("("),
            Self::Close => f.write_str(")"),
            Self::Comma => f.write_str(","),
            Self::Word(word) => write!(f, "{word:.60}"),
            Self::Text(text) => write!(f, "'{text:.60}'"),
        }
    }
}
