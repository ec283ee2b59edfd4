//! Settings of what administrators are told.

use super::{Span, Topics};

/// `notify.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// `notify.interval`: between two digests to one receiver.
    pub interval: Span<60, 86_400>,
    /// `notify.about`: what they are about.
    pub about: Topics,
}

impl NotifySettings {
    /// Something to write the defaults into.
    pub(super) fn lowest() -> Self {
        Self { interval: Span::LOWEST, about: Topics::default() }
    }
}
