//! What blocks do under the settings: the ceiling of `filter.mode` over the switch of whoever made them.
//! Lists, explanations and lock-out checks ask here; the kernel judges by its own copy of the same switches.

use pbx_core::{
    guard::Detector,
    settings::{Enforcement, Settings},
};

use crate::filter::AutomaticBlock;

/// What rules made by people do.
pub(super) fn of_rules(settings: &Settings) -> Enforcement {
    settings.guard.manual.enforcement.under(settings.filter.mode)
}

/// What default deny does.
pub(super) fn of_default_deny(settings: &Settings) -> Enforcement {
    settings.filter.default_deny.under(settings.filter.mode)
}

/// What a detector does.
pub(super) fn of_detector(detector: Detector, settings: &Settings) -> Enforcement {
    detector.enforcement(&settings.guard).under(settings.filter.mode)
}

/// What an automatic block does: one that was made under monitor never drops.
pub(super) fn of_automatic(block: &AutomaticBlock, settings: &Settings) -> Enforcement {
    let most = if block.enforced { Enforcement::Enforce } else { Enforcement::Monitor };
    of_detector(block.reason, settings).under(most)
}
