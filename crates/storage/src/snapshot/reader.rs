//! Reads a snapshot block by block, and believes none that its checksums do not hold. In memory is one block.

use std::ops::Range;

use quorate_raft::Position;

use super::format::{PART_HEAD_BYTES, Part, Walk};
use super::{SnapshotError, SnapshotFile};
use crate::identity::ClusterId;

/// Hears how many bytes of a file are read and verified.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64);

/// Reads a snapshot from its beginning.
pub struct SnapshotReader<'a> {
    file: &'a SnapshotFile,
    walk: Walk,
    part: Vec<u8>,
    progress: Option<Progress<'a>>,
}

impl<'a> SnapshotReader<'a> {
    pub(super) fn new(file: &'a SnapshotFile, progress: Option<Progress<'a>>) -> Self {
        Self { file, walk: Walk::new(file.cluster, file.position), part: Vec::new(), progress }
    }

    /// The next block; `None` once the last is behind and the trailer has confirmed all of them. What was built from
    /// the blocks before an error, or before that `None`, is not to be used.
    pub fn block(&mut self) -> Result<Option<&[u8]>, SnapshotError> {
        let mut part = std::mem::take(&mut self.part);
        let content = self.block_into(&mut part);
        self.part = part;
        Ok(content?.map(|content| &self.part[content]))
    }

    /// The same, into a buffer of the caller's, whose content is replaced; where in it the block stands.
    pub fn block_into(&mut self, part: &mut Vec<u8>) -> Result<Option<Range<usize>>, SnapshotError> {
        let is_there = next_block(self.file, &mut self.walk, part)?;
        if let Some(progress) = &mut self.progress {
            progress(self.walk.at());
        }
        Ok(is_there.then_some(PART_HEAD_BYTES..part.len()))
    }

    /// Whose state it is.
    pub fn cluster(&self) -> ClusterId {
        self.file.cluster
    }

    /// What it is a snapshot of.
    pub fn position(&self) -> Position {
        self.file.position
    }

    /// The file's name in the data folder.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// The file's length.
    pub fn bytes(&self) -> u64 {
        self.file.bytes
    }

    /// Bytes of the file that are read and verified.
    pub fn offset(&self) -> u64 {
        self.walk.at()
    }

    /// The digest of the state, once [`SnapshotReader::block`] has returned `None`.
    pub fn digest(&self) -> Option<u64> {
        self.walk.digest()
    }
}

/// Verifies a whole snapshot a block at a time, for who has other things to do in between.
pub struct SnapshotCheck {
    file: SnapshotFile,
    walk: Walk,
    part: Vec<u8>,
}

impl SnapshotCheck {
    /// Begins with the first block.
    pub fn new(file: SnapshotFile) -> Self {
        let walk = Walk::new(file.cluster, file.position);
        Self { file, walk, part: Vec::new() }
    }

    /// Verifies the next block. Says whether that was not the end.
    pub fn goes_on(&mut self) -> Result<bool, SnapshotError> {
        next_block(&self.file, &mut self.walk, &mut self.part)
    }

    /// What it is a snapshot of.
    pub fn position(&self) -> Position {
        self.file.position
    }

    /// The file.
    pub fn into_file(self) -> SnapshotFile {
        self.file
    }
}

/// Reads and verifies up to the end of the next block; `false` once the trailer has confirmed all of them.
fn next_block(file: &SnapshotFile, walk: &mut Walk, part: &mut Vec<u8>) -> Result<bool, SnapshotError> {
    let damaged = |walk: &Walk, what| SnapshotError::of(super::Fault::Damaged(what), &file.name, walk);
    while walk.digest().is_none() {
        if !read_part(file, walk, part)? {
            return Err(damaged(walk, "it ends in the middle"));
        }
        match walk.take(part) {
            Ok(Part::Block(_)) => return Ok(true),
            Ok(Part::Header) => {}
            Ok(Part::Trailer) if walk.at() == file.bytes => {}
            Ok(Part::Trailer) => return Err(damaged(walk, "something follows its end")),
            Err(fault) => return Err(SnapshotError::of(fault, &file.name, walk)),
        }
    }
    Ok(false)
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
