//! What blocks do under the settings: the ceiling of `filter.mode` over the switch of whoever made them.
//! Lists, explanations and lock-out checks ask here; the kernel judges by its own copy of the same switches.

use pbx_core::{
    guard::Detector,
    settings::{Enforcement, Settings},
};

use super::{OpError, Operations};
use crate::{
    filter::{AutomaticBlock, NewBlock},
    store::{EventKind, NewEvent, StoredBlock},
};

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

impl Operations {
    /// Makes live blocks do what the switch of their detector says: the filter has one switch for all detectors. Blocks
    /// of one that only monitors drop nothing more, those of one that is off end. Those that were made in monitor end in
    /// the filter when their detector enforces. The rate levels have switches in the filter.
    ///
    /// The caller holds the lock on changes. How many blocks it changed.
    pub(super) async fn follow_switches(&self) -> Result<usize, OpError> {
        if !self.control().is_ours() {
            return Ok(0);
        }
        let (settings, _) = self.current_settings();
        let switch = |block: &AutomaticBlock| block.reason.enforcement(&settings.guard);
        let mut blocks = self.automatic_now().await?;
        blocks.retain(|block| {
            let is_level = matches!(block.reason, Detector::Level1 | Detector::Level2);
            let most = if block.enforced { Enforcement::Enforce } else { Enforcement::Monitor };
            !is_level && switch(block) < most
        });
        if blocks.is_empty() {
            return Ok(0);
        }
        let (watching, ended): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|block| switch(block) == Enforcement::Monitor);
        let (to_watch, to_end) = (watching.clone(), ended.clone());
        self.with_filter(move |filter| {
            for block in to_end.iter().chain(&to_watch) {
                filter.remove_automatic(&block.key())?;
            }
            to_watch.iter().try_for_each(|block| {
                let AutomaticBlock { prefix, reason, expires_at, web_only, .. } = *block;
                filter.block(&NewBlock { prefix, reason, expires_at, enforced: false, web_only })
            })
        })
        .await?
        .map_err(|error| OpError::filter(format!("blocks of a detector that was switched go on: {error:#}")))?;
        let gone: Vec<_> = ended.iter().map(AutomaticBlock::key).collect();
        let kept: Vec<StoredBlock> =
            watching.iter().map(|block| StoredBlock { enforced: false, ..StoredBlock::from(block) }).collect();
        self.store().keep_automatic(&kept, &gone).await?;
        {
            let mut known = self.kept();
            gone.iter().for_each(|key| {
                known.remove(key);
            });
            known.extend(kept.into_iter().map(|block| (block.key(), block)));
        }
        let at = self.now();
        let told = [(&ended, "are over: their detector is off"), (&watching, "drop nothing: their detector monitors")];
        let events = told.into_iter().filter(|(blocks, _)| !blocks.is_empty()).map(|(blocks, what)| NewEvent {
            at,
            kind: EventKind::Unblock,
            prefix: None,
            interface: None,
            message: format!("{} automatic blocks {what}", blocks.len()),
        });
        self.record(events.collect()).await;
        Ok(ended.len() + watching.len())
    }
}
