//! What blocks do under the settings: the ceiling of `filter.mode` over the switch of whoever made them.
//! Lists, explanations and lock-out checks ask here; the kernel judges by its own copy of the same switches.

use pbx_core::settings::{Enforcement, Settings};

use crate::filter::{AutomaticBlock, BlockReason};

/// What rules made by people do.
pub(super) fn of_rules(settings: &Settings) -> Enforcement {
    settings.guard.manual.enforcement.under(settings.filter.mode)
}

/// What a level of the rates does.
pub(super) fn of_level(level: BlockReason, settings: &Settings) -> Enforcement {
    let own = match level {
        BlockReason::Level1 => settings.guard.level1.enforcement,
        BlockReason::Level2 => settings.guard.level2.enforcement,
    };
    own.under(settings.filter.mode)
}

/// What an automatic block does: one that was made under monitor never drops.
pub(super) fn of_automatic(block: &AutomaticBlock, settings: &Settings) -> Enforcement {
    let most = if block.enforced { Enforcement::Enforce } else { Enforcement::Monitor };
    of_level(block.reason, settings).under(most)
}
