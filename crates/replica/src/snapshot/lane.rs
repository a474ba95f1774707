//! Loads the keys of a part of the shards: several of these work side by side, each on all blocks, none on what another
//! has. Knows no thread: whoever has it decides where it works.

use super::cursor::Cursor;
use super::loader::LoadError;
use super::splitter::Keys;
use crate::entry::StateLimits;
use crate::shard::{LoadedPart, SHARDS, ShardLoad, Shards};

/// See the module.
pub struct Lane {
    load: ShardLoad,
    is_fresh: bool,
    /// The last one.
    block: u64,
}

impl Lane {
    /// Number `place` of so many, from 0.
    pub(super) fn new(seed: u64, place: usize, lanes: usize) -> Self {
        Self { load: ShardLoad::new(seed, place, lanes), is_fresh: true, block: 0 }
    }

    /// So many, which together load all keys. `seed` is of the hash tables.
    pub fn all(seed: u64, lanes: usize) -> Vec<Self> {
        assert!((1..=SHARDS).contains(&lanes), "a lane has shards of its own");
        (0..lanes).map(|place| Self::new(seed, place, lanes)).collect()
    }

    /// Loads this lane's keys of a block. Blocks come in order, each to all lanes.
    pub fn load(&mut self, keys: &Keys, content: &[u8]) {
        if std::mem::take(&mut self.is_fresh) {
            self.load.reserve(keys.expected);
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
            self.load.add(key, value);
        }
    }

    /// Makes the hash tables, after the last block.
    ///
    /// # Errors
    /// If a key was there twice.
    pub fn finish(self) -> Result<LoadedLane, LoadError> {
        let twice = LoadError::Malformed { block: self.block, what: "a key is there twice, in it or before" };
        self.load.finish().map(LoadedLane).ok_or(twice)
    }
}

/// What a lane has loaded.
pub struct LoadedLane(LoadedPart);

/// All that these lanes have loaded.
pub(super) fn join(lanes: Vec<LoadedLane>) -> Shards {
    LoadedPart::join(lanes.into_iter().map(|lane| lane.0).collect())
}
