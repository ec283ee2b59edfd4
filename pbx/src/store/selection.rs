//! Which rows of a table, in which order: conditions and their SQL. Values are bound, never written into a statement.

use sqlx::{QueryBuilder, Sqlite};

/// What of a table's rows can be asked for.
pub trait Field: Copy {
    /// The order of rows that are otherwise equal, as SQL.
    const NEWEST: &'static str;
    /// Its value as SQL.
    fn sql(self) -> &'static str;
}

/// Which rows. Text is compared without regard to ASCII case; what is not there is smaller than everything that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition<F> {
    /// One of these; none: no row.
    Any(Vec<Self>),
    /// Each of these; none: every row.
    All(Vec<Self>),
    /// A field beside a value.
    Compare(F, Comparison, Operand),
    /// A text in a field, in lower case.
    Text(F, Part, String),
}

/// How a field is to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal, or both nothing.
    Equal,
    /// Not [`Self::Equal`].
    Different,
    /// There, and more.
    More,
    /// There, and not less.
    MoreOrEqual,
    /// There, and less.
    Less,
    /// There, and not more.
    LessOrEqual,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Nothing.
    Null,
    /// A text.
    Text(String),
    /// A number, or a time in milliseconds.
    Number(i64),
}

/// Where in a field a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Anywhere.
    Inside,
    /// At its beginning.
    Beginning,
    /// At its end.
    End,
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<F> {
    /// Which.
    pub condition: Condition<F>,
    /// By what, and whether the largest is the first; the newest first where that says nothing.
    pub order: Vec<(F, bool)>,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u64,
}

impl<F: Field> Condition<F> {
    pub(super) fn push(&self, query: &mut QueryBuilder<Sqlite>) {
        match self {
            Self::Any(parts) => join(query, parts, " OR ", "0"),
            Self::All(parts) => join(query, parts, " AND ", "1"),
            Self::Compare(field, comparison, operand) => {
                query.push(field.sql());
                query.push(match (comparison, operand) {
                    (Comparison::Equal, _) => " IS ",
                    (Comparison::Different, _) => " IS NOT ",
                    (Comparison::More, _) => " > ",
                    (Comparison::MoreOrEqual, _) => " >= ",
                    (Comparison::Less, _) => " < ",
                    (Comparison::LessOrEqual, _) => " <= ",
                });
                match operand {
                    Operand::Null => query.push("NULL"),
                    Operand::Text(text) => query.push_bind(text.clone()).push(" COLLATE NOCASE"),
                    Operand::Number(number) => query.push_bind(*number),
                };
            }
            Self::Text(field, _, needle) if needle.is_empty() => {
                query.push(field.sql()).push(" IS NOT NULL");
            }
            Self::Text(field, part, needle) => {
                let sql = field.sql();
                match part {
                    Part::Inside => {
                        query.push(format_args!("instr(lower({sql}), ")).push_bind(needle.clone()).push(") > 0")
                    }
                    Part::Beginning => query
                        .push(format_args!("substr(lower({sql}), 1, {}) = ", needle.chars().count()))
                        .push_bind(needle.clone()),
                    Part::End => query
                        .push(format_args!("substr(lower({sql}), -{}) = ", needle.chars().count()))
                        .push_bind(needle.clone()),
                };
            }
        }
    }
}

fn join<F: Field>(query: &mut QueryBuilder<Sqlite>, parts: &[Condition<F>], word: &str, none: &str) {
    let Some((first, rest)) = parts.split_first() else {
        query.push(none);
        return;
    };
    query.push("(");
    first.push(query);
    for part in rest {
        query.push(word);
        part.push(query);
    }
    query.push(")");
}

impl<F: Field> Selection<F> {
    pub(super) fn push(&self, query: &mut QueryBuilder<Sqlite>) {
        query.push(" WHERE ");
        self.condition.push(query);
        query.push(" ORDER BY ");
        for (field, descending) in &self.order {
            query.push(field.sql()).push(" COLLATE NOCASE").push(if *descending { " DESC, " } else { ", " });
        }
        query.push(F::NEWEST).push(" LIMIT ").push_bind(self.limit);
        query.push(" OFFSET ").push_bind(i64::try_from(self.offset).unwrap_or(i64::MAX));
    }
}
