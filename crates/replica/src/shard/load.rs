//! Fills a part of the shards with keys that come one after the other, each once: what a start does with a snapshot. Faster
//! than setting them, since nothing is shared yet and nothing is replaced: keys are put down in the order of their shards
//! first, and each table is made of what belongs to it, while all of that is in the processor's cache.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{SHARDS, Shard, Shards, Slot, shard_of};

/// Room for a shard beyond the average: keys do not fall evenly.
const SPARE_KEYS: u64 = 16;

/// The shards whose number leaves this remainder when divided by the number of parts.
pub(crate) struct ShardLoad {
    part: usize,
    parts: usize,
    /// Of each shard: what came, with its hash.
    heaps: Vec<Vec<(u64, Slot)>>,
    hasher: FixedState,
}

/// A part that is loaded.
pub(crate) struct LoadedPart {
    part: usize,
    parts: usize,
    shards: Vec<Shard>,
    hasher: FixedState,
    keys: u64,
    data_bytes: u64,
    digest: u64,
}

impl ShardLoad {
    /// An empty part. `seed` is the same for all of them.
    pub(crate) fn new(seed: u64, part: usize, parts: usize) -> Self {
        let heaps = (part..SHARDS).step_by(parts).map(|_| Vec::new()).collect();
        Self { part, parts, heaps, hasher: FixedState::with_seed(seed) }
    }

    /// Makes room for this part's share of so many keys.
    pub(crate) fn reserve(&mut self, keys: u64) {
        let average = keys / SHARDS as u64;
        if average == 0 {
            return;
        }
        // An eighth more is three standard deviations from 576 keys on, and what falls beyond it grows its heap.
        let room = usize::try_from(average + average / 8 + SPARE_KEYS).unwrap_or(0);
        self.heaps.iter_mut().for_each(|heap| heap.reserve(room));
    }

    /// Adds a key, if it is of this part.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        let hash = self.hasher.hash_one(key);
        let shard = shard_of(hash);
        if shard % self.parts == self.part {
            self.heaps[shard / self.parts].push((hash, Slot::new(key, value)));
        }
    }

    /// Makes the tables; `None` if a key came twice.
    pub(crate) fn finish(self) -> Option<LoadedPart> {
        let Self { part, parts, heaps, hasher } = self;
        let (mut keys, mut data_bytes, mut digest) = (0, 0, 0_u64);
        let mut shards = Vec::with_capacity(heaps.len());
        for heap in heaps {
            keys += heap.len() as u64;
            let mut shard: Shard = HashTable::with_capacity(heap.len());
            for (hash, slot) in heap {
                if shard.find(hash, |other| other.key() == slot.key()).is_some() {
                    return None;
                }
                data_bytes += (slot.key().len() + slot.value.len()) as u64;
                digest = digest.wrapping_add(slot.digest());
                shard.insert_unique(hash, slot, |slot| hasher.hash_one(slot.key()));
            }
            shards.push(shard);
        }
        Some(LoadedPart { part, parts, shards, hasher, keys, data_bytes, digest })
    }
}

impl LoadedPart {
    /// All parts together.
    ///
    /// # Panics
    /// If they are not all of them, in order.
    pub(crate) fn join(parts: Vec<Self>) -> Shards {
        let count = parts.len();
        let are_all = parts.iter().enumerate().all(|(at, part)| (part.part, part.parts) == (at, count));
        assert!(are_all && count > 0, "all parts of one whole, in order");
        let sum = |of: fn(&Self) -> u64| parts.iter().map(of).fold(0, u64::wrapping_add);
        let (keys, data_bytes, digest) =
            (sum(|part| part.keys), sum(|part| part.data_bytes), sum(|part| part.digest));
        let hasher = parts[0].hasher.clone();
        let mut shards: Vec<_> = parts.into_iter().map(|part| part.shards.into_iter()).collect();
        let shards =
            (0..SHARDS).map(|at| Arc::new(shards[at % count].next().expect("a shard of each number")));
        Shards { shards: shards.collect(), hasher, keys, data_bytes, digest }
    }
}
