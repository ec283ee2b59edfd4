//! A query on rows that the store filters and sorts itself, because they are too many to be looked at one by one. Means
//! the same as [`Query::page`].

use super::{
    Kind, Query, Row, Value,
    expression::{Expr, Function, Operator},
};
use crate::store::{Comparison, Condition, Field, Operand, Part, Selection};

/// Rows that the store has.
pub(in crate::ops) trait StoredRow: Row {
    /// What the store calls a field.
    type Field: Field + 'static;
    /// The store's fields, in the order of [`Row::FIELDS`].
    const STORED: &'static [Self::Field];
}

impl Query {
    /// What the store is asked for.
    pub(in crate::ops) fn selection<R: StoredRow>(&self) -> Selection<R::Field> {
        Selection {
            condition: self.condition::<R>(),
            order: self.order.iter().map(|(field, descending)| (R::STORED[*field], *descending)).collect(),
            limit: u32::try_from(self.top).unwrap_or(u32::MAX),
            offset: self.skip as u64,
        }
    }

    /// Which rows, without page and order.
    pub(in crate::ops) fn condition<R: StoredRow>(&self) -> Condition<R::Field> {
        let filter = self.filter.as_ref().map(condition::<R>);
        let search = self.search.as_ref().map(|search| {
            let texts = R::FIELDS.iter().zip(R::STORED).filter(|((_, kind), _)| *kind == Kind::Text);
            Condition::Any(texts.map(|(_, field)| Condition::Text(*field, Part::Inside, search.text.clone())).collect())
        });
        Condition::All(filter.into_iter().chain(search).collect())
    }

    /// Whether rows are searched for by an address, which the store knows as text alone.
    pub(in crate::ops) fn searches_an_address(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.range.is_some())
    }

    /// Whether the number of all matching rows is wanted.
    pub(in crate::ops) const fn counts(&self) -> bool {
        self.count
    }
}

fn condition<R: StoredRow>(expr: &Expr) -> Condition<R::Field> {
    match expr {
        Expr::Any(parts) => Condition::Any(parts.iter().map(condition::<R>).collect()),
        Expr::All(parts) => Condition::All(parts.iter().map(condition::<R>).collect()),
        Expr::Compare { field, operator, literal } => {
            let comparison = match operator {
                Operator::Eq => Comparison::Equal,
                Operator::Ne => Comparison::Different,
                Operator::Gt => Comparison::More,
                Operator::Ge => Comparison::MoreOrEqual,
                Operator::Lt => Comparison::Less,
                Operator::Le => Comparison::LessOrEqual,
            };
            let operand = match literal {
                Value::Null => Operand::Null,
                Value::Text(text) => Operand::Text(text.to_string()),
                Value::Address(prefix) => Operand::Text(prefix.to_string()),
                Value::Number(number) => Operand::Number(*number),
                Value::Time(at) => Operand::Number(at.as_millis()),
                Value::Bool(is) => Operand::Number(i64::from(*is)),
            };
            Condition::Compare(R::STORED[*field], comparison, operand)
        }
        Expr::Text { field, function, needle } => {
            let part = match function {
                Function::Contains => Part::Inside,
                Function::StartsWith => Part::Beginning,
                Function::EndsWith => Part::End,
            };
            Condition::Text(R::STORED[*field], part, needle.clone())
        }
    }
}
