//! Settings that are times, one after the other.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    BlockTime, Kind, Value, ValueError,
    sets::{comma_separated, items},
};

/// Times of blocks, shortest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ladder {
    times: Vec<Duration>,
    printed: Vec<BlockTime>,
}

impl Ladder {
    /// The most of them.
    pub const MAX_ITEMS: usize = 8;

    /// The times, in the order in which they were typed.
    pub fn times(&self) -> &[Duration] {
        &self.times
    }
}

impl Value for Ladder {
    const KIND: Kind = Kind::Durations { max_items: Self::MAX_ITEMS };
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comma_separated(f, &self.printed)
    }
}

impl FromStr for Ladder {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let printed: Vec<BlockTime> =
            items(text, Self::MAX_ITEMS)?.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { times: printed.iter().map(|time| time.get()).collect(), printed })
    }
}
