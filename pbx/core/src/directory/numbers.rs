//! The table from a tenant's numbers to extensions. Made once and only asked after that.
//!
//! Open addressing over slots that are at most half taken; the records stand in the order of the slots. An empty slot
//! names a record too: the next one. So a question reads the same lines of memory at a place that the hash alone says,
//! whether there is an answer or not, and a scan of numbers in their order is at no advantage with those that exist.

use std::{hint::black_box, sync::Arc};

use super::{Account, Extension, TenantId};

/// The table.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// A power of two of them, or none.
    slots: Vec<Slot>,
    records: Vec<Record>,
}

/// The record that stands here, or the next one if none does.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The half of the hash that did not lead here.
    tag: u32,
    /// The place of the record, and [`EMPTY`].
    place: u32,
}

const EMPTY: u32 = 1 << 31;

#[derive(Clone, Debug)]
struct Record {
    tenant: TenantId,
    number: Short,
    account: Account,
    extension: Arc<Extension>,
}

/// The beginning of a number, and how long it is; the whole of most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Short {
    len: u8,
    digits: [u8; Short::LEN],
}

impl Numbers {
    /// The table of these; of two with the same tenant and number, one.
    pub(super) fn new<'a>(extensions: impl ExactSizeIterator<Item = &'a Arc<Extension>>) -> Self {
        if extensions.len() == 0 {
            return Self::default();
        }
        let mut taken = vec![None; (2 * extensions.len()).next_power_of_two()];
        let mask = taken.len() - 1;
        for extension in extensions {
            let hash = hash(extension.tenant, extension.number.as_bytes());
            let mut at = hash as usize & mask;
            while taken[at].is_some() {
                at = (at + 1) & mask;
            }
            taken[at] = Some((tag(hash), extension));
        }
        let records: Vec<_> = taken.iter().flatten().map(|(_, extension)| Record::of(extension)).collect();
        let mut place = 0;
        let slot = |taken: Option<(u32, _)>| match taken {
            Some((tag, _)) => {
                place += 1;
                Slot { tag, place: place - 1 }
            }
            None => Slot { tag: 0, place: EMPTY | (place % records.len() as u32) },
        };
        Self { slots: taken.into_iter().map(slot).collect(), records }
    }

    /// The extension of this number.
    pub(super) fn extension(&self, tenant: TenantId, number: &[u8]) -> Option<&Arc<Extension>> {
        self.find(tenant, number).filter(|(_, is_it)| *is_it).map(|(record, _)| &record.extension)
    }

    /// The account of this number and `true`, or another one and `false`; `None` of an empty table.
    pub(super) fn account(&self, tenant: TenantId, number: &[u8]) -> Option<(&Account, bool)> {
        self.find(tenant, number).map(|(record, is_it)| (&record.account, is_it))
    }

    fn find(&self, tenant: TenantId, number: &[u8]) -> Option<(&Record, bool)> {
        let hash = hash(tenant, number);
        let mut at = hash as usize;
        loop {
            let slot = self.slots.get(at & self.slots.len().checked_sub(1)?)?;
            if slot.place & EMPTY != 0 || slot.tag == tag(hash) {
                let record = self.records.get((slot.place & !EMPTY) as usize)?;
                let is_it = black_box(record.is(tenant, number)) & (slot.place & EMPTY == 0);
                if is_it || slot.place & EMPTY != 0 {
                    return Some((record, is_it));
                }
            }
            at = at.wrapping_add(1);
        }
    }
}

impl Record {
    fn of(extension: &Arc<Extension>) -> Self {
        let Extension { id, tenant, enabled, .. } = **extension;
        let account = Account { id, enabled, ha1: extension.ha1.clone() };
        Self { tenant, number: Short::of(extension.number.as_bytes()), account, extension: Arc::clone(extension) }
    }

    /// Follows the pointer for long numbers only, and then whether the rest fits or not.
    fn is(&self, tenant: TenantId, number: &[u8]) -> bool {
        let whole = number.len() <= Short::LEN || self.extension.number.as_bytes() == number;
        whole & (self.number == Short::of(number)) & (self.tenant == tenant)
    }
}

impl Short {
    const LEN: usize = 15;

    fn of(number: &[u8]) -> Self {
        let mut digits = [0; Self::LEN];
        let len = number.len().min(Self::LEN);
        digits[..len].copy_from_slice(&number[..len]);
        Self { len: u8::try_from(number.len()).unwrap_or(u8::MAX), digits }
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
    let start = mix(u64::from(tenant.0), number.len() as u64);
    let hash = words.iter().fold(start, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(hash, u64::from_le_bytes(last)), FACTOR)
}
