//! Tells administrators what happens: follows the events, gathers them for each receiver, delivers digests, tries again.
//! Beside everything else: a server that does not answer delays nobody but its own messages.

use std::{sync::Arc, time::Duration};

use pbx_core::notify::{Gather, Item, Topic};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    task::JoinSet,
    time::sleep,
};

use super::follow::ended;
use crate::{
    notify::Target,
    ops::{Delivery, Message, Operations},
    store::{Event, EventKind},
};

/// How fast digests are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Pauses between the attempts to deliver one: one attempt more than pauses.
    pauses: &'static [Duration],
    /// How often somebody looks whether one is due, while something waits: the clock may have been set.
    look: Duration,
}

/// As the daemon does it.
pub(super) const PACE: Pace = Pace {
    pauses: &[Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(900)],
    look: Duration::from_secs(1),
};

/// What waits for a receiver.
struct Line {
    target: Target,
    gather: Gather,
    sending: bool,
}

/// Goes on until the daemon ends; what was not told then is in the event log.
pub(super) async fn tell(operations: Operations, pace: Pace, mut ending: watch::Receiver<bool>) {
    let mut events = operations.follow();
    let mut lines: Vec<Line> = Vec::new();
    let mut sending: JoinSet<(Target, Message, Delivery)> = JoinSet::new();
    follow_receivers(&operations, &mut lines).await;
    loop {
        for line in &mut lines {
            send_if_due(&operations, line, pace.pauses, &mut sending);
        }
        let waits = lines.iter().any(|line| !line.sending && line.gather.is_waiting());
        tokio::select! {
            () = ended(&mut ending) => return,
            event = events.recv() => match event {
                Ok(event) => gather(&operations, &mut lines, &event),
                Err(RecvError::Lagged(lost)) => {
                    lines.iter_mut().for_each(|line| line.gather.missed(operations.now(), lost));
                }
                Err(RecvError::Closed) => return,
            },
            () = operations.notify_changed() => follow_receivers(&operations, &mut lines).await,
            Some(done) = sending.join_next() => {
                let Ok((target, message, delivery)) = done else { continue };
                let Some(line) = lines.iter_mut().find(|line| line.target == target) else { continue };
                line.sending = false;
                if delivery == Delivery::Failed {
                    line.gather.undelivered(operations.now(), &message.digest);
                }
            }
            () = sleep(pace.look), if waits => {}
        }
    }
}

/// Makes the lines those of the receivers that are on.
async fn follow_receivers(operations: &Operations, lines: &mut Vec<Line>) {
    let on = match operations.receivers_on().await {
        Ok(on) => on,
        Err(error) => return tracing::warn!(error = %error.message, "nobody knows who is to be told"),
    };
    lines.retain(|line| on.contains(&line.target));
    for target in on {
        if !lines.iter().any(|line| line.target == target) {
            lines.push(Line { target, gather: Gather::default(), sending: false });
        }
    }
}

fn gather(operations: &Operations, lines: &mut [Line], event: &Arc<Event>) {
    let Some(topic) = topic(event.kind).filter(|_| !lines.is_empty()) else { return };
    if !operations.current_settings().0.notify.about.contains(topic) {
        return;
    }
    let now = operations.now();
    for line in lines {
        let item = Item { topic, at: event.at, address: event.prefix, message: event.message.clone() };
        line.gather.add(now, item);
    }
}

fn send_if_due(
    operations: &Operations,
    line: &mut Line,
    pauses: &'static [Duration],
    sending: &mut JoinSet<(Target, Message, Delivery)>,
) {
    if line.sending {
        return;
    }
    let interval = operations.current_settings().0.notify.interval.get();
    let Some(digest) = line.gather.take(operations.now(), interval) else { return };
    let message = match operations.message(digest) {
        Ok(message) => message,
        Err(error) => return tracing::warn!(error = %error.message, "a digest is lost"),
    };
    line.sending = true;
    let (operations, target) = (operations.clone(), line.target);
    sending.spawn(async move {
        let delivery = deliver(&operations, target, &message, pauses).await;
        (target, message, delivery)
    });
}

async fn deliver(operations: &Operations, target: Target, message: &Message, pauses: &[Duration]) -> Delivery {
    let mut attempt = 1;
    loop {
        let pause = pauses.get(attempt as usize - 1);
        let delivery = operations.deliver(target, message, attempt, pause.is_none()).await;
        match (&delivery, pause) {
            (Delivery::Failed, Some(pause)) => sleep(*pause).await,
            _ => return delivery,
        }
        attempt += 1;
    }
}

/// What an event is about, as far as anybody is told of it.
const fn topic(kind: EventKind) -> Option<Topic> {
    match kind {
        EventKind::Block => Some(Topic::Block),
        EventKind::Unblock => Some(Topic::Unblock),
        EventKind::Guard => Some(Topic::Flood),
        EventKind::Feeds => Some(Topic::Feed),
        EventKind::Certificate => Some(Topic::Certificate),
        EventKind::Disk => Some(Topic::Disk),
        EventKind::Interface
        | EventKind::Rules
        | EventKind::Settings
        | EventKind::Accounts
        | EventKind::Transports
        | EventKind::Registrations
        | EventKind::Calls
        | EventKind::Notify
        | EventKind::Daemon => None,
    }
}

#[cfg(test)]
mod tests;
