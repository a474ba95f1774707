//! Makes a state machine of blocks, one after the other. They come from a disk or another server: nothing in them is
//! believed that does not hold, and no byte of memory is taken for what has not come yet.

use quorate_raft::Position;
use quorate_storage::ClusterId;

use super::IMAGE_FORMAT;
use super::lane::{Lane, Share};
use super::splitter::Splitter;
use crate::machine::Machine;

/// Why no state machine can be made of the blocks. A new [`Loader`] and other blocks are what may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The blocks are not what was written.
    #[error("block {block} of the snapshot cannot be read: {what}")]
    Malformed {
        /// Which, from 1.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Start a newer program.
    #[error(
        "the state in the snapshot has format {found}, and this program reads format {IMAGE_FORMAT}: start a newer version"
    )]
    NewerFormat {
        /// The version in it.
        found: u64,
    },
    /// It is not the snapshot that was asked for.
    #[error("the snapshot holds the state of {found}, and was taken for that of {expected}")]
    Other {
        /// Cluster and position in it.
        found: String,
        /// Those that were asked for.
        expected: String,
    },
    /// Everything could be read, and is not the state that was written.
    #[error("the state in the snapshot has the digest {computed:016x}, and should have {recorded:016x}")]
    OtherDigest {
        /// What the snapshot says.
        recorded: u64,
        /// What its content gives.
        computed: u64,
    },
}

/// Takes the blocks of an image in order. After an error it is of no use any more.
pub struct Loader {
    splitter: Splitter,
    lanes: Vec<Lane>,
}

impl Loader {
    /// For the state of this cluster at this position. `seed` protects the hash tables from chosen keys, and is this
    /// server's own.
    pub fn new(cluster: ClusterId, position: Position, seed: u64) -> Self {
        Self { splitter: Splitter::new(cluster, position, 0), lanes: Lane::all(seed, 1) }
    }

    /// Takes the next block.
    ///
    /// # Errors
    /// Where the blocks so far cannot be the beginning of this state.
    pub fn block(&mut self, content: &[u8]) -> Result<(), LoadError> {
        let keys = self.splitter.block(content)?;
        self.lanes.iter_mut().for_each(|lane| lane.load(&keys, content));
        Ok(())
    }

    /// The state machine, after the last block.
    ///
    /// # Errors
    /// Where a block is missing, or the content is not what was written.
    pub fn finish(self) -> Result<Machine, LoadError> {
        let shares = Share::all(self.lanes).into_iter().map(Share::finish).collect::<Result<_, _>>()?;
        self.splitter.finish(shares)
    }

    /// Bytes that are kept of a record whose end has not come yet.
    #[cfg(test)]
    pub(super) fn carried(&self) -> usize {
        self.splitter.carried()
    }
}
