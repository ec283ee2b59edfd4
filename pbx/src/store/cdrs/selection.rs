//! Which call records, in which order: conditions and their SQL. Values are bound, never written into a statement.

use sqlx::{QueryBuilder, Sqlite};

/// What of a record can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallField {
    /// 16 hexadecimal digits.
    Id,
    /// The name that its tenant has now.
    Tenant,
    /// Who called.
    CallerNumber,
    /// The name of who called.
    CallerName,
    /// What was dialled.
    Dialled,
    /// Who answered, or was tried last.
    CalleeNumber,
    /// When it was routed.
    StartedAt,
    /// When a phone first rang.
    RingingAt,
    /// When it was answered.
    AnsweredAt,
    /// When it ended.
    EndedAt,
    /// From answer to end, in seconds; one that has begun counts.
    BilledSeconds,
    /// How it ended.
    Disposition,
    /// The final status.
    Status,
    /// The cause.
    Cause,
    /// Who ended it.
    EndedBy,
    /// Why.
    Why,
    /// The codec.
    Codec,
}

impl CallField {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Id,
        Self::Tenant,
        Self::CallerNumber,
        Self::CallerName,
        Self::Dialled,
        Self::CalleeNumber,
        Self::StartedAt,
        Self::RingingAt,
        Self::AnsweredAt,
        Self::EndedAt,
        Self::BilledSeconds,
        Self::Disposition,
        Self::Status,
        Self::Cause,
        Self::EndedBy,
        Self::Why,
        Self::Codec,
    ];

    const fn sql(self) -> &'static str {
        match self {
            Self::Id => "printf('%016x', id)",
            Self::Tenant => "(SELECT name FROM tenants WHERE tenants.id = cdrs.tenant)",
            Self::CallerNumber => "caller_number",
            Self::CallerName => "caller_name",
            Self::Dialled => "dialled",
            Self::CalleeNumber => "callee_number",
            Self::StartedAt => "started",
            Self::RingingAt => "ringing",
            Self::AnsweredAt => "answered",
            Self::EndedAt => "ended",
            Self::BilledSeconds => "((billed + 999) / 1000)",
            Self::Disposition => "disposition",
            Self::Status => "status",
            Self::Cause => "cause",
            Self::EndedBy => "ended_by",
            Self::Why => "why",
            Self::Codec => "codec",
        }
    }
}

/// Which records. Text is compared without regard to ASCII case; what is not there is smaller than everything that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// One of these; none: no record.
    Any(Vec<Self>),
    /// Each of these; none: every record.
    All(Vec<Self>),
    /// A field beside a value.
    Compare(CallField, Comparison, Operand),
    /// A text in a field, in lower case.
    Text(CallField, Part, String),
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

/// A page of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Which.
    pub condition: Condition,
    /// By what, and whether the largest is the first; the newest first where that says nothing.
    pub order: Vec<(CallField, bool)>,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u64,
}

impl Condition {
    pub(in crate::store) fn push(&self, query: &mut QueryBuilder<Sqlite>) {
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

fn join(query: &mut QueryBuilder<Sqlite>, parts: &[Condition], word: &str, none: &str) {
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

impl Selection {
    pub(in crate::store) fn push(&self, query: &mut QueryBuilder<Sqlite>) {
        query.push(" WHERE ");
        self.condition.push(query);
        query.push(" ORDER BY ");
        for (field, descending) in &self.order {
            query.push(field.sql()).push(" COLLATE NOCASE").push(if *descending { " DESC, " } else { ", " });
        }
        query.push("started DESC, id DESC LIMIT ").push_bind(self.limit);
        query.push(" OFFSET ").push_bind(i64::try_from(self.offset).unwrap_or(i64::MAX));
    }
}
