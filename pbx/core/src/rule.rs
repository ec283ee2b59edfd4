//! Rules: what an administrator (or the guard) allows and blocks, how many there may be, and their text form.
//! Between address and filter. Knows no store and no kernel table.

mod capacity;
mod text;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use capacity::{Capacity, CapacityError, MAX_ADDRESSES, MAX_PREFIXES};
pub use text::{
    BadLine, Import, ImportError, LONGEST_LINE, MAX_LINES, MAX_REPORTED, Remark, collect, export, parse_import,
};

use crate::{address::Prefix, feed::FeedName, time::Timestamp};

/// Characters that a description may have.
pub const LONGEST_DESCRIPTION: usize = 255;

/// What happens to packets from a rule's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// They pass, uncounted.
    #[serde(rename = "ACCEPT")]
    Allow,
    /// They are dropped, whatever they are.
    #[serde(rename = "DENY")]
    Block,
}

/// Who made a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A person, by itself.
    Manual,
    /// A person, with a whole list.
    Import,
    /// The guard.
    Guard,
    /// A block list that others keep; [`Rule::feed`] says which.
    Feed,
}

/// Where a rule holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// On every interface.
    #[default]
    Any,
}

/// A rule as it is stored. No two have the same prefix and action; of two with the same prefix, allow wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its number in the store.
    pub id: i64,
    /// Whose packets it is about.
    #[serde(rename = "cidr")]
    pub prefix: Prefix,
    /// What happens to them.
    #[serde(rename = "target")]
    pub action: Action,
    /// Where.
    pub zone: Zone,
    /// Who made it.
    pub origin: Origin,
    /// Why, in the words of whoever made it; see [`description`].
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The name of whoever made it.
    pub created_by: String,
    /// When it ends; never, if there is nothing.
    #[serde(rename = "expire_at")]
    pub expires_at: Option<Timestamp>,
}

impl Rule {
    /// Whether it still holds at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// The name of the feed that it comes from.
    pub fn feed(&self) -> Option<&str> {
        (self.origin == Origin::Feed).then(|| self.created_by.strip_prefix(FEED).unwrap_or(&self.created_by))
    }
}

/// What stands before a feed's name in [`Rule::created_by`].
const FEED: &str = "feed ";

/// What [`Rule::created_by`] says of a rule that a feed made.
pub fn made_by_feed(name: &FeedName) -> String {
    format!("{FEED}{name}")
}

/// A rule that is to be made: everything that the one who asks decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Whose packets it is about.
    pub prefix: Prefix,
    /// What happens to them.
    pub action: Action,
    /// When it ends; never, if there is nothing.
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub description: String,
}

impl NewRule {
    /// A rule whose end, if it has one, is later than `now`, and whose description fits.
    pub fn new(
        prefix: Prefix,
        action: Action,
        expires_at: Option<Timestamp>,
        description: &str,
        now: Timestamp,
    ) -> Result<Self, RuleError> {
        if let Some(end) = expires_at.filter(|end| *end <= now) {
            return Err(RuleError::Past { end, now });
        }
        Ok(Self { prefix, action, expires_at, description: self::description(description)? })
    }
}

/// A description without the blanks around it: one line of at most [`LONGEST_DESCRIPTION`] characters.
pub fn description(text: &str) -> Result<String, RuleError> {
    let text = text.trim();
    let chars = text.chars().count();
    if chars > LONGEST_DESCRIPTION {
        return Err(RuleError::LongDescription { chars });
    }
    if let Some(control) = text.chars().find(|char| breaks_lines_or_directions(*char)) {
        return Err(RuleError::ControlCharacter { control });
    }
    Ok(text.to_owned())
}

/// Control characters, line and paragraph separators, and what makes the text after it run the other way.
fn breaks_lines_or_directions(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Why a rule can't be made as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It would be over before it begins.
    #[error("its end {end} is not in the future (it is {now} now): give a later end, or none for a permanent rule")]
    Past {
        /// The end that was asked for.
        end: Timestamp,
        /// The time of asking.
        now: Timestamp,
    },
    /// More text than is kept.
    #[error("the description has {chars} characters: {LONGEST_DESCRIPTION} are the most")]
    LongDescription {
        /// How many there are.
        chars: usize,
    },
    /// A line break, an escape code or the like.
    #[error("the description contains {control:?}: it has to be one line of plain text")]
    ControlCharacter {
        /// The first of them.
        control: char,
    },
    /// Neither allow nor block.
    #[error("{0:?} is neither allow nor block")]
    NoAction(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Block => "block",
        })
    }
}

impl FromStr for Action {
    type Err = RuleError;

    /// The words of the command line (`allow`, `block`) and of the REST API (`ACCEPT`, `DENY`), in any case.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text.to_ascii_lowercase().as_str() {
            "allow" | "accept" => Ok(Self::Allow),
            "block" | "deny" => Ok(Self::Block),
            _ => Err(RuleError::NoAction(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Manual => "manual",
            Self::Import => "import",
            Self::Guard => "guard",
            Self::Feed => "feed",
        })
    }
}

impl FromStr for Origin {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "manual" => Ok(Self::Manual),
            "import" => Ok(Self::Import),
            "guard" => Ok(Self::Guard),
            "feed" => Ok(Self::Feed),
            _ => Err(UnknownName("origin", text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
        }
    }
}

impl FromStr for Zone {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if text == "any" { Ok(Self::Any) } else { Err(UnknownName("zone", text.chars().take(40).collect())) }
    }
}

/// A name of an [`Origin`] or a [`Zone`] that there is not; a store that another version wrote may have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {0} {1:?}")]
pub struct UnknownName(&'static str, String);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_412_400_000);

    fn prefix() -> Prefix {
        "192.0.2.0/24".parse().unwrap()
    }

    #[test]
    fn a_rule_ends_exactly_at_its_end() {
        let mut rule = Rule {
            id: 1,
            prefix: prefix(),
            action: Action::Block,
            zone: Zone::Any,
            origin: Origin::Manual,
            description: String::new(),
            created_at: NOW,
            created_by: "root".to_owned(),
            expires_at: Some(NOW),
        };
        assert!(rule.is_live(Timestamp::from_millis(NOW.as_millis() - 1)));
        assert!(!rule.is_live(NOW));
        rule.expires_at = None;
        assert!(rule.is_live(Timestamp::MAX));
    }

    #[test]
    fn an_end_that_is_not_in_the_future_is_refused() {
        let error = NewRule::new(prefix(), Action::Block, Some(NOW), "", NOW).unwrap_err();
        assert!(error.to_string().starts_with("its end 2026-11-23T05:40:00Z is not in the future"), "{error}");
        let later = Timestamp::from_millis(NOW.as_millis() + 1);
        NewRule::new(prefix(), Action::Block, Some(later), "", NOW).unwrap();
    }

    #[test]
    fn a_description_is_one_line_of_at_most_255_characters() {
        assert_eq!(description("  My Remote office "), Ok("My Remote office".to_owned()));
        assert_eq!(description(&"é".repeat(255)), Ok("é".repeat(255)));
        assert_eq!(description(&"é".repeat(256)), Err(RuleError::LongDescription { chars: 256 }));
        assert_eq!(description("a\nb"), Err(RuleError::ControlCharacter { control: '\n' }));
        assert!(description("paid \u{202e}ton").is_err());
        assert_eq!(description("a\x1b[31m"), Err(RuleError::ControlCharacter { control: '\x1b' }));
    }

    #[test]
    fn names_are_read_back() {
        for action in [Action::Allow, Action::Block] {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        assert_eq!("DENY".parse(), Ok(Action::Block));
        assert_eq!("ACCEPT".parse(), Ok(Action::Allow));
        for origin in [Origin::Manual, Origin::Import, Origin::Guard, Origin::Feed] {
            assert_eq!(origin.to_string().parse(), Ok(origin));
        }
        assert_eq!(Zone::Any.to_string().parse(), Ok(Zone::Any));
        assert_eq!("dmz".parse::<Zone>().unwrap_err().to_string(), "there is no zone \"dmz\"");
    }
}
