//! Rules as the API takes and shows them.

use std::net::IpAddr;

use pbx_core::{
    address::Prefix,
    rule::{Action, Origin, Rule},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::query::{Kind, Row, Value};
use crate::filter::Hits;

/// A rule to make; over an existing one for the same range and target it is an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRule {
    /// An address, a CIDR range, or an address with a dotted mask.
    pub cidr: String,
    /// A dotted mask that belongs to the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Allow or block.
    pub target: Action,
    /// When it ends; not together with `for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<Timestamp>,
    /// How long it lasts (`2h`).
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasting: Option<String>,
    /// Why; what was there stays when nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Do it although connections are cut.
    #[serde(default)]
    pub force: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What to change in a rule; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateRule {
    /// When it ends.
    pub expire_at: Option<Timestamp>,
    /// How long it lasts from now.
    #[serde(rename = "for")]
    pub lasting: Option<String>,
    /// Takes the end away.
    pub permanent: bool,
    /// Why.
    pub description: Option<String>,
    /// Do it although connections are cut.
    pub force: bool,
    /// Only say what would change.
    pub dry_run: bool,
}

/// How a change is made, where nothing else has to be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct How {
    /// Do it although connections are cut.
    pub force: bool,
    /// Only say what would change.
    pub dry_run: bool,
}

/// A rule as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpFilter {
    /// Opaque; nothing while the rule is only thought of.
    pub id: Option<String>,
    /// The range.
    pub cidr: Prefix,
    /// Its first address.
    pub first: IpAddr,
    /// Its last address.
    pub last: IpAddr,
    /// How many addresses it has, as text because it may exceed every number type.
    pub addresses: String,
    /// Allow or block.
    pub target: Action,
    /// Why.
    pub description: String,
    /// Who made it: a person by hand, a list, the guard.
    pub origin: Origin,
    /// When.
    pub created_at: Timestamp,
    /// By name.
    pub created_by: String,
    /// When it ends.
    pub expire_at: Option<Timestamp>,
    /// What it has matched.
    #[serde(flatten)]
    pub hits: Hits,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Did {
    /// It is new.
    Added,
    /// It was there and is different now.
    Updated,
    /// It was there as asked for.
    Unchanged,
    /// It is gone.
    Removed,
}

/// The answer to a change of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleAnswer {
    /// What became of it, or under `dry_run` would.
    pub did: Did,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// The rule.
    pub item: IpFilter,
}

impl IpFilter {
    pub(super) fn of(rule: Rule, hits: Hits) -> Self {
        Self {
            id: Some(rule.id.to_string()),
            cidr: rule.prefix,
            first: rule.prefix.first(),
            last: rule.prefix.last(),
            addresses: addresses(&rule.prefix),
            target: rule.action,
            description: rule.description,
            origin: rule.origin,
            created_at: rule.created_at,
            created_by: rule.created_by,
            expire_at: rule.expires_at,
            hits,
        }
    }
}

/// How many addresses a range has, in digits.
fn addresses(prefix: &Prefix) -> String {
    // 2¹²⁸ is the one count that a u128 does not hold.
    if prefix.count() == u128::MAX {
        "340282366920938463463374607431768211456".to_owned()
    } else {
        prefix.count().to_string()
    }
}

impl Row for &Rule {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("cidr", Kind::Address),
        ("target", Kind::Text),
        ("description", Kind::Text),
        ("origin", Kind::Text),
        ("created_at", Kind::Time),
        ("created_by", Kind::Text),
        ("expire_at", Kind::Time),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Number(self.id),
            1 => Value::Address(self.prefix),
            2 => Value::Text(target(self.action).into()),
            3 => Value::Text(self.description.as_str().into()),
            4 => Value::Text(self.origin.to_string().into()),
            5 => Value::Time(self.created_at),
            6 => Value::Text(self.created_by.as_str().into()),
            _ => self.expires_at.map_or(Value::Null, Value::Time),
        }
    }
}

const fn target(action: Action) -> &'static str {
    match action {
        Action::Allow => "ACCEPT",
        Action::Block => "DENY",
    }
}
