//! The table from a tenant's numbers to extensions. Made once and only asked after that: open addressing over a table
//! that is at most half full, so that a question reads one or two lines of it, whether there is an answer or not.

use std::{hint::black_box, sync::Arc};

use super::{Extension, TenantId};

/// The table.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    extensions: Vec<Arc<Extension>>,
    /// A power of two of them.
    slots: Vec<Slot>,
}

/// Where an extension stands, and the half of its hash that did not lead here.
#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    place: u32,
}

const EMPTY: Slot = Slot { tag: 0, place: u32::MAX };

impl Numbers {
    /// The table of these; of two with the same tenant and number, the later.
    pub(super) fn new(extensions: impl Iterator<Item = Arc<Extension>>) -> Self {
        let extensions: Vec<_> = extensions.collect();
        if extensions.is_empty() {
            return Self::default();
        }
        let slots = vec![EMPTY; (2 * extensions.len()).next_power_of_two()];
        let mut numbers = Self { extensions, slots };
        for place in 0..numbers.extensions.len() {
            let extension = &numbers.extensions[place];
            let hash = hash(extension.tenant, extension.number.as_bytes());
            let at = numbers.slot_of(hash, extension.tenant, extension.number.as_bytes());
            numbers.slots[at] = Slot { tag: tag(hash), place: place as u32 };
        }
        numbers
    }

    /// The extension and `true`, or another one and `false`; `None` of an empty table.
    pub(super) fn find(&self, tenant: TenantId, number: &[u8]) -> Option<(&Arc<Extension>, bool)> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = hash(tenant, number);
        let slot = self.slots[self.slot_of(hash, tenant, number)];
        let is_it = slot.place != EMPTY.place;
        let other = (u64::from(tag(hash)) * self.extensions.len() as u64) >> 32;
        let extension = &self.extensions[if is_it { slot.place as usize } else { other as usize }];
        // Reads the other one's number too, as finding the right one did.
        black_box(extension.number.as_bytes() == number);
        Some((extension, is_it))
    }

    /// The slot of this number, or the empty one where it would stand.
    fn slot_of(&self, hash: u64, tenant: TenantId, number: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            let is_it = || {
                let extension = &self.extensions[slot.place as usize];
                extension.tenant == tenant && extension.number.as_bytes() == number
            };
            if slot.place == EMPTY.place || (slot.tag == tag(hash) && is_it()) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Mixes eight bytes at a time; no outsider chooses what is in the table.
fn hash(tenant: TenantId, number: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(FACTOR);
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = number.as_chunks();
    let hash = words
        .iter()
        .fold(mix(u64::from(tenant.0), number.len() as u64), |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(hash, u64::from_le_bytes(last)), FACTOR)
}
