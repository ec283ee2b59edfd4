//! What goes on while the daemon runs: rules that end are swept, the store and the filter follow the machine and
//! the kernel. Whatever may wait for the filter's tables does so off the async threads.

use std::{sync::Arc, time::Duration};

use aya::maps::{MapData, RingBuf};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval},
};

use super::now;
use crate::{
    host::{self, Snapshot, clock},
    ops::Operations,
    store::{EventKind, NewEvent},
    xdp::{self, UserFilter, XdpFilter},
};

/// How often expired rules and blocks are swept and the store follows the kernel's blocks.
const SWEEP: Duration = Duration::from_secs(1);
/// After a kernel event, how long further ones are gathered before the blocks are read.
const GATHER: Duration = Duration::from_millis(50);
/// How often somebody looks whether a feed is to be read: the clock may have been set.
const FEEDS: Duration = Duration::from_secs(60);
/// How often disk and certificates are looked at.
const UPKEEP: Duration = Duration::from_secs(60);
/// Kernel events that may wait to be told.
const EVENT_QUEUE: usize = 256;

pub(super) async fn follow_blocks(operations: &Operations) {
    if let Err(error) = operations.follow_automatic().await {
        tracing::warn!(error = %error.message, "automatic blocks are in force and not stored yet");
    }
}

/// Takes expired rules out of the store, and settings back that nobody confirmed.
pub(super) async fn sweep_rules(operations: Operations, mut ending: watch::Receiver<bool>) {
    let mut tick = interval(SWEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = ended(&mut ending) => return,
            _ = tick.tick() => {
                operations.roll_back_if_due().await;
                if let Err(error) = operations.sweep(now()).await {
                    tracing::warn!(error = %error.message, "expired rules stay in the store; the kernel no longer heeds them");
                }
            }
        }
    }
}

/// Looks at what wears out, now and then.
pub(super) async fn look_after(operations: Operations, mut ending: watch::Receiver<bool>) {
    let mut tick = interval(UPKEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = ended(&mut ending) => return,
            _ = tick.tick() => {
                operations.look_after().await;
                operations.forget_old().await;
            }
        }
    }
}

/// Reads each feed when its time has come.
pub(super) async fn read_feeds(operations: Operations, mut ending: watch::Receiver<bool>) {
    loop {
        let pause = tokio::select! {
            () = ended(&mut ending) => return,
            pause = operations.read_due_feeds() => pause.min(FEEDS),
        };
        tokio::select! {
            () = ended(&mut ending) => return,
            () = operations.feeds_changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Follows the machine and the kernel.
pub(super) async fn follow(filter: Arc<XdpFilter>, operations: Operations, mut ending: watch::Receiver<bool>) {
    let (events, mut arrived) = mpsc::channel::<Vec<u8>>(EVENT_QUEUE);
    let mut rings = JoinSet::new();
    if let Some([events_ring, samples_ring]) = filter.rings() {
        rings.spawn(drain(events_ring, ending.clone(), move |record| {
            // Full: the blocks' table has what this would have told.
            let _ = events.try_send(record.to_vec());
        }));
        let sampler = Arc::clone(&filter);
        rings.spawn(drain(samples_ring, ending.clone(), move |record| sampler.read_sample(record)));
    }
    let (mut machine, mut steps, mut tick) = watched();
    loop {
        tokio::select! {
            () = ended(&mut ending) => break,
            Some(record) = arrived.recv() => {
                let mut records = vec![record];
                tokio::time::sleep(GATHER).await;
                while let Ok(more) = arrived.try_recv() {
                    records.push(more);
                }
                let reader = Arc::clone(&filter);
                let read = move || records.iter().filter_map(|record| reader.read_event(record)).collect();
                match tokio::task::spawn_blocking(read).await {
                    Ok(told) => operations.record(told).await,
                    Err(error) => tracing::warn!(%error, "what the kernel told is lost; its blocks' table is read"),
                }
                follow_blocks(&operations).await;
            }
            Some(Err(error)) = rings.join_next(), if !rings.is_empty() => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => tracing::warn!(%error, "a ring of the kernel's is not read any more"),
            },
            snapshot = changed(&mut machine) => {
                let Some(snapshot) = snapshot else { continue };
                operations.machine_changed(&snapshot);
                let filter = Arc::clone(&filter);
                if let Ok(told) = tokio::task::spawn_blocking(move || filter.follow(&snapshot)).await {
                    operations.record(told.into_iter().map(|told| told.event(now())).collect()).await;
                }
            }
            moved = stepped(&mut steps) => {
                let filter = Arc::clone(&filter);
                let _ = tokio::task::spawn_blocking(move || filter.clock_was_set()).await;
                let message = format!("the clock was set by {moved} ms: rules that end were projected again");
                operations.record(vec![NewEvent { at: now(), kind: EventKind::Daemon, prefix: None, interface: None, message }]).await;
            }
            _ = tick.tick() => {
                let swept = Arc::clone(&filter);
                match tokio::task::spawn_blocking(move || swept.sweep()).await {
                    Ok(Ok(false)) => {}
                    Ok(Ok(true)) => operations.record(vec![xdp::guard_is_over(now())]).await,
                    Ok(Err(error)) => tracing::warn!(%error, "blocks that are over stay in the kernel's table"),
                    Err(error) => tracing::warn!(%error, "the sweep broke off"),
                }
                let looking = Arc::clone(&filter);
                if let Ok(Some(told)) = tokio::task::spawn_blocking(move || looking.look_at_media()).await {
                    operations.record(vec![told.event(now())]).await;
                }
                operations.note_rates().await;
                follow_blocks(&operations).await;
            }
        }
    }
    while rings.join_next().await.is_some() {}
}

/// Follows the machine for a filter that is in the daemon.
pub(super) async fn follow_user(filter: Arc<UserFilter>, operations: Operations, mut ending: watch::Receiver<bool>) {
    let (mut machine, mut steps, mut tick) = watched();
    loop {
        tokio::select! {
            () = ended(&mut ending) => return,
            snapshot = changed(&mut machine) => {
                if let Some(snapshot) = snapshot {
                    operations.machine_changed(&snapshot);
                    filter.follow(&snapshot);
                }
            }
            _ = stepped(&mut steps) => filter.clock_was_set(),
            _ = tick.tick() => {
                filter.sweep();
                operations.note_rates().await;
                follow_blocks(&operations).await;
            }
        }
    }
}

/// What both kinds of filter follow: the machine's interfaces, a clock that is set, and the time of the next sweep.
fn watched() -> (Option<watch::Receiver<Arc<Snapshot>>>, Option<clock::Steps>, Interval) {
    let mut machine =
        host::watch::start().inspect_err(|error| tracing::warn!(%error, "interfaces are not followed")).ok();
    // What changed between the snapshot of the start and the first of these is looked at now.
    machine.iter_mut().for_each(watch::Receiver::mark_changed);
    let steps = clock::steps().inspect_err(|error| tracing::warn!(%error, "a set clock goes unnoticed")).ok();
    let mut tick = interval(SWEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    (machine, steps, tick)
}

pub(super) async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

async fn changed(machine: &mut Option<watch::Receiver<Arc<Snapshot>>>) -> Option<Arc<Snapshot>> {
    let Some(receiver) = machine else { return std::future::pending().await };
    if receiver.changed().await.is_err() {
        *machine = None;
        return None;
    }
    Some(receiver.borrow_and_update().clone())
}

async fn stepped(steps: &mut Option<clock::Steps>) -> i64 {
    loop {
        let Some(watcher) = steps else { return std::future::pending().await };
        match watcher.stepped().await {
            Ok(moved) => return moved,
            Err(error) => {
                tracing::warn!(%error, "a set clock goes unnoticed from now on");
                *steps = None;
            }
        }
    }
}

/// Reads a ring until the end.
async fn drain(ring: RingBuf<MapData>, mut ending: watch::Receiver<bool>, mut take: impl FnMut(&[u8])) {
    // SAFETY: the ring owns its descriptor and gives the same one as long as it lives.
    let mut ring = match unsafe { AsyncFd::register(ring) } {
        Ok(ring) => ring,
        Err(error) => return tracing::warn!(%error, "the kernel's events are not read"),
    };
    loop {
        tokio::select! {
            () = ended(&mut ending) => return,
            ready = ring.readable_mut() => {
                let Ok(mut ready) = ready else { return };
                while let Some(record) = ready.get_inner_mut().next() {
                    take(&record);
                }
                ready.clear_ready();
            }
        }
    }
}
