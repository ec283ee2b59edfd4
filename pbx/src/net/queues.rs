//! The three queues between the receive workers and the core thread: bounded in items and bytes, lock-free, by class of
//! what waits in them. The one consumer takes what is in a dialog first, then known sources, of which some have their
//! turn in every round, then unknown ones, and of these only so many a round. Waking it costs a system call only when it sleeps.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::{self, Thread},
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use pbx_core::moment::Moment;

pub use pbx_core::gate::Class;

/// The limits of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Items that each holds at most, by [`Class::ALL`].
    pub capacity: [usize; 3],
    /// What these may weigh together (bytes), by [`Class::ALL`].
    pub bytes: [usize; 3],
    /// What one round takes at most of all classes together.
    pub round: usize,
    /// How many of a round are kept for known sources if so many wait.
    pub known: usize,
    /// What one round takes at most from unknown sources.
    pub unknown: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { capacity: [8192, 8192, 4096], bytes: [32 << 20, 32 << 20, 8 << 20], round: 256, known: 64, unknown: 32 }
    }
}

/// The queues. Shared by the workers, who push, and the one thread that drains them.
#[derive(Debug)]
pub struct Queues<T> {
    lanes: [Lane<T>; 3],
    limits: Limits,
    sleeps: AtomicBool,
    woken: AtomicBool,
    consumer: OnceLock<Thread>,
}

#[derive(Debug)]
struct Lane<T> {
    queue: ArrayQueue<Entry<T>>,
    limit: usize,
    /// What the items that wait weigh, and those that are just being pushed.
    bytes: AtomicUsize,
    /// When the first one that waits came, or the one before it.
    head: AtomicU64,
}

#[derive(Debug)]
struct Entry<T> {
    since: Moment,
    weight: usize,
    item: T,
}

impl<T> Queues<T> {
    /// Empty queues. Panics if a capacity or the quota is 0, or the share of known sources is a whole round.
    pub fn new(limits: Limits) -> Self {
        assert!(limits.round > 0 && limits.unknown > 0, "a round that takes nothing would never end");
        assert!(limits.known < limits.round, "what is in a dialog would never be served");
        let lane = |class| Lane {
            queue: ArrayQueue::new(limits.capacity[class as usize]),
            limit: limits.bytes[class as usize],
            bytes: AtomicUsize::new(0),
            head: AtomicU64::new(0),
        };
        Self {
            lanes: Class::ALL.map(lane),
            limits,
            sleeps: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            consumer: OnceLock::new(),
        }
    }

    /// Queues an item that takes `weight` bytes of memory and wakes the consumer. A queue that has too many items, or
    /// too heavy ones, gives it back.
    pub fn push(&self, class: Class, item: T, weight: usize, now: Moment) -> Result<(), T> {
        let lane = &self.lanes[class as usize];
        // Taken before the item is in, so that several at once stay below the limit.
        if lane.bytes.fetch_add(weight, Ordering::Relaxed) + weight > lane.limit {
            lane.bytes.fetch_sub(weight, Ordering::Relaxed);
            return Err(item);
        }
        if lane.queue.is_empty() {
            lane.head.store(now.as_micros(), Ordering::Relaxed);
        }
        if let Err(entry) = lane.queue.push(Entry { since: now, weight, item }) {
            lane.bytes.fetch_sub(weight, Ordering::Relaxed);
            return Err(entry.item);
        }
        self.rouse();
        Ok(())
    }

    /// Makes [`wait`](Self::wait) return, now or when it is called next: something else than an item came.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// One round: hands over what waits, in the order of the classes, and says how many there were. Only the consumer
    /// calls it.
    pub fn drain(&self, mut take: impl FnMut(Class, Moment, T)) -> usize {
        let mut taken = 0;
        for class in Class::ALL {
            let lane = &self.lanes[class as usize];
            // Something is always left of a round for those behind, or a flood of the others would silence them.
            let quota = match class {
                Class::InDialog => self.limits.round - self.limits.known.min(self.len(Class::Known)),
                Class::Known => self.limits.round.saturating_sub(taken),
                Class::Unknown => self.limits.unknown,
            };
            for _ in 0..quota {
                let Some(Entry { since, weight, item }) = lane.queue.pop() else { break };
                lane.bytes.fetch_sub(weight, Ordering::Relaxed);
                lane.head.store(since.as_micros(), Ordering::Relaxed);
                taken += 1;
                take(class, since, item);
            }
        }
        taken
    }

    /// Sleeps until there is something to drain, [`wake`](Self::wake) was called or the time is over. Only the
    /// consumer calls it, always from the same thread.
    pub fn wait(&self, at_most: Option<Duration>) {
        self.consumer.get_or_init(thread::current);
        self.sleeps.store(true, Ordering::SeqCst);
        // Against the fence in `rouse`: either this sees the item, or the one who pushed it sees the sleeper.
        fence(Ordering::SeqCst);
        if self.is_empty() && !self.woken.load(Ordering::SeqCst) {
            match at_most {
                Some(span) => thread::park_timeout(span),
                None => thread::park(),
            }
        }
        self.sleeps.store(false, Ordering::SeqCst);
        // Read, not only written: what was done before `wake` is seen by whoever looks now.
        self.woken.swap(false, Ordering::SeqCst);
    }

    /// How long the oldest item of this class has waited; zero if none does. Never too short; too long by at most the
    /// time that the item before it had waited.
    pub fn waited(&self, class: Class, now: Moment) -> Duration {
        let lane = &self.lanes[class as usize];
        if lane.queue.is_empty() {
            return Duration::ZERO;
        }
        now.since(Moment::from_micros(lane.head.load(Ordering::Relaxed)))
    }

    /// The longest that any item has waited.
    pub fn longest_wait(&self, now: Moment) -> Duration {
        Class::ALL.into_iter().map(|class| self.waited(class, now)).max().unwrap_or_default()
    }

    /// How many items of this class wait.
    pub fn len(&self, class: Class) -> usize {
        self.lanes[class as usize].queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.queue.is_empty())
    }

    /// What the queue of this class holds at most.
    pub fn capacity(&self, class: Class) -> usize {
        self.lanes[class as usize].queue.capacity()
    }

    /// What the items of this class that wait weigh (bytes).
    pub fn bytes(&self, class: Class) -> usize {
        self.lanes[class as usize].bytes.load(Ordering::Relaxed)
    }

    fn rouse(&self) {
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::SeqCst)
            && self.sleeps.swap(false, Ordering::SeqCst)
            && let Some(consumer) = self.consumer.get()
        {
            consumer.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn small() -> Queues<u32> {
        Queues::new(Limits { capacity: [4, 4, 8], bytes: [100; 3], round: 4, known: 1, unknown: 2 })
    }

    #[test]
    fn what_is_in_a_dialog_is_served_first_and_unknown_sources_have_a_quota() {
        let queues = small();
        for item in 0..4 {
            queues.push(Class::Unknown, 20 + item, 1, at(0)).unwrap();
        }
        queues.push(Class::Known, 10, 1, at(0)).unwrap();
        queues.push(Class::InDialog, 1, 1, at(0)).unwrap();
        let mut served = Vec::new();
        assert_eq!(queues.drain(|class, _, item| served.push((class, item))), 4);
        assert_eq!(served, [(Class::InDialog, 1), (Class::Known, 10), (Class::Unknown, 20), (Class::Unknown, 21)]);
        assert_eq!(queues.drain(|_, _, _| ()), 2);
    }

    #[test]
    fn a_flood_from_known_sources_does_not_silence_unknown_ones() {
        let queues = small();
        for item in 0..4 {
            queues.push(Class::InDialog, item, 1, at(0)).unwrap();
            queues.push(Class::Known, item, 1, at(0)).unwrap();
            queues.push(Class::Unknown, item, 1, at(0)).unwrap();
        }
        let mut unknown = 0;
        queues.drain(|class, _, _| unknown += u32::from(class == Class::Unknown));
        assert_eq!(unknown, 2);
    }

    #[test]
    fn a_full_queue_gives_back_what_finds_no_place_and_the_others_go_on() {
        let queues = small();
        for item in 0..4 {
            queues.push(Class::Known, item, 1, at(0)).unwrap();
        }
        assert_eq!(queues.push(Class::Known, 4, 1, at(0)), Err(4));
        assert_eq!(queues.push(Class::InDialog, 5, 1, at(0)), Ok(()));
        assert_eq!(
            (queues.len(Class::Known), queues.bytes(Class::Known)),
            (4, 4),
            "what found no place weighs nothing"
        );
    }

    #[test]
    fn a_queue_takes_no_more_bytes_than_it_may() {
        let queues = small();
        queues.push(Class::Known, 1, 60, at(0)).unwrap();
        assert_eq!(queues.push(Class::Known, 2, 41, at(0)), Err(2));
        queues.push(Class::Known, 3, 40, at(0)).unwrap();
        queues.push(Class::Unknown, 4, 100, at(0)).unwrap();
        assert_eq!((queues.bytes(Class::Known), queues.bytes(Class::Unknown)), (100, 100));
        assert_eq!(queues.drain(|_, _, _| ()), 3);
        assert_eq!(Class::ALL.map(|class| queues.bytes(class)), [0; 3]);
        queues.push(Class::Known, 2, 41, at(0)).unwrap();
    }

    #[test]
    fn dialogs_leave_known_sources_their_share_of_a_round() {
        let queues = small();
        for item in 0..4 {
            queues.push(Class::InDialog, item, 1, at(0)).unwrap();
        }
        queues.push(Class::Known, 10, 1, at(0)).unwrap();
        let mut served = Vec::new();
        queues.drain(|class, _, _| served.push(class));
        assert_eq!(served, [Class::InDialog, Class::InDialog, Class::InDialog, Class::Known]);
    }

    #[test]
    fn the_wait_of_the_oldest_item_is_known_and_ends_with_the_queue() {
        let queues = small();
        assert_eq!(queues.longest_wait(at(9000)), Duration::ZERO);
        queues.push(Class::Known, 1, 1, at(1000)).unwrap();
        queues.push(Class::Known, 2, 1, at(1100)).unwrap();
        assert_eq!(queues.waited(Class::Known, at(1200)), Duration::from_millis(200));
        queues.drain(|_, _, _| ());
        assert_eq!(queues.longest_wait(at(1300)), Duration::ZERO);
        queues.push(Class::Known, 3, 1, at(5000)).unwrap();
        assert_eq!(queues.longest_wait(at(5010)), Duration::from_millis(10), "an old head is forgotten");
    }

    #[test]
    fn nothing_is_lost_between_many_pushers_and_a_consumer_that_sleeps() {
        const EACH: u32 = 20_000;
        let queues =
            Arc::new(Queues::new(Limits { capacity: [64; 3], bytes: [64; 3], round: 16, known: 4, unknown: 4 }));
        let pushers: Vec<_> = Class::ALL
            .into_iter()
            .map(|class| {
                let queues = Arc::clone(&queues);
                thread::spawn(move || {
                    for mut item in 0..EACH {
                        while let Err(back) = queues.push(class, item, 1, Moment::ZERO) {
                            item = back;
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; 3];
        let deadline = Instant::now() + Duration::from_secs(60);
        while next != [EACH; 3] {
            assert!(Instant::now() < deadline, "stuck at {next:?}");
            let taken = queues.drain(|class, _, item| {
                assert_eq!(item, next[class as usize], "in order");
                next[class as usize] += 1;
            });
            if taken == 0 {
                // Without a limit: a lost wake-up would hang here.
                if next != [EACH; 3] {
                    queues.wait(None);
                }
            }
        }
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
    }

    #[test]
    fn a_wake_up_before_the_sleep_is_not_lost() {
        let queues = small();
        queues.wake();
        queues.wait(None);
        let started = Instant::now();
        queues.wait(Some(Duration::from_millis(20)));
        assert!(started.elapsed() >= Duration::from_millis(20), "it counts once");
    }
}
