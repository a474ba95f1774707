//! Loads keys: several [`Lane`]s work side by side, each on blocks of its own, and then as many [`Share`]s, each on shards
//! of its own. Knows no thread: whoever has one decides where it works.

use super::cursor::Cursor;
use super::loader::LoadError;
use super::splitter::Keys;
use crate::entry::StateLimits;
use crate::shard::{LoadedPart, SHARDS, ShardHeaps, ShardLoad, Shards};

/// Takes keys out of blocks. See the module.
pub struct Lane {
    heaps: ShardHeaps,
    lanes: u64,
    is_fresh: bool,
    /// The last one.
    block: u64,
}

impl Lane {
    /// So many, which together load all keys. `seed` is of the hash tables.
    pub fn all(seed: u64, lanes: usize) -> Vec<Self> {
        assert!((1..=SHARDS).contains(&lanes), "as many lanes as there is work for");
        let lane = || Self { heaps: ShardHeaps::new(seed), lanes: lanes as u64, is_fresh: true, block: 0 };
        (0..lanes).map(|_| lane()).collect()
    }

    /// Loads the keys of a block. Each block goes to one of the lanes, whichever.
    pub fn load(&mut self, keys: &Keys, content: &[u8]) {
        if std::mem::take(&mut self.is_fresh) {
            self.heaps.reserve(keys.expected / self.lanes);
        }
        self.block = keys.block;
        self.records(&keys.first);
        self.records(&content[keys.rest.clone()]);
    }

    fn records(&mut self, bytes: &[u8]) {
        // The splitter has compared them with the true limits.
        let limits =
            StateLimits { key_bytes_max: u64::MAX, value_bytes_max: u64::MAX, ..StateLimits::default() };
        let mut cursor = Cursor { rest: bytes };
        while !cursor.rest.is_empty() {
            let Ok((key, value)) = cursor.key_and_value(&limits) else {
                unreachable!("the splitter has read these keys");
            };
            self.heaps.add(key, value);
        }
    }
}

/// What is in some of the shards, of the keys of all lanes. See the module.
pub struct Share {
    load: ShardLoad,
    /// The last of all.
    block: u64,
}

impl Share {
    /// As many as there were lanes, after the last block.
    pub fn all(lanes: Vec<Lane>) -> Vec<Self> {
        let block = lanes.iter().map(|lane| lane.block).max().unwrap_or(0);
        let heaps = lanes.into_iter().map(|lane| lane.heaps).collect();
        ShardLoad::deal(heaps).into_iter().map(|load| Self { load, block }).collect()
    }

    /// Makes the hash tables.
    ///
    /// # Errors
    /// If a key was there twice.
    pub fn finish(self) -> Result<LoadedShare, LoadError> {
        let twice = LoadError::Malformed { block: self.block, what: "a key is there twice, in it or before" };
        self.load.finish().map(LoadedShare).ok_or(twice)
    }
}

/// The hash tables of some of the shards.
pub struct LoadedShare(LoadedPart);

/// All that these are the shares of.
pub(super) fn join(shares: Vec<LoadedShare>) -> Shards {
    LoadedPart::join(shares.into_iter().map(|share| share.0).collect())
}
