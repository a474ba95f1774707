//! Fills a part of the shards with keys that come one after the other, each once: what a start does with a snapshot. Faster
//! than setting them, since nothing is shared yet and nothing is replaced.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::hash_table::Entry;

use super::{SHARDS, Shard, Shards, Slot, shard_of};
use crate::value::Value;

/// Room in a table beyond the average: keys do not fall evenly.
const SPARE_KEYS: u64 = 16;

/// The shards whose number leaves this remainder when divided by the number of parts.
pub(crate) struct ShardLoad {
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
        Self {
            part,
            parts,
            shards: (part..SHARDS).step_by(parts).map(|_| Shard::new()).collect(),
            hasher: FixedState::with_seed(seed),
            keys: 0,
            data_bytes: 0,
            digest: 0,
        }
    }

    /// Makes room for this part's share of so many keys.
    pub(crate) fn reserve(&mut self, keys: u64) {
        let average = keys / SHARDS as u64;
        if average == 0 {
            return;
        }
        // An eighth more is three standard deviations from 576 keys on, and what falls beyond it grows its table.
        let room = usize::try_from(average + average / 8 + SPARE_KEYS).unwrap_or(0);
        let hasher = &self.hasher;
        for shard in &mut self.shards {
            shard.reserve(room, |slot| hasher.hash_one(&*slot.key));
        }
    }

    /// Adds a key, if it is of this part; false if it is there already.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let shard = shard_of(hash);
        if shard % self.parts != self.part {
            return true;
        }
        let hasher = &self.hasher;
        let shard = &mut self.shards[shard / self.parts];
        let entry = shard.entry(hash, |slot| *slot.key == *key, |slot| hasher.hash_one(&*slot.key));
        let Entry::Vacant(vacant) = entry else { return false };
        let slot = Slot {
            key: Arc::from(key),
            value: Value::copy_from(value),
            key_checksum: crc32c::crc32c(key),
            value_checksum: crc32c::crc32c(value),
        };
        self.keys += 1;
        self.data_bytes += (key.len() + value.len()) as u64;
        self.digest = self.digest.wrapping_add(slot.digest());
        vacant.insert(slot);
        true
    }

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
