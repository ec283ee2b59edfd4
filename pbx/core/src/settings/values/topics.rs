//! Settings that are some of a few words: what is told.

use std::str::FromStr;

use super::{Kind, Value, ValueError, sets::items};
use crate::notify::{Topic, Topics};

impl Value for Topics {
    const KIND: Kind = Kind::Words { words: &Topic::NAMES };
}

impl FromStr for Topics {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let topic = |item: &str| item.parse::<Topic>().map_err(|error| ValueError::Item(error.to_string()));
        let topics: Result<Vec<Topic>, ValueError> = items(text, Topic::ALL.len())?.into_iter().map(topic).collect();
        Ok(Self::of(topics?))
    }
}
