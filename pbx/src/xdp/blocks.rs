//! Automatic blocks between the operations and the tables: what a detector's block is there, which of two stays, and
//! what is said of those that are there. Both filters speak of them in this way.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use pbx_core::{guard::Detector, settings::Settings};
use pbx_ebpf::abi::{
    Source,
    automatic::{Block, DETECTOR_SHIFT, MONITOR, WEB_ONLY},
};

use super::{Clocks, prefix_of, source_of};
use crate::{
    filter::{AutomaticBlock, NewBlock},
    store::StoredBlock,
};

/// Where a detector's block belongs, and what it is there; none: it is over already.
pub(super) fn detected(new: &NewBlock, clocks: &Clocks) -> anyhow::Result<Option<(Source, Block)>> {
    let NewBlock { prefix, reason, expires_at, enforced, web_only } = *new;
    let source = source_of(&prefix).with_context(|| {
        format!("{prefix} is neither an address nor an IPv6 network of 64 bits, which blocks are of")
    })?;
    // The guard prolongs blocks of level 2; the cool-off is the kernel's own.
    let level = match reason {
        Detector::Level1 => bail!("blocks of {} are the kernel's own", reason.label()),
        Detector::Level2 => 2,
        _ => 0,
    };
    let left = expires_at.saturating_since(clocks.wall);
    let expires = clocks.monotonic.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
    let block =
        Block { expires, since: clocks.monotonic, level, flags: flags(reason, enforced, web_only), ..Block::default() };
    Ok((!left.is_zero()).then_some((source, block)))
}

const fn flags(reason: Detector, enforced: bool, web_only: bool) -> u32 {
    let detector = match reason {
        Detector::Level1 | Detector::Level2 => 0,
        other => other.number(),
    };
    let monitor = if enforced { 0 } else { MONITOR };
    let web = if web_only { WEB_ONLY } else { 0 };
    (detector as u32) << DETECTOR_SHIFT | monitor | web
}

/// What a new block makes of the one that is there, of the same kind; none: that one stays. What drops goes before
/// what only watches, then what ends later.
pub(super) fn instead(new: Block, there: Option<&Block>, now: u64) -> Option<Block> {
    let Some(there) = there.filter(|there| now < there.expires) else { return Some(new) };
    let goes_on = there.level == new.level && there.flags == new.flags;
    match (new.is_monitored(), there.is_monitored()) {
        (true, false) => None,
        (false, true) => Some(new),
        _ if new.expires <= there.expires => None,
        // The same detector prolongs its own.
        _ if goes_on => Some(Block { expires: new.expires, ..*there }),
        _ => Some(new),
    }
}

/// A block that the store kept, as the tables have it; none: it is over.
pub(super) fn restored(block: &StoredBlock, clocks: &Clocks) -> Option<Block> {
    let left = block.expires_at.saturating_since(clocks.wall);
    let age = clocks.wall.saturating_since(block.since);
    let level = match block.reason {
        Detector::Level1 => 1,
        Detector::Level2 => 2,
        _ => 0,
    };
    let flags = flags(block.reason, block.enforced, block.web_only);
    (!left.is_zero()).then(|| Block {
        expires: clocks.monotonic.saturating_add(left.as_nanos() as u64),
        since: clocks.monotonic.saturating_sub(age.as_nanos() as u64),
        level,
        flags,
        ..Block::default()
    })
}

/// Who made a block. Of a detector that this build does not know, it is what most resembles it: a block for some time.
pub(super) fn reason(block: &Block) -> Detector {
    match block.level {
        1 => Detector::Level1,
        2 => Detector::Level2,
        _ => Detector::from_number(block.detector()).unwrap_or(Detector::Scanner),
    }
}

pub(super) fn described(source: Source, block: &Block, clocks: &Clocks) -> AutomaticBlock {
    AutomaticBlock {
        prefix: prefix_of(source),
        reason: reason(block),
        since: clocks.wall(block.since),
        expires_at: clocks.wall(block.expires),
        packets: block.packets,
        last_seen: (block.last > 0).then(|| clocks.wall(block.last)),
        enforced: !block.is_monitored(),
        web_only: block.is_web_only(),
    }
}

/// The blocks that are live, in the same order each time: lists are read by the page.
pub(super) fn all_live(mut blocks: Vec<(Source, Block)>, now: u64) -> Vec<(Source, Block)> {
    blocks.retain(|(_, block)| now < block.expires);
    blocks.sort_unstable_by_key(|(source, block)| (*source, block.is_web_only()));
    blocks
}

/// Of each source the block that speaks for it, if one is live: one that drops before one that watches, one of all ports
/// before one of the web.
pub(super) fn live(blocks: Vec<(Source, Block)>, now: u64) -> BTreeMap<Source, Block> {
    let mut live = BTreeMap::new();
    let weight = |block: &Block| (!block.is_monitored(), !block.is_web_only());
    for (source, block) in blocks.into_iter().filter(|(_, block)| now < block.expires) {
        let there = live.entry(source).or_insert(block);
        if weight(&block) > weight(there) {
            *there = block;
        }
    }
    live
}

/// Whether a block was made in monitor, and who made it enforces under these settings: then it ends, and the counts
/// that led to it.
pub(super) fn is_outdated(block: &Block, settings: &Settings) -> bool {
    use pbx_core::settings::Enforcement::Enforce;
    block.is_monitored() && reason(block).enforcement(&settings.guard).under(settings.filter.mode) == Enforce
}

#[cfg(test)]
mod tests {
    use pbx_core::time::Timestamp;

    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn clocks() -> Clocks {
        Clocks { monotonic: NOW, wall: Timestamp::from_millis(1_795_412_400_000) }
    }

    fn new(prefix: &str, seconds: i64) -> NewBlock {
        NewBlock {
            prefix: prefix.parse().unwrap(),
            reason: Detector::Authentication,
            expires_at: Timestamp::from_millis(1_795_412_400_000 + seconds * 1000),
            enforced: true,
            web_only: false,
        }
    }

    fn block(new: &NewBlock) -> Block {
        detected(new, &clocks()).unwrap().unwrap().1
    }

    #[test]
    fn a_detectors_block_comes_back_from_the_tables_as_it_was_asked_for() {
        for detector in Detector::ALL.into_iter().skip(2) {
            for (enforced, web_only) in [(true, false), (false, false), (true, true), (false, true)] {
                let asked = NewBlock { reason: detector, enforced, web_only, ..new("2001:db8:1:2::/64", 60) };
                let (source, block) = detected(&asked, &clocks()).unwrap().unwrap();
                let described = described(source, &block, &clocks());
                assert_eq!((described.prefix, described.reason), (asked.prefix, detector));
                assert_eq!((described.enforced, described.web_only), (enforced, web_only));
                assert_eq!(described.expires_at, asked.expires_at);
                let stored = StoredBlock::from(&described);
                let back = restored(&stored, &clocks()).unwrap();
                assert_eq!((reason(&back), back.is_monitored(), back.expires), (detector, !enforced, block.expires));
                assert_eq!(back.is_web_only(), web_only);
            }
        }
    }

    #[test]
    fn a_block_that_cannot_be_one_is_refused_and_one_that_is_over_is_none() {
        let error = |new: &NewBlock| detected(new, &clocks()).unwrap_err().to_string();
        assert!(error(&new("192.0.2.0/24", 9)).contains("192.0.2.0/24 is neither"));
        assert!(error(&new("2001:db8::/48", 9)).contains("64 bits"));
        assert!(error(&NewBlock { reason: Detector::Level1, ..new("192.0.2.1", 9) }).contains("level 1"));
        let longer =
            detected(&NewBlock { reason: Detector::Level2, ..new("192.0.2.1", 9) }, &clocks()).unwrap().unwrap().1;
        assert_eq!((longer.level, reason(&longer)), (2, Detector::Level2));
        assert_eq!(detected(&new("192.0.2.1", 0), &clocks()).unwrap(), None);
        assert_eq!(detected(&new("192.0.2.1", -9), &clocks()).unwrap(), None);
    }

    #[test]
    fn what_drops_goes_before_what_watches_and_then_what_ends_later() {
        let [short, long] = [60, 3600].map(|seconds| block(&new("192.0.2.1", seconds)));
        let watching = block(&NewBlock { enforced: false, ..new("192.0.2.1", 7200) });
        assert_eq!(instead(short, None, NOW), Some(short));
        assert_eq!(instead(short, Some(&long), NOW), None);
        assert_eq!(instead(short, Some(&short), NOW), None);
        assert_eq!(instead(watching, Some(&short), NOW), None);
        assert_eq!(instead(short, Some(&watching), NOW), Some(short));
        assert_eq!(instead(short, Some(&long), long.expires), Some(short), "that one is over");
        let hit = Block { packets: 7, last: NOW, since: NOW - 5, ..short };
        assert_eq!(instead(long, Some(&hit), NOW), Some(Block { expires: long.expires, ..hit }), "it goes on");
        let level = Block { level: 1, flags: 0, ..hit };
        assert_eq!(instead(long, Some(&level), NOW), Some(long), "another's begins anew");
        assert_eq!(instead(short, Some(&Block { expires: long.expires, ..level }), NOW), None);
    }

    #[test]
    fn of_two_blocks_of_a_source_the_one_that_closes_more_speaks() {
        let source = Source { hi: 0, lo: 1 };
        let whole = block(&new("192.0.2.1", 60));
        let web = block(&NewBlock { web_only: true, ..new("192.0.2.1", 3600) });
        let watching = block(&NewBlock { enforced: false, ..new("192.0.2.1", 3600) });
        let one =
            |blocks: &[Block], now| live(blocks.iter().map(|block| (source, *block)).collect(), now).remove(&source);
        assert_eq!(one(&[web, whole], NOW), Some(whole));
        assert_eq!(one(&[whole, web], NOW), Some(whole));
        assert_eq!(one(&[whole, web], whole.expires), Some(web));
        assert_eq!(one(&[watching, web], NOW), Some(web));
        assert_eq!(one(&[whole, web], web.expires), None);
    }
}
