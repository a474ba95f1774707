//! Reads a snapshot block by block, and believes none that its checksums do not hold. In memory is one block.

use super::format::{PART_HEAD_BYTES, Part, Walk};
use super::{SnapshotError, SnapshotFile};

/// Reads a snapshot from its beginning.
pub struct SnapshotReader<'a> {
    file: &'a SnapshotFile,
    walk: Walk,
    part: Vec<u8>,
}

impl<'a> SnapshotReader<'a> {
    pub(super) fn new(file: &'a SnapshotFile) -> Self {
        Self { file, walk: Walk::new(file.cluster, file.position), part: Vec::new() }
    }

    /// The next block; `None` once the last is behind and the trailer has confirmed all of them. What was built from
    /// the blocks before an error, or before that `None`, is not to be used.
    pub fn block(&mut self) -> Result<Option<&[u8]>, SnapshotError> {
        loop {
            if self.walk.digest().is_some() {
                return Ok(None);
            }
            if !read_part(self.file, &self.walk, &mut self.part)? {
                return Err(self.damaged("it ends in the middle"));
            }
            match self.walk.take(&self.part) {
                // Its content is returned below: a borrow does not leave a loop.
                Ok(Part::Block(_)) => break,
                Ok(Part::Header) => {}
                Ok(Part::Trailer) if self.walk.at() == self.file.bytes => {}
                Ok(Part::Trailer) => return Err(self.damaged("something follows its end")),
                Err(fault) => return Err(SnapshotError::of(fault, &self.file.name, &self.walk)),
            }
        }
        Ok(Some(&self.part[PART_HEAD_BYTES..]))
    }

    /// Bytes of the file that are read and verified.
    pub fn offset(&self) -> u64 {
        self.walk.at()
    }

    /// The digest of the state, once [`SnapshotReader::block`] has returned `None`.
    pub fn digest(&self) -> Option<u64> {
        self.walk.digest()
    }

    fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::of(super::Fault::Damaged(what), &self.file.name, &self.walk)
    }
}

/// Reads the bytes of the next part; `false` if the file ends before it does. A length that cannot be is left for
/// [`Walk::take`] to refuse.
pub(super) fn read_part(file: &SnapshotFile, walk: &Walk, part: &mut Vec<u8>) -> Result<bool, SnapshotError> {
    part.clear();
    loop {
        let needed = walk.part_bytes(part).map_err(|fault| SnapshotError::of(fault, &file.name, walk))?;
        let had = part.len();
        if needed == had {
            return Ok(true);
        }
        if walk.at() + needed as u64 > file.bytes {
            return Ok(false);
        }
        part.resize(needed, 0);
        file.file.read_at(walk.at() + had as u64, &mut part[had..])?;
    }
}
