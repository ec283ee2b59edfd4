//! Numbered places for things that come and go. A key that has been given back finds nothing, even when its place is
//! taken again. As large as the most that were ever held at once, never larger.

/// Where something is, and which of the things that were ever there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SlotKey {
    index: u32,
    generation: u32,
}

impl SlotKey {
    /// Before all others.
    pub(crate) const FIRST: Self = Self { index: 0, generation: 0 };
    /// After all others.
    pub(crate) const LAST: Self = Self { index: u32::MAX, generation: u32::MAX };
}

/// The places. At most `u32::MAX` of them: who fills them has a limit far below that.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    held: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Held(T),
    Free { next: Option<u32> },
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: None, held: 0 }
    }

    /// Everything that is held, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match &slot.content {
            Content::Held(value) => Some(value),
            Content::Free { .. } => None,
        })
    }

    pub(crate) const fn len(&self) -> usize {
        self.held
    }

    pub(crate) fn insert(&mut self, value: T) -> SlotKey {
        self.held += 1;
        let Some(index) = self.free else {
            let index = u32::try_from(self.slots.len()).expect("whoever fills a slab keeps to a limit below 2^32");
            self.slots.push(Slot { generation: 0, content: Content::Held(value) });
            return SlotKey { index, generation: 0 };
        };
        let slot = &mut self.slots[index as usize];
        if let Content::Free { next } = slot.content {
            self.free = next;
        }
        slot.content = Content::Held(value);
        SlotKey { index, generation: slot.generation }
    }

    pub(crate) fn get(&self, key: SlotKey) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some(Slot { generation, content: Content::Held(value) }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: SlotKey) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some(Slot { generation, content: Content::Held(value) }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: SlotKey) -> Option<T> {
        self.get(key)?;
        let slot = &mut self.slots[key.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let content = std::mem::replace(&mut slot.content, Content::Free { next: self.free });
        self.free = Some(key.index);
        self.held -= 1;
        match content {
            Content::Held(value) => Some(value),
            Content::Free { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_given_back_finds_nothing_in_the_place_taken_again() {
        let mut slab = Slab::new();
        let (first, second) = (slab.insert("first"), slab.insert("second"));
        assert_eq!((slab.remove(first), slab.remove(first), slab.len()), (Some("first"), None, 1));
        let third = slab.insert("third");
        assert_eq!((slab.get(first), slab.get(second), slab.get(third)), (None, Some(&"second"), Some(&"third")));
        assert_eq!((slab.get_mut(first).is_none(), slab.len(), slab.slots.len()), (true, 2, 2));
    }

    #[test]
    fn places_are_taken_again_before_new_ones_are_made() {
        let mut slab = Slab::new();
        for round in 0..100 {
            let keys: Vec<_> = (0..10).map(|number| slab.insert(round * 10 + number)).collect();
            for key in keys {
                assert!(slab.remove(key).is_some());
            }
        }
        assert_eq!((slab.len(), slab.slots.len()), (0, 10));
    }
}
