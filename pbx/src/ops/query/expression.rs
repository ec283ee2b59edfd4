//! A condition on the fields of a row: parsed, then asked of each row. After the lexer; knows no list.
//!
//! ```text
//! filter   = and *("or" and)            and     = term *("and" term)
//! term     = "(" filter ")" | function | comparison
//! function = ("contains" | "startswith" | "endswith") "(" field "," text ")"
//! comparison = field ("eq" | "ne" | "gt" | "ge" | "lt" | "le") literal
//! literal  = 'text' | number | time | true | false | null
//! ```

use std::borrow::Cow;

use pbx_core::address;

use super::{
    Kind, Row, Value, compare, index,
    lexer::{Lexer, Token},
};

const MOST_TERMS: usize = 64;
const DEEPEST: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Any(Vec<Expr>),
    All(Vec<Expr>),
    Compare { field: usize, operator: Operator, literal: Value<'static> },
    Text { field: usize, function: Function, needle: String },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Contains,
    StartsWith,
    EndsWith,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    fields: &'static [(&'static str, Kind)],
    terms: usize,
}

impl Parser<'_> {
    fn whole(mut self) -> Result<Expr, String> {
        let expr = self.any(0)?;
        match self.lexer.next()? {
            None => Ok(expr),
            Some(token) => Err(format!("filter: {token} is not expected here; join conditions with and, or")),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Expr, String> {
        let mut parts = vec![self.all(depth)?];
        while self.lexer.take_word("or")? {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Expr, String> {
        let mut parts = vec![self.term(depth)?];
        while self.lexer.take_word("and")? {
            parts.push(self.term(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::All(parts) })
    }

    fn term(&mut self, depth: usize) -> Result<Expr, String> {
        self.terms += 1;
        if self.terms > MOST_TERMS || depth > DEEPEST {
            return Err(format!("filter: at most {MOST_TERMS} conditions, {DEEPEST} deep"));
        }
        match self.lexer.next()? {
            Some(Token::Open) => {
                let inner = self.any(depth + 1)?;
                self.expect(&Token::Close)?;
                Ok(inner)
            }
            Some(Token::Word(word)) => {
                let function = match word {
                    "contains" => Function::Contains,
                    "startswith" => Function::StartsWith,
                    "endswith" => Function::EndsWith,
                    field => return self.comparison(field),
                };
                self.expect(&Token::Open)?;
                let field = self.field()?;
                self.expect(&Token::Comma)?;
                let Some(Token::Text(needle)) = self.lexer.next()? else {
                    return Err(format!("filter: {word}(field, 'text') needs a quoted text"));
                };
                self.expect(&Token::Close)?;
                if !matches!(self.fields[field].1, Kind::Text | Kind::Address) {
                    return Err(format!("filter: {word} works on text, and {} is none", self.fields[field].0));
                }
                Ok(Expr::Text { field, function, needle: needle.to_ascii_lowercase() })
            }
            Some(token) => Err(format!("filter: a field is missing before {token}")),
            None => Err("filter: a condition is missing at the end".to_owned()),
        }
    }

    fn comparison(&mut self, name: &str) -> Result<Expr, String> {
        let field = index(self.fields, name).map_err(|error| format!("filter: {error}"))?;
        let operator = match self.lexer.next()? {
            Some(Token::Word("eq")) => Operator::Eq,
            Some(Token::Word("ne")) => Operator::Ne,
            Some(Token::Word("gt")) => Operator::Gt,
            Some(Token::Word("ge")) => Operator::Ge,
            Some(Token::Word("lt")) => Operator::Lt,
            Some(Token::Word("le")) => Operator::Le,
            _ => return Err(format!("filter: {name} must be followed by eq, ne, gt, ge, lt or le")),
        };
        let literal = self.literal(field)?;
        let (name, kind) = self.fields[field];
        let ordered = !matches!(operator, Operator::Eq | Operator::Ne);
        if ordered && (literal == Value::Null || matches!(kind, Kind::Address | Kind::Bool)) {
            return Err(format!("filter: {name} can only be compared with eq and ne here"));
        }
        Ok(Expr::Compare { field, operator, literal })
    }

    fn literal(&mut self, field: usize) -> Result<Value<'static>, String> {
        let (name, kind) = self.fields[field];
        let text: Cow<'_, str> = match self.lexer.next()? {
            Some(Token::Word("null")) => return Ok(Value::Null),
            Some(Token::Word(word)) if kind == Kind::Text => {
                return Err(format!("filter: write the text in quotes: {name} eq '{word:.60}'"));
            }
            Some(Token::Word(word)) => Cow::Borrowed(word),
            Some(Token::Text(text)) => Cow::Owned(text),
            _ => return Err(format!("filter: a value is missing after {name}")),
        };
        let wrong = |what: &str| format!("filter: {text:.60} is no {what}, as {name} is");
        Ok(match kind {
            Kind::Text => Value::Text(Cow::Owned(text.to_ascii_lowercase())),
            Kind::Number => Value::Number(text.parse().map_err(|_| wrong("whole number"))?),
            Kind::Time => Value::Time(text.parse().map_err(|_| wrong("time such as 2026-01-31T12:00:00Z"))?),
            Kind::Address => Value::Address(address::parse(&text).map_err(|_| wrong("address"))?.prefix),
            Kind::Bool => Value::Bool(text.parse().map_err(|_| wrong("true or false"))?),
        })
    }

    fn field(&mut self) -> Result<usize, String> {
        match self.lexer.next()? {
            Some(Token::Word(name)) => index(self.fields, name).map_err(|error| format!("filter: {error}")),
            _ => Err("filter: a field is missing after the bracket".to_owned()),
        }
    }

    fn expect(&mut self, wanted: &Token<'_>) -> Result<(), String> {
        match self.lexer.next()? {
            Some(token) if token == *wanted => Ok(()),
            Some(token) => Err(format!("filter: {wanted} is missing before {token}")),
            None => Err(format!("filter: {wanted} is missing at the end")),
        }
    }
}

impl Expr {
    /// Parses a condition on these fields.
    pub(super) fn parse(text: &str, fields: &'static [(&'static str, Kind)]) -> Result<Self, String> {
        Parser { lexer: Lexer::new(text), fields, terms: 0 }.whole()
    }

    pub(super) fn matches<R: Row>(&self, row: &R) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.matches(row)),
            Self::All(parts) => parts.iter().all(|part| part.matches(row)),
            Self::Compare { field, operator, literal } => {
                let value = row.field(*field);
                match operator {
                    Operator::Eq => compare(&value, literal).is_eq(),
                    Operator::Ne => compare(&value, literal).is_ne(),
                    _ if value == Value::Null => false,
                    Operator::Gt => compare(&value, literal).is_gt(),
                    Operator::Ge => compare(&value, literal).is_ge(),
                    Operator::Lt => compare(&value, literal).is_lt(),
                    Operator::Le => compare(&value, literal).is_le(),
                }
            }
            Self::Text { field, function, needle } => {
                let value = row.field(*field);
                let Some(text) = value.text() else { return false };
                let text = text.to_ascii_lowercase();
                match function {
                    Function::Contains => text.contains(needle),
                    Function::StartsWith => text.starts_with(needle),
                    Function::EndsWith => text.ends_with(needle),
                }
            }
        }
    }

    pub(super) fn mentions(&self, wanted: usize) -> bool {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().any(|part| part.mentions(wanted)),
            Self::Compare { field, .. } | Self::Text { field, .. } => *field == wanted,
        }
    }
}
