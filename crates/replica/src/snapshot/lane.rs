//! Loads the keys of a part of the shards: several of these work side by side, each on all blocks, none on what another
//! has. Knows no thread: whoever has it decides where it works.

use super::cursor::Cursor;
use super::loader::LoadError;
use super::splitter::Keys;
use crate::entry::StateLimits;
use crate::shard::{SHARDS, ShardLoad, Shards};

/// See the module. After an error it is of no use any more.
pub struct Lane {
    load: ShardLoad,
    is_fresh: bool,
}

impl Lane {
    /// Number `place` of so many, from 0.
    pub(super) fn new(seed: u64, place: usize, lanes: usize) -> Self {
        Self { load: ShardLoad::new(seed, place, lanes), is_fresh: true }
    }

    /// So many, which together load all keys. `seed` is of the hash tables.
    pub fn all(seed: u64, lanes: usize) -> Vec<Self> {
        assert!((1..=SHARDS).contains(&lanes), "a lane has shards of its own");
        (0..lanes).map(|place| Self::new(seed, place, lanes)).collect()
    }

    /// Loads this lane's keys of a block. Blocks come in order, each to all lanes.
    ///
    /// # Errors
    /// If a key is there twice.
    pub fn load(&mut self, keys: &Keys, content: &[u8]) -> Result<(), LoadError> {
        if std::mem::take(&mut self.is_fresh) {
            self.load.reserve(keys.expected);
        }
        self.records(&keys.first)
            .and_then(|()| self.records(&content[keys.rest.clone()]))
            .map_err(|what| LoadError::Malformed { block: keys.block, what })
    }

    fn records(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        // The splitter has compared them with the true limits.
        let limits =
            StateLimits { key_bytes_max: u64::MAX, value_bytes_max: u64::MAX, ..StateLimits::default() };
        let mut cursor = Cursor { rest: bytes };
        while !cursor.rest.is_empty() {
            let Ok((key, value)) = cursor.key_and_value(&limits) else {
                unreachable!("the splitter has read these keys");
            };
            if !self.load.add(key, value) {
                return Err("a key is there twice");
            }
        }
        Ok(())
    }
}

/// All that these lanes have loaded.
pub(super) fn join(lanes: Vec<Lane>) -> Shards {
    ShardLoad::join(lanes.into_iter().map(|lane| lane.load).collect())
}
