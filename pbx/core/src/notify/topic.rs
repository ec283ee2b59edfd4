//! What can be told.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What an event is about, in the order in which a digest tells it: what needs somebody first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// The disk is nearly full, or has room again.
    Disk,
    /// A certificate ends soon, or was replaced.
    Certificate,
    /// A flood of new sources, or the table of blocks is full.
    Flood,
    /// A block list of others cannot be taken.
    Feed,
    /// A source was blocked.
    Block,
    /// A block ended or was removed.
    Unblock,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 6] = [Self::Disk, Self::Certificate, Self::Flood, Self::Feed, Self::Block, Self::Unblock];
    /// Their names.
    pub const NAMES: [&str; 6] = ["disk", "certificate", "flood", "feed", "block", "unblock"];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// A heading over what is told of it.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Disk => "Disk",
            Self::Certificate => "Certificates",
            Self::Flood => "Floods",
            Self::Feed => "Feeds",
            Self::Block => "Blocked",
            Self::Unblock => "No longer blocked",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no topic of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of {names}", names = Topic::NAMES.join(", "))]
pub struct UnknownTopic(String);

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(text: &str) -> Result<Self, UnknownTopic> {
        let known = Self::ALL.into_iter().find(|topic| topic.as_str() == text);
        known.ok_or_else(|| UnknownTopic(text.chars().take(20).collect()))
    }
}

/// Some of the topics; perhaps none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Topics(BTreeSet<Topic>);

impl Topics {
    /// These.
    pub fn of(topics: impl IntoIterator<Item = Topic>) -> Self {
        Self(topics.into_iter().collect())
    }

    /// Whether it is one of them.
    pub fn contains(&self, topic: Topic) -> bool {
        self.0.contains(&topic)
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|topic| topic.as_str()).collect();
        f.write_str(&names.join(","))
    }
}
