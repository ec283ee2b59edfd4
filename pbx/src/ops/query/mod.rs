//! What a list is asked for: `filter`, `orderby`, `top`, `skip`, `count`, `search`, in the manner of OData.
//! One parser and one evaluation for every list. Total: bounded in length, terms and depth.

mod expression;
mod lexer;
mod stored;

use std::{borrow::Cow, cmp::Ordering};

use pbx_core::{
    address::{self, Prefix},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use self::expression::Expr;
pub(super) use self::stored::StoredRow;

/// Bytes of `filter` that are looked at; a longer one is an error.
const LONGEST: usize = 2000;
const MOST_KEYS: usize = 4;
/// The most that one answer lists, and the default.
pub const PAGE: usize = 100;

/// The query options as they come in a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListOptions {
    /// Which rows.
    pub filter: Option<String>,
    /// In which order: `field`, `field desc`, several with commas.
    pub orderby: Option<String>,
    /// How many, 1 to 100.
    pub top: Option<usize>,
    /// After how many.
    pub skip: Option<usize>,
    /// Whether the number of all matching rows is wanted.
    pub count: Option<bool>,
    /// A text that occurs in a row, or an address that its range has something in common with.
    pub search: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// All matching rows, when it was asked for.
    pub count: Option<usize>,
    /// The rows of this page.
    pub items: Vec<T>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, compared without regard to ASCII case.
    Text,
    /// A whole number.
    Number,
    /// A point in time.
    Time,
    /// An address or range: equal or not, or by its text.
    Address,
    /// True or false.
    Bool,
}

/// The value of a field in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Nothing there.
    Null,
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(i64),
    /// A point in time.
    Time(Timestamp),
    /// An address or range.
    Address(Prefix),
    /// True or false.
    Bool(bool),
}

/// A row that can be filtered and sorted.
pub(super) trait Row {
    /// Names and kinds, in the order of [`Row::field`]'s index.
    const FIELDS: &'static [(&'static str, Kind)];
    /// The value of a field.
    fn field(&self, index: usize) -> Value<'_>;
}

/// A parsed query.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    filter: Option<Expr>,
    order: Vec<(usize, bool)>,
    search: Option<Search>,
    top: usize,
    skip: usize,
    count: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Search {
    text: String,
    range: Option<Prefix>,
}

impl Query {
    /// Parses the options against the fields of `R`; an error says what is wrong and what would be right.
    pub(super) fn parse<R: Row>(options: &ListOptions) -> Result<Self, String> {
        let filter = match options.filter.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(text) if text.len() > LONGEST => {
                return Err(format!("filter: {} bytes are too many (at most {LONGEST})", text.len()));
            }
            Some(text) => Some(Expr::parse(text, R::FIELDS)?),
        };
        let top = options.top.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&top) {
            return Err(format!("top: {top} is out of range (1 to {PAGE})"));
        }
        let search = options.search.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(|text| {
            let range = address::parse(text).ok().map(|typed| typed.prefix);
            Search { text: text.to_ascii_lowercase(), range }
        });
        if search.as_ref().is_some_and(|search| search.text.len() > LONGEST) {
            return Err(format!("search: too long (at most {LONGEST} bytes)"));
        }
        Ok(Self {
            filter,
            order: order::<R>(options.orderby.as_deref().unwrap_or_default())?,
            search,
            top,
            skip: options.skip.unwrap_or(0),
            count: options.count.unwrap_or(false),
        })
    }

    /// Whether a field is filtered or sorted by, so that it has to be known for every row.
    pub(super) fn needs<R: Row>(&self, name: &str) -> bool {
        let Some(index) = R::FIELDS.iter().position(|(field, _)| *field == name) else { return false };
        self.order.iter().any(|(field, _)| *field == index)
            || self.filter.as_ref().is_some_and(|filter| filter.mentions(index))
    }

    /// Filters, sorts (stable, so that the given order decides ties) and cuts out the page.
    pub(super) fn page<R: Row>(&self, rows: impl Iterator<Item = R>) -> Page<R> {
        let mut rows: Vec<R> = rows.filter(|row| self.matches(row)).collect();
        if !self.order.is_empty() {
            rows.sort_by(|a, b| {
                self.order
                    .iter()
                    .map(|(field, descending)| {
                        let ordering = compare(&a.field(*field), &b.field(*field));
                        if *descending { ordering.reverse() } else { ordering }
                    })
                    .find(|ordering| ordering.is_ne())
                    .unwrap_or(Ordering::Equal)
            });
        }
        let count = self.count.then_some(rows.len());
        Page { count, items: rows.into_iter().skip(self.skip).take(self.top).collect() }
    }

    fn matches<R: Row>(&self, row: &R) -> bool {
        self.search.as_ref().is_none_or(|search| search.matches(row))
            && self.filter.as_ref().is_none_or(|filter| filter.matches(row))
    }
}

impl<T> Page<T> {
    /// The same page of something else.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { count: self.count, items: self.items.into_iter().map(change).collect() }
    }
}

fn order<R: Row>(text: &str) -> Result<Vec<(usize, bool)>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&str> = text.split(',').collect();
    if keys.len() > MOST_KEYS {
        return Err(format!("orderby: {} keys are too many (at most {MOST_KEYS})", keys.len()));
    }
    keys.into_iter()
        .map(|key| {
            let mut words = key.split_whitespace();
            let name = words.next().unwrap_or_default();
            let descending = match words.next() {
                None | Some("asc") => false,
                Some("desc") => true,
                Some(other) => return Err(format!("orderby: {other:?} is neither asc nor desc")),
            };
            Ok((index(R::FIELDS, name).map_err(|error| format!("orderby: {error}"))?, descending))
        })
        .collect()
}

fn index(fields: &[(&str, Kind)], name: &str) -> Result<usize, String> {
    fields.iter().position(|(field, _)| *field == name).ok_or_else(|| {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        format!("there is no field {name:.60}; there are {}", names.join(", "))
    })
}

impl Search {
    fn matches<R: Row>(&self, row: &R) -> bool {
        (0..R::FIELDS.len()).any(|field| match row.field(field) {
            Value::Address(prefix) => {
                self.range.is_some_and(|range| range.overlaps(&prefix)) || prefix.to_string().contains(&self.text)
            }
            Value::Text(text) => text.to_ascii_lowercase().contains(&self.text),
            _ => false,
        })
    }
}

impl Value<'_> {
    fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Address(prefix) => Some(Cow::Owned(prefix.to_string())),
            _ => None,
        }
    }
}

/// Null before everything else; text without regard to ASCII case.
fn compare(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Number(a), Value::Number(b)) => a.cmp(b),
        (Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Value::Address(a), Value::Address(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => {
            a.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(b.bytes().map(|byte| byte.to_ascii_lowercase()))
        }
        // A field has one kind, and literals are parsed as that kind.
        _ => Ordering::Less,
    }
}

/// What a list of these rows would be, without pages.
#[cfg(test)]
pub(super) fn every<R: Row>(options: &ListOptions, rows: Vec<R>) -> Vec<R> {
    let query = Query::parse::<R>(options).unwrap();
    Query { top: usize::MAX, ..query }.page(rows.into_iter()).items
}

#[cfg(test)]
mod tests;
