//! Fills the shards with keys that come one after the other, each once: what a start does with a snapshot. Faster than
//! setting them, since nothing is shared yet and nothing is replaced.
//!
//! In two steps, each of which several can do side by side. First [`ShardHeaps`] put keys down as they come, by groups of
//! shards: few enough groups that all their ends stay within the processor's reach. Then each [`ShardLoad`] makes the tables
//! of its groups, one group after the other, while all of that is in the processor's cache.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{SHARDS, Shard, Shards, Slot, shard_of};

/// Shards whose tables are made together.
const GROUP_SHARDS: usize = 64;
const GROUPS: usize = SHARDS / GROUP_SHARDS;
/// Room for a group beyond the average: keys do not fall evenly.
const SPARE_KEYS: u64 = 16;
/// Bytes by which the heap grows at once, see [`Heap`]; what is larger than 128 KiB glibc would take from somewhere else.
const HEAP_STEP_BYTES: usize = 96 << 10;
/// About what an allocation takes besides what was asked for, with the counters in front of shared bytes.
const ALLOCATION_BYTES: usize = 32;

const _: () = assert!(SHARDS.is_multiple_of(GROUP_SHARDS));

/// Keys that have come, by the groups of their shards.
pub(crate) struct ShardHeaps {
    /// Of each group: what came, with its hash.
    groups: Vec<Vec<(u64, Slot)>>,
    hasher: FixedState,
    heap: Heap,
}

/// The groups whose number leaves this remainder when divided by the number of parts.
pub(crate) struct ShardLoad {
    part: usize,
    parts: usize,
    /// Of each group: what came, with its hash, to each of those who put keys down.
    groups: Vec<Vec<Vec<(u64, Slot)>>>,
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

/// The allocator's heap of this thread. That of glibc grows page after page for small allocations, each time by a system call
/// under the lock of the address space: 20,000 of them for a million keys. So it is made to grow by more.
#[derive(Default)]
struct Heap {
    /// What is left of the last step.
    left: usize,
}

impl Heap {
    /// So many bytes are about to be allocated.
    fn needs(&mut self, bytes: usize) {
        let bytes = bytes + ALLOCATION_BYTES;
        if self.left < bytes {
            // What is given back is where the next allocations come from.
            drop(black_box(Vec::<u8>::with_capacity(HEAP_STEP_BYTES)));
            self.left = HEAP_STEP_BYTES;
        }
        self.left = self.left.saturating_sub(bytes);
    }
}

impl ShardHeaps {
    /// Nothing. `seed` is the same for all that go together.
    pub(crate) fn new(seed: u64) -> Self {
        let groups = (0..GROUPS).map(|_| Vec::new()).collect();
        Self { groups, hasher: FixedState::with_seed(seed), heap: Heap::default() }
    }

    /// Makes room for so many keys.
    pub(crate) fn reserve(&mut self, keys: u64) {
        let average = keys / GROUPS as u64;
        if average == 0 {
            return;
        }
        // An eighth more is three standard deviations from 576 keys on, and what falls beyond it grows its heap.
        let room = usize::try_from(average + average / 8 + SPARE_KEYS).unwrap_or(0);
        self.groups.iter_mut().for_each(|group| group.reserve(room));
    }

    /// Adds a key.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.heap.needs(key.len() + value.len());
        let hash = self.hasher.hash_one(key);
        self.groups[shard_of(hash) / GROUP_SHARDS].push((hash, Slot::new(key, value)));
    }
}

impl ShardLoad {
    /// As many parts as there are heaps, each with its groups of all of them.
    pub(crate) fn deal(all: Vec<ShardHeaps>) -> Vec<Self> {
        let parts = all.len();
        let hasher = all.first().map_or_else(FixedState::default, |heaps| heaps.hasher.clone());
        let mut dealt: Vec<Self> =
            (0..parts).map(|part| Self { part, parts, groups: Vec::new(), hasher: hasher.clone() }).collect();
        let mut all: Vec<_> = all.into_iter().map(|heaps| heaps.groups.into_iter()).collect();
        for group in 0..GROUPS {
            let of_all = all.iter_mut().map(|groups| groups.next().expect("a group of each number"));
            dealt[group % parts].groups.push(of_all.collect());
        }
        dealt
    }

    /// Makes the tables; `None` if a key came twice.
    pub(crate) fn finish(self) -> Option<LoadedPart> {
        let Self { part, parts, groups, hasher } = self;
        let shards = Vec::with_capacity(groups.len() * GROUP_SHARDS);
        let mut loaded = LoadedPart { part, parts, shards, hasher, keys: 0, data_bytes: 0, digest: 0 };
        groups.into_iter().try_for_each(|heaps| loaded.group(heaps)).map(|()| loaded)
    }
}

impl LoadedPart {
    /// Makes the tables of the next group.
    fn group(&mut self, heaps: Vec<Vec<(u64, Slot)>>) -> Option<()> {
        let mut counts = [0; GROUP_SHARDS];
        for (hash, _) in heaps.iter().flatten() {
            counts[shard_of(*hash) % GROUP_SHARDS] += 1;
        }
        let mut heap = Heap::default();
        let begin = self.shards.len();
        self.shards.extend(counts.iter().map(|&count| {
            heap.needs(count * 2 * size_of::<Slot>());
            HashTable::with_capacity(count)
        }));
        let shards = &mut self.shards[begin..];
        for (hash, slot) in heaps.into_iter().flatten() {
            let shard = &mut shards[shard_of(hash) % GROUP_SHARDS];
            if shard.find(hash, |other| other.key() == slot.key()).is_some() {
                return None;
            }
            self.keys += 1;
            self.data_bytes += (slot.key().len() + slot.value.len()) as u64;
            self.digest = self.digest.wrapping_add(slot.digest());
            shard.insert_unique(hash, slot, |slot| self.hasher.hash_one(slot.key()));
        }
        Some(())
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
        let mut parts: Vec<_> = parts.into_iter().map(|part| part.shards.into_iter()).collect();
        let shards = (0..SHARDS)
            .map(|shard| parts[shard / GROUP_SHARDS % count].next().expect("a shard of each number"))
            .map(Arc::new);
        Shards { shards: shards.collect(), hasher, keys, data_bytes, digest }
    }
}
