//! A feed as the API shows it.

use pbx_core::time::{Timestamp, format_duration};
use serde::{Deserialize, Serialize};

use crate::{
    ops::query::{Kind, Row, Value},
    store::{FeedState, StoredFeed},
};

/// A feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedView {
    /// Its name, by which its rules name it.
    pub name: String,
    /// Where it is.
    pub source: String,
    /// How often it is read.
    pub every: String,
    /// Entries that it may have.
    pub max_entries: u32,
    /// It is read, and its entries block.
    pub enabled: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it is read next; nothing for one that is disabled.
    pub next_at: Option<Timestamp>,
    /// How reading it went.
    #[serde(flatten)]
    pub state: FeedState,
}

impl FeedView {
    pub(super) fn of(feed: &StoredFeed) -> Self {
        Self {
            name: feed.name.to_string(),
            source: feed.source.clone(),
            every: format_duration(feed.interval),
            max_entries: feed.most,
            enabled: feed.enabled,
            created_at: feed.created_at,
            created_by: feed.created_by.clone(),
            next_at: feed.enabled.then_some(feed.next_at),
            state: feed.state.clone(),
        }
    }

    /// What is wrong with it, in one sentence.
    pub fn warning(&self) -> Option<String> {
        let FeedState { problem, failing_since, read_at, blocking, .. } = &self.state;
        let problem = problem.as_ref()?;
        let since = failing_since.map(|since| format!(" since {since}")).unwrap_or_default();
        let stay = match read_at {
            Some(read_at) => format!("its {blocking} blocks of {read_at} stay"),
            None => "it blocks nothing".to_owned(),
        };
        let name = &self.name;
        Some(format!(
            "the feed {name} cannot be taken{since}: it {problem}; {stay}, `pbx feed refresh {name}` tries again"
        ))
    }
}

impl Row for FeedView {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("name", Kind::Text),
        ("source", Kind::Text),
        ("enabled", Kind::Bool),
        ("entries", Kind::Number),
        ("blocking", Kind::Number),
        ("left_out", Kind::Number),
        ("failures", Kind::Number),
        ("read_at", Kind::Time),
        ("next_at", Kind::Time),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        let number = |count: usize| Value::Number(i64::try_from(count).unwrap_or(i64::MAX));
        match index {
            0 => Value::Text(self.name.as_str().into()),
            1 => Value::Text(self.source.as_str().into()),
            2 => Value::Bool(self.enabled),
            3 => number(self.state.entries),
            4 => number(self.state.blocking),
            5 => number(self.state.left_out),
            6 => Value::Number(self.state.failures.into()),
            7 => self.state.read_at.map_or(Value::Null, Value::Time),
            _ => self.next_at.map_or(Value::Null, Value::Time),
        }
    }
}
