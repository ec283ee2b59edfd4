//! Deadlines in order: of transactions, registrations, keep-alives. Set, moved and cancelled in O(log n), and what is
//! cancelled is gone at once, so memory is that of the most timers ever set at the same time. Reads no clock.
//!
//! A heap with four children a node, whose entries know their timer and whose timers know their entry.

use crate::{
    moment::Moment,
    slab::{Slab, SlotKey},
};

/// Names a timer that was set. It names nothing any more once that timer was due or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey(SlotKey);

/// Timers that each carry a `T`, the earliest first. The order of equal deadlines is not defined, but always the same.
#[derive(Debug)]
pub struct Timers<T> {
    heap: Vec<Entry>,
    timers: Slab<Timer<T>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Moment,
    key: SlotKey,
}

#[derive(Debug)]
struct Timer<T> {
    position: usize,
    value: T,
}

const CHILDREN: usize = 4;

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Timers<T> {
    /// None set.
    pub const fn new() -> Self {
        Self { heap: Vec::new(), timers: Slab::new() }
    }

    /// How many are set.
    pub const fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none is set.
    pub const fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Moment> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Sets a timer that is due at `at`, which may have passed already.
    pub fn set(&mut self, at: Moment, value: T) -> TimerKey {
        let position = self.heap.len();
        let key = self.timers.insert(Timer { position, value });
        self.heap.push(Entry { at, key });
        self.rise(position);
        TimerKey(key)
    }

    /// Moves a timer to `at`; false if it is not set any more.
    pub fn reset(&mut self, key: TimerKey, at: Moment) -> bool {
        let Some(position) = self.timers.get(key.0).map(|timer| timer.position) else { return false };
        self.heap[position].at = at;
        self.settle(position);
        true
    }

    /// Takes a timer back, with what it carried; `None` if it is not set any more.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let Timer { position, value } = self.timers.remove(key.0)?;
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            self.settle(position);
        }
        Some(value)
    }

    /// Takes the earliest timer if it is due at `now`: its deadline, which is `now` or before, and what it carried.
    pub fn pop_due(&mut self, now: Moment) -> Option<(Moment, T)> {
        let Entry { at, key } = *self.heap.first().filter(|entry| entry.at <= now)?;
        self.cancel(TimerKey(key)).map(|value| (at, value))
    }

    /// Puts an entry whose deadline or place has changed where it belongs.
    fn settle(&mut self, position: usize) {
        let position = self.rise(position);
        self.sink(position);
    }

    fn rise(&mut self, mut position: usize) -> usize {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if self.heap[parent].at <= entry.at {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, entry);
        position
    }

    fn sink(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let first = position * CHILDREN + 1;
            let children = first.min(self.heap.len())..(first + CHILDREN).min(self.heap.len());
            let Some(earliest) = children.min_by_key(|&child| self.heap[child].at) else { break };
            if self.heap[earliest].at >= entry.at {
                break;
            }
            self.place(position, self.heap[earliest]);
            position = earliest;
        }
        self.place(position, entry);
    }

    fn place(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        if let Some(timer) = self.timers.get_mut(entry.key) {
            timer.position = position;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_timer_is_due_at_its_deadline_and_not_a_microsecond_before() {
        let mut timers = Timers::new();
        timers.set(at(5), 'a');
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop_due(Moment::from_micros(4999)), None);
        assert_eq!(timers.pop_due(at(5)), Some((at(5), 'a')));
        assert_eq!((timers.pop_due(Moment::NEVER), timers.next(), timers.is_empty()), (None, None, true));
    }

    #[test]
    fn a_cancelled_timer_leaves_nothing_behind() {
        let mut timers = Timers::new();
        for round in 0..1000 {
            let key = timers.set(at(round), round);
            assert_eq!((timers.cancel(key), timers.cancel(key), timers.len()), (Some(round), None, 0));
            assert!(!timers.reset(key, at(0)));
        }
        assert!(timers.heap.capacity() < 10);
    }

    #[test]
    fn a_timer_can_be_moved_both_ways() {
        let mut timers = Timers::new();
        let keys: Vec<_> = (0..10).map(|number| timers.set(at(number * 10), number)).collect();
        assert!(timers.reset(keys[9], at(0)) && timers.reset(keys[0], at(1000)) && timers.reset(keys[5], at(5)));
        let order: Vec<_> = std::iter::from_fn(|| timers.pop_due(Moment::NEVER)).map(|(_, number)| number).collect();
        assert_eq!(order, [9, 5, 1, 2, 3, 4, 6, 7, 8, 0]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64),
        Reset(usize, u64),
        Cancel(usize),
        Pop(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..50u64).prop_map(Step::Set),
            1 => (any::<usize>(), 0..50u64).prop_map(|(which, millis)| Step::Reset(which, millis)),
            1 => any::<usize>().prop_map(Step::Cancel),
            1 => (0..50u64).prop_map(Step::Pop),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn the_queue_agrees_with_a_list_that_is_searched(steps in steps()) {
            let mut timers = Timers::new();
            let mut keys: Vec<TimerKey> = Vec::new();
            let mut list: Vec<Option<Moment>> = Vec::new();
            for step in steps {
                match step {
                    Step::Set(millis) => {
                        keys.push(timers.set(at(millis), keys.len()));
                        list.push(Some(at(millis)));
                    }
                    Step::Reset(which, millis) if !keys.is_empty() => {
                        let which = which % keys.len();
                        prop_assert_eq!(timers.reset(keys[which], at(millis)), list[which].is_some());
                        list[which] = list[which].map(|_| at(millis));
                    }
                    Step::Cancel(which) if !keys.is_empty() => {
                        let which = which % keys.len();
                        prop_assert_eq!(timers.cancel(keys[which]), list[which].take().map(|_| which));
                    }
                    Step::Pop(millis) => match timers.pop_due(at(millis)) {
                        Some((due, which)) => prop_assert_eq!(list[which].take(), Some(due)),
                        None => prop_assert!(list.iter().flatten().all(|due| *due > at(millis))),
                    },
                    Step::Reset(..) | Step::Cancel(..) => {}
                }
                prop_assert_eq!(timers.next(), list.iter().flatten().min().copied());
                prop_assert_eq!(timers.len(), list.iter().flatten().count());
            }
        }
    }
}
