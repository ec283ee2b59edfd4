//! Packets of the running second: per source in a set-associative table, and in single window words.
//!
//! A slot's state word holds the window's start and the count; the window starts with the source's first
//! packet. A slot is taken over by turning its state busy before the key changes, under a new generation:
//! a count goes in by compare-exchange against the state that was read before the key, so that no packet is
//! ever counted for a neighbour in the table.

use crate::{
    abi::{Source, guard, rate::*},
    hash,
    tables::Tables,
    word,
};

/// How often a count is tried against other CPUs that count the same source.
const TRIES: usize = 8;

#[inline(always)]
const fn unit(now: u64) -> u64 {
    (now >> UNIT_SHIFT) & START
}

/// Whether a window that began at `start` is over. A start slightly in the future (another CPU's newer
/// reading of the coarse clock) is not.
#[inline(always)]
const fn over(start: u64, now: u64) -> bool {
    let age = now.wrapping_sub(start) & START;
    let ahead = start.wrapping_sub(now) & START;
    age >= SECOND && ahead >= SECOND
}

/// The count of a state word within its running window; 0 when the window is over.
pub const fn current(state: u64, now: u64) -> u64 {
    let count = state & COUNT;
    if count == BUSY || over((state >> START_SHIFT) & START, unit(now)) { 0 } else { count }
}

/// A slot of `RATE` as a reader outside the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Whose it is.
    pub source: Source,
    /// [`LEVELS`], [`TCP`], [`FRAGMENTS`].
    pub kind: u64,
    /// Packets in its window.
    pub count: u64,
    /// Monotonic start of the window (ns).
    pub start: u64,
    /// The word of its state.
    pub word: usize,
}

/// Whether a set has keys of two words.
const fn has_wide_keys(set: usize) -> bool {
    set >= 1 << SET_BITS
}

/// The state words of the slots of a set.
pub fn slots(set: u32) -> impl Iterator<Item = usize> {
    let set = set as usize;
    let (slots, words) = if has_wide_keys(set) { (WIDE_SLOTS, WIDE_SLOT_WORDS) } else { (SLOTS, SLOT_WORDS) };
    (0..slots).map(move |i| set * SET_WORDS + i * words)
}

/// Reads the slot whose state is at `word` of the table that `load` reads; `None`: free, or changing hands.
pub fn slot(word: usize, load: impl Fn(usize) -> u64) -> Option<Slot> {
    let state = load(word);
    let count = state & COUNT;
    if count == 0 || count == BUSY {
        return None;
    }
    let (kind, key) = (state >> KIND_SHIFT, load(word + 1));
    let source = if has_wide_keys(word / SET_WORDS) {
        Source { hi: key, lo: load(word + 2) }
    } else if kind & NETWORK != 0 {
        Source { hi: key, lo: 0 }
    } else {
        Source { hi: 0, lo: key }
    };
    let start = ((state >> START_SHIFT) & START) << UNIT_SHIFT;
    Some(Slot { source, kind: kind & KINDS, count, start, word })
}

/// Counts a packet; 0: it could not be counted (the slot changed hands, or all slots were being taken).
#[inline(always)]
pub fn count<T: Tables>(t: &T, hi: u64, lo: u64, kind: u64, now: u64, limit_new: u64) -> u64 {
    let Some(set) = t.rate(hash::rate(hi, lo, kind, t.seed())) else { return 0 };
    if is_wide(hi, lo) {
        return count_in::<T, WIDE_SLOTS, WIDE_SLOT_WORDS>(t, set, [hi, lo], kind, now, limit_new);
    }
    let (key, kind) = narrow(hi, lo, kind);
    count_in::<T, SLOTS, SLOT_WORDS>(t, set, [key, 0], kind, now, limit_new)
}

/// Whether a slot of `WORDS` words has this key.
///
/// # Safety
/// `slot` is the first word of such a slot.
#[inline(always)]
unsafe fn has_key<const WORDS: usize>(slot: *mut u64, key: [u64; 2]) -> bool {
    // SAFETY: the caller's promise.
    unsafe { word::load(slot.add(1)) == key[0] && (WORDS == SLOT_WORDS || word::load(slot.add(2)) == key[1]) }
}

/// Counts in a set of `SLOTS` slots of `WORDS` words.
#[inline(always)]
fn count_in<T: Tables, const SLOTS: usize, const WORDS: usize>(
    t: &T,
    set: *mut u64,
    key: [u64; 2],
    kind: u64,
    now: u64,
    limit_new: u64,
) -> u64 {
    let unit = unit(now);
    // A slot that another CPU took for the same source meanwhile is found in a second round.
    let mut round = 0;
    while round < 2 {
        let mut found = SLOTS;
        let mut victim = 0usize;
        let mut chosen = 0;
        let mut best = u64::MAX;
        let mut i = 0;
        while i < SLOTS {
            // SAFETY: a set has SLOTS × WORDS words, and `i` is below SLOTS.
            let slot = unsafe { set.add(i * WORDS) };
            // SAFETY: as above. The state is read before the key.
            let (state, same) = unsafe { (word::load(slot), has_key::<WORDS>(slot, key)) };
            let count = state & COUNT;
            if same && state >> KIND_SHIFT == kind && count != 0 && count != BUSY {
                found = i;
                chosen = state;
                break;
            }
            // Free or over: best. Else the fewest packets; among equals another slot at another time.
            let worth = if count == BUSY {
                u64::MAX
            } else if count == 0 {
                0
            } else if over((state >> START_SHIFT) & START, unit) {
                1
            } else {
                count << 3 | ((i as u64 ^ (now >> 22)) & 7)
            };
            if worth < best {
                best = worth;
                victim = i;
                chosen = state;
            }
            i += 1;
        }
        if found < SLOTS {
            // SAFETY: `found` is below SLOTS.
            let slot = unsafe { set.add(found * WORDS) };
            let counted = bump(slot, chosen, unit);
            // A machine that reorders loads may have read the key before the state: it is read again.
            // SAFETY: as above.
            if counted != 0 && unsafe { has_key::<WORDS>(slot, key) } {
                return counted;
            }
            round += 1;
            continue;
        }
        if best == u64::MAX || victim >= SLOTS {
            return 0;
        }
        // SAFETY: `victim` is below SLOTS.
        let slot = unsafe { set.add(victim * WORDS) };
        if take::<WORDS>(slot, chosen, key, kind, unit) {
            new_source(t, now, limit_new);
            return 1;
        }
        round += 1;
    }
    0
}

/// Counts in a slot whose state was `state` when its key was read; 0: it changed hands.
#[inline(always)]
fn bump(slot: *mut u64, mut state: u64, unit: u64) -> u64 {
    let mut i = 0;
    while i < TRIES {
        let count = state & COUNT;
        let new = if over((state >> START_SHIFT) & START, unit) {
            state & OWNER | unit << START_SHIFT | 1
        } else if count >= FULL {
            return FULL;
        } else {
            state + 1
        };
        // SAFETY: `slot` is the first word of a slot.
        let seen = unsafe { word::compare_exchange(slot, state, new) };
        if seen == state {
            return new & COUNT;
        }
        if (seen ^ state) & OWNER != 0 || seen & COUNT == BUSY {
            return 0;
        }
        state = seen;
        i += 1;
    }
    // Other CPUs counted eight packets of this source meanwhile: judge by their count.
    state & COUNT
}

/// Takes a slot over: busy, key, first count.
#[inline(always)]
fn take<const WORDS: usize>(slot: *mut u64, was: u64, key: [u64; 2], kind: u64, unit: u64) -> bool {
    let generation = ((was >> GENERATION_SHIFT) + 1) & 15;
    let owner = kind << KIND_SHIFT | generation << GENERATION_SHIFT;
    let busy = owner | BUSY;
    // SAFETY: `slot` is the first word of a slot; while it is busy nobody else writes it.
    unsafe {
        if word::compare_exchange(slot, was, busy) != was {
            return false;
        }
        word::store(slot.add(1), key[0]);
        if WORDS != SLOT_WORDS {
            word::store(slot.add(2), key[1]);
        }
        // An exchange, because it is a barrier as well: the key is seen before the count.
        word::compare_exchange(slot, busy, owner | unit << START_SHIFT | 1);
    }
    true
}

/// A window word with a wider count (26 bits) and no owner: budgets of known sources, new sources.
pub mod wide {
    use super::{START, over, unit, word};
    const COUNT: u64 = (1 << 26) - 1;
    const SHIFT: u32 = 26;

    /// Adds `n` to the running second; gives its count.
    #[inline(always)]
    pub(crate) fn add(window: *mut u64, n: u64, now: u64) -> u64 {
        let unit = unit(now);
        // SAFETY: `window` is a word of a table.
        let mut state = unsafe { word::load(window) };
        let mut i = 0;
        while i < super::TRIES {
            let count = state & COUNT;
            let new = if count == 0 || over((state >> SHIFT) & START, unit) {
                unit << SHIFT | n
            } else if count + n > COUNT {
                return COUNT;
            } else {
                state + n
            };
            // SAFETY: as above.
            let seen = unsafe { word::compare_exchange(window, state, new) };
            if seen == state {
                return new & COUNT;
            }
            state = seen;
            i += 1;
        }
        state & COUNT
    }

    /// The count of the running second.
    pub const fn current(state: u64, now: u64) -> u64 {
        if over((state >> SHIFT) & START, unit(now)) { 0 } else { state & COUNT }
    }
}

/// A source got a slot: count it, and raise the alarm over too many of them.
#[inline(always)]
fn new_source<T: Tables>(t: &T, now: u64, limit: u64) {
    let Some(pending) = t.pending() else { return };
    // SAFETY: this CPU's own word.
    unsafe {
        let n = word::load(pending) + 1;
        if n < guard::BATCH {
            word::store(pending, n);
            return;
        }
        word::store(pending, 0);
    }
    let Some(state) = t.guard() else { return };
    let n = wide::add(state, guard::BATCH, now);
    if n * 2 < limit {
        return;
    }
    // SAFETY: `GUARD` has four words.
    unsafe {
        word::store(state.add(2), now);
        if n > limit && word::load(state.add(1)) == 0 && word::compare_exchange(state.add(1), 0, 1) == 0 {
            t.event(&alarm(crate::abi::events::Kind::GuardOn, n, now));
        }
    }
}

/// Whether no new blocks may be made now. Ends the alarm when it has been calm for long enough.
#[inline(always)]
pub fn guard_is_on<T: Tables>(t: &T, now: u64) -> bool {
    let Some(state) = t.guard() else { return false };
    // SAFETY: `GUARD` has four words.
    unsafe {
        if word::load(state.add(1)) == 0 {
            return false;
        }
        if now.saturating_sub(word::load(state.add(2))) < guard::CALM {
            return true;
        }
        if word::compare_exchange(state.add(1), 1, 0) == 1 {
            t.event(&alarm(crate::abi::events::Kind::GuardOff, 0, now));
        }
    }
    false
}

#[inline(always)]
pub(crate) fn alarm(kind: crate::abi::events::Kind, count: u64, now: u64) -> crate::abi::events::Event {
    crate::abi::events::Event {
        time: now,
        hi: 0,
        lo: 0,
        expires: 0,
        kind: kind as u32,
        level: 0,
        count: count as u32,
        ifindex: 0,
    }
}
