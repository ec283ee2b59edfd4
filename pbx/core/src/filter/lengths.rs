//! Which lengths are worth asking: `LENGTHS4` by /16, `LENGTHS6` by hashed /32, and the short IPv6 lengths.

use std::collections::HashMap;

use pbx_ebpf::{
    abi::prefix::{ALL, SHORT},
    hash::{self, Seed},
};

use super::{
    Memory, Table,
    index::{Index, Key, is_special4, is_twin},
};

/// Codes, longest first, in `words` words; one list that is too long says so.
fn list(codes: &[u8], words: usize) -> [u64; 2] {
    let mut list = [0u64; 2];
    if codes.len() > words * 8 {
        list[0] = ALL;
        return list;
    }
    for (i, code) in codes.iter().enumerate() {
        list[i / 8] |= u64::from(*code) << (8 * (i % 8));
    }
    list
}

/// The list of a /16: the lengths of all its prefixes, if some of them have to be asked one by one.
pub(crate) fn of_16(index: &Index, sixteen: u32) -> u64 {
    if !index.any_special4() {
        return 0;
    }
    let (from, to) = (sixteen << 16, sixteen << 16 | 0xffff);
    let mut special = false;
    let mut codes = Vec::new();
    for len in (0..=32u8).rev() {
        let mask = if len == 0 { 0 } else { u32::MAX << (32 - u32::from(len)) };
        let mut any = false;
        for (key, deadlines) in index.within4(len, from & mask, to) {
            if len == 32 && !is_twin(&deadlines) {
                continue;
            }
            any = true;
            special |= is_special4(&key, &deadlines);
            if special {
                break;
            }
        }
        if any {
            codes.push(97 + len);
        }
    }
    if special { list(&codes, 1)[0] } else { 0 }
}

/// How many keys of each length lie in each bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lengths6 {
    counts: HashMap<(u32, u8), u32>,
    buckets: HashMap<u32, Vec<u8>>,
}

/// The bucket of short lengths.
const SHORT_BUCKET: u32 = u32::MAX;

impl Lengths6 {
    fn bucket(key: &Key, seed: Seed) -> u32 {
        if key.code > SHORT { hash::lengths6(key.hi(), seed) } else { SHORT_BUCKET }
    }
    /// Counts a key; the bucket whose list changed.
    pub(crate) fn add(&mut self, key: &Key, seed: Seed) -> Option<u32> {
        let bucket = Self::bucket(key, seed);
        let count = self.counts.entry((bucket, key.code)).or_default();
        *count += 1;
        if *count > 1 {
            return None;
        }
        let codes = self.buckets.entry(bucket).or_default();
        let at = codes.partition_point(|code| *code > key.code);
        codes.insert(at, key.code);
        Some(bucket)
    }
    /// Takes a key away; the bucket whose list changed.
    pub(crate) fn remove(&mut self, key: &Key, seed: Seed) -> Option<u32> {
        let bucket = Self::bucket(key, seed);
        let count = self.counts.get_mut(&(bucket, key.code))?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.counts.remove(&(bucket, key.code));
        let codes = self.buckets.get_mut(&bucket)?;
        codes.retain(|code| *code != key.code);
        if codes.is_empty() {
            self.buckets.remove(&bucket);
        }
        Some(bucket)
    }
    /// The words of a bucket's list.
    pub(crate) fn list(&self, bucket: u32) -> [u64; 2] {
        self.buckets.get(&bucket).map_or([0; 2], |codes| list(codes, 2))
    }
    /// Writes a bucket's list.
    pub(crate) fn write<M: Memory>(&self, memory: &mut M, bucket: u32) {
        let list = self.list(bucket);
        let (table, at) = Self::place(bucket);
        let before = [memory.load(table, at), memory.load(table, at + 1)];
        if before[1] == list[1] {
            memory.change(table, at, list[0]);
            return;
        }
        // Two words change: meanwhile every length is asked.
        memory.change(table, at, ALL);
        memory.change(table, at + 1, list[1]);
        memory.change(table, at, list[0]);
    }
    /// Where a bucket's two words are.
    pub(crate) const fn place(bucket: u32) -> (Table, usize) {
        if bucket == SHORT_BUCKET { (Table::ShortLengths, 0) } else { (Table::Lengths6, bucket as usize * 2) }
    }
    /// The bucket of the short lengths.
    pub(crate) const fn short() -> u32 {
        SHORT_BUCKET
    }
}
