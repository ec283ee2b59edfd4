//! Blocks that the filter made by itself: kept in the store so that they survive a reboot, removed on request.
//! The filter's own table is the truth; the store follows it and may lag.

use std::{sync::atomic::Ordering, time::Duration};

use pbx_core::{guard::Detector, time::format_duration};

use super::{Context, OpError, Operations};
use crate::{
    filter::{AutomaticBlock, BlockKey, Control},
    store::{Audit, EventKind, NewEvent, StoredBlock},
};

/// Events that one look at the filter's table makes; a flood of blocks is told as a number.
const MOST_EVENTS: usize = 1000;

/// How near in time two readings of the kernel's clock are, for what is the same.
const NEAR: Duration = Duration::from_secs(1);

/// What following the filter's table came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Blocks that were not known.
    pub new: usize,
    /// Blocks that were known and went from one level to another, or were prolonged.
    pub moved: usize,
    /// Blocks that are over.
    pub ended: usize,
}

impl Operations {
    /// Makes the store follow the filter's automatic blocks and tells what changed. The daemon calls it at
    /// the start (which adopts what the kernel blocked meanwhile), after the kernel's events, and now and then.
    pub async fn follow_automatic(&self) -> Result<Recorded, OpError> {
        let _changing = self.inner.changing.lock().await;
        if !self.control().is_ours() {
            // What is stored waits for a filter that holds it again.
            return Ok(Recorded::default());
        }
        let blocks = self.automatic_now().await?;
        let now = self.now();
        let mut recorded = Recorded::default();
        let (mut seen, mut events, mut made) = (Vec::new(), Vec::new(), Vec::new());
        let gone: Vec<BlockKey> = {
            let kept = self.kept();
            for block in &blocks {
                match kept.get(&block.key()) {
                    Some(known) if *known == StoredBlock::from(block) => continue,
                    // A kernel clock is converted to wall time with an error of milliseconds; that is no change.
                    Some(known) if is_same(known, block) => continue,
                    Some(_) => recorded.moved += 1,
                    None => recorded.new += 1,
                }
                let is_rate = matches!(block.reason, Detector::Level1 | Detector::Level2);
                // One that began when the last was over is another.
                let is_other = |known: &StoredBlock| {
                    known.reason != block.reason || known.expires_at <= block.since.saturating_add(NEAR)
                };
                if is_rate && kept.get(&block.key()).is_none_or(is_other) {
                    made.push((block.prefix, block.reason, block.enforced));
                }
                seen.push(StoredBlock::from(block));
                events.push(blocked(block));
            }
            let live: std::collections::HashSet<BlockKey> = blocks.iter().map(AutomaticBlock::key).collect();
            kept.keys().filter(|key| !live.contains(key)).copied().collect()
        };
        recorded.ended = gone.len();
        events.extend(gone.iter().map(|BlockKey { prefix, web_only }| NewEvent {
            at: now,
            kind: EventKind::Unblock,
            prefix: Some(*prefix),
            interface: None,
            message: format!("the automatic block of {prefix}{} is over", if *web_only { " from the web" } else { "" }),
        }));
        if seen.is_empty() && gone.is_empty() {
            self.inner.unsaved.store(0, Ordering::Relaxed);
            return Ok(recorded);
        }
        if let Err(error) = self.store().keep_automatic(&seen, &gone).await {
            // Not lost: what differs from `kept` is tried again with the next call.
            self.inner.unsaved.store(seen.len(), Ordering::Relaxed);
            return Err(error.into());
        }
        self.inner.unsaved.store(0, Ordering::Relaxed);
        {
            let mut kept = self.kept();
            gone.iter().for_each(|key| {
                kept.remove(key);
            });
            kept.extend(seen.into_iter().map(|block| (block.key(), block)));
        }
        if events.len() > MOST_EVENTS {
            let more = events.len() - MOST_EVENTS;
            events.truncate(MOST_EVENTS);
            events.push(NewEvent {
                at: now,
                kind: EventKind::Guard,
                prefix: None,
                interface: None,
                message: format!("{more} more automatic blocks began or ended at the same time"),
            });
        }
        self.record(events).await;
        // The guard may make them longer.
        for (prefix, detector, enforced) in made {
            self.guard().blocked_by_filter(prefix, detector, enforced);
        }
        Ok(recorded)
    }

    /// Ends automatic blocks, in the filter first; whoever was blocked starts again at zero.
    /// The caller holds the lock on changes.
    pub(super) async fn end_automatic(&self, context: &Context, blocks: &[AutomaticBlock]) -> Result<usize, OpError> {
        self.under_control()?;
        if blocks.is_empty() {
            return Ok(0);
        }
        let keys: Vec<BlockKey> = blocks.iter().map(AutomaticBlock::key).collect();
        let to_end = keys.clone();
        let ended: usize = self
            .with_filter(move |filter| {
                to_end.iter().try_fold(0, |count, key| {
                    filter.remove_automatic(key).map(|was_there| count + usize::from(was_there))
                })
            })
            .await?
            .map_err(|error| OpError::filter(format!("the filter kept the automatic block: {error:#}")))?;
        let at = self.now();
        let unstored = |error: crate::store::StoreError| {
            OpError::from(error)
                .with_detail("the automatic block is gone now and would come back after a reboot: repeat the command")
        };
        self.store().keep_automatic(&[], &keys).await.map_err(unstored)?;
        {
            let mut kept = self.kept();
            keys.iter().for_each(|key| {
                kept.remove(key);
            });
        }
        let who = match blocks {
            [block] => block.prefix.to_string(),
            many => format!("{} sources", many.len()),
        };
        self.store()
            .audit(&Audit {
                at,
                actor: context.actor.clone(),
                origin: context.origin.to_owned(),
                what: "automatic.remove".to_owned(),
                object: who.clone(),
                before: blocks
                    .first()
                    .filter(|_| blocks.len() == 1)
                    .and_then(|block| serde_json::to_string(block).ok()),
                after: None,
            })
            .await?;
        self.record(vec![NewEvent {
            at,
            kind: EventKind::Unblock,
            prefix: blocks.first().filter(|_| blocks.len() == 1).map(|block| block.prefix),
            interface: None,
            message: format!("{} removed the automatic block of {who}", context.actor),
        }])
        .await;
        Ok(ended)
    }

    /// Ends every automatic block.
    pub async fn remove_all_automatic(&self, context: &Context, dry_run: bool) -> Result<usize, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let blocks = operations.automatic_now().await?;
            if dry_run {
                return Ok(blocks.len());
            }
            let ended = operations.end_automatic(&context, &blocks).await;
            for everything in ["0.0.0.0/0", "::/0"] {
                if let Ok(everything) = everything.parse() {
                    operations.guard().forget(&everything);
                }
            }
            ended
        })
        .await
    }

    /// What the filter blocks by itself now; of a filter that is not under control, what it is known to block.
    pub(super) async fn automatic_now(&self) -> Result<Vec<AutomaticBlock>, OpError> {
        match self.control() {
            Control::Held | Control::User(_) => {}
            Control::Lost { earlier: None, .. } => return Ok(Vec::new()),
            Control::Lost { earlier: Some(_), .. } => {
                let now = self.now();
                return Ok(self.kept().values().filter(|block| block.expires_at > now).map(from_store).collect());
            }
        }
        self.with_filter(|filter| filter.automatic_blocks())
            .await?
            .map_err(|error| OpError::filter(format!("cannot read the automatic blocks: {error:#}")))
    }
}

fn from_store(block: &StoredBlock) -> AutomaticBlock {
    let StoredBlock { prefix, reason, since, expires_at, enforced, web_only } = *block;
    AutomaticBlock { prefix, reason, since, expires_at, packets: 0, last_seen: None, enforced, web_only }
}

/// Both ends within a second of each other and the rest equal.
fn is_same(known: &StoredBlock, block: &AutomaticBlock) -> bool {
    let near = |a: i64, b: i64| a.abs_diff(b) < 1000;
    known.reason == block.reason
        && known.enforced == block.enforced
        && near(known.expires_at.as_millis(), block.expires_at.as_millis())
}

fn blocked(block: &AutomaticBlock) -> NewEvent {
    let AutomaticBlock { prefix, reason, since, expires_at, enforced, .. } = block;
    let time = format_duration(super::explain::whole_seconds(expires_at.saturating_since(*since)));
    let how = if *enforced { "blocked" } else { "would be blocked" };
    NewEvent {
        at: *since,
        kind: EventKind::Block,
        prefix: Some(*prefix),
        interface: None,
        message: format!("{prefix} {how} for {time}: {}", reason.what()),
    }
}
