//! One message: what happened since the one before, why, and how to undo it.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::Topic;
use crate::{address::Prefix, time::Timestamp};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is about.
    pub topic: Topic,
    /// When.
    pub at: Timestamp,
    /// Whom it is about.
    pub address: Option<Prefix>,
    /// What happened and why, one sentence.
    pub message: String,
}

impl Item {
    /// The command that undoes it.
    pub fn undo(&self) -> Option<String> {
        let address = self.address.filter(|_| self.topic == Topic::Block)?;
        Some(format!("pbx block remove {address}"))
    }
}

/// What a receiver is told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// When the first of it happened.
    pub from: Timestamp,
    /// When it was put together.
    pub until: Timestamp,
    /// How much happened, by topic; also what is not named.
    pub counts: BTreeMap<Topic, u64>,
    /// By topic, each in the order in which it happened.
    pub items: Vec<Item>,
    /// Events that came faster than they were read; their topics are not known.
    pub missed: u64,
    /// Events of earlier digests that could not be delivered.
    pub undelivered: u64,
}

impl Digest {
    /// Events that it is about.
    pub fn total(&self) -> u64 {
        self.counts.values().sum::<u64>() + self.missed
    }

    /// Events of a topic that are counted and not named.
    pub fn unnamed(&self, topic: Topic) -> u64 {
        let named = self.items.iter().filter(|item| item.topic == topic).count() as u64;
        self.counts.get(&topic).copied().unwrap_or_default().saturating_sub(named)
    }

    /// One line: `12 block, 1 flood`.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> =
            self.counts.iter().map(|(topic, count)| format!("{} {topic}", grouped(*count))).collect();
        if self.missed > 0 {
            parts.push(format!("{} more", grouped(self.missed)));
        }
        if parts.is_empty() { "nothing new".to_owned() } else { parts.join(", ") }
    }

    /// The whole of it for people.
    pub fn text(&self, host: &str) -> String {
        let mut text = format!("{host}, {} to {}\n", self.from, self.until);
        for (topic, count) in &self.counts {
            line(&mut text, &format!("\n{} ({})", topic.heading(), grouped(*count)));
            for item in self.items.iter().filter(|item| item.topic == *topic) {
                let whom = item.address.map(|address| format!("{address}: ")).unwrap_or_default();
                line(&mut text, &format!("  {}  {whom}{}", item.at, plain(&item.message)));
                if let Some(undo) = item.undo() {
                    line(&mut text, &format!("    undo: {undo}"));
                }
            }
            let unnamed = self.unnamed(*topic);
            if unnamed > 0 {
                line(&mut text, &format!("  and {} more", grouped(unnamed)));
            }
        }
        if self.missed > 0 {
            line(&mut text, &format!("\nand {} more events, faster than they could be read", grouped(self.missed)));
        }
        if self.undelivered > 0 {
            let count = grouped(self.undelivered);
            line(&mut text, &format!("\n{count} earlier events could not be delivered: `pbx events` has them"));
        }
        text
    }
}

fn line(text: &mut String, line: &str) {
    // Writing into a text cannot fail.
    let _ = writeln!(text, "{line}");
}

/// Without what a terminal or mail program obeys: strangers have a say in why they were blocked.
fn plain(message: &str) -> String {
    message.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// 4,210
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
